"""The clock: whether it stands before what the store has seen, and whether anybody sets it."""

from __future__ import annotations

import ctypes

from pullstatus import limits
from pullstatus.cli.doctor.findings import Finding, fault, ok, warning

BEHIND_MS_MAX = 5_000  # several machines may serve one store
SET = "timedatectl set-ntp true, or install chrony"
_TIMEX_BYTES = 512  # more than the kernel writes
_UNSYNCHRONIZED = 5  # TIME_ERROR


def synchronized() -> bool | None:
    """Whether the kernel says that the clock is kept by others; None: it does not tell."""
    try:
        # All zero: nothing is to be changed.
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != _UNSYNCHRONIZED


def clock(now_ms: int, newest_ms: int, kept: bool | None) -> Finding:
    """Judge the clock.

    Args:
        newest_ms: of what the store has noted; 0: nothing.
        kept: see `synchronized`.
    """
    behind_s = (newest_ms - now_ms) / 1000
    if newest_ms - now_ms > BEHIND_MS_MAX:
        return fault("clock", f"it is {behind_s:,.0f} s behind what the store has noted", SET)
    if kept is False:
        return warning(
            "clock",
            "nobody sets it, by what the kernel says; calls that are"
            f" {limits.SKEW_S_MAX} s off are refused",
            SET,
        )
    how = "kept by others" if kept else "not behind the store; who sets it is not told"
    return ok("clock", how)
