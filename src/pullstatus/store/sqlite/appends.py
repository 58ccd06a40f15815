"""Appends of a group: what is new of each batch, packed into chunks at the mailboxes' tails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from pullstatus import limits
from pullstatus.errors import KeyReused
from pullstatus.store.gathering.operations import Answer
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.transaction import Transaction
from pullstatus.store.values import Append, Fingerprints, RepeatKey


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
            fresh += unseen(transaction, operation.entries, operation.fingerprints, operation.at_ms)
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


def unseen(
    transaction: Transaction, entries: Sequence[bytes], fingerprints: Fingerprints, at_ms: int
) -> Iterator[bytes]:
    """The entries whose fingerprints are new, remembered from now on."""
    connection = transaction.connection
    scope = schema.scope_number(fingerprints.scope)
    old_ms = at_ms - limits.INGEST_REPEAT_S * 1000
    for entry, (record_s, digest) in zip(entries, fingerprints.items, strict=True):
        connection.execute(
            "INSERT INTO fingerprint VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE"
            " SET accepted_ms = excluded.accepted_ms WHERE accepted_ms < ?5",
            (record_s, digest, scope, at_ms, old_ms),
        )
        if connection.changes():
            yield entry
