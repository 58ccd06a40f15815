"""What could not be read, put aside in the commit of what could, and kept within its bounds."""

from __future__ import annotations

from pullstatus.store.gathering.operations import Answer
from pullstatus.store.sqlite import chunk, schema
from pullstatus.store.sqlite.appends import append, unseen
from pullstatus.store.sqlite.states import State
from pullstatus.store.sqlite.transaction import Transaction
from pullstatus.store.values import Outcome, Park


def park(transaction: Transaction, operation: Park) -> Answer:
    """Append and put aside; answered how many of the oldest items had to leave for it."""
    records = operation.records
    [answer] = append(transaction, [records])
    if not isinstance(answer, int):
        return answer
    fresh = list(unseen(transaction, operation.entries, operation.fingerprints, records.at_ms))
    if not fresh:
        return 0
    states = transaction.states
    state = states.draft(operation.mailbox) or states.create(operation.mailbox)
    if state.waiting_bytes < 0:
        state.waiting_bytes = _waiting_bytes(transaction, state)
    transaction.pack(state, fresh, records.at_ms, [records.ticket] * len(fresh))
    state.waiting_bytes += sum(map(len, fresh))
    return _make_room(transaction, state, operation)


def _make_room(transaction: Transaction, state: State, operation: Park) -> int:
    """Let the oldest items leave until the rest is within the bounds; returns how many did."""
    count = 0
    items, size = state.tail - state.cursor, state.waiting_bytes
    if items > operation.items_max or size > operation.bytes_max:
        oldest = iter(_sizes(transaction, state))
        while items > 1 and (items > operation.items_max or size > operation.bytes_max):
            size -= next(oldest)
            items -= 1
            count += 1
    if count:
        records = operation.records
        transaction.leave(state, count, Outcome.EXPIRED, records.at_ms, records.ticket)
        state.read_from = transaction.states.chunk_at(state.key, state.cursor + 1)
        state.waiting_bytes = size
    return count


def _waiting_bytes(transaction: Transaction, state: State) -> int:
    return sum(_sizes(transaction, state))


def _sizes(transaction: Transaction, state: State) -> list[int]:
    """Bytes of each item that waits, in order."""
    sizes: list[int] = []
    for key, count, bounds in transaction.connection.execute(
        "SELECT key, count, bounds FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key",
        (state.key | state.read_from, state.key | state.tail),
    ):
        # A column that is damaged tells nothing; what it says is not worth more than that.
        told = chunk.sizes(bounds) if len(bounds) == 8 * count else (0,) * count
        sizes += told[max(0, state.cursor + 1 - (key & schema.SEQ_MASK)) :]
    return sizes
