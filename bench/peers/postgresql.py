"""PostgreSQL: a table of entries, taken with DELETE and SKIP LOCKED.

One index only, rows found by it and deleted by where they lie, and a page joined by the server: a
page is one row of an answer, not a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from bench.peers.backend import Taken

CONNECTIONS = 16
TABLE = """
    CREATE TABLE IF NOT EXISTS entry (
        queue text NOT NULL, number bigint GENERATED ALWAYS AS IDENTITY, body bytea NOT NULL,
        PRIMARY KEY (queue, number)
    ) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0)
"""
APPEND = "INSERT INTO entry (queue, body) SELECT $1, unnest($2::bytea[])"
TAKE = """
    WITH taken AS (
        DELETE FROM entry WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM entry WHERE queue = $1
            ORDER BY number LIMIT $2 FOR UPDATE SKIP LOCKED
        )) RETURNING number, body
    ) SELECT count(*), coalesce(string_agg(body, ',' ORDER BY number), '') FROM taken
"""


class PostgreSql:
    """See `Backend`. The address is the URL of a database."""

    _pool: Any

    async def open(self, address: str) -> None:
        """Connect; asyncpg prepares each statement once a connection."""
        self._pool = await import_module("asyncpg").create_pool(
            address,
            min_size=CONNECTIONS,
            max_size=CONNECTIONS,
        )
        await self._pool.execute(TABLE)

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        """One statement, committed by itself."""
        await self._pool.execute(APPEND, queue, entries)

    async def take(self, queue: str, count: int) -> Taken:
        """One statement, committed by itself."""
        found, page = await self._pool.fetchrow(TAKE, queue, count)
        return found, page
