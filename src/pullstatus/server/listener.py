"""Accepts connections: as many as there is room for, counted from before their TLS handshake on.

The event loop's own servers accept whatever comes and count nothing; out of descriptors, they close
what they have just accepted, and tell nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable

import structlog

from pullstatus import limits
from pullstatus.server.crowd import Crowd, Full, Seat

log = structlog.get_logger(__name__)

AT_ONCE = 64  # connections accepted before others get their turn
PAUSE_S = 0.2  # how long nothing is accepted when the system has no room for more
SHUTDOWN_S = (
    86_400.0  # of TLS: a connection has deadlines of its own, and knows who goes on reading
)
TELL_S = 60.0  # how often the log tells of refused connections
HANDSHAKE = "handshake"
REFUSALS = (*map(str, Full), HANDSHAKE)
"""Why a connection is not served."""
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """One address that is listened on."""

    def __init__(
        self,
        listening: socket.socket,
        crowd: Crowd,
        make: Callable[[Seat], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        """Nothing is accepted yet: see `start`.

        Args:
            listening: does so already; closed by `close`.
            crowd: says who may come.
            make: what a connection is spoken with; it leaves the seat when its connection is lost.
            at_once: how many connections are accepted before others get their turn.
        """
        self._at_once = at_once
        self._socket = listening
        self._crowd = crowd
        self._make = make
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._told_at_s = -TELL_S
        self._told = 0
        self._handshakes_failed = 0

    @property
    def connections(self) -> int:
        """How many there are, handshakes included."""
        return self._crowd.count

    @property
    def refused(self) -> dict[str, int]:
        """How many were not served, by each of `REFUSALS`."""
        return {**self._crowd.refused, HANDSHAKE: self._handshakes_failed}

    def start(self) -> None:
        """Accept from now on."""
        self._socket.settimeout(0)
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Accept nothing more; who has not spoken HTTP yet is cut off."""
        if self._resume is not None:
            self._resume.cancel()
        if self._socket.fileno() != -1:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        for task in self._tasks:
            task.cancel()

    def tell(self) -> None:
        """Tell the log of connections that were refused, once a minute; to be called often."""
        refused = sum(self._crowd.refused.values())
        if refused == self._told or self._loop.time() - self._told_at_s < TELL_S:
            return
        log.warning(
            "connections refused",
            count=refused - self._told,
            connections=self._crowd.count,
            since_start=dict(self._crowd.refused),
        )
        self._told, self._told_at_s = refused, self._loop.time()

    def _accept(self) -> None:
        for _ in range(self._at_once):
            try:
                accepted, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                self._pause(error)
                return
            seat = self._crowd.enter(peer[0])
            if seat is None:
                accepted.close()
                continue
            task = self._loop.create_task(self._begin(accepted, seat))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _begin(self, accepted: socket.socket, seat: Seat) -> None:
        accepted.settimeout(0)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handshake_s = None if self._tls is None else limits.HEADER_DEADLINE_S
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._make(seat),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=handshake_s,
                ssl_shutdown_timeout=None if self._tls is None else SHUTDOWN_S,
            )
        except BaseException as error:
            accepted.close()
            seat.leave()
            self._handshakes_failed += 1
            if not isinstance(error, OSError | asyncio.CancelledError):
                raise

    def _pause(self, error: OSError) -> None:
        """Wait until something is closed: what is not accepted waits in the kernel."""
        log.error("cannot accept connections", reason=error.strerror, connections=self._crowd.count)
        self._loop.remove_reader(self._socket)
        self._resume = self._loop.call_later(PAUSE_S, self.start)


LISTEN_BACKLOG = 2048  # connections that the kernel keeps for us until they are accepted


def bind(host: str, port: int) -> socket.socket:
    """A socket that has its address, and does not listen yet.

    Raises:
        OSError: the address is in use, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    with contextlib.ExitStack() as undo:
        undo.callback(listening.close)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        undo.pop_all()
    return listening
