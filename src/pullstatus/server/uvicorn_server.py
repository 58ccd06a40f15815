"""uvicorn's server, with a sweep of deadlines and a stop that leaves no request unanswered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import cast

import uvicorn

from pullstatus.server.connection import Connection, Connections
from pullstatus.server.crowd import Seat
from pullstatus.server.listener import Listener
from pullstatus.server.routes import Routes
from pullstatus.server.schedule import Schedule

Make = Callable[[uvicorn.Config, Seat], Connection]
"""A connection as a configuration has it."""

SWEEP_S = 1.0
IDLE_GRACE_S = 0.5  # on stopping: how long a quiet connection may still bring a request


class UvicornServer(uvicorn.Server):
    """One run of uvicorn; `on_started` is called once it accepts connections."""

    def __init__(
        self, config: uvicorn.Config, routes: Routes, listeners: Callable[[Make], list[Listener]]
    ) -> None:
        """Serve `routes` by `config`; `routes` is not ready any more once a stop begins.

        Args:
            listeners: makes what to accept connections with, for protocols that are made so.
        """
        super().__init__(config)
        self.server_state: Connections = Connections(routes.figures)
        self.on_started: Callable[[], None] = lambda: None
        self._routes = routes
        self._make_listeners = listeners
        self._listeners: list[Listener] = []
        self._schedule: Schedule
        self._swept = 0.0
        self._drain_by_s = 0.0

    def stop(self, drain_by_s: float) -> None:
        """Begin to stop; connections that are open at that (monotonic) time are cut."""
        self._routes.held.end()
        self._drain_by_s = drain_by_s
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs the server.

        uvicorn's own raises them again, which would end us before the store is closed.
        """
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, and say so.

        Not uvicorn's own, which leaves accepting to the event loop.
        """
        assert sockets is None
        self._schedule = Schedule(asyncio.get_running_loop(), self._routes.owner)
        self._listeners = self._make_listeners(self._connection)
        for listener in self._listeners:
            listener.start()
        self.started = True
        self.on_started()

    def _connection(self, config: uvicorn.Config, seat: Seat) -> Connection:
        application: object = config.app  # that of the other listener knows no such calls
        return Connection(
            config,
            self.server_state,
            {},
            asyncio.get_running_loop(),
            seat=seat,
            budget=self._routes.budget,
            schedule=self._schedule,
            at_once=self._routes.at_once if application is self._routes else None,
        )

    async def on_tick(self, counter: int) -> bool:
        """Look after the deadlines, about once a second."""
        now = asyncio.get_running_loop().time()
        if now - self._swept >= SWEEP_S:
            self._swept = now
            for connection in self._connections():
                connection.sweep(now)
            for listener in self._listeners:
                listener.tell()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what comes on open connections with a last answer each, then close them.

        Not uvicorn's own, which begins to count the time to stop anew.
        """
        assert sockets is None
        self._routes.ready = False
        for listener in self._listeners:
            listener.close()
        loop = asyncio.get_running_loop()
        while (connections := self._connections()) and not self.force_exit:
            if time.monotonic() > self._drain_by_s:
                break
            for connection in connections:
                connection.sweep(loop.time())
                connection.drain(loop.time(), IDLE_GRACE_S)
            await asyncio.sleep(0.02)
        for connection in self._connections():
            connection.cut()

    def _connections(self) -> list[Connection]:
        return cast("list[Connection]", list(self.server_state.connections))
