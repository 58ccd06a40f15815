"""The emulator needs a few kB, and gets along where a server would refuse to take records."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from pullstatus import limits
from pullstatus.emulator.thread import EmulatorThread
from pullstatus.errors import StoreFull, StoreRefused
from pullstatus.store import open_store
from pullstatus.store.scratch import scratch_store
from tests.store.build import STATUSES, append, records


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk of which somewhat more is free than what a store that is thrown away leaves free."""
    fields = list(os.statvfs("/"))
    fields[0] = fields[1] = 4096
    fields[4] = limits.SCRATCH_RESERVE_BYTES // 4096 + 1
    found = os.statvfs_result(fields)
    monkeypatch.setattr(os, "statvfs", lambda _path: found)


@pytest.mark.usefixtures("small")
def test_the_emulator_works_on_a_small_disk() -> None:
    with EmulatorThread({"traffic": {"statuses_at_start": 20}}) as emulator:
        emulator.feed(3)
        assert emulator.waiting() == 23


@pytest.mark.usefixtures("small")
@pytest.mark.anyio
async def test_a_server_leaves_more_free(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/store.db")
    with pytest.raises(StoreFull):
        await store.append(append(STATUSES, records(1)))
    await store.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_a_temporary_folder_with_a_question_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "what?").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "what?"))
    with EmulatorThread() as emulator:
        emulator.feed(1)
        assert [*tmp_path.glob("what?/*/*/mailboxes.db")] == [*tmp_path.rglob("*.db")] != []
    assert list((tmp_path / "what?").iterdir()) == []


def test_no_temporary_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(StoreRefused, match="set TMPDIR"), scratch_store("test"):
        pass
