"""Failed tries: wrong signatures, unknown applications, unknown tokens; how many, by whom, at whom.

A bucket for each address and for each application fills by itself and loses one for each failed
try. While an address's is empty, its failed tries are answered late, and only those: what proves
itself is never looked up here. An application's is for telling its operator, and slows nobody, or
a stranger who knows its number could.

Pure but for the clock. Addresses are a stranger's to choose: those that failed longest ago are
forgotten for others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, NamedTuple, TypeVar

from pullstatus import limits
from pullstatus.apps.networks import site_of

K = TypeVar("K", bound=Hashable)

TELL_EVERY_S: Final = 60.0


class Failed(NamedTuple):
    """What a failed try makes of those that it counts for.

    Attributes:
        late: whether it is to be answered late.
        of_address, at_application: so many tries to tell of now; 0: nothing is to be told.
    """

    late: bool
    of_address: int
    at_application: int


class Tries:
    """The failed tries of addresses, and those at applications.

    Attributes:
        addresses, applications: what is remembered of each.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self.addresses: Buckets[str] = Buckets(monotonic_s)
        self.applications: Buckets[int] = Buckets(monotonic_s)

    def failed(self, address: str, sdkappid: int | None) -> Failed:
        """Count one more.

        Args:
            address: it came from; of IPv6 the network counts.
            sdkappid: an application that there is; None: it was at none.
        """
        late, of_address = self.addresses.take(site_of(address))
        at_application = 0 if sdkappid is None else self.applications.take(sdkappid)[1]
        return Failed(late, of_address, at_application)


class _Bucket:
    """What is left as of when; failed tries since they were told last, and when that was."""

    __slots__ = ("left", "since_s", "told_s", "tries")

    def __init__(self, now_s: float) -> None:
        self.left = float(limits.FAILED_TRIES_MAX)
        self.since_s = now_s
        self.told_s = -TELL_EVERY_S + now_s
        self.tries = 0


class Buckets(Generic[K]):
    """A bucket for each that failed lately.

    Attributes:
        forgotten: how many had to make room for others.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._buckets: OrderedDict[K, _Bucket] = OrderedDict()  # who failed last is last
        self.forgotten = 0

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._buckets)

    def take(self, key: K) -> tuple[bool, int]:
        """Whether the bucket was empty, and how many tries to tell of, at most once a minute."""
        now = self._monotonic_s()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(now)
            if len(self._buckets) > limits.FAILED_TRIES_KEPT_MAX:
                self._buckets.popitem(last=False)
                self.forgotten += 1
        self._buckets.move_to_end(key)
        filled = bucket.left + (now - bucket.since_s) * limits.FAILED_TRIES_PER_MINUTE / 60
        left = min(float(limits.FAILED_TRIES_MAX), filled)
        empty = left < 1
        bucket.left, bucket.since_s = left - (not empty), now
        bucket.tries += 1
        if not empty or now - bucket.told_s < TELL_EVERY_S:
            return empty, 0
        told, bucket.tries, bucket.told_s = bucket.tries, 0, now
        return empty, told
