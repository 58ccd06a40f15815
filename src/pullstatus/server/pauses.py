"""Answers that are held back, so that who asks again at once does not keep the server busy.

Those to failed tries of an address that has had many, and those to calls for which there is no
room. What they say stays the same.
"""

from __future__ import annotations

import asyncio

from pullstatus import limits
from pullstatus.server.http import HELD_S, Scope, let_go

GOLDEN = 0.6180339887  # its multiples, but for whole ones, lie as far apart as can be


class Pauses:
    """So many answers at a time; each holds some KiB of memory.

    Attributes:
        count: how many are held back.
    """

    def __init__(self, count_max: int) -> None:
        """None is held back."""
        self._count_max = count_max
        self._paused = 0  # ever
        self.count = 0

    @property
    def free(self) -> bool:
        """Whether one more may be held back."""
        return self.count < self._count_max

    async def pause(self, scope: Scope, pause_s: float) -> None:
        """Return when a request may be answered: at once, if too many wait for that already.

        After up to a quarter more than is asked for, each at another time: what came together would
        be answered together, and come together again.
        """
        if not self.free:
            return
        self.count += 1
        self._paused += 1
        pause_s *= 1 + self._paused * GOLDEN % 1 / 4
        try:
            await asyncio.sleep(pause_s)
        finally:
            self.count -= 1
        scope[HELD_S] = pause_s


class Shed(Pauses):
    """Those to calls for which there is no room."""

    def __init__(self, sharers: int = 1) -> None:
        """None is held back; so many share what there may be."""
        super().__init__(max(1, limits.SHED_HELD_MAX // sharers))

    async def shed(self, scope: Scope) -> None:
        """Forget the call's body, and return when it may be answered."""
        let_go(scope)
        await self.pause(scope, limits.SHED_PAUSE_S)
