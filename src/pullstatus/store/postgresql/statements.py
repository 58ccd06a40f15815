"""The SQL of a group: what is locked, read and written, one statement a table whatever it holds.

Lists go as arrays: of integers and of names as their text, since a driver would otherwise choose a
type by their values, and each type is another statement to prepare; of what is long in binary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final


def ints(values: Iterable[int | None]) -> str:
    """An array of integers, as its text."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def names(values: Iterable[bytes | None]) -> str:
    """An array of short bytes, as its text."""
    return "{" + ",".join(["NULL" if v is None else f'"\\\\x{v.hex()}"' for v in values]) + "}"


# -- the first trip --------------------------------------------------------------------------------

# What a store says of its migration. Tables that a statement names are locked before its snapshot
# is taken, as rows are not: so this shares the turn, and sees what the last one wrote who had it
# alone.
GATE: Final = """
SELECT state, filler FROM pullstatus.transfer
UNION ALL SELECT NULL, NULL FROM (SELECT FROM pullstatus.transfer_turn FOR SHARE) t
"""
OWN_GATE: Final = "LOCK TABLE pullstatus.transfer_turn IN EXCLUSIVE MODE"

# In one statement, and what it locks is read in the next: one that locks and reads sees the other
# tables as they were before it waited for the lock.
LOCK: Final = (
    "SELECT box FROM pullstatus.mailbox WHERE box = ANY(%s::bigint[]) ORDER BY box FOR UPDATE"
)

SHARE_SETTINGS: Final = "LOCK TABLE pullstatus.setting_turn IN ROW SHARE MODE"
OWN_SETTINGS: Final = "LOCK TABLE pullstatus.setting_turn IN EXCLUSIVE MODE"
OWN_ACTS: Final = "LOCK TABLE pullstatus.act_turn IN EXCLUSIVE MODE"

TOTALS: Final = ("handed_out", "expired", "erased", "quarantined", "put_back", "routed")


def _derived(boxes: str) -> str:
    """How mailboxes stand: by their newest rows, or by their base where there are none."""
    totals = ", ".join(f"coalesce(j.{name}, b.{name}, 0) AS {name}" for name in TOTALS)
    return (
        "SELECT m.box, m.number, coalesce(c.last, b.tail, 0) AS tail,"  # noqa: S608 - ours
        f" coalesce(j.last, b.cursor, 0) AS cursor, {totals}, coalesce(b.purged, 0) AS purged"
        f" FROM {boxes}"
        " LEFT JOIN LATERAL (SELECT * FROM pullstatus.base"
        " WHERE box = m.box ORDER BY purged DESC LIMIT 1) b ON true"
        " LEFT JOIN LATERAL (SELECT first_seq + count - 1 AS last FROM pullstatus.chunk"
        " WHERE box = m.box ORDER BY first_seq DESC LIMIT 1) c ON true"
        " LEFT JOIN LATERAL (SELECT first_seq + count - 1 AS last, handed_out, expired, erased,"
        " quarantined, put_back, routed FROM pullstatus.journal"
        " WHERE box = m.box ORDER BY first_seq DESC LIMIT 1) j ON true"
    )


STATE: Final = _derived("unnest(%s::bigint[]) w(box) JOIN pullstatus.mailbox m ON m.box = w.box")
DERIVED: Final = _derived("pullstatus.mailbox m")  # of all; a WHERE can follow

# Of each mailbox the chunks of the next so many entries.
HEADS: Final = """
SELECT w.box, c.first_seq, c.count, c.checksum, c.bounds, c.body
FROM unnest(%s::bigint[], %s::bigint[]) w(box, due)
CROSS JOIN LATERAL (SELECT coalesce((SELECT j.first_seq + j.count FROM pullstatus.journal j
    WHERE j.box = w.box ORDER BY j.first_seq DESC LIMIT 1), (SELECT b.cursor + 1
    FROM pullstatus.base b WHERE b.box = w.box ORDER BY b.purged DESC LIMIT 1), 1) AS next) n
CROSS JOIN LATERAL (SELECT * FROM pullstatus.chunk c WHERE c.box = w.box
    AND c.first_seq >= coalesce((SELECT h.first_seq FROM pullstatus.chunk h WHERE h.box = w.box
        AND h.first_seq <= n.next ORDER BY h.first_seq DESC LIMIT 1), n.next)
    AND c.first_seq < n.next + w.due AND c.first_seq + c.count > n.next ORDER BY c.first_seq) c
"""

# When the oldest entry came that waits in a mailbox: as the newest of its chunk, unless it is of
# those that a file had joined.
OLDEST: Final = """
LEFT JOIN LATERAL (SELECT coalesce(apart_ms[s.cursor + 2 - first_seq], accepted_ms) AS accepted_ms
    FROM pullstatus.chunk WHERE box = s.box AND first_seq <= s.cursor + 1 AND s.tail > s.cursor
    ORDER BY first_seq DESC LIMIT 1) o ON true
"""

# Up to where what is derived of the entries of a mailbox has been.
FOLLOWED: Final = """
LEFT JOIN LATERAL (SELECT turn, through, tallied FROM pullstatus.followed WHERE box = s.box
    ORDER BY turn DESC, through DESC LIMIT 1) f ON true
"""
THROUGH: Final = "greatest(coalesce(f.through, 0), s.purged)"
TALLIED: Final = "greatest(coalesce(f.tallied, 0), s.purged)"

REVISIONS: Final = "SELECT name, revision FROM pullstatus.setting WHERE name = ANY(%s::bytea[])"

KEYED: Final = """
SELECT w.box, w.key, j.first_seq, j.count, j.at_ms, j.count_max
FROM unnest(%s::bytea[], %s::bigint[]) w(key, box)
CROSS JOIN LATERAL (SELECT * FROM pullstatus.journal j WHERE j.pull_key = w.key AND j.box = w.box
    ORDER BY j.first_seq DESC LIMIT 1) j
"""

REPEATS: Final = """
SELECT r.scope, r.key, r.digest, r.accepted, r.accepted_ms
FROM unnest(%s::bytea[], %s::bytea[]) w(scope, key)
JOIN pullstatus.repeat_key r ON r.scope = w.scope AND r.key = w.key
"""

PRINTS: Final = """
SELECT f.slot, f.short, f.accepted_ms FROM unnest(%s::bigint[], %s::bigint[]) w(slot, short)
JOIN pullstatus.fingerprint f ON f.slot = w.slot AND f.short = w.short
"""

ONCE: Final = """
SELECT o.sdkappid, o.nonce, o.until_ms FROM unnest(%s::bigint[], %s::bytea[]) w(sdkappid, nonce)
JOIN pullstatus.once o ON o.sdkappid = w.sdkappid AND o.nonce = w.nonce
"""

READER_COLUMNS: Final = (
    "version, at_ms, acked_seq, first_seq, count, taken_ms, given, page IS NOT NULL"
)
READERS: Final = f"""
SELECT w.box, w.name, {READER_COLUMNS.replace("page", "r.page")}
FROM unnest(%s::bigint[], %s::bytea[]) w(box, name)
CROSS JOIN LATERAL (SELECT * FROM pullstatus.reader r WHERE r.box = w.box AND r.name = w.name
    ORDER BY r.version DESC LIMIT 1) r
"""  # noqa: S608 - ours

# -- the second trip -------------------------------------------------------------------------------

MARK: Final = (
    "INSERT INTO pullstatus.mark (lane, number, fence, boxes) VALUES (%s, %s, %s, %s::bigint[])"
)

ADD_CHUNKS: Final = """
INSERT INTO pullstatus.chunk SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::int[],
    %s::bigint[], %s::bigint[], %b::bytea[], %b::bytea[], %b::bytea[])
"""

ADD_JOURNAL: Final = """
INSERT INTO pullstatus.journal
SELECT a, b, c, d, e, f, g, h, i, j, k, l, NULL, NULL, m, n, o, p, q, r
FROM unnest(%s::bigint[], %s::bigint[], %s::int[], %s::smallint[], %s::bigint[], %s::bytea[],
    %s::bytea[], %s::int[], %s::bytea[], %s::bytea[], %s::bytea[], %s::int[], %s::bigint[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
    w(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r)
"""

# Each of these was seen to be new, or too old. If somebody else was faster, a key is there already,
# or a row no longer as it was seen; then the group is done again.
ADD_REPEATS: Final = """
INSERT INTO pullstatus.repeat_key SELECT * FROM unnest(%s::bytea[], %s::bytea[], %s::bytea[],
    %s::int[], %s::bigint[])
"""
RENEW_REPEATS: Final = """
UPDATE pullstatus.repeat_key r SET digest = w.digest, accepted = w.accepted,
    accepted_ms = w.accepted_ms
FROM unnest(%s::bytea[], %s::bytea[], %s::bytea[], %s::int[], %s::bigint[], %s::bigint[])
    w(scope, key, digest, accepted, accepted_ms, seen)
WHERE r.scope = w.scope AND r.key = w.key AND r.accepted_ms = w.seen
"""

ADD_PRINTS: Final = (
    "INSERT INTO pullstatus.fingerprint"
    " SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])"
)
RENEW_PRINTS: Final = """
UPDATE pullstatus.fingerprint f SET accepted_ms = w.accepted_ms
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
    w(slot, short, accepted_ms, seen)
WHERE f.slot = w.slot AND f.short = w.short AND f.accepted_ms = w.seen
"""
ADD_STEPS: Final = (
    "INSERT INTO pullstatus.fingerprint_step (accepted_ms, keys)"
    " SELECT %s::bigint, keys FROM unnest(%b::bytea[]) w(keys)"
)

ADD_ONCE: Final = (
    "INSERT INTO pullstatus.once SELECT * FROM unnest(%s::bigint[], %s::bytea[], %s::bigint[])"
)
RENEW_ONCE: Final = """
UPDATE pullstatus.once o SET until_ms = w.until_ms
FROM unnest(%s::bigint[], %s::bytea[], %s::bigint[], %s::bigint[])
    w(sdkappid, nonce, until_ms, seen)
WHERE o.sdkappid = w.sdkappid AND o.nonce = w.nonce AND o.until_ms = w.seen
"""

NOTE_ACKED: Final = "UPDATE pullstatus.journal SET acked_ms = %s WHERE box = %s AND first_seq = %s"
NOTE_RELEASED: Final = (
    "UPDATE pullstatus.journal SET released_ms = %s WHERE box = %s AND first_seq = %s"
)
COUNT_GIVEN: Final = (
    "UPDATE pullstatus.journal SET given = given + 1 WHERE box = %s AND first_seq = %s"
)

PUT_READER: Final = """
INSERT INTO pullstatus.reader (box, name, version, at_ms, acked_seq, first_seq, count, taken_ms,
    given, page)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, (SELECT page FROM pullstatus.reader
    WHERE box = %s AND name = %s AND version = %s AND %s))
"""
DROP_READER: Final = "DELETE FROM pullstatus.reader WHERE box = %s AND name = %s AND version = %s"

ADD_TALLY: Final = """
INSERT INTO pullstatus.tally AS t VALUES (%s, %s, %s, %s::bigint[])
ON CONFLICT (sdkappid, series, hour) DO UPDATE SET counts = coalesce((
    SELECT array_agg(coalesce(one, 0) + coalesce(other, 0) ORDER BY place)
    FROM unnest(t.counts, excluded.counts) WITH ORDINALITY w(one, other, place)), '{}')
"""
BEGIN_TALLY: Final = (
    "INSERT INTO pullstatus.tally VALUES (%s, %s, %s, %s::bigint[]) ON CONFLICT DO NOTHING"
)

ADD_BASE: Final = "INSERT INTO pullstatus.base VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
DROP_BASE: Final = "DELETE FROM pullstatus.base WHERE box = %s AND purged = %s"

MAKE_MAILBOXES: Final = (
    "INSERT INTO pullstatus.mailbox (box) SELECT unnest(%s::bigint[]) ORDER BY 1"
    " ON CONFLICT DO NOTHING"
)

# -- how the store takes part in a migration -------------------------------------------------------

SAY: Final = """
INSERT INTO pullstatus.transfer VALUES (1, %s, %s)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, filler = excluded.filler
"""
SAY_NOTHING: Final = "DELETE FROM pullstatus.transfer"
TAKE: Final = "UPDATE pullstatus.transfer SET state = %s"  # nobody says else: the turn is shared

# -- marks -----------------------------------------------------------------------------------------

FENCE: Final = f"{MARK} ON CONFLICT (lane, number) DO NOTHING"
IS_FENCE: Final = "SELECT fence FROM pullstatus.mark WHERE lane = %s AND number = %s"
