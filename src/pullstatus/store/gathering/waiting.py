"""What waits in each mailbox, in memory that all processes of a server share.

The store's process writes it after each commit, before the first answer to what was committed; so
whoever has an answer, or is asked something by somebody who has one, finds here what it made.

A place is one word of 64 bits, which is read and written whole: the number of a mailbox, and
whether anything waits there. A mailbox has its place in one group of eight, a line of the
processor's cache. Where more than eight of a group are used one of them has none: nothing is known
of it then, and whoever wants to know asks the store.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Final

from pullstatus.shared_memory import make_shared

WORD_BYTES: Final = 8
GROUP: Final = 8
GROUPS: Final = 1 << 19
"""For a million mailboxes, with room: 32 MiB of addresses, of which memory is only what is used."""

NEIGHBOURS: Final = 3
"""Bits of a mailbox's number that its neighbours in a group differ in: what is numbered one after
the other lies together, so that a few mailboxes need a few pages, and no group is too full."""


class WaitingTable:
    """The table, by an open file: written by one process, read by any number."""

    def __init__(self, descriptor: int, *, writes: bool = False) -> None:
        """Use the memory behind `descriptor`, which `make_table` has made.

        Args:
            writes: this is the one process that does.
        """
        access = mmap.ACCESS_WRITE if writes else mmap.ACCESS_READ
        self._memory = mmap.mmap(descriptor, 0, access=access)
        self._words = memoryview(self._memory).cast("Q")
        self._groups = len(self._words) // GROUP

    def tell(self, waiting: Mapping[int, int]) -> None:
        """Write how many entries wait in these mailboxes, by the engine's numbers of them."""
        words = self._words
        for number, count in waiting.items():
            word = (number + 1) << 1  # 0 is a place that nobody has
            start = self._start(number)
            group = words[start : start + GROUP].tolist()
            for known in (word, word | 1, 0):
                if known in group:
                    place = group.index(known)
                    break
            else:
                place = number % GROUP
            words[start + place] = word | (count > 0)

    def get(self, number: int) -> int | None:
        """0 if nothing waits in a mailbox, 1 if something does; None: that is not known."""
        word = (number + 1) << 1
        start = self._start(number)
        group = self._words[start : start + GROUP].tolist()
        if word in group:
            return 0
        return 1 if word | 1 in group else None

    def close(self) -> None:
        """Release the memory."""
        self._words.release()
        self._memory.close()

    def _start(self, number: int) -> int:
        return (number >> NEIGHBOURS) % self._groups * GROUP


def make_table(groups: int = GROUPS) -> int:
    """Memory for an empty table, as an open file that belongs to nobody else."""
    return make_shared("pullstatus-waiting", groups * GROUP * WORD_BYTES)
