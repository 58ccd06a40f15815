"""The proof, from the data alone, that nothing is lost, doubled or changed.

For every mailbox, in one snapshot:

    chunks    reach without a gap from the first kept entry to the tail, and match their checksums
    journal   reaches without a gap or an overlap from the first kept entry to the cursor
    counts    accepted = waiting + handed out + expired + erased + quarantined + put back + routed,
              each as stored, and each as the journal adds it up
    put back  each that the journal says was put back has its copy, and one only
    readers   the page in a reader's hand is in the journal as its own, not acknowledged, or, once
              that was removed, kept whole; and no other page is in a hand

Once for the store: the acts of operators are chained to each other, and copies to acts.

Reads only; beside a running server or on a copy.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec

from pullstatus.errors import StoreCorrupt, StoreRefused
from pullstatus.store import chunk
from pullstatus.store.sqlite import acts, pairing, readers, reading, schema
from pullstatus.store.sqlite.connection import open_reader
from pullstatus.store.sqlite.place import check_there, holds_nothing, served_ms
from pullstatus.store.sqlite.typed import optional_integer
from pullstatus.store.values import (
    AuditReport,
    Backlog,
    Finding,
    Outcome,
    Progress,
    ProveSetting,
    any_setting,
)


def audit_file(
    path: Path, progress: Progress, *, prove_setting: ProveSetting = any_setting
) -> AuditReport:
    """Audit the store in a file; `progress` is told entries done and to do.

    Raises:
        StoreRefused: there is no file, it is none of ours, or it may not be read.
    """
    check_there(path)
    log = not holds_nothing(path.with_name(f"{path.name}-wal"))
    try:
        with contextlib.closing(open_reader(path)) as connection:
            problem = pairing.find_problem(connection)
            if problem:
                return AuditReport([], [Finding(None, problem)])
            report = audit(connection, progress, prove_setting=prove_setting)
            return msgspec.structs.replace(report, log=log, served_ms=served_ms(path))
    except apsw.NotADBError as error:
        raise StoreRefused(f"{path} is no database") from error
    except (apsw.CorruptError, apsw.IOError, apsw.SQLError, StoreCorrupt) as error:
        damage = Finding(None, f"the file cannot be read to its end: {error}")
        return AuditReport([], [damage])
    except apsw.Error as error:
        raise StoreRefused(
            f"{path} cannot be read: {error}; this user must own it, and a copy of it must lie in a"
            " folder that this user may write"
        ) from error


def audit(
    connection: apsw.Connection, progress: Progress, *, prove_setting: ProveSetting = any_setting
) -> AuditReport:
    """Audit what a connection sees now."""
    connection.execute("BEGIN")
    try:
        found = schema.version(connection)
        if not found:
            raise StoreRefused("the file is empty, and no store yet; name another one")
        if found < schema.VERSION:
            raise StoreRefused(
                f"the store has format {found}; serve it once with this version, then audit it"
            )
        findings = [
            Finding(None, f"SQLite: {message}")
            for (message,) in connection.execute("PRAGMA integrity_check(20)")
            if message != "ok"
        ]
        mailboxes = reading.backlog(connection)
        total = sum(row.accepted - row.purged for row in mailboxes)
        done = 0
        for row in mailboxes:
            findings += [Finding(row.mailbox, problem) for problem in _problems(connection, row)]
            done += row.accepted - row.purged
            progress(done, total)
        findings += _strays(connection)
        findings += [Finding(None, problem) for problem in acts.problems(connection)]
        findings += _wrong_settings(connection, prove_setting)
        epoch = connection.execute("SELECT max(number) FROM epoch").get
        newest_ms = optional_integer(
            "at_ms",
            connection.execute(
                "SELECT max(at_ms) FROM (SELECT max(accepted_ms) AS at_ms FROM chunk"
                " UNION ALL SELECT max(at_ms) FROM journal)"
            ).get,
        )
    except UnicodeDecodeError as error:
        raise StoreCorrupt("it holds a text that is none") from error
    finally:
        connection.execute("COMMIT")
    return AuditReport(mailboxes, findings, epoch, newest_ms)


def _problems(connection: apsw.Connection, row: Backlog) -> Iterator[str]:
    key = reading.base(connection, row.mailbox)
    if key is None:
        yield "its row cannot be found by its application"
        return
    left: Counter[Outcome] = Counter()
    aside: list[range] = []
    back: list[int] = []
    expected = row.purged + 1
    erased = _erased_waiting(connection, key)
    for row_key, count, outcome in connection.execute(
        "SELECT key, count, outcome FROM journal WHERE key BETWEEN ? AND ? ORDER BY key",
        (key, key | schema.SEQ_MASK),
    ):
        first = row_key & schema.SEQ_MASK
        if first != expected:
            kind = "overlap" if first < expected else "have a hole"
            yield f"journal rows {kind} at entry {min(first, expected)}"
        expected = first + count
        if outcome not in _OUTCOMES:
            yield f"the journal row of entry {first} says nothing about what became of it"
            continue
        left[Outcome(outcome)] += count
        if outcome == Outcome.PULLED and erased:
            # Pulls pass what was erased while it waited, which was not handed out.
            passed = bisect_left(erased, first + count) - bisect_left(erased, first)
            left[Outcome.PULLED] -= passed
            left[Outcome.ERASED] += passed
        if outcome == Outcome.QUARANTINED:
            aside.append(range(first, first + count))
        elif outcome == Outcome.PUT_BACK:
            back += range(first, first + count)
    cursor = row.accepted - row.waiting
    if expected - 1 != cursor:
        yield f"the journal ends at entry {expected - 1}, the cursor stands at {cursor}"
    yield from _count_problems(row, left)
    yield from _chunk_problems(connection, key, row, aside)
    yield from readers.problems(connection, key, row.purged)
    if row.mailbox.parked:
        yield from _copy_problems(connection, key, row, back)


def _erased_waiting(connection: apsw.Connection, key: int) -> list[int]:
    """The numbers of entries that were erased while they waited, in order."""
    return [
        (row_key & schema.SEQ_MASK) + place
        for row_key, count, bounds in connection.execute(
            "SELECT key, count, bounds FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key",
            (key, key | schema.SEQ_MASK),
        )
        if chunk.entry_count(bounds) == count
        for place in chunk.empty_places(bounds, waiting=True)
    ]


_OUTCOMES = frozenset(map(int, Outcome))


def _count_problems(row: Backlog, left: Counter[Outcome]) -> Iterator[str]:
    stored = {
        Outcome.PULLED: row.handed_out,
        Outcome.EXPIRED: row.expired,
        Outcome.ERASED: row.erased,
        Outcome.QUARANTINED: row.quarantined,
        Outcome.PUT_BACK: row.put_back,
        Outcome.ROUTED: row.routed,
    }
    if min(*stored.values(), row.waiting) < 0 or row.accepted != row.waiting + sum(stored.values()):
        yield (
            f"accepted {row.accepted} is not waiting {row.waiting} + handed out {row.handed_out}"
            f" + expired {row.expired} + erased {row.erased} + quarantined {row.quarantined}"
            f" + put back {row.put_back} + routed {row.routed}"
        )
    for outcome, count in stored.items():
        # What was purged is counted, but no longer in the journal.
        if left[outcome] > count or (row.purged == 0 and left[outcome] != count):
            yield f"{count} entries are counted as {outcome.name}, the journal has {left[outcome]}"


def _copy_problems(
    connection: apsw.Connection, key: int, row: Backlog, back: list[int]
) -> Iterator[str]:
    """Of what is parked only what was put back has a copy."""
    copied = [
        seq
        for place, count, source_seq in connection.execute(
            "SELECT key, count, source_seq FROM again WHERE key BETWEEN ? AND ?",
            (key, key | schema.SEQ_MASK),
        )
        if place & schema.SEQ_MASK != source_seq  # as those that a restore brought back
        for seq in range(source_seq, source_seq + count)
        if seq > row.purged  # of what was removed the journal tells no more
    ]
    if sorted(copied) != back:
        yield f"{len(back)} items were put back, and {len(copied)} have a copy"


def _chunk_problems(
    connection: apsw.Connection, key: int, row: Backlog, aside: list[range]
) -> Iterator[str]:
    expected = row.purged + 1
    begun = False
    for row_key, count, checksum, bounds, body in connection.execute(
        "SELECT key, count, checksum, bounds, body FROM chunk WHERE key BETWEEN ? AND ?"
        " ORDER BY key",
        (key, key | schema.SEQ_MASK),
    ):
        first = row_key & schema.SEQ_MASK
        # The oldest chunk may begin before what was purged: it goes when all of it may.
        if first > expected or (begun and first < expected):
            kind = "missing" if first > expected else "stored twice"
            yield f"entries are {kind} at {min(first, expected)}"
        begun = True
        if (
            chunk.checksum(row_key, bounds, body) != checksum
            or chunk.entry_count(bounds) != count
            or chunk.readable(bounds, body) is None
        ):
            damaged = [
                first + place
                for place in chunk.damaged(count, bounds, body)
                if not any(first + place in taken for taken in aside)
            ]
            if damaged:
                yield f"{len(damaged)} stored entries are damaged, the first is {damaged[0]}"
        expected = first + count
    if expected - 1 != row.accepted:
        yield f"stored entries end at {expected - 1}, the tail stands at {row.accepted}"


def _wrong_settings(connection: apsw.Connection, prove_setting: ProveSetting) -> Iterator[Finding]:
    for name, value in connection.execute(
        "SELECT name, value FROM setting WHERE value IS NOT NULL ORDER BY revision"
    ):
        try:
            prove_setting(name, value)
        except StoreCorrupt as error:
            yield Finding(None, str(error))


def _strays(connection: apsw.Connection) -> Iterator[Finding]:
    """Rows that belong to no mailbox."""
    for table in ("chunk", "journal"):
        count = connection.execute(
            f"SELECT count(*) FROM (SELECT DISTINCT key >> ? AS id FROM {table})"  # noqa: S608
            " WHERE id NOT IN (SELECT id FROM mailbox)",
            (schema.SEQ_BITS,),
        ).get
        if count:
            yield Finding(None, f"{table} rows belong to {count} mailboxes that do not exist")
