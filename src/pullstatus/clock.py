"""The wall clock, read at the edges alone: below `cli` and `server` everybody is told the time."""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def wall_s() -> float:
    """Unix time in seconds; also by a clock that a host test has put in place since the import."""
    return time.time()
