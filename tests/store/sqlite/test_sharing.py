"""One store, several processes of one server: what one has made, the next finds at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from pullstatus.errors import OutcomeUnknown, StoreRefused, StoreUnavailable
from pullstatus.records import Kind
from pullstatus.store import Change, Mailbox, Share, Store, join_store, open_store, share_store
from tests.store.build import REPLIES, STATUSES, append, data_of, page, pull, records
from tests.store.engines import sqlite_url

pytestmark = pytest.mark.anyio


class Shared:
    """A store that a server has opened to be shared, and as many workers' ends as are asked for."""

    def __init__(self, url: str, owner: Store) -> None:
        self.url, self.owner = url, owner
        self.joined: list[Store] = []

    async def join(self) -> Store:
        share = share_store(self.owner, self.url, 2)
        self.joined.append(await join_store(self.url, share))
        return self.joined[-1]


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Shared]:
    url = sqlite_url(tmp_path / "store.db", commits="process")
    made = Shared(url, await open_store(url, server=True, shared=True))
    yield made
    for store in made.joined:
        await store.close()
    await made.owner.close()


async def test_a_pull_never_finds_nothing_where_something_was_accepted(shared: Shared) -> None:
    """Posts through one, pulls through the others, thousands of times, each at once."""
    one, *others = [await shared.join() for _ in range(3)]
    rng = Random(1)
    boxes = [Mailbox(1_400_000_000 + n, kind) for n in range(4) for kind in Kind]
    from_memory = 0

    async def hammer(box: Mailbox) -> None:
        nonlocal from_memory
        for number in range(1, 201):
            other = rng.choice(others)
            from_memory += other.surely_empty(box)
            assert (await other.pull(pull(box))).count == 0
            entries = records(1)
            await one.append(append(box, entries))
            assert not other.surely_empty(box)
            assert await other.pull(pull(box)) == page(number, entries, 0)

    await asyncio.gather(*map(hammer, boxes))
    assert from_memory > 1000, "nearly all empty pulls are answered from the table"


async def test_a_command_beside_them_is_seen_by_all_at_once(shared: Shared) -> None:
    one, other = await shared.join(), await shared.join()
    for store in (one, other):
        assert (await store.pull(pull(STATUSES))).count == 0
        assert store.surely_empty(STATUSES)
    command = await open_store(shared.url)
    entries = records(2)
    await command.append(append(STATUSES, entries))
    assert not one.surely_empty(STATUSES)
    assert not other.surely_empty(STATUSES)
    await command.close()
    assert await other.pull(pull(STATUSES)) == page(1, entries, 0)
    assert (await one.pull(pull(STATUSES))).count == 0
    assert one.surely_empty(STATUSES)


async def test_arrivals_wake_who_watches_through_any_of_them(shared: Shared) -> None:
    one, other = await shared.join(), await shared.join()
    arrived = asyncio.Event()
    unwatch = other.watch(STATUSES, arrived.set)
    assert (await other.pull(pull(STATUSES))).count == 0
    for store in (one, shared.owner, other):
        arrived.clear()
        await store.append(append(STATUSES, records(1)))
        await asyncio.wait_for(arrived.wait(), 60)
    unwatch()
    arrived.clear()
    await one.append(append(STATUSES, records(1)))
    await one.append(append(REPLIES, records(1)))
    assert not arrived.is_set()
    assert (await other.pull(pull(STATUSES))).count == 4
    arrived.clear()
    other.watch(REPLIES, arrived.set)
    await asyncio.wait_for(arrived.wait(), 60), "it was there before"


async def test_sums_are_of_what_all_have_done(shared: Shared) -> None:
    one, other = await shared.join(), await shared.join()
    for number, store in enumerate((one, other, shared.owner), 1):
        await store.append(append(STATUSES, records(number)))
        for asked in (shared.owner, one):
            totals = await asked.totals()
            assert totals.of[Kind.DELIVERY_STATUS].waiting == sum(range(number + 1))
    await other.pull(pull(STATUSES, 2))
    assert (await shared.owner.totals()).of[Kind.DELIVERY_STATUS].waiting == 4
    engine = await shared.owner.engine()
    assert engine.operations == 4
    assert sum(engine.durations.counts) == engine.commits == 4


async def test_settings_and_their_conditions_hold_through_all(shared: Shared) -> None:
    one, other = await shared.join(), await shared.join()
    assert await one.change(Change("a", b"1", None))
    assert not await other.change(Change("a", b"2", None))
    assert await other.change(Change("a", b"2", b"1"))
    found = await one.setting("a")
    assert found is not None
    assert found.value == b"2"


async def test_what_was_left_by_one_is_taken_by_the_next(shared: Shared) -> None:
    one = await shared.join()
    entries = records(3)
    await one.append(append(STATUSES, entries))
    await one.close()
    other = await shared.join()
    assert await data_of(other, STATUSES) == entries


async def test_a_second_server_is_refused_and_one_that_joins_too_late_is_told(
    shared: Shared,
) -> None:
    await shared.join()
    with pytest.raises(StoreRefused, match="already serves"):
        await open_store(shared.url, server=True)
    share = share_store(shared.owner, shared.url, 2)
    assert isinstance(share, Share)
    kept = Share(share.end, os.dup(share.table), 2)
    await shared.owner.close()
    late = await join_store(shared.url, kept)  # it had been let in before
    with pytest.raises((StoreUnavailable, OutcomeUnknown)):
        await late.append(append(STATUSES, records(1)))
    await late.close()
    os.close(kept.table)
