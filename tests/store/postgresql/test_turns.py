"""Of what one process does at a time: whoever stands still has its turn no longer."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from pullstatus.store import Store, init_store, open_store
from pullstatus.store.postgresql import PostgresStore, turns
from tests.store.build import until
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio

Admin = psycopg.Connection[TupleRow]

TURNS = "locktype = 'advisory' AND datname = current_database()"

HOLDS = """
import asyncio, sys
from pullstatus.store import init_store, open_store
from pullstatus.store.postgresql import turns

async def main():
    turns.IDLE_S = 2.0
    store = await open_store(sys.argv[1])
    async with store.following() as one, store._removing() as other:
        print(one, other, flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.fixture
async def holder(url: str) -> AsyncIterator[Process]:
    """A process whose turn it is, at both."""
    await init_store(url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDS, url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"True True\n"
        yield process
    finally:
        process.kill()
        await process.wait()


async def whose(store: Store) -> tuple[bool, bool]:
    """Whether it would be its turn at following, and at removing what is too old."""
    assert isinstance(store, PostgresStore)
    async with store.following() as following, store._removing() as removing:
        return following, removing


async def test_who_is_stopped_has_its_turn_no_longer(
    url: str, holder: Process, admin: Admin
) -> None:
    store = await open_store(url)
    assert await whose(store) == (False, False)
    os.kill(holder.pid, signal.SIGSTOP)
    locks = f"SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE {TURNS}"
    await until(lambda: admin.execute(locks).fetchall() == [])
    assert await whose(store) == (True, True)
    await store.close()


async def test_who_lives_keeps_its_turn(
    opener: Opener, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long nothing else is asked; and it keeps no dead row."""
    monkeypatch.setattr(turns, "IDLE_S", 5.0)
    one, other = await opener(), await opener()
    idle = (
        "SELECT FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xid IS NULL"
        " AND datname = current_database()"
    )
    late = f"{idle} AND backend_xmin IS NULL AND state_change - xact_start > interval '6 s'"
    async with one.following() as ours:
        assert ours
        await until(lambda: admin.execute(late).fetchone() is not None)
        assert await whose(other) == (False, True)
    assert await whose(other) == (True, True)


async def test_of_two_tasks_of_a_process_one_has_its_turn(opener: Opener) -> None:
    one, other = await opener(), await opener()
    async with one.following() as ours:
        assert ours
        assert await whose(one) == (False, True)
        assert await whose(other) == (False, True)
    assert await whose(one) == (True, True)


async def test_a_turn_ends_with_its_transaction(opener: Opener, admin: Admin) -> None:
    """Nothing of it stays with a session, which a pooler may keep; nor if the session was lost."""
    one = await opener()
    held = f"SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE {TURNS}"
    async with one.following() as ours:
        assert ours
        assert admin.execute(held).fetchall() == [(1,)]
        admin.execute(
            f"SELECT pg_terminate_backend(pid) FROM ({held.replace('count(*)', 'pid')}) h"
        )
        await until(lambda: admin.execute(held).fetchall() == [(0,)])
    assert await whose(one) == (True, True)
    await until(lambda: admin.execute(held).fetchall() == [(0,)])  # a backend takes its moment
