"""How much came by which token from which source, hour by hour, over all servers.

Each process counts in memory, and has the store add that up now and then: no request waits for it,
and what a kill takes is what was counted since. It stands in tallies of the token's application, of
number 0 if it is a platform's: a series for each token and source.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pullstatus import limits
from pullstatus.apps import Token
from pullstatus.apps.values import NOBODY, source_mark
from pullstatus.errors import StoreUnavailable
from pullstatus.mailbox.tallies import token_series
from pullstatus.records.hours import HOUR_MS, hour_of
from pullstatus.store import Count, Store, Tally

__all__ = ["Came", "Column", "Traffic", "came"]

_DAY_HOURS = 24


class Column(enum.IntEnum):
    """Where a tally of these series has what: items, and of `REFUSED` requests."""

    STORED = 0
    REPEATS = 1
    PARKED = 2
    REFUSED = 3


class Traffic:
    """What this process has counted and the store does not have yet."""

    def __init__(self, store: Store, new_ticket: Callable[[], bytes]) -> None:
        """Nothing has come."""
        self._store = store
        self._new_ticket = new_ticket
        self._counted: dict[tuple[int, Tally], list[int]] = {}  # by a tally of nothing

    def add(self, token: Token, source: str, now_ms: int, counts: dict[Column, int]) -> None:
        """Count what came; beyond `limits.TRAFFIC_MAX` tallies it is not counted."""
        series = token_series(token.digest, source)
        place = token.sdkappid or NOBODY, Tally(series, hour_of(now_ms), ())
        found = self._counted.get(place)
        if found is None:
            if len(self._counted) >= limits.TRAFFIC_MAX:
                return
            found = self._counted[place] = [0] * len(Column)
        for column, count in counts.items():
            found[column] += count

    async def write(self, now_ms: int) -> None:
        """Have the store add it up.

        What is in a commit of unknown outcome is not told again: less is counted then, never more.

        Raises:
            StoreUnavailable: the rest is left for the next time.
            OutcomeUnknown: so is the rest.
        """
        while self._counted:
            number = next(iter(self._counted))[0]
            places = [place for place in self._counted if place[0] == number]
            taken = {place: self._counted.pop(place) for place in places}
            tallies = [
                Tally(tally.series, tally.hour, tuple(counts))
                for (_, tally), counts in taken.items()
            ]
            try:
                await self._store.count(Count(number, tallies, now_ms, ticket=self._new_ticket()))
            except StoreUnavailable:
                self._put_back(taken)
                raise

    def _put_back(self, taken: dict[tuple[int, Tally], list[int]]) -> None:
        for place, counts in taken.items():
            since = self._counted.get(place, [0] * len(Column))
            self._counted[place] = [one + other for one, other in zip(counts, since, strict=True)]


class Came(NamedTuple):
    """What came by a token from a source.

    Attributes:
        last_ms: when the last record of it did, in Unix milliseconds; None: none has, or it is not
            known any more.
        hour: records that were stored in the hour at hand.
        day: the same of that and the 23 hours before; as the others are.
        repeats: items that were there already.
        parked: items that could not be read, or were nobody's.
        refused: requests whose content or signature was refused.
    """

    last_ms: int | None
    hour: int
    day: int
    repeats: int
    parked: int
    refused: int


async def came(
    store: Store, tokens: Iterable[Token], sources: Sequence[str], now_ms: int
) -> dict[tuple[str, str], Came]:
    """What came, by the names of source and token; of which nothing is known, they are left out."""
    this_hour, first = hour_of(now_ms), hour_of(now_ms - (_DAY_HOURS - 1) * HOUR_MS)
    by_number: dict[int, list[Token]] = defaultdict(list)
    for token in tokens:
        by_number[token.sdkappid or NOBODY].append(token)
    found: dict[tuple[str, str], Came] = {}
    for number, of_number in by_number.items():
        sums: dict[int, list[int]] = defaultdict(lambda: [0] * len(Column))
        hours: dict[int, int] = defaultdict(int)
        for tally in await store.tallies(number, first, this_hour):
            for column, count in zip(Column, tally.counts, strict=False):
                sums[tally.series][column] += count
            if tally.hour == this_hour:
                hours[tally.series] += tally.counts[Column.STORED]
        for token in of_number:
            marks = await store.marks(source_mark(token, ""))
            for source in sources:
                series = token_series(token.digest, source)
                noted = marks.get(source_mark(token, source))
                if noted is not None or series in sums:
                    found[source, token.name] = Came(
                        noted and noted.at_ms, hours[series], *sums[series]
                    )
    return found
