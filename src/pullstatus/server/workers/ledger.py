"""Counts that several processes keep together, in memory that they share.

    row of worker 0   | connections | held | bytes | beats | of addresses ... | of owners ... |
    row of worker 1   | ...
    common            | rates of applications ... | signatures ... |

A row is written by one process, which so needs no lock; anybody reads the sum of all. Two that add
at the same moment may each miss the other, so a bound can be passed by as many as there are
processes. What dies with a process is its row, which the server then clears.

Addresses and owners have places by a hash with a secret of this server. Two in one place are
counted together: of one that has much, few others suffer.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from pullstatus import limits
from pullstatus.shared_memory import make_shared

WORD_BYTES: Final = 8
CONNECTIONS, HELD, IN_HAND, BEATS = range(4)
ADDRESSES: Final = 8
"""Where the places of addresses begin in a row; behind them those of owners."""

PLACES: Final = 16_384
ROW: Final = ADDRESSES + 2 * PLACES
RATES_GROUPS: Final = 4096
RATES_OF_GROUP: Final = 4  # applications, each with its number, a purpose and a time
RATES: Final = RATES_GROUPS * RATES_OF_GROUP * 2
COMMON: Final = RATES + limits.REPLAYS_KNOWN
TRIES_AT_ONCE: Final = 100  # for a lock that others hold for microseconds
LOCK_S: Final = 0.5  # how long one that is not run meanwhile is waited for


class Ledger:
    """The memory, for one process."""

    def __init__(self, descriptor: int, row: int, rows: int, secret: bytes) -> None:
        """Use the memory behind `descriptor`, which `make_ledger` has made.

        Args:
            row: this process's own.
            rows: how many there are.
            secret: the same for all; who does not know it cannot tell which addresses meet.
        """
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, 0)
        self._words = memoryview(self._memory).cast("q")
        self._rows = [number * ROW for number in range(rows)]
        self._own = row * ROW
        self._common = rows * ROW
        self._secret = secret
        self._place = lru_cache(4096)(self._hashed)

    def add(self, place: int, count: int) -> None:
        """Count so many more in this process's row."""
        self._words[self._own + place] += count

    def set(self, place: int, count: int) -> None:
        """Have so many in this process's row."""
        self._words[self._own + place] = count

    def of(self, row: int, place: int) -> int:
        """What a row has."""
        return self._words[row * ROW + place]

    def total(self, place: int) -> int:
        """The sum over all rows."""
        words = self._words
        return sum([words[start + place] for start in self._rows])

    def address(self, network: str) -> int:
        """The place of an address's connections."""
        return ADDRESSES + self._place(network)

    def owner(self, owner: int | str) -> int:
        """The place of what is in hand of somebody."""
        return ADDRESSES + PLACES + self._place(owner)

    def clear(self, row: int) -> None:
        """Forget what a process had that is no more."""
        start = row * ROW
        self._words[start : start + ROW] = memoryview(bytes(ROW * WORD_BYTES)).cast("q")

    def known(self, word: int) -> bool:
        """Whether this word is at its place among those of signatures; puts it there."""
        place = self._common + RATES + word % limits.REPLAYS_KNOWN
        if self._words[place] == word:
            return True
        self._words[place] = word
        return False

    @contextlib.contextmanager
    def times(self, key: int) -> Iterator[Times]:
        """The times of those that share a group with `key`; nobody else has them meanwhile."""
        start = self._common + key % RATES_GROUPS * RATES_OF_GROUP * 2
        held = self._lock(start)
        try:
            yield Times(self._words[start : start + RATES_OF_GROUP * 2])
        finally:
            if held:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, WORD_BYTES, start * WORD_BYTES)

    def _lock(self, start: int) -> bool:
        """Lock a group; without, if another process does not go on meanwhile."""
        tries, until_s = 0, time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.lockf(
                    self._descriptor,
                    fcntl.LOCK_EX | fcntl.LOCK_NB,
                    WORD_BYTES,
                    start * WORD_BYTES,
                )
            except (BlockingIOError, PermissionError):
                tries += 1
                if tries < TRIES_AT_ONCE:
                    os.sched_yield()
                elif time.monotonic() < until_s:
                    time.sleep(0.0005)
                else:
                    return False
            else:
                return True

    def _hashed(self, key: int | str) -> int:
        digest = blake2b(str(key).encode(), digest_size=8, key=self._secret).digest()
        return int.from_bytes(digest) % PLACES


class Times:
    """A few times by their keys, neither of which is 0. A new one takes the place of the oldest."""

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def get(self, key: int) -> int:
        """The time of `key`; 0 if there is none."""
        keys = self._words[0::2].tolist()
        return self._words[2 * keys.index(key) + 1] if key in keys else 0

    def set(self, key: int, at: int) -> None:
        """Note the time of `key`."""
        keys, times = self._words[0::2].tolist(), self._words[1::2].tolist()
        place = keys.index(key) if key in keys else times.index(min(times))
        self._words[2 * place], self._words[2 * place + 1] = key, at


def make_ledger(rows: int) -> int:
    """Memory in which all is 0, as an open file that belongs to nobody else."""
    return make_shared("pullstatus-ledger", (rows * ROW + COMMON) * WORD_BYTES)
