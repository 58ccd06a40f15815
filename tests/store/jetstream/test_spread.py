"""Records of more hours than one write can hold are stored in parts, and each of them once."""

from __future__ import annotations

from typing import cast

import msgspec
import pytest

from pullstatus.errors import OutcomeUnknown, SettingChanged, StoreUnavailable
from pullstatus.store import Append, Fingerprints, Park, PutAside
from pullstatus.store.jetstream.engine import JetStreamStore
from pullstatus.store.jetstream.spread import HOURS_MAX, appends_of, parks_of
from pullstatus.store.jetstream.subjects import hour_of
from tests.store.build import STATUSES, append, fingerprinted, parked, records, repeat_key
from tests.store.jetstream.lanes import LAYOUT, SECRET, cluster

HOUR_S = 3600


def apart(count: int, *, per_hour: int = 1) -> Append:
    """Records, each so many of an hour of their own."""
    numbers = [HOUR_S * (place // per_hour) for place in range(count)]
    return fingerprinted(STATUSES, records(count), numbers)


def hours(*prints: Fingerprints | None) -> int:
    return len({hour_of(at_s) for each in prints if each for at_s, _ in each.items})


@pytest.mark.parametrize(("count", "per_hour"), [(2000, 1), (1000, 1), (501, 1), (3000, 2)])
def test_parts_are_all_of_it_in_order(count: int, per_hour: int) -> None:
    operation = apart(count, per_hour=per_hour)
    parts = appends_of(operation)
    assert len(parts) == -(-count // per_hour // HOURS_MAX)
    assert [entry for part in parts for entry in part.entries] == operation.entries
    found = [cast("Fingerprints", part.fingerprints) for part in parts]
    assert operation.fingerprints is not None
    assert [item for each in found for item in each.items] == operation.fingerprints.items
    assert all(hours(each) <= HOURS_MAX for each in found)


def test_what_is_of_few_hours_or_has_a_key_stays_as_it_is() -> None:
    for operation in (
        apart(HOURS_MAX),
        apart(5000, per_hour=1000),
        append(STATUSES, records(2000)),
        msgspec.structs.replace(apart(2000), repeat_key=repeat_key("k")),
    ):
        assert appends_of(operation) == [operation]
        park = parked(operation, [b"x"])
        if operation.repeat_key is not None:
            assert parks_of(park) == [park]


def test_what_is_put_aside_is_as_much_as_it_was() -> None:
    prints = apart(700).fingerprints
    operation = msgspec.structs.replace(
        parked(apart(300), records(700), 10, 1000), fingerprints=prints
    )
    parts = parks_of(operation)
    assert [len(part.records.entries) for part in parts] == [300, 0, 0]
    assert [entry for part in parts for entry in part.entries] == operation.entries
    assert all(hours(part.fingerprints, part.records.fingerprints) <= HOURS_MAX for part in parts)
    assert {(part.items_max, part.bytes_max) for part in parts} == {(10, 1000)}
    plain = msgspec.structs.replace(parked(apart(600), [b"x"]), fingerprints=None)
    assert [len(part.entries) for part in parks_of(plain)] == [0, 0, 1]


@pytest.mark.anyio
async def test_who_is_told_that_a_part_is_stored_sends_all_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus, operation = cluster(), apart(1100)
    store = await JetStreamStore.open("s", bus, LAYOUT, SECRET, 1, created=False)
    submit = store._writer.submit
    failing: list[Exception] = []

    def fails(part: Append | Park, *rest: object) -> object:
        if failing and cast("Append", part).entries[0] == operation.entries[HOURS_MAX]:
            raise failing.pop()
        return submit(part, *rest)  # type: ignore[call-overload]

    monkeypatch.setattr(store._writer, "submit", fails)
    failing.append(StoreUnavailable("away"))
    with pytest.raises(OutcomeUnknown, match="send all of it again: away"):
        await store.append(operation)
    failing.append(SettingChanged("another"))
    with pytest.raises(SettingChanged):
        await store.append(operation)
    assert await store.append(operation) == 600
    assert await store.append(operation) == 0
    assert [entry.data async for entry in store.entries(STATUSES)] == operation.entries
    assert await store.park(parked(operation, [b"x"])) == PutAside(0, 1, 0)
    await store.close()
