"""Copies of what has left, at the tail of its mailbox: each once for an act, however often.

Of what was erased there is no copy: nothing of it is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from pullstatus.errors import EntriesDamaged, InvalidSetting, SettingChanged, StoreCorrupt
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
    runs: list[tuple[int, list[bytes]]] = []
    for first_seq, count in _not_copied(tables, state, operation):
        if state is None or first_seq <= state.purged or first_seq + count - 1 > state.cursor:
            return InvalidSetting(
                f"entries of {mailbox} to be redelivered are no longer, or not yet, handed out"
            )
        entries = _read(tables, state, first_seq, count)
        if entries is None:
            last_seq = first_seq + count - 1
            return EntriesDamaged(
                f"some of the entries {first_seq} to {last_seq} of {mailbox} are damaged"
            )
        runs += _left(first_seq, entries)
    if state is None or not runs:
        return 0
    copies: list[bytes] = []
    act_id = acts.record(tables, operation.act)
    for first_seq, entries in runs:
        tables.add_again(state, state.tail + 1 + len(copies), len(entries), first_seq, act_id)
        copies += entries
    pack(tables, state, copies, operation.at_ms, [operation.ticket] * len(copies))
    return len(copies)


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


def _read(tables: Tables, state: State, first_seq: int, count: int) -> list[bytes] | None:
    """All of a range, as `Head.take_each`; None: it is damaged."""
    try:
        return Head(tables, state, tables.chunk_at(state, first_seq), first_seq).take_each(count)
    except StoreCorrupt:
        return None


def _left(first_seq: int, entries: Sequence[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """What was not erased of the entries from a number on, each run of it with its first number."""
    for erased, run in groupby(entries, chunk.ERASED_WAITING.__eq__):
        left = list(run)
        if not erased:
            yield first_seq, left
        first_seq += len(left)
