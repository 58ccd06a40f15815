"""How many more items may wait for something else; what finds no room leaves at once, as it is.

An application has its own. What is nobody's yet waits with number 0, whichever platform's token
brought it. There a token has at most as many items as it leaves free:

    one token    [ its own .......... | free ............ ]    half
    two          [ one's .. | other's .. | free ......... ]    a third each

The more of them there are, the less is that; so each has some places besides that are for nobody
else. None, whatever it brings, has that of others find no room, nor have all others together.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.apps.values import NOBODY
from pullstatus.mailbox.pending import pending_mailbox
from pullstatus.store import Backlog, Store

__all__ = ["Room"]

_LOOK_MS: Final = 1_000  # how old it may be what a process knows of others


class _Brought(msgspec.Struct):
    """What matters here of an item, as it is stored: see `pending.Item`."""

    token: str


_decode: Final = msgspec.json.Decoder(_Brought).decode


class Room:
    """What a process knows of it."""

    def __init__(self, store: Store) -> None:
        """Nothing is known yet."""
        self._store = store
        self._held: Counter[str] = Counter()  # of number 0, by token; with what it was let since
        self._until_ms = 0
        self._looking = asyncio.Lock()

    async def of(self, sdkappid: int, token: str, wanted: int, now_ms: int) -> int:
        """How many of so many more items may wait for an application, or with number 0.

        What comes at the same time sees the same room: the bound may be passed by as much.

        Args:
            token: the name of the one that they came with.

        Raises:
            StoreUnavailable: it could not be asked now.
        """
        mailbox = pending_mailbox(sdkappid)
        rows = [row for row in await self._store.backlog(sdkappid) if row.mailbox == mailbox]
        waiting = sum(row.waiting for row in rows)
        free = max(0, limits.PENDING_ITEMS_MAX - waiting)
        if sdkappid != NOBODY:
            return min(wanted, free)
        if wanted <= _share(free, waiting):  # even if all that waits is its own
            return wanted
        async with self._looking:
            await self._look(rows, now_ms)
        held = self._held[token]
        most = min(wanted, max(_share(free, held), limits.PENDING_TOKEN_ITEMS - held, 0))
        self._held[token] += most
        return most

    async def _look(self, rows: list[Backlog], now_ms: int) -> None:
        """Know how many items of number 0 each token has, unless that was seen a moment ago."""
        if self._until_ms - _LOOK_MS <= now_ms < self._until_ms:
            return
        held: Counter[str] = Counter()
        for row in rows:
            async for entry in self._store.entries(row.mailbox, row.accepted - row.waiting + 1):
                held[_decode(entry.data).token] += 1
        self._held, self._until_ms = held, now_ms + _LOOK_MS


def _share(free: int, held: int) -> int:
    """How many more it may have, so that it has at most as many as are free then; below 0: none."""
    return (free - held) // 2
