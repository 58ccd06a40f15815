"""Which lines of the log are written one by one, and how many were not.

A stranger can be refused as often as he likes. Of each kind of line the first few of a second are
written; the others are counted, and told in one line when the second is over. The first few of one
address, so that who is loud hides nobody else; and the first few of all, so that many addresses
don't fill the disk.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from pullstatus import limits

SECOND_S = 1.0


class LineKind(NamedTuple):
    """What two lines have in common that tell of the same.

    Attributes:
        level, event: of the line.
        code: the `result`, `status` or `code` that was answered; None where nothing was.
    """

    level: str
    event: str
    code: tuple[str, object] | None = None


class Repeats:
    """The lines of the second at hand, and those before it that were not written.

    Safe to be used by several threads.
    """

    def __init__(self, monotonic_s: Callable[[], float], sharers: int = 1) -> None:
        """No second has begun.

        Args:
            sharers: how many write to the same place, each its part of what a second may bring.
        """
        self._most = max(1, limits.LOG_LINES_PER_S_MAX // sharers)
        self._most_of_one = max(1, limits.LOG_LINES_OF_ONE_PER_S_MAX // sharers)
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._until_s: float | None = None  # None: no second has begun
        self._written: Counter[LineKind | tuple[LineKind, str]] = Counter()
        self._more: Counter[LineKind] = Counter()  # of the second at hand
        self._over: Counter[LineKind] = Counter()  # of those before it
        self.summed = 0

    def admit(self, kind: LineKind, address: str = "") -> bool:
        """Whether to write this line; it is counted otherwise."""
        with self._lock:
            now = self._monotonic_s()
            if self._until_s is None or now >= self._until_s:
                self._end()
                self._until_s = now + SECOND_S
            whose = (kind, address)
            if self._written[kind] < self._most and self._written[whose] < self._most_of_one:
                self._written[kind] += 1
                self._written[whose] += 1
                return True
            self._more[kind] += 1
            self.summed += 1
            return False

    def due_in_s(self) -> float | None:
        """Seconds until it is time to `take`; None: not before another line comes."""
        with self._lock:
            if self._over:
                return 0.0
            return None if self._until_s is None else max(0.0, self._until_s - self._monotonic_s())

    def take(self, *, at_once: bool = False) -> dict[LineKind, int]:
        """How many lines of which kind were not written, in seconds that are over.

        Args:
            at_once: also in the one at hand.
        """
        with self._lock:
            if at_once or (self._until_s is not None and self._monotonic_s() >= self._until_s):
                self._end()
            taken, self._over = self._over, Counter()
            return dict(taken)

    def _end(self) -> None:
        self._until_s = None
        self._over += self._more
        self._more.clear()
        self._written.clear()
