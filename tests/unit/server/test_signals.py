"""Signals while a server runs, and nothing of it afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

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
    async def play() -> None:
        with pytest.raises(OSError, match="planned"), handled({signal.SIGUSR1: lambda: None}):
            raise OSError("planned")
        assert not asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    asyncio.run(play())


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
