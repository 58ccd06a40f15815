"""A lane to a process of its own: the server's, whose interpreter is busy enough with HTTP.

    server process                               store process
    event loop  -- frames of operations -->  socket  -->  commits groups
                <-- frames of words -------                (`main`)

Two interpreters have two interpreter locks: commits and requests use two cores. A frame is a
length, then a pickle: each process believes the other, since the server has started the store
process and nobody else holds an end of their socket.

Either ends when the other does. The store process is killed with the server, so that a server
started anew finds nobody at work; if the store process ends, the outcome of what it was doing is
unknown, and the server ends too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from pullstatus.errors import OutcomeUnknown, StoreFailed, StoreRefused, StoreUnavailable
from pullstatus.store.sqlite.committer import GROUP_MAX, NOTICE_S, Committer, Word
from pullstatus.store.sqlite.opening import open_log
from pullstatus.store.sqlite.operations import Operation
from pullstatus.store.sqlite.place import has_room

SOCKET_BYTES = 4 * 1024 * 1024  # some hundred full pages; a system may allow less
END_S = 30.0  # how long a store process may take to fold its log when it is closed
BUFFER_BYTES = 1024 * 1024
_LENGTH = struct.Struct("<Q")
# -P: what lies in the folder we happen to be in is not for import.
_MAIN = ("-P", "-c", f"from {__name__} import main; main()")
_PR_SET_PDEATHSIG = 1  # prctl(2)


# -- the server's side -----------------------------------------------------------------------------


class ProcessLane(asyncio.BufferedProtocol):
    """A committer in a process that ends with the lane."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """For `open`; takes what it has made."""
        self._process = process
        self._frames = _Frames()
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[Word] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._told: Callable[[Word], None] | None = None
        self._early: list[Word] = []  # what was said before anybody listened
        self._closing = False
        self._sent = 0  # operations without an answer
        self._newest: Word | None = None
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, path: Path, held: Sequence[int]) -> tuple[ProcessLane, Word]:
        """Start a process that opens the file at `path`; also returns its first word.

        Args:
            held: file descriptors that the process holds open as long as it lives.

        Raises:
            StoreRefused: the file is not safe to use.
        """
        ours, process = _start(path, held)
        loop = asyncio.get_running_loop()
        _, lane = await loop.create_unix_connection(lambda: cls(process), sock=ours)
        return lane, await lane.opened()

    async def opened(self) -> Word:
        """The first word, once the file is open; the process is gone if it can't be."""
        try:
            return await self._first
        except BaseException:
            self._transport.abort()
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            raise

    def start(self, told: Callable[[Word], None]) -> None:
        """See `Lane.start`."""
        self._told = told
        for word in self._early:
            told(word)

    def send(self, operations: Sequence[Operation]) -> None:
        """See `Lane.send`."""
        self._sent += len(operations)
        if self._ended.done():
            self._answer_all(StoreUnavailable("the store takes no more work; restart the server"))
        elif not self._transport.is_closing():
            self._transport.writelines(_frame(operations))

    async def close(self) -> None:
        """See `Lane.close`."""
        self._closing = True
        if not self._transport.is_closing():
            self._transport.writelines(_frame(None))
        await self._ended
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
        for word in self._frames.arrived(nbytes):
            if isinstance(word, BaseException):
                self._first.set_exception(word)
                return
            self._newest = word
            if not self._first.done():
                self._first.set_result(word)
            elif self._told is None:
                self._early.append(word)
            else:
                self._sent -= len(word.answers)
                self._told(word)

    def eof_received(self) -> None:
        """The process has ended."""

    def connection_lost(self, _error: Exception | None) -> None:
        """The process has ended: as it was told, or in the middle of its work."""
        if not self._first.done():
            self._first.set_exception(StoreRefused("the store's process ended at its start"))
        elif self._newest is not None:
            if self._newest.failure is None and (self._sent or not self._closing):
                failure = StoreFailed("the store's process ended; restart the server")
                self._newest = msgspec.structs.replace(self._newest, failure=failure)
            self._answer_all(
                OutcomeUnknown("the store's process did not say whether a commit happened")
            )
        self._ended.set_result(None)

    def _answer_all(self, answer: BaseException) -> None:
        """Give this to whoever waits for the process that is no more."""
        if self._told is not None and self._newest is not None:
            answers, self._sent = [answer] * self._sent, 0
            self._told(msgspec.structs.replace(self._newest, answers=answers, waiting={}))


def _start(path: Path, held: Sequence[int]) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A process for the file at `path`, and our end of the socket between us."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    with theirs:
        number = theirs.fileno()
        return ours, subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, *_MAIN, str(number), str(os.getpid()), str(path)],
            pass_fds=[number, *held],
            stdin=subprocess.DEVNULL,
        )


class _Frames:
    """Bytes as they come, cut into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray(BUFFER_BYTES)
        self._size = 0

    def free(self) -> memoryview:
        """Room for the next bytes."""
        return memoryview(self._buffer)[self._size :]

    def arrived(self, count: int) -> list[Any]:
        """The frames that are complete with `count` more bytes."""
        self._size += count
        found = []
        start = 0
        with memoryview(self._buffer) as view:
            while self._size - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(view, start)
                end = start + _LENGTH.size + length
                if end > self._size:
                    break
                found.append(pickle.loads(view[start + _LENGTH.size : end]))  # noqa: S301 - ours
                start = end
        self._make_room(start)
        return found

    def _make_room(self, start: int) -> None:
        """Move what is left to the front of a buffer that the next frame fits in."""
        left = self._size - start
        due = BUFFER_BYTES
        if left >= _LENGTH.size:
            due = max(due, _LENGTH.size + _LENGTH.unpack_from(self._buffer, start)[0])
        if due > len(self._buffer) or len(self._buffer) > due == BUFFER_BYTES:
            # A new one: the transport still has a view of this one.
            rest = self._buffer[start : self._size]
            self._buffer = bytearray(due)
            self._buffer[:left] = rest
        elif start:
            self._buffer[:left] = self._buffer[start : self._size]
        self._size = left


def _frame(content: object) -> tuple[bytes, bytes]:
    data = pickle.dumps(content, protocol=5)
    return _LENGTH.pack(len(data)), data


# -- the store's side ------------------------------------------------------------------------------


class _Channel:
    """The store process's end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._frames = _Frames()
        self._arrived: list[Sequence[Operation] | None] = []

    def say(self, word: object) -> None:
        if word is not None:
            frame = _frame(word)
            sent = self._end.sendmsg(frame)
            for part in frame:
                self._end.sendall(memoryview(part)[sent:])
                sent = max(0, sent - len(part))

    def next_group(self) -> list[Operation] | None:
        """What has gathered; empty if nothing came for a while; None at the end."""
        if not self._arrived and not self._receive(NOTICE_S):
            return []
        while len(self._arrived) < GROUP_MAX and self._receive(0):
            pass
        group: list[Operation] = []
        while self._arrived and len(group) < GROUP_MAX:
            if self._arrived[0] is None:
                return group or None
            group += self._arrived.pop(0) or []
        return group

    def _receive(self, timeout_s: float) -> bool:
        """Take what has come, or comes in time; False if nothing has."""
        if not select.select([self._end], [], [], timeout_s)[0]:
            return False
        count = self._end.recv_into(self._frames.free())
        if not count:
            raise EOFError
        self._arrived += self._frames.arrived(count)
        return True


def _serve(channel: _Channel, committer: Committer) -> None:
    while (group := channel.next_group()) is not None:
        if group:
            channel.say(committer.commit(group))
            channel.say(committer.tend())
        else:
            channel.say(committer.watch())
    committer.close()


def main() -> None:
    """Work for the server that has started this process, until it says so or is gone."""
    number, parent, path = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    for interruption in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interruption, signal.SIG_IGN)  # the server is told the same, and ends us
    _die_with(parent)
    channel = _Channel(socket.socket(fileno=number))
    try:
        committer = Committer(open_log(path, server=True), lambda: has_room(path))
    except StoreRefused as error:
        channel.say(error)
        return
    gc.collect()
    gc.freeze()  # what start-up has made never becomes garbage, so nobody need look through it
    try:
        channel.say(committer.first())
        _serve(channel, committer)
    except (EOFError, ConnectionError):
        # The server is gone. The log stays as it is for the next start, which an orderly exit of
        # the interpreter would have SQLite fold.
        os._exit(1)


def _die_with(parent: int) -> None:
    """Be killed when the process that started this one ends, however it does."""
    with contextlib.suppress(AttributeError):  # not Linux: the end of the socket will do
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
