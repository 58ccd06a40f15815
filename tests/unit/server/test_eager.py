"""A coroutine without a task: at once as far as it goes, then as what it waits for comes."""

from __future__ import annotations

import asyncio

import pytest

from pullstatus.server import eager


def test_what_waits_for_nothing_is_done_at_once() -> None:
    done = []

    async def work() -> None:
        done.append(1)

    async def play() -> None:
        eager.run(asyncio.get_running_loop(), work())
        assert done == [1]

    asyncio.run(play())


def test_it_goes_on_when_what_it_waits_for_is_there() -> None:
    done: list[object] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()
        first: asyncio.Future[str] = loop.create_future()
        second = asyncio.Event()

        async def work() -> None:
            done.append(await first)
            await second.wait()
            done.append("end")

        eager.run(loop, work())
        await asyncio.sleep(0)
        assert done == []
        first.set_result("first")
        await asyncio.sleep(0)
        assert done == ["first"]
        second.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert done == ["first", "end"]

    asyncio.run(play())


def test_it_gets_the_error_of_what_it_waits_for() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        awaited: asyncio.Future[None] = loop.create_future()
        caught = []

        async def work() -> None:
            try:
                await awaited
            except OSError as error:
                caught.append(error)

        eager.run(loop, work())
        awaited.set_exception(OSError("planned"))
        await asyncio.sleep(0)
        assert [str(error) for error in caught] == ["planned"]

    asyncio.run(play())


def test_it_lets_others_go_first() -> None:
    done = []

    async def work() -> None:
        done.append("began")
        await asyncio.sleep(0)
        done.append("went on")

    async def play() -> None:
        eager.run(asyncio.get_running_loop(), work())
        done.append("others")
        await asyncio.sleep(0)
        assert done == ["began", "others", "went on"]

    asyncio.run(play())


def test_what_it_raises_at_once_is_raised() -> None:
    async def work() -> None:
        raise OSError("planned")

    async def play() -> None:
        with pytest.raises(OSError, match="planned"):
            eager.run(asyncio.get_running_loop(), work())

    asyncio.run(play())
