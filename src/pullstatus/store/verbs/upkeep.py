"""The rarer operations: settings, marks, expiry, what readers hold."""

from __future__ import annotations

from pullstatus.errors import SettingChanged
from pullstatus.store.gathering.operations import Changes, Mark
from pullstatus.store.values import Discard, Release
from pullstatus.store.verbs import acts, readers
from pullstatus.store.verbs.conditions import refuses
from pullstatus.store.verbs.placing import leave
from pullstatus.store.verbs.tables import SettingTable, Tables


def change(tables: SettingTable, operation: Changes) -> bool:
    """Set settings if all are as expected."""
    for each in operation.changes:
        value, revision = tables.setting(each.name)
        if value != each.expected or each.revision not in (None, revision):
            return False
    for each in operation.changes:
        tables.put_setting(each.name, each.value, operation.ticket)
    if operation.act is not None:
        acts.record(tables, operation.act)
    return True


def mark(tables: SettingTable, operation: Mark) -> int:
    """Note when things happened last; answered how many were given."""
    for name, noted in operation.times:
        if noted.at_ms:
            tables.note(name, noted)
        else:
            tables.drop_note(name)
    return len(operation.times)


def discard(tables: Tables, operation: Discard) -> int | SettingChanged:
    """Let entries leave unpulled; answered how many."""
    refusal = refuses(tables, operation.while_set)
    if refusal is not None:
        return refusal
    state = tables.draft(operation.mailbox)
    if state is None or state.cursor == state.tail:
        return 0
    last = state.tail if operation.through is None else min(state.tail, operation.through)
    if operation.accepted_before_ms is not None:
        # Entries lie in order of acceptance: the first that is young enough ends it.
        young = tables.first_young(state, operation.accepted_before_ms)
        if young is not None:
            last = min(last, young - 1)
    count = last - state.cursor
    if count <= 0:
        return 0
    leave(tables, state, count, operation.outcome, operation.at_ms, operation.ticket)
    state.read_from = tables.chunk_at(state, state.cursor + 1)
    if operation.act is not None:
        acts.record(tables, operation.act)
    return count


def release(tables: Tables, operation: Release) -> int | SettingChanged:
    """Take a page from a reader; answered how many entries it has, 0 if it is not in hand."""
    refusal = refuses(tables, operation.while_set)
    if refusal is not None:
        return refusal
    state = tables.draft(operation.mailbox)
    row = None if state is None else tables.reader(state, operation.name)
    if state is None or row is None or not row.first_seq or row.first_seq != operation.first_seq:
        return 0
    tables.note_released(state, readers.journal_seq(state, row), operation.at_ms)
    readers.empty(tables, state, operation.name, row, operation.at_ms)
    acts.record(tables, operation.act)
    return row.count
