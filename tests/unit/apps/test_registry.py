"""Looks at the store: shared, at a distance, and never missing what was changed before."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import cast

import msgspec
import pytest

from pullstatus import limits
from pullstatus.apps import AppKey, Application, Registry
from pullstatus.apps.values import read_application
from pullstatus.errors import StoreUnavailable
from pullstatus.store import Noted, Setting, Store
from tests.sealing import NO_MASTERS


class FakeStore:
    """Settings in memory, and when they were looked at."""

    def __init__(self) -> None:
        self.settings_now: list[Setting] = []
        self.looks: list[float] = []
        self.takes_s = 0.0
        self.noted: dict[str, Noted] = {}
        self.failure: Exception | None = None

    def create(self, sdkappid: int) -> None:
        value = msgspec.json.encode(Application(sdkappid, (AppKey("0" * 32, 0, "abc"),), 0))
        revision = len(self.settings_now) + 1
        self.settings_now.append(Setting(f"application/{sdkappid}", value, revision))

    async def settings(self, since: int) -> AsyncIterator[Setting]:
        self.looks.append(asyncio.get_running_loop().time())
        found = [setting for setting in self.settings_now if setting.revision > since]
        await asyncio.sleep(self.takes_s)
        if self.failure is not None:
            raise self.failure
        for setting in found:
            yield setting

    async def mark(self, times: dict[str, Noted]) -> None:
        if self.failure is not None:
            raise self.failure
        self.noted |= times


def made() -> tuple[FakeStore, Registry]:
    store = FakeStore()
    return store, Registry(cast("Store", store), NO_MASTERS)


@pytest.mark.parametrize("takes_s", [0.0, 0.03, 0.12])
def test_no_number_of_callers_makes_more_looks_than_allowed(takes_s: float) -> None:
    """And each sees what was changed before it asked, however long a look takes."""
    numbers = itertools.count(1)

    async def run() -> list[float]:
        store, registry = made()
        store.takes_s = takes_s

        async def caller() -> None:
            for _ in range(8):
                number = next(numbers)
                store.create(number)
                await registry.look()
                assert number in registry.applications

        async with asyncio.TaskGroup() as tasks:
            for _ in range(50):
                tasks.create_task(caller())
        return store.looks

    looks = asyncio.run(run())
    distance_s = 1 / limits.LOOKS_PER_S_MAX
    assert len(looks) >= 8
    assert all(b - a > distance_s - 0.001 for a, b in itertools.pairwise(looks))


def test_uses_are_kept_until_the_store_has_noted_them() -> None:
    """The newest of each, of keys that live."""

    async def run() -> None:
        store, registry = made()
        store.create(1)
        await registry.look()
        [mark] = registry.applications[1].marks
        assert mark.startswith("key/1/")
        assert mark == "key/1/abc"
        registry.used |= {mark: (5000, "a"), "key/1/dropped": (5000, "a")}
        store.failure = StoreUnavailable("away")
        with pytest.raises(StoreUnavailable):
            await registry.note_uses()
        registry.used[mark] = (7000, "b" * 5000)
        store.failure = None
        await registry.note_uses()
        assert store.noted == {mark: Noted(7000, "b" * limits.ADDRESS_CHARS_MAX)}
        await registry.note_uses()
        assert registry.used == {}

    asyncio.run(run())


def test_a_lone_look_waits_for_nobody() -> None:
    async def run() -> None:
        store, registry = made()
        loop = asyncio.get_running_loop()
        for _ in range(3):
            began = loop.time()
            await registry.look()
            assert store.looks[-1] - began < 1 / limits.LOOKS_PER_S_MAX
            await asyncio.sleep(2 / limits.LOOKS_PER_S_MAX)
        assert len(store.looks) == 3

    asyncio.run(run())


def test_a_caller_that_gives_up_takes_nobody_with_it() -> None:
    async def run() -> None:
        store, registry = made()
        await registry.look()
        hasty, patient = (asyncio.create_task(registry.look()) for _ in range(2))
        await asyncio.sleep(0)
        hasty.cancel()
        store.create(1)
        await patient
        assert 1 in registry.applications

    asyncio.run(run())


def test_a_look_that_fails_is_told_to_all_and_the_next_works() -> None:
    async def run() -> None:
        store, registry = made()
        store.failure = StoreUnavailable("away")
        told = await asyncio.gather(*[registry.look() for _ in range(3)], return_exceptions=True)
        assert [type(error) for error in told] == [StoreUnavailable] * 3
        store.failure = None
        store.create(1)
        await registry.look()
        assert 1 in registry.applications

    asyncio.run(run())


def test_a_strict_application_is_stored_as_it_ever_was() -> None:
    """Stores that exist know it by this name."""
    stored = msgspec.json.encode(Application(7, (), 0, strict=True))
    assert msgspec.json.decode(stored)["single_use"] is True
    assert read_application("application/7", stored).strict
