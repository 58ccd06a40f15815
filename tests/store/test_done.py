"""What was done last, as it is noted in the store, on every engine."""

from __future__ import annotations

import pytest

from pullstatus.mailbox.done import Task, note, noted_ms
from pullstatus.records.hours import DAY_MS
from tests.store.build import NOW_MS
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio


async def test_what_a_clock_that_was_ahead_has_noted_gives_way_to_what_is_done_now(
    opener: Opener,
) -> None:
    store = await opener()
    await note(store, Task.AUDIT, NOW_MS)
    await note(store, Task.BACKUP, NOW_MS + 365 * DAY_MS)
    for at_ms in (NOW_MS, NOW_MS + 1):
        await note(store, Task.BACKUP, at_ms)
        assert await noted_ms(store) == {Task.BACKUP: at_ms, Task.AUDIT: NOW_MS}
