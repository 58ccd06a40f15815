"""How much is in hand: bytes of requests until they are answered, of answers until they are read.

In all, and of one application or address at most a quarter of that. Whoever comes beyond is refused
before anything is done. Pure.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final

from pullstatus import limits

Owner = int | str
"""An application by its number, a token of none by one below 0, or a network by its address."""


class Over(StrEnum):
    """Whose part is used up."""

    TOTAL = "total"
    ADDRESS = "address"
    APPLICATION = "application"


SAID: Final = {
    Over.TOTAL: "the server has too much in hand; try again",
    Over.ADDRESS: "too much of your address is in hand; wait for answers, and read them",
    Over.APPLICATION: "too much of this application is in hand; wait for answers, and read them",
}
"""What who is refused is told."""


class Budget:
    """Counts what one server has in hand.

    Attributes:
        bytes: how much it is.
        of: how much of it is of whom.
        refused: requests that were refused, by whose part was used up.
    """

    __slots__ = ("bytes", "of", "refused")

    def __init__(self) -> None:
        """Nothing is in hand."""
        self.bytes = 0
        self.refused: Counter[str] = Counter(dict.fromkeys(map(str, Over), 0))
        self.of: dict[Owner, int] = {}

    def take(self, size: int, owner: Owner | None = None) -> None:
        """Have `size` bytes more in hand, of that owner; fewer, if it is negative."""
        self.bytes += size
        if owner is not None:
            self.share(owner, size)

    def share(self, owner: Owner, size: int) -> None:
        """The same of what is in hand already, and of which one more owner is known now."""
        held = self.of.get(owner, 0) + size
        if held:
            self.of[owner] = held
        else:
            self.of.pop(owner, None)

    def full(self, owner: Owner | None) -> Over | None:
        """Whether no more is taken on, of this owner or at all."""
        if self.bytes > limits.IN_HAND_BYTES_MAX:
            return Over.TOTAL
        if (
            owner is not None
            and self.of.get(owner, 0) > limits.IN_HAND_BYTES_MAX // limits.SHARE_OF_ONE
        ):
            return Over.APPLICATION if isinstance(owner, int) else Over.ADDRESS
        return None

    def over(self, owner: Owner | None) -> Over | None:
        """The same; and counts the refusal, if it is one."""
        over = self.full(owner)
        if over is not None:
            self.refused[over] += 1
        return over
