"""Several doors to one store, of a server and of commands: no stale sight of each other."""

import asyncio
from random import Random

import pytest

from pullstatus.records import Kind
from pullstatus.store import Aside, Change, Discard, Mailbox, Outcome, Page, Store
from tests.store.build import (
    EMPTY,
    NOW_MS,
    REPLIES,
    STATUSES,
    append,
    check_journal,
    data_of,
    drain,
    journal_of,
    page,
    parked,
    pull,
    records,
    redeliver,
    repeat_key,
    settings_of,
    sums_of,
    waiting_in,
    worst_in,
)
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio


async def test_a_command_works_beside_the_server(opener: Opener) -> None:
    server, command = await opener(server=True), await opener()
    await command.change(Change("a", b"1", None))
    entries = records(2)
    await command.append(append(STATUSES, entries))
    await command.close()
    assert [setting.value for setting in await settings_of(server)] == [b"1"]
    assert await data_of(server, STATUSES) == entries


async def test_settings_of_others_are_seen_at_once(opener: Opener) -> None:
    one, other = await opener(), await opener()
    for number in range(20):
        value = b"%d" % number
        expected = None if number == 0 else b"%d" % (number - 1)
        assert await one.change(Change("a", value, expected))
        assert [setting.value for setting in await settings_of(other)] == [value]
        one, other = other, one


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
    left = accepted - sum(taken.count for taken in pages)
    assert [await waiting_in(store, STATUSES) for store in stores] == [left] * 3
    pages += await drain(stores[0], STATUSES)
    stored = await data_of(stores[1], STATUSES)
    assert len(stored) == accepted == len(set(stored))
    pages = sorted((taken for taken in pages if taken.count), key=lambda taken: taken.first_seq)
    assert b",".join(taken.data for taken in pages) == b",".join(stored)
    check_journal(await journal_of(stores[2], STATUSES), accepted)


async def test_totals_are_of_all_doors(opener: Opener) -> None:
    """At every step as the mailboxes themselves say, whoever has made or changed which, and when.

    More mailboxes than are summed together; of most of them the server never heard.
    """
    rng = Random(3)
    filler = await opener()
    for number in range(1, 150):
        await filler.append(append(Mailbox(number, Kind.REPLY), records(1), NOW_MS + number))
    server, command = await opener(server=True), await opener()
    for step in range(60):
        store = rng.choice((server, command))
        box = Mailbox(rng.choice((1, 70, 149, 200 + step)), rng.choice((*Kind, Aside.PARKED)))
        if box.parked:
            await store.park(parked(append(Mailbox(box.sdkappid, Kind.REPLY), []), [b"x"]))
        elif rng.random() < 0.5:
            await store.append(append(box, records(2), NOW_MS + step))
        else:
            await store.pull(pull(box, rng.randrange(1, 4)))
        if rng.random() < 0.1:
            await store.discard(Discard(box, Outcome.EXPIRED, NOW_MS))
        for door in (server, command):
            rows = await server.backlog()
            told = await door.totals(worst=999)
            assert told.of == sums_of(rows)
            assert list(told.worst) == worst_in(rows, 999)


async def test_a_new_mailbox_of_another_is_not_made_twice(opener: Opener) -> None:
    one, other = await opener(), await opener()
    for mailbox in (STATUSES, REPLIES):
        first, second = records(2)
        await one.append(append(mailbox, [first]))
        await other.append(append(mailbox, [second]))
        assert await data_of(one, mailbox) == [first, second]


@pytest.mark.parametrize(
    ("feeds", "takes"), [(False, True), (True, False), (False, False)], ids=str
)
async def test_a_short_page_means_empty_through_two_doors(
    opener: Opener, *, feeds: bool, takes: bool
) -> None:
    """What was accepted through one before a pull through the other began is in its page, or was
    taken before. The server's pulls leave no trace, so that it might answer by heart."""
    feeder, taker = await opener(server=feeds), await opener(server=takes)
    accepted = taken = 0

    async def feed() -> None:
        nonlocal accepted
        for size in [1, 3, 40, 2] * 10:
            count = await feeder.append(append(STATUSES, records(size)))
            accepted += count
            await asyncio.sleep(0)

    async def take() -> None:
        nonlocal taken
        while not feeding.done():
            known = accepted
            found = await taker.pull(pull(STATUSES, 30))
            taken += found.count
            assert found.count == 30 or taken >= known
            await asyncio.sleep(0)

    feeding = asyncio.create_task(feed())
    await take()
    await feeding
    await drain(taker, STATUSES)
    check_journal(await journal_of(feeder, STATUSES), accepted)


async def test_what_a_command_does_is_in_the_servers_next_page(opener: Opener) -> None:
    """Copies are, and what was let go is not."""
    server, command = await opener(server=True), await opener()
    [first, second] = records(2)
    await server.append(append(STATUSES, [first]))
    assert (await server.pull(pull(STATUSES))).count == 1
    assert await server.pull(pull(STATUSES)) == EMPTY
    assert await command.redeliver(redeliver(STATUSES, (1, 1))) == 1
    assert await server.pull(pull(STATUSES)) == page(2, [first], 0)
    await server.append(append(STATUSES, [second]))
    assert await command.discard(Discard(STATUSES, Outcome.ERASED, NOW_MS)) == 1
    assert await server.pull(pull(STATUSES)) == EMPTY
