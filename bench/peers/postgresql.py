"""PostgreSQL: a table of entries, taken with DELETE and SKIP LOCKED."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

TABLE = """
    CREATE TABLE IF NOT EXISTS entry (
        number bigserial PRIMARY KEY, queue text NOT NULL, body text NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0)
"""
INDEX = "CREATE INDEX IF NOT EXISTS entry_queue ON entry (queue, number)"
APPEND = "INSERT INTO entry (queue, body) SELECT $1, unnest($2::text[])"
TAKE = """
    WITH taken AS (
        DELETE FROM entry WHERE number = ANY (ARRAY(
            SELECT number FROM entry WHERE queue = $1
            ORDER BY number LIMIT $2 FOR UPDATE SKIP LOCKED
        )) RETURNING number, body
    ) SELECT body FROM taken ORDER BY number
"""


class PostgreSql:
    """See `Backend`. The address is the folder of a socket."""

    _pool: Any

    async def open(self, address: str) -> None:
        """Connect; asyncpg prepares each statement once a connection."""
        self._pool = await import_module("asyncpg").create_pool(
            host=address, user="postgres", database="postgres", min_size=16, max_size=16
        )
        await self._pool.execute(TABLE)
        await self._pool.execute(INDEX)

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        """One statement, committed by itself."""
        await self._pool.execute(APPEND, queue, [entry.decode() for entry in entries])

    async def take(self, queue: str, count: int) -> list[bytes]:
        """One statement, committed by itself."""
        return [row[0].encode() for row in await self._pool.fetch(TAKE, queue, count)]
