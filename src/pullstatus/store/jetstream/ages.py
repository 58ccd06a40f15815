"""How old what lies in a stream is, by the clock of who looks.

Whoever does not know what came of a commit looks for it behind the one before. So no commit may be
removed while its writer may still do that: only what was the newest so long ago that it has given
up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

AGE_S: Final = 60.0  # thrice as long as a writer tries to learn
_STEP_S: Final = 10.0  # between two that are remembered


class Ages:
    """Sequences of one stream, and since when they are known."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Nothing is known; `clock` is of seconds."""
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()
        self._old = 0

    def see(self, sequence: int) -> None:
        """A message has this sequence by now."""
        now_s = self._clock()
        if not self._seen or now_s >= self._seen[-1][0] + _STEP_S:
            self._seen.append((now_s, sequence))

    def below(self) -> int:
        """What lies below this sequence was there so long ago; 0: nothing that is known of."""
        before_s = self._clock() - AGE_S
        while self._seen and self._seen[0][0] <= before_s:
            self._old = self._seen.popleft()[1]
        return self._old
