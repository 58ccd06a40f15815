"""What a channel has brought, cut into groups."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from pullstatus.store.gathering.operations import Operation

GROUP_MAX = 1024  # operations in one commit: bounds its memory and the wait of its first
NOTICE_S = 0.2  # how long another process's change may stay unseen while nothing comes

Sent = Sequence[Operation] | None
"""What is sent at once; None: nothing more comes."""


class Groups:
    """Takes what has come, as much as one commit may hold."""

    def __init__(self, receive: Callable[[float], Sequence[Sent]]) -> None:
        """Read with `receive`: what has come, or comes within so many seconds; else nothing."""
        self._receive = receive
        self._come: deque[Sent] = deque()

    def next(self) -> list[Operation] | None:
        """The next group; empty if nothing came for a while; None at the end."""
        if not self._come:
            self._come += self._receive(NOTICE_S)
        while len(self._come) < GROUP_MAX and (more := self._receive(0)):
            self._come += more
        group: list[Operation] = []
        while self._come and len(group) < GROUP_MAX:
            if self._come[0] is None:
                return group or None
            group += self._come.popleft() or ()
        return group
