"""Redis: a list per queue. RPUSH and LPOP are atomic, and with AOF `always` durable.

Whatever is asked for within one turn of the loop leaves in one write, as clients with implicit
pipelining do it: one system call for many commands, and Redis syncs once for all it reads at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from importlib import import_module
from typing import Any, cast

from bench.peers.backend import Taken


class RedisLists:
    """See `Backend`. The address is the path of a socket."""

    _connection: Pipelined

    async def open(self, address: str) -> None:
        """Connect."""
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_unix_connection(Pipelined, address)

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        """One command for all."""
        await self._connection.call("RPUSH", queue, *entries)

    async def take(self, queue: str, count: int) -> Taken:
        """One command."""
        entries = await self._connection.call("LPOP", queue, count) or []
        return len(entries), b",".join(entries)


class Pipelined(asyncio.Protocol):
    """One connection; commands and replies are in one order."""

    def __init__(self) -> None:
        self._hiredis = import_module("hiredis")
        self._reader = self._hiredis.Reader()
        self._commands: list[bytes] = []
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport

    def call(self, *command: str | bytes | int) -> asyncio.Future[Any]:
        """The reply to a command, once it is there."""
        if not self._commands:
            self._loop.call_soon(self._send)
        self._commands.append(self._hiredis.pack_command(command))
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(reply)
        return reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone, and with it what was asked."""
        while self._waiting:
            self._settle(error or ConnectionError("Redis closed the connection"))

    def data_received(self, data: bytes) -> None:
        """A piece of the replies."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self._settle(reply)

    def _send(self) -> None:
        self._transport.writelines(self._commands)
        self._commands = []

    def _settle(self, reply: object) -> None:
        waiting = self._waiting.popleft()
        if waiting.done():  # whoever waited has gone
            return
        if isinstance(reply, Exception):
            waiting.set_exception(reply)
        else:
            waiting.set_result(reply)
