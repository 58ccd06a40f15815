"""In which order requests are begun."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from pullstatus.server import schedule
from pullstatus.server.schedule import Schedule

Work = Callable[[], Coroutine[Any, Any, None]]


class Begun:
    """Requests that note that they were begun, each of which keeps the loop for so long."""

    def __init__(self, busy_s: float = 0.0) -> None:
        self.names: list[str] = []
        self._busy_s = busy_s

    def __call__(self, name: str) -> Work:
        async def work() -> None:
            self.names.append(name)
            until = time.perf_counter() + self._busy_s
            while time.perf_counter() < until:
                pass

        return work


def test_what_comes_alone_is_begun_at_once() -> None:
    begun = Begun()

    async def play() -> None:
        schedule = Schedule(asyncio.get_running_loop(), str)
        for number in range(5):
            schedule.begin(begun(str(number)), "a", None)
            assert len(begun.names) == number + 1
            await asyncio.sleep(0)

    asyncio.run(play())


def test_a_round_begins_as_much_as_takes_its_time_and_the_rest_in_turn() -> None:
    """Of applications first, then of addresses, whoever has how many connections."""
    begun = Begun(busy_s=2 * schedule.ROUND_S)
    come = [("a", "1")] * 4 + [("a", "2")] * 2 + [("b", "1"), ("b", "3")]

    async def play() -> None:
        schedule = Schedule(asyncio.get_running_loop(), str)
        for application, address in [("a", "1"), *come]:
            schedule.begin(begun(application + address), application, (address, 0))
        assert begun.names == ["a1"]
        assert len(schedule) == len(come)
        await asyncio.sleep(0)
        assert begun.names == ["a1", "a1"], "others get their turn between two rounds"
        while schedule:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)

    asyncio.run(play())
    assert begun.names[1:] == ["a1", "b1", "a2", "b3", "a1", "a2", "a1", "a1"]


def test_who_comes_behind_others_waits_though_a_new_round_has_begun() -> None:
    begun = Begun(busy_s=2 * schedule.ROUND_S)

    async def play() -> None:
        schedule = Schedule(asyncio.get_running_loop(), str)
        for number in "012":
            schedule.begin(begun(number), "a", ("1", 0))
        schedule.begin(begun("late"), "b", ("1", 0))
        assert begun.names == ["0"]
        while schedule:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        assert begun.names == ["0", "1", "late", "2"]
        await asyncio.sleep(0)
        schedule.begin(begun("alone"), "b", ("1", 0))
        assert begun.names[-1] == "alone"

    asyncio.run(play())
