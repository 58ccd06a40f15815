"""What is no record yet, put aside in the commit of what is, and kept within its bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from pullstatus.errors import SettingChanged
from pullstatus.store import chunk
from pullstatus.store.gathering.operations import Answer
from pullstatus.store.values import Append, Outcome, Park, PutAside, Unpark
from pullstatus.store.verbs import acts
from pullstatus.store.verbs.appends import append
from pullstatus.store.verbs.conditions import refuses
from pullstatus.store.verbs.placing import leave, pack
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import Tables


def park(tables: Tables, operation: Park) -> Answer:
    """Append and put aside; answered what is new, and what had to leave for it."""
    records = operation.records
    [answer] = append(tables, [records])
    if not isinstance(answer, int):
        return answer
    fresh = operation.entries
    if operation.fingerprints is not None:
        new = tables.unseen(operation.mailbox.sdkappid, operation.fingerprints, records.at_ms)
        fresh = [fresh[place] for place in new]
    if not fresh:
        return PutAside(answer, 0, 0)
    state = tables.draft(operation.mailbox) or tables.create(operation.mailbox)
    if state.waiting_bytes < 0:
        state.waiting_bytes = _waiting_bytes(tables, state)
    pack(tables, state, fresh, records.at_ms, [records.ticket] * len(fresh))
    state.waiting_bytes += sum(map(len, fresh))
    return PutAside(answer, len(fresh), _make_room(tables, state, operation))


def unpark(tables: Tables, operation: Unpark) -> Answer:
    """Let items leave from the head; answered how many records are new of what they say."""
    refusal = refuses(
        tables,
        operation.while_set,
        *[each.while_set for each in operation.records],
        *[each.records.while_set for each in operation.aside],
    )
    if refusal is not None:
        return refusal
    state = tables.draft(operation.mailbox)
    if state is None or has_changed(state, operation):
        return SettingChanged("what is parked has changed meanwhile; try again")
    act_id = None if operation.act is None else acts.record(tables, operation.act)
    back = iter(operation.back)
    for outcome, run in groupby(operation.outcomes):
        size = len(list(run))
        if outcome is Outcome.PUT_BACK:
            _put_back(tables, state, [next(back) for _ in range(size)], operation, act_id)
        elif outcome is Outcome.QUARANTINED:
            first_seq = tables.chunk_at(state, state.cursor + 1)
            tables.set_aside(state, first_seq, state.cursor + size)
        leave(tables, state, size, outcome, operation.at_ms, operation.ticket)
    state.read_from = tables.chunk_at(state, state.cursor + 1)
    for each in operation.aside:
        park(tables, each)
    return append_new(tables, operation.records)


def has_changed(state: State, operation: Unpark) -> bool:
    """Whether others are at the head than those that are to leave."""
    left = state.tail - state.cursor
    return state.cursor + 1 != operation.first_seq or left < len(operation.outcomes)


def _put_back(
    tables: Tables, state: State, items: list[bytes], operation: Unpark, act_id: int | None
) -> None:
    """Copy the items at the head to the tail; whose doing it is goes on record."""
    if act_id is not None:
        tables.add_again(state, state.tail + 1, len(items), state.cursor + 1, act_id)
    pack(tables, state, items, operation.at_ms, [operation.ticket] * len(items))


def append_new(tables: Tables, operations: Sequence[Append]) -> int:
    """Append records of any mailboxes, whose conditions hold; how many of them are new."""
    count = 0
    for operation in operations:
        [answer] = append(tables, [operation])
        count += answer if isinstance(answer, int) else 0
    return count


def _make_room(tables: Tables, state: State, operation: Park) -> int:
    """Let the oldest items leave until the rest is within the bounds; returns how many did."""
    count = 0
    items, size = state.tail - state.cursor, state.waiting_bytes
    if items > operation.items_max or size > operation.bytes_max:
        oldest = _sizes(tables, state)
        while items > 1 and (items > operation.items_max or size > operation.bytes_max):
            size -= next(oldest, 0)
            items -= 1
            count += 1
    if count:
        records = operation.records
        leave(tables, state, count, Outcome.EXPIRED, records.at_ms, records.ticket)
        state.read_from = tables.chunk_at(state, state.cursor + 1)
        state.waiting_bytes = size
    return count


def _waiting_bytes(tables: Tables, state: State) -> int:
    return sum(_sizes(tables, state))


def _sizes(tables: Tables, state: State) -> Iterator[int]:
    """Bytes of each item that waits, in order; a chunk is read when it is come to."""
    for first_seq, count, bounds in tables.bounds(state, state.read_from):
        # A column that is damaged tells nothing; what it says is not worth more than that.
        told = chunk.sizes(bounds) if chunk.entry_count(bounds) == count else (0,) * count
        yield from told[max(0, state.cursor + 1 - first_seq) :]
