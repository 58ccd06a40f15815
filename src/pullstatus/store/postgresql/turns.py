"""Turns: what one process at a time does, of all that have a store open.

Whoever has one holds the lock of a transaction that is open for as long, and neither reads nor
writes: it keeps no dead row. The server ends it if nothing is asked for `IDLE_S`, so a process that
stands still, or whose machine is gone, keeps the others from nothing for longer. Whoever lives asks
ten times as often; and nothing else is asked over that connection, so that no answer of any size is
ever on its way to one that does not read it, or is waited for.

It is no lock of a session: behind a pooler that has its own mind of sessions, one would stay.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store.postgresql.reads import Reads

IDLE_S: Final = 30.0  # a living process may have no time for as long
_SIGNS: Final = 10  # of life in that time


class Turn:
    """One thing that is done by turns."""

    def __init__(self, reads: Reads, lock: int, *, kept: bool) -> None:
        """Ask over `reads`, over which nothing else is asked, for the lock of that number.

        Args:
            kept: leave the connection open from one turn to the next.
        """
        self._reads = reads
        self._lock = lock
        self._kept = kept
        self._asked = False

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[bool]:
        """Whether it is this process's turn, until the block ends.

        If the connection is lost meanwhile, another one may have its turn, too.

        Raises:
            StoreUnavailable, StoreRefused: it could not be asked for.
        """
        if self._asked:  # by another task: over one connection both would have the lock
            yield False
            return
        self._asked = True
        try:
            ours = await self._reads.hold(self._lock, IDLE_S)
            living = asyncio.create_task(self._live())
            try:
                yield ours
            finally:
                living.cancel()
                await self._reads.let_go(kept=self._kept)
        finally:
            self._asked = False

    async def _live(self) -> None:
        """Give signs of life."""
        while True:
            await asyncio.sleep(IDLE_S / _SIGNS)
            with contextlib.suppress(StoreUnavailable, StoreRefused):
                await asyncio.shield(self._reads.stay())  # nothing is cut off in the middle

    async def close(self) -> None:
        """End whatever turn there is."""
        await self._reads.close()
