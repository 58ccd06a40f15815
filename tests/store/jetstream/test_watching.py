"""Who waits is told of what other processes bring, whatever is wrong with others' mailboxes."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pullstatus.store.jetstream.engine import JetStreamStore
from pullstatus.store.jetstream.subjects import Layout
from tests.store.build import OTHERS, STATUSES, append, records
from tests.store.jetstream import lanes
from tests.store.jetstream.lanes import SECRET, cluster
from tests.store.jetstream.memory import MemoryBus

pytestmark = pytest.mark.anyio

LAYOUT = Layout("s", 4)


async def opened(bus: MemoryBus, layout: Layout) -> JetStreamStore:
    return await JetStreamStore.open("s", bus, layout, SECRET, 1, created=False)


async def test_a_stream_that_is_down_is_waited_for_by_its_own_watchers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = MemoryBus(LAYOUT.streams)
    down, back = LAYOUT.application(STATUSES.sdkappid).stream, threading.Event()
    newest = bus.newest

    def answers(stream: str) -> int:
        if stream == down:
            back.wait(60)
        return newest(stream)

    monkeypatch.setattr(bus, "newest", answers)
    server, other = await opened(bus, LAYOUT), await opened(bus, LAYOUT)
    there, elsewhere = asyncio.Event(), asyncio.Event()
    server.watch(STATUSES, there.set)
    server.watch(OTHERS, elsewhere.set)
    await other.append(append(STATUSES, records(1)))
    for _ in range(2):  # in each round, and not only in the first
        await other.append(append(OTHERS, records(1)))
        await asyncio.wait_for(elsewhere.wait(), 20)
        elsewhere.clear()
    assert not there.is_set()
    back.set()
    await asyncio.wait_for(there.wait(), 20)
    await server.close()
    await other.close()


async def test_an_application_that_is_damaged_holds_up_nobody_who_watches_another() -> None:
    bus = cluster()
    server, other = await opened(bus, lanes.LAYOUT), await opened(bus, lanes.LAYOUT)
    await other.append(append(STATUSES, records(1)))
    place = lanes.LAYOUT.application(STATUSES.sdkappid)
    message = bus.last(place.stream, place.commits, leader=True)
    assert message is not None
    bus.damage(place.stream, message._replace(data=message.data[:-1]))
    arrived = asyncio.Event()
    server.watch(STATUSES, lambda: None)
    server.watch(OTHERS, arrived.set)
    await other.append(append(OTHERS, records(1)))
    await asyncio.wait_for(arrived.wait(), 20)
    await server.close()
    await other.close()
