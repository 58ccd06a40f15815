"""Readers of a mailbox: who has which page in hand, and the pages that outlive retention.

What a pull of a reader does is decided in `store.readers`; the pull itself is in `pulls`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec

from pullstatus import limits
from pullstatus.errors import TooManyReaders
from pullstatus.store import chunk
from pullstatus.store.readers import Hand
from pullstatus.store.verbs.head import read_again
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import ReaderRow, Tables

_HEAD = struct.Struct("<QI")


def dispensable(tables: Tables, state: State) -> str | None:
    """Who is to be forgotten before one more is remembered; None: there is room.

    Raises:
        TooManyReaders: there is none, and nobody can be forgotten.
    """
    known = tables.readers(state)
    if len(known) < limits.READERS_MAX:
        return None
    idle = [(row.at_ms, name) for name, row in known if not row.first_seq]
    if not idle:
        raise TooManyReaders(
            f"{limits.READERS_MAX} readers have a page of these records in hand, the most there may"
            " be: use one of their names, or have an operator take a page from the hand of one that"
            " is gone, with `pullstatus readers release`"
        )
    return min(idle)[1]


def hand_out(
    tables: Tables, state: State, name: str, hand: Hand, first_seq: int, count: int, at_ms: int
) -> None:
    """Put a page that was just taken into the hand of a reader that stood like `hand`."""
    row = ReaderRow(at_ms, hand.acked_seq or 0, first_seq, count, at_ms, given=1)
    tables.put_reader(state, name, row)


def journal_seq(state: State, row: ReaderRow) -> int:
    """The number that the journal row of the page in hand begins with, if there still is one.

    Retention that is going over it has cut off what it has removed.
    """
    last_seq = row.first_seq + row.count - 1
    return max(row.first_seq, state.purged + 1) if state.purged < last_seq else row.first_seq


def give_again(tables: Tables, state: State, name: str, row: ReaderRow, at_ms: int) -> None:
    """Count that the page in hand is handed out once more."""
    given = row.given + 1
    tables.put_reader(state, name, msgspec.structs.replace(row, given=given, at_ms=at_ms))
    tables.count_given(state, journal_seq(state, row))


def empty(tables: Tables, state: State, name: str, row: ReaderRow, at_ms: int) -> None:
    """Leave a reader without a page in hand, as one that has acknowledged the one it had."""
    tables.put_reader(state, name, ReaderRow(at_ms, row.first_seq, taken_ms=row.taken_ms))


# -- pages that come again -------------------------------------------------------------------------


def page_in_hand(tables: Tables, state: State, name: str, row: ReaderRow) -> list[bytes] | None:
    """The entries of the page in hand, but for erased ones; None if they are damaged."""
    if not row.kept:
        return read_again(tables, state, row.first_seq, row.count)
    return unsealed(state.key + row.first_seq, tables.page(state, name))


def keep(tables: Tables, state: State, through: int) -> None:
    """Put pages in hand that are about to be removed, up to entry `through`, into their rows.

    One that is damaged stays damaged; its chunks are set aside as they are.
    """
    for name, row in tables.readers(state):
        if row.kept or not 1 <= row.first_seq <= through:
            continue
        entries = read_again(tables, state, row.first_seq, row.count)
        if entries is None:
            first_seq = tables.chunk_at(state, row.first_seq)
            tables.set_aside(state, first_seq, row.first_seq + row.count - 1)
        tables.keep_page(state, name, sealed(state.key + row.first_seq, entries))


def sealed(key: int, entries: list[bytes] | None) -> bytes:
    """A page as it is kept: a chunk, with its checksum and how many entries; b"" if damaged."""
    if entries is None:
        return b""
    proof, bounds, body = chunk.placed(key, chunk.plain(entries))
    return _HEAD.pack(proof, len(entries)) + bounds + body


def unsealed(key: int, page: bytes) -> list[bytes] | None:
    """The entries back; None if they are damaged."""
    if len(page) < _HEAD.size:
        return None
    proof, count = _HEAD.unpack_from(page)
    bounds, body = page[_HEAD.size :][: 8 * count], page[_HEAD.size + 8 * count :]
    if len(bounds) != 8 * count or chunk.checksum(key, bounds, body) != proof:
        return None
    return list(chunk.unpack(bounds, body))


# -- erasing ---------------------------------------------------------------------------------------


def erase_kept(tables: Tables, state: State, is_meant: Callable[[bytes], bool], at_ms: int) -> int:
    """Erase entries from pages that are kept for their readers; returns how many.

    One that is damaged goes as a whole if it has any: nobody can get it.
    """
    count = 0
    for name, row in tables.readers(state):
        if not row.kept:
            continue
        key, page = state.key + row.first_seq, tables.page(state, name)
        entries = unsealed(key, page)
        rest = [entry for entry in entries or () if not is_meant(entry)]
        if entries is None:
            changed = b"" if page and is_meant(page) else page
        else:
            count += len(entries) - len(rest)
            changed = page if len(rest) == len(entries) else sealed(key, rest)
        if entries and not rest:
            tables.note_released(state, journal_seq(state, row), at_ms)
            empty(tables, state, name, row, at_ms)
        elif changed != page:
            tables.keep_page(state, name, changed)
    return count


def let_go_of_nothing(
    tables: Tables, state: State, first_seq: int, last_seq: int, at_ms: int
) -> None:
    """Take pages between two entries from hands in which nothing is left of them."""
    for name, row in tables.readers(state):
        if row.kept or not 1 <= row.first_seq <= last_seq or row.first_seq + row.count <= first_seq:
            continue
        if read_again(tables, state, row.first_seq, row.count) == []:
            tables.note_released(state, row.first_seq, at_ms)
            empty(tables, state, name, row, at_ms)
