"""Appends of a group: what is new of each batch, packed into chunks at the mailboxes' tails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from pullstatus import limits
from pullstatus.errors import KeyReused
from pullstatus.store import chunk
from pullstatus.store.gathering.operations import Answer
from pullstatus.store.sqlite.states import State
from pullstatus.store.sqlite.transaction import Transaction
from pullstatus.store.values import Append, Mailbox, RepeatKey


def append(transaction: Transaction, operations: Sequence[Append]) -> list[Answer]:
    """Carry out the appends of one mailbox, in order; one answer each."""
    answers: list[Answer] = []
    fresh: list[bytes] = []
    tickets: list[bytes] = []
    for sent in operations:
        refusal = transaction.conditions.refuses(sent.while_set)
        if refusal is not None:
            answers.append(refusal)
            continue
        if sent.repeat_key is not None:
            known = _recall(transaction, sent.repeat_key, sent)
            if known is not None:
                answers.append(known)
                continue
        answers.append(sent.count)
        operation = _new_of(transaction, sent)
        if operation.packed:
            _put(transaction, operations, fresh, tickets)
            fresh, tickets = [], []
            state = _state(transaction, operation.mailbox)
            for each in operation.packed:
                label = chunk.label([operation.ticket] * each.count)
                transaction.put(state, each, operations[-1].at_ms, label)
        fresh += operation.entries
        tickets += [operation.ticket] * (len(fresh) - len(tickets))
    _put(transaction, operations, fresh, tickets)
    return answers


def _new_of(transaction: Transaction, operation: Append) -> Append:
    """The same without the entries whose fingerprints are known."""
    if operation.fingerprints is None:
        return operation
    new = transaction.remembered.unseen(operation.fingerprints, operation.at_ms)
    if len(new) == operation.count:
        return operation
    entries = [entry for each in operation.packed for entry in chunk.unpack(each.bounds, each.body)]
    entries += operation.entries
    return msgspec.structs.replace(operation, entries=[entries[place] for place in new], packed=[])


def _put(
    transaction: Transaction,
    operations: Sequence[Append],
    entries: Sequence[bytes],
    tickets: Sequence[bytes],
) -> None:
    """Put entries of a group's appends at the tail of their mailbox."""
    if entries:
        last = operations[-1]
        transaction.pack(_state(transaction, last.mailbox), entries, last.at_ms, tickets)


def _state(transaction: Transaction, mailbox: Mailbox) -> State:
    return transaction.states.draft(mailbox) or transaction.states.create(mailbox)


def _recall(
    transaction: Transaction, repeat_key: RepeatKey, operation: Append
) -> int | KeyReused | None:
    """What a batch's key was answered before; None, and remembered from now on, if never."""
    old_ms = operation.at_ms - limits.INGEST_REPEAT_S * 1000
    for digest, accepted, accepted_ms in transaction.connection.execute(
        "SELECT digest, accepted, accepted_ms FROM repeat_key WHERE scope = ? AND key = ?",
        (repeat_key.scope, repeat_key.key),
    ):
        if accepted_ms >= old_ms:
            if digest != repeat_key.digest:
                return KeyReused("this Idempotency-Key came before with another body")
            return cast("int", accepted)
    transaction.connection.execute(
        "INSERT OR REPLACE INTO repeat_key (scope, key, digest, accepted, accepted_ms)"
        " VALUES (?, ?, ?, ?, ?)",
        (
            repeat_key.scope,
            repeat_key.key,
            repeat_key.digest,
            operation.count,
            operation.at_ms,
        ),
    )
    return None
