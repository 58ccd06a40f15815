"""A channel to a process of its own: for a server, whose interpreter is busy enough with HTTP.

    server's process                             store's process: `worker`
    event loop  -- frames of operations -->  socket  -->  commits groups
                <-- frames of reports -----

Two interpreters have two interpreter locks: commits and requests use two cores. If the store's
process ends, the outcome of what it was doing is unknown, and the server ends too.

Further processes of the same server, its workers, join it there with channels of their own (`hub`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from pullstatus import child
from pullstatus.errors import OutcomeUnknown, StoreFailed, StoreRefused, StoreUnavailable
from pullstatus.store.gathering.committer import Report
from pullstatus.store.gathering.frames import Frames, frame
from pullstatus.store.gathering.log import OpenLog
from pullstatus.store.gathering.messages import (
    END,
    Told,
    Watch,
    ask,
    ask_to_open,
    ask_to_watch,
    read_told,
)
from pullstatus.store.gathering.operations import Operation
from pullstatus.store.gathering.waiting import WaitingTable, make_table
from pullstatus.store.values import Share

SOCKET_BYTES = 4 * 1024 * 1024  # some hundred full pages; a system may allow less
END_S = 30.0  # how long a store process may take to commit what waits, and to close its log
# -P: what lies in the folder we happen to be in is not for import.
_MAIN = ("-P", "-c", "from pullstatus.store.gathering.worker import main; main()")


class _SocketChannel(asyncio.BufferedProtocol):
    """A committer in another process, at the far end of a socket."""

    def __init__(self) -> None:
        """Nothing is sent yet: see `opened`."""
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

    async def opened(self) -> None:
        """Wait until the log is open; raises why it is not."""
        await self._opened

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
        """See `Channel.close`. What has no answer in time has none."""
        self._closing = True
        if not self._transport.is_closing():
            self._transport.writelines(frame(END))
        done, _ = await asyncio.wait((self._ended,), timeout=END_S)  # whoever waits may give up
        if not done:
            self._transport.abort()
            await asyncio.shield(self._ended)

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


class ProcessChannel(_SocketChannel):
    """A committer in a process that ends with the channel."""

    def __init__(self, process: subprocess.Popen[bytes], shared: _Shared | None) -> None:
        """For `open`; takes what it has made."""
        super().__init__()
        self._process = process
        self._shared = shared

    @classmethod
    async def open(
        cls, open_log: OpenLog, held: Sequence[int] = (), *, shared: bool = False
    ) -> ProcessChannel:
        """Start a process that opens a log and commits to it.

        Args:
            open_log: called there.
            held: file descriptors that the process holds open as long as it lives.
            shared: further processes will commit there: see `share`. What waits is then told by
                `table`, and only now and then by reports.

        Raises:
            StoreRefused: by `open_log`, or its process ended without a word.
            PullstatusError: any other that `open_log` raises.
        """
        request = frame(ask_to_open(open_log))
        memory = _Shared() if shared else None
        ours, process = _start(held, memory)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: cls(process, memory), sock=ours)
        await channel.begin(request)
        return channel

    async def begin(self, request: Sequence[bytes]) -> None:
        """Ask for the log to be opened; if it can't be, the process is gone when this raises."""
        try:
            self._transport.writelines(request)
            await self.opened()
        except BaseException:
            self._transport.abort()
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._release()
            raise

    @property
    def table(self) -> WaitingTable:
        """What waits, of a channel that is shared."""
        assert self._shared is not None
        return self._shared.table

    def share(self, sharers: int) -> Share:
        """What another process of this server joins by: see `JoinedChannel`."""
        assert self._shared is not None
        ours, theirs = _ends()
        with theirs:
            socket.send_fds(self._shared.door, [b"."], [theirs.fileno()])
        return Share(ours.detach(), self._shared.descriptor, sharers)

    async def close(self) -> None:
        """See `Channel.close`."""
        due_s = self._loop.time() + END_S
        await super().close()
        try:
            await asyncio.to_thread(self._process.wait, max(0.0, due_s - self._loop.time()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._release()

    def _release(self) -> None:
        if self._shared is not None:
            self._shared.close()


class JoinedChannel(_SocketChannel):
    """A committer that the server has started and shares with this process."""

    def __init__(self, table: WaitingTable) -> None:
        """For `join`."""
        super().__init__()
        self.table = table

    @classmethod
    async def join(cls, share: Share) -> JoinedChannel:
        """Begin to use what `ProcessChannel.share` has made.

        Raises:
            StoreRefused: the committer is gone.
        """
        loop = asyncio.get_running_loop()
        table = WaitingTable(share.table)
        end = socket.socket(fileno=share.end)
        _, channel = await loop.create_unix_connection(lambda: cls(table), sock=end)
        await channel.opened()
        return channel

    def watch(self, watch: Watch) -> None:
        """Be told, from now on or no more, when something waits in a mailbox."""
        if not self._transport.is_closing():
            self._transport.writelines(frame(ask_to_watch(watch)))


class _Shared:
    """What a server holds so that further processes may commit where it does.

    Attributes:
        descriptor, table: what waits, by an open file and to be read.
        door: where ends of further ones are sent through.
        other_side: of the door; for the process that commits.
    """

    def __init__(self) -> None:
        self.descriptor = make_table()
        self.table = WaitingTable(self.descriptor)
        self.door, self.other_side = socket.socketpair()

    def close(self) -> None:
        self.door.close()
        self.table.close()
        os.close(self.descriptor)


def _ends() -> tuple[socket.socket, socket.socket]:
    """The two ends of a way that frames go."""
    ends = socket.socketpair()
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    return ends


def _start(
    held: Sequence[int], shared: _Shared | None
) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A process that waits to be told what to open, and our end of the socket between us."""
    with contextlib.ExitStack() as theirs:
        ours, end = _ends()
        theirs.enter_context(end)
        given = [end.fileno()]
        if shared is not None:
            given += [theirs.enter_context(shared.other_side).fileno(), shared.descriptor]
        number, *more = map(str, given)
        with child.unheard():
            return ours, subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, *_MAIN, number, str(os.getpid()), *more],
                pass_fds=[*given, *held],
                stdin=subprocess.DEVNULL,
            )
