"""A new epoch: what waits is marked by an act that is on record, whoever writes beside."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullstatus.store import audit_store, open_store
from pullstatus.store.jetstream.epochs import mark_waiting
from pullstatus.store.jetstream.messages import AgainMessage, opened
from pullstatus.store.values import Again
from tests.store.build import REPLIES, STATUSES, acts_of, again_of, append, new_act, pull, records
from tests.store.jetstream import scheme
from tests.store.jetstream.lanes import LAYOUT, Process, cluster

pytestmark = pytest.mark.anyio


async def test_what_waits_is_marked_by_an_act_on_record(tmp_path: Path) -> None:
    with scheme.cluster(tmp_path) as url:
        store = await open_store(url)
        await store.append(append(STATUSES, records(5)))
        await store.append(append(REPLIES, records(1)))
        await store.pull(pull(STATUSES, 2))
        await store.pull(pull(REPLIES, 2))
        mark_waiting(scheme.bus_of(url), scheme.LAYOUT, new_act("store new-epoch"))
        assert await again_of(store, STATUSES) == [Again(3, 3, 3, 1)]
        assert await again_of(store, REPLIES) == []
        assert [row.act.action for row in await acts_of(store)] == ["store new-epoch"]
        found = await audit_store(url, lambda _done, _total: None)
        assert found.findings == []
        await store.close()


def test_what_comes_while_it_is_marked_is_marked_or_comes_behind() -> None:
    bus = cluster()
    process = Process(bus)
    process.do(append(STATUSES, records(2)))
    writes = iter([lambda: process.do(append(STATUSES, records(3)))])

    def overtake(stream: str) -> None:
        if stream == LAYOUT.stream(0):
            next(writes, lambda: None)()

    bus.overtake = overtake
    mark_waiting(bus, LAYOUT, new_act())
    place = LAYOUT.application(STATUSES.sdkappid)
    assert process.standing(STATUSES) == (5, 0)
    [row] = bus.following(place.stream, place.again(STATUSES.holds), 1, count=9, leader=True)
    assert opened(row, AgainMessage).size == 5
