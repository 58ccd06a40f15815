"""`pullstatus readers release`: what it names is what it takes, or nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from pullstatus.cli import main
from pullstatus.store import Pull, Reader, Release, open_store
from pullstatus.store.sqlite import SqliteStore
from tests.store.build import NOW_MS, STATUSES, acts_of, append, journal_of, records


def test_a_reader_that_moved_on_meanwhile_keeps_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/store.db?file-system=any"

    async def prepare() -> None:
        store = await open_store(url)
        await store.append(append(STATUSES, records(4)))
        await store.pull(Pull(STATUSES, 1, NOW_MS, reader=Reader("billing")))
        await store.close()

    asyncio.run(prepare())
    release = SqliteStore.release

    async def overtaken(store: SqliteStore, operation: Release) -> int:
        await store.pull(Pull(STATUSES, 2, NOW_MS, reader=Reader("billing", 1)))
        return await release(store, operation)

    monkeypatch.setattr(SqliteStore, "release", overtaken)
    told = CliRunner().invoke(
        main,
        [
            *("readers", "release", "billing", "--sdkappid", str(STATUSES.sdkappid)),
            *("--type", "delivery-status", "--reason", "gone", "--store", url),
        ],
    )
    assert told.exit_code == 1
    assert f"moved on from page {STATUSES.sdkappid}-0-1" in told.stderr

    async def check() -> None:
        store = await open_store(url)
        assert [row.in_hand for row in await journal_of(store, STATUSES)] == [False, True]
        assert await acts_of(store) == []
        await store.close()

    asyncio.run(check())
