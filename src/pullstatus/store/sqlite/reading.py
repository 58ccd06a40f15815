"""Questions to the file, each on a read-only connection of its own thread, beside the writer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

import apsw

from pullstatus.errors import StoreCorrupt, StoreUnavailable
from pullstatus.records import Kind
from pullstatus.store import chunk
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.connection import open_reader
from pullstatus.store.sqlite.log import translated
from pullstatus.store.sqlite.typed import optional_integer
from pullstatus.store.values import (
    NO_TICKET,
    Again,
    Aside,
    Backlog,
    Entry,
    Followed,
    InHand,
    JournalRow,
    Mailbox,
    Noted,
    Outcome,
    ReaderState,
    Setting,
    contents,
)

_T = TypeVar("_T")


class ReadPool:
    """Threads that ask and wait, so that the event loop does not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="store-reader")
        self._local = threading.local()
        self._closed = False

    async def ask(self, question: Callable[[apsw.Connection], _T]) -> _T:
        """The answer of `question`, which gets a connection.

        Raises:
            StoreUnavailable: closed, or the file can't be read.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, question)

    async def close(self) -> None:
        """Let questions under way end, then close."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)

    def _ask(self, question: Callable[[apsw.Connection], _T]) -> _T:
        with translated():
            connection: apsw.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = open_reader(self._path)
            return question(connection)


@contextlib.contextmanager
def moment(connection: apsw.Connection) -> Iterator[None]:
    """Have all that is read be of one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


# SQL for when the oldest entry that waits in a mailbox came.
OLDEST_MS = (
    "iif(tail > cursor, (SELECT"  # noqa: S608 - ours
    f" iif(substr(tickets, 1, 1) = x'{chunk.APART.hex()}', accepted_at(tickets, count, accepted_ms,"
    f" (id << {schema.SEQ_BITS}) + cursor + 1 - key), accepted_ms) FROM chunk"
    f" WHERE key BETWEEN id << {schema.SEQ_BITS} AND (id << {schema.SEQ_BITS}) + cursor + 1"
    " ORDER BY key DESC LIMIT 1), NULL)"
)

_BACKLOG = (
    "SELECT sdkappid, kind, tail, handed_out, tail - cursor, expired, erased, quarantined,"  # noqa: S608
    " put_back, routed, purged, max(followed, purged), max(tallied, purged), turn,"
    f" {OLDEST_MS},"
    " (SELECT at_ms FROM journal WHERE key BETWEEN (id << ?1) + purged AND (id << ?1) + cursor"
    " AND outcome = ?2 ORDER BY key DESC LIMIT 1)"
    " FROM mailbox ORDER BY sdkappid, kind"
)
# A statement for each: one for both would read every mailbox for those of one application.
_BACKLOG_OF_ONE = _BACKLOG.replace(" ORDER BY sdkappid,", " WHERE sdkappid = ?3 ORDER BY")
_BEHIND = _BACKLOG.replace(
    " ORDER BY sdkappid, kind",
    f" WHERE kind < {int(Aside.PARKED)} AND tail > max(followed, purged) LIMIT ?3",
)
_BEHIND_OF_SOME = _BEHIND.replace(" WHERE", " WHERE id BETWEEN ?4 AND ?5 AND")
_PENDING_OF_SOME = _BACKLOG.replace(
    " ORDER BY sdkappid, kind",
    f" WHERE id BETWEEN ?3 AND ?4 AND kind = {int(Aside.PENDING)} AND tail > cursor",
)
_WAITING_OF_SOME = _BACKLOG.replace(
    " ORDER BY sdkappid, kind",
    f" WHERE id BETWEEN ?3 AND ?4 AND kind < {int(Aside.PARKED)} AND tail > cursor",
)


def backlog(connection: apsw.Connection, sdkappid: int | None = None) -> list[Backlog]:
    """How every mailbox stands, or those of one application."""
    return (
        _backlogs(connection, _BACKLOG)
        if sdkappid is None
        else _backlogs(connection, _BACKLOG_OF_ONE, sdkappid)
    )


def behind(
    connection: apsw.Connection, count_max: int, ids: Sequence[tuple[int, int]] | None
) -> list[Backlog]:
    """How mailboxes of records stand that have entries behind their marks.

    Args:
        count_max: how many of them at most.
        ids: first and last numbers of the mailboxes that are looked at; None: all are.
    """
    if ids is None:
        return _backlogs(connection, _BEHIND, count_max)
    found: list[Backlog] = []
    for first, last in ids:
        found += _backlogs(connection, _BEHIND_OF_SOME, count_max - len(found), first, last)
        if len(found) == count_max:
            break
    return found


def pending(connection: apsw.Connection, ids: Iterable[tuple[int, int]]) -> Iterator[Backlog]:
    """How mailboxes stand in which something is pending; `ids` are as those of `waiting`."""
    for first, last in ids:
        yield from _backlogs(connection, _PENDING_OF_SOME, first, last)


def waiting(connection: apsw.Connection, ids: Iterable[tuple[int, int]]) -> Iterator[Backlog]:
    """How mailboxes of records stand in which some wait.

    Args:
        ids: first and last numbers of the mailboxes that are looked at.
    """
    for first, last in ids:
        yield from _backlogs(connection, _WAITING_OF_SOME, first, last)


def _backlogs(connection: apsw.Connection, statement: str, *bindings: int) -> list[Backlog]:
    found = []
    for number, kind, *figures, through, tallied, turn, oldest_ms, last_ms in connection.execute(
        statement, (schema.SEQ_BITS, int(Outcome.PULLED), *bindings)
    ):
        times = optional_integer("accepted_ms", oldest_ms), optional_integer("at_ms", last_ms)
        mark = Followed(through, tallied, turn)
        mailbox = Mailbox(number, schema.known(contents, kind))
        found.append(Backlog(mailbox, *[*figures, *times, mark]))
    return found


def base(connection: apsw.Connection, mailbox: Mailbox) -> int | None:
    """A mailbox's number, shifted to where its keys begin; None if it does not exist.

    Raises:
        StoreCorrupt: the number is none that a mailbox can have.
    """
    number: int | None = connection.execute(
        "SELECT id FROM mailbox WHERE sdkappid = ? AND kind = ?",
        (mailbox.sdkappid, int(mailbox.kind)),
    ).get
    if number is None:
        return None
    if not 0 < number < 1 << (63 - schema.SEQ_BITS):  # else no key of it is one of SQLite's
        raise StoreCorrupt(f"{mailbox} has a number that none can have: restore a backup")
    return number << schema.SEQ_BITS


def entries(
    connection: apsw.Connection,
    base: int,
    first_seq: int,
    containing: bytes | None,
    *,
    rows_max: int,
    found_max: int,
) -> tuple[list[Entry], int | None]:
    """A step of a mailbox's entries from a number on, each proven, but for erased ones.

    Args:
        base: where the mailbox's keys begin.
        containing: only those that hold these bytes.
        rows_max, found_max: how many chunks it looks through, and how many it finds any in.

    Returns:
        what was found, and the number from which the next step goes on; None: there is no more.
        Not a key, since chunks may be joined between two steps.
    """
    found: list[Entry] = []
    next_seq: int | None = None
    for key, count, newest_ms, checksum, bounds, body, label in connection.execute(
        "SELECT key, count, accepted_ms, checksum, bounds, body, tickets FROM chunk WHERE key"
        " BETWEEN (SELECT coalesce(max(key), ?2) FROM chunk WHERE key BETWEEN ?1 AND ?2) AND ?3"
        " ORDER BY key LIMIT ?4",
        (base, base | first_seq, base | schema.SEQ_MASK, rows_max),
    ):
        first = key & schema.SEQ_MASK
        if (end := first + max(1, chunk.entry_count(bounds))) > first_seq:
            next_seq = end
        if containing is not None:
            joined = chunk.readable(bounds, body)
            if joined is None or containing not in joined:
                continue
        before = len(found)
        origins = chunk.origins(label, chunk.entry_count(bounds), newest_ms)
        found += [
            Entry(first + place, origins[place].at_ms, data, origins[place].ticket)
            for place, data in chunk.proven(key, count, checksum, bounds, body)
            if first + place >= first_seq and (containing is None or containing in data)
        ]
        found_max -= len(found) > before
        if not found_max:
            break
    return found, next_seq


_JOURNAL = (
    "SELECT key, count, outcome, at_ms, address, pull_key, count_max, proof, ticket,"
    " reader, coalesce(given, 1), acked_ms, released_ms FROM journal"
)


def journal(
    connection: apsw.Connection,
    mailbox: Mailbox,
    first: int,
    last: int,
    rows_max: int,
    *,
    backwards: bool,
) -> list[JournalRow]:
    """A step of a mailbox's journal rows with keys from `first` to `last`."""
    order = "DESC" if backwards else ""
    return [
        journal_row(mailbox, *row)
        for row in connection.execute(
            f"{_JOURNAL} WHERE key BETWEEN ? AND ? ORDER BY key {order} LIMIT ?",
            (first, last, rows_max),
        )
    ]


def keyed(connection: apsw.Connection, sdkappid: int, key: str) -> list[JournalRow]:
    """The journal rows with this pull key in an application's mailboxes."""
    return [
        journal_row(mailbox, *row)
        for mailbox in (Mailbox(sdkappid, kind) for kind in Kind)
        if (start := base(connection, mailbox)) is not None
        for row in connection.execute(
            f"{_JOURNAL} WHERE pull_key = ? AND key BETWEEN ? AND ? ORDER BY key",
            (key, start, start | schema.SEQ_MASK),
        )
    ]


def journal_row(
    mailbox: Mailbox,
    key: int,
    count: int,
    outcome: int,
    at_ms: int,
    address: str,
    pull_key: str | None,
    count_max: int,
    proof: str,
    ticket: bytes | None,
    reader: str | None,
    given: int,
    acked_ms: int | None,
    released_ms: int | None,
) -> JournalRow:
    """A row of the journal, with what the file has for its members."""
    return JournalRow(
        mailbox,
        key & schema.SEQ_MASK,
        count,
        schema.known(Outcome, outcome),
        at_ms,
        address,
        pull_key,
        count_max,
        proof,
        ticket or NO_TICKET,
        reader,
        given,
        acked_ms,
        released_ms,
    )


_READERS = (
    "SELECT mailbox, sdkappid, kind, name, page IS NOT NULL, first_seq, count, taken_ms,"
    " given, acked_seq, at_ms FROM reader JOIN mailbox ON id = mailbox"
    " WHERE (mailbox, name) > (?1, ?2) ORDER BY mailbox, name LIMIT ?3"
)
# By its mailboxes: otherwise every reader would be read.
_READERS_OF_ONE = _READERS.replace(
    " ORDER", " AND mailbox IN (SELECT id FROM mailbox WHERE sdkappid = ?4) ORDER"
)


def readers(
    connection: apsw.Connection, sdkappid: int | None, after: tuple[int, str], rows_max: int
) -> list[tuple[int, ReaderState]]:
    """A step of all readers, or those of one application, each with its mailbox's number.

    Args:
        after: number and name of the last of the step before.
    """
    return [
        (number, ReaderState(Mailbox(owner, schema.known(Kind, kind)), name, bool(kept), *members))
        for number, owner, kind, name, kept, *members in connection.execute(
            _READERS if sdkappid is None else _READERS_OF_ONE,
            (*after, rows_max) if sdkappid is None else (*after, rows_max, sdkappid),
        )
    ]


def beginning(path: Path) -> tuple[int, int]:
    """Which epoch a file is in, one more with every restore, and the newest setting's revision."""
    with translated(), contextlib.closing(open_reader(path)) as connection:
        epoch = connection.execute("SELECT max(number) FROM epoch").get
        revision = connection.execute("SELECT coalesce(max(revision), 0) FROM setting").get
        return cast("int", epoch), cast("int", revision)


def in_hand(connection: apsw.Connection) -> InHand:
    """How many pages readers have in hand."""
    [(pages, oldest_ms)] = connection.execute(
        "SELECT count(*), min(taken_ms) FROM reader WHERE first_seq > 0"
    )
    return InHand(pages, oldest_ms)


def again(
    connection: apsw.Connection, mailbox: Mailbox, first: int, after: tuple[int, int], rows_max: int
) -> list[Again]:
    """A step of the ranges that end at number `first` or later and are there again."""
    start = base(connection, mailbox)
    if start is None:
        return []
    return [
        Again(key & schema.SEQ_MASK, count, source_seq, act_id)
        for key, count, source_seq, act_id in connection.execute(
            "SELECT key, count, source_seq, act_id FROM again WHERE (key, act_id) > (?1, ?2)"
            " AND key <= ?3 AND key + count > ?4 ORDER BY key, act_id LIMIT ?5",
            (start | after[0], after[1], start | schema.SEQ_MASK, start | first, rows_max),
        )
    ]


def settings(connection: apsw.Connection, since: int, rows_max: int) -> Sequence[Setting]:
    """A step of the settings written after a revision."""
    return [
        Setting(name, value, revision, ticket or NO_TICKET)
        for name, value, revision, ticket in connection.execute(
            "SELECT name, value, revision, ticket FROM setting WHERE revision > ?"
            " ORDER BY revision LIMIT ?",
            (since, rows_max),
        )
    ]


def named(
    connection: apsw.Connection, prefix: str, first: str, since: int, rows_max: int
) -> Sequence[Setting]:
    """A step of the settings whose names begin so, from the name `first` on."""
    return [
        Setting(name, value, revision, ticket or NO_TICKET)
        for name, value, revision, ticket in connection.execute(
            # By name: the index of revisions would lead through all that there are.
            "SELECT name, value, revision, ticket FROM setting"
            " WHERE name BETWEEN ?1 AND ?2 || char(0x10FFFF) AND +revision > ?3"
            " ORDER BY name LIMIT ?4",
            (first, prefix, since, rows_max),
        )
    ]


def values(connection: apsw.Connection) -> list[tuple[str, bytes]]:
    """All settings that are set, by name."""
    return cast(
        "list[tuple[str, bytes]]",
        connection.execute("SELECT name, value FROM setting WHERE value IS NOT NULL").fetchall(),
    )


def setting(connection: apsw.Connection, name: str) -> Setting | None:
    """One setting."""
    row = connection.execute(
        "SELECT name, value, revision, coalesce(ticket, ?) FROM setting WHERE name = ?",
        (NO_TICKET, name),
    ).fetchone()
    return None if row is None else Setting(*row)


def settings_of(connection: apsw.Connection, names: Sequence[str]) -> list[Setting]:
    """Those of these settings that were ever written."""
    return [
        Setting(*row)
        for row in connection.execute(
            "SELECT name, value, revision, coalesce(ticket, ?) FROM setting"
            " WHERE name IN (SELECT value FROM json_each(?))",
            (NO_TICKET, json.dumps(names)),
        )
    ]


def marks(connection: apsw.Connection, prefix: str) -> dict[str, Noted]:
    """When what is named so happened last."""
    return {
        name: Noted(at_ms, place)
        for name, at_ms, place in connection.execute(
            "SELECT name, at_ms, place FROM mark WHERE name BETWEEN ?1 AND ?1 || char(0x10FFFF)",
            (prefix,),
        )
    }
