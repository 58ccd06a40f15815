"""An application is erased in a cluster: nothing tells any more who took what."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from functools import partial

import msgspec
import pytest

from pullstatus import apps
from pullstatus.apps import Operator
from pullstatus.apps.erasure import Erased
from pullstatus.errors import StoreUnavailable
from pullstatus.mailbox.following import Follower
from pullstatus.store import Store
from pullstatus.store.jetstream.ages import AGE_S
from pullstatus.store.jetstream.engine import JetStreamStore
from tests.store.build import NOW_MS, STATUSES, append, pull, records
from tests.store.jetstream.lanes import LAYOUT, PARTITION, SECRET, cluster
from tests.store.jetstream.memory import MemoryBus

PLACE = LAYOUT.application(STATUSES.sdkappid)
ADDRESS = "203.0.113.77"


@pytest.fixture
def bus() -> MemoryBus:
    return cluster()


@pytest.fixture
async def serving(bus: MemoryBus) -> AsyncIterator[Store]:
    """A server through which two pages with keys were taken."""
    store = await opened(bus)
    await store.append(append(STATUSES, records(6)))
    for key in ("a", "b"):
        taken = msgspec.structs.replace(pull(STATUSES, 2, key=key), address=ADDRESS)
        assert (await store.pull(taken)).count == 2
    yield store
    await store.close()


async def opened(bus: MemoryBus) -> JetStreamStore:
    return await JetStreamStore.open("s", bus, LAYOUT, SECRET, 1, created=False)


async def erase(bus: MemoryBus) -> Erased:
    """What the command does, in a process of its own."""
    store = await opened(bus)
    by = Operator("me", NOW_MS + 1, secrets.token_hex, "asked")
    follow = partial(Follower(store, secrets.token_hex).follow, STATUSES.sdkappid)
    try:
        return await apps.erase_application(store, STATUSES.sdkappid, by=by, follow=follow)
    finally:
        await store.close()


def tells(bus: MemoryBus) -> bool:
    """Whether any message tells who took something."""
    found = bus.following(PARTITION, ">", 1, count=1000, leader=True)
    return any(ADDRESS.encode() in each.data or ".key." in each.subject for each in found)


@pytest.mark.anyio
@pytest.mark.parametrize("cut_off", [False, True])
async def test_nothing_tells_who_took_it(
    bus: MemoryBus, serving: Store, monkeypatch: pytest.MonkeyPatch, cut_off: bool
) -> None:
    """Nor if it was cut off, and called again; what comes meanwhile stays."""
    slept: list[float] = []
    others_sleep = asyncio.sleep

    async def sleep(time_s: float) -> None:
        if time_s != AGE_S:
            await others_sleep(time_s)
            return
        slept.append(time_s)
        assert tells(bus), "servers may need it still"
        if cut_off and len(slept) == 1:
            raise StoreUnavailable("cut off")
        await serving.append(append(STATUSES, records(3)))
        assert (await serving.pull(pull(STATUSES, 1, key="c"))).count == 1

    monkeypatch.setattr(asyncio, "sleep", sleep)
    if cut_off:
        with pytest.raises(StoreUnavailable):
            await erase(bus)
    erased = await erase(bus)
    assert erased == (Erased(0, 0) if cut_off else Erased(2, 6))
    assert len(slept) == 1 + cut_off
    found = bus.following(PARTITION, ">", 1, count=1000, leader=True)
    assert not any(ADDRESS.encode() in each.data for each in found)
    assert bus.subjects(PARTITION, PLACE.keys) == [PLACE.key("c")]
    [row] = [row async for row in serving.journal(STATUSES)]
    assert row.key == "c"
    assert (await serving.pull(pull(STATUSES, 1, key="c"))).count == 1
    assert (await serving.pull(pull(STATUSES, 5))).count == 2
