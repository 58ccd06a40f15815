"""How all mailboxes stand together, kept and not summed anew: see `verbs.sums`.

A mailbox's place is its id. The cost of asking again follows what has happened, and nobody else's
commit is the dearer for it. A block takes some 40 us to sum, half of it for asking; a million
mailboxes have 16,000 of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator
from itertools import islice
from typing import cast

import apsw

from pullstatus.store.sqlite import reading, schema
from pullstatus.store.sqlite.reading import OLDEST_MS, moment
from pullstatus.store.sqlite.typed import optional_integer
from pullstatus.store.values import Backlog, Contents, Sums, contents
from pullstatus.store.verbs.sums import BLOCK_BITS, BlockSums, worst_of


class Survey:
    """The sums of every block, as of the newest look; for any thread, one at a time."""

    def __init__(self) -> None:
        """Nothing is known yet: the first look reads every mailbox."""
        self._lock = threading.Lock()
        self._telling = threading.Lock()  # held for no more than that, so an event loop may
        self._changed: set[int] = set()
        self._complete = False
        self._sums = BlockSums()

    def tell(self, changed: Collection[int]) -> None:
        """Have mailboxes, by `slot`, summed anew by the next look, whichever comes to it.

        Args:
            changed: those that were made or changed since this was told last; more do no harm.
        """
        with self._telling:
            self._changed.update(changed)

    def look(
        self, connection: apsw.Connection, worst: int
    ) -> tuple[dict[Contents, Sums], list[Backlog]]:
        """The totals by kind, and the worst mailboxes, of one moment.

        Args:
            worst: as of `worst_of`.

        Raises:
            StoreCorrupt, apsw.Error: the file cannot be read; the next look reads all of it.
        """
        with self._learnt(connection):
            blocks = [_ids(block, block) for block in self._sums.worst(worst)]
            return self._sums.totals(), worst_of(reading.waiting(connection, blocks), worst)

    def behind(self, connection: apsw.Connection, count_max: int) -> list[Backlog]:
        """Up to so many mailboxes of records that have entries behind their marks, as they stand.

        Raises: as `look`.
        """
        with self._learnt(connection):
            blocks = sorted(self._sums.behind())
            return reading.behind(connection, count_max, [_ids(block, block) for block in blocks])

    def pending(self, connection: apsw.Connection, count_max: int) -> list[Backlog]:
        """Up to so many mailboxes in which something is pending; otherwise as `behind`."""
        with self._learnt(connection):
            blocks = [_ids(block, block) for block in sorted(self._sums.pending())]
            return [*islice(reading.pending(connection, blocks), count_max)]

    @contextlib.contextmanager
    def _learnt(self, connection: apsw.Connection) -> Iterator[None]:
        """A moment of the file, of which everything is known."""
        with self._lock:
            with self._telling:  # before the moment, which else might lack what was told meanwhile
                changed, self._changed = self._changed, set()
            try:
                with moment(connection):
                    self._learn(connection, changed)
                    yield
            except BaseException:
                self._begin_anew()
                raise

    def _learn(self, connection: apsw.Connection, changed: Collection[int]) -> None:
        if self._complete:
            for block in {_block_of(connection, place) for place in changed}:
                self._sum(connection, block, block)
        else:
            self._sum(connection, 0, schema.SEQ_MASK >> BLOCK_BITS)
            self._complete = True

    def _begin_anew(self) -> None:
        self._complete = False
        self._sums = BlockSums()

    def _sum(self, connection: apsw.Connection, first: int, last: int) -> None:
        """Sum the mailboxes of blocks from `first` to `last` anew."""
        for block, number, oldest_ms, most, *counts in connection.execute(_SUMS, _ids(first, last)):
            found = optional_integer("accepted_ms", oldest_ms)
            self._sums.put(block, schema.known(contents, number), found, most, counts)


def _ids(first: int, last: int) -> tuple[int, int]:
    """The numbers of the mailboxes of blocks from `first` to `last`."""
    return first << BLOCK_BITS, (last + 1 << BLOCK_BITS) - 1


# Counts in the order of `Sums`. A mailbox is never removed, nor its number given to another.
_SUMS = (
    f"SELECT id >> {BLOCK_BITS}, kind, min({OLDEST_MS}), max(tail - cursor),"  # noqa: S608
    " count(*), sum(tail), sum(handed_out), sum(tail - cursor), sum(expired), sum(erased),"
    " sum(quarantined), sum(put_back), sum(routed), sum(max(followed, purged))"
    " FROM mailbox WHERE id BETWEEN ? AND ? GROUP BY 1, 2"
)


def _block_of(connection: apsw.Connection, place: int) -> int:
    """The block of a mailbox; of one that does not exist the one of none."""
    number = connection.execute(
        "SELECT id FROM mailbox WHERE sdkappid = ? AND kind = ?", (place >> 2, place & 3)
    ).get
    return cast("int", number or 0) >> BLOCK_BITS
