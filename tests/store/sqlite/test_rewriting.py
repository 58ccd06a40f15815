"""What was removed or replaced is in no file any more: overwritten at once, or when rewritten."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import apsw
import pytest

from pullstatus import limits
from pullstatus.errors import StoreFull, StoreRefused
from pullstatus.store import Change, audit_store, open_store, rewrite_store
from pullstatus.store.sqlite import pairing, rewriting
from pullstatus.store.sqlite.audit import audit_file
from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.sqlite.place import ServerLock
from tests.store.build import (
    NOW_MS,
    OTHERS,
    STATUSES,
    append,
    connection_of,
    data_of,
    drain,
    names,
    pull,
    records,
)
from tests.store.engines import Opener, sqlite_url

pytestmark = pytest.mark.anyio

CANARY = b"5f03a35d00ee52a21327ab048186a2c4"


def holding(path: Path) -> list[str]:
    """The files of a store that hold the canary."""
    return [
        file.name
        for file in sorted(path.parent.iterdir())
        if file.name.startswith(path.name) and CANARY in file.read_bytes()
    ]


def no_progress(_done: int, _total: int) -> None:
    pass


async def test_what_is_replaced_is_overwritten_in_the_file(tmp_path: Path) -> None:
    """Whatever becomes of its page: the log aside, which is written over in its turn."""
    path = tmp_path / "store.db"
    store = await open_store(sqlite_url(path))
    for number in range(50):
        await store.change(Change(f"a{number:03}", CANARY + b"." * 300, None))
    for number in range(50):
        await store.change(Change(f"a{number:03}", b"short", CANARY + b"." * 300))
    connection = connection_of(store)
    assert connection.pragma("secure_delete") == 1
    await store.close()
    assert holding(path) == []


async def test_rewriting_leaves_nothing_of_what_was_removed(tmp_path: Path) -> None:
    """In the file, nor in the log; beside stores that are open; and all else is as it was."""
    path = tmp_path / "store.db"
    url = sqlite_url(path)
    store, beside = await open_store(url), await open_store(url, server=True)
    await store.append(append(STATUSES, records(250)))
    await beside.append(append(OTHERS, records(30)))
    await store.pull(pull(STATUSES))
    connection_of(store).pragma("secure_delete", 0)  # as versions before this one
    for number in range(50):
        await store.change(Change(f"a{number:03}", CANARY + b"." * 300, None))
    for number in range(50):
        await store.change(Change(f"a{number:03}", None, CANARY + b"." * 300))
    assert holding(path)
    before = [await data_of(store, mailbox) for mailbox in (STATUSES, OTHERS)]
    rows = await store.backlog()
    await rewrite_store(url)
    assert holding(path) == []
    for one in (store, beside):
        assert [await data_of(one, mailbox) for mailbox in (STATUSES, OTHERS)] == before
        assert await one.backlog() == rows
    await store.append(append(STATUSES, records(5)))
    await beside.append(append(STATUSES, records(5)))
    assert sum(page.count for page in await drain(beside, STATUSES)) == 160
    assert (await audit_store(url, no_progress)).findings == []
    await store.close()
    await beside.close()
    assert (await audit_store(url, no_progress)).findings == []


async def test_file_and_log_stay_a_pair(tmp_path: Path) -> None:
    """A file whose log is left behind later is refused, after this as before it."""
    path = tmp_path / "store.db"
    url = sqlite_url(path)
    store = await open_store(url)
    await store.append(append(STATUSES, records(3)))
    await rewrite_store(url)
    with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as one:
        assert pairing.find_problem(one) is None
        assert pairing.is_paired(one)
    await store.append(append(STATUSES, records(3)))
    alone = tmp_path / "alone" / "store.db"
    alone.parent.mkdir()
    log = path.with_name("store.db-wal").read_bytes()
    alone.write_bytes(path.read_bytes())
    found = audit_file(alone, no_progress)
    complete = not found.findings and found.mailboxes[0].accepted == 6
    assert complete or "is not all there is" in found.findings[0].problem
    assert log
    await store.close()


async def test_a_large_store_is_not_rewritten_beside_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REWRITE_BESIDE_BYTES_MAX", 1)
    path = tmp_path / "store.db"
    url = sqlite_url(path)
    await (await open_store(url)).close()
    await rewrite_store(url)
    with ServerLock(path):
        with pytest.raises(StoreRefused, match="pullstatus rewrite"):
            await rewrite_store(url)
        await rewrite_store(url, serving=False)
    await rewrite_store(url)


async def test_the_copy_on_the_way_of_a_large_store_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the room for it is, and no other disk gets to see what is in the store."""
    monkeypatch.setattr(limits, "REWRITE_BESIDE_BYTES_MAX", 1)
    path = tmp_path / "store.db"
    store = await open_store(sqlite_url(path))
    for number in range(100):
        await store.change(Change(f"a{number:03}", b"." * 10_000, None))
    await store.close()
    held: set[str] = set()

    def look() -> bool:
        for handle in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                held.add(str(handle.readlink()))
        return False

    def watched(path: Path, *, vfs: str | None = None) -> apsw.Connection:
        connection = open_writer(path, vfs=vfs)
        connection.pragma("cache_size", -100)
        connection.set_progress_handler(look, 100)
        return connection

    monkeypatch.setattr(rewriting, "open_writer", watched)
    await rewrite_store(sqlite_url(path))
    assert any(name.startswith(f"{path}-temporary-") for name in held)
    assert not any("etilqs" in name for name in held), "SQLite's in the usual folder"
    assert names(tmp_path) == ["store.db"]
    assert (await audit_store(sqlite_url(path), no_progress)).findings == []


async def test_no_store_is_made_by_rewriting_one(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="there is no store"):
        await rewrite_store(sqlite_url(tmp_path / "store.db"))
    assert names(tmp_path) == []


async def test_a_full_disk_changes_nothing(opener: Opener, url: str) -> None:
    store = await opener()
    entries = records(200)
    await store.append(append(STATUSES, entries, NOW_MS))

    class Full(apsw.Connection):
        def execute(self, statement: str, *more: object, **named: object) -> apsw.Cursor:  # type: ignore[override]
            if statement == "VACUUM":
                raise apsw.FullError
            return super().execute(statement, *more, **named)  # type: ignore[arg-type]

    path = Path(url.removeprefix("sqlite:///").partition("?")[0])
    full = pytest.raises(StoreFull, match=f"no space is left in {path.parent}")
    with contextlib.closing(Full(str(path))) as connection, full:
        await asyncio.to_thread(rewriting.rewrite, connection)
    assert await data_of(store, STATUSES) == entries
