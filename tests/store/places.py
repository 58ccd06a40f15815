"""New stores to be moved and filled, of each engine, and what happens to them behind its back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import apsw
import psycopg
from psycopg.rows import TupleRow

from pullstatus.store import Mailbox, init_store
from pullstatus.store.verbs.state import slot
from tests.harness import PATIENCE_S
from tests.store.engines import server, sqlite_url
from tests.store.jetstream import scheme


class Places:
    """New stores of one engine, which live as long as this."""

    def __init__(self, engine: str, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._stack = contextlib.ExitStack()

    def none(self, name: str) -> str:
        """Where no store is yet, but one can be made by whoever opens it."""
        if self._engine == "sqlite":
            return sqlite_url(self._folder / f"{name}.db")
        if self._engine == "jetstream":
            return self._stack.enter_context(scheme.cluster(self._folder))
        return f"{self._stack.enter_context(server().database())}&commits=thread"

    def new(self, name: str) -> str:
        """Where a migration may fill a store: a file is made by that, a database is there."""
        url = self.none(name)
        if self._engine != "sqlite":
            asyncio.run(init_store(url))
        return url

    def close(self) -> None:
        """End them."""
        self._stack.close()


def is_cluster(url: str) -> bool:
    return url.startswith(scheme.SCHEME)


def is_file(url: str) -> bool:
    return url.startswith("sqlite:")


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///").partition("?")[0])


@contextlib.contextmanager
def beside(url: str) -> Iterator[psycopg.Connection[TupleRow]]:
    """A connection to a store's database."""
    with psycopg.connect(url.partition("&commits")[0], autocommit=True) as connection:
        yield connection


@contextlib.contextmanager
def beside_in_file(url: str) -> Iterator[apsw.Connection]:
    """The same to a store's file, which waits for what the store itself just writes."""
    with contextlib.closing(apsw.Connection(str(file_of(url)))) as connection:
        connection.set_busy_timeout(int(PATIENCE_S * 1000))
        yield connection


def damage(url: str, mailbox: Mailbox) -> None:
    """Change the last byte of the newest chunk of a mailbox."""
    if is_cluster(url):
        scheme.damage(url, mailbox)
        return
    if not is_file(url):
        with beside(url) as connection:
            connection.execute(
                "UPDATE pullstatus.chunk SET body = set_byte(body, length(body) - 1, 63)"
                " WHERE box = %s AND first_seq = (SELECT max(first_seq) FROM pullstatus.chunk"
                " WHERE box = %s)",
                (slot(mailbox), slot(mailbox)),
            )
        return
    with beside_in_file(url) as connection:
        # One statement, since the store may be joining chunks: the row would be gone by a second.
        connection.execute(
            "UPDATE chunk SET body = CAST(substr(body, 1, length(body) - 1) || '?' AS BLOB)"
            " WHERE key = (SELECT max(key) FROM chunk JOIN mailbox ON key >> 40 = id"
            " WHERE (sdkappid, kind) = (?, ?))",
            (mailbox.sdkappid, int(mailbox.kind)),
        )
        assert connection.changes() == 1


def forge_acts(url: str) -> None:
    """Say that somebody else did what was done."""
    if is_cluster(url):
        scheme.forge_acts(url)
        return
    if is_file(url):
        with beside_in_file(url) as connection:
            connection.execute("UPDATE act SET actor = 'somebody else'")
        return
    with beside(url) as connection:
        connection.execute("UPDATE pullstatus.act SET actor = 'somebody else'")


def lose(url: str) -> None:
    """Have nothing left of a store."""
    if is_cluster(url):
        scheme.lose(url)
        return
    if is_file(url):
        for file in file_of(url).parent.glob(f"{file_of(url).name}*"):
            file.unlink()
        return
    with beside(url) as connection:
        connection.execute("DROP SCHEMA pullstatus CASCADE")
