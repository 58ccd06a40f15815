"""A program that reads the store for long keeps its log from being folded: that has an end."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pullstatus import limits
from pullstatus.errors import StoreFull
from pullstatus.store import Store
from pullstatus.store.sqlite import connection, guarded
from pullstatus.store.sqlite.place import log_bytes
from tests.store.build import STATUSES, append, pull, records
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio

# Another program: closing a file here would drop this process's locks on it.
READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM chunk").fetchall()
print("reads", flush=True)
sys.stdin.read()
"""


async def append_until_full(store: Store) -> int:
    deadline_s = time.monotonic() + 120
    accepted = 0
    with contextlib.suppress(StoreFull):
        while time.monotonic() < deadline_s:
            await store.append(append(STATUSES, records(50)))
            accepted += 50
    return accepted


async def test_a_log_that_is_held_up_is_no_longer_added_to(
    opener: Opener, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_LOG_BYTES_MAX", 2 * 1024 * 1024)
    monkeypatch.setattr(connection, "WAL_BYTES_KEPT", 64 * 1024)
    monkeypatch.setattr(guarded, "CHECKPOINT_PAGES", 16)
    monkeypatch.setattr(guarded, "FOLD_EVERY_S", 0.1)
    store = await opener(server=True)
    await store.append(append(STATUSES, records(1)))
    reader = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", READER, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert reader.stdout is not None
        assert await asyncio.to_thread(reader.stdout.readline) == b"reads\n"
        accepted = 1 + await append_until_full(store)
        with pytest.raises(StoreFull, match="the store's log is too long"):
            await store.append(append(STATUSES, records(1)))
        before = log_bytes(file)
        engine = await store.engine()
        assert not engine.room
        # What waits for nobody may still be written meanwhile.
        assert 2 * 1024 * 1024 < before <= engine.log_bytes <= log_bytes(file)
        assert (await store.pull(pull(STATUSES))).count == 100  # pulls go on
    finally:
        await asyncio.to_thread(reader.communicate, b"")
    # Nobody commits anything meanwhile: it is folded by itself.
    deadline_s = time.monotonic() + 60
    while not (await store.engine()).room:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.05)
    await store.append(append(STATUSES, records(1)))
    [row] = await store.backlog()
    assert (row.accepted, row.handed_out) == (accepted + 1, 100)
