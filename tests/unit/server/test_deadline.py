"""A bound on waiting, in a task and without one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from pullstatus.server import eager
from pullstatus.server.deadline import Within


async def in_a_task(work: Coroutine[Any, Any, None]) -> None:
    await asyncio.create_task(work)


async def without_a_task(work: Coroutine[Any, Any, None]) -> None:
    done = asyncio.Event()

    async def all_of_it() -> None:
        await work
        done.set()

    eager.run(asyncio.get_running_loop(), all_of_it())
    await asyncio.wait_for(done.wait(), 60)


WAYS = pytest.mark.parametrize("drive", [in_a_task, without_a_task])


@WAYS
def test_what_is_done_in_time_is_returned(drive: Any) -> None:  # noqa: ANN401
    async def steps(count: int) -> int:
        for _ in range(count):
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        return count

    async def work() -> None:
        assert await Within(60, steps(0)) == 0
        assert await Within(60, steps(3)) == 3

    asyncio.run(drive(work()))


@WAYS
def test_what_takes_longer_is_given_up_and_told(drive: Any) -> None:  # noqa: ANN401
    ended: list[str] = []

    async def for_ever(waited: asyncio.Future[None]) -> None:
        try:
            await waited
        finally:
            ended.append("cleaned up")

    async def work() -> None:
        waited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            await Within(0.01, for_ever(waited))
        assert waited.cancelled()

    asyncio.run(drive(work()))
    assert ended == ["cleaned up"]


@WAYS
def test_end_that_falls_on_what_is_done_already_comes_for_the_next(drive: Any) -> None:  # noqa: ANN401
    """As when the loop was busy: the answer and the end of the time are there in one turn."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        first, released = loop.create_future(), asyncio.Event()

        async def two() -> None:
            await first
            await released.wait()

        within = Within(60, two())

        def at_once() -> None:
            first.set_result(None)
            within._end()  # as its timer would just now
            loop.call_later(5, released.set)

        loop.call_soon(at_once)
        with pytest.raises(TimeoutError):
            await within

    asyncio.run(drive(work()))


@WAYS
def test_errors_are_those_of_the_work(drive: Any) -> None:  # noqa: ANN401
    async def fails(error: BaseException) -> None:
        await asyncio.sleep(0.001)
        raise error

    async def work() -> None:
        for error in (ZeroDivisionError(), TimeoutError("its own"), asyncio.CancelledError()):
            with pytest.raises(type(error)):
                await Within(60, fails(error))

    asyncio.run(drive(work()))


def test_cancelling_the_task_cancels_the_work() -> None:
    ended: list[str] = []

    async def for_ever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("cleaned up")

    async def work() -> None:
        task = asyncio.create_task(asyncio.wait_for(Within(60, for_ever()), 60))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    assert ended == ["cleaned up"]
