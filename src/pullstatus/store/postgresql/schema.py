"""The stored format in PostgreSQL, and how older formats become this one.

Everything lies in a schema of its own, `pullstatus`; texts are `bytea`, in UTF-8, since `text`
takes no NUL. A mailbox is known by one number, its *box*: sdkappid * 4 + kind. It is the key of
everything else.

Nothing is updated that each group of operations touches, or an old snapshot, such as a dump's,
would slow it down more and more. So how a mailbox stands is told by its newest chunk and its newest
journal row, which has the totals so far; where there is none any more, by its newest *base*. What
does change often is a row that takes the place of another, with a higher number in its key: the
newest is found from the end, however many former ones a snapshot keeps.

Formats: a *step* leads from one to the next, each in a transaction of its own. One that only adds
is *pre*: processes that know the format before go on working. One that takes away is *post*, for
when none of them is left. `meta` names the format, and the oldest that can still be worked with.

    version    knows    works with a store of format
    0.2        1        1, 2
    0.3        3           2, 3            2 is pre, 3 is post: until 3, both serve side by side

So a version needs the last of its pre steps, and can do without the post steps behind it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import psycopg
from psycopg.rows import TupleRow

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store.fingerprints import SECRET_BYTES
from pullstatus.store.gate import decoded
from pullstatus.store.postgresql.session import Session, translated
from pullstatus.store.postgresql.stranded import end_stranded
from pullstatus.store.transfer import Migration
from pullstatus.version import VERSION

Connection = psycopg.Connection[TupleRow]

# Bodies are packed already, or do not pay: the server packs nothing, and keeps what fits inline.
# What is only ever added to is frozen early: each group takes a transaction's number, of which a
# thousand a second reach the age at which all must be looked through within three days.
_ADDED: Final = (
    "autovacuum_freeze_min_age = 0, autovacuum_vacuum_insert_scale_factor = 0.05,"
    " autovacuum_vacuum_insert_threshold = 50000"
)
_CHANGED: Final = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000"

_V1: Final = f"""
CREATE SCHEMA pullstatus;

CREATE TABLE pullstatus.meta (
    id          int PRIMARY KEY CHECK (id = 1),
    format      int NOT NULL,
    works_with  int NOT NULL,           -- the oldest format whose processes may still work
    system      bigint NOT NULL,        -- the identifier of the cluster that it was made in
    secret      bytea NOT NULL          -- what fingerprints are keyed with
);

-- The row is the lock of its mailbox, and is never changed.
CREATE TABLE pullstatus.mailbox (
    box         bigint PRIMARY KEY,
    number      bigint NOT NULL GENERATED ALWAYS AS IDENTITY   -- neighbours are summed together
) WITH ({_CHANGED});
CREATE INDEX mailbox_by_block ON pullstatus.mailbox ((number >> 6));

-- How a mailbox stood when retention was last at work: true where newer rows are missing, which it
-- has removed. A new row takes the place of the one before; none: nothing was removed so far.
CREATE TABLE pullstatus.base (
    box         bigint NOT NULL,
    purged      bigint NOT NULL,        -- up to here all is removed
    tail        bigint NOT NULL,
    cursor      bigint NOT NULL,
    handed_out  bigint NOT NULL,
    expired     bigint NOT NULL,
    erased      bigint NOT NULL,
    quarantined bigint NOT NULL,
    put_back    bigint NOT NULL,
    routed      bigint NOT NULL,
    PRIMARY KEY (box, purged)
) WITH ({_CHANGED});

CREATE TABLE pullstatus.chunk (
    box         bigint NOT NULL,
    first_seq   bigint NOT NULL,
    count       int NOT NULL,
    accepted_ms bigint NOT NULL,
    checksum    bigint NOT NULL,        -- over place, bounds and body: see store/chunk.py
    bounds      bytea NOT NULL,
    body        bytea NOT NULL,
    tickets     bytea,                  -- by what its entries came; NULL: before there were any
    apart_ms    bigint[],               -- when each was accepted that a file has joined
    PRIMARY KEY (box, first_seq)
) WITH (toast_tuple_target = 8160, {_ADDED});
ALTER TABLE pullstatus.chunk ALTER bounds SET STORAGE EXTERNAL, ALTER body SET STORAGE EXTERNAL,
    ALTER tickets SET STORAGE EXTERNAL;

-- Chunks with damaged entries, as they were found: these are kept when the rest is purged.
CREATE TABLE pullstatus.quarantine (LIKE pullstatus.chunk INCLUDING STORAGE,
    PRIMARY KEY (box, first_seq));

CREATE TABLE pullstatus.journal (
    box         bigint NOT NULL,
    first_seq   bigint NOT NULL,
    count       int NOT NULL,
    outcome     smallint NOT NULL,
    at_ms       bigint NOT NULL,
    address     bytea NOT NULL,
    pull_key    bytea,
    count_max   int NOT NULL,
    proof       bytea NOT NULL,
    ticket      bytea NOT NULL,
    reader      bytea,
    given       int NOT NULL,
    acked_ms    bigint,
    released_ms bigint,
    handed_out  bigint NOT NULL,        -- these six: all that left so far, this row included
    expired     bigint NOT NULL,
    erased      bigint NOT NULL,
    quarantined bigint NOT NULL,
    put_back    bigint NOT NULL,
    routed      bigint NOT NULL,
    PRIMARY KEY (box, first_seq)
) WITH (fillfactor = 90, {_ADDED});
CREATE INDEX journal_by_pull_key ON pullstatus.journal (pull_key, box, first_seq)
    WHERE pull_key IS NOT NULL;

CREATE TABLE pullstatus.repeat_key (
    scope       bytea NOT NULL,
    key         bytea NOT NULL,
    digest      bytea NOT NULL,
    accepted    int NOT NULL,
    accepted_ms bigint NOT NULL,
    PRIMARY KEY (scope, key)
) WITH ({_CHANGED});
CREATE INDEX repeat_key_by_time ON pullstatus.repeat_key (accepted_ms);

CREATE TABLE pullstatus.fingerprint (
    slot        bigint NOT NULL,        -- the record's own time << 16 | 16 bits of its hash
    short       bigint NOT NULL,        -- the other 64 bits
    accepted_ms bigint NOT NULL,
    PRIMARY KEY (slot, short)
) WITH ({_CHANGED});
CREATE TABLE pullstatus.fingerprint_step (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    accepted_ms bigint NOT NULL,        -- of the newest of them
    keys        bytea NOT NULL          -- slot and short of each, 8 bytes each, big end first
) WITH ({_CHANGED});
ALTER TABLE pullstatus.fingerprint_step ALTER keys SET STORAGE EXTERNAL;
CREATE INDEX fingerprint_step_by_time ON pullstatus.fingerprint_step (accepted_ms, id);

CREATE TABLE pullstatus.once (
    sdkappid    bigint NOT NULL,
    nonce       bytea NOT NULL,
    until_ms    bigint NOT NULL,
    PRIMARY KEY (sdkappid, nonce)
) WITH ({_CHANGED});
CREATE INDEX once_by_time ON pullstatus.once (until_ms);

CREATE TABLE pullstatus.setting (
    name        bytea PRIMARY KEY,
    value       bytea,                  -- NULL: deleted, kept so that others learn of it
    revision    bigint NOT NULL UNIQUE,
    ticket      bytea NOT NULL
) WITH (fillfactor = 70, {_CHANGED});
-- Two tables that stay empty, to be locked: whoever rests on settings shares the first, whoever
-- writes one has it alone, so that revisions are seen in their order; and likewise for acts.
CREATE TABLE pullstatus.setting_turn ();
CREATE TABLE pullstatus.act_turn ();

CREATE TABLE pullstatus.act (
    id          bigint PRIMARY KEY,
    ticket      bytea UNIQUE,           -- NULL: of an act from before there were any
    at_ms       bigint NOT NULL,
    actor       bytea NOT NULL,
    action      bytea NOT NULL,
    reason      bytea NOT NULL,
    detail      bytea NOT NULL,         -- JSON; no number, no text, no key
    hash        bytea NOT NULL          -- see store/acts.py
);

-- How the store takes part in becoming another; see store/transfer.py. No row: in no way. Each
-- transaction that commits records, or takes some, shares the other table, which stays empty, and
-- reads the row; whoever changes the row has that table alone.
CREATE TABLE pullstatus.transfer (
    id          int PRIMARY KEY CHECK (id = 1),
    state       bytea NOT NULL,
    filler      bigint NOT NULL         -- of a target: who may fill it
);
CREATE TABLE pullstatus.transfer_turn ();

-- Ranges that are not there for the first time.
CREATE TABLE pullstatus.again (
    box         bigint NOT NULL,
    first_seq   bigint NOT NULL,
    count       bigint NOT NULL,
    source_seq  bigint NOT NULL,        -- number of the first original; its own if restored
    act_id      bigint NOT NULL,
    PRIMARY KEY (box, first_seq, act_id)
) WITH ({_CHANGED});
CREATE INDEX again_by_act ON pullstatus.again (act_id, box, source_seq);

-- When named things happened last, and where: a server's notes, which no commit waits for.
CREATE TABLE pullstatus.note (
    name        bytea PRIMARY KEY,
    at_ms       bigint NOT NULL,
    place       bytea NOT NULL
) WITH (fillfactor = 50, {_CHANGED});

-- A reader stands as its one row says. A new one takes its place, with a number one higher.
CREATE TABLE pullstatus.reader (
    box         bigint NOT NULL,
    name        bytea NOT NULL,
    version     bigint NOT NULL,
    at_ms       bigint NOT NULL,        -- when it was handed something, or acknowledged it, last
    acked_seq   bigint NOT NULL,        -- first number of the page acknowledged last; 0: none was
    first_seq   bigint NOT NULL,        -- of the page in hand; 0: none is
    count       int NOT NULL,           -- of that page
    taken_ms    bigint NOT NULL,        -- when it was taken
    given       int NOT NULL,           -- how many times it was handed out
    page        bytea,                  -- itself, with a checksum, once retention has removed it
    PRIMARY KEY (box, name, version)
) WITH ({_CHANGED});
ALTER TABLE pullstatus.reader ALTER page SET STORAGE EXTERNAL;
CREATE INDEX reader_in_hand ON pullstatus.reader (taken_ms) WHERE first_seq > 0;

-- One row a group: the proof that it was committed; or a fence, that it never will be.
CREATE TABLE pullstatus.mark (
    lane        bigint NOT NULL,
    number      bigint NOT NULL,
    fence       boolean NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    boxes       bigint[] NOT NULL,      -- the mailboxes that it changed
    PRIMARY KEY (lane, number)
) WITH ({_CHANGED});

-- Who commits: a lane is one connection at a time of one process.
CREATE TABLE pullstatus.lane (
    lane        bigint PRIMARY KEY,
    version     text NOT NULL,
    format      int NOT NULL,
    server      boolean NOT NULL,
    began       timestamptz NOT NULL DEFAULT now(),
    seen        timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE pullstatus.epoch (
    number      int PRIMARY KEY,        -- 1, and one more with every restore
    began       timestamptz NOT NULL DEFAULT now(),
    system      bigint NOT NULL,
    timeline    bigint NOT NULL
);
INSERT INTO pullstatus.epoch (number, system, timeline)
    SELECT 1, system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint();
"""  # noqa: S608 - ours


# What is derived of entries, behind them: see `store.segments` and `verbs.following`.
_V2: Final = f"""
-- Up to where it is. A new mark takes the place of the one before: turns go up, and so does what is
-- followed within one.
CREATE TABLE pullstatus.followed (
    box         bigint NOT NULL,
    turn        bigint NOT NULL,
    through     bigint NOT NULL,
    tallied     bigint NOT NULL,
    PRIMARY KEY (box, turn, through)
) WITH ({_CHANGED});

CREATE TABLE pullstatus.segment (
    box         bigint NOT NULL,
    first_seq   bigint NOT NULL,
    count       int NOT NULL,
    numbers     bytea NOT NULL,         -- arrays, of which parts are read
    sids        bytea NOT NULL,
    PRIMARY KEY (box, first_seq)
) WITH ({_CHANGED});
ALTER TABLE pullstatus.segment ALTER numbers SET STORAGE EXTERNAL,
    ALTER sids SET STORAGE EXTERNAL;

CREATE TABLE pullstatus.tally (
    sdkappid    bigint NOT NULL,
    series      int NOT NULL,
    hour        bigint NOT NULL,
    counts      bigint[] NOT NULL,
    PRIMARY KEY (sdkappid, series, hour)
) WITH (fillfactor = 50, {_CHANGED});
CREATE INDEX tally_by_hour ON pullstatus.tally (hour);
"""


# Names of sends: see `mailbox.names`. What came together, in blocks; a row and an entry of an index
# for each name would take twice as much.
_V3: Final = f"""
CREATE TABLE pullstatus.naming (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    sdkappid    bigint NOT NULL,
    accepted_ms bigint NOT NULL,
    slots       int[] NOT NULL,         -- its hashes
    body        bytea NOT NULL
) WITH (toast_tuple_target = 8160, {_ADDED}, {_CHANGED});
ALTER TABLE pullstatus.naming ALTER slots SET STORAGE EXTERNAL, ALTER body SET STORAGE EXTERNAL;
CREATE INDEX naming_by_time ON pullstatus.naming (accepted_ms, id);
-- What is added waits for nothing: whoever looks would have to read all that waits.
CREATE INDEX naming_by_slot ON pullstatus.naming USING gin (slots) WITH (fastupdate = off);
"""


# An entry of that index takes 28 bytes for one place, and 3 or 4 for each further one. So a name is
# found by two keys, each a part of its slot that others have, too: places that are under both have
# it, but for one in thousands. Parts of 16 bits would do, and take less; more places are then read
# of each entry.
_KEY_BITS: Final = 18
_UPPER: Final = f"slot >> {32 - _KEY_BITS}"
_LOWER: Final = f"(slot & {(1 << _KEY_BITS) - 1}) + {1 << _KEY_BITS}"  # beyond all upper ones
KEYS: Final = f"ARRAY[{_UPPER}, {_LOWER}]"
"""What a name is found by, in SQL of its `slot`, as `pullstatus.name_keys` has it of a block's."""

# A function, as statements have to say what the index has, to the letter. Its cost, set high, keeps
# a plan from calling it for all rows instead.
_V4: Final = f"""
CREATE FUNCTION pullstatus.name_keys(slots int[]) RETURNS int[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 1000
    AS 'SELECT array_agg({_UPPER}) || array_agg({_LOWER}) FROM unnest(slots) s(slot)';
-- Whoever adds a row runs it, a server of the format before included; an owner may have said that
-- nobody runs what he makes.
GRANT EXECUTE ON FUNCTION pullstatus.name_keys(int[]) TO PUBLIC;
CREATE INDEX naming_by_key ON pullstatus.naming USING gin (pullstatus.name_keys(slots))
    WITH (fastupdate = off);
"""  # noqa: S608 - ours
_V5: Final = "DROP INDEX pullstatus.naming_by_slot"


class Step(NamedTuple):
    """From one format to the next.

    Attributes:
        removes: it is a post step: processes of the format before can't work behind it.
    """

    statements: str
    removes: bool = False


STEPS: Final[Sequence[Step]] = (Step(_V1), Step(_V2), Step(_V3), Step(_V4), Step(_V5, removes=True))
FORMAT: Final = len(STEPS)

_LOCK: Final = 0x70756C6C  # "pull": of whoever changes the format
_LOCK_S: Final = 60.0
_LOCK_PAUSE_S: Final = 0.1
_STEP_LOCK_TIMEOUT: Final = "2s"  # of a table: who waits for one holds up everybody behind it
_STEP_PAUSE_S: Final = 1.0  # for everybody behind it
_IN_THE_WAY: Final = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
ALIVE_S: Final = 120  # a process that was not seen for so long is gone


class Meta(msgspec.Struct, frozen=True):
    """What a store says of itself, in one moment; see the table.

    Attributes:
        moving: how it takes part in becoming another.
    """

    format: int
    works_with: int
    system: int
    secret: bytes
    moving: Migration | None


def meta(connection: Connection) -> Meta | None:
    """What the store in a database says of itself; None: there is none."""
    with translated():
        there = connection.execute("SELECT to_regclass('pullstatus.meta') IS NOT NULL").fetchone()
        if there != (True,):
            return None
        try:
            row = connection.execute(
                "SELECT format, works_with, system, secret, (SELECT state FROM pullstatus.transfer)"
                " FROM pullstatus.meta"
            ).fetchone()
        except psycopg.errors.UndefinedColumn:
            row = None
    if row is None:
        raise StoreRefused("the database has a schema `pullstatus` that is none of ours")
    number, works_with, system, secret, state = row
    return Meta(number, works_with, system, secret, decoded(state))


# Tables that a statement names are locked before it sees any rows, until its transaction ends. So
# who has read this holds up a step that removes something, and who comes behind the step sees it.
FORMATS: Final = "SELECT format, works_with FROM pullstatus.meta"
_REMOVING: Final = "LOCK TABLE pullstatus.meta IN ACCESS EXCLUSIVE MODE"


def needed(connection: Connection, shown: str) -> Meta:
    """As `meta`.

    Raises:
        StoreRefused: there is no store.
    """
    found = meta(connection)
    if found is None:
        raise StoreRefused(f"there is no store in {shown}; make one with `pullstatus store init`")
    return found


def check_format(format_: int, works_with: int) -> None:
    """Refuse a format that this version cannot work with, as `meta` tells it.

    Raises:
        StoreRefused: it is too new, or too old; the text says what to do.
    """
    if works_with > FORMAT:
        raise StoreRefused(
            f"the store has format {format_}, this pullstatus knows up to {FORMAT}: install a"
            " newer one"
        )
    if format_ < needed_format():
        raise StoreRefused(
            f"the store has format {format_}, this pullstatus needs {needed_format()}: run"
            " `pullstatus store upgrade`, while the servers go on"
        )


def needed_format() -> int:
    """The oldest format that this version can work with: that of its last step that adds."""
    return max(number for number, step in enumerate(STEPS, 1) if not step.removes)


def least_format() -> int:
    """The oldest format whose processes can work with a store of `FORMAT`."""
    return max((number for number, step in enumerate(STEPS, 1) if step.removes), default=1)


def create(session: Session) -> bool:
    """Make a store where there is none, as one transaction; whether this did it.

    Raises:
        StoreRefused: the role may not.
    """
    connection = session.connection
    if meta(connection) is not None:
        return False
    try:
        with translated(), _alone(connection):
            if meta(connection) is not None:
                return False
            for step in STEPS:
                connection.execute(step.statements, prepare=False)
            connection.execute(
                "INSERT INTO pullstatus.meta VALUES (1, %s, %s, %s, %s)",
                (FORMAT, least_format(), session.found.system, os.urandom(SECRET_BYTES)),
            )
    except StoreUnavailable as error:
        if isinstance(error.__cause__, psycopg.errors.DuplicateSchema):
            raise StoreRefused(
                "the database has a schema `pullstatus`, and no store in it: drop that, since the"
                " store makes it itself"
            ) from error
        raise StoreRefused(
            f"the store cannot be made: {error}; the role must own the database, or have the right"
            " to CREATE in it"
        ) from error
    return True


def upgrade(session: Session, *, post: bool = False) -> list[int]:
    """Bring a store to a format of this version; returns the formats that were reached.

    Args:
        post: also take the steps that remove something; else those are left that it can do without.

    Raises:
        StoreRefused: a step is due that removes something, and that was not asked for, or processes
            that know only the format before are still alive.
        StoreUnavailable: somebody has held a table all the while, or the connection is lost. The
            steps are taken so far that were, each whole; it can be done again.
    """
    reached: list[int] = []
    due_s = time.monotonic() + _LOCK_S
    while True:
        try:
            with translated():
                taken = _take_step(session.connection, post=post)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, _IN_THE_WAY):
                raise
            if time.monotonic() > due_s:
                raise StoreUnavailable(
                    "somebody holds a table of the store all the while, as a dump does; run it"
                    " again when that has ended"
                ) from error
            with translated():
                end_stranded(session)
            time.sleep(_STEP_PAUSE_S)
            continue
        if taken is None:
            return reached
        reached.append(taken)


def _take_step(connection: Connection, *, post: bool) -> int | None:
    """The format that the next step has led to; None if none is due."""
    with _alone(connection):
        connection.execute(f"SET LOCAL lock_timeout = '{_STEP_LOCK_TIMEOUT}'")
        found = meta(connection)
        if found is None:
            raise StoreRefused("the database has no store; run `pullstatus store init`")
        if found.format >= (FORMAT if post else needed_format()):
            return None
        step = STEPS[found.format]
        if step.removes:
            _check_nobody_older(connection, found.format + 1, post=post)
            connection.execute(_REMOVING)
        connection.execute(step.statements, prepare=False)
        connection.execute(
            "UPDATE pullstatus.meta SET format = format + 1,"
            " works_with = CASE WHEN %s THEN format + 1 ELSE works_with END",
            (step.removes,),
        )
    return found.format + 1


def _check_nobody_older(connection: Connection, number: int, *, post: bool) -> None:
    if not post:
        raise StoreRefused(
            f"the step to format {number} removes what older processes use: end them all, then run"
            " `pullstatus store upgrade --post`"
        )
    old = connection.execute(
        "SELECT count(*), min(version) FROM pullstatus.lane"
        " WHERE format < %s AND seen > now() - make_interval(secs => %s)",
        (number, ALIVE_S),
    ).fetchone()
    if old is not None and old[0]:
        raise StoreRefused(
            f"{old[0]} processes of version {old[1]} or newer still work with the format before:"
            f" end them; each counts as gone {ALIVE_S} seconds after it was seen last"
        )


def servers(connection: Connection) -> int:
    """How many servers are alive, and on record."""
    row = connection.execute(
        "SELECT count(*) FROM pullstatus.lane"
        " WHERE server AND seen > now() - make_interval(secs => %s)",
        (ALIVE_S,),
    ).fetchone()
    assert row is not None
    return int(row[0])


@contextlib.contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """A transaction as the only one who changes the format.

    By trying again: who waits for such a lock holds a snapshot, for which others may have to wait.
    Each try is a transaction of its own. Which tables there are is remembered, and learned anew as
    one begins or locks a table: so, since this lock is none, also when it is held.
    """
    due_s = time.monotonic() + _LOCK_S
    while True:
        with connection.transaction():
            if connection.execute(_TRY_LOCK, (_LOCK,)).fetchone() == (True,):
                connection.execute(_LEARN)
                yield
                return
        if time.monotonic() > due_s:
            raise StoreUnavailable("another process is changing the format of the store; try again")
        time.sleep(_LOCK_PAUSE_S)


_TRY_LOCK: Final = "SELECT pg_try_advisory_xact_lock(%s)"
_LEARN: Final = "LOCK TABLE pg_catalog.pg_namespace IN ACCESS SHARE MODE"


def register(connection: Connection, lane: int, *, server: bool) -> None:
    """Put a lane on record, or note that it is alive."""
    connection.execute(
        "INSERT INTO pullstatus.lane (lane, version, format, server) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (lane) DO UPDATE SET seen = now()",
        (lane, VERSION, FORMAT, server),
    )


def register_first(connection: Connection, lane: int, *, server: bool) -> None:
    """Put a new lane on record, one after the other.

    While no standby answers, the one that waits for it holds the lock: who is started again and
    again leaves no more than that one waiting there.
    """
    connection.execute(
        "INSERT INTO pullstatus.lane (lane, version, format, server)"
        " SELECT %s, %s, %s, %s FROM pg_advisory_xact_lock(%s)"
        " ON CONFLICT (lane) DO UPDATE SET seen = now()",
        (lane, VERSION, FORMAT, server, BEGINS),
    )


BEGINS: Final = 0x6C616E65  # "lane": the lock of whoever is the first to wait for a standby


def beginning(connection: Connection) -> tuple[int, int]:
    """Which epoch the store is in, and the revision of the setting that was written last."""
    with translated():
        row = connection.execute(
            "SELECT (SELECT max(number) FROM pullstatus.epoch),"
            " (SELECT coalesce(max(revision), 0) FROM pullstatus.setting)"
        ).fetchone()
    assert row is not None
    return row[0], row[1]
