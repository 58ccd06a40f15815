"""The store's process: works for the server that has started it, until it says so or is gone.

It commits what comes over the socket and reports what came of it. It outlives no server: the kernel
kills it with the one that has started it, so that a server started anew finds nobody at work.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from pullstatus.errors import StoreRefused
from pullstatus.store.gathering.committer import Committer
from pullstatus.store.gathering.frames import Frames, frame
from pullstatus.store.gathering.groups import NOTICE_S, Groups
from pullstatus.store.gathering.log import OpenLog
from pullstatus.store.gathering.messages import Asked, Told, read_asked, tell

_PR_SET_PDEATHSIG = 1  # prctl(2)


class _Connection:
    """The store process's end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self._frames: Frames[Asked] = Frames(read_asked)

    def first(self) -> OpenLog:
        """What opens the log: the first message there is, and nothing follows before an answer."""
        found: Sequence[OpenLog] = ()
        while not found:
            found = self.receive(NOTICE_S)
        return found[0]

    def receive(self, timeout_s: float) -> Sequence[Any]:
        """Messages that have come, or come in time; none while only a part of one has."""
        while self._poll.poll(1000 * timeout_s):
            count = self._end.recv_into(self._frames.free())
            if not count:
                raise EOFError
            if found := self._frames.arrived(count):
                return found
        return ()

    def send(self, told: Told) -> None:
        """Send a message, whatever its size."""
        parts = frame(tell(told))
        sent = self._end.sendmsg(parts)
        for part in parts:
            if sent < len(part):
                self._end.sendall(memoryview(part)[sent:])
            sent = max(0, sent - len(part))


# Sent to all of a group or a terminal; the server does what is due, and ends us when it ends.
_FOR_THE_SERVER = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)


def main() -> None:
    """Work for the server that has started this process, until it says so or is gone."""
    number, parent = int(sys.argv[1]), int(sys.argv[2])
    for due in _FOR_THE_SERVER:
        signal.signal(due, signal.SIG_IGN)
    _die_with(parent)
    connection = _Connection(socket.socket(fileno=number))
    try:
        try:
            committer = Committer(connection.first()())
        except StoreRefused as error:
            connection.send(error)
            return
        gc.collect()
        gc.freeze()  # what start-up has made never becomes garbage, so nobody need look through it
        connection.send(committer.opening())
        committer.work(Groups(connection.receive), connection.send)
        committer.close()
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
