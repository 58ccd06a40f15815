"""In which order requests are begun."""

from __future__ import annotations

import asyncio
import itertools
import time
from functools import partial

import pytest

from pullstatus.server import schedule
from pullstatus.server.schedule import Schedule


class Begun:
    """Requests that note that they were begun, each of which keeps the loop for so long."""

    def __init__(self, busy_s: float = 0.0) -> None:
        self.names: list[str] = []
        self._busy_s = busy_s

    async def __call__(self, name: str) -> None:
        self.names.append(name)
        until = time.perf_counter() + self._busy_s
        while time.perf_counter() < until:
            pass


class Come:
    """Requests that come in one loop."""

    def __init__(self, begun: Begun) -> None:
        self._begun = begun
        self.schedule = Schedule(asyncio.get_running_loop(), str)

    def begin(self, name: str, application: str, address: str | None) -> None:
        client = None if address is None else (address, 0)
        self.schedule.begin(self._begun, name, application, client)

    async def all_begun(self) -> None:
        while self.schedule:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


def test_what_comes_alone_is_begun_at_once() -> None:
    begun = Begun()

    async def alone() -> None:
        come = Come(begun)
        for number in range(5):
            come.begin(str(number), "a", None)
            assert len(begun.names) == number + 1
            await asyncio.sleep(0)

    asyncio.run(alone())


def test_a_round_begins_as_much_as_takes_its_time_and_the_rest_in_turn() -> None:
    """Of applications first, then of addresses, whoever has how many connections."""
    begun = Begun(busy_s=2 * schedule.ROUND_S)
    requests = [("a", "1")] * 4 + [("a", "2")] * 2 + [("b", "1"), ("b", "3")]

    async def together() -> None:
        come = Come(begun)
        for application, address in [("a", "1"), *requests]:
            come.begin(application + address, application, address)
        assert begun.names == ["a1"]
        assert len(come.schedule) == len(requests)
        await asyncio.sleep(0)
        assert begun.names == ["a1", "a1"], "others get their turn between two rounds"
        await come.all_begun()

    asyncio.run(together())
    assert begun.names[1:] == ["a1", "b1", "a2", "b3", "a1", "a2", "a1", "a1"]


def test_who_comes_behind_others_waits_though_a_new_round_has_begun() -> None:
    begun = Begun(busy_s=2 * schedule.ROUND_S)

    async def behind() -> None:
        come = Come(begun)
        for number in "012":
            come.begin(number, "a", "1")
        come.begin("late", "b", "1")
        assert begun.names == ["0"]
        await come.all_begun()
        assert begun.names == ["0", "1", "late", "2"]
        await asyncio.sleep(0)
        come.begin("alone", "b", "1")
        assert begun.names[-1] == "alone"

    asyncio.run(behind())


def test_a_round_has_its_time_though_the_one_before_has_used_up_its_own() -> None:
    begun = Begun(busy_s=2 * schedule.ROUND_S)

    async def rounds() -> None:
        come = Come(begun)
        for number in range(3):
            come.begin(str(number), "a", None)
            assert len(begun.names) == number + 1
            await asyncio.sleep(0)

    asyncio.run(rounds())


# --- what is read in turn -------------------------------------------------------------------------


def test_what_is_read_in_its_turn_is_begun_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "ROUND_S", 60.0)  # the machine may be busy
    begun = Begun()

    async def read() -> None:
        come = Come(begun)
        come.schedule.put_off(lambda: come.begin("1", "a", "1"), "a", ("1", 0))
        come.begin("2", "a", "1")
        assert come.schedule.busy()
        assert begun.names == []
        await asyncio.sleep(0)
        assert begun.names == ["1", "2"]

    asyncio.run(read())


def test_what_is_for_another_application_than_before_waits_for_the_turn_of_that() -> None:
    """Or who has many connections would have as many turns as applications they were for."""
    begun = Begun(busy_s=2 * schedule.ROUND_S)

    async def read() -> None:
        come = Come(begun)
        for name in ("a0", "a1", "a2"):
            come.begin(name, "a", "1")
        for number in range(2):
            before = None if number else "b"
            name = f"a{3 + number}"
            come.schedule.put_off(partial(come.begin, name, "a", "1"), before, ("1", 0))
        come.begin("b", "b", "1")
        await come.all_begun()

    asyncio.run(read())
    assert begun.names == ["a0", "a1", "a2", "b", "a3", "a4"]


def test_one_that_fails_keeps_nobody_from_his_turn() -> None:
    begun = Begun()

    def fail() -> None:
        raise ArithmeticError

    async def read() -> None:
        failed: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
        come = Come(begun)
        come.schedule.put_off(fail, None, None)
        come.begin("1", "a", "1")
        await come.all_begun()
        assert [type(each) for each in failed] == [ArithmeticError]
        come.begin("2", "a", "1")
        assert not come.schedule

    asyncio.run(read())
    assert begun.names == ["1", "2"]


def test_of_large_bodies_a_few_pieces_are_read_in_a_round_in_turn_of_applications() -> None:
    read: list[list[str]] = [[]]

    async def main() -> None:
        shared = Schedule(asyncio.get_running_loop(), lambda scope: scope[0])
        for name in ["a1", "a2", "a3", "a4", "a5", "a6", "b1"]:
            shared.read_on(lambda name=name: read[-1].append(name), name)  # type: ignore[misc]
        assert read == [[]]
        while len(read) < 4:
            await asyncio.sleep(0)
            read.append([])

    asyncio.run(main())
    assert list(itertools.chain.from_iterable(read)) == ["a1", "b1", "a2", "a3", "a4", "a5", "a6"]
    assert [len(names) for names in read][:4] == [schedule.PIECES, 2, 2, 1]
