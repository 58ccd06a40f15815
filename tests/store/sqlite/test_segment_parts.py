"""Arrays of segments in the file: what a search reads of them, whichever parts that is in."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from pullstatus.store import segments
from pullstatus.store.segments import Array, Index, word
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.sqlite.parts import put_segment, reader

COUNT = 20_000  # entries: some ten parts
START = 1 << schema.SEQ_BITS


@pytest.mark.parametrize("alike", [1, 3000])
def test_what_lies_in_other_parts_than_it_should_is_found(tmp_path: Path, alike: int) -> None:
    """Hashes that are no random numbers lead a search astray, and those that are alike fill parts.

    So it goes from part to part.
    """
    hashes = [place // alike for place in range(COUNT)]
    words = [word(hashed, offset) for offset, hashed in enumerate(hashes)]
    segment = segments.build(1, COUNT, words, words)
    with closing(open_writer(tmp_path / "store.db")) as connection:
        schema.migrate(connection)
        put_segment(connection, START, segment)
        array = Array(1, COUNT, Index.NUMBER, len(segment.numbers))
        for hashed in {0, hashes[-1], *hashes[:: COUNT // 20]}:
            read = reader(connection, START | 1, Index.NUMBER)
            due = [seq for seq, each in enumerate(hashes, 1) if each == hashed]
            assert segments.search(array, hashed, read) == due
