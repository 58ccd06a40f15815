"""Segments in the file: a block is a page, and what a search reads, whichever blocks that is in."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import pytest

from pullstatus.errors import StoreCorrupt
from pullstatus.store import segments
from pullstatus.store.segments import Index, Segment, word
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.blocks import (
    COLUMNS,
    Row,
    drop_segments,
    put_segment,
    search,
    segment_of,
)
from pullstatus.store.sqlite.connection import open_writer

COUNT = 20_000  # entries: some forty blocks of each array
START = 1 << schema.SEQ_BITS


@pytest.mark.parametrize("alike", [1, 3000])
def test_what_lies_in_other_blocks_than_it_should_is_found(tmp_path: Path, alike: int) -> None:
    """Hashes that are no random numbers lead a search astray, and those that are alike fill blocks.

    So it goes from block to block.
    """
    hashes = [place // alike for place in range(COUNT)]
    words = [word(hashed, offset) for offset, hashed in enumerate(hashes)]
    segment = segments.build(1, COUNT, words, words)
    with closing(open_writer(tmp_path / "store.db")) as connection:
        schema.migrate(connection)
        put_segment(connection, START, segment)
        [row] = rows(connection)
        for index in Index:
            for hashed in {0, hashes[-1], *hashes[:: COUNT // 20]}:
                due = [seq for seq, each in enumerate(hashes, 1) if each == hashed]
                assert search(connection, [row], index, hashed) == due


def rows(connection: apsw.Connection) -> list[Row]:
    return [Row(*row) for row in connection.execute(f"SELECT {COLUMNS} FROM segment ORDER BY key")]


def block_ids(connection: apsw.Connection) -> list[int]:
    return [one for (one,) in connection.execute("SELECT id FROM segment_block ORDER BY id")]


def a_segment(first_seq: int, count: int) -> Segment:
    """Every other entry has a sid."""
    numbers = [word(offset * 7919 % count, offset) for offset in range(count)]
    return segments.build(first_seq, count, numbers, numbers[::2])


def test_segments_lie_beside_each_other(tmp_path: Path) -> None:
    """Those that others take the place of go with their blocks, and with none of the others."""
    mine = [a_segment(1, 3000), a_segment(3001, 1), a_segment(3002, 2000)]
    other = a_segment(1, 2500)
    with closing(open_writer(tmp_path / "store.db")) as connection:
        schema.migrate(connection)
        put_segment(connection, START, mine[0])
        put_segment(connection, 2 * START, other)
        for segment in mine[1:]:
            put_segment(connection, START, segment)
        assert [segment_of(connection, row) for row in rows(connection)] == [*mine, other]
        merged = segments.merge(mine)
        put_segment(connection, START, merged)
        assert [segment_of(connection, row) for row in rows(connection)] == [merged, other]
        assert len(block_ids(connection)) == sum(row.block_count for row in rows(connection))
        drop_segments(connection, START, merged.last_seq - 1)
        assert len(rows(connection)) == 2
        drop_segments(connection, START, merged.last_seq)
        assert [segment_of(connection, row) for row in rows(connection)] == [other]
        drop_segments(connection, 2 * START, None)
        assert (rows(connection), block_ids(connection)) == ([], [])


def test_many_segments_are_searched_in_their_order(tmp_path: Path) -> None:
    """Also more than one statement reads of."""
    many = [segments.build(first, 3, [word(first % 7, 1)], []) for first in range(1, 301, 3)]
    with closing(open_writer(tmp_path / "store.db")) as connection:
        schema.migrate(connection)
        for segment in many:
            put_segment(connection, START, segment)
        due = [segment.first_seq + 1 for segment in many if segment.first_seq % 7 == 2]
        assert len(due) > 10
        assert search(connection, rows(connection), Index.NUMBER, 2) == due
        assert search(connection, rows(connection), Index.SID, 2) == []


def test_a_block_is_a_page(tmp_path: Path) -> None:
    """Beside it there are only those pages that say where it is."""
    with closing(open_writer(tmp_path / "store.db")) as connection:
        schema.migrate(connection)
        before = connection.pragma("page_count")
        put_segment(connection, START, a_segment(1, segments.COUNT_MAX))
        blocks = len(block_ids(connection))
        assert blocks - 2 < connection.pragma("page_count") - before <= blocks + 3
        words = segments.COUNT_MAX * 1.5
        assert blocks * schema.PAGE_BYTES < 1.02 * 8 * words


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE segment SET first_block = 0x7fffffffffffffff",
        "UPDATE segment SET first_block = 7",
        "UPDATE segment SET numbers = 0x7ffffffffffffff8",
        "UPDATE segment SET numbers = 8, sids = 8",
        "UPDATE segment SET numbers = -0x7fffffffffffffff - 1",
        "DELETE FROM segment_block",
        "DELETE FROM segment_block WHERE id % 3 = 0",
        "UPDATE segment_block SET data = x'00'",
        "UPDATE segment_block SET data = CAST(data || data AS BLOB)",
    ],
)
def test_what_is_damaged_proves_nothing(tmp_path: Path, damage: str) -> None:
    """It is said, found by nobody, and goes when it is made anew."""
    segment = a_segment(1, 9000)
    with closing(open_writer(tmp_path / "store.db")) as connection:
        schema.migrate(connection)
        put_segment(connection, START, segment)
        connection.execute(damage)
        [row] = rows(connection)
        with pytest.raises(StoreCorrupt, match="reindex"):
            search(connection, [row], Index.SID, 4000)
        drop_segments(connection, START, None)
        put_segment(connection, START, segment)
        assert [segment_of(connection, row) for row in rows(connection)] == [segment]


def test_no_number_is_left_for_blocks(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / "store.db")) as connection:
        schema.migrate(connection)
        connection.execute("INSERT INTO segment_block VALUES (0x7fffffffffffffff, x'00')")
        with pytest.raises(StoreCorrupt, match="segment_block"):
            put_segment(connection, START, a_segment(1, 10))
