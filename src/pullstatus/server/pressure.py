"""How long a process was at work, or would have been, for whoever waits for calm."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

_SCHEDULER = Path("/proc/thread-self/schedstat")
_PROCESSES = Path("/proc")


def at_work_s() -> float:
    """Seconds that this process ran, and that the thread that asks was ready to and had to wait.

    All threads count: over other engines than files they share the work, and of one interpreter
    only one runs at a time. The waiting is the event loop's: on a full machine it gets less than it
    needs, and looks idle by what it got. Where the kernel does not tell of that, none is counted.
    """
    return time.process_time() + _scheduled_s(_SCHEDULER)[1]


def at_work_of_s(number: int) -> float:
    """The same of another process, whose event loop is its first thread; 0 of one that is gone."""
    of_process = _PROCESSES / str(number)
    ran_s = sum(_scheduled_s(task / "schedstat")[0] for task in _listed(of_process / "task"))
    return ran_s + _scheduled_s(of_process / "schedstat")[1]


def _scheduled_s(told: Path) -> tuple[float, float]:
    """Seconds that a thread ran, and that it was ready to and had to wait."""
    try:
        ran_ns, waited_ns, _ = map(int, told.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return 0.0, 0.0
    return ran_ns / 1e9, waited_ns / 1e9


def _listed(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return ()
