"""What comes of an exchange whose caller is cancelled, or interrupted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine

import httpx
import pytest

from pullstatus import AsyncClient, Kind
from pullstatus.client.cancellation import cancellable


def test_a_program_that_is_to_end_while_an_exchange_lets_go_ends() -> None:
    """Its handler of a signal may run just then."""

    async def exchange() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise SystemExit(7)

    async def play() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await cancellable(exchange())

    with pytest.raises(SystemExit) as ended:
        asyncio.run(play())
    assert ended.value.code == 7


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a signal's")])
def test_an_exchange_does_not_go_on_without_its_caller(error: BaseException) -> None:
    ended = []

    async def exchange() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def play() -> None:
        waiting = cancellable(exchange())
        waiting.send(None)
        await asyncio.sleep(0)
        with pytest.raises(type(error)):
            waiting.throw(error)
        while not ended:  # noqa: ASYNC110 - its task is nobody's
            await asyncio.sleep(0)

    asyncio.run(play())


def test_a_call_that_is_closed_behind_its_loop_ends_quietly() -> None:
    async def begin() -> Coroutine[None, None, None]:
        call = cancellable(asyncio.sleep(60))
        call.send(None)
        return call

    asyncio.run(begin()).close()


def test_an_error_tells_of_what_it_was_made() -> None:
    """And not of what its caller was just handling."""

    async def exchange() -> None:
        try:
            raise KeyError("below")
        except KeyError:
            raise ValueError("above")  # noqa: B904 - as libraries do

    async def play() -> None:
        try:
            raise OSError("the caller's")
        except OSError:
            with pytest.raises(ValueError, match="above") as raised:
                await cancellable(exchange())
            assert isinstance(raised.value.__context__, KeyError)

    asyncio.run(play())


def test_a_transport_of_somebodys_own_is_cancelled_once() -> None:
    """It may have something to give back, and await that."""
    done = []

    class Route(httpx.AsyncBaseTransport):
        async def handle_async_request(self, _request: httpx.Request) -> httpx.Response:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0)
                done.append("given back")
            raise AssertionError

    async def play() -> None:
        async with AsyncClient(
            "http://sms.example", 1400006666, "key", keyed=True, transport=Route()
        ) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await client.pull(Kind.REPLY)
        assert done == ["given back"]

    asyncio.run(play())
