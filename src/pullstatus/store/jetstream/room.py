"""Whether a stream has room for more entries while there is still some for pulls.

A stream that is full, or lies on a node that is, takes no commit of a pull either. So entries are
refused as long as what is left is a reserve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pullstatus.errors import StoreUnavailable
from pullstatus.store.jetstream.wire import Bus, Space

LOOK_S: Final = 5.0
RESERVE_BYTES: Final = 256 << 20
RESERVE_SHARE: Final = 20  # of what a stream may hold, a twentieth, if that is less


def has_reserve(space: Space) -> bool:
    """Whether more is left than the reserve."""
    return space.left > min(RESERVE_BYTES, space.limit // RESERVE_SHARE)


class Room:
    """What was found last of one stream.

    Attributes:
        there: whether it may take more entries.
    """

    def __init__(self, bus: Bus, stream: str, clock: Callable[[], float]) -> None:
        """Nobody has looked yet."""
        self.there = True
        self._bus = bus
        self._stream = stream
        self._clock = clock
        self._due_s = clock()

    def look(self) -> None:
        """Ask from time to time; while nobody answers it is as it was."""
        now_s = self._clock()
        if now_s < self._due_s:
            return
        self._due_s = now_s + LOOK_S
        try:
            space = self._bus.space(self._stream)
        except StoreUnavailable:
            return
        self.there = space is None or has_reserve(space)

    def end(self) -> None:
        """A write was refused: there is none until somebody has looked again."""
        self.there = False
        self._due_s = self._clock() + LOOK_S
