"""What `pullstatus doctor` reads of a store, over each engine, beside whoever uses it."""

from __future__ import annotations

import pytest

from pullstatus.cli.doctor import store as doctor
from pullstatus.cli.doctor.findings import Level
from pullstatus.mailbox import done
from pullstatus.mailbox.done import Task
from pullstatus.records import Kind
from pullstatus.store import Mailbox, Store
from tests.store.build import NOW_MS, append, pull, records

pytestmark = pytest.mark.anyio

BOX = Mailbox(1_400_000_001, Kind.REPLY)


async def test_it_stands_as_it_is_used(store: Store, url: str) -> None:
    await store.append(append(BOX, records(3)))
    await store.pull(pull(BOX, 2, NOW_MS + 5))
    await done.note(store, Task.AUDIT, NOW_MS + 9)
    found, findings = await doctor.look(url, None)
    assert found is not None
    assert (found.stored, found.waiting, found.parked, found.quarantined) == (3, 1, 0, 0)
    assert (found.oldest_ms, found.newest_ms) == (NOW_MS, NOW_MS + 9)
    assert found.done_ms == {Task.BACKUP: 0, Task.AUDIT: NOW_MS + 9}
    assert [finding.level for finding in findings] == [Level.OK]
