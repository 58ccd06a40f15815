"""Workers that cannot be started, or hang while they start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec
import pytest
import structlog

from pullstatus import limits
from pullstatus.errors import StoreRefused
from pullstatus.server.serve import ServeOptions
from pullstatus.server.workers import fleet
from pullstatus.server.workers.control import Brief, Stop
from pullstatus.server.workers.fleet import Fleet, Member
from pullstatus.server.workers.pulse import BEAT_S

PATIENCE_S = 120.0
SERVES = """
import asyncio, socket, sys
from pullstatus.server.workers.control import AskBrief, Control, Started, Stop

async def serve():
    stopped = asyncio.Event()
    async def hear(said):
        if isinstance(said, Stop):
            stopped.set()
    control = await Control.over(socket.socket(fileno=int(sys.argv[1])), hear)
    listening = asyncio.create_task(control.listen())
    await control.ask(AskBrief())
    control.tell(Started())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({listening, stopping}, return_when="FIRST_COMPLETED")

asyncio.run(serve())
"""
GOOD = (sys.executable, "-c", SERVES)


async def nothing(_said: object) -> object:
    return None


class Started:
    """A fleet over a socket that is listener and ledger, and what its briefs need."""

    def __init__(self, command: tuple[str, ...], count: int = 2) -> None:
        self.listener = socket.socket()
        self.briefs = 0
        self.options = ServeOptions("")
        self.fails = False
        self.dead: list[int] = []
        self.fleet = Fleet(
            command,
            count,
            brief=self.brief,
            renewed=lambda brief: msgspec.structs.replace(brief, options=self.options),
            answer=nothing,
            beats=lambda _member: 0,
            on_dead=self.on_dead,
            on_store_ended=lambda _error: None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def brief(self, number: int) -> Brief:
        self.briefs += 1
        if self.fails:
            raise OSError(24, "Too many open files")
        end = self.listener.fileno()
        return Brief(number, self.options, "info", None, end, end, b"")

    async def gone(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.fleet.gone(0.0)
        await asyncio.sleep(0)  # The event loop closes what was closed in its next round.

    def on_dead(self, member: Member) -> None:
        self.dead.append(member.number)


async def until(holds: Callable[[], bool], *, every_s: float = 0.01) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - another process
            await asyncio.sleep(every_s)


def sockets() -> int:
    """How many this process has open."""
    open_ones = 0
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            open_ones += each.readlink().name.startswith("socket:")
    return open_ones


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("/proc/none",), " cannot be started: [Errno 2] No such file"),
        (("/bin/false",), " ended at its start"),
    ],
)
def test_a_server_does_not_start_without_its_workers(command: tuple[str, ...], said: str) -> None:
    async def play(started: Started) -> None:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(StoreRefused) as refused:
                await started.fleet.start()
            assert said in str(refused.value)
            await started.gone()

    with Started(command) as started:
        asyncio.run(play(started))


def test_what_keeps_a_worker_from_being_started_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fork without memory, no more descriptors, an interpreter that is being replaced."""
    monkeypatch.setattr(fleet, "PAUSE_S", 0.01)
    monkeypatch.setattr(fleet, "PAUSE_S_MAX", 0.01)

    async def play(started: Started) -> None:
        kept = started.fleet
        await asyncio.wait_for(kept.start(), PATIENCE_S)
        started.fails = True
        before = started.briefs
        [one, _] = kept.members
        assert one.process is not None
        one.process.kill()
        await until(lambda: started.briefs >= before + 3)
        kept._command = ("/proc/none",)
        started.fails = False
        before = started.briefs
        await until(lambda: started.briefs >= before + 1)
        opened = sockets()
        await until(lambda: started.briefs >= before + 20)
        assert sockets() <= opened + 2, "none is left open each time"
        kept._command = GOOD
        await until(lambda: kept.serving == 2)
        await started.gone()

    with Started(GOOD) as started, structlog.testing.capture_logs() as logged:
        asyncio.run(play(started))
    told = [line for line in logged if line["event"] == "worker ended"]
    assert "Too many open files" in told[1]["reason"]
    assert "No such file" in told[-1]["reason"]
    assert told[0]["status"] == -9


def test_a_stop_does_not_wait_until_a_worker_would_be_started_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet, "PAUSE_S", 10 * PATIENCE_S)

    async def play(started: Started) -> None:
        kept = started.fleet
        await asyncio.wait_for(kept.start(), PATIENCE_S)
        briefs = started.briefs
        assert kept.members[0].process is not None
        kept.members[0].process.kill()
        await until(lambda: kept.ended == 1)
        await started.gone()
        assert started.briefs == briefs

    with Started(GOOD) as started:
        asyncio.run(play(started))


def test_a_worker_that_could_not_be_told_to_stop_yet_is_ended() -> None:
    """It has just been started; else it would serve on until it is killed as overdue."""

    async def play(started: Started) -> None:
        kept = started.fleet
        starting = asyncio.create_task(kept.start())
        await until(lambda: kept.members[-1].process is not None, every_s=0.0)
        assert [member.control for member in kept.members] == [None, None]
        kept.stop()
        kept.tell(Stop(time.monotonic() + PATIENCE_S))
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait(kept._keeping)
            await starting
        assert [member.process and member.process.returncode for member in kept.members] == [-9, -9]
        await started.gone()

    with Started(GOOD) as started:
        asyncio.run(play(started))


def test_a_worker_is_told_the_options_that_hold_when_it_asks() -> None:
    """What all are told before that, it does not hear."""

    async def play(started: Started) -> None:
        kept = started.fleet
        starting = asyncio.create_task(kept.start())
        await until(lambda: kept.members[0].process is not None, every_s=0.0)
        started.options = ServeOptions("", worst=7)
        await asyncio.wait_for(starting, PATIENCE_S)
        await started.gone()
        assert started.fleet.ended == 0

    asks = "assert (await control.ask(AskBrief())).options.worst == 7"
    command = (sys.executable, "-c", SERVES.replace("await control.ask(AskBrief())", asks))
    with Started(command, count=1) as started:
        asyncio.run(play(started))


def test_a_worker_that_is_not_understood_is_not_one_that_cannot_be_started() -> None:
    async def play(started: Started) -> None:
        kept = started.fleet
        await asyncio.wait_for(kept.start(), PATIENCE_S)
        await until(lambda: kept.ended == 1)
        await started.gone()

    says = (
        "await control.ask(AskBrief())\n    control._writer.write((1).to_bytes(8, 'little') + b'?')"
    )
    garbled = SERVES.replace("    stopping =", f"    {says}\n    stopping =")
    command = (sys.executable, "-c", garbled)
    with Started(command, count=1) as started, structlog.testing.capture_logs() as logged:
        asyncio.run(play(started))
    assert "worker not understood" in [line["event"] for line in logged]
    told = next(line for line in logged if line["event"] == "worker ended")
    assert told["status"] is not None
    assert "cannot be started" not in told["reason"]


def test_a_worker_that_hangs_at_its_start_is_ended_and_told_of() -> None:
    """Its server would wait for it for ever, and nobody would know."""

    async def play(started: Started) -> None:
        kept = started.fleet
        starting = asyncio.create_task(kept.start())
        await until(lambda: kept.members[0].process is not None)
        for _ in range(int(limits.WORKER_START_S / BEAT_S)):
            kept.end_who_hangs()
        process = kept.members[0].process
        assert process is not None
        assert process.poll() is None, "it has its time"
        kept.end_who_hangs()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(StoreRefused, match="ended at its start"):
                await starting
            await started.gone()
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)

    command = ("/bin/sh", "-c", "exec sleep 1000")
    with Started(command, count=1) as started, structlog.testing.capture_logs() as logged:
        asyncio.run(play(started))
    assert [line["event"] for line in logged] == ["worker hangs"]
    assert logged[0]["silent_s"] == limits.WORKER_START_S
