"""A channel to a process of its own: for a server, whose interpreter is busy enough with HTTP.

    server's process                             store's process: `worker`
    event loop  -- frames of operations -->  socket  -->  commits groups
                <-- frames of reports -----

Two interpreters have two interpreter locks: commits and requests use two cores. If the store's
process ends, the outcome of what it was doing is unknown, and the server ends too.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from pullstatus.errors import OutcomeUnknown, StoreFailed, StoreRefused, StoreUnavailable
from pullstatus.store.gathering.committer import Report
from pullstatus.store.gathering.frames import Frames, frame
from pullstatus.store.gathering.log import OpenLog
from pullstatus.store.gathering.messages import END, Told, ask, ask_to_open, read_told
from pullstatus.store.gathering.operations import Operation

SOCKET_BYTES = 4 * 1024 * 1024  # some hundred full pages; a system may allow less
END_S = 30.0  # how long a store process may take to close its log
# -P: what lies in the folder we happen to be in is not for import.
_MAIN = ("-P", "-c", "from pullstatus.store.gathering.worker import main; main()")


class ProcessChannel(asyncio.BufferedProtocol):
    """A committer in a process that ends with the channel."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """For `open`; takes what it has made."""
        self._process = process
        self._frames: Frames[Told] = Frames(read_told)
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._on_report: Callable[[Report], None] | None = None
        self._early: list[Report] = []  # what came before `start`
        self._closing = False
        self._sent = 0  # operations without an answer
        self._newest: Report
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, open_log: OpenLog, held: Sequence[int] = ()) -> ProcessChannel:
        """Start a process that opens a log and commits to it.

        Args:
            open_log: called there.
            held: file descriptors that the process holds open as long as it lives.

        Raises:
            StoreRefused: by `open_log`.
        """
        request = frame(ask_to_open(open_log))
        ours, process = _start(held)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: cls(process), sock=ours)
        await channel.opened(request)
        return channel

    async def opened(self, request: Sequence[bytes]) -> None:
        """Ask for the log to be opened; if it can't be, the process is gone when this raises."""
        try:
            self._transport.writelines(request)
            await self._opened
        except BaseException:
            self._transport.abort()
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            raise

    def start(self, on_report: Callable[[Report], None]) -> None:
        """See `Channel.start`."""
        self._on_report = on_report
        for report in self._early:
            on_report(report)

    def send(self, operations: Sequence[Operation]) -> None:
        """See `Channel.send`."""
        self._sent += len(operations)
        if self._ended.done():
            self._answer_all(StoreUnavailable("the store takes no more work; restart the server"))
        elif not self._transport.is_closing():
            try:
                message = ask(operations)
            except Exception:
                # Reports answer in order: with these left out, others would get their answers.
                self._transport.abort()
                raise
            self._transport.writelines(frame(message))

    async def close(self) -> None:
        """See `Channel.close`."""
        self._closing = True
        if not self._transport.is_closing():
            self._transport.writelines(frame(END))
        await asyncio.shield(self._ended)  # whoever waits may give up
        try:
            await asyncio.to_thread(self._process.wait, END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    # -- what the transport calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process may be heard."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._frames.free()

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on every frame that is complete."""
        for report in self._frames.arrived(nbytes):
            if isinstance(report, BaseException):
                self._opened.set_exception(report)
                return
            if not self._opened.done():
                self._opened.set_result(None)
            self._sent -= len(report.answers)
            self._pass_on(report)

    def eof_received(self) -> None:
        """The process has ended."""

    def connection_lost(self, _error: Exception | None) -> None:
        """The process has ended: as it was told, or in the middle of its work."""
        if not self._opened.done():
            self._opened.set_exception(StoreRefused("the store's process ended at its start"))
        elif not self._opened.exception():
            if self._newest.failure is None and (self._sent or not self._closing):
                failure = StoreFailed("the store's process ended; restart the server")
                self._newest = msgspec.structs.replace(self._newest, failure=failure)
            self._answer_all(
                OutcomeUnknown("the store's process did not say whether a commit happened")
            )
        self._ended.set_result(None)

    def _answer_all(self, answer: BaseException) -> None:
        """Give this to whoever waits for the process that is no more."""
        answers, self._sent = [answer] * self._sent, 0
        self._pass_on(msgspec.structs.replace(self._newest, answers=answers, waiting={}))

    def _pass_on(self, report: Report) -> None:
        self._newest = report
        if self._on_report is None:
            self._early.append(report)
        else:
            self._on_report(report)


def _start(held: Sequence[int]) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A process that waits to be told what to open, and our end of the socket between us."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    with theirs:
        number = theirs.fileno()
        return ours, subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, *_MAIN, str(number), str(os.getpid())],
            pass_fds=[number, *held],
            stdin=subprocess.DEVNULL,
        )
