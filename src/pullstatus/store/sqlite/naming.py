"""Names of sends, in blocks that came together, and an index of their hashes.

A name takes some 13 bytes of the index, and 4 in its block beside what that has of it. A commit
puts its hashes all over the index, a page each once that is large, as a receipt may come for
whatever was sent; so registering costs more than any other record, and a block of many less than
many of one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import cast

import apsw

from pullstatus.store.transfer import Names, key_of
from pullstatus.store.values import Naming


def add(connection: apsw.Connection, sdkappid: int, names: Sequence[Naming], at_ms: int) -> None:
    """Keep blocks, in the open transaction."""
    rows: list[tuple[int, int]] = []
    for block in names:
        connection.execute(
            "INSERT INTO naming (sdkappid, accepted_ms, slots, body) VALUES (?, ?, ?, ?)",
            (sdkappid, at_ms, packed(block.slots), block.body),
        )
        number = connection.last_insert_rowid()
        rows += [(slot, number) for slot in set(block.slots)]
    connection.executemany("INSERT INTO name VALUES (?, ?)", sorted(rows))


def forget(connection: apsw.Connection, accepted_before_ms: int) -> int | None:
    """Drop the oldest block; returns how many hashes it had, None if none is old enough."""
    row = connection.execute(
        "SELECT id, slots FROM naming WHERE accepted_ms < ? ORDER BY accepted_ms LIMIT 1",
        (accepted_before_ms,),
    ).fetchone()
    if row is None:
        return None
    number, slots = cast("tuple[int, bytes]", row)
    return _remove(connection, number, slots)


def remove(connection: apsw.Connection, row: Names) -> None:
    """Drop a block, however often it is there, in the open transaction."""
    for found in connection.execute(
        "SELECT id, slots FROM naming WHERE (accepted_ms, sdkappid, slots, body) = (?, ?, ?, ?)",
        (row.accepted_ms, row.sdkappid, packed(row.slots), row.body),
    ).fetchall():
        number, slots = cast("tuple[int, bytes]", found)
        _remove(connection, number, slots)


def _remove(connection: apsw.Connection, number: int, stored: bytes) -> int:
    slots = slots_of(stored)
    connection.executemany(
        "DELETE FROM name WHERE slot = ? AND block = ?", [(slot, number) for slot in slots]
    )
    connection.execute("DELETE FROM naming WHERE id = ?", (number,))
    return len(slots)


def blocks(connection: apsw.Connection, after: Names | None) -> Iterator[Names]:
    """All blocks in their order, each once, from behind one on."""
    first = (-1, 0) if after is None else (after.accepted_ms, after.sdkappid)
    found = connection.execute(
        "SELECT accepted_ms, sdkappid, slots, body FROM naming"
        " WHERE (accepted_ms, sdkappid) >= (?, ?) ORDER BY accepted_ms, sdkappid",
        first,
    )
    rows = (Names(at, app, tuple(slots_of(slots)), body) for at, app, slots, body in found)
    for _, together in groupby(rows, lambda row: (row.accepted_ms, row.sdkappid)):
        for row in sorted(set(together), key=key_of):  # a report, or a few of them
            if after is None or key_of(row) > key_of(after):
                yield row


def packed(slots: Sequence[int]) -> bytes:
    """The hashes of a block, as they are stored."""
    return array("i", slots).tobytes()


def slots_of(stored: bytes) -> list[int]:
    """The hashes of a block."""
    return array("i", stored[: len(stored) // _SLOT_BYTES * _SLOT_BYTES]).tolist()


_SLOT_BYTES = array("i").itemsize
