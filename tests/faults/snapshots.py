"""What operations cost a database while somebody holds a snapshot, as a dump does for hours.

    costs = asyncio.run(costs_of(150))
    assert not slower(costs)

What was updated or removed since the snapshot was taken stays, and whoever comes by it looks at all
of it. So the store must not come by it. A cost is a number of pages that were looked at, on which a
busy machine has no influence.
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import Final, NamedTuple
from unittest import mock

import msgspec
import psycopg

from pullstatus.store import Reader, Store, open_store
from pullstatus.store.gathering import store as gathering
from pullstatus.store.postgresql import PostgresStore
from tests.store.build import (
    NOW_MS,
    REPLIES,
    STATUSES,
    append,
    fingerprinted,
    once,
    pull,
    purge,
    records,
    repeat_key,
)
from tests.store.postgresql.conftest import log_of
from tools.postgresql import PostgreSQL

WARM: Final = 200  # lives until the trees of the indexes have their usual depth
KEPT: Final = 20  # what left, and what is remembered, stays for so many lives
UPKEEP_EVERY: Final = 25  # lives
RATE_MIN: Final = 0.8  # of the last third, beside the first


class Costs(NamedTuple):
    """Pages a life, in one third of a run.

    Attributes:
        operations: of appends and pulls.
        removing: of what left long ago.
        forgetting: of what is remembered to know repeats by.
    """

    operations: float
    removing: float
    forgetting: float


async def costs_of(lives: int, *, major: int | None = None) -> list[Costs]:
    """The costs of so many lives, three times one after the other, all under one snapshot."""
    # What a vacuum looks at would be counted, too; under a snapshot it has nothing to do anyway.
    with PostgreSQL(major, autovacuum="off") as server, server.database() as url:
        store = await open_store(f"{url}&commits=thread")
        with (
            psycopg.connect(url) as holder,
            server.connect(holder.info.dbname) as admin,
            mock.patch.object(gathering, "STEP_S", 1000),  # else a busy machine takes more steps
            # Else the pages are counted, too, that each turn's connection reads of catalogs.
            mock.patch.object(
                PostgresStore, "_removing", return_value=nullcontext(enter_result=True)
            ),
        ):
            holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            holder.execute("SELECT count(*) FROM pullstatus.mailbox")
            run = _Run(store, admin)
            await run.some(WARM)
            thirds = [await run.some(lives) for _ in range(3)]
        await store.close()
    return thirds


def slower(thirds: list[Costs]) -> dict[str, tuple[float, float]]:
    """What costs more in the last third than it may, with its costs then and at first."""
    first, *_, last = thirds
    return {
        name: (was, now)
        for name, was, now in zip(Costs._fields, first, last, strict=True)
        if now > was / RATE_MIN
    }


class _Run:
    def __init__(self, store: Store, admin: psycopg.Connection) -> None:
        self._store = store
        self._admin = admin
        self._number = 0
        self._in_hand = 0

    async def some(self, lives: int) -> Costs:
        """So many of them, and what each cost."""
        costs: Counter[int] = Counter()
        pages = self._pages()
        for _ in range(lives // UPKEEP_EVERY):
            for place, work in enumerate((self._live_on, self._remove, self._forget)):
                await work()
                before, pages = pages, self._pages()
                costs[place] += pages - before
        return Costs(*(costs[place] / lives for place in range(len(Costs._fields))))

    async def _live_on(self) -> None:
        for _ in range(UPKEEP_EVERY):
            await self._live()

    async def _live(self) -> None:
        """A few records come and go in every way that there is."""
        self._number += 1
        number, at_ms = self._number, NOW_MS + self._number
        batch = fingerprinted(STATUSES, records(2), [2 * number, 2 * number + 1], at_ms)
        key = repeat_key(f"batch {number}")
        await self._store.append(msgspec.structs.replace(batch, repeat_key=key))
        await self._store.pull(pull(STATUSES, 1, at_ms, key=f"page {number}"))
        await self._store.pull(once(STATUSES, str(number), until_ms=at_ms, at_ms=at_ms))
        await self._store.append(append(REPLIES, records(1), at_ms))
        reader = Reader("r", self._in_hand or None)
        page = pull(REPLIES, 1, at_ms)
        self._in_hand = (
            await self._store.pull(msgspec.structs.replace(page, reader=reader))
        ).first_seq

    async def _remove(self) -> None:
        await purge(self._store, left_before_ms=NOW_MS + self._number - KEPT)

    async def _forget(self) -> None:
        before_ms = NOW_MS + self._number - KEPT
        await self._store.forget(accepted_before_ms=before_ms, now_ms=before_ms)

    def _pages(self) -> int:
        """How many were looked at so far in this database, in memory or on disk."""
        session = log_of(self._store)._session
        assert session is not None
        session.connection.execute("SELECT pg_stat_force_next_flush()")
        session.connection.execute("SELECT 1")
        row = self._admin.execute(
            "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        return int(row[0])
