"""Pulls that wait in line: who is woken, who is not, and that no arrival goes by unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.mailbox.held import Held, Place
from pullstatus.records import Kind
from pullstatus.store import Mailbox, Store

BOX, OTHER = Mailbox(7, Kind.DELIVERY_STATUS), Mailbox(7, Kind.REPLY)


class CountingStore:
    """Mailboxes that are numbers; each look at one is counted, and takes a turn of the loop."""

    def __init__(self) -> None:
        self.waiting = {BOX: 0, OTHER: 0}
        self.watched: dict[Mailbox, Callable[[], None]] = {}
        self.looks = 0

    def watch(self, mailbox: Mailbox, on_arrival: Callable[[], None]) -> Callable[[], None]:
        assert mailbox not in self.watched
        self.watched[mailbox] = on_arrival
        return partial(self.watched.__delitem__, mailbox)

    def append(self, count: int = 1, mailbox: Mailbox = BOX) -> None:
        self.waiting[mailbox] += count
        if mailbox in self.watched:
            self.watched[mailbox]()

    async def pull(self, count_max: int, mailbox: Mailbox = BOX) -> tuple[int, int]:
        """How many were taken, and how many are left."""
        self.looks += 1
        taken = min(count_max, self.waiting[mailbox])
        self.waiting[mailbox] -= taken
        left = self.waiting[mailbox]
        await asyncio.sleep(0)
        return taken, left


class Pulls:
    """Pulls that are held, and what each has got in the end."""

    def __init__(self) -> None:
        self.store = CountingStore()
        self.held = Held(cast("Store", self.store))
        self.places: dict[str, Place] = {}
        self.got: list[tuple[str, int]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def begin(
        self,
        name: str,
        *,
        count_max: int = 100,
        wait_s: float = 60,
        mailbox: Mailbox = BOX,
        stays: Callable[[], bool] = lambda: True,
    ) -> None:
        """Begin a pull; one that is woken and does not stay goes without asking."""

        async def pull() -> None:
            until_s = asyncio.get_running_loop().time() + wait_s
            with self.held.enter(mailbox) as place:
                self.places[name] = place
                while True:
                    taken, left = await self.store.pull(count_max, mailbox)
                    if taken:
                        place.leaves_some = left > 0
                        break
                    if not await place.sleep(until_s) or not stays():
                        break
            self.got.append((name, taken))

        self.tasks.append(asyncio.create_task(pull()))

    async def settle(self) -> None:
        """Let everybody do what can be done now."""
        for _ in range(100):
            await asyncio.sleep(0)

    async def close(self) -> None:
        self.held.end()
        await asyncio.gather(*self.tasks)
        assert self.held.count == 0
        assert not self.store.watched


def run(work: Callable[[Pulls], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        pulls = Pulls()
        await work(pulls)
        await pulls.close()

    asyncio.run(whole())


def test_arrivals_wake_one_pull_each_in_order_of_arrival() -> None:
    async def work(pulls: Pulls) -> None:
        for name in "abc":
            pulls.begin(name)
            await pulls.settle()
        assert pulls.held.count == 3
        for count, name in enumerate("abc", 1):
            pulls.store.looks = 0
            pulls.store.append(count)
            await pulls.settle()
            assert pulls.got[-1] == (name, count)
            assert pulls.store.looks == 1
        assert pulls.held.count == 0

    run(work)


def test_one_that_leaves_some_behind_wakes_the_next() -> None:
    async def work(pulls: Pulls) -> None:
        for name in "abcd":
            pulls.begin(name, count_max=2)
        await pulls.settle()
        pulls.store.looks = 0
        pulls.store.append(5)
        await pulls.settle()
        assert pulls.got == [("a", 2), ("b", 2), ("c", 1)]
        assert pulls.store.looks == 3

    run(work)


def test_one_that_finds_nothing_keeps_its_place() -> None:
    """A pull that never slept was quicker."""

    async def work(pulls: Pulls) -> None:
        for name in "ab":
            pulls.begin(name)
        await pulls.settle()
        pulls.store.append()
        pulls.store.waiting[BOX] = 0
        await pulls.settle()
        assert pulls.got == []
        for name in "ab":
            pulls.store.append()
            await pulls.settle()
            assert pulls.got[-1] == (name, 1)

    run(work)


def test_what_arrives_while_one_asks_is_seen() -> None:
    """Its look may have been too early for that."""

    async def work(pulls: Pulls) -> None:
        pulls.begin("a")
        await asyncio.sleep(0)  # it has looked, and has not been answered
        assert pulls.store.looks == 1
        pulls.store.append()
        await pulls.settle()
        assert pulls.got == [("a", 1)]

    run(work)


def test_one_that_goes_when_woken_wakes_the_next() -> None:
    async def work(pulls: Pulls) -> None:
        pulls.begin("a", stays=lambda: False)
        pulls.begin("b")
        await pulls.settle()
        pulls.store.append()
        await pulls.settle()
        assert pulls.got == [("a", 0), ("b", 1)]

    run(work)


def test_one_that_fails_when_woken_wakes_the_next() -> None:
    async def work(pulls: Pulls) -> None:
        pulls.begin("a", stays=lambda: bool(1 // 0))
        pulls.begin("b")
        await pulls.settle()
        pulls.store.append()
        await pulls.settle()
        assert pulls.got == [("b", 1)]
        with pytest.raises(ZeroDivisionError):
            await pulls.tasks.pop(0)

    run(work)


def test_time_ends_a_wait_and_nobody_elses() -> None:
    async def work(pulls: Pulls) -> None:
        pulls.begin("short", wait_s=0.01)
        pulls.begin("long")
        await asyncio.wait_for(pulls.tasks[0], 60)
        assert pulls.got == [("short", 0)]
        pulls.store.append()
        await pulls.settle()
        assert pulls.got[1:] == [("long", 1)]

    run(work)


def test_a_wait_can_be_ended_before_and_while_it_sleeps() -> None:
    async def work(pulls: Pulls) -> None:
        pulls.begin("a")
        pulls.begin("b")
        await pulls.settle()
        pulls.places["a"].end()
        await pulls.settle()
        assert pulls.got == [("a", 0)]
        pulls.held.end()
        pulls.begin("c")
        await pulls.settle()
        assert sorted(pulls.got) == [("a", 0), ("b", 0), ("c", 0)]

    run(work)


def test_mailboxes_have_lines_of_their_own() -> None:
    async def work(pulls: Pulls) -> None:
        pulls.begin("a")
        pulls.begin("b", mailbox=OTHER)
        await pulls.settle()
        pulls.store.append(mailbox=OTHER)
        await pulls.settle()
        assert pulls.got == [("b", 1)]
        assert set(pulls.store.watched) == {BOX}

    run(work)


def test_too_many_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(pulls: Pulls) -> None:
        for name in "abc":
            pulls.begin(name)
        await pulls.settle()
        assert pulls.got == [("c", 0)]
        assert pulls.held.count == 2

    monkeypatch.setattr(limits, "PULLS_HELD_MAX", 2)
    run(work)


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("pull"), st.integers(1, 3), st.booleans()),
        st.tuples(st.just("append"), st.integers(1, 4)),
        st.tuples(st.just("quick"), st.integers(1, 3)),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("turns"), st.integers(1, 4)),
    ),
    max_size=25,
)


@given(acts=ACTS)
def test_nothing_waits_beside_a_pull_that_sleeps(acts: list[tuple[Any, ...]]) -> None:
    """Whatever comes, goes, or is quicker, in any order."""

    async def work(pulls: Pulls) -> None:
        for number, (act, *how) in enumerate(acts):
            if act == "pull":
                pulls.begin(str(number), count_max=how[0], stays=partial(bool, how[1]))
            elif act == "append":
                pulls.store.append(how[0])
            elif act == "quick":
                await pulls.store.pull(how[0])
            elif act == "end" and len(pulls.places) > how[0]:
                list(pulls.places.values())[how[0]].end()
            elif act == "turns":
                for _ in range(how[0]):
                    await asyncio.sleep(0)
        await pulls.settle()
        assert not (pulls.held.count and pulls.store.waiting[BOX])

    run(work)
