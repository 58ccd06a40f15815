"""The proof, from the data alone, that nothing is lost, doubled or changed.

For every mailbox what `verbs.proof` says, all in one snapshot; once for the store: the acts of
operators are chained to each other, and copies to acts.

Reads only; beside a running server or on a copy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apsw
import msgspec

from pullstatus.errors import StoreCorrupt, StoreRefused
from pullstatus.store.sqlite import acts, pairing, reading, schema
from pullstatus.store.sqlite.connection import open_reader
from pullstatus.store.sqlite.place import (
    check_there,
    holds_nothing,
    is_full,
    served_ms,
    unreadable,
)
from pullstatus.store.sqlite.typed import optional_integer
from pullstatus.store.values import (
    AuditReport,
    Backlog,
    Finding,
    Progress,
    ProveSetting,
    any_setting,
)
from pullstatus.store.verbs.proof import LeftRow, problems
from pullstatus.store.verbs.tables import ChunkRow, ReaderRow

_DAMAGE = (apsw.CorruptError, apsw.IOError, apsw.SQLError, StoreCorrupt)


def audit_file(
    path: Path, progress: Progress, *, prove_setting: ProveSetting = any_setting
) -> AuditReport:
    """Audit the store in a file; `progress` is told entries done and to do.

    Raises:
        StoreRefused: there is no file, it is none of ours, or it may not be read, or
            its disk is so full that it cannot.
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
    except (apsw.Error, StoreCorrupt) as error:
        if is_full(error) or not isinstance(error, _DAMAGE):
            raise unreadable(path, error) from error
        return AuditReport([], [Finding(None, f"the file cannot be read to its end: {error}")])


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
        if connection.in_transaction:  # some errors have SQLite roll back by itself
            connection.execute("COMMIT")
    return AuditReport(mailboxes, findings, epoch, newest_ms)


def _problems(connection: apsw.Connection, row: Backlog) -> Iterator[str]:
    key = reading.base(connection, row.mailbox)
    if key is None:
        yield "its row cannot be found by its application"
        return
    yield from problems(_Kept(connection, key), row)


class _Kept:
    """The rows of one mailbox; see `verbs.proof.Kept`."""

    def __init__(self, connection: apsw.Connection, key: int) -> None:
        self.key = key
        self._connection = connection
        self._keys = (key, key | schema.SEQ_MASK)

    def chunks(self) -> Iterator[ChunkRow]:
        for key, *rest in self._connection.execute(
            "SELECT key, count, checksum, bounds, body FROM chunk WHERE key BETWEEN ? AND ?"
            " ORDER BY key",
            self._keys,
        ):
            yield ChunkRow(key & schema.SEQ_MASK, *rest)

    def bounds(self) -> Iterator[tuple[int, int, bytes]]:
        for key, count, bounds in self._connection.execute(
            "SELECT key, count, bounds FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key",
            self._keys,
        ):
            yield key & schema.SEQ_MASK, count, bounds

    def journal(self) -> Iterator[LeftRow]:
        for key, *rest in self._connection.execute(
            "SELECT key, count, outcome, iif(acked_ms IS NULL AND released_ms IS NULL, reader,"
            " NULL) FROM journal WHERE key BETWEEN ? AND ? ORDER BY key",
            self._keys,
        ):
            yield LeftRow(key & schema.SEQ_MASK, *rest)

    def readers(self) -> Sequence[tuple[str, ReaderRow, bytes | None]]:
        return [
            (name, ReaderRow(0, acked_seq, first_seq, count, kept=page is not None), page)
            for name, acked_seq, first_seq, count, page in self._connection.execute(
                "SELECT name, acked_seq, first_seq, count, page FROM reader WHERE mailbox = ?"
                " ORDER BY first_seq",
                (self.key >> schema.SEQ_BITS,),
            )
        ]

    def copies(self) -> Iterable[tuple[int, int, int]]:
        for key, count, source_seq in self._connection.execute(
            "SELECT key, count, source_seq FROM again WHERE key BETWEEN ? AND ?", self._keys
        ):
            yield key & schema.SEQ_MASK, count, source_seq


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
