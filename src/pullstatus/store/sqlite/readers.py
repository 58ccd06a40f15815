"""Readers of a mailbox, as rows: who has which page in hand, and the pages that outlive retention.

What a pull of a reader does is decided in `store.readers`; the pull itself is in `pulls`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import cast

import apsw
import msgspec

from pullstatus import limits
from pullstatus.errors import TooManyReaders
from pullstatus.store import chunk
from pullstatus.store.readers import Hand
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.head import read_again
from pullstatus.store.sqlite.states import State
from pullstatus.store.sqlite.transaction import Transaction

_HEAD = struct.Struct("<QI")


class Row(msgspec.Struct, frozen=True, gc=False):
    """A reader's row but for its names; `kept` is 1 when the page is in it."""

    acked_seq: int
    first_seq: int
    count: int
    given: int
    kept: int

    @property
    def hand(self) -> Hand:
        """How it stands."""
        return Hand(self.first_seq or None, self.acked_seq or None)


NOBODY = Row(0, 0, 0, 0, 0)


def find(transaction: Transaction, state: State, name: str) -> Row | None:
    """The row of a reader; None if it was never handed anything, or was forgotten."""
    found = transaction.connection.execute(
        "SELECT acked_seq, first_seq, count, given, page IS NOT NULL FROM reader"
        " WHERE mailbox = ? AND name = ?",
        (state.number, name),
    ).fetchone()
    return None if found is None else Row(*found)


def dispensable(transaction: Transaction, state: State) -> str | None:
    """Who is to be forgotten before one more is remembered; None: there is room.

    Raises:
        TooManyReaders: there is none, and nobody can be forgotten.
    """
    count = transaction.connection.execute(
        "SELECT count(*) FROM reader WHERE mailbox = ?", (state.number,)
    ).get
    if count < limits.READERS_MAX:
        return None
    name: str | None = transaction.connection.execute(
        "SELECT name FROM reader WHERE mailbox = ? AND first_seq = 0 ORDER BY at_ms, name LIMIT 1",
        (state.number,),
    ).get
    if name is None:
        raise TooManyReaders(
            f"{limits.READERS_MAX} readers have a page of these records in hand, the most there may"
            " be: use one of their names, or have an operator take a page from the hand of one that"
            " is gone, with `pullstatus readers release`"
        )
    return name


def forget(transaction: Transaction, state: State, name: str) -> None:
    """Forget a reader without a page in hand."""
    transaction.connection.execute(
        "DELETE FROM reader WHERE mailbox = ? AND name = ?", (state.number, name)
    )


def hand_out(
    transaction: Transaction,
    state: State,
    name: str,
    hand: Hand,
    first_seq: int,
    count: int,
    at_ms: int,
) -> None:
    """Put a page that was just taken into the hand of a reader that stood like `hand`."""
    transaction.connection.execute(
        "INSERT OR REPLACE INTO reader VALUES (?, ?, ?, ?, ?, ?, ?, 1, NULL)",
        (state.number, name, at_ms, hand.acked_seq or 0, first_seq, count, at_ms),
    )


def give_again(transaction: Transaction, state: State, name: str, row: Row, at_ms: int) -> None:
    """Count that the page in hand is handed out once more."""
    transaction.connection.execute(
        "UPDATE reader SET given = given + 1, at_ms = ? WHERE mailbox = ? AND name = ?",
        (at_ms, state.number, name),
    )
    transaction.connection.execute(
        "UPDATE journal SET given = given + 1 WHERE key = ?", (state.key | row.first_seq,)
    )


def acknowledge(transaction: Transaction, state: State, row: Row, at_ms: int) -> None:
    """Note in the journal that the page in hand is acknowledged."""
    transaction.connection.execute(
        "UPDATE journal SET acked_ms = ? WHERE key = ?", (at_ms, state.key | row.first_seq)
    )


def empty(transaction: Transaction, state: State, name: str, row: Row, at_ms: int) -> None:
    """Leave a reader without a page in hand, as one that has acknowledged the one it had."""
    transaction.connection.execute(
        "UPDATE reader SET at_ms = ?, acked_seq = ?, first_seq = 0, count = 0, given = 0,"
        " page = NULL WHERE mailbox = ? AND name = ?",
        (at_ms, row.first_seq, state.number, name),
    )


def release(transaction: Transaction, state: State, row: Row, at_ms: int) -> None:
    """Note in the journal that the page in hand is taken from it."""
    transaction.connection.execute(
        "UPDATE journal SET released_ms = ? WHERE key = ?", (at_ms, state.key | row.first_seq)
    )


# -- pages that come again -------------------------------------------------------------------------


def page_in_hand(transaction: Transaction, state: State, name: str, row: Row) -> list[bytes] | None:
    """The entries of the page in hand, but for erased ones; None if they are damaged."""
    if not row.kept:
        return read_again(transaction, state, row.first_seq, row.count)
    page: bytes = transaction.connection.execute(
        "SELECT page FROM reader WHERE mailbox = ? AND name = ?", (state.number, name)
    ).get
    return unsealed(state.key | row.first_seq, page)


def keep(transaction: Transaction, state: State, through: int) -> None:
    """Put pages in hand that are about to be removed, up to entry `through`, into their rows.

    One that is damaged stays damaged; its chunks are set aside as they are.
    """
    connection = transaction.connection
    leaving = cast(
        "list[tuple[str, int, int]]",
        connection.execute(
            "SELECT name, first_seq, count FROM reader"
            " WHERE mailbox = ? AND first_seq BETWEEN 1 AND ? AND page IS NULL",
            (state.number, through),
        ).fetchall(),
    )
    for name, first_seq, count in leaving:
        entries = read_again(transaction, state, first_seq, count)
        if entries is None:
            connection.execute(
                "INSERT OR IGNORE INTO quarantine SELECT * FROM chunk WHERE key BETWEEN ? AND ?",
                (
                    state.key | transaction.states.chunk_at(state.key, first_seq),
                    state.key | (first_seq + count - 1),
                ),
            )
        connection.execute(
            "UPDATE reader SET page = ? WHERE mailbox = ? AND name = ?",
            (sealed(state.key | first_seq, entries), state.number, name),
        )


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


def erase_kept(
    transaction: Transaction, state: State, is_meant: Callable[[bytes], bool], at_ms: int
) -> int:
    """Erase entries from pages that are kept for their readers; returns how many.

    One that is damaged goes as a whole if it has any: nobody can get it.
    """
    connection = transaction.connection
    count = 0
    for name, page in cast(
        "list[tuple[str, bytes]]",
        connection.execute(
            "SELECT name, page FROM reader WHERE mailbox = ? AND page IS NOT NULL", (state.number,)
        ).fetchall(),
    ):
        row = find(transaction, state, name)
        assert row is not None
        key = state.key | row.first_seq
        entries = unsealed(key, page)
        rest = [entry for entry in entries or () if not is_meant(entry)]
        if entries is None:
            changed = b"" if page and is_meant(page) else page
        else:
            count += len(entries) - len(rest)
            changed = page if len(rest) == len(entries) else sealed(key, rest)
        if entries and not rest:
            empty(transaction, state, name, row, at_ms)
        elif changed != page:
            connection.execute(
                "UPDATE reader SET page = ? WHERE mailbox = ? AND name = ?",
                (changed, state.number, name),
            )
    return count


def let_go_of_nothing(
    transaction: Transaction, state: State, first_seq: int, last_seq: int, at_ms: int
) -> None:
    """Take pages between two entries from hands in which nothing is left of them."""
    for name, first, count in cast(
        "list[tuple[str, int, int]]",
        transaction.connection.execute(
            "SELECT name, first_seq, count FROM reader WHERE mailbox = ? AND page IS NULL"
            " AND first_seq BETWEEN 1 AND ? AND first_seq + count > ?",
            (state.number, last_seq, first_seq),
        ).fetchall(),
    ):
        if read_again(transaction, state, first, count) == []:
            row = find(transaction, state, name)
            assert row is not None
            release(transaction, state, row, at_ms)
            empty(transaction, state, name, row, at_ms)


# -- the proof -------------------------------------------------------------------------------------


def problems(connection: apsw.Connection, key: int, purged: int) -> Iterator[str]:
    """What is wrong with the readers of one mailbox: they and the journal must tell one story."""
    in_hand = dict[int, str]()
    kept_through = 0
    for name, acked_seq, first_seq, count, page in connection.execute(
        "SELECT name, acked_seq, first_seq, count, page FROM reader WHERE mailbox = ?"
        " ORDER BY first_seq",
        (key >> schema.SEQ_BITS,),
    ):
        if not first_seq:
            continue
        if acked_seq >= first_seq:
            yield f"reader {name} has acknowledged what lies behind the page in its hand"
        if page is None:
            in_hand[first_seq] = name
            told = connection.execute(
                "SELECT count, reader FROM journal WHERE key = ? AND acked_ms IS NULL"
                " AND released_ms IS NULL",
                (key | first_seq,),
            ).fetchone()
            if told != (count, name):
                yield f"the journal does not say that reader {name} has entry {first_seq} in hand"
            continue
        if first_seq <= kept_through:
            yield f"the page kept for reader {name} overlaps another at entry {first_seq}"
        kept_through = first_seq + count - 1
        if kept_through > purged:
            yield f"the page kept for reader {name} at entry {first_seq} is in the journal, too"
        if unsealed(key | first_seq, page) is None:
            yield f"the page kept for reader {name} at entry {first_seq} is damaged"
    for row_key, reader in connection.execute(
        "SELECT key, reader FROM journal WHERE key BETWEEN ? AND ? AND reader IS NOT NULL"
        " AND acked_ms IS NULL AND released_ms IS NULL",
        (key, key | schema.SEQ_MASK),
    ):
        first_seq = row_key & schema.SEQ_MASK
        if in_hand.get(first_seq) != reader:
            yield f"entry {first_seq} is in the hand of a reader, but of none that there is"
