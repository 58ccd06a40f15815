"""The rarer operations: settings, forgetting, expiry, removal, redelivery."""

from __future__ import annotations

from pullstatus.errors import InvalidSetting, SettingChanged, StoreCorrupt
from pullstatus.store.gathering.operations import Changes, Forget, Mark, Purge
from pullstatus.store.sqlite import acts, readers, schema
from pullstatus.store.sqlite.head import Head
from pullstatus.store.sqlite.states import State
from pullstatus.store.sqlite.transaction import CHUNK_COUNT_MAX, Transaction
from pullstatus.store.values import Discard, Redeliver, Release


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
    for name, at_ms in operation.times:
        if at_ms:
            transaction.connection.execute(
                "INSERT INTO mark VALUES (?, ?) ON CONFLICT DO UPDATE"
                " SET at_ms = excluded.at_ms WHERE at_ms < excluded.at_ms",
                (name, at_ms),
            )
        else:
            transaction.connection.execute("DELETE FROM mark WHERE name = ?", (name,))
    return len(operation.times)


def forget(transaction: Transaction, operation: Forget) -> int:
    """Drop a step of what is too old to matter, oldest first.

    Reads no more than it drops: each table has an order that begins with the oldest.
    """
    connection = transaction.connection
    forgotten = 0
    for statement, before in (
        (_FORGET_FINGERPRINTS, operation.accepted_before_ms),
        (_FORGET_BATCHES, operation.accepted_before_ms),
        (_FORGET_ONCE, operation.now_ms),
    ):
        connection.execute(statement, (before, operation.count_max))
        forgotten += connection.changes()
    return forgotten


_FORGET_FINGERPRINTS = (
    "DELETE FROM fingerprint WHERE (record_s, digest, scope) IN (SELECT record_s, digest, scope"
    " FROM fingerprint WHERE accepted_ms < ? ORDER BY accepted_ms LIMIT ?)"
)
_FORGET_BATCHES = (
    "DELETE FROM repeat_key WHERE id IN (SELECT id"
    " FROM repeat_key WHERE accepted_ms < ? ORDER BY accepted_ms LIMIT ?)"
)
_FORGET_ONCE = (
    "DELETE FROM once WHERE (sdkappid, nonce) IN (SELECT sdkappid, nonce"
    " FROM once WHERE until_ms < ? ORDER BY until_ms LIMIT ?)"
)


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
        # Chunks lie in order of acceptance: the first that is young enough ends it.
        young = transaction.connection.execute(
            "SELECT key FROM chunk WHERE key BETWEEN ? AND ? AND accepted_ms >= ?"
            " ORDER BY key LIMIT 1",
            (
                state.key | state.read_from,
                state.key | schema.SEQ_MASK,
                operation.accepted_before_ms,
            ),
        ).get
        if young is not None:
            last = (young & schema.SEQ_MASK) - 1
    count = last - state.cursor
    if count <= 0:
        return 0
    transaction.leave(state, count, operation.outcome, operation.at_ms, operation.ticket)
    state.read_from = state.cursor + 1
    if operation.act is not None:
        acts.record(transaction.connection, operation.act)
    return count


def purge(transaction: Transaction, operation: Purge) -> int:
    """Remove a step of what left long ago; answered how many entries."""
    state = transaction.states.draft(operation.mailbox)
    if state is None:
        return 0
    connection = transaction.connection
    through = state.purged
    for key, count, at_ms in connection.execute(
        "SELECT key, count, at_ms FROM journal WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
        (state.key | state.purged, state.key | schema.SEQ_MASK, operation.rows_max),
    ):
        if at_ms >= operation.left_before_ms:
            break
        through = (key & schema.SEQ_MASK) + count - 1
    if through == state.purged:
        return 0
    readers.keep(transaction, state, through)
    for table in ("journal", "again"):
        connection.execute(
            f"DELETE FROM {table} WHERE key BETWEEN ? AND ?",  # noqa: S608 - ours
            (state.key, state.key | through),
        )
    # A chunk that reaches further stays whole until all of it may go.
    connection.execute(
        "DELETE FROM chunk WHERE key BETWEEN ?1 AND ?2 AND key + count - 1 <= ?2",
        (state.key, state.key | through),
    )
    removed = through - state.purged
    state.purged = through
    return removed


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


def redeliver(
    transaction: Transaction, operation: Redeliver
) -> int | InvalidSetting | SettingChanged:
    """Append marked copies of what this act has not copied yet; answered how many."""
    refusal = transaction.conditions.refuses(operation.while_set)
    if refusal is not None:
        return refusal
    mailbox = operation.mailbox
    state = transaction.states.draft(mailbox)
    due = _not_copied(transaction, state, operation)
    for first_seq, count in due:
        if state is None or first_seq <= state.purged or first_seq + count - 1 > state.cursor:
            return InvalidSetting(
                f"entries of {mailbox} to be redelivered are no longer, or not yet, handed out"
            )
        if not _readable(transaction, state, first_seq, count):
            return InvalidSetting(
                f"some of the entries {first_seq} to {first_seq + count - 1} of {mailbox} are"
                " damaged; redeliver those before and behind them"
            )
    if state is None or not due:
        return 0
    act_id = acts.record(transaction.connection, operation.act)
    for first_seq, count in due:
        _copy(transaction, state, first_seq, count, operation, act_id)
    return sum(count for _, count in due)


def _not_copied(
    transaction: Transaction, state: State | None, operation: Redeliver
) -> list[tuple[int, int]]:
    """The ranges of a step without what its act has copied, and without what stands in two."""
    copied = _copied(transaction, state, operation)
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


def _copied(transaction: Transaction, state: State | None, operation: Redeliver) -> set[int]:
    """What the act has copied already, between the first and the last that is asked for."""
    act_id = acts.number(transaction.connection, operation.act)
    if state is None or act_id is None or not operation.ranges:
        return set()
    first = min(first_seq for first_seq, _ in operation.ranges)
    last = max(first_seq + count - 1 for first_seq, count in operation.ranges)
    return {
        seq
        for source_seq, count in transaction.connection.execute(
            _COPIED, (act_id, state.key >> schema.SEQ_BITS, first, last)
        )
        for seq in range(max(source_seq, first), min(source_seq + count - 1, last) + 1)
    }


# Of one act no two ranges overlap, so at most one that begins before reaches into those asked for.
_COPIED = (
    "SELECT source_seq, count FROM again WHERE act_id = ?1 AND key >> 40 = ?2 AND source_seq"
    " BETWEEN coalesce((SELECT max(source_seq) FROM again WHERE act_id = ?1 AND key >> 40 = ?2"
    " AND source_seq < ?3), ?3) AND ?4"
)


def _readable(transaction: Transaction, state: State, first_seq: int, count: int) -> bool:
    """Whether all of a range can be copied; asked before anything is written."""
    read_from = transaction.states.chunk_at(state.key, first_seq)
    head = Head(transaction.connection, state.key, read_from, first_seq)
    try:
        for start in range(0, count, CHUNK_COUNT_MAX):
            head.take_each(min(count - start, CHUNK_COUNT_MAX))
    except StoreCorrupt:
        return False
    return True


def _copy(
    transaction: Transaction,
    state: State,
    first_seq: int,
    count: int,
    operation: Redeliver,
    act_id: int,
) -> None:
    connection = transaction.connection
    read_from = transaction.states.chunk_at(state.key, first_seq)
    head = Head(connection, state.key, read_from, first_seq)
    connection.execute(
        "INSERT INTO again VALUES (?, ?, ?, ?)",
        (state.key | (state.tail + 1), count, first_seq, act_id),
    )
    left = count
    while left:
        entries = head.take_each(min(left, CHUNK_COUNT_MAX))
        transaction.pack(state, entries, operation.at_ms, [operation.ticket] * len(entries))
        left -= len(entries)
