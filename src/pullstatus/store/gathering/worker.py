"""The store's process: works for the server that has started it, until it says so or is gone.

It commits what comes over the socket and reports what came of it. It outlives no server: the kernel
kills it with the one that has started it, so that a server started anew finds nobody at work.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
from collections.abc import Sequence
from typing import Any

from pullstatus import child
from pullstatus.errors import PullstatusError
from pullstatus.store.gathering.committer import NOTICE_S, Committer
from pullstatus.store.gathering.frames import Frames, frame
from pullstatus.store.gathering.groups import Groups
from pullstatus.store.gathering.hub import Hub
from pullstatus.store.gathering.log import OpenLog
from pullstatus.store.gathering.messages import Asked, Told, read_asked, tell
from pullstatus.store.gathering.waiting import WaitingTable


class _Connection:
    """The store process's end of the socket, `end`."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
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
            count = self.end.recv_into(self._frames.free())
            if not count:
                raise EOFError
            if found := self._frames.arrived(count):
                return found
        return ()

    def send(self, told: Told) -> None:
        """Send a message, whatever its size."""
        parts = frame(tell(told))
        sent = self.end.sendmsg(parts)
        for part in parts:
            if sent < len(part):
                self.end.sendall(memoryview(part)[sent:])
            sent = max(0, sent - len(part))


def main() -> None:
    """Work for the server that has started this process, until it says so or is gone."""
    number, parent, *shared = map(int, sys.argv[1:])
    child.begin(parent)
    connection = _Connection(socket.socket(fileno=number))
    try:
        try:
            committer = Committer(connection.first()())
        except PullstatusError as error:
            connection.send(error)
            return
        gc.collect()
        gc.freeze()  # what start-up has made never becomes garbage, so nobody need look through it
        if shared:
            door, table = shared
            written = WaitingTable(table, writes=True)
            Hub(committer, connection.end, socket.socket(fileno=door), written).work()
        else:
            connection.send(committer.opening())
            committer.work(Groups(connection.receive), connection.send)
        committer.close()
    except (EOFError, ConnectionError):
        # The server is gone. The log stays as it is for the next start, which an orderly exit of
        # the interpreter would have SQLite fold.
        os._exit(1)
