"""The HTTP client of whoever asks, and when it is exchanged for a new one.

    after a fork                 two processes that write on one connection mix their calls up
    in another event loop        connections work on their own loop alone
    behind an exception from     it may have come while a lock of the HTTP library was held, and
    outside, such as a signal's  nobody lets go of that

What is exchanged is not closed: to close says good-bye on the parent's connections, or waits for
that lock. A closed one stays: so is the client, wherever it is used.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import httpx

__all__ = ["Connections"]

H = TypeVar("H", httpx.Client, httpx.AsyncClient)

_exchanging = threading.RLock()  # of all clients; a signal's handler may pull, too


def _renew_lock() -> None:
    """In a forked process: another thread of the parent may have had it."""
    global _exchanging  # noqa: PLW0603 - one of this process
    _exchanging = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew_lock)


class Connections(Generic[H]):
    """What one client asks through; usable from several threads.

    Attributes:
        http: what is there; whoever asks takes `mine`.
        process: whose it is.
    """

    def __init__(self, open_new: Callable[[], H], forked: Callable[[], None]) -> None:
        """Open the first. `forked` is called once in a forked process, before anything is asked."""
        self._open: Callable[[], H] = open_new
        self._forked = forked
        self._left: H | None = None
        self._usable = True
        self._loop: object = None
        self.http: H = open_new()
        self.process = os.getpid()

    def mine(self, loop: object = None) -> H:
        """That of this process, and of this event loop."""
        if not self._is_mine(loop):
            with _exchanging:
                if not self._is_mine(loop):  # else another thread was faster
                    self._exchange(loop)
        return self.http

    def abandon(self) -> None:
        """Have the next caller ask through a new one."""
        self._usable = False

    def _is_mine(self, loop: object) -> bool:
        here = self.process == os.getpid() and self._loop is loop and self._usable
        return here or self.http.is_closed

    def _exchange(self, loop: object) -> None:
        in_child = self.process != os.getpid()
        if in_child or not self._usable or self._loop is not None:
            opened = self._open()
            if in_child:
                self._forked()
            self._left = self.http  # kept, or its sockets would be closed with a warning
            self.http = opened
        self._loop = loop
        # Last: until then other threads wait for the lock.
        self.process, self._usable = os.getpid(), True
