"""Segments in the file: a row each, and the blocks of their arrays, of which a search reads few.

A block is a row that fills a page. Those of a segment lie one behind the other, by their ids:

    segment.first_block -> numbers, numbers, ... numbers, sids, sids, ... sids

So where a block lies is known without looking for it.
"""

from __future__ import annotations

import time
from array import array as integers
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, cast

import apsw

from pullstatus.store.segments import (
    BLOCK_BYTES,
    FENCE_BYTES,
    Array,
    Index,
    Search,
    Segment,
    fences,
)
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.typed import integer

COLUMNS: Final = "key, count, numbers, sids, first_block, fences"
_ID_MAX: Final = (1 << 63) - 1
# A thread of the interpreter that waits for its turn gets it when another one sleeps, or after
# `sys.getswitchinterval`, for which a pull would wait at each of its turns. So there is a rest
# after a tenth of a millisecond.
_AT_ONCE: Final = 16  # segments, of which blocks are read by one statement
_REST_S: Final = 0.0001


class Row(NamedTuple):
    """The row of a segment, in order of `COLUMNS`."""

    key: int
    entry_count: int
    numbers: int
    sids: int
    first_block: int
    fences: bytes

    @property
    def first_seq(self) -> int:
        """Number of the first entry of its run."""
        return self.key & schema.SEQ_MASK

    @property
    def block_count(self) -> int:
        """How many blocks both of its arrays have."""
        return _count(self.numbers) + _count(self.sids)

    def array(self, index: Index) -> Array:
        """One of its arrays."""
        size = self.sids if index is Index.SID else self.numbers
        return Array(self.first_seq, self.entry_count, index, size)

    def before(self, index: Index) -> int:
        """How many of its blocks lie before those of an array."""
        return _count(self.numbers) if index is Index.SID else 0

    def fences_of(self, index: Index) -> bytes:
        """Those of one of its arrays."""
        cut = _count(self.numbers) * FENCE_BYTES
        return self.fences[cut:] if index is Index.SID else self.fences[:cut]


def segment_of(connection: apsw.Connection, row: Row) -> Segment:
    """A segment, whole; what of it is missing is found to be, as it proves itself."""
    sids = row.before(Index.SID)
    return Segment(
        row.first_seq,
        row.entry_count,
        b"".join(_blocks(connection, row, 0, sids - 1)),
        b"".join(_blocks(connection, row, sids, row.block_count - 1)),
    )


def search(
    connection: apsw.Connection, rows: Sequence[Row], index: Index, hashed: int
) -> list[int]:
    """The numbers of the entries of these segments that may have something of this hash, in order.

    Raises:
        StoreCorrupt: where it looked one is damaged.
    """
    found: list[int] = []
    for begin in range(0, len(rows), _AT_ONCE):
        if begin:
            time.sleep(_REST_S)
        found += _search(connection, rows[begin : begin + _AT_ONCE], index, hashed)
    return found


def _search(
    connection: apsw.Connection, rows: Sequence[Row], index: Index, hashed: int
) -> list[int]:
    """The same of some, of all of which a block is read by one statement, and then the next."""
    firsts = [row.first_block + row.before(index) for row in rows]
    searches = [Search(row.array(index), hashed, row.fences_of(index)) for row in rows]
    while True:
        due = [
            (search, first + search.part.at // BLOCK_BYTES & _ID_MAX)  # whatever a damaged row says
            for search, first in zip(searches, firsts, strict=True)
            if search.part is not None
        ]
        if not due:
            return [seq for search in searches for seq in search.found]
        ids = apsw.carray(integers("q", [block for _, block in due]))
        blocks = dict(cast("Iterator[tuple[int, bytes]]", connection.execute(_FEW, (ids,))))
        for search, block in due:
            search.go_on(blocks.get(block, b""))


def put_segment(connection: apsw.Connection, start: int, segment: Segment) -> None:
    """Keep a segment in place of those within its run; `start`: where the mailbox's keys begin."""
    key = start | segment.first_seq
    _drop(connection, "key BETWEEN ? AND ?", (key, start | segment.last_seq))
    next_block: Any = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM segment_block").get
    first_block = integer("segment_block.id", next_block)
    connection.execute(
        f"INSERT INTO segment ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - ours
        (
            *(key, segment.count, len(segment.numbers), len(segment.sids), first_block),
            fences(segment.numbers) + fences(segment.sids),
        ),
    )
    connection.executemany(
        "INSERT INTO segment_block VALUES (?, ?)",
        enumerate(chain(_cut(segment.numbers), _cut(segment.sids)), first_block),
    )


def drop_segments(connection: apsw.Connection, start: int, through: int | None) -> None:
    """Drop the segments that end by a number; None: all."""
    if through is None:
        _drop(connection, "key BETWEEN ? AND ?", (start, start | schema.SEQ_MASK))
    else:
        ending = "key BETWEEN ?1 AND ?2 AND key + count - 1 <= ?2"
        _drop(connection, ending, (start, start | through))


def _drop(connection: apsw.Connection, which: str, bindings: tuple[int, int]) -> None:
    rows = connection.execute(f"SELECT {COLUMNS} FROM segment WHERE {which}", bindings).fetchall()  # noqa: S608 - ours
    for row in map(Row._make, rows):
        connection.execute(
            "DELETE FROM segment_block WHERE id BETWEEN ?1 AND ?1 + ?2",
            (row.first_block, row.block_count - 1),
        )
    connection.execute(f"DELETE FROM segment WHERE {which}", bindings)  # noqa: S608 - ours


def _blocks(connection: apsw.Connection, row: Row, first: int, last: int) -> Iterator[bytes]:
    """Blocks of a segment, from one place to another; those that are there."""
    for (data,) in connection.execute(_RANGE, (row.first_block, first, last)):
        yield data


# SQLite adds what may be too much for 64 bits in a damaged file.
_RANGE: Final = "SELECT data FROM segment_block WHERE id BETWEEN ?1 + ?2 AND ?1 + ?3 ORDER BY id"
_FEW: Final = "SELECT id, data FROM carray(?) JOIN segment_block ON id = value"


def _cut(array: bytes) -> Iterator[bytes]:
    return (array[at : at + BLOCK_BYTES] for at in range(0, len(array), BLOCK_BYTES))


def _count(size: int) -> int:
    """How many blocks so many bytes of an array are."""
    return -(-size // BLOCK_BYTES)
