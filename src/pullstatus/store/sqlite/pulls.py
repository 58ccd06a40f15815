"""Pulls of a group: the pages of a mailbox from one read of its head, each with a journal row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pullstatus import limits
from pullstatus.errors import KeyReused, PullstatusError, ReplayRefused, StoreUnavailable
from pullstatus.records import Kind
from pullstatus.store.gathering.operations import Answer
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.head import Head
from pullstatus.store.sqlite.states import State
from pullstatus.store.sqlite.transaction import Transaction
from pullstatus.store.values import Mailbox, Outcome, Page, Pull

EMPTY = Page(0, 0, b"", 0)


def pull(transaction: Transaction, operations: Sequence[Pull]) -> list[Answer]:
    """Carry out the pulls of one mailbox, in order of arrival; one answer each."""
    state = transaction.states.draft(operations[0].mailbox)
    reading = None
    if state is not None and state.cursor < state.tail:
        reading = Head(transaction.connection, state.key, state.read_from, state.cursor + 1)
    answers: list[Answer] = []
    for operation in operations:
        before = _before(transaction, operation)
        if before is not None:
            answers.append(before)
        elif state is None or reading is None:
            answers.append(EMPTY)
        else:
            answers.append(_take(transaction, state, reading, operation))
    if state is not None and reading is not None:
        state.read_from = reading.read_from
    return answers


def _take(transaction: Transaction, state: State, head: Head, operation: Pull) -> Page:
    """The next page, with its journal row; damaged entries at the head are set aside first."""
    while state.cursor < state.tail and (run := head.damaged(state.tail - state.cursor)):
        transaction.connection.execute(
            "INSERT OR IGNORE INTO quarantine SELECT * FROM chunk WHERE key = ?",
            (state.key | head.read_from,),
        )
        head.skip(run)
        transaction.leave(state, run, Outcome.QUARANTINED, operation.at_ms)
    if state.cursor == state.tail:
        return EMPTY
    first_seq = state.cursor + 1
    count, data = head.take(min(operation.count_max, state.tail - state.cursor))
    transaction.connection.execute(
        "INSERT INTO journal VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
        (
            state.key | first_seq,
            count,
            operation.at_ms,
            operation.address,
            operation.key,
            operation.count_max,
            operation.proof,
            operation.ticket,
        ),
    )
    state.leave(Outcome.PULLED, count)
    return Page(first_seq, count, data, state.tail - state.cursor)


def _before(transaction: Transaction, operation: Pull) -> Page | PullstatusError | None:
    """What answers a pull without a new page: its key's page, or a refusal."""
    refusal = transaction.conditions.refuses(operation.while_set)
    if refusal is not None:
        return refusal
    if operation.key is not None:
        repeated = _repeated(transaction, operation, operation.key)
        if repeated is not None:
            return repeated
    if operation.once is not None:
        transaction.connection.execute(
            "INSERT INTO once VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET until_ms = excluded.until_ms WHERE until_ms < ?",
            (
                operation.mailbox.sdkappid,
                operation.once.nonce,
                operation.once.until_ms,
                operation.at_ms,
            ),
        )
        if not transaction.connection.changes():
            return ReplayRefused("this came before; make each request anew")
    return None


def _repeated(
    transaction: Transaction, operation: Pull, pull_key: str
) -> Page | PullstatusError | None:
    """The page that a key got before."""
    old_ms = operation.at_ms - limits.PULL_KEY_S * 1000
    for state, key, count, at_ms, count_max in _keyed(transaction, operation, pull_key):
        first_seq = key & schema.SEQ_MASK
        if at_ms < old_ms or first_seq <= _keyed_after(operation, state):
            continue
        if state.mailbox != operation.mailbox or count_max != operation.count_max:
            return KeyReused("this key came before with another mailbox or another count")
        if first_seq + count != _next_first(transaction, state, key):
            return StoreUnavailable(_PAGE_DAMAGED)
        read_from = transaction.states.chunk_at(state.key, first_seq)
        taken, data = Head(transaction.connection, state.key, read_from, first_seq).take(count)
        if taken != count:
            return StoreUnavailable(_PAGE_DAMAGED)
        return Page(first_seq, count, data, state.tail - state.cursor, repeated=True)
    return None


def _keyed_after(operation: Pull, state: State) -> int:
    return operation.keyed_after[state.mailbox.kind] if operation.keyed_after else 0


def _keyed(
    transaction: Transaction, operation: Pull, pull_key: str
) -> Iterator[tuple[State, int, int, int, int]]:
    """The newest journal row with this key of each of the application's mailboxes.

    Of one key the index has the rows in order of theirs, so in order of mailbox: any number of
    other applications may use the same key.
    """
    for kind in Kind:
        state = transaction.states.draft(Mailbox(operation.mailbox.sdkappid, kind))
        if state is not None:
            row = transaction.connection.execute(
                "SELECT key, count, at_ms, count_max FROM journal INDEXED BY journal_by_pull_key"
                " WHERE pull_key = ? AND key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1",
                (pull_key, state.key, state.key | schema.SEQ_MASK),
            ).fetchone()
            if row is not None:
                yield state, *row


_PAGE_DAMAGED = "the page of this Idempotency-Key was damaged on the disk"


def _next_first(transaction: Transaction, state: State, key: int) -> int:
    """Where the page behind the one with this key begins.

    A journal row has no checksum of its own, and one that says too much would hand out what
    another pull has had.
    """
    following: int | None = transaction.connection.execute(
        "SELECT min(key) FROM journal WHERE key > ? AND key <= ?",
        (key, state.key | schema.SEQ_MASK),
    ).get
    return state.cursor + 1 if following is None else following & schema.SEQ_MASK
