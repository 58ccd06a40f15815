"""What doors do to the same thing at the same moment."""

from __future__ import annotations

import asyncio

import pytest

from pullstatus.errors import StoreUnavailable
from pullstatus.records import Kind
from pullstatus.store import Change, Mailbox, Page, Setting, Store, audit_store
from tests.store.build import (
    NOW_MS,
    STATUSES,
    append,
    backlog_of,
    check_journal,
    data_of,
    drain,
    journal_of,
    pull,
    purge,
    records,
)
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio


async def test_removal_and_pulls_of_one_mailbox(opener: Opener, url: str) -> None:
    """Removal follows right behind the cursor: no page is short of an entry, none comes twice."""
    feeder, taker, remover = [await opener() for _ in range(3)]
    sizes = [1, 3, 40, 120] * 6
    entries = [records(size) for size in sizes]
    pages: list[Page] = []

    async def feed() -> None:
        for number, some in enumerate(entries):
            await feeder.append(append(STATUSES, some, NOW_MS + number))

    async def take() -> None:
        while not feeding.done() or (pages and pages[-1].count):
            pages.append(await taker.pull(pull(STATUSES, 30, NOW_MS)))
            await asyncio.sleep(0)  # one that is answered from memory lets nobody else run

    async def remove() -> int:
        removed = 0
        while not taking.done():
            removed += await purge(remover, left_before_ms=NOW_MS + 1)
        return removed

    feeding, taking = asyncio.create_task(feed()), asyncio.create_task(take())
    removed = await remove()
    await feeding
    await taking
    pages += await drain(feeder, STATUSES)
    removed += await purge(remover, left_before_ms=NOW_MS + 1)
    full = [page for page in pages if page.count]
    assert b",".join(page.data for page in full) == b",".join(
        data for some in entries for data in some
    )
    for door in (feeder, taker, remover):
        row = await backlog_of(door, STATUSES)
        assert row is not None
        assert (row.accepted, row.handed_out, row.waiting) == (sum(sizes), sum(sizes), 0)
        check_journal(await journal_of(door, STATUSES), sum(sizes), row.purged)
    assert removed
    assert not (await audit_store(url, lambda _done, _total: None)).findings


async def test_removal_of_all_that_was_and_new_entries(opener: Opener) -> None:
    """A mailbox of which nothing is left goes on with the number behind the last."""
    one, other = await opener(), await opener()
    mailbox = Mailbox(7, Kind.REPLY)
    for turn in range(8):
        door, remover = (one, other) if turn % 2 else (other, one)
        await door.append(append(mailbox, records(3)))
        taken = await remover.pull(pull(mailbox))
        assert (taken.first_seq, taken.count) == (1 + 3 * turn, 3)
        await purge(remover, left_before_ms=NOW_MS + 1)
        row = await backlog_of(door, mailbox)
        assert row is not None
        assert (row.accepted, row.handed_out) == (3 + 3 * turn, 3 + 3 * turn)


async def test_whoever_follows_settings_misses_none(opener: Opener) -> None:
    """However many change them meanwhile, and whoever is first with which revision."""
    doors = [await opener() for _ in range(8)]
    follower = await opener(server=True)
    seen: dict[str, Setting] = {}
    since = 0

    async def change(number: int, door: Store) -> None:
        for turn in range(8):
            value = None if turn == 0 else b"%d" % (turn - 1)
            name = f"own/{number}"
            assert await door.change(Change(name, b"%d" % turn, value))

    async def look() -> None:
        nonlocal since
        async for setting in follower.settings(since):
            since = max(since, setting.revision)
            seen[setting.name] = setting

    changing = asyncio.gather(*[change(number, door) for number, door in enumerate(doors)])
    while not changing.done():
        await look()
        await asyncio.sleep(0)
    await changing
    await look()
    assert {name: setting.value for name, setting in seen.items()} == {
        f"own/{number}": b"7" for number in range(8)
    }
    assert len({setting.revision for setting in seen.values()}) == 8


async def test_whoever_is_second_to_change_a_setting_does_not(opener: Opener) -> None:
    """Each adds one to the same number: of those who have read the same, one may write."""
    doors = [await opener() for _ in range(4)]
    assert await doors[0].change(Change("n", b"0", None))

    async def add(door: Store) -> int:
        added = 0
        for _ in range(10):
            setting = await door.setting("n")
            assert setting is not None
            assert setting.value is not None
            added += await door.change(Change("n", b"%d" % (int(setting.value) + 1), setting.value))
        return added

    total = sum(await asyncio.gather(*map(add, doors)))
    setting = await doors[0].setting("n")
    assert setting is not None
    assert setting.value == b"%d" % total
    assert total >= 10


async def test_what_cannot_be_stored_concerns_nobody_else(store: Store) -> None:
    """Eight appends that are one commit, of which one has a time that no engine takes."""
    boxes = [Mailbox(number, Kind.REPLY) for number in range(1, 9)]
    found = await asyncio.gather(
        *[store.append(append(box, records(2), 1 << 63)) for box in boxes[:1]],
        *[store.append(append(box, records(2))) for box in boxes[1:]],
        return_exceptions=True,
    )
    assert isinstance(found[0], StoreUnavailable | OverflowError)
    assert found[1:] == [2] * 7
    assert await store.append(append(boxes[0], records(2))) == 2
    for box in boxes:
        assert len(await data_of(store, box)) == 2
