"""Looks at the cluster that are shared, and answer nothing from memory.

Whoever comes while a look is under way shares the next one, at whatever else is wanted by then:
none may share one that began before it came, which may not see what was accepted since.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from pullstatus.errors import StoreUnavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Look = Callable[[Sequence[K]], Mapping[K, V | Exception]]


class Looks(Generic[K, V]):
    """Looks of one event loop at things of one kind."""

    def __init__(
        self, look: Look[K, V], place_of: Callable[[K], Hashable] = lambda _thing: None
    ) -> None:
        """Each is a call of `look`, in a thread; at things of one place one at a time."""
        self._look = look
        self._place_of = place_of
        self._wanted: dict[Hashable, dict[K, asyncio.Future[V]]] = {}
        self._looking: dict[Hashable, asyncio.Task[None]] = {}

    async def at(self, thing: K) -> V:
        """How a thing is, all that was committed before this call included."""
        place = self._place_of(thing)
        wanted = self._wanted.setdefault(place, {})
        future = wanted.get(thing)
        if future is None:
            future = wanted[thing] = asyncio.get_running_loop().create_future()
            if place not in self._looking:
                self._looking[place] = asyncio.create_task(self._go_on(place))
        return await asyncio.shield(future)

    async def _go_on(self, place: Hashable) -> None:
        """Look, as long as somebody wants it."""
        while place in self._wanted:
            await asyncio.sleep(0)  # what this turn of the loop brings shares it
            wanted = self._wanted.pop(place)
            try:
                told = await asyncio.to_thread(self._look, list(wanted))
            except asyncio.CancelledError:
                _refuse(wanted.values(), StoreUnavailable("the store is closed"))
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
                _refuse(wanted.values(), error)
                continue
            for thing, future in wanted.items():
                found = told[thing]
                if isinstance(found, Exception):
                    _refuse([future], found)
                else:
                    future.set_result(found)
        del self._looking[place]

    async def close(self) -> None:
        """End what is under way."""
        for task in list(self._looking.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for wanted in self._wanted.values():
            _refuse(wanted.values(), StoreUnavailable("the store is closed"))


def _refuse(futures: Iterable[asyncio.Future[V]], error: Exception) -> None:
    for future in futures:
        future.set_exception(error)
        future.exception()  # perhaps nobody waits for it any more
