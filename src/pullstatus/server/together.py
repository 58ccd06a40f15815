"""Work that many may ask for at a time, done once for all of them.

    asks    1 2 2 2 2    3 3
    done    |--1--||--2--||--3--|

Who asks while it is being done shares the next with all who do: nobody is told what was found
before he asked, and however many ask, no more than one is at work and one waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Together(Generic[T]):
    """`await together()`: what the work comes to, begun since one asked for it."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        """Nobody has asked for `work`."""
        self._work = work
        self._begun: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Raises what the work does; whoever asks no longer takes it from nobody else."""
        if self._next is None or self._next.done():
            self._next = asyncio.create_task(self._after(self._begun))
        return await asyncio.shield(self._next)

    async def _after(self, before: asyncio.Task[T] | None) -> T:
        if before is not None and not before.done():
            await asyncio.wait({before})
        self._begun, self._next = self._next, None
        return await self._work()
