"""Names of sends on nodes: what each node has of them, and what a process knows of that."""

from __future__ import annotations

import os
from array import array
from collections.abc import AsyncIterator
from typing import cast

import apsw
import pytest

from pullstatus import limits
from pullstatus.errors import StoreUnavailable
from pullstatus.store import Count, Naming, Store, Tickets, open_store
from pullstatus.store.jetstream import engine, forgetting, naming
from pullstatus.store.jetstream.audit import audit_streams
from pullstatus.store.jetstream.filling import Filling
from pullstatus.store.jetstream.messages import NAMINGS_MAX, NamesMessage
from pullstatus.store.jetstream.transfer import Reading, Told
from pullstatus.store.jetstream.wire import Message
from pullstatus.store.jetstream.writing import MESSAGE_BYTES_MAX
from pullstatus.store.transfer import Names
from tests.store.build import NOW_MS, STATUSES
from tests.store.jetstream.memory import MemoryBus
from tests.store.jetstream.scheme import LAYOUT
from tests.store.jetstream.scheme import _clusters as clusters
from tests.store.jetstream.scheme import cluster as urls

pytestmark = pytest.mark.anyio

APP = STATUSES.sdkappid
PLACE = LAYOUT.application(APP)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    with urls(None) as url:  # type: ignore[arg-type]
        store = await open_store(url)
        yield store
        await store.close()


@pytest.fixture
def bus(store: Store) -> MemoryBus:
    [bus] = clusters.values()
    return bus


async def register(store: Store, *slots: int, at_ms: int = NOW_MS) -> None:
    """Each in a message of its own."""
    for slot in slots:
        assert await store.count(Count(APP, [], at_ms, names=[Naming([slot], b"%d" % slot)]))


async def found(store: Store, *slots: int) -> list[int]:
    return [int(block.body) for block in await store.named(slots)]


def index_of(store: Store) -> apsw.Connection:
    """Where a store's process has what it knows of the application's partition."""
    assert isinstance(store, engine.JetStreamStore)
    names = cast("naming.Names", store._names._look.__self__)  # type: ignore[attr-defined]
    return names._partitions[LAYOUT.partition(APP)]._index._file


def stored(bus: MemoryBus) -> list[Message]:
    return bus.following(PLACE.stream, PLACE.names, 1, count=1000, leader=True)


async def test_what_is_known_is_not_read_again(store: Store, bus: MemoryBus) -> None:
    blocks = [Naming([each], b"%d" % each) for each in range(NAMINGS_MAX + 1)]
    await store.count(Count(APP, [], NOW_MS, names=blocks))
    assert len(stored(bus)) == 2
    assert await found(store, 0, NAMINGS_MAX) == [NAMINGS_MAX, 0]
    for slots, asked in (((3, 4), ["last of the leader", "following each"]), ((77,), [])):
        del bus.asked[:]
        await store.named(slots, APP)
        assert bus.asked == (asked or ["last of the leader"])


def test_messages_of_names_are_such_as_nodes_take() -> None:
    """However many ids each send has: a block has some 200 kB at most."""
    many = Naming(list(range(30_000)), bytes(80_000))
    for names in ([many] * 20, [Naming([1], b"")] * 20, [Naming([], b""), *[many] * 3] * 5):
        told = NamesMessage.of(APP, names, NOW_MS)
        assert [each for one in told for each in one.named()] == [
            (array("i", each.slots), each.body) for each in names
        ]
        sizes = [sum(len(slots) + len(body) for slots, body in one.blocks) for one in told]
        assert max(sizes) < MESSAGE_BYTES_MAX - 100
        assert max(len(one.blocks) for one in told) <= NAMINGS_MAX
        assert len(told) <= len(names) // 2


async def test_what_others_register_over_and_over_hides_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "NAMES_FOUND_MAX", 3)
    await register(store, 1)
    beside = (each for each in range(1, APP) if LAYOUT.application(each).stream == PLACE.stream)
    for number in range(4):
        names = [Naming([1], b"%d" % number)]
        await store.count(Count(next(beside), [], NOW_MS, names=names))
    assert [block.body for block in await store.named([1], APP)] == [b"1"]


async def test_what_one_node_has_damaged_or_lost_others_tell(store: Store, bus: MemoryBus) -> None:
    await register(store, 1, 2, 3)
    _, two, three = stored(bus)

    def of_the_leader(_stream: str, message: Message, leader: bool) -> Message | None:
        if leader and message == two:
            return None
        return message._replace(data=b"?") if leader and message == three else message

    assert await found(store, 1) == [1]
    bus.has = of_the_leader
    assert await found(store, 1, 2, 3) == [3, 2, 1]


async def test_what_no_node_has_as_it_was_hides_nothing_else(store: Store, bus: MemoryBus) -> None:
    await register(store, 1, 2, 3, 4)
    bus.damage(PLACE.stream, stored(bus)[1]._replace(data=b"?" * 40))
    assert await found(store, 1, 2, 3, 4) == [4, 3, 1]
    bus.damage(PLACE.stream, stored(bus)[2]._replace(data=b"?" * 40))
    assert await found(store, 1, 2, 3, 4) == [4, 1]
    told = audit_streams(bus, LAYOUT, 1, lambda *_: None, prove_setting=lambda *_: None)
    partition = LAYOUT.partition(APP)
    assert [finding.problem for finding in told.findings] == [
        f"2 messages of names of sends are damaged in partition {partition}"
    ]
    await store.forget(accepted_before_ms=NOW_MS + 1, now_ms=0)
    assert stored(bus) == []


async def test_what_is_old_goes_and_what_is_young_stays_however_they_lie(
    store: Store, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps, of which each has some of both."""
    monkeypatch.setattr(forgetting, "_SLICE", 3)
    await register(store, 1, 2, 3, 4, at_ms=NOW_MS)
    await register(store, 5, at_ms=NOW_MS + 9)
    await register(store, 6, 7, 8, at_ms=NOW_MS)
    await store.forget(accepted_before_ms=NOW_MS + 1, now_ms=0)
    assert await found(store, *range(9)) == [5]
    assert len(stored(bus)) == 1


async def test_an_index_does_not_keep_for_ever_what_is_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naming, "_PRUNE", 4)
    for first in range(0, 60, 3):
        await register(store, first, first + 1, first + 2, at_ms=NOW_MS + first)
        assert await found(store, first, first + 2) == [first + 2, first]
        await store.forget(accepted_before_ms=NOW_MS + first, now_ms=0)
    assert index_of(store).execute("SELECT count(*) FROM name").get < 12


async def test_an_index_that_has_no_room_is_told_and_goes_on_once_it_has(store: Store) -> None:
    await register(store, 1)
    assert await found(store, 1) == [1]
    file = index_of(store)
    file.execute("PRAGMA max_page_count = 2")
    await store.count(Count(APP, [], NOW_MS, names=[Naming(list(range(2, 2000)), b"2")]))
    with pytest.raises(StoreUnavailable, match="TMPDIR"):
        await store.named([1])
    file.execute("PRAGMA max_page_count = 1000")
    assert await found(store, 1, 7) == [2, 1]


async def test_who_does_not_wait_for_the_first_look_is_told_to_come_again(
    store: Store, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(store, 1)
    with monkeypatch.context() as patched:
        patched.setattr(engine, "NAMES_S", 0)
        with pytest.raises(StoreUnavailable, match="still being read"):
            await store.named([1])
    assert await found(store, 1) == [1]


def test_a_store_is_filled_with_blocks_one_by_one() -> None:
    """Of a message with several, some may go."""
    bus = MemoryBus(LAYOUT.streams)
    filling = Filling(bus, LAYOUT, Tickets(os.urandom), Told(), lambda: 0)
    rows = [
        Names(at_ms, APP + other, (each, -each), b"%d" % each)
        for at_ms in (1, 2)
        for other in (0, 1)
        for each in range(NAMINGS_MAX + 3)
    ]
    filling.put_names(rows)
    read = Reading(bus, LAYOUT)
    assert list(read.names([])) == rows
    filling.put_names(rows[:1])  # a run that was cut off may put what is there
    assert list(read.names([])) == rows
    filling.drop_names(rows[1::2])
    assert set(read.names([])) == set(rows[::2])
    filling.drop_names(rows)
    assert list(read.names([])) == []
