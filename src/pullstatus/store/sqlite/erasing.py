"""Erasing single entries where they lie, a step at a time.

An entry that was erased keeps its number: its place in its chunk is empty from then on (`chunk`).
What waited and now leads its mailbox leaves at once; what is further behind leaves when a pull
passes it. A page in a reader's hand of which nothing is left is taken from it: an answer without
records names no page that could be acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from pullstatus.store import chunk
from pullstatus.store.gathering.operations import Erase, ErasedStep
from pullstatus.store.sqlite import readers, schema
from pullstatus.store.sqlite.head import Head
from pullstatus.store.sqlite.states import State
from pullstatus.store.sqlite.transaction import Transaction
from pullstatus.store.values import NO_TICKET, Outcome

_Row = tuple[int, int, int, bytes, bytes]  # key, count, checksum, bounds, body


def erase(transaction: Transaction, operation: Erase) -> ErasedStep:
    """Carry out a step; the same one again finds nothing."""
    state = transaction.states.draft(operation.mailbox)
    if state is None:
        return ErasedStep(0, 0, 0)
    start = transaction.states.chunk_at(state.key, operation.first_seq)
    rows = cast(
        "list[_Row]",
        transaction.connection.execute(
            "SELECT key, count, checksum, bounds, body FROM chunk WHERE key BETWEEN ? AND ?"
            " ORDER BY key LIMIT ?",
            (state.key | start, state.key | schema.SEQ_MASK, operation.chunks_max),
        ).fetchall(),
    )
    if not rows:
        kept = _erase_aside(transaction, state, operation)
        return ErasedStep(0, kept, 0)
    seqs: list[int] = []
    for row in rows:
        seqs += _erase_in(transaction, state, row, operation, "chunk")
    last_seq = (rows[-1][0] & schema.SEQ_MASK) + rows[-1][1] - 1
    if seqs:
        readers.let_go_of_nothing(transaction, state, seqs[0], seqs[-1], operation.at_ms)
    waiting = sum(seq > state.cursor for seq in seqs)
    if waiting:
        _let_leave(transaction, state, operation.at_ms)
    return ErasedStep(waiting, len(seqs) - waiting, last_seq + 1)


def _erase_in(
    transaction: Transaction, state: State, row: _Row, operation: Erase, table: str
) -> list[int]:
    """Erase in one row of chunks, of whichever table; returns the numbers of what was erased."""
    key, count, checksum, bounds, body = row
    first_seq = key & schema.SEQ_MASK
    joined = chunk.readable(bounds, body)
    if not (operation.seqs or joined is None or holds(operation, joined)):
        return []

    def is_meant(place: int, entry: bytes) -> bool:
        if place >= 0:
            return holds(operation, entry) or first_seq + place in operation.seqs
        # What can't be read any more may hold whatever is looked for.
        within = any(first_seq <= seq < first_seq + count for seq in operation.seqs)
        return within or (holds(operation, entry) if entry else bool(operation.holding))

    changed = chunk.erase(
        key,
        (count, checksum, bounds, body),
        state.cursor - first_seq,
        is_meant,
    )
    if changed is None:
        return []
    checksum, bounds, body, places = changed
    transaction.connection.execute(
        f"UPDATE {table} SET checksum = ?, bounds = ?, body = ? WHERE key = ?",  # noqa: S608 - ours
        (checksum, bounds, body, key),
    )
    return [first_seq + place for place in places]


def _erase_aside(transaction: Transaction, state: State, operation: Erase) -> int:
    """Erase in what was set aside, and in pages that are kept for readers; returns how many there.

    After everything else: what retention puts into a reader's row meanwhile was gone through there.
    """
    for row in cast(
        "list[_Row]",
        transaction.connection.execute(
            "SELECT key, count, checksum, bounds, body FROM quarantine WHERE key BETWEEN ? AND ?",
            (state.key, state.key | schema.SEQ_MASK),
        ).fetchall(),
    ):
        _erase_in(transaction, state, row, operation, "quarantine")
    meant: Callable[[bytes], bool] = lambda entry: holds(operation, entry)  # noqa: E731
    return readers.erase_kept(transaction, state, meant, operation.at_ms)


def _let_leave(transaction: Transaction, state: State, at_ms: int) -> None:
    """Let what leads its mailbox and was erased leave, as a pull would."""
    head = Head(transaction.connection, state.key, state.read_from, state.cursor + 1)
    if run := head.pass_erased(state.tail - state.cursor):
        transaction.leave(state, run, Outcome.ERASED, at_ms, NO_TICKET)
    state.waiting_bytes = -1
    state.read_from = head.read_from


def holds(operation: Erase, data: bytes) -> bool:
    """Whether bytes hold all of one of what entries that go hold."""
    return any(all(part in data for part in parts) for parts in operation.holding)
