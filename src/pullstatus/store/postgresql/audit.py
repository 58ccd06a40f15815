"""The proof, from the data alone, that nothing is lost, doubled or changed: see `verbs.proof`.

Each mailbox is proven in a snapshot of its own, so that none of them is held long: an old one keeps
whatever was removed since from being cleared away. Reads only; beside running servers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, cast

import psycopg
from psycopg.rows import TupleRow

from pullstatus.errors import StoreCorrupt, StoreRefused
from pullstatus.store.acts import problems_of
from pullstatus.store.postgresql import schema
from pullstatus.store.postgresql.lists import ACT_COLUMNS, STANDING_OF, act_row, backlog_row
from pullstatus.store.postgresql.location import Location
from pullstatus.store.postgresql.opening import open_store
from pullstatus.store.postgresql.session import meaning
from pullstatus.store.postgresql.statements import ints
from pullstatus.store.texts import decoded
from pullstatus.store.values import (
    AuditReport,
    Backlog,
    Finding,
    Outcome,
    Progress,
    ProveSetting,
)
from pullstatus.store.verbs.proof import LeftRow, problems
from pullstatus.store.verbs.state import key_of
from pullstatus.store.verbs.tables import ChunkRow, ReaderRow

_ROWS: Final = 200  # that are fetched at once
_BOXES: Final = 200

Connection = psycopg.Connection[TupleRow]


def audit_database(
    location: Location, progress: Progress, *, prove_setting: ProveSetting
) -> AuditReport:
    """Audit a store; `progress` is told mailboxes done and to do.

    Raises:
        StoreRefused: there is none, or it may not be read.
    """
    session = open_store(location, create=False).session
    try:
        return _audit(session.connection, progress, prove_setting)
    except psycopg.errors.DataCorrupted as error:
        return AuditReport([], [Finding(None, f"the database cannot be read to its end: {error}")])
    except psycopg.Error as error:
        raise StoreRefused(str(meaning(error))) from error
    finally:
        session.close()


def _audit(connection: Connection, progress: Progress, prove_setting: ProveSetting) -> AuditReport:
    mailboxes: list[Backlog] = []
    findings: list[Finding] = []
    [(total,)] = connection.execute("SELECT count(*) FROM pullstatus.mailbox").fetchall()
    last, done = -1, 0
    while boxes := connection.execute(_NEXT_BOXES, (last, _BOXES)).fetchall():
        for (box,) in boxes:
            with _moment(connection):
                values = ints([box]), int(Outcome.PULLED)
                row = connection.execute(STANDING_OF, values).fetchone()
                if row is not None:
                    backlog = backlog_row(*row)
                    mailboxes += [backlog] if backlog.accepted else []
                    found = problems(_Kept(connection, box), backlog)
                    findings += [Finding(backlog.mailbox, problem) for problem in found]
            last = box
            done += 1
            progress(done, total)
    findings += _strays(connection)
    with _moment(connection):
        acts = (act_row(*row) for row in _stream(connection, _ACTS))
        findings += [Finding(None, problem) for problem in problems_of(acts)]
        [(stray,)] = connection.execute(_STRAY_COPIES).fetchall()
        if stray:
            findings.append(
                Finding(None, f"copies are marked with {stray} acts that are not on record")
            )
    with _moment(connection):
        for name, value in _stream(connection, _SETTINGS):
            try:
                prove_setting(decoded(name), value)
            except StoreCorrupt as error:
                findings.append(Finding(None, str(error)))
    epoch, _ = schema.beginning(connection)
    newest = [row.last_pull_ms for row in mailboxes if row.last_pull_ms is not None]
    [(accepted_ms,)] = connection.execute(_NEWEST).fetchall()
    newest += [] if accepted_ms is None else [accepted_ms]
    return AuditReport(mailboxes, findings, epoch, max(newest, default=None))


class _Kept:
    """The rows of one mailbox; see `verbs.proof.Kept`."""

    def __init__(self, connection: Connection, box: int) -> None:
        self.key = key_of(box)
        self._connection = connection
        self._box = box

    def chunks(self) -> Iterator[ChunkRow]:
        for row in _stream(self._connection, _CHUNKS, self._box):
            yield ChunkRow(*row)

    def bounds(self) -> Iterator[tuple[int, int, bytes]]:
        yield from cast(
            "Iterator[tuple[int, int, bytes]]", _stream(self._connection, _BOUNDS, self._box)
        )

    def journal(self) -> Iterator[LeftRow]:
        for first_seq, count, outcome, reader in _stream(self._connection, _JOURNAL, self._box):
            yield LeftRow(first_seq, count, outcome, None if reader is None else decoded(reader))

    def readers(self) -> Sequence[tuple[str, ReaderRow, bytes | None]]:
        return [
            (
                decoded(name),
                ReaderRow(0, acked_seq, first_seq, count, kept=page is not None),
                page,
            )
            for name, acked_seq, first_seq, count, page in self._connection.execute(
                _READERS, (self._box,)
            ).fetchall()
        ]

    def copies(self) -> Iterable[tuple[int, int, int]]:
        return cast("Iterator[tuple[int, int, int]]", _stream(self._connection, _COPIES, self._box))


@contextlib.contextmanager
def _moment(connection: Connection) -> Iterator[None]:
    """A snapshot for what is read within."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("ROLLBACK")


def _stream(connection: Connection, sql: str, *values: Any) -> Iterator[TupleRow]:  # noqa: ANN401
    """Rows as they are asked for, however many there are; within a moment."""
    with connection.cursor(name="audit_" + str(hash(sql) & 0xFFFF), binary=True) as cursor:
        cursor.itersize = _ROWS
        cursor.execute(sql, values)
        yield from cursor


def _strays(connection: Connection) -> Iterator[Finding]:
    """Rows that belong to no mailbox."""
    for table in ("chunk", "journal"):
        [(count,)] = connection.execute(_STRAYS.replace("TABLE", table)).fetchall()
        if count:
            yield Finding(None, f"{table} rows belong to {count} mailboxes that do not exist")


_NEXT_BOXES = "SELECT box FROM pullstatus.mailbox WHERE box > %s ORDER BY box LIMIT %s"
_CHUNKS = (
    "SELECT first_seq, count, checksum, bounds, body FROM pullstatus.chunk WHERE box = %s"
    " ORDER BY first_seq"
)
_BOUNDS = "SELECT first_seq, count, bounds FROM pullstatus.chunk WHERE box = %s ORDER BY first_seq"
_JOURNAL = (
    "SELECT first_seq, count, outcome, CASE WHEN acked_ms IS NULL AND released_ms IS NULL"
    " THEN reader END FROM pullstatus.journal WHERE box = %s ORDER BY first_seq"
)
_READERS = (
    "SELECT name, acked_seq, first_seq, count, page FROM pullstatus.reader WHERE box = %s"
    " ORDER BY first_seq"
)
_COPIES = (
    "SELECT first_seq, count, source_seq FROM pullstatus.again WHERE box = %s ORDER BY first_seq"
)
_ACTS = f"SELECT {ACT_COLUMNS} FROM pullstatus.act ORDER BY id"  # noqa: S608 - ours
_STRAY_COPIES = (
    "SELECT count(DISTINCT act_id) FROM pullstatus.again g WHERE NOT EXISTS"
    " (SELECT FROM pullstatus.act a WHERE a.id = g.act_id)"
)
_SETTINGS = "SELECT name, value FROM pullstatus.setting WHERE value IS NOT NULL ORDER BY revision"
_NEWEST = """
SELECT max(c.accepted_ms) FROM pullstatus.mailbox m
CROSS JOIN LATERAL (SELECT accepted_ms FROM pullstatus.chunk WHERE box = m.box
    ORDER BY first_seq DESC LIMIT 1) c
"""
# From one box to the next by the index, however many rows each has.
_STRAYS = """
WITH RECURSIVE b(box) AS (
    (SELECT box FROM pullstatus.TABLE ORDER BY box LIMIT 1)
    UNION ALL
    SELECT (SELECT box FROM pullstatus.TABLE WHERE box > b.box ORDER BY box LIMIT 1) FROM b
    WHERE b.box IS NOT NULL
)
SELECT count(*) FROM b WHERE box IS NOT NULL
    AND NOT EXISTS (SELECT FROM pullstatus.mailbox m WHERE m.box = b.box)
"""
