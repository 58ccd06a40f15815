"""A queue whose owners are served in turn: who brings much waits behind his own, not before others.

Pure: what waits is anything, and so is what an owner is told by.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """First come first within an owner; one of each owner before the next of any."""

    __slots__ = ("_count", "_lines")

    def __init__(self) -> None:
        """Nothing waits."""
        self._lines: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, owner: Hashable, item: T) -> None:
        """Let `item` wait behind what its owner has waiting already."""
        line = self._lines.get(owner)
        if line is None:
            line = self._lines[owner] = deque()
        line.append(item)
        self._count += 1

    def pop(self) -> T:
        """What is next; its owner comes again after all others.

        Raises:
            LookupError: nothing waits.
        """
        if not self._lines:
            raise LookupError
        owner = next(iter(self._lines))
        line = self._lines[owner]
        item = line.popleft()
        self._count -= 1
        if line:
            self._lines.move_to_end(owner)
        else:
            del self._lines[owner]
        return item

    def heads(self) -> Iterator[T]:
        """What has waited longest of each owner."""
        return (line[0] for line in self._lines.values())

    def take(self, leaves: Callable[[T], bool]) -> list[T]:
        """Take out whatever `leaves` says so of; the order of the rest stays as it is."""
        taken: list[T] = []
        for owner, line in list(self._lines.items()):
            stay: deque[T] = deque()
            for item in line:
                (taken if leaves(item) else stay).append(item)
            if stay:
                self._lines[owner] = stay
            else:
                del self._lines[owner]
        self._count -= len(taken)
        return taken
