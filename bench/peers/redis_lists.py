"""Redis: a list per queue. RPUSH and LPOP are atomic, and with AOF `always` durable."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any


class RedisLists:
    """See `Backend`. The address is the path of a socket."""

    _redis: Any

    async def open(self, address: str) -> None:
        """Connect."""
        self._redis = import_module("redis.asyncio").Redis(unix_socket_path=address)
        await self._redis.ping()

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        """One command for all."""
        await self._redis.rpush(queue, *entries)

    async def take(self, queue: str, count: int) -> list[bytes]:
        """One command."""
        return await self._redis.lpop(queue, count) or []
