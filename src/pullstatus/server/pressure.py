"""How long this process was at work, or would have been, for whoever waits for calm."""

from __future__ import annotations

import time
from pathlib import Path

_SCHEDULER = Path("/proc/self/schedstat")  # of the first thread, which the event loop is in


def at_work_s() -> float:
    """Seconds that the first thread of this process ran, or was ready to and had to wait.

    On a full machine it gets less than it needs, and looks idle by what it got. Where the kernel
    does not tell of the waiting, those that all threads ran.
    """
    try:
        ran_ns, waited_ns, _ = _SCHEDULER.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return time.process_time()
    return (int(ran_ns) + int(waited_ns)) / 1e9
