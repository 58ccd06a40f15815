"""Copies of what has left, at the tail of its mailbox: each once for an act, however often."""

from __future__ import annotations

from pullstatus.errors import InvalidSetting, SettingChanged, StoreCorrupt
from pullstatus.store import chunk
from pullstatus.store.values import Redeliver
from pullstatus.store.verbs import acts
from pullstatus.store.verbs.conditions import refuses
from pullstatus.store.verbs.head import Head
from pullstatus.store.verbs.placing import pack
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import Tables


def redeliver(tables: Tables, operation: Redeliver) -> int | InvalidSetting | SettingChanged:
    """Append marked copies of what this act has not copied yet; answered how many."""
    refusal = refuses(tables, operation.while_set)
    if refusal is not None:
        return refusal
    mailbox = operation.mailbox
    state = tables.draft(mailbox)
    due = _not_copied(tables, state, operation)
    for first_seq, count in due:
        if state is None or first_seq <= state.purged or first_seq + count - 1 > state.cursor:
            return InvalidSetting(
                f"entries of {mailbox} to be redelivered are no longer, or not yet, handed out"
            )
        if not _readable(tables, state, first_seq, count):
            return InvalidSetting(
                f"some of the entries {first_seq} to {first_seq + count - 1} of {mailbox} are"
                " damaged; redeliver those before and behind them"
            )
    if state is None or not due:
        return 0
    act_id = acts.record(tables, operation.act)
    for first_seq, count in due:
        _copy(tables, state, first_seq, count, operation, act_id)
    return sum(count for _, count in due)


def _not_copied(tables: Tables, state: State | None, operation: Redeliver) -> list[tuple[int, int]]:
    """The ranges of a step without what its act has copied, and without what stands in two."""
    copied = _copied(tables, state, operation)
    due: list[tuple[int, int]] = []
    for first_seq, count in operation.ranges:
        follows = False
        for seq in range(first_seq, first_seq + count):
            if seq in copied:
                follows = False
            elif follows:
                due[-1] = (due[-1][0], due[-1][1] + 1)
            else:
                due.append((seq, 1))
                follows = True
            copied.add(seq)
    return due


def _copied(tables: Tables, state: State | None, operation: Redeliver) -> set[int]:
    """What the act has copied already, between the first and the last that is asked for."""
    act_id = tables.act_number(operation.act.ticket)
    if state is None or act_id is None or not operation.ranges:
        return set()
    first = min(first_seq for first_seq, _ in operation.ranges)
    last = max(first_seq + count - 1 for first_seq, count in operation.ranges)
    return {
        seq
        for source_seq, count in tables.copied(state, act_id, first, last)
        for seq in range(max(source_seq, first), min(source_seq + count - 1, last) + 1)
    }


def _readable(tables: Tables, state: State, first_seq: int, count: int) -> bool:
    """Whether all of a range can be copied; asked before anything is written."""
    head = Head(tables, state, tables.chunk_at(state, first_seq), first_seq)
    try:
        for start in range(0, count, chunk.COUNT_MAX):
            if head.take_each(min(count - start, chunk.COUNT_MAX)) is None:
                return False
    except StoreCorrupt:
        return False
    return True


def _copy(
    tables: Tables,
    state: State,
    first_seq: int,
    count: int,
    operation: Redeliver,
    act_id: int,
) -> None:
    head = Head(tables, state, tables.chunk_at(state, first_seq), first_seq)
    tables.add_again(state, state.tail + 1, count, first_seq, act_id)
    left = count
    while left:
        entries = head.take_each(min(left, chunk.COUNT_MAX))
        assert entries is not None, "it was asked before"
        pack(tables, state, entries, operation.at_ms, [operation.ticket] * len(entries))
        left -= len(entries)
