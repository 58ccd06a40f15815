"""Pulls that are signed as one before: allowed, unless an application is strict, and counted.

A client that sends the same bytes once more does no harm; nor can somebody be told from it who has
copied a request of his. So an operator should see whose signatures come again, and how often.
"""

from __future__ import annotations

from collections import Counter


class Replays:
    """Signatures that came lately, and how often one of them came again.

    Each has one place, where it stays until another comes that has the same: on a request's path
    there is no room for keeping an order.

    Attributes:
        total: since the server began.
    """

    def __init__(self, places: int) -> None:
        """Know at most so many."""
        self._known = [""] * places
        self._places = places
        self._by_application: Counter[int] = Counter()
        self.total = 0

    def note(self, sdkappid: int, signature: str) -> None:
        """Count a pull of an application that is let in."""
        place, known = hash(signature) % self._places, self._known
        if known[place] == signature:
            self.came_again(sdkappid)
        else:
            known[place] = signature

    def came_again(self, sdkappid: int) -> None:
        """Count one that did."""
        self.total += 1
        self._by_application[sdkappid] += 1

    def take(self) -> dict[int, int]:
        """How many came again since this was called last, by application, most first."""
        taken, self._by_application = self._by_application, Counter()
        return dict(taken.most_common())
