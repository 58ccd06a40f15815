"""The rarer operations: settings, marks, expiry, what readers hold."""

from __future__ import annotations

from pullstatus.errors import SettingChanged
from pullstatus.store.gathering.operations import Changes, Mark
from pullstatus.store.sqlite import acts, joining, readers
from pullstatus.store.sqlite.transaction import Transaction
from pullstatus.store.values import Discard, Release


def change(transaction: Transaction, operation: Changes) -> bool:
    """Set settings if all are as expected."""
    connection = transaction.connection
    for each in operation.changes:
        value, revision = connection.execute(
            "SELECT value, revision FROM setting WHERE name = ?", (each.name,)
        ).fetchone() or (None, 0)
        if value != each.expected or each.revision not in (None, revision):
            return False
    for each in operation.changes:
        connection.execute(
            "INSERT OR REPLACE INTO setting"
            " SELECT ?, ?, coalesce(max(revision), 0) + 1, ? FROM setting",
            (each.name, each.value, operation.ticket),
        )
        transaction.conditions.written(each.name)
    if operation.act is not None:
        acts.record(connection, operation.act)
    return True


def mark(transaction: Transaction, operation: Mark) -> int:
    """Note when things happened last; answered how many were given."""
    for name, (at_ms, place) in operation.times:
        if at_ms:
            transaction.connection.execute(
                "INSERT INTO mark VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
                " SET at_ms = excluded.at_ms, place = excluded.place WHERE at_ms < excluded.at_ms",
                (name, at_ms, place),
            )
        else:
            transaction.connection.execute("DELETE FROM mark WHERE name = ?", (name,))
    return len(operation.times)


def discard(transaction: Transaction, operation: Discard) -> int | SettingChanged:
    """Let entries leave unpulled; answered how many."""
    refusal = transaction.conditions.refuses(operation.while_set)
    if refusal is not None:
        return refusal
    state = transaction.states.draft(operation.mailbox)
    if state is None or state.cursor == state.tail:
        return 0
    last = state.tail
    if operation.accepted_before_ms is not None:
        # Entries lie in order of acceptance: the first that is young enough ends it.
        young = joining.first_young(transaction.connection, state, operation.accepted_before_ms)
        if young is not None:
            last = young - 1
    count = last - state.cursor
    if count <= 0:
        return 0
    transaction.leave(state, count, operation.outcome, operation.at_ms, operation.ticket)
    state.read_from = transaction.states.chunk_at(state.key, state.cursor + 1)
    if operation.act is not None:
        acts.record(transaction.connection, operation.act)
    return count


def release(transaction: Transaction, operation: Release) -> int | SettingChanged:
    """Take a page from a reader; answered how many entries it has, 0 if it is not in hand."""
    refusal = transaction.conditions.refuses(operation.while_set)
    if refusal is not None:
        return refusal
    state = transaction.states.draft(operation.mailbox)
    row = None if state is None else readers.find(transaction, state, operation.name)
    if state is None or row is None or not row.first_seq or row.first_seq != operation.first_seq:
        return 0
    readers.release(transaction, state, row, operation.at_ms)
    readers.empty(transaction, state, operation.name, row, operation.at_ms)
    acts.record(transaction.connection, operation.act)
    return row.count
