"""What a group may hold: the verbs as values, and what each is answered."""

from __future__ import annotations

import msgspec

from pullstatus import limits
from pullstatus.errors import PullstatusError
from pullstatus.store.values import (
    NO_TICKET,
    Act,
    Append,
    Change,
    Discard,
    Mailbox,
    Noted,
    Page,
    Park,
    Pull,
    Redeliver,
    Release,
    Unpark,
)


class Changes(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Set settings if each is as expected; answered whether they were.

    See `Store.change`.
    """

    changes: tuple[Change, ...]
    act: Act | None = None
    ticket: bytes = NO_TICKET


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Drop a step of what is remembered to know repeats by; answered how much.

    At most `count_max` each of batches and records accepted before `accepted_before_ms`, and of
    what must not come twice until a time that has passed by `now_ms`.
    """

    accepted_before_ms: int
    now_ms: int
    count_max: int


class Mark(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Note these times under their names, unless a later one is; 0 forgets. Answered how many."""

    times: tuple[tuple[str, Noted], ...]


class Purge(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Remove entries, and their journal, that left `mailbox` before `left_before_ms`.

    One step: at most `rows_max` journal rows, and what lies under them; with `aside` also what was
    set aside of it as damaged.
    """

    mailbox: Mailbox
    left_before_ms: int
    rows_max: int
    aside: bool = False


class Erase(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Erase entries of `mailbox`, wherever they lie; answered an `ErasedStep`.

    One step: at most `chunks_max` of what lies together, from entry `first_seq` on; the last one,
    which finds no more, sees to what lies elsewhere.

    Attributes:
        holding: entries that hold all of one of these go.
        seqs: and those with these numbers.
    """

    mailbox: Mailbox
    first_seq: int
    chunks_max: int
    at_ms: int
    holding: tuple[tuple[bytes, ...], ...]
    seqs: frozenset[int]


class ErasedStep(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What a step has erased, and from which entry on the next one goes on; 0: it was the last."""

    waiting: int
    left: int
    next_seq: int


Counted = Append | Park | Unpark | Forget | Discard | Purge | Redeliver | Release | Mark
"""What is answered how many."""

Operation = Pull | Changes | Erase | Counted
Answer = int | Page | bool | ErasedStep | PullstatusError


def adds(operation: Operation) -> bool:
    """Whether it may add entries, for which there must be room."""
    if isinstance(operation, Unpark):
        return bool(operation.records or operation.back or operation.aside)
    return isinstance(operation, Append | Park | Redeliver)


def owner(operation: Operation) -> int | None:
    """The application that it is of; None: of several, or of none."""
    mailbox: Mailbox | None = getattr(operation, "mailbox", None)
    return None if mailbox is None else mailbox.sdkappid


def weight(operation: Operation) -> int:
    """About how many bytes it brings.

    Of a pull a quarter of what its answer does: reading takes as much less time than storing.
    """
    if isinstance(operation, Append):
        return sum(map(len, operation.entries))
    if isinstance(operation, Pull):
        return operation.count_max * limits.RECORD_BYTES_USUAL // 4
    if isinstance(operation, Park):
        return sum(map(len, operation.entries)) + weight(operation.records)
    return 0
