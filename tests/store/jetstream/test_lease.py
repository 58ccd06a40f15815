"""Upkeep is done by one process at a time, whatever clocks say, and by another if that one dies."""

from __future__ import annotations

import os

import pytest

from pullstatus.store import Tickets, open_store
from pullstatus.store.jetstream.lease import LEASE_S, Lease
from tests.store.build import NOW_MS, STATUSES, append, pull, purge, records
from tests.store.jetstream.lanes import COMMON, LAYOUT, Clock, cluster
from tests.store.jetstream.memory import MemoryBus
from tests.store.jetstream.scheme import bus_of
from tests.store.jetstream.scheme import cluster as urls


@pytest.fixture
def bus() -> MemoryBus:
    return cluster()


def lease(bus: MemoryBus, clock: Clock) -> Lease:
    return Lease(bus, LAYOUT.common, LAYOUT.common.lease, Tickets(os.urandom), clock)


def test_one_has_it_until_it_lets_go(bus: MemoryBus) -> None:
    clock = Clock()
    one, other = lease(bus, clock), lease(bus, clock)
    assert one.take()
    assert one.take()
    assert not other.take()
    one.let_go()
    assert other.take()
    assert not one.take()
    one.let_go()
    assert not one.take()
    assert len(bus.following(COMMON, LAYOUT.common.lease, 1, count=100)) == 1


def test_one_that_is_renewed_is_never_taken_one_that_is_not_in_time(bus: MemoryBus) -> None:
    """By the clock of who waits, which may have begun anywhere."""
    clock, another = Clock(), Clock()
    another.now_s = 5.0
    one, other = lease(bus, clock), lease(bus, another)
    assert one.take()
    for _ in range(10):
        assert not other.take()
        another.now_s += LEASE_S
        assert one.take()
    assert not other.take()
    another.now_s += LEASE_S - 1
    assert not other.take()
    another.now_s += 1
    assert other.take()
    assert not one.take()


def test_of_two_that_take_it_at_once_one_has_it(bus: MemoryBus) -> None:
    one, other = lease(bus, Clock()), lease(bus, Clock())
    assert one.take()
    one.let_go()
    taken: list[bool] = []

    def overtake(_stream: str) -> None:
        bus.overtake = lambda _stream: None
        taken.append(other.take())

    bus.overtake = overtake
    taken.append(one.take())
    assert taken == [True, False]


def test_one_that_is_damaged_is_anybodys(bus: MemoryBus) -> None:
    one, other = lease(bus, Clock()), lease(bus, Clock())
    assert one.take()
    message = bus.last(COMMON, LAYOUT.common.lease, leader=True)
    assert message is not None
    bus.damage(COMMON, message._replace(data=message.data[:-1] + b"\x00"))
    assert other.take()


@pytest.mark.anyio
async def test_who_comes_while_another_removes_has_nothing_to_do() -> None:
    with urls(None) as url:  # type: ignore[arg-type]
        store = await open_store(url)
        await store.append(append(STATUSES, records(3)))
        await store.pull(pull(STATUSES))
        held = Lease(bus_of(url), LAYOUT.common, LAYOUT.common.lease, Tickets(os.urandom))
        assert held.take()
        assert await purge(store, left_before_ms=NOW_MS + 1) == 0
        assert await store.forget(accepted_before_ms=0, now_ms=0) == 0
        held.let_go()
        assert await purge(store, left_before_ms=NOW_MS + 1) == 3
        assert held.take()  # it was let go at the end
        await store.close()
