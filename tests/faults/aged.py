"""What upkeep has to deal with, left in a store as if it had been there for long.

A server that looks for old things all the time (`UPKEEP_ALWAYS`) finds it soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from pullstatus.clock import wall_ms
from pullstatus.store import Append, Fingerprints, Pull, Store, open_store
from tests.faults.load import app_mailbox
from tests.harness import STATUS, App, Program

AGE_MS = 100 * 86_400_000


async def an_old_batch(store: Store, app: App) -> None:
    """With the fingerprints of its records: something to forget."""
    marks = [(1_600_000_000, b"%016d" % number) for number in range(3)]
    batch = Append(app_mailbox(app, STATUS), [b"{}"] * 3, wall_ms() - AGE_MS)
    await store.append(
        msgspec.structs.replace(batch, fingerprints=Fingerprints("gateway/1", marks))
    )


async def an_old_page(store: Store, app: App) -> None:
    """Pulled long ago: something to remove."""
    old_ms = wall_ms() - AGE_MS
    await store.append(Append(app_mailbox(app, STATUS), [b"{}"] * 3, old_ms))
    await store.pull(Pull(app_mailbox(app, STATUS), 3, old_ms))


async def an_old_record(store: Store, app: App) -> None:
    """It waits for an application that gives its records a day: something to expire."""
    await store.append(Append(app_mailbox(app, STATUS), [b"{}"], wall_ms() - AGE_MS))


Leave = Callable[[Store, App], Awaitable[None]]
LEAVINGS: dict[str, Leave] = {
    "forget": an_old_batch,
    "purge": an_old_page,
    "discard": an_old_record,
}


def expires_waiting(program: Program, app: App) -> None:
    """Have what waits for this application expire after a day."""
    program.cli("app", "set", str(app.sdkappid), "--waiting-days", "1")


def leave(program: Program, app: App, *leavings: Leave) -> None:
    """Have a command beside the server leave these."""
    asyncio.run(leaving(program, app, *leavings))


async def leaving(program: Program, app: App, *leavings: Leave) -> None:
    """The same beside what a test does meanwhile; all of them at once."""
    store = await open_store(program.store)
    try:
        await asyncio.gather(*[one(store, app) for one in leavings])
    finally:
        await store.close()


async def left(program: Program, *apps: App) -> int:
    """How many entries of theirs are still there, or wait."""
    store = await open_store(program.store)
    try:
        rows = [row for app in apps for row in await store.backlog(app.sdkappid)]
        return sum(row.waiting + row.handed_out - row.purged for row in rows)
    finally:
        await store.close()
