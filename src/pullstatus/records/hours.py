"""Hours as the wire writes them, by which reports and sends are counted.

`yyyymmddhh` in UTC+8, as an integer: 2026112812 is the hour that begins at noon in Beijing.
"""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Final

from pullstatus import limits
from pullstatus.records.values import UTC8

HOUR_MS: Final = 3_600_000
"""An hour in milliseconds. Those of UTC+8 begin with those of Unix time."""

DAY_MS: Final = 24 * HOUR_MS

_LAST_MS: Final = (limits.REPLY_TIME_S_MAX - 8 * 3600) * 1000  # in UTC+8 the year 9999 ends earlier


def hour_of(at_ms: int) -> int:
    """The hour of a moment, as the wire writes it."""
    return written(at_ms // HOUR_MS)


def nearest_hour(at_ms: int) -> int:
    """The hour of a moment, or of one of before 1970 or after 9999 the nearest that there is."""
    return written(nearest_hours(at_ms))


def nearest_hours(at_ms: int) -> int:
    """The same, in hours since the beginning of Unix time."""
    return min(max(at_ms, 0), _LAST_MS) // HOUR_MS


def in_calendar(at_ms: int) -> bool:
    """Whether a moment has an hour of its own: it is of 1970 or later, and before 10000."""
    return 0 <= at_ms <= _LAST_MS


@functools.lru_cache(maxsize=64)  # what is counted one after the other was mostly accepted so
def written(hours: int) -> int:
    """The hour that begins so many hours after the beginning of Unix time, as on the wire."""
    at = datetime.fromtimestamp(hours * 3600, UTC8)
    return ((at.year * 100 + at.month) * 100 + at.day) * 100 + at.hour


def unix_hours(hour: int) -> int | None:
    """How many hours after the beginning of Unix time this one begins; the other way of `written`.

    None: it is no hour of the calendar.
    """
    if not 0 < hour < 10**10:
        return None
    days, hours = divmod(hour, 100)
    months, day = divmod(days, 100)
    year, month = divmod(months, 100)
    try:
        at = datetime(year, month, day, hours, tzinfo=UTC8)
    except ValueError:
        return None
    return int(at.timestamp()) // 3600
