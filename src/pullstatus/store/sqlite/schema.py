"""The stored format of the embedded engine, and how older formats become this one.

Before changing a table: add a migration at the end of `MIGRATIONS`, never edit one that was
released, and remember that all that are due run as one transaction, which may be cut at any write.

Entries of one mailbox that share a commit are packed into *chunks* (`store.chunk`), so that a page
is one or two reads. Those of format 2 and before are plain, and stay so. The integer
key of a chunk, and of a journal row, is

    mailbox id << 40 | number of the first entry

which keeps a mailbox's rows together in order, and bounds an engine to 2^23 mailboxes of 2^40
entries each.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import apsw

from pullstatus.errors import StoreCorrupt, StoreRefused
from pullstatus.store import fingerprints
from pullstatus.store.acts import chained
from pullstatus.store.sqlite.shape import Shape, difference, shape_of
from pullstatus.store.values import NO_TICKET, Act

T = TypeVar("T")

APPLICATION_ID = 0x70756C6C  # "pull", in the file's header: what `file` and we know it by
# Measured with packed chunks, of 6 kB: 8192 takes a quarter more room, since each of them has a
# page of its own, and writes 70 % more for a record that comes alone. Files of 0.1.0 have 8192.
PAGE_BYTES = 4096
FORMAT_MASK = 0xFF  # of user_version; `pairing` has the rest
SEQ_BITS = 40
SEQ_MASK = (1 << SEQ_BITS) - 1
ACT_ID_MAX = (1 << 63) - 1

_V1 = """
CREATE TABLE mailbox (
    id          INTEGER PRIMARY KEY,
    sdkappid    INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    tail        INTEGER NOT NULL,       -- number of the newest entry, 0 before the first
    cursor      INTEGER NOT NULL,       -- number of the last entry that left
    handed_out  INTEGER NOT NULL,       -- entries that left by a pull
    UNIQUE (sdkappid, kind)
) STRICT;

CREATE TABLE chunk (
    key         INTEGER PRIMARY KEY,    -- mailbox id << 40 | first seq
    count       INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,       -- over key, bounds and body
    bounds      BLOB NOT NULL,          -- count sizes, then count checksums; 4 bytes each
    body        BLOB NOT NULL           -- the entries joined by commas
) STRICT;

CREATE TABLE journal (
    key         INTEGER PRIMARY KEY,    -- mailbox id << 40 | first seq
    count       INTEGER NOT NULL,
    outcome     INTEGER NOT NULL,
    at_ms       INTEGER NOT NULL,
    address     TEXT NOT NULL,
    pull_key    TEXT,
    count_max   INTEGER NOT NULL,
    random      TEXT NOT NULL,
    time_s      INTEGER NOT NULL
) STRICT;
CREATE INDEX journal_by_pull_key ON journal (pull_key) WHERE pull_key IS NOT NULL;

CREATE TABLE repeat_key (
    id          INTEGER PRIMARY KEY,    -- in order of time, so that old ones are at one end
    scope       TEXT NOT NULL,
    key         TEXT NOT NULL,
    digest      BLOB NOT NULL,
    accepted    INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    UNIQUE (scope, key)
) STRICT;

-- The record's own time leads: what comes together lies together, and so do its repeats.
CREATE TABLE fingerprint (
    record_s    INTEGER NOT NULL,
    digest      BLOB NOT NULL,
    scope       TEXT NOT NULL,
    accepted_ms INTEGER NOT NULL,
    PRIMARY KEY (record_s, digest, scope)
) STRICT, WITHOUT ROWID;

CREATE TABLE used_signature (
    time_s      INTEGER NOT NULL,
    sdkappid    INTEGER NOT NULL,
    random      TEXT NOT NULL,
    PRIMARY KEY (time_s, sdkappid, random)
) STRICT, WITHOUT ROWID;

CREATE TABLE setting (
    name        TEXT PRIMARY KEY,
    value       BLOB,                   -- NULL: deleted, kept so that others learn of it
    revision    INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;
"""

# Leaving a mailbox by other ways than a pull, and coming back as copies.
_V2 = """
ALTER TABLE mailbox ADD COLUMN expired     INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN erased      INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN quarantined INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN purged      INTEGER NOT NULL DEFAULT 0;  -- up to here all is removed

-- Ranges that are not there for the first time.
CREATE TABLE again (
    key         INTEGER NOT NULL,       -- mailbox id << 40 | first seq
    count       INTEGER NOT NULL,
    source_seq  INTEGER NOT NULL,       -- number of the first original; its own if restored
    audit_id    INTEGER NOT NULL,       -- the act that did it
    PRIMARY KEY (key, audit_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id          INTEGER PRIMARY KEY,
    at_ms       INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    action      TEXT NOT NULL,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL           -- JSON; no number, no text, no key
) STRICT;

-- Chunks with damaged entries, as they were found: these are kept when the rest is purged.
CREATE TABLE quarantine (
    key         INTEGER PRIMARY KEY,
    count       INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,
    bounds      BLOB NOT NULL,
    body        BLOB NOT NULL
) STRICT;

CREATE TABLE epoch (
    number      INTEGER PRIMARY KEY,    -- 1, and one more with every restore
    began_ms    INTEGER NOT NULL
) STRICT;
INSERT INTO epoch VALUES (1, 0);
"""

_V3 = """
-- What is remembered lies in order of acceptance too, so that forgetting reads what it drops and no
-- more. Batches have an index for it, records rows of their own: see `fingerprints`.
CREATE TABLE fingerprint_secret (
    id          INTEGER PRIMARY KEY,    -- 1
    value       BLOB NOT NULL           -- of this store; without it, no keys
) STRICT;
INSERT INTO fingerprint_secret VALUES (1, randomblob(32));
ALTER TABLE fingerprint RENAME TO fingerprint_v2;
CREATE TABLE fingerprint (
    slot        INTEGER NOT NULL,       -- the record's own time << 16 | 16 bits of its hash
    short       INTEGER NOT NULL,       -- the other 64 bits
    accepted_ms INTEGER NOT NULL,
    PRIMARY KEY (slot, short)
) STRICT, WITHOUT ROWID;
INSERT OR REPLACE INTO fingerprint
    SELECT fingerprint_slot(value, scope, record_s, digest),
        fingerprint_short(value, scope, record_s, digest), accepted_ms
    FROM fingerprint_v2, fingerprint_secret ORDER BY record_s;
DROP TABLE fingerprint_v2;
CREATE TABLE fingerprint_step (
    id          INTEGER PRIMARY KEY,
    accepted_ms INTEGER NOT NULL,
    keys        BLOB NOT NULL           -- slot and short of each, 8 bytes each, big end first
) STRICT;
INSERT INTO fingerprint_step (accepted_ms, keys)
    SELECT accepted_ms, unhex(group_concat(printf('%016x%016x', slot, short), ''))
    FROM (SELECT *, (row_number() OVER (PARTITION BY accepted_ms) - 1) / 250 AS part
        FROM fingerprint)
    GROUP BY accepted_ms, part;
CREATE INDEX fingerprint_step_by_time ON fingerprint_step (accepted_ms);
CREATE TABLE fingerprint_indexed (
    id          INTEGER PRIMARY KEY,    -- 1
    through     INTEGER NOT NULL        -- newest fingerprint_step of which `fingerprint` has all
) STRICT;
INSERT INTO fingerprint_indexed SELECT 1, coalesce(max(id), 0) FROM fingerprint_step;
CREATE INDEX repeat_key_by_time ON repeat_key (accepted_ms);

-- Grows by one with each commit of another process than the server; 0: only the server wrote it.
-- Thus the server finds what others changed without looking at every mailbox, and its own commits,
-- which leave the number alone, do not touch the index.
ALTER TABLE mailbox ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
-- Items that went to the tail once more, so that what was behind them could leave, and items that
-- went to another application.
ALTER TABLE mailbox ADD COLUMN put_back INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN routed   INTEGER NOT NULL DEFAULT 0;
CREATE INDEX mailbox_by_revision ON mailbox (revision) WHERE revision > 0;

-- When named things happened last, and where: a server's notes, which no commit waits for.
CREATE TABLE mark (
    name        TEXT PRIMARY KEY,
    at_ms       INTEGER NOT NULL,
    place       TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The store knows no face: what a pull was proven by is a text, and so is what must not come twice,
-- with the time until when. Until here both were the two values that one face signs. What had been
-- used once was kept for 1,200 seconds.
ALTER TABLE journal RENAME COLUMN random TO proof;
UPDATE journal SET proof = 'random=' || proof || ' time=' || time_s WHERE outcome = 0;
ALTER TABLE journal DROP COLUMN time_s;

CREATE TABLE once (
    sdkappid    INTEGER NOT NULL,
    nonce       TEXT NOT NULL,
    until_ms    INTEGER NOT NULL,
    PRIMARY KEY (sdkappid, nonce)
) STRICT, WITHOUT ROWID;
INSERT INTO once SELECT sdkappid, time_s || ' ' || random, (time_s + 1200) * 1000
    FROM used_signature;
DROP TABLE used_signature;
CREATE INDEX once_by_time ON once (until_ms);

-- The tickets of the operations that wrote it; NULL in what came before there were any.
ALTER TABLE journal ADD COLUMN ticket BLOB;
ALTER TABLE setting ADD COLUMN ticket BLOB;
-- Of a chunk also when its entries came, if that was apart; `accepted_ms` is when the newest did.
ALTER TABLE chunk ADD COLUMN tickets BLOB;      -- a label, see `store.chunk`
ALTER TABLE quarantine ADD COLUMN tickets BLOB;

-- What operators did, each row chained to the one before by its hash.
CREATE TABLE act (
    id          INTEGER PRIMARY KEY,
    ticket      BLOB UNIQUE,            -- by which the operations of one act know it, or NULL
    at_ms       INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    action      TEXT NOT NULL,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL,          -- JSON; no number, no text, no key
    hash        BLOB NOT NULL           -- see `store.acts`
) STRICT;
-- Those from before have no ticket. They are chained as they are found.
WITH RECURSIVE chain AS (
    SELECT audit.*, act_hash(x'', id, at_ms, actor, action, reason, detail) AS hash
        FROM audit WHERE id = (SELECT min(id) FROM audit)
    UNION ALL
    SELECT audit.*, act_hash(chain.hash, audit.id, audit.at_ms, audit.actor, audit.action,
            audit.reason, audit.detail)
        FROM chain JOIN audit ON audit.id = (SELECT min(id) FROM audit WHERE id > chain.id)
)
INSERT INTO act SELECT id, NULL, at_ms, actor, action, reason, detail, hash FROM chain;
DROP TABLE audit;
ALTER TABLE again RENAME COLUMN audit_id TO act_id;
CREATE INDEX again_by_act ON again (act_id, key >> 40, source_seq);

-- Consumers that acknowledge what they were handed. The journal tells of each page who was handed
-- it by what name, how many times, and when it was acknowledged or taken from its hand.
ALTER TABLE journal ADD COLUMN reader      TEXT;
ALTER TABLE journal ADD COLUMN given       INTEGER;
ALTER TABLE journal ADD COLUMN acked_ms    INTEGER;
ALTER TABLE journal ADD COLUMN released_ms INTEGER;
CREATE TABLE reader (
    mailbox     INTEGER NOT NULL,       -- its id
    name        TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,       -- when it was handed something, or acknowledged it, last
    acked_seq   INTEGER NOT NULL,       -- first number of the page acknowledged last; 0: none was
    first_seq   INTEGER NOT NULL,       -- of the page in hand; 0: none is
    count       INTEGER NOT NULL,       -- of that page
    taken_ms    INTEGER NOT NULL,       -- when it was taken
    given       INTEGER NOT NULL,       -- how many times it was handed out
    page        BLOB,                   -- itself, with a checksum, once retention has removed it
    PRIMARY KEY (mailbox, name)
) STRICT, WITHOUT ROWID;

-- How the store takes part in becoming another; see `store.transfer`. No row: in no way.
CREATE TABLE transfer (
    id          INTEGER PRIMARY KEY,    -- 1
    state       BLOB NOT NULL           -- JSON
) STRICT;
"""

# What is derived of entries, behind them: see `store.segments` and `mailbox.following`.
_V4 = """
ALTER TABLE mailbox ADD COLUMN followed INTEGER NOT NULL DEFAULT 0;  -- up to here it is
ALTER TABLE mailbox ADD COLUMN tallied  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN turn     INTEGER NOT NULL DEFAULT 0;

CREATE TABLE segment (
    key         INTEGER PRIMARY KEY,    -- mailbox id << 40 | first seq
    count       INTEGER NOT NULL,
    numbers     INTEGER NOT NULL,       -- bytes of its arrays
    sids        INTEGER NOT NULL
) STRICT;

-- Whoever looks for something reads one part of an array; of one long value all that is before.
CREATE TABLE segment_part (
    key         INTEGER NOT NULL,       -- that of the segment
    part        INTEGER NOT NULL,       -- which array << 8 | which part of it, from 0
    data        BLOB NOT NULL,
    PRIMARY KEY (key, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE tally (
    sdkappid    INTEGER NOT NULL,
    series      INTEGER NOT NULL,
    hour        INTEGER NOT NULL,
    counts      BLOB NOT NULL,          -- see `store.tallies`
    PRIMARY KEY (sdkappid, series, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX tally_by_hour ON tally (hour);
"""

# Names of sends: see `mailbox.names`.
_V5 = """
-- What came together, in blocks, in order of acceptance.
CREATE TABLE naming (
    id          INTEGER PRIMARY KEY,
    sdkappid    INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    slots       BLOB NOT NULL,          -- its hashes, 4 bytes each
    body        BLOB NOT NULL
) STRICT;
CREATE INDEX naming_by_time ON naming (accepted_ms);

-- Which blocks have a hash. An index of the blocks, and nothing else.
CREATE TABLE name (
    slot        INTEGER NOT NULL,
    block       INTEGER NOT NULL,       -- its id
    PRIMARY KEY (slot, block)
) STRICT, WITHOUT ROWID;
"""

# Blocks of segments that are a page each, by ids alone. They lay in fours under a segment's key, in
# a tree with their beginnings in its inner pages: a search read ten pages for each. What is dropped
# here is derived anew; tallies stay.
_V6 = """
DROP TABLE segment_part;
DROP TABLE segment;

CREATE TABLE segment (
    key         INTEGER PRIMARY KEY,    -- mailbox id << 40 | first seq
    count       INTEGER NOT NULL,
    numbers     INTEGER NOT NULL,       -- bytes of its arrays
    sids        INTEGER NOT NULL,
    first_block INTEGER NOT NULL,       -- id of its first one
    fences      BLOB NOT NULL           -- two bytes of each: see `store.segments`
) STRICT;

-- Those of a segment's numbers, and behind them those of its sids, in order.
CREATE TABLE segment_block (
    id          INTEGER PRIMARY KEY,
    data        BLOB NOT NULL
) STRICT;

UPDATE mailbox SET followed = 0, turn = turn + 1 WHERE followed > 0;
"""

MIGRATIONS = (_V1, _V2, _V3, _V4, _V5, _V6)
VERSION = len(MIGRATIONS)


def fingerprint_slot(secret: bytes, scope: str, record_s: int, digest: bytes) -> int:
    """The first half of a fingerprint's key."""
    return _halves(secret, scope, record_s, digest)[0]


def fingerprint_short(secret: bytes, scope: str, record_s: int, digest: bytes) -> int:
    """The second half of a fingerprint's key."""
    return _halves(secret, scope, record_s, digest)[1]


def _halves(secret: bytes, scope: str, record_s: int, digest: bytes) -> tuple[int, int]:
    [key] = fingerprints.keys(fingerprints.factor_of(secret, scope), [(record_s, digest)])
    [halves] = fingerprints.halves_of(key)
    return halves


def act_hash(
    before: bytes, act_id: int, at_ms: int, actor: str, action: str, reason: str, detail: str
) -> bytes:
    """The hash of an act that has no ticket."""
    return chained(before, act_id, Act(actor, action, reason, detail, at_ms, NO_TICKET))


def known(values: Callable[[int], T], number: int) -> T:
    """What a stored number stands for.

    Raises:
        StoreCorrupt: for nothing; it was never stored.
    """
    try:
        return values(number)
    except ValueError as error:
        raise StoreCorrupt(
            f"the file is damaged: it holds a number that stands for nothing ({number});"
            " keep a copy of it, then restore a backup"
        ) from error


def version(connection: apsw.Connection) -> int:
    """The format a file is in; 0 for an empty one. It is made of what that format has, no more.

    Raises:
        StoreRefused: the file belongs to something else, or to a newer pullstatus.
        StoreCorrupt: it is made of something else, which somebody else has put there.
    """
    with _snapshot(connection):
        found: int = connection.pragma("user_version") & FORMAT_MASK
        application: int = connection.pragma("application_id")
        shape = shape_of(connection)
    if application not in (0, APPLICATION_ID) or (application == 0 and shape):
        raise StoreRefused(
            "the file is a database of another program; name another file with --store"
        )
    if found > VERSION:
        raise StoreRefused(
            f"the store has format {found}, this pullstatus knows up to {VERSION}: "
            "install a newer pullstatus, or name another file with --store"
        )
    if different := difference(shape, _expected(MIGRATIONS[:found])):
        raise StoreCorrupt(
            f"the file {different}; keep a copy of it, then restore a backup: another program has"
            " changed it, or made it"
        )
    return found


@contextlib.contextmanager
def _snapshot(connection: apsw.Connection) -> Iterator[None]:
    """Have all that is read be of one moment, since somebody may just be making a store."""
    ours = not connection.in_transaction
    if ours:
        connection.execute("BEGIN")
    try:
        yield
    finally:
        if ours and connection.in_transaction:
            connection.execute("COMMIT")


@functools.cache
def _expected(steps: tuple[str, ...]) -> Shape:
    with empty(steps) as connection:
        return shape_of(connection)


@contextlib.contextmanager
def empty(steps: Sequence[str]) -> Iterator[apsw.Connection]:
    """An empty store that these steps have made, in memory."""
    connection = apsw.Connection(":memory:")
    try:
        _allow_steps(connection)
        for step in steps:
            connection.execute(step)
        yield connection
    finally:
        connection.close()


def _allow_steps(connection: apsw.Connection) -> None:
    """Have a connection know the functions that steps use."""
    for step in (fingerprint_slot, fingerprint_short, act_hash):
        connection.create_scalar_function(
            step.__name__, cast("Any", step), step.__code__.co_argcount
        )


def migrate(connection: apsw.Connection) -> None:
    """Bring a file to `VERSION` in one transaction: a cut leaves it what it was, or brought there.

    What lies between two releases is no release's, so none would go on with it.

    Raises:
        StoreRefused, StoreCorrupt: as of `version`; or a step cannot read what the file holds.
    """
    if version(connection) == VERSION:
        return
    _allow_steps(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it while this one waited for the lock.
        for statements in MIGRATIONS[version(connection) : VERSION]:
            connection.execute(statements)
        connection.pragma("application_id", APPLICATION_ID)
        word = connection.pragma("user_version") & ~FORMAT_MASK
        connection.pragma("user_version", word | VERSION)
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        # What the functions of steps raise over values that are none of theirs.
        if isinstance(error, (ArithmeticError, AttributeError, TypeError, ValueError)):
            raise StoreCorrupt(
                "the file is damaged: it holds a value that nobody has ever stored; keep a copy of"
                " it, then restore a backup"
            ) from error
        raise
