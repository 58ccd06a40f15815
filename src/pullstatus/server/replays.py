"""Pulls that are signed as one before: allowed, unless an application is strict, and counted.

A client that sends the same bytes once more does no harm; nor can somebody be told from it who has
copied a request of his. So an operator should see whose signatures come again, and how often.
"""

from __future__ import annotations

from collections import Counter, OrderedDict


class Replays:
    """The newest signatures, and how often one of them came again.

    Attributes:
        total: since the server began.
    """

    def __init__(self, count_max: int) -> None:
        """Remember so many; one that comes again after as many others is not known any more."""
        self._count_max = count_max
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._by_application: Counter[int] = Counter()
        self.total = 0

    def note(self, sdkappid: int, signature: str) -> None:
        """Count a pull of an application that is let in."""
        if signature in self._seen:
            self.total += 1
            self._by_application[sdkappid] += 1
            return
        self._seen[signature] = None
        if len(self._seen) > self._count_max:
            self._seen.popitem(last=False)

    def take(self) -> dict[int, int]:
        """How many came again since this was called last, by application, most first."""
        taken, self._by_application = self._by_application, Counter()
        return dict(taken.most_common())
