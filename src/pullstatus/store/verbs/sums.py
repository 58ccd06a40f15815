"""How all mailboxes stand together, kept by blocks of neighbours and not summed anew. Pure.

    block 0      block 1      block 2
    [ids 0-63]   [ids 64-127] [ids 128-191] ...
     sums         sums         sums            totals: all of them together

Whoever asks again has the blocks read in which a mailbox has changed since, and no other.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, TypeAlias

from pullstatus.records import Kind
from pullstatus.store.values import Aside, Backlog, Contents, Sums

BLOCK_BITS: Final = 6  # 64 mailboxes, neighbours by their ids

_COUNTS: Final = tuple(name for name in Sums.__struct_fields__ if name != "oldest_ms")
_ACCEPTED, _WAITING, _FOLLOWED = map(_COUNTS.index, ("accepted", "waiting", "followed"))
_NOTHING: Final = (0,) * len(_COUNTS)
_SPARE: Final = 64  # entries of a heap that hold no more, beyond one for each that does

_Place: TypeAlias = tuple[int, Contents]  # a block, and what those of its mailboxes hold


class BlockSums:
    """The sums of every block, by kind."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._counts: dict[_Place, tuple[int, ...]] = {}
        self._oldest_ms = {kind: _Least() for kind in (*Kind, *Aside)}
        self._fullest = {kind: _Least() for kind in Kind}  # how many wait, times -1
        self._behind: dict[_Place, None] = {}
        self._pending: dict[int, None] = {}
        self._totals: dict[Contents, tuple[int, ...]] = dict.fromkeys((*Kind, *Aside), _NOTHING)

    def put(
        self, block: int, kind: Contents, oldest_ms: int | None, most: int, counts: Sequence[int]
    ) -> None:
        """What the mailboxes of one kind in a block sum up to now.

        Args:
            oldest_ms: when the oldest entry that waits in one of them was accepted.
            most: how many wait in the one in which most do.
            counts: in the order of `Sums`, without these.
        """
        place = block, kind
        before, after = self._counts.get(place, _NOTHING), tuple(counts)
        self._counts[place] = after
        self._totals[kind] = tuple(
            total + new - old
            for total, new, old in zip(self._totals[kind], after, before, strict=True)
        )
        if isinstance(kind, Kind) and after[_ACCEPTED] != after[_FOLLOWED]:
            self._behind[place] = None
        else:
            self._behind.pop(place, None)
        if kind is Aside.PENDING and after[_WAITING]:
            self._pending[block] = None
        elif kind is Aside.PENDING:
            self._pending.pop(block, None)
        self._oldest_ms[kind].put(place, oldest_ms)
        if isinstance(kind, Kind):
            self._fullest[kind].put(place, -most or None)

    def behind(self) -> set[int]:
        """The blocks in which a mailbox of records has entries behind its mark."""
        return {block for block, _ in self._behind}

    def pending(self) -> set[int]:
        """The blocks in which something is pending."""
        return set(self._pending)

    def totals(self) -> dict[Contents, Sums]:
        """All of them together, by kind."""
        return {
            kind: Sums(next(iter(self._oldest_ms[kind].first(1)), (None,))[0], *counts)
            for kind, counts in self._totals.items()
        }

    def worst(self, count: int) -> list[int]:
        """The blocks that hold the worst mailboxes, up to so many by each measure: see `worst_of`.

        Those with the oldest mailbox in each hold the oldest of all, for any other block has none
        that is older than these; and so do those with the fullest.
        """
        found: set[int] = set()
        for least in (self._oldest_ms, self._fullest):
            firsts = chain.from_iterable(least[kind].first(count) for kind in Kind)
            found.update(block for _, (block, _) in heapq.nsmallest(count, firsts))
        return sorted(found)


class _Least:
    """Places with a value of each, the least first. To ask costs what has changed, not what is.

    A value that changes is pushed anew; what is popped holds only if it is still so.
    """

    def __init__(self) -> None:
        self._values: dict[_Place, int] = {}
        self._heap: list[tuple[int, _Place]] = []

    def put(self, place: _Place, value: int | None) -> None:
        """What the value of a place is now; None: it has none."""
        if value is None:
            self._values.pop(place, None)
        elif self._values.get(place) != value:
            self._values[place] = value
            heapq.heappush(self._heap, (value, place))
            if len(self._heap) > 2 * len(self._values) + _SPARE:
                self._heap = [(value, place) for place, value in self._values.items()]
                heapq.heapify(self._heap)

    def first(self, count: int) -> list[tuple[int, _Place]]:
        """Up to so many with the least values, in order."""
        found: list[tuple[int, _Place]] = []
        while self._heap and len(found) < count:
            value, place = least = heapq.heappop(self._heap)
            if self._values.get(place) == value and least not in found[-1:]:
                found.append(least)
        for least in found:
            heapq.heappush(self._heap, least)
        return found


def worst_of(rows: Iterable[Backlog], count: int) -> list[Backlog]:
    """The worst mailboxes of records of these, in order of mailbox.

    Up to so many with the oldest record that waits, and as many in which most wait.
    """
    of_records = (row for row in rows if row.waiting and isinstance(row.mailbox.kind, Kind))
    waiting = sorted(of_records, key=lambda row: row.mailbox)  # of equal ones the first
    oldest = heapq.nsmallest(count, waiting, key=lambda row: row.oldest_ms or sys.maxsize)
    fullest = heapq.nlargest(count, waiting, key=lambda row: row.waiting)
    found = {row.mailbox: row for row in oldest + fullest}
    return [found[mailbox] for mailbox in sorted(found)]
