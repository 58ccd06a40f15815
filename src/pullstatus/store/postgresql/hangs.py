"""Cuts a connection over which nothing comes for too long.

A server that was stopped, or whose machine hangs, keeps its connections open, and whoever waits for
its answer would wait for ever, though another has taken its place. So a thread looks, once a
second, whether the lane has waited for too long, and shuts its socket: it is a lost connection
then.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg.rows import TupleRow

from pullstatus import limits
from pullstatus.store.postgresql.session import Session

LOOK_S: Final = 1.0
HANGS_S: Final = float(limits.STORE_WAIT_S)  # as long as an operation waits for its turn


class Hangs:
    """Looks after one lane, until it is closed."""

    def __init__(self) -> None:
        """Nothing is waited for."""
        self._lock = threading.Lock()
        self._waits: tuple[Session, float] | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="store-hangs", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def watching(self, session: Session) -> Iterator[None]:
        """While the lane asks something over a session, and waits for the answer."""
        self._waits = session, time.monotonic()
        try:
            yield
        finally:
            with self._lock:  # from here on the session is not touched
                self._waits = None

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._closed.wait(LOOK_S):
            with self._lock:
                waits = self._waits
                if waits is None:
                    continue
                session, since_s = waits
                if time.monotonic() - max(since_s, session.heard_s) >= HANGS_S:
                    self._waits = None
                    shut(session.connection)


def shut(connection: psycopg.BaseConnection[TupleRow]) -> None:
    """Shut a connection's socket, so that whoever waits for it learns that it is lost."""
    with contextlib.suppress(OSError, psycopg.Error):  # it is closed already
        copy = socket.socket(fileno=os.dup(connection.fileno()))
        with copy:
            copy.shutdown(socket.SHUT_RDWR)
