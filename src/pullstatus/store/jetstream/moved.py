"""What a migration has brought of repeats, of which it is not known whose applications they are.

It lies beside the settings, and goes when it is too old, as all that is remembered. Nobody adds to
it, so what was read of it once stays true.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from pullstatus.store.fingerprints import keys_of
from pullstatus.store.jetstream import snapshots
from pullstatus.store.jetstream.messages import PrintsMessage, RepeatMessage, opened
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus
from pullstatus.store.values import RepeatKey

LOOK_S: Final = 60.0  # between two looks at whether there is any left
PRINTS_MAX: Final = 1 << 18  # that are kept in memory, but for one hour that has more

_NONE: Final[Mapping[bytes, int]] = {}


class Moved:
    """What all lanes of a process know of it."""

    def __init__(self, bus: Bus, layout: Layout, clock: Callable[[], float]) -> None:
        """Nothing is asked yet."""
        self._bus = bus
        self._layout = layout
        self._place = layout.common
        self._clock = clock
        self._due_s = clock()
        self._any = False
        self._hours: OrderedDict[int, Mapping[bytes, int]] = OrderedDict()

    def recall(self, repeat_key: RepeatKey) -> RepeatMessage | None:
        """What a batch was answered before."""
        if not self._is_any():
            return None
        subject = self._place.moved_batch(repeat_key.scope, repeat_key.key)
        found = self._bus.last(self._place.stream, subject, leader=True)
        return None if found is None else opened(found, RepeatMessage)

    def prints(self, hour: int) -> Mapping[bytes, int]:
        """Fingerprints of records of an hour, and when each was accepted."""
        if not self._is_any():
            return _NONE
        found = self._hours.get(hour)
        if found is None:
            found = self._hours[hour] = self._read(hour)
            while len(self._hours) > 1 and sum(map(len, self._hours.values())) > PRINTS_MAX:
                self._hours.popitem(last=False)
        return found

    def forget(self) -> None:
        """Remember nothing: some of it is forgotten."""
        self._hours.clear()
        self._due_s = self._clock()

    def _read(self, hour: int) -> Mapping[bytes, int]:
        seen: dict[bytes, int] = {}
        newest = self._bus.newest(self._place.stream)
        subject = self._place.moved_hour(hour)
        for message in snapshots.all_of(self._bus, self._place.stream, subject, newest):
            told = opened(message, PrintsMessage)
            for key in keys_of(told.keys):
                seen[key] = max(told.at_ms, seen.get(key, 0))
        return seen

    def _is_any(self) -> bool:
        now_s = self._clock()
        if now_s >= self._due_s:
            self._due_s = now_s + LOOK_S
            found = self._bus.last(self._place.stream, self._place.moved, leader=True)
            self._any = found is not None
        return self._any
