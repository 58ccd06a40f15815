"""How much is in hand: bytes of requests until they are answered, of answers until they are read.

In all, and of one application or address at most a quarter of that. Whoever comes beyond is refused
before anything is done. An application's part is known once its request is read so far, and is
counted as `Share`s: what has come, not what was announced. Pure.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final, Self

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
        if owner is not None and self.used_up(owner):
            return Over.APPLICATION if isinstance(owner, int) else Over.ADDRESS
        return None

    def used_up(self, owner: Owner) -> bool:
        """Whether an owner has its whole part in hand."""
        return self.has(owner) > limits.IN_HAND_BYTES_MAX // limits.SHARE_OF_ONE

    def has(self, owner: Owner) -> int:
        """How much is in hand of an owner."""
        return self.of.get(owner, 0)

    def lets_wait(self, owner: Owner) -> bool:
        """Whether what only waits leaves it half of its part, for what has something to do."""
        return self.has(owner) <= limits.IN_HAND_BYTES_MAX // limits.SHARE_OF_ONE // 2

    def over(self, owner: Owner | None) -> Over | None:
        """The same; and counts the refusal, if it is one."""
        over = self.full(owner)
        if over is not None:
            self.refused[over] += 1
        return over


class Share:
    """What one request has in hand of its owner's part, until whoever answers it is done.

    Attributes:
        owner: whose part it is.
    """

    __slots__ = ("_budget", "_size", "owner")

    def __init__(self, budget: Budget, owner: Owner, size: int = 0) -> None:
        """So much is; to be entered, and it is given back at its end."""
        self._budget: Budget | None = budget
        self._size = size
        self.owner = owner
        budget.share(owner, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._budget is not None:
            self._budget.share(self.owner, -self._size)
            self._budget = None

    def add(self, size: int) -> None:
        """So much more is; fewer, if it is negative. Nothing, once all is given back."""
        if self._budget is not None:
            self._size += size
            self._budget.share(self.owner, size)
