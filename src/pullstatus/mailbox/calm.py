"""When there is time for what nobody waits for: while the store and this process have little to do.

    busy      commits take half of the time, or this process is at work for three quarters: wait
    calm      go on, for a few ms at a time, so that a request hardly notices

A low priority is no such thing: both cores are full under a flood, and whoever runs beside it takes
a third of the batches.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

SLICE_S: Final = 0.002  # of work, then it is everybody else's turn
LOOK_S: Final = 0.1  # of which it is asked how busy they were
COMMITS_MAX: Final = 0.5  # of the time
PROCESS_MAX: Final = 0.75  # of the time, beside what is done here
BEHIND_S_MAX: Final = 3600.0
"""Who is so far behind goes on whatever the load is, a slice for each look: retention waits for it,
and the disk has an end."""


class Calm:
    """Says when to go on; for one event loop."""

    def __init__(
        self,
        commit_s: Callable[[], Awaitable[float]],
        clock: Callable[[], float],
        process_s: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nobody has looked yet.

        Args:
            commit_s: seconds that were spent in commits until now.
            clock: of seconds, monotonic.
            process_s: seconds that this process was at work until now.
        """
        self._commit_s, self._process_s = commit_s, process_s
        self._clock, self._sleep = clock, sleep
        self._began_s = clock()
        self._own_s = 0.0
        self._seen: tuple[float, float, float] | None = None  # of the newest look
        self._calm = False  # as of that
        self.behind_s: Callable[[], float] = lambda: 0.0

    async def breathe(self) -> None:
        """Let others have their turn, and wait while they are busy, if it is time for that."""
        now_s = self._clock()
        if now_s - self._began_s < SLICE_S:
            return
        self._own_s += now_s - self._began_s
        await self._sleep(0)
        await self.wait()
        self._began_s = self._clock()

    async def wait(self) -> None:
        """Wait until others are not busy."""
        while True:
            if self._seen is None or self._age_s() > 2 * LOOK_S:
                self._seen, self._calm = await self._look(), False  # nobody knows how it is now
            if self._calm and self._age_s() < LOOK_S:
                return
            if not self._calm:
                await self._sleep(max(0.0, LOOK_S - self._age_s()))
            before, self._seen = self._seen, await self._look()
            self._calm = self._is_calm(before, self._seen)
            if self._calm or self.behind_s() > BEHIND_S_MAX:
                return

    def _age_s(self) -> float:
        return math.inf if self._seen is None else self._clock() - self._seen[0]

    async def _look(self) -> tuple[float, float, float]:
        commit_s = await self._commit_s()
        return self._clock(), commit_s, self._process_s() - self._own_s

    def _is_calm(self, before: tuple[float, float, float], now: tuple[float, float, float]) -> bool:
        took_s, commit_s, process_s = (new - old for new, old in zip(now, before, strict=True))
        return commit_s < COMMITS_MAX * took_s and process_s < PROCESS_MAX * took_s
