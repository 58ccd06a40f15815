"""Looks at the leader that are shared, and answer nothing from memory.

Who comes while a look is under way shares the next one: none may share one that began before it
came, which may not see what was accepted since.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from pullstatus.errors import StoreUnavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Looks(Generic[K, V]):
    """Looks of one event loop at things of one kind."""

    def __init__(self, look: Callable[[K], V]) -> None:
        """Each is a call of `look`, in a thread; at one thing one at a time."""
        self._look = look
        self._wanted: dict[K, asyncio.Future[V]] = {}
        self._looking: dict[K, asyncio.Task[None]] = {}

    async def at(self, thing: K) -> V:
        """How a thing is, all that was committed before this call included."""
        future = self._wanted.get(thing)
        if future is None:
            future = self._wanted[thing] = asyncio.get_running_loop().create_future()
            if thing not in self._looking:
                self._looking[thing] = asyncio.create_task(self._go_on(thing))
        return await asyncio.shield(future)

    async def _go_on(self, thing: K) -> None:
        """Look, as long as somebody wants it."""
        while thing in self._wanted:
            await asyncio.sleep(0)  # what this turn of the loop brings shares it
            future = self._wanted.pop(thing)
            try:
                future.set_result(await asyncio.to_thread(self._look, thing))
            except asyncio.CancelledError:
                future.set_exception(StoreUnavailable("the store is closed"))
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
                future.set_exception(error)
                future.exception()  # perhaps nobody waits for it any more
        del self._looking[thing]

    async def close(self) -> None:
        """End what is under way."""
        for task in list(self._looking.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for future in self._wanted.values():
            future.set_exception(StoreUnavailable("the store is closed"))
            future.exception()
