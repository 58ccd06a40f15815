"""What a channel has brought, cut into groups."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from pullstatus.store.gathering.operations import Operation

GROUP_MAX = 1024  # operations in one commit: bounds its memory and the wait of its first

Sent = Sequence[Operation] | None
"""What is sent at once; None: nothing more comes."""


class Groups:
    """Takes what has come, as much as one commit may hold."""

    def __init__(self, receive: Callable[[float], Sequence[Sent]]) -> None:
        """Read with `receive`: what has come, or comes within so many seconds; else nothing."""
        self._receive = receive
        self._come: deque[Sent] = deque()

    def next(self, patience_s: float) -> list[Operation] | None:
        """The next group; empty if nothing comes within so many seconds; None at the end."""
        if not self._come:
            self._come += self._receive(patience_s)
        while len(self._come) < GROUP_MAX and (more := self._receive(0)):
            self._come += more
        group: list[Operation] = []
        while self._come and len(group) < GROUP_MAX:
            if self._come[0] is None:
                return group or None
            group += self._come.popleft() or ()
        return group
