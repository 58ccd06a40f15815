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
from typing import Any

from pullstatus.errors import StoreRefused
from pullstatus.store.gathering.committer import GROUP_MAX, NOTICE_S, Committer
from pullstatus.store.gathering.frames import Frames, frame
from pullstatus.store.gathering.log import OpenLog
from pullstatus.store.gathering.operations import Operation

_PR_SET_PDEATHSIG = 1  # prctl(2)


class _Connection:
    """The store process's end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self._frames = Frames()
        self._arrived: list[Any] = []  # groups of operations, None at the end

    def first(self) -> OpenLog:
        """What opens the log: the first message there is."""
        while not self._arrived:
            self._receive(NOTICE_S)
        open_log: OpenLog = self._arrived.pop(0)
        return open_log

    def send(self, message: object) -> None:
        if message is not None:
            parts = frame(message)
            sent = self._end.sendmsg(parts)
            for part in parts:
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
        if not self._poll.poll(1000 * timeout_s):
            return False
        count = self._end.recv_into(self._frames.free())
        if not count:
            raise EOFError
        self._arrived += self._frames.arrived(count)
        return True


def _serve(connection: _Connection, committer: Committer) -> None:
    while (group := connection.next_group()) is not None:
        if group:
            connection.send(committer.commit(group))
            connection.send(committer.tend())
        else:
            connection.send(committer.watch())
    committer.close()


# Sent to all of a group or a terminal; the server does what is due, and ends us when it ends.
_FOR_THE_SERVER = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
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
        _serve(connection, committer)
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
