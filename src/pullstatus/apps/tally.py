"""Failed tries as they go on record: summed by the hour, a row for each application and fault.

The log tells of them while they happen, and is thrown away. What stays is how many there were, at
which application, and from how many addresses; not from which: the record is for good, and whose
address that was is personal data.

However many try, at however many applications, an hour has at most `limits.FAILED_TRIES_ROWS_MAX`
rows; one in which none failed has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pullstatus import limits
from pullstatus.apps.networks import site_of
from pullstatus.apps.operator import Operator
from pullstatus.records.hours import HOUR_MS
from pullstatus.store import Act

ACTION: Final = "failed tries"

Key = tuple[str, int | None]  # what was wrong, and at which application; None: at none there is


class Tally:
    """Failed tries since they were taken for the record last.

    Its size is bounded by the number of applications, and `limits.FAILED_TRIES_ADDRESSES_MAX`.
    """

    def __init__(self, now_ms: int) -> None:
        self._since_ms = now_ms
        self._sums: dict[Key, _Sum] = {}
        self._addresses = 0  # in all sums

    def count(self, what: str, sdkappid: int | None, address: str) -> None:
        """Count one more.

        Args:
            sdkappid: an application that there is; None: it was at none.
            address: it came from; of IPv6 the network counts.
        """
        found = self._sums.get((what, sdkappid))
        if found is None:
            found = self._sums[what, sdkappid] = _Sum()
        found.tries += 1
        site = site_of(address)
        if site in found.sites:
            return
        if self._addresses < limits.FAILED_TRIES_ADDRESSES_MAX:
            self._addresses += 1
            found.sites.add(site)
        else:
            found.more = True

    def hour_over(self, now_ms: int) -> bool:
        """Whether another hour of the clock has begun since the last `take`."""
        return now_ms // HOUR_MS != self._since_ms // HOUR_MS

    def take(self, by: Operator) -> list[Act]:
        """The acts to put on record as of now; counts anew from then on."""
        since = datetime.fromtimestamp(self._since_ms / 1000, UTC).isoformat(timespec="seconds")
        rows = [
            by.act(ACTION, **detail, since=since) for detail in _details(list(self._sums.items()))
        ]
        self._since_ms = by.now_ms
        self._sums = {}
        self._addresses = 0
        return rows


class _Sum:
    """Tries of one kind, the sites that they came from, and whether there were more of those."""

    __slots__ = ("more", "sites", "tries")

    def __init__(self) -> None:
        self.tries = 0
        self.sites: set[str] = set()
        self.more = False


def _details(sums: list[tuple[Key, _Sum]]) -> list[dict[str, object]]:
    """What the rows say: those at no application first, then by the number of tries."""
    sums.sort(key=lambda item: (item[0][1] is not None, -item[1].tries))
    own = limits.FAILED_TRIES_ROWS_MAX
    if len(sums) > own:
        own -= 1
    details: list[dict[str, object]] = [
        {"what": what, "sdkappid": sdkappid, **_told([found])}
        for (what, sdkappid), found in sums[:own]
    ]
    if rest := sums[own:]:
        applications = len({sdkappid for (_, sdkappid), _ in rest})
        details.append({"applications": applications, **_told([found for _, found in rest])})
    return details


def _told(sums: Sequence[_Sum]) -> dict[str, object]:
    sites: set[str] = set()
    told: dict[str, object] = {
        "tries": sum(found.tries for found in sums),
        "addresses": len(sites.union(*(found.sites for found in sums))),
    }
    if any(found.more for found in sums):
        told["or_more"] = True
    return told
