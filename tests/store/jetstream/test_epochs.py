"""A new epoch: what waits is marked by an act that is on record, whoever writes beside."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullstatus.errors import StoreUnavailable
from pullstatus.store import Change, audit_store, open_store
from pullstatus.store.gathering.log import Undone
from pullstatus.store.gathering.operations import Changes, Enter
from pullstatus.store.jetstream.epochs import mark_waiting
from pullstatus.store.jetstream.messages import AgainMessage, opened
from pullstatus.store.transfer import Migration, Role, Stage
from pullstatus.store.values import Again
from tests.store.build import REPLIES, STATUSES, acts_of, again_of, append, new_act, pull, records
from tests.store.jetstream import scheme
from tests.store.jetstream.lanes import COMMON, LAYOUT, Process, cluster

SEALED = Migration(bytes(16), Role.SOURCE, Stage.SEALED, "peer")

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


@pytest.mark.parametrize("commits", [1, 0])  # 0: only the partition's guard knows of it
def test_settings_that_were_set_back_behind_a_seal_are_gone_on_with(commits: int) -> None:
    """Of streams that were copied at different moments theirs is the older one."""
    bus = cluster()
    process = Process(bus)
    for _ in range(commits):
        process.do(append(STATUSES, records(1)))
    for now, before in ((SEALED, None), (None, SEALED)):
        assert process.settings.commit([Enter(now, before)]) == [True]
    for subject in (LAYOUT.common.gate, LAYOUT.common.commits):
        bus.purge(COMMON, subject, below=1 << 62)
    name = f"application/{STATUSES.sdkappid}"
    changes = Changes((Change(name, b"1", None),))
    with pytest.raises(Undone) as undone:
        Process(bus).do(append(STATUSES, records(1)))
    assert "new-epoch" in str(undone.value.error)
    with pytest.raises(Undone) as undone:
        Process(bus).settings.commit([changes])
    assert "new-epoch" in str(undone.value.error)
    mark_waiting(bus, LAYOUT, new_act())
    mark_waiting(bus, LAYOUT, new_act())
    assert Process(bus).do(append(STATUSES, records(1))) == 1
    assert Process(bus).settings.commit([changes]) == [True]


def test_a_move_that_begins_meanwhile_is_no_mistake() -> None:
    bus = cluster()
    process = Process(bus)
    process.do(append(STATUSES, records(1)))
    seals = iter([lambda: process.settings.commit([Enter(SEALED, None)])])

    def overtake(stream: str) -> None:
        if stream == LAYOUT.stream(0):
            next(seals, lambda: None)()

    bus.overtake = overtake
    with pytest.raises(StoreUnavailable, match="move the store"):
        mark_waiting(bus, LAYOUT, new_act())
