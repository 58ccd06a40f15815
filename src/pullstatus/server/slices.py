"""Long work of an event loop, done in slices of half a millisecond, one in each round of the loop.

A small batch is read at once. A large one takes a millisecond, and one that has to be looked at
record by record may take a tenth of a second, and of such there may be many: between two slices
everybody else has a round, and who has several of them at work has one slice in turn with other
owners, not one for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from time import perf_counter
from typing import TypeVar

from pullstatus import limits
from pullstatus.steps import Steps
from pullstatus.turns import Turns

T = TypeVar("T")


class Slices:
    """What is being done in slices on one event loop."""

    def __init__(self, clock_s: Callable[[], float] = perf_counter) -> None:
        """Nothing is. `clock_s` tells how long slices take."""
        self._clock_s = clock_s
        self._waiting: Turns[asyncio.Future[None]] = Turns()

    def in_one(self, steps: Steps[T]) -> T | None:
        """What the work returns if it is done within a slice; None: it is not, and is left."""
        end = self._slice(steps)
        if end is None:
            steps.close()
            return None
        result: T = end.value
        return result

    async def do(self, steps: Steps[T], owner: Hashable, *, long: bool = False) -> T:
        """What the work returns; short work is done at once.

        Args:
            owner: whose it is.
            long: it is known to take a good part of a slice, so it waits for its turn.
        """
        if long:
            await self._turn(owner)
        while (end := self._slice(steps)) is None:
            await self._turn(owner)
        result: T = end.value
        return result

    def _slice(self, steps: Steps[T]) -> StopIteration | None:
        """Go on with it for a slice; its end, if that has come, which has what it returns."""
        until = self._clock_s() + limits.SLICE_S
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end
            if self._clock_s() >= until:
                return None

    async def _turn(self, owner: Hashable) -> None:
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._next, loop)
        self._waiting.push(owner, turn)
        await turn

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        turn = self._waiting.pop()
        if not turn.done():  # who waited for it may have been cancelled
            turn.set_result(None)
        if self._waiting:
            loop.call_soon(self._next, loop)
