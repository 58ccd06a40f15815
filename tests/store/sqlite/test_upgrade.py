"""An older store beside a running server of its version, and pulls beside a full disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest

from pullstatus.errors import StoreFull, StoreRefused
from pullstatus.records import Kind
from pullstatus.store import Append, Mailbox, Page, Pull, open_store
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.log import Log
from pullstatus.store.sqlite.operations import Answer, Operation
from pullstatus.store.sqlite.place import ServerLock

MAILBOX = Mailbox(1400006666, Kind.DELIVERY_STATUS)


def old_store(path: Path) -> str:
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.execute(schema.MIGRATIONS[0])
    connection.pragma("application_id", schema.APPLICATION_ID)
    connection.pragma("user_version", 1)
    connection.close()
    return f"sqlite:///{path}"


async def opened(url: str) -> None:
    await (await open_store(url)).close()


def test_command_does_not_change_the_format_under_a_running_server(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    url = old_store(path)
    with ServerLock(path), pytest.raises(StoreRefused, match="already serves"):
        asyncio.run(opened(url))
    asyncio.run(opened(url))
    with apsw.Connection(str(path)) as connection:
        assert connection.pragma("user_version") == schema.VERSION


def test_pulls_go_on_when_the_appends_beside_them_find_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What shares a commit with an append that doesn't fit is committed without it."""
    commit = Log.commit

    def full(self: Log, group: list[Operation]) -> list[Answer]:
        if any(isinstance(operation, Append) for operation in group):
            raise StoreFull("no space")
        return commit(self, group)

    async def run() -> None:
        store = await open_store(f"sqlite:///{tmp_path}/store.db")
        await store.append(Append(MAILBOX, [b"{}"], 1))
        monkeypatch.setattr(Log, "commit", full)
        page, refused = await asyncio.gather(
            store.pull(Pull(MAILBOX, 1, 2)),
            store.append(Append(MAILBOX, [b"{}"], 2)),
            return_exceptions=True,
        )
        assert isinstance(page, Page)
        assert page.data == b"{}"
        assert isinstance(refused, StoreFull)
        await store.close()

    asyncio.run(run())
