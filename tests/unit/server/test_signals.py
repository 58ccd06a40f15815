"""Signals while a server runs, and nothing of it afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
import uvloop

from pullstatus.server.signals import handled


def test_handler_is_called_on_the_loop_and_gone_afterwards() -> None:
    before = signal.getsignal(signal.SIGUSR1)

    async def play() -> None:
        called = asyncio.Event()
        with handled({signal.SIGUSR1: called.set}):
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(called.wait(), 60)

    asyncio.run(play())
    assert signal.getsignal(signal.SIGUSR1) == before


def test_handlers_are_gone_after_an_error() -> None:
    before = signal.getsignal(signal.SIGUSR1)

    async def play() -> None:
        with pytest.raises(OSError, match="planned"), handled({signal.SIGUSR1: lambda: None}):
            raise OSError("planned")
        assert signal.getsignal(signal.SIGUSR1) == before

    asyncio.run(play())


def test_a_process_that_only_ends_hears_nothing_more(request: pytest.FixtureRequest) -> None:
    """Nor does closing the loop give the signal back to the system, which ends the process."""
    before = signal.getsignal(signal.SIGUSR1)
    request.addfinalizer(lambda: signal.signal(signal.SIGUSR1, before))

    async def play() -> None:
        with handled({signal.SIGUSR1: lambda: None}, for_good=True):
            pass

    uvloop.run(play())
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN


def test_loop_of_another_thread_goes_without() -> None:
    """There no handler can be set: whoever runs the loop calls what it would have called."""
    ran: list[bool] = []

    async def play() -> None:
        with handled({signal.SIGUSR1: lambda: None}):
            ran.append(True)

    thread = threading.Thread(target=lambda: asyncio.run(play()))
    thread.start()
    thread.join(60)
    assert ran == [True]
