"""What ends a process whose work goes on beyond its time to stop.

A thread, since whatever holds up the event loop would hold up its timers, too. It is there from the
start: a process at its limit of memory or tasks can start none when it is told to stop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Overdue:
    """Calls something at a moment that is not known yet; never, while it is not."""

    def __init__(self, work: Callable[[], None]) -> None:
        """Takes its thread.

        Raises:
            RuntimeError: there can be no more threads.
        """
        self._work = work
        self._by_s = 0.0
        self._due = threading.Event()
        threading.Thread(target=self._wait, name="pullstatus-overdue", daemon=True).start()

    def at(self, by_s: float) -> None:
        """Do it then, by the monotonic clock."""
        self._by_s = by_s
        self._due.set()

    def _wait(self) -> None:
        self._due.wait()
        time.sleep(max(0.0, self._by_s - time.monotonic()))
        self._work()
