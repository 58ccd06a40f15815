"""What is to be seen to in what keeps the store, in the log: when it begins, and when it is over.

One that comes and goes is one, and what changes of it is told once a minute at most, so that the
log tells of each a few lines an hour at worst, and none is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import structlog

from pullstatus.store import Alarm

log = structlog.get_logger(__name__)

QUIET_S: Final = 60.0  # in which one has not come again, so that it is over


class _Told:
    """An alarm that was told and is not over."""

    def __init__(self, alarm: Alarm, now_s: float) -> None:
        self.alarm = alarm
        self.began_s = self.told_s = self.seen_s = now_s


class Alarms:
    """The alarms of one process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """There is none; `clock` is of seconds."""
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def tell(self, alarms: Iterable[Alarm]) -> None:
        """Tell the log what is new of these, which are all there are now; to be called often."""
        now_s = self._clock()
        for alarm in alarms:
            told = self._told.get(alarm.event)
            if told is None:
                self._told[alarm.event] = _Told(alarm, now_s)
                _tell(alarm)
                continue
            told.seen_s = now_s
            if alarm != told.alarm and now_s - told.told_s >= QUIET_S:
                told.alarm, told.told_s = alarm, now_s
                _tell(alarm)
        for event, told in list(self._told.items()):
            if now_s - told.seen_s >= QUIET_S:
                del self._told[event]
                log.warning("no more alarm", of=event, after_s=round(told.seen_s - told.began_s))


def _tell(alarm: Alarm) -> None:
    log.error(alarm.event, **alarm.where, reason=alarm.reason)
