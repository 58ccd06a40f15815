"""How many more items may wait for something else; what finds no room leaves at once, as it is.

An application has its own. What is nobody's yet waits with number 0, whichever platform's token
brought it. There a token may have as many as would be there for each if none had more, and as many
were kept free for one to come:

    one token     [ its own ............ | kept free ......... ]   half
    two           [ one's ... | other's ... | kept free ...... ]   a third each
    with a few    [ one's .... | few | other's .... | free ... ]   what these leave is the others'

While some have just begun, those that came before have more than that for the seconds in which
theirs leaves: for this there is as much again. When that is full, too, each token still finds a few
places that are its own, up to 60 tokens. So no token, nor ten, has that of another find no room.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.apps.values import NOBODY
from pullstatus.mailbox.pending import pending_mailbox
from pullstatus.mailbox.standing import standing_of
from pullstatus.store import Backlog, Store

__all__ = ["HandedOver", "Room"]

_OWN: Final = 120  # one of so many places is a token's own, and half as many are of all of these
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
        row = await standing_of(self._store, pending_mailbox(sdkappid))
        waiting = 0 if row is None else row.waiting
        if sdkappid != NOBODY:
            return min(wanted, max(0, limits.PENDING_ITEMS_MAX - waiting))
        if waiting + wanted <= limits.PENDING_SHARED_ITEMS // 2:  # even if all of it is its own
            return wanted
        async with self._looking:
            await self._look(row, now_ms)
        places, held = limits.PENDING_SHARED_ITEMS, self._held[token]
        others = [count for each, count in self._held.items() if each != token]
        left = 2 * places - waiting
        share = min(_share(places, others) - held, left)
        own = min(places // _OWN - held, left + places // 2)
        most = max(0, min(wanted, max(share, own)))
        self._held[token] += most
        return most

    async def _look(self, row: Backlog | None, now_ms: int) -> None:
        """Know how many items of number 0 each token has, unless that was seen a moment ago."""
        if self._until_ms - _LOOK_MS <= now_ms < self._until_ms:
            return
        held: Counter[str] = Counter()
        if row is not None:
            async for entry in self._store.entries(row.mailbox, row.accepted - row.waiting + 1):
                held[_decode(entry.data).token] += 1
        self._held, self._until_ms = held, now_ms + _LOOK_MS


class HandedOver:
    """What room there is for parts that come late, handed over to wait where the others are."""

    def __init__(self, store: Store) -> None:
        """Nothing is known yet; each application is looked at once."""
        self._store = store
        self._left: dict[int, int] = {}

    async def take(self, sdkappid: int) -> bool:
        """Take a place with an application, beside those that `Room` gives; whether there was one.

        Raises:
            StoreUnavailable: it could not be asked now.
        """
        if sdkappid not in self._left:
            row = await standing_of(self._store, pending_mailbox(sdkappid))
            waiting = 0 if row is None else row.waiting
            self._left[sdkappid] = 2 * limits.PENDING_ITEMS_MAX - waiting
        self._left[sdkappid] -= 1
        return self._left[sdkappid] >= 0


def _share(places: int, others: Iterable[int]) -> int:
    """How many of some places one may have, with others that have so many, and one to come."""
    counts = sorted(others)
    for sharers, count in zip(range(len(counts) + 2, 2, -1), counts, strict=True):
        if count * sharers >= places:
            return places // sharers
        places -= count
    return places // 2
