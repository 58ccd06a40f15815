"""Whether the store still answers: what readiness says, and one line in the log each time."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import structlog

from pullstatus import limits
from pullstatus.store import UnderWay

log = structlog.get_logger(__name__)


class NotReady(StrEnum):
    """Why a server takes no work."""

    STOPPING = "the server is stopping"
    SILENT = "the store does not answer"
    NO_WORKER = "no worker answers requests"


class Stall:
    """A store that does not answer, whatever the cause: its disk, or another program's lock."""

    def __init__(self, under_way: Callable[[], UnderWay]) -> None:
        """Look by `under_way`, which tells what waits now."""
        self._under_way = under_way
        self._longest_s = 0.0  # of the stall that was told and is not over; 0: there is none

    def __call__(self) -> bool:
        """Whether the oldest operation has waited too long by now."""
        return self._under_way().oldest_s > limits.STALLED_S

    def look(self) -> None:
        """Tell the log when it begins and when it is over; to be called often."""
        now = self._under_way()
        if now.oldest_s > limits.STALLED_S:
            if not self._longest_s:
                log.error(
                    "store does not answer",
                    oldest_s=round(now.oldest_s, 1),
                    handed_over=now.handed_over,
                    queued=now.queued,
                    bytes=now.bytes,
                )
            self._longest_s = max(self._longest_s, now.oldest_s)
        elif self._longest_s:
            log.warning("store answers again", after_s=round(self._longest_s, 1))
            self._longest_s = 0.0
