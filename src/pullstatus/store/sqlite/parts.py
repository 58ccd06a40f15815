"""Segments in the file: a row each, and their arrays in parts, of which a search reads one."""

from __future__ import annotations

from collections.abc import Callable

import apsw

from pullstatus.store.segments import Index, Part, Segment
from pullstatus.store.sqlite import schema


def segment_at(connection: apsw.Connection, key: int, count: int) -> Segment:
    """A segment, whole; what of it is missing is found to be, as it proves itself."""
    arrays = [
        b"".join(
            data
            for (data,) in connection.execute(
                "SELECT data FROM segment_part WHERE key = ? AND part >> 8 = ? ORDER BY part",
                (key, by),
            )
        )
        for by in Index
    ]
    return Segment(key & schema.SEQ_MASK, count, *arrays)


def put_segment(connection: apsw.Connection, start: int, segment: Segment) -> None:
    """Keep a segment in place of those within its run; `start`: where the mailbox's keys begin."""
    key = start | segment.first_seq
    _drop(connection, "key BETWEEN ? AND ?", (key, start | segment.last_seq))
    connection.execute(
        "INSERT INTO segment VALUES (?, ?, ?, ?)",
        (key, segment.count, len(segment.numbers), len(segment.sids)),
    )
    size = schema.SEGMENT_PART_BYTES
    connection.executemany(
        "INSERT INTO segment_part VALUES (?, ?, ?)",
        [
            (key, by << 8 | place, segment.array(by)[begin : begin + size])
            for by in Index
            for place, begin in enumerate(range(0, len(segment.array(by)), size))
        ],
    )


def drop_segments(connection: apsw.Connection, start: int, through: int) -> None:
    """Drop the segments that end by a number."""
    _drop(
        connection,
        "key BETWEEN ?1 AND ?2 AND key + count - 1 <= ?2",
        (start, start | through),
    )


def _drop(connection: apsw.Connection, which: str, bindings: tuple[int, int]) -> None:
    connection.execute(
        f"DELETE FROM segment_part WHERE key IN (SELECT key FROM segment WHERE {which})",  # noqa: S608
        bindings,
    )
    connection.execute(f"DELETE FROM segment WHERE {which}", bindings)  # noqa: S608 - ours


def reader(connection: apsw.Connection, key: int, index: Index) -> Callable[[Part], bytes]:
    """What reads parts of an array, each where the one before lay as well, without asking anew."""
    known, data = -1, b""

    def read(part: Part) -> bytes:
        nonlocal known, data
        place, begin = divmod(part.at, schema.SEGMENT_PART_BYTES)
        if place != known:
            found: bytes | None = connection.execute(
                "SELECT data FROM segment_part WHERE key = ? AND part = ?",
                (key, index << 8 | place),
            ).get
            known, data = place, found or b""
        return data[begin : begin + part.size]

    return read
