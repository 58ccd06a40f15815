"""`SqliteStore`: the verbs of `Store` over the writer thread and read-only connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

import apsw

from pullstatus.errors import InvalidSetting
from pullstatus.records import Kind
from pullstatus.store.sqlite import chunk, schema
from pullstatus.store.sqlite.connection import file_bytes, open_reader, open_writer
from pullstatus.store.sqlite.log import Log
from pullstatus.store.sqlite.operations import Change, Forget
from pullstatus.store.sqlite.place import ServerLock, check_folder
from pullstatus.store.sqlite.states import slot
from pullstatus.store.sqlite.writer import Writer
from pullstatus.store.values import (
    Append,
    Backlog,
    Engine,
    Entry,
    JournalRow,
    Mailbox,
    Outcome,
    Page,
    Pull,
    Setting,
)

READ_ROWS = 200  # rows a reading step takes before others get their turn
FORGET_COUNT = 500  # remembered things dropped in one commit
FORGET_PAUSE_S = 0.05

_T = TypeVar("_T")


class SqliteStore:
    """A store in one file. See `pullstatus.store.Store` for what each verb promises."""

    def __init__(self, path: Path, log: Log, writer: Writer, lock: ServerLock | None) -> None:
        """For `open`; takes what it has made."""
        self._path = path
        self._log = log
        self._writer = writer
        self._lock = lock
        self._readers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="store-reader")
        self._reader = threading.local()
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: str,
        *,
        server: bool = False,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> SqliteStore:
        """Open or make a file.

        Args:
            path: what follows `sqlite://` in a URL: `/relative/path` or `//absolute/path`.
            server, on_failure: see `open_store`.

        Raises:
            StoreRefused: the place, the file or its format is not safe to use.
        """
        if not path.startswith("/") or path == "/":
            raise InvalidSetting("sqlite:/// must be followed by the path of a file")
        file = Path(path[1:])
        await asyncio.to_thread(check_folder, file)
        lock = ServerLock(file) if server else None
        try:
            _make_private(file)
            log = await asyncio.to_thread(lambda: Log(open_writer(str(file))))
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return cls(file, log, Writer(log, on_failure), lock)

    # -- writing ---------------------------------------------------------------------------------

    async def append(self, operation: Append) -> int:
        """See `Store.append`."""
        return cast("int", await self._writer.submit(operation))

    async def pull(self, operation: Pull) -> Page:
        """See `Store.pull`. A pull that finds nothing and leaves no trace costs no commit."""
        if not self._log.states.waiting.get(slot(operation.mailbox)) and not (
            operation.key is not None or operation.single_use
        ):
            return _EMPTY
        return cast("Page", await self._writer.submit(operation))

    async def change(self, name: str, value: bytes | None, *, expected: bytes | None) -> bool:
        """See `Store.change`."""
        return cast("bool", await self._writer.submit(Change(name, value, expected)))

    async def forget(self, *, before_ms: int) -> int:
        """See `Store.forget`. Works in small commits, with pauses for everyone else's."""
        total = 0
        while count := cast("int", await self._writer.submit(Forget(before_ms, FORGET_COUNT))):
            total += count
            await asyncio.sleep(FORGET_PAUSE_S)
        return total

    # -- reading ---------------------------------------------------------------------------------

    def waiting(self, mailbox: Mailbox) -> int:
        """See `Store.waiting`."""
        return self._log.states.waiting.get(slot(mailbox), 0)

    async def backlog(self) -> list[Backlog]:
        """See `Store.backlog`."""
        return await self._read(
            lambda connection: [
                Backlog(Mailbox(sdkappid, Kind(kind)), tail, handed_out, tail - cursor)
                for sdkappid, kind, tail, cursor, handed_out in connection.execute(
                    "SELECT sdkappid, kind, tail, cursor, handed_out FROM mailbox"
                    " ORDER BY sdkappid, kind"
                )
            ]
        )

    async def oldest_waiting_ms(self) -> int | None:
        """See `Store.oldest_waiting_ms`."""
        return await self._read(
            lambda connection: cast(
                "int | None",
                connection.execute(
                    "SELECT min((SELECT accepted_ms FROM chunk WHERE key BETWEEN"
                    " id << ?1 AND (id << ?1) + cursor + 1 ORDER BY key DESC LIMIT 1))"
                    " FROM mailbox WHERE tail > cursor",
                    (schema.SEQ_BITS,),
                ).get,
            )
        )

    async def entries(self, mailbox: Mailbox, first_seq: int = 1) -> AsyncIterator[Entry]:
        """See `Store.entries`."""
        base = await self._base(mailbox)
        if base is None:
            return
        key = await self._read(
            lambda connection: cast(
                "int",
                connection.execute(
                    "SELECT coalesce(max(key), ?2) FROM chunk WHERE key BETWEEN ?1 AND ?2",
                    (base, base | first_seq),
                ).get,
            )
        )
        while True:
            start = key
            rows = await self._read(
                lambda connection, start=start: connection.execute(  # type: ignore[misc]
                    "SELECT key, count, accepted_ms, bounds, body FROM chunk"
                    " WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
                    (start, base | schema.SEQ_MASK, READ_ROWS),
                ).fetchall()
            )
            if not rows:
                return
            for row_key, _count, accepted_ms, bounds, body in rows:
                for seq, data in enumerate(
                    chunk.unpack(bounds, body), start=row_key & schema.SEQ_MASK
                ):
                    if seq >= first_seq:
                        yield Entry(seq, accepted_ms, data)
            key = rows[-1][0] + 1

    async def journal(self, mailbox: Mailbox, first_seq: int = 1) -> AsyncIterator[JournalRow]:
        """See `Store.journal`."""
        base = await self._base(mailbox)
        if base is None:
            return
        key = base | first_seq
        while True:
            start = key
            rows = await self._read(
                lambda connection, start=start: connection.execute(  # type: ignore[misc]
                    "SELECT key, count, outcome, at_ms, address, pull_key, count_max, random,"
                    " time_s FROM journal WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
                    (start, base | schema.SEQ_MASK, READ_ROWS),
                ).fetchall()
            )
            if not rows:
                return
            for row_key, count, outcome, *rest in rows:
                yield JournalRow(mailbox, row_key & schema.SEQ_MASK, count, Outcome(outcome), *rest)
            key = rows[-1][0] + 1

    async def settings(self, since: int = 0) -> Sequence[Setting]:
        """See `Store.settings`."""
        return await self._read(
            lambda connection: [
                Setting(name, value, revision)
                for name, value, revision in connection.execute(
                    "SELECT name, value, revision FROM setting"
                    " WHERE revision > ? ORDER BY revision",
                    (since,),
                )
            ]
        )

    def engine(self) -> Engine:
        """See `Store.engine`."""
        log = self._log
        return Engine(log.commits, log.commit_s, log.operations, file_bytes(self._path))

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        await self._writer.close()
        self._readers.shutdown()
        if self._lock is not None:
            self._lock.release()

    # -- inside ----------------------------------------------------------------------------------

    async def _base(self, mailbox: Mailbox) -> int | None:
        number = await self._read(
            lambda connection: (
                connection.execute(
                    "SELECT id FROM mailbox WHERE sdkappid = ? AND kind = ?",
                    (mailbox.sdkappid, int(mailbox.kind)),
                ).get
            )
        )
        return None if number is None else cast("int", number) << schema.SEQ_BITS

    async def _read(self, question: Callable[[apsw.Connection], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._ask, question)

    def _ask(self, question: Callable[[apsw.Connection], _T]) -> _T:
        connection: apsw.Connection | None = getattr(self._reader, "connection", None)
        if connection is None:
            connection = self._reader.connection = open_reader(str(self._path))
        return question(connection)


_EMPTY = Page(0, 0, b"", 0)


def _make_private(file: Path) -> None:
    """Make the file before SQLite does, readable by its owner only: it holds keys and numbers.

    A file that is there is left alone: closing a handle of it would drop SQLite's locks on it.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
