"""What could not be read, put aside in the commit of what could, and kept within its bounds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from pullstatus.errors import SettingChanged
from pullstatus.store import chunk
from pullstatus.store.gathering.operations import Answer
from pullstatus.store.sqlite import acts, schema
from pullstatus.store.sqlite.appends import append
from pullstatus.store.sqlite.states import State
from pullstatus.store.sqlite.transaction import Transaction
from pullstatus.store.values import Append, Outcome, Park, Unpark


def park(transaction: Transaction, operation: Park) -> Answer:
    """Append and put aside; answered how many of the oldest items had to leave for it."""
    records = operation.records
    [answer] = append(transaction, [records])
    if not isinstance(answer, int):
        return answer
    fresh = operation.entries
    if operation.fingerprints is not None:
        new = transaction.remembered.unseen(operation.fingerprints, records.at_ms)
        fresh = [fresh[place] for place in new]
    if not fresh:
        return 0
    states = transaction.states
    state = states.draft(operation.mailbox) or states.create(operation.mailbox)
    if state.waiting_bytes < 0:
        state.waiting_bytes = _waiting_bytes(transaction, state)
    transaction.pack(state, fresh, records.at_ms, [records.ticket] * len(fresh))
    state.waiting_bytes += sum(map(len, fresh))
    return _make_room(transaction, state, operation)


def unpark(transaction: Transaction, operation: Unpark) -> Answer:
    """Let items leave from the head; answered how many records are new of what they say."""
    refusal = transaction.conditions.refuses(
        operation.while_set,
        *[each.while_set for each in operation.records],
        *[each.records.while_set for each in operation.aside],
    )
    if refusal is not None:
        return refusal
    state = transaction.states.draft(operation.mailbox)
    count = len(operation.outcomes)
    if (
        state is None
        or state.cursor + 1 != operation.first_seq
        or state.tail - state.cursor < count
    ):
        return SettingChanged("what is parked has changed meanwhile; try again")
    act_id = acts.record(transaction.connection, operation.act)
    back = iter(operation.back)
    for outcome, run in groupby(operation.outcomes):
        size = len(list(run))
        if outcome is Outcome.PUT_BACK:
            _put_back(transaction, state, [next(back) for _ in range(size)], operation, act_id)
        elif outcome is Outcome.QUARANTINED:
            transaction.connection.execute(
                "INSERT OR IGNORE INTO quarantine SELECT * FROM chunk WHERE key BETWEEN ? AND ?",
                (
                    state.key | transaction.states.chunk_at(state.key, state.cursor + 1),
                    state.key | (state.cursor + size),
                ),
            )
        transaction.leave(state, size, outcome, operation.at_ms, operation.ticket)
    state.read_from = transaction.states.chunk_at(state.key, state.cursor + 1)
    for each in operation.aside:
        park(transaction, each)
    return sum(_append_new(transaction, each) for each in operation.records)


def _put_back(
    transaction: Transaction, state: State, items: list[bytes], operation: Unpark, act_id: int
) -> None:
    """Copy the items at the head to the tail."""
    transaction.connection.execute(
        "INSERT INTO again VALUES (?, ?, ?, ?)",
        (state.key | (state.tail + 1), len(items), state.cursor + 1, act_id),
    )
    transaction.pack(state, items, operation.at_ms, [operation.ticket] * len(items))


def _append_new(transaction: Transaction, operation: Append) -> int:
    before = transaction.states.draft(operation.mailbox)
    tail = 0 if before is None else before.tail
    append(transaction, [operation])
    after = transaction.states.draft(operation.mailbox)
    return 0 if after is None else after.tail - tail


def _make_room(transaction: Transaction, state: State, operation: Park) -> int:
    """Let the oldest items leave until the rest is within the bounds; returns how many did."""
    count = 0
    items, size = state.tail - state.cursor, state.waiting_bytes
    if items > operation.items_max or size > operation.bytes_max:
        oldest = _sizes(transaction, state)
        while items > 1 and (items > operation.items_max or size > operation.bytes_max):
            size -= next(oldest, 0)
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


def _sizes(transaction: Transaction, state: State) -> Iterator[int]:
    """Bytes of each item that waits, in order; a chunk is read when it is come to."""
    for key, count, bounds in transaction.connection.execute(
        "SELECT key, count, bounds FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key",
        (state.key | state.read_from, state.key | state.tail),
    ):
        # A column that is damaged tells nothing; what it says is not worth more than that.
        told = chunk.sizes(bounds) if chunk.entry_count(bounds) == count else (0,) * count
        yield from told[max(0, state.cursor + 1 - (key & schema.SEQ_MASK)) :]
