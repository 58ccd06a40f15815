"""Several doors to one file: one server, any number of commands, no stale sight of each other."""

import asyncio
import multiprocessing
import os
from pathlib import Path

import pytest

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store import Page, Store, open_store
from pullstatus.store.gathering.groups import NOTICE_S
from pullstatus.store.sqlite import connection
from tests.store.build import (
    EMPTY,
    REPLIES,
    STATUSES,
    append,
    check_journal,
    data_of,
    drain,
    journal_of,
    page,
    pull,
    records,
    repeat_key,
    until,
)
from tests.store.conftest import Opener
from tests.store.engines import sqlite_url

pytestmark = pytest.mark.anyio

SEEN_S = 0.3


async def seen(store: Store, waiting: int) -> None:
    """Wait until a store says that so many wait."""
    await until(lambda: store.waiting(STATUSES) == waiting)


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


async def test_a_command_works_beside_the_server(opener: Opener) -> None:
    server, command = await opener(server=True), await opener()
    await command.change("a", b"1", expected=None)
    entries = records(2)
    await command.append(append(STATUSES, entries))
    await command.close()
    assert [setting.value for setting in await server.settings()] == [b"1"]
    assert await data_of(server, STATUSES) == entries


async def test_settings_of_others_are_seen_at_once(opener: Opener) -> None:
    one, other = await opener(), await opener()
    for number in range(20):
        value = b"%d" % number
        expected = None if number == 0 else b"%d" % (number - 1)
        assert await one.change("a", value, expected=expected)
        assert [setting.value for setting in await other.settings()] == [value]
        one, other = other, one


async def test_entries_of_others_are_seen_soon(opener: Opener) -> None:
    """By a store that does nothing meanwhile; from then on a pull gets them at once."""
    assert NOTICE_S < SEEN_S
    one, other = await opener(), await opener()
    entries = records(5)
    await one.append(append(STATUSES, entries[:3]))
    await seen(other, 3)
    assert await other.pull(pull(STATUSES, 2)) == page(1, entries[:2], 1)
    await seen(one, 1)
    await one.append(append(STATUSES, entries[3:]))
    await seen(other, 3)
    assert await other.pull(pull(STATUSES)) == page(3, entries[2:], 0)


async def test_a_command_pulls_what_the_server_has_just_stored(opener: Opener) -> None:
    """A page that is short means that nothing else waits, to whomever it is given."""
    server, command = await opener(server=True), await opener()
    for mailbox in (STATUSES, REPLIES):
        for entries in (records(1), records(2)):
            await server.append(append(mailbox, entries))
            assert (await command.pull(pull(mailbox))).data == b",".join(entries)


async def test_the_server_pulls_what_a_command_has_just_stored(opener: Opener) -> None:
    """However often, and also while both are at work; nobody waits for the server to notice."""
    server, command = await opener(server=True), await opener()
    for turn in range(40):
        for mailbox in (STATUSES, REPLIES):
            assert await server.pull(pull(mailbox)) == EMPTY
            entries = records(1 + turn % 3)
            await command.append(append(mailbox, entries))
            assert (await server.pull(pull(mailbox))).data == b",".join(entries)


async def test_a_keyed_pull_sees_others_at_once(opener: Opener) -> None:
    """It asks the file anyway, so it finds what came before it, and its page taken elsewhere."""
    one, other = await opener(), await opener()
    entries = records(3)
    await one.append(append(STATUSES, entries))
    assert await other.pull(pull(STATUSES, 2, key="k")) == page(1, entries[:2], 1)
    assert await one.pull(pull(STATUSES, 2, key="k")) == page(1, entries[:2], 1, repeated=True)


async def test_a_stale_count_never_gives_an_entry_twice(opener: Opener) -> None:
    """A store that still counts what another has taken asks the file before it answers."""
    one, other = await opener(), await opener()
    entries = records(4)
    await one.append(append(STATUSES, entries))
    await seen(other, 4)
    assert (await one.pull(pull(STATUSES, 3))).count == 3
    assert other.waiting(STATUSES) in (4, 1)
    assert await other.pull(pull(STATUSES)) == page(4, entries[3:], 0)
    assert await one.pull(pull(STATUSES)) == EMPTY


async def test_stores_that_work_at_once_share_one_order(opener: Opener) -> None:
    """Appends and pulls through three doors: every entry once, ranges without gap or overlap."""
    stores = [await opener() for _ in range(3)]
    pages: list[Page] = []
    accepted = 0

    async def work(number: int, store: Store) -> None:
        nonlocal accepted
        for turn in range(12):
            name = f"{number}/{turn}"
            batch = append(STATUSES, records(1 + turn % 3), key=repeat_key(name))
            count = await store.append(batch)
            accepted += count
            pages.append(await store.pull(pull(STATUSES, 2, key=name)))

    await asyncio.gather(*[work(number, store) for number, store in enumerate(stores)])
    await seen(stores[0], accepted - sum(taken.count for taken in pages))
    pages += await drain(stores[0], STATUSES)
    stored = await data_of(stores[1], STATUSES)
    assert len(stored) == accepted == len(set(stored))
    pages = sorted((taken for taken in pages if taken.count), key=lambda taken: taken.first_seq)
    assert b",".join(taken.data for taken in pages) == b",".join(stored)
    check_journal(await journal_of(stores[2], STATUSES), accepted)


async def test_a_new_mailbox_of_another_is_not_made_twice(opener: Opener) -> None:
    one, other = await opener(), await opener()
    for mailbox in (STATUSES, REPLIES):
        first, second = records(2)
        await one.append(append(mailbox, [first]))
        await other.append(append(mailbox, [second]))
        assert await data_of(one, mailbox) == [first, second]


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
