"""What one process meets on its way to the nodes: writes without an answer, messages mended."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pullstatus.errors import OutcomeUnknown, StoreFailed, StoreFull, StoreUnavailable

QUIET_S: Final = 60.0
"""Who has not tried to write for so long knows no more whether a leader answers."""


class Vitals:
    """Counts of one process; thread-safe.

    Attributes:
        mended: messages that a node had damaged or lost, and another one had.
        unanswered: writes that were given up without an answer.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing was met yet; `clock` is of seconds."""
        self.mended = 0
        self.unanswered = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._mended: Counter[str] = Counter()
        self._since_s: dict[str, float] = {}  # streams, since when no write was answered
        self._ended_s: dict[str, float] = {}  # when one was given up last
        self._under_way: Counter[str] = Counter()

    def mend(self, stream: str) -> None:
        """A message was mended."""
        with self._lock:
            self.mended += 1
            self._mended[stream] += 1

    def take_mended(self) -> Mapping[str, int]:
        """Messages mended since the last call, by stream."""
        with self._lock:
            found, self._mended = self._mended, Counter()
            return found

    @contextlib.contextmanager
    def writing(self, stream: str) -> Iterator[None]:
        """A write to a stream, for as long as a block takes: what it raises tells what came of it.

        That nothing of it is stored is an answer, too.
        """
        began_s = self._clock()
        with self._lock:
            self._under_way[stream] += 1
            self._since_s.setdefault(stream, began_s)
        answered = True
        try:
            yield
        except (OutcomeUnknown, StoreUnavailable) as error:
            answered = isinstance(error, StoreFull | StoreFailed)
            raise
        finally:
            with self._lock:
                self._under_way[stream] -= 1
                if answered:
                    self._since_s.pop(stream, None)
                else:
                    self.unanswered += 1
                    self._since_s.setdefault(stream, began_s)
                    self._ended_s[stream] = self._clock()

    def unanswered_s(self, stream: str) -> float:
        """For how long no write to a stream was answered; 0: one was, or none is tried."""
        now_s = self._clock()
        with self._lock:
            since_s = self._since_s.get(stream)
            if since_s is None:
                return 0.0
            if not self._under_way[stream] and now_s - self._ended_s[stream] >= QUIET_S:
                del self._since_s[stream]
                return 0.0
            return now_s - since_s
