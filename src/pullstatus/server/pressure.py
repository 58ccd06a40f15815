"""How long this process was at work, or would have been, for whoever waits for calm."""

from __future__ import annotations

import time
from pathlib import Path

_SCHEDULER = Path("/proc/thread-self/schedstat")


def at_work_s() -> float:
    """Seconds that the thread that asks ran, or was ready to and had to wait: the event loop's.

    On a full machine it gets less than it needs, and looks idle by what it got. Where the kernel
    does not tell of the waiting, those that all threads ran. That it ran is told by a clock: the
    kernel's table has it as of its last tick, some ms ago.
    """
    try:
        _, waited_ns, _ = _SCHEDULER.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return time.process_time()
    return time.thread_time() + int(waited_ns) / 1e9
