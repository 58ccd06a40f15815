"""How all mailboxes stand together, kept and not summed anew.

A mailbox's place is its id, so mailboxes are summed by blocks of neighbours:

    block 0      block 1      block 2
    [ids 0-63]   [ids 64-127] [ids 128-191] ...
     sums         sums         sums            totals: all of them together

Whoever asks again reads the blocks in which a mailbox has changed since, and no other. So the cost
follows what has happened, and nobody else's commit is the dearer for it. A block takes some 40 us
to sum, half of it for asking; a million mailboxes have 16,000 of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator
from typing import cast

import apsw

from pullstatus.records import Kind
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.reading import OLDEST_MS
from pullstatus.store.sqlite.typed import optional_integer
from pullstatus.store.values import Aside, Contents, Sums, contents

_Place = tuple[int, Contents]  # of a sum: block and kind


class Survey:
    """The sums of every block, as of the newest look; for any thread, one at a time."""

    def __init__(self) -> None:
        """Nothing is known yet: the first look reads every mailbox."""
        self._lock = threading.Lock()
        self._complete = False
        self._counts: dict[_Place, tuple[int, ...]] = {}
        self._oldest_ms: dict[_Place, int] = {}
        self._totals: dict[Contents, tuple[int, ...]] = {}
        self._begin_anew()

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
                    self._sum(connection, 0, schema.SEQ_MASK >> schema.BLOCK_BITS)
                    self._complete = True
            except BaseException:
                self._begin_anew()
                raise
            oldest = self._oldest()
            return {kind: Sums(oldest.get(kind), *counts) for kind, counts in self._totals.items()}

    def _begin_anew(self) -> None:
        self._complete = False
        self._counts.clear()
        self._oldest_ms.clear()
        self._totals = dict.fromkeys((*Kind, *Aside), _NOTHING)

    def _sum(self, connection: apsw.Connection, first: int, last: int) -> None:
        """Sum the mailboxes of blocks from `first` to `last` anew."""
        ids = first << schema.BLOCK_BITS, (last + 1 << schema.BLOCK_BITS) - 1
        for block, number, oldest_ms, *counts in connection.execute(_SUMS, ids):
            kind = schema.known(contents, number)
            place = block, kind
            before, after = self._counts.get(place, _NOTHING), tuple(counts)
            self._counts[place] = after
            self._totals[kind] = tuple(
                total + new - old
                for total, new, old in zip(self._totals[kind], after, before, strict=True)
            )
            found = optional_integer("accepted_ms", oldest_ms)
            if found is None:
                self._oldest_ms.pop(place, None)
            else:
                self._oldest_ms[place] = found

    def _oldest(self) -> dict[Contents, int]:
        found: dict[Contents, int] = {}
        for (_, kind), oldest_ms in self._oldest_ms.items():
            if oldest_ms < found.get(kind, oldest_ms + 1):
                found[kind] = oldest_ms
        return found


_NOTHING = (0,) * 9

# Counts in the order of `Sums`. A mailbox is never removed, nor its number given to another.
_SUMS = (
    f"SELECT id >> {schema.BLOCK_BITS}, kind, min({OLDEST_MS}),"  # noqa: S608
    " count(*), sum(tail), sum(handed_out), sum(tail - cursor), sum(expired), sum(erased),"
    " sum(quarantined), sum(put_back), sum(routed)"
    " FROM mailbox WHERE id BETWEEN ? AND ? GROUP BY 1, 2"
)


def _block_of(connection: apsw.Connection, place: int) -> int:
    """The block of a mailbox; of one that does not exist the one of none."""
    number = connection.execute(
        "SELECT id FROM mailbox WHERE sdkappid = ? AND kind = ?", (place >> 2, place & 3)
    ).get
    return cast("int", number or 0) >> schema.BLOCK_BITS


@contextlib.contextmanager
def _moment(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")
