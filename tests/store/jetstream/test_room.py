"""Entries are refused while there is still room for pulls; each partition has its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullstatus.errors import StoreFull
from pullstatus.store import open_store
from pullstatus.store.jetstream import room
from pullstatus.store.jetstream.room import LOOK_S, RESERVE_BYTES, has_reserve
from pullstatus.store.jetstream.wire import Space
from tests.store.build import STATUSES, append, drain, incompressible, purge, records, until
from tests.store.jetstream import scheme
from tests.store.jetstream.lanes import PARTITION, Clock, Process, cluster

pytestmark = pytest.mark.anyio

LIMIT = 200_000


def test_a_reserve_is_a_twentieth_or_as_much_as_many_pulls_take() -> None:
    assert has_reserve(Space(94, 100))
    assert not has_reserve(Space(95, 100))
    assert has_reserve(Space(0, RESERVE_BYTES * 1000)._replace(used=RESERVE_BYTES * 998))
    assert not has_reserve(Space(RESERVE_BYTES * 999, RESERVE_BYTES * 1000))


async def test_what_adds_is_refused_before_pulls_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOOK_S", 0.0)
    with scheme.cluster(tmp_path) as url:
        scheme.limit(url, LIMIT)
        store = await open_store(url)
        stored = 0

        async def fill() -> None:
            nonlocal stored
            while True:
                stored += await store.append(append(STATUSES, [incompressible(5000)]))

        with pytest.raises(StoreFull, match="max_bytes"):
            await fill()
        assert not (await store.engine()).room
        pages = await drain(store, STATUSES, 10)
        assert sum(page.count for page in pages) == stored
        assert await purge(store, left_before_ms=1 << 50) == stored
        await until(lambda: store._writer.report.room)  # type: ignore[attr-defined]
        await store.append(append(STATUSES, records(1)))
        await store.close()


def test_a_write_that_finds_no_room_refuses_others_for_a_while() -> None:
    bus, clock = cluster(), Clock()
    process = Process(bus, clock)
    process.log.tend()
    bus.limits[PARTITION] = 100
    with pytest.raises(StoreFull):
        process.do(append(STATUSES, records(1)))
    process.log.tend()
    assert not process.log.has_room()
    bus.limits.clear()
    clock.now_s += LOOK_S
    process.log.tend()
    assert process.log.has_room()
