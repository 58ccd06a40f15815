"""Appends of a group: what is new of each batch, packed into chunks at the mailboxes' tails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pullstatus import limits
from pullstatus.errors import KeyReused
from pullstatus.store.gathering.operations import Answer
from pullstatus.store.sqlite.transaction import Transaction
from pullstatus.store.values import Append, RepeatKey


def append(transaction: Transaction, operations: Sequence[Append]) -> list[Answer]:
    """Carry out the appends of one mailbox, in order; one answer each."""
    answers: list[Answer] = []
    fresh: list[bytes] = []
    tickets: list[bytes] = []
    for operation in operations:
        refusal = transaction.conditions.refuses(operation.while_set)
        if refusal is not None:
            answers.append(refusal)
            continue
        if operation.repeat_key is not None:
            known = _recall(transaction, operation.repeat_key, operation)
            if known is not None:
                answers.append(known)
                continue
        answers.append(len(operation.entries))
        if operation.fingerprints is None:
            fresh += operation.entries
        else:
            fresh += transaction.remembered.unseen(
                operation.entries, operation.fingerprints, operation.at_ms
            )
        tickets += [operation.ticket] * (len(fresh) - len(tickets))
    if fresh:
        last = operations[-1]
        states = transaction.states
        state = states.draft(last.mailbox) or states.create(last.mailbox)
        transaction.pack(state, fresh, last.at_ms, tickets)
    return answers


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
            len(operation.entries),
            operation.at_ms,
        ),
    )
    return None
