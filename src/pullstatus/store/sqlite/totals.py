"""How all mailboxes stand together, kept and not summed anew: see `verbs.sums`.

A mailbox's place is its id. The cost of asking again follows what has happened, and nobody else's
commit is the dearer for it. A block takes some 40 us to sum, half of it for asking; a million
mailboxes have 16,000 of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator
from typing import cast

import apsw

from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.reading import OLDEST_MS
from pullstatus.store.sqlite.typed import optional_integer
from pullstatus.store.values import Contents, Sums, contents
from pullstatus.store.verbs.sums import BLOCK_BITS, BlockSums


class Survey:
    """The sums of every block, as of the newest look; for any thread, one at a time."""

    def __init__(self) -> None:
        """Nothing is known yet: the first look reads every mailbox."""
        self._lock = threading.Lock()
        self._complete = False
        self._sums = BlockSums()

    def look(self, connection: apsw.Connection, changed: Collection[int]) -> dict[Contents, Sums]:
        """The totals by kind, of one moment.

        Args:
            changed: by `slot`, the mailboxes that were made or changed since the look before; more
                do no harm.

        Raises:
            StoreCorrupt, apsw.Error: the file cannot be read; the next look reads all of it.
        """
        with self._lock, _moment(connection):
            try:
                if self._complete:
                    for block in {_block_of(connection, place) for place in changed}:
                        self._sum(connection, block, block)
                else:
                    self._sum(connection, 0, schema.SEQ_MASK >> BLOCK_BITS)
                    self._complete = True
            except BaseException:
                self._begin_anew()
                raise
            return self._sums.totals()

    def _begin_anew(self) -> None:
        self._complete = False
        self._sums = BlockSums()

    def _sum(self, connection: apsw.Connection, first: int, last: int) -> None:
        """Sum the mailboxes of blocks from `first` to `last` anew."""
        ids = first << BLOCK_BITS, (last + 1 << BLOCK_BITS) - 1
        for block, number, oldest_ms, *counts in connection.execute(_SUMS, ids):
            found = optional_integer("accepted_ms", oldest_ms)
            self._sums.put(block, schema.known(contents, number), found, counts)


# Counts in the order of `Sums`. A mailbox is never removed, nor its number given to another.
_SUMS = (
    f"SELECT id >> {BLOCK_BITS}, kind, min({OLDEST_MS}),"  # noqa: S608
    " count(*), sum(tail), sum(handed_out), sum(tail - cursor), sum(expired), sum(erased),"
    " sum(quarantined), sum(put_back), sum(routed)"
    " FROM mailbox WHERE id BETWEEN ? AND ? GROUP BY 1, 2"
)


def _block_of(connection: apsw.Connection, place: int) -> int:
    """The block of a mailbox; of one that does not exist the one of none."""
    number = connection.execute(
        "SELECT id FROM mailbox WHERE sdkappid = ? AND kind = ?", (place >> 2, place & 3)
    ).get
    return cast("int", number or 0) >> BLOCK_BITS


@contextlib.contextmanager
def _moment(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")
