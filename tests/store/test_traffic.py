"""What came by tokens from sources: counted by several processes, read as one, on every engine."""

from __future__ import annotations

import pytest

from pullstatus import limits
from pullstatus.apps import Token
from pullstatus.apps.values import source_mark
from pullstatus.errors import OutcomeUnknown, StoreUnavailable
from pullstatus.mailbox.traffic import Came, Column, Traffic, came
from pullstatus.store import Count, Noted, Store
from tests.store.build import NOW_MS, STATUSES
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
OWN = Token("own", "a" * 64, NOW_MS, STATUSES.sdkappid)
PLATFORM = Token("platform", "b" * 64, NOW_MS)
SOURCES = ["kannel", "twilio"]


def traffic(store: Store) -> Traffic:
    return Traffic(store, lambda: bytes(16))


async def test_what_several_processes_count_adds_up_by_token_and_source(opener: Opener) -> None:
    doors = [await opener(), await opener()]
    for door in doors:
        counted = traffic(door)
        for at_ms in (NOW_MS, NOW_MS - HOUR_MS, NOW_MS - 23 * HOUR_MS, NOW_MS - 24 * HOUR_MS):
            counts = {Column.STORED: 2, Column.REPEATS: 3, Column.PARKED: 4, Column.REFUSED: 5}
            counted.add(OWN, "kannel", at_ms, counts)
        counted.add(PLATFORM, "twilio", NOW_MS, {Column.REFUSED: 1})
        await counted.write(NOW_MS)
        await counted.write(NOW_MS)  # of nothing
    await doors[0].mark({source_mark(OWN, "kannel"): Noted(NOW_MS - 1)})
    assert await came(doors[1], [OWN, PLATFORM], SOURCES, NOW_MS) == {
        ("kannel", "own"): Came(NOW_MS - 1, hour=4, day=12, repeats=18, parked=24, refused=30),
        ("twilio", "platform"): Came(None, 0, 0, 0, 0, refused=2),
    }


class Failing:
    """A store that cannot count the first time."""

    def __init__(self, store: Store, error: Exception) -> None:
        self._store = store
        self._error: Exception | None = error

    async def count(self, operation: Count) -> bool:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return await self._store.count(operation)


@pytest.mark.parametrize(
    ("error", "stored"), [(StoreUnavailable("later"), 3), (OutcomeUnknown("perhaps"), 2)]
)
async def test_what_cannot_be_written_is_told_later_and_never_twice(
    store: Store, error: Exception, stored: int
) -> None:
    counted = traffic(Failing(store, error))  # type: ignore[arg-type]
    counted.add(OWN, "kannel", NOW_MS, {Column.STORED: 1})
    with pytest.raises(type(error)):
        await counted.write(NOW_MS)
    counted.add(OWN, "kannel", NOW_MS, {Column.STORED: 2})
    await counted.write(NOW_MS)
    [found] = (await came(store, [OWN], SOURCES, NOW_MS)).values()
    assert found.day == stored


async def test_it_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRAFFIC_MAX", 1)
    counted = traffic(store)
    for source in SOURCES:
        counted.add(OWN, source, NOW_MS, {Column.STORED: 1})
    counted.add(OWN, "kannel", NOW_MS, {Column.STORED: 1})
    await counted.write(NOW_MS)
    assert {
        place: each.day for place, each in (await came(store, [OWN], SOURCES, NOW_MS)).items()
    } == {("kannel", "own"): 2}
