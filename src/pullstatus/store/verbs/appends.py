"""Appends of a group: what is new of each batch, packed into chunks at the mailboxes' tails."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pullstatus.store import chunk
from pullstatus.store.gathering.operations import Answer
from pullstatus.store.values import Append, Mailbox
from pullstatus.store.verbs.conditions import refuses
from pullstatus.store.verbs.placing import pack, put
from pullstatus.store.verbs.repeats import came_before
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import Tables


def append(tables: Tables, operations: Sequence[Append]) -> list[Answer]:
    """Carry out the appends of one mailbox, in order; each is answered how much of it is new."""
    answers: list[Answer] = []
    fresh: list[bytes] = []
    tickets: list[bytes] = []
    for sent in operations:
        refusal = refuses(tables, sent.while_set)
        if refusal is not None:
            answers.append(refusal)
            continue
        if sent.repeat_key is not None:
            came = came_before(
                tables, sent.mailbox.sdkappid, sent.repeat_key, sent.count, sent.at_ms
            )
            if came:
                answers.append(0 if came is True else came)
                continue
        operation = _new_of(tables, sent)
        answers.append(operation.count)
        if operation.packed:
            _put(tables, operations, fresh, tickets)
            fresh, tickets = [], []
            state = _state(tables, operation.mailbox)
            for each in operation.packed:
                label = chunk.label_of_one(operation.ticket, each.count)
                put(tables, state, each, operations[-1].at_ms, label)
        fresh += operation.entries
        tickets += [operation.ticket] * (len(fresh) - len(tickets))
    _put(tables, operations, fresh, tickets)
    return answers


def _new_of(tables: Tables, operation: Append) -> Append:
    """The same without the entries whose fingerprints are known."""
    if operation.fingerprints is None:
        return operation
    new = tables.unseen(operation.mailbox.sdkappid, operation.fingerprints, operation.at_ms)
    if len(new) == operation.count:
        return operation
    entries = [entry for each in operation.packed for entry in chunk.unpack(each.bounds, each.body)]
    entries += operation.entries
    return msgspec.structs.replace(operation, entries=[entries[place] for place in new], packed=[])


def _put(
    tables: Tables,
    operations: Sequence[Append],
    entries: Sequence[bytes],
    tickets: Sequence[bytes],
) -> None:
    """Put entries of a group's appends at the tail of their mailbox."""
    if entries:
        last = operations[-1]
        pack(tables, _state(tables, last.mailbox), entries, last.at_ms, tickets)


def _state(tables: Tables, mailbox: Mailbox) -> State:
    return tables.draft(mailbox) or tables.create(mailbox)
