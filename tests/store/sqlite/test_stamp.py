"""The stamp by which a server knows that another door has committed: whose it is, what it costs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from pullstatus.errors import OutcomeUnknown, StoreRefused
from pullstatus.store import Store
from pullstatus.store.gathering.operations import Operation
from pullstatus.store.sqlite import SqliteStore
from pullstatus.store.sqlite.place import served_ms
from pullstatus.store.sqlite.stamp import HOLDER_BYTES, STAMP_BYTES, Stamp, lock_file
from pullstatus.store.window import Gone
from tests.store.build import EMPTY, STATUSES, append, pull, records
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio


def submitted(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What a store hands to its writer from now on."""
    assert isinstance(store, SqliteStore)
    found: list[object] = []
    submit = store._writer.submit

    def noting(operation: Operation, gone: Gone | None = None) -> asyncio.Future[Any]:
        found.append(operation)
        return submit(operation, gone)

    monkeypatch.setattr(store._writer, "submit", noting)
    return found


async def test_empty_pulls_cost_no_look_until_another_door_commits(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then one does, and what it has learned is good for those that follow."""
    server, command = await opener(server=True), await opener()
    await server.pull(pull(STATUSES))
    handed_over = submitted(server, monkeypatch)
    for _ in range(3):
        for _ in range(10):
            assert await server.pull(pull(STATUSES)) == EMPTY
        assert handed_over == []
        await command.append(append(STATUSES, records(1)))
        assert (await server.pull(pull(STATUSES))).count == 1
        assert len(handed_over) == 1
        handed_over.clear()


async def test_a_door_that_changes_nothing_leaves_the_stamp(opener: Opener, file: Path) -> None:
    await opener(server=True)
    command = await opener()
    before = lock_file(file).read_bytes()
    assert await command.pull(pull(STATUSES)) == EMPTY
    assert lock_file(file).read_bytes() == before
    await command.append(append(STATUSES, records(1)))
    assert lock_file(file).read_bytes() != before


async def test_the_file_still_says_who_serves_and_since_when(opener: Opener, file: Path) -> None:
    server, command = await opener(server=True), await opener()
    os.utime(lock_file(file), (1_000_000, 1_000_000))
    await command.append(append(STATUSES, records(1)))
    assert served_ms(file) == 1_000_000_000
    with pytest.raises(StoreRefused, match=rf"process {os.getpid()}\) already serves"):
        await opener(server=True)
    assert (await server.pull(pull(STATUSES))).count == 1


async def test_without_a_server_nothing_is_left_behind(opener: Opener, file: Path) -> None:
    command = await opener()
    await command.append(append(STATUSES, records(1)))
    assert not lock_file(file).exists()


async def test_a_stamp_that_cannot_be_written_is_no_success(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit happened; a server that doesn't know it may say that there is nothing."""
    server, failures = await opener(server=True), list[BaseException]()
    command = await opener(on_failure=failures.append)

    def fail(*_: object) -> int:
        raise OSError(5, "made up")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(OutcomeUnknown, match="made up"):
            await command.append(append(STATUSES, records(1)))
    assert [type(failure) for failure in failures] == [OutcomeUnknown]
    assert (await server.pull(pull(STATUSES, key="k"))).count == 1


async def test_a_stamp_that_cannot_be_read_is_like_no_other(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pull looks into the store then."""
    server, command = await opener(server=True), await opener()

    read = os.pread

    def fail(descriptor: int, count: int, offset: int) -> bytes:
        if (count, offset) == (STAMP_BYTES, HOLDER_BYTES):
            raise OSError(5, "made up")
        return read(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", fail)
    for _ in range(3):
        assert await server.pull(pull(STATUSES)) == EMPTY
        await command.append(append(STATUSES, records(1)))
        assert (await server.pull(pull(STATUSES))).count == 1


def test_a_lock_that_this_user_cannot_write_is_refused_before_any_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_file(tmp_path / "store.db").touch()
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(StoreRefused, match="cannot be written by this user"):
        Stamp(tmp_path / "store.db", server=False)
