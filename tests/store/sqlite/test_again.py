"""Which ranges are there again: all of them, however many, and whichever lies over others."""

from pathlib import Path

import pytest

from pullstatus.store import Pull, backup_store, open_store, restore_store
from pullstatus.store.sqlite.engine import READ_ROWS
from tests.store.build import NOW_MS, STATUSES, append, new_act, records, redeliver
from tests.store.engines import sqlite_url

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("before", [READ_ROWS - 3, READ_ROWS - 2, READ_ROWS - 1, READ_ROWS])
async def test_copies_are_told_behind_a_restored_range_that_lies_over_them(
    tmp_path: Path, before: int
) -> None:
    """Whether that is the last of a step or not; and from any number on."""
    url = sqlite_url(tmp_path / "a.db")
    store = await open_store(url, server=True)
    await store.append(append(STATUSES, records(2 * before)))
    for _ in range(0, 2 * before, 100):
        await store.pull(Pull(STATUSES, 100, NOW_MS))
    apart = [(2 * number + 1, 1) for number in range(before)]
    assert await store.redeliver(redeliver(STATUSES, *apart)) == before
    for _ in range(0, before, 100):
        await store.pull(Pull(STATUSES, 100, NOW_MS))
    await store.redeliver(redeliver(STATUSES, (1, 1), (3, 1), (5, 1)))
    told = [again async for again in store.again(STATUSES)]
    await store.close()
    await backup_store(url, tmp_path / "b.db", lambda *_: None)
    url = sqlite_url(tmp_path / "c.db")
    act = new_act("restore")
    await restore_store(url, tmp_path / "b.db", act=act, progress=lambda *_: None)
    store = await open_store(url)
    found = [again async for again in store.again(STATUSES)]
    restored = [again for again in found if again.first_seq == again.source_seq]
    assert [again for again in found if again not in restored] == told
    assert [(again.first_seq, again.count) for again in restored] == [(3 * before + 1, 3)]
    for first_seq in (2 * before + 7, 3 * before + 1, 3 * before + 3):
        expected = [again for again in found if again.first_seq + again.count > first_seq]
        assert [again async for again in store.again(STATUSES, first_seq)] == expected
    await store.close()
