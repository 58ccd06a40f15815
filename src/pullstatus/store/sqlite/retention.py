"""Which mailboxes have journal rows that are old enough to go, without asking each of them.

A journal grows at its end and is removed from its beginning. So of a block of neighbours the oldest
row only ever becomes a newer one: until that row is due, none of the block is. (What leaves while
the clock is set back may stay as much longer.)
"""

from __future__ import annotations

from typing import cast

import apsw

from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.typed import integer
from pullstatus.store.values import Mailbox, contents
from pullstatus.store.verbs.sums import BLOCK_BITS

BLOCKS_MAX = 64  # that are read in one question: some 10 ms

Blocks = tuple[int, int]  # the first and the last of a run


class Retention:
    """When the oldest journal row of each block left, as of the newest look; or at most when."""

    def __init__(self) -> None:
        """Nothing is known, so all is read."""
        self._oldest_ms: dict[int, int] = {}

    def to_read(self, connection: apsw.Connection, left_before_ms: int) -> list[Blocks]:
        """Runs of blocks in which there may be rows from before."""
        last_id = cast("int", connection.execute("SELECT coalesce(max(id), 0) FROM mailbox").get)
        found: list[Blocks] = []
        for block in range((last_id >> BLOCK_BITS) + 1):
            if self._oldest_ms.get(block, left_before_ms - 1) < left_before_ms:
                first, last = found[-1] if found else (0, -2)
                if last == block - 1 and block - first < BLOCKS_MAX:
                    found[-1] = first, block
                else:
                    found.append((block, block))
        return found

    def due(
        self, connection: apsw.Connection, blocks: Blocks, left_before_ms: int
    ) -> list[Mailbox]:
        """The mailboxes of a run of blocks whose oldest journal row is from before."""
        ids = blocks[0] << BLOCK_BITS, (blocks[1] + 1 << BLOCK_BITS) - 1
        # One with no row at all stays unknown: its first will be newer than anything asked now.
        for block in range(blocks[0], blocks[1] + 1):
            self._oldest_ms.pop(block, None)
        for block, oldest_ms in connection.execute(_OLDEST, ids):
            if oldest_ms is not None:
                self._oldest_ms[block] = integer("at_ms", oldest_ms)
        return [
            Mailbox(sdkappid, schema.known(contents, kind))
            for sdkappid, kind in connection.execute(_DUE, (*ids, left_before_ms))
        ]


_FIRST = (
    f"(SELECT at_ms FROM journal WHERE key > (id << {schema.SEQ_BITS}) + purged"  # noqa: S608
    " ORDER BY key LIMIT 1)"
)
_OLDEST = (
    f"SELECT id >> {BLOCK_BITS}, min({_FIRST}) FROM mailbox"  # noqa: S608
    " WHERE id BETWEEN ? AND ? AND purged < cursor GROUP BY 1"
)
_DUE = (
    "SELECT sdkappid, kind FROM mailbox"  # noqa: S608
    f" WHERE id BETWEEN ? AND ? AND purged < cursor AND {_FIRST} < ?"
)
