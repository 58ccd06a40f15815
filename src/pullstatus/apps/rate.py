"""A token bucket for each application that has a limit, and each purpose of its calls."""

from __future__ import annotations

from collections.abc import Callable

from pullstatus.apps.values import Purpose


class RateLimiter:
    """Lets `rate_max` calls a second through, a second's worth at once at the most."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._buckets: dict[
            tuple[int, Purpose], tuple[float, float]
        ] = {}  # what is left, and as of when

    def admit(self, sdkappid: int, purpose: Purpose, rate_max: int) -> bool:
        """Whether this call is within the limit; counts it if so."""
        now = self._monotonic_s()
        left, since = self._buckets.get((sdkappid, purpose), (float(rate_max), now))
        left = min(float(rate_max), left + (now - since) * rate_max)
        admitted = left >= 1
        self._buckets[sdkappid, purpose] = (left - admitted, now)
        return admitted
