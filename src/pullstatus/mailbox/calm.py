"""When there is time for what nobody waits for: while the store and this process have little to do.

    busy      commits take half of the time, or this process is at work for three fifths: wait
    calm      go on for 0.2 s, and for a quarter of that at first, a millisecond at a time, and rest
              thrice as long between while requests come, which so hardly notice; then look again

A look that ends far too late was held up with all that it was to look at, as by a process that was
stopped for a while: it tells nothing of a load.

A look is taken while whoever asks does nothing: his own work is no load, and threads of one
interpreter wait for each other, so that a server that is busy beside him looks as if it were not.

A low priority is no such thing: both cores are full under a flood, and whoever runs beside it takes
a third of the batches.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

SLICE_S: Final = 0.001  # of work, then it is everybody else's turn
RESTS: Final = 3  # times as long as a slice took: a request has some four turns, few meet a slice
HURRY_S: Final = 5.0  # who is further behind than this does not rest
CALM_S: Final = 0.2  # for which a look that found calm is good
FIRST_S: Final = 0.05  # the same of the first such look: a load may just have begun
LOOK_S: Final = 0.1  # of which it is asked how busy they are
GLANCE_S: Final = 0.02  # the same, when it has been calm until now: some commits, or none
COMMITS_MAX: Final = 0.5  # of the time
PROCESS_MAX: Final = 0.6  # of the time, over all of its threads
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
        requests: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nobody has looked yet.

        Args:
            commit_s: seconds that were spent in commits until now.
            clock: of seconds, monotonic.
            process_s: seconds that this process was at work until now; of a server with workers,
                all of its processes, as a share of the processors that they may have.
            requests: how many this process has answered until now.
        """
        self._commit_s, self._process_s, self._requests = commit_s, process_s, requests
        self._clock, self._sleep = clock, sleep
        self._began_s = clock()
        self._calm_until_s = -math.inf
        self._was_calm = self._is_asked = False  # by the newest look
        self._looking = asyncio.Lock()
        self.behind_s: Callable[[], float] = lambda: 0.0

    async def breathe(self) -> None:
        """Let others have their turn, and wait while they are busy, if it is time for that."""
        if self._clock() - self._began_s < SLICE_S and not self._looking.locked():
            return
        await self._sleep(self._rest_s())
        await self.wait()
        self._began_s = self._clock()

    def _rest_s(self) -> float:
        if not self._is_asked or self.behind_s() > HURRY_S:
            return 0.0
        # What took longer was handed to a thread, or held up.
        return RESTS * min(self._clock() - self._began_s, 2 * SLICE_S)

    async def wait(self) -> None:
        """Wait until others are not busy. Those that ask meanwhile wait, too: a look sees none."""
        async with self._looking:
            while self._clock() >= self._calm_until_s:
                still = self._was_calm and self._clock() - self._calm_until_s < CALM_S
                self._was_calm = await self._finds_calm(GLANCE_S if still else LOOK_S)
                if self._was_calm:
                    self._calm_until_s = self._clock() + (CALM_S if still else FIRST_S)
                elif self.behind_s() > BEHIND_S_MAX:
                    break

    async def _finds_calm(self, for_s: float) -> bool:
        """Look for so many seconds; a look that was held up finds none."""
        began_s, commit_s, process_s = self._clock(), await self._commit_s(), self._process_s()
        requests = self._requests()
        await self._sleep(for_s)
        took_s = self._clock() - began_s
        commit_s, process_s = await self._commit_s() - commit_s, self._process_s() - process_s
        self._is_asked = self._requests() != requests
        held_up = took_s > for_s + LOOK_S
        busy = commit_s >= COMMITS_MAX * took_s or process_s >= PROCESS_MAX * took_s
        return not (held_up or busy)
