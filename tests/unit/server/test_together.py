"""Work that is done once for all who ask for it at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from pullstatus.server.together import Together

T = TypeVar("T")


class Work:
    """Is done when a test says so; comes to its number."""

    def __init__(self) -> None:
        self.ends: list[asyncio.Future[None]] = []

    async def __call__(self) -> int:
        end = asyncio.get_running_loop().create_future()
        self.ends.append(end)
        number = len(self.ends)
        await end
        return number


async def settled() -> None:
    """Everything has been done that can be done now."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(scenario: Callable[[Work, Together[int]], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        work = Work()
        await scenario(work, Together(work))

    asyncio.run(play())


def asks(together: Together[T], count: int) -> list[asyncio.Task[T]]:
    return [asyncio.create_task(together()) for _ in range(count)]


def test_who_asks_meanwhile_shares_the_next() -> None:
    async def scenario(work: Work, together: Together[int]) -> None:
        first = asks(together, 100)
        await settled()
        assert len(work.ends) == 1
        second = []
        for _ in range(100):
            second += asks(together, 1)
            await asyncio.sleep(0)
        assert len(work.ends) == 1
        work.ends[0].set_result(None)
        assert await asyncio.gather(*first) == [1] * 100
        await settled()
        assert len(work.ends) == 2
        third = asks(together, 100)
        await settled()
        work.ends[1].set_result(None)
        assert await asyncio.gather(*second) == [2] * 100
        await settled()
        work.ends[2].set_result(None)
        assert await asyncio.gather(*third) == [3] * 100
        assert len(work.ends) == 3

    run(scenario)


def test_an_error_is_told_to_all_who_share_it_and_to_nobody_else() -> None:
    async def scenario(work: Work, together: Together[int]) -> None:
        first = asks(together, 3)
        await settled()
        second = asks(together, 3)
        await settled()
        work.ends[0].set_exception(OSError("as a test has it"))
        told = await asyncio.gather(*first, return_exceptions=True)
        assert [type(each) for each in told] == [OSError] * 3
        await settled()
        work.ends[1].set_result(None)
        assert await asyncio.gather(*second) == [2] * 3

    run(scenario)


@pytest.mark.parametrize("begun", [False, True])
def test_who_asks_no_longer_takes_it_from_nobody(begun: bool) -> None:
    async def scenario(work: Work, together: Together[int]) -> None:
        goes, stays = asks(together, 2)
        await (settled() if begun else asyncio.sleep(0))
        goes.cancel()
        await settled()
        work.ends[0].set_result(None)
        assert await stays == 1
        assert goes.cancelled()

    run(scenario)


def test_it_is_done_again_on_another_loop_whatever_became_of_the_one_before() -> None:
    work = Work()
    together = Together(work)

    async def leaves() -> None:
        asks(together, 1)
        await settled()
        asks(together, 1)
        await asyncio.sleep(0)

    async def comes() -> None:
        [ask] = asks(together, 1)
        await settled()
        work.ends[-1].set_result(None)
        assert await ask == 2

    asyncio.run(leaves())
    asyncio.run(comes())
