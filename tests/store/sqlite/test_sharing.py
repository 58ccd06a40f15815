"""Several doors to one file: one server, any number of commands, no stale sight of each other."""

import asyncio
import multiprocessing
import os
from pathlib import Path

import pytest

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store import Store, open_store
from pullstatus.store.gathering.groups import NOTICE_S
from pullstatus.store.sqlite import connection
from pullstatus.store.sqlite.states import slot
from tests.store.build import (
    EMPTY,
    STATUSES,
    append,
    data_of,
    page,
    pull,
    records,
    until,
    writer_of,
)
from tests.store.conftest import Opener
from tests.store.engines import sqlite_url

pytestmark = pytest.mark.anyio

SEEN_S = 0.3


async def seen(store: Store, waiting: int) -> None:
    """Wait until a store has noticed, by itself, that so many wait."""
    await until(lambda: writer_of(store).waiting.get(slot(STATUSES)) == waiting)


async def test_a_second_server_is_refused_beside_the_first(url: str, opener: Opener) -> None:
    """In a sentence that says who serves and what to do; the first doesn't notice."""
    first = await opener(server=True)
    with pytest.raises(StoreRefused) as caught:
        await open_store(url, server=True)
    assert f"process {os.getpid()}" in str(caught.value)
    assert "stop it first" in str(caught.value)
    await first.append(append(STATUSES, records(1)))
    await first.close()
    await (await open_store(url, server=True)).close()


async def test_a_second_server_by_another_name_is_refused(opener: Opener, file: Path) -> None:
    await opener(server=True)
    link = file.with_name("link.db")
    link.symlink_to(file)
    with pytest.raises(StoreRefused, match="already serves"):
        await open_store(sqlite_url(link), server=True)


async def test_a_failed_start_lets_go_of_the_lock(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(connection, "SQLITE_OLDEST", (99,))
        with pytest.raises(StoreRefused):
            await open_store(url, server=True)
    await (await open_store(url, server=True)).close()


async def test_entries_of_others_are_seen_soon(opener: Opener) -> None:
    """By a server that does nothing meanwhile; from then on a pull gets them at once."""
    assert NOTICE_S < SEEN_S
    one, other = await opener(), await opener(server=True)
    entries = records(5)
    await one.append(append(STATUSES, entries[:3]))
    await seen(other, 3)
    assert await other.pull(pull(STATUSES, 2)) == page(1, entries[:2], 1)
    await one.append(append(STATUSES, entries[3:]))
    await seen(other, 3)
    assert await other.pull(pull(STATUSES)) == page(3, entries[2:], 0)


async def test_a_stale_count_never_gives_an_entry_twice(opener: Opener) -> None:
    """A store that still counts what another has taken asks the file before it answers."""
    one, other = await opener(), await opener(server=True)
    entries = records(4)
    await one.append(append(STATUSES, entries))
    await seen(other, 4)
    assert (await one.pull(pull(STATUSES, 3))).count == 3
    assert writer_of(other).waiting[slot(STATUSES)] in (4, 1)
    assert await other.pull(pull(STATUSES)) == page(4, entries[3:], 0)
    assert await one.pull(pull(STATUSES)) == EMPTY


def _hold(path: str, held: "multiprocessing.synchronize.Event") -> None:
    """In a process of its own: take SQLite's write lock and keep it until ended."""
    import threading

    import apsw

    holder = apsw.Connection(path)
    holder.execute("BEGIN IMMEDIATE")
    held.set()
    threading.Event().wait()


async def test_a_held_file_is_a_failure_that_passes(
    opener: Opener, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another program holds it, verbs that write are refused; then the store works on."""
    monkeypatch.setattr(connection, "BUSY_MS", 50)
    failures: list[BaseException] = []
    store = await opener(on_failure=failures.append)
    entries = records(2)
    await store.append(append(STATUSES, entries))
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=_hold, args=(str(file), held), daemon=True)
    holder.start()
    try:
        assert await asyncio.to_thread(held.wait, 30)
        with pytest.raises(StoreUnavailable, match="another process"):
            await store.append(append(STATUSES, records(1)))
        with pytest.raises(StoreUnavailable, match="another process"):
            await store.pull(pull(STATUSES))
        assert await data_of(store, STATUSES) == entries
    finally:
        holder.kill()
        holder.join()
        holder.close()
    assert await store.pull(pull(STATUSES)) == page(1, entries, 0)
    assert failures == []
