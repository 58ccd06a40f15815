"""How long to wait: longer each time, and never in step with others."""

from __future__ import annotations

from random import Random


class Pauses:
    """Pauses that double from `first_s` to `max_s`, each between half of that and all of it.

    The jitter keeps clients that failed together from coming back together.
    """

    def __init__(self, first_s: float, max_s: float, random: Random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._random = random
        self._due_s = first_s

    def reset(self) -> None:
        """Start again with the shortest."""
        self._due_s = self._first_s

    def next_s(self) -> float:
        """The next pause in seconds."""
        due_s = min(self._due_s, self._max_s)
        self._due_s = 2 * due_s
        return due_s * self._random.uniform(0.5, 1.0)
