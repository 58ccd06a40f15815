"""How long this process was at work, or would have been, for whoever waits for calm."""

from __future__ import annotations

import time
from pathlib import Path

_SCHEDULER = Path("/proc/thread-self/schedstat")


def at_work_s() -> float:
    """Seconds that this process ran, and that the thread that asks was ready to and had to wait.

    All threads count: over other engines than files they share the work, and of one interpreter
    only one runs at a time. The waiting is the event loop's: on a full machine it gets less than it
    needs, and looks idle by what it got. Where the kernel does not tell of that, none is counted.
    """
    try:
        _, waited_ns, _ = _SCHEDULER.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return time.process_time()
    return time.process_time() + int(waited_ns) / 1e9
