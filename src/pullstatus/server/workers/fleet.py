"""The workers of a server: started, kept, and started anew when they die.

start -> wait for all -> [ keep each: it has died -> pause -> start ] -> stop -> gone
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from pullstatus import child, limits
from pullstatus.errors import StoreFailed, StoreRefused
from pullstatus.server.workers.control import (
    AskBrief,
    AskSnapshot,
    Brief,
    Control,
    Refused,
    Snapshot,
    Started,
    StoreEnded,
)
from pullstatus.server.workers.pulse import BEAT_S, Pulse
from pullstatus.version import VERSION

log = structlog.get_logger(__name__)

PAUSE_S: Final = 0.1  # before a worker is started anew; twice as long each time that it dies soon
PAUSE_S_MAX: Final = 5.0
LIVED_S: Final = 10.0  # after so long it has not died soon
ANSWER_S: Final = 1.0  # how long one may take to say how it stands


class Member:
    """One worker, over all the processes that it is in turn.

    Attributes:
        number: from 1.
        process: the newest one.
        looks: how often that was looked at since it was started, while it did not serve.
        serves: whether it answers requests now.
        newest: how it stood when it told last; None: it has told nothing yet.
        pulse: whether it goes on, while it serves.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.looks = 0
        self.control: Control | None = None
        self.serves = False
        self.newest: Snapshot | None = None
        self.pulse = Pulse()


class Fleet:
    """All workers of a server.

    Attributes:
        members: they.
        ended: how many have died and were, or will be, started anew.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        brief: Callable[[int], Brief],
        renewed: Callable[[Brief], Brief],
        answer: Callable[[Any], Awaitable[object]],
        beats: Callable[[Member], int],
        on_dead: Callable[[Member], None],
        on_store_ended: Callable[[StoreFailed], None],
    ) -> None:
        """Nothing runs yet.

        Args:
            command: what a worker runs, but for three words that are added: a file descriptor, our
                process number and our version.
            brief: what a worker is to do; its descriptors are inherited, and its share of the store
                is closed here then.
            renewed: a brief as it is by the time that the worker asks for it; from then on it hears
                what all are told.
            answer: answers what a worker asks, and nobody here.
            beats: how often a worker's event loop has counted so far.
            on_dead: called when one is dead, before its next life.
            on_store_ended: called when one says that the store takes no more work.
        """
        self.members = [Member(number) for number in range(1, count + 1)]
        self.ended = 0
        self._command = command
        self._brief = brief
        self._renewed = renewed
        self._answer = answer
        self._beats = beats
        self._on_dead = on_dead
        self._on_store_ended = on_store_ended
        self._over = asyncio.Event()
        self._keeping: list[asyncio.Task[None]] = []
        self._all_serve = asyncio.Event()
        self._refused: str | None = None

    @property
    def serving(self) -> int:
        """How many answer requests now."""
        return sum(member.serves for member in self.members)

    @property
    def processes(self) -> list[int]:
        """Numbers of the processes that run now."""
        running = [member.process for member in self.members if member.process is not None]
        return [process.pid for process in running if process.returncode is None]

    async def start(self) -> None:
        """Start them; returns when all answer requests, or `stop` was called.

        Raises:
            StoreRefused: one of them cannot start; the text says why.
        """
        self._keeping = [asyncio.create_task(self._keep(member)) for member in self.members]
        await self._all_serve.wait()
        if self._refused is not None:
            raise StoreRefused(self._refused)

    def tell(self, statement: object) -> None:
        """Tell all of them something."""
        for member in self.members:
            if member.control is not None:
                member.control.tell(statement)

    async def look(self) -> None:
        """Have all tell how they stand; one that does not in time stands as it did."""
        await asyncio.gather(*map(self._look_at, self.members))

    def end_who_hangs(self) -> None:
        """Kill whoever stands still: it is started anew. Called each `BEAT_S`.

        While it serves its event loop tells, and before that the looks since it was started: both
        stand still where this server does.
        """
        for member in self.members:
            if self._over.is_set() or member.process is None:
                member.pulse = Pulse()
            elif not member.serves:
                member.pulse = Pulse()
                member.looks += 1
                if member.looks * BEAT_S > limits.WORKER_START_S:
                    self._end(member, limits.WORKER_START_S)
            elif member.pulse.stands_still(self._beats(member)):
                member.pulse = Pulse()
                self._end(member, limits.WORKER_SILENT_S)

    def _end(self, member: Member, silent_s: float) -> None:
        assert member.process is not None
        if member.process.poll() is None:
            log.error("worker hangs", worker=member.number, silent_s=silent_s)
            member.process.kill()

    def stop(self) -> None:
        """Start no more of them; whoever calls this has told them to stop, or kills them."""
        self._over.set()
        self._all_serve.set()

    async def gone(self, by_s: float) -> None:
        """Wait until all are; those that are there by then, of the monotonic clock, are killed."""
        self.stop()
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=max(0.0, by_s - time.monotonic()))
        self.kill()
        if self._keeping:
            await asyncio.wait(self._keeping)

    def kill(self) -> None:
        """End all of them at once."""
        self._over.set()
        for member in self.members:
            if member.process is not None and member.process.poll() is None:
                member.process.kill()

    async def _keep(self, member: Member) -> None:
        """Have one worker run until all are to stop."""
        pause_s = PAUSE_S
        while not self._over.is_set():
            began_s = time.monotonic()
            status, reason = await self._try(member)
            self._on_dead(member)
            if self._over.is_set():
                return
            if not self._all_serve.is_set():
                self._refused = self._refused or f"worker {member.number} {reason}"
                self.stop()
                return
            if time.monotonic() - began_s >= LIVED_S:
                pause_s = PAUSE_S
            self.ended += 1
            log.error(
                "worker ended",
                worker=member.number,
                status=status,
                again_in_s=pause_s,
                reason=reason if status is None else _CUT,
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def _try(self, member: Member) -> tuple[int | None, str]:
        """One life of a worker: how its process ended, None if there was none; and for people."""
        try:
            return await self._live(member), "ended at its start"
        except Exception as error:  # noqa: BLE001 - no process, no memory, no file: the next has
            return None, f"cannot be started: {error}"

    async def _live(self, member: Member) -> int:
        """One life of a worker; returns how it ended."""
        brief = self._brief(member.number)
        ours, process = self._start(brief)

        async def hear(said: object) -> object:
            return await self._hear(member, brief, said)

        member.process, member.looks = process, 0
        try:
            member.control = await Control.over(ours, hear)
            if self._over.is_set():
                process.kill()  # it could not be told to stop yet, and has begun nothing
            await self._listen(member, member.control)
        finally:
            member.serves = False
            member.control = None
            # Whoever says no more is gone, or as good as that.
            status = await asyncio.to_thread(_wait, process)
        return status

    async def _listen(self, member: Member, control: Control) -> None:
        """Hear a worker until it is gone; what is not understood has been started."""
        try:
            await control.listen()
        except Exception:
            log.exception("worker not understood", worker=member.number)

    def _start(self, brief: Brief) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        """A process that will ask what it is to do, and our end of the way to it."""
        with contextlib.ExitStack() as closing:
            if brief.share is not None:
                closing.callback(os.close, brief.share.end)
            ours, theirs = socket.socketpair()
            closing.enter_context(theirs)
            given = [theirs.fileno(), brief.listener, brief.ledger]
            if brief.share is not None:
                given += [brief.share.end, brief.share.table]
            try:
                with child.unheard():
                    process = subprocess.Popen(  # noqa: S603 - ourselves
                        [*self._command, str(theirs.fileno()), str(os.getpid()), VERSION],
                        pass_fds=given,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                    )
            except BaseException:
                ours.close()
                raise
        return ours, process

    async def _hear(self, member: Member, brief: Brief, said: object) -> object:
        if isinstance(said, AskBrief):
            return self._renewed(brief)
        if isinstance(said, Snapshot):
            member.newest = said
        elif isinstance(said, Started):
            member.serves = True
            log.info(
                "worker started",
                worker=member.number,
                process=None if member.process is None else member.process.pid,
            )
            if self.serving == len(self.members):
                self._all_serve.set()
        elif isinstance(said, Refused):
            self._refused = said.reason
            if self._all_serve.is_set():
                log.error("worker cannot start", worker=member.number, reason=said.reason)
        elif isinstance(said, StoreEnded):
            self._on_store_ended(StoreFailed(said.reason))
        else:
            return await self._answer(said)
        return None

    async def _look_at(self, member: Member) -> None:
        if member.control is not None and member.serves:
            try:
                async with asyncio.timeout(ANSWER_S):
                    member.newest = await member.control.ask(AskSnapshot())
            except (StoreFailed, TimeoutError):
                return


_CUT: Final = "its connections were cut; the others go on"
END_S: Final = 5.0  # for what a worker does behind its last word: it writes its log


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
