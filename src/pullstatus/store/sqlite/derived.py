"""What is derived of entries, and what it is derived from: questions, each one short read."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import cast

import apsw

from pullstatus import limits
from pullstatus.store import chunk
from pullstatus.store.segments import Index, Segment
from pullstatus.store.sqlite import naming, schema
from pullstatus.store.sqlite.blocks import COLUMNS, Row, search, segment_of
from pullstatus.store.sqlite.reading import base, moment
from pullstatus.store.tallies import readable, unpacked
from pullstatus.store.values import Entry, Mailbox, Named, Run, Span, Tally

SOUGHT_ROWS = 256  # segments that are searched at once: a few ms


def runs(
    connection: apsw.Connection, mailbox: Mailbox, first_seq: int, count_max: int
) -> list[Run]:
    """See `Store.runs`."""
    start = base(connection, mailbox)
    found: list[Run] = []
    if start is None:
        return found
    for key, count, newest_ms, checksum, bounds, body, label in connection.execute(
        f"{_CHUNKS} BETWEEN (SELECT coalesce(max(key), ?2) FROM chunk WHERE key BETWEEN ?1 AND ?2)"  # noqa: S608 - ours
        " AND ?3 ORDER BY key",
        (start, start | first_seq, start | schema.SEQ_MASK),
    ):
        first = key & schema.SEQ_MASK
        if first + count <= first_seq:
            continue
        skip = max(0, first_seq - first)
        found.append(_run((key, count, checksum, bounds, body), label, newest_ms, skip))
        count_max -= count - skip
        if count_max <= 0:
            break
    return found


def _run(
    row: tuple[int, int, int, bytes, bytes], label: bytes | None, newest_ms: int, skip: int
) -> Run:
    """What a chunk holds from its entry `skip` on."""
    key, count, checksum, bounds, body = row
    first = (key & schema.SEQ_MASK) + skip
    times = [origin.at_ms for origin in chunk.origins(label, count, newest_ms)]
    if not skip and (joined := chunk.whole(key, count, checksum, bounds, body)) is not None:
        return Run(first, count, newest_ms, range(first, first + count), times, joined)
    places: list[int] = []
    entries: list[bytes] = []
    for place, entry in chunk.proven(key, count, checksum, bounds, body):
        if place >= skip:
            places.append(place)
            entries.append(entry)
    there = set(places)
    return Run(
        first,
        count - skip,
        newest_ms,
        [first + place - skip for place in places],
        [times[place] for place in places],
        b",".join(entries),
        [times[place] for place in range(skip, count) if place not in there],
    )


def entries_at(connection: apsw.Connection, mailbox: Mailbox, seqs: Sequence[int]) -> list[Entry]:
    """See `Store.entries_at`."""
    start = base(connection, mailbox)
    found: list[Entry] = []
    if start is None:
        return found
    wanted = list(reversed(seqs))
    while wanted:
        row = connection.execute(
            f"{_CHUNKS} BETWEEN ? AND ? ORDER BY key DESC LIMIT 1", (start, start | wanted[-1])
        ).fetchone()
        key, count, newest_ms, checksum, bounds, body, label = row or (
            start,
            0,
            0,
            0,
            b"",
            b"",
            b"",
        )
        first = key & schema.SEQ_MASK
        places = {wanted.pop() - first}
        while wanted and wanted[-1] < first + count:
            places.add(wanted.pop() - first)
        if max(places) >= count:
            places.discard(max(places))  # it is stored no more
        if not places:
            continue
        origins = chunk.origins(label, count, newest_ms)
        found += [
            Entry(first + place, origins[place].at_ms, data, origins[place].ticket)
            for place, data in chunk.proven(key, count, checksum, bounds, body)
            if place in places
        ]
    return found


def spans(connection: apsw.Connection, mailbox: Mailbox, first_seq: int) -> list[Span]:
    """See `Store.spans`."""
    start = base(connection, mailbox)
    if start is None:
        return []
    return [
        Span(key & schema.SEQ_MASK, count)
        for key, count, *_ in connection.execute(
            _REACHING, (start, start | first_seq, start | schema.SEQ_MASK)
        )
    ]


def segment(connection: apsw.Connection, mailbox: Mailbox, first_seq: int) -> Segment | None:
    """See `Store.segment`."""
    with moment(connection):
        start = base(connection, mailbox)
        if start is None:
            return None
        row = connection.execute(
            f"SELECT {COLUMNS} FROM segment WHERE key = ?",  # noqa: S608 - ours
            (start | first_seq,),
        ).fetchone()
        return None if row is None else segment_of(connection, Row(*row))


def sought(
    connection: apsw.Connection, mailbox: Mailbox, index: Index, hashed: int, first_seq: int
) -> tuple[list[int], int | None]:
    """A step of what has this hash, and from which number the next step goes on.

    Of a segment no more is read than the search asks for.
    """
    with moment(connection):
        start = base(connection, mailbox)
        if start is None:
            return [], None
        rows = [
            Row(*row)
            for row in connection.execute(
                f"{_REACHING} LIMIT {SOUGHT_ROWS}",
                (start, start | first_seq, start | schema.SEQ_MASK),
            )
        ]
        found = search(connection, rows, index, hashed)
    if len(rows) < SOUGHT_ROWS:
        return found, None
    return found, rows[-1].first_seq + rows[-1].entry_count


def tallies(
    connection: apsw.Connection, sdkappid: int, first_hour: int, last_hour: int, *, whole: bool
) -> list[Tally]:
    """See `Store.tallies`."""
    read = unpacked if whole else readable
    return [
        Tally(series, hour, read(counts))
        for series, hour, counts in connection.execute(
            "SELECT series, hour, counts FROM tally WHERE sdkappid = ? AND hour BETWEEN ? AND ?"
            " ORDER BY series, hour",
            (sdkappid, first_hour, last_hour),
        )
    ]


def named(connection: apsw.Connection, slots: Sequence[int], sdkappid: int | None) -> list[Named]:
    """See `Store.named`."""
    sought, each_max = array("q", slots), limits.NAMES_FOUND_MAX
    if not slots:
        return []
    with moment(connection):
        most = each_max + len(slots)
        found = connection.execute(_BLOCKS, (apsw.carray(sought), most)).fetchall()
        if sum(count for _, count in cast("list[tuple[int, int]]", found)) == most:
            # One of them is in many blocks, which are not all read.
            whose = () if sdkappid is None else (limits.NAMES_RUN_MAX - 1, sdkappid)
            newest = (apsw.carray(sought), each_max - 1, *whose)
            found = connection.execute(_NEWEST_BLOCKS[bool(whose)], newest).fetchall()
        blocks = array("q", {cast("int", block) for block, *_ in found})
        if not blocks:
            return []
        rows = connection.execute(_NAMED, (apsw.carray(blocks), sdkappid)).fetchall()
    return [
        Named(sdkappid, naming.slots_of(packed), body)
        for sdkappid, packed, body in cast("list[tuple[int, bytes, bytes]]", rows)
    ]


# Those that end at a number or later.
_REACHING = (
    f"SELECT {COLUMNS} FROM segment WHERE key BETWEEN (SELECT coalesce(max(key), ?2)"  # noqa: S608 - ours
    " FROM segment WHERE key BETWEEN ?1 AND ?2) AND ?3 AND key + count > ?2 ORDER BY key"
)
_CHUNKS = "SELECT key, count, accepted_ms, checksum, bounds, body, tickets FROM chunk WHERE key"
# Of what came together many hashes lead to one block, and each row that is told costs.
_BLOCKS = (
    "SELECT block, count(*) FROM"
    " (SELECT block FROM carray(?) JOIN name ON slot = value LIMIT ?) GROUP BY block"
)
# Found from the end of the run that a hash has, however long that is. Of one application they are
# counted without those of others, whose blocks would hide its own, and not beyond where it would
# take long to go through them.
_RUN = (
    "coalesce((SELECT block FROM name WHERE slot = sought.value ORDER BY block DESC"
    " LIMIT 1 OFFSET ?3), 0)"
)
_NEWEST_BLOCKS = [
    f"SELECT block FROM carray(?1) AS sought CROSS JOIN name ON slot = sought.value"  # noqa: S608
    f" AND block >= coalesce((SELECT block FROM name{whose} WHERE slot = sought.value"
    f" AND block >= {least} ORDER BY block DESC LIMIT 1 OFFSET ?2), {least}){whose}"
    for whose, least in (("", "0"), (" CROSS JOIN naming ON id = block AND sdkappid = ?4", _RUN))
]
_NAMED = (
    "SELECT sdkappid, slots, body FROM carray(?1) JOIN naming ON id = value"
    " WHERE ?2 IS NULL OR sdkappid = ?2 ORDER BY id DESC"
)
