"""How upkeep keeps out of the way, and keeps up: by the pauses between its steps."""

from __future__ import annotations

STEP_S = 0.002  # of work in one commit: what everybody else waits for
PAUSE_BUSY = 4  # times what the step before took, while others have something to do
PAUSE_ELSE = 1  # the same if they have nothing to do, or if upkeep falls behind
BEHIND_S = 30  # so long does upkeep take, once a minute, if what arrives is more than it removes


class Pace:
    """Says after each step how long to wait before the next one.

    A step takes longer the more others have to do, since it waits for them and they for it; and so
    do the pauses.
    """

    def __init__(self, now_s: float, operations: int) -> None:
        """Begin, now, when the store has done so many operations."""
        self._began_s = self._step_s = now_s
        self._operations = operations

    def begin_step(self, now_s: float) -> None:
        """A step is asked for."""
        self._step_s = now_s

    def pause_s(self, now_s: float, operations: int) -> float:
        """Seconds to wait after a step, which has just been answered.

        Args:
            operations: how many the store has done by now, this step among them.
        """
        alone = operations - self._operations <= 1
        self._operations = operations
        behind = now_s - self._began_s >= BEHIND_S
        return (now_s - self._step_s) * (PAUSE_ELSE if alone or behind else PAUSE_BUSY)
