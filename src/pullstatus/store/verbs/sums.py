"""How all mailboxes stand together, kept by blocks of neighbours and not summed anew. Pure.

    block 0      block 1      block 2
    [ids 0-63]   [ids 64-127] [ids 128-191] ...
     sums         sums         sums            totals: all of them together

Whoever asks again has the blocks read in which a mailbox has changed since, and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pullstatus.records import Kind
from pullstatus.store.values import Aside, Contents, Sums

BLOCK_BITS: Final = 6  # 64 mailboxes, neighbours by their ids

_NOTHING: Final = (0,) * 9


class BlockSums:
    """The sums of every block, by kind."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._counts: dict[tuple[int, Contents], tuple[int, ...]] = {}
        self._oldest_ms: dict[tuple[int, Contents], int] = {}
        self._totals: dict[Contents, tuple[int, ...]] = dict.fromkeys((*Kind, *Aside), _NOTHING)

    def put(self, block: int, kind: Contents, oldest_ms: int | None, counts: Sequence[int]) -> None:
        """What the mailboxes of one kind in a block sum up to now.

        Args:
            oldest_ms: when the oldest entry that waits in one of them was accepted.
            counts: in the order of `Sums`, without that.
        """
        place = block, kind
        before, after = self._counts.get(place, _NOTHING), tuple(counts)
        self._counts[place] = after
        self._totals[kind] = tuple(
            total + new - old
            for total, new, old in zip(self._totals[kind], after, before, strict=True)
        )
        if oldest_ms is None:
            self._oldest_ms.pop(place, None)
        else:
            self._oldest_ms[place] = oldest_ms

    def totals(self) -> dict[Contents, Sums]:
        """All of them together, by kind."""
        oldest: dict[Contents, int] = {}
        for (_, kind), oldest_ms in self._oldest_ms.items():
            if oldest_ms < oldest.get(kind, oldest_ms + 1):
                oldest[kind] = oldest_ms
        return {kind: Sums(oldest.get(kind), *counts) for kind, counts in self._totals.items()}
