"""What a group may hold: the verbs as values, and what each is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.errors import PullstatusError
from pullstatus.store import chunk
from pullstatus.store.transfer import Migration, Part, Row
from pullstatus.store.values import (
    NO_TICKET,
    Act,
    Append,
    Change,
    Count,
    Discard,
    Follow,
    Mailbox,
    Noted,
    Page,
    Park,
    Pull,
    PutAside,
    Redeliver,
    Release,
    Unfollow,
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
    """Drop a step of what is remembered to know repeats by; answered what it `Removed`.

    Of batches and records accepted before `accepted_before_ms`, and of what must not come twice
    until a time that has passed by `now_ms`; and tallies of hours before `hours_before`. Names of
    sends go as batches do.

    Attributes:
        count_max, work_s: as those of `Purge`.
    """

    accepted_before_ms: int
    now_ms: int
    count_max: int
    work_s: float
    hours_before: int = 0


class Mark(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Note these times under their names, unless a later one is; 0 forgets. Answered how many."""

    times: tuple[tuple[str, Noted], ...]


class Purge(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Remove entries, and their journal, that left `mailboxes` before `left_before_ms`.

    A step, which everybody else waits for: of each mailbox a little in turn, so that none waits
    for another's end; answered what it `Removed`.

    Attributes:
        count_max: about how many things may go, whatever they are.
        work_s: for how many seconds it may go on; something goes in any case.
        through: instead, whenever it left, what begins up to this number, and what was set aside
            of it as damaged.
    """

    mailboxes: tuple[Mailbox, ...]
    left_before_ms: int
    count_max: int
    work_s: float
    through: int | None = None

    def is_due(self, first_seq: int, at_ms: int) -> bool:
        """Whether a journal row goes that begins with this number and is of this time."""
        return at_ms < self.left_before_ms if self.through is None else first_seq <= self.through


class Removed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What a step of upkeep did.

    Attributes:
        count: how many entries, or remembered things, are gone.
        more: whether another step is due.
        mailboxes: for which, in the order in which they are next.
    """

    count: int
    more: bool
    mailboxes: tuple[Mailbox, ...] = ()


class Erase(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Erase entries of `mailbox`, wherever they lie; answered an `ErasedStep`.

    One step: at most `chunks_max` of what lies together, from entry `first_seq` on; the last one,
    which finds no more, sees to what lies elsewhere.

    Attributes:
        holding: entries that hold all of one of these go.
        seqs: and those with these numbers.
        through: none of those behind it does; None: it is the tail.
        counted: nothing does while not all up to `through` is counted.
    """

    mailbox: Mailbox
    first_seq: int
    chunks_max: int
    at_ms: int
    holding: tuple[tuple[bytes, ...], ...]
    seqs: frozenset[int]
    through: int | None = None
    counted: bool = False


NOT_COUNTED: Final = -1


class ErasedStep(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What a step has erased, and from which entry on the next one goes on.

    0: it was the last. `NOT_COUNTED`: it was to erase what is counted, and not all of it is.
    """

    waiting: int
    left: int
    next_seq: int


class PackedPage(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """A `Page` as it lies in the store, to be opened by whoever answers with it.

    Attributes:
        pieces: what lies together, in order.
    """

    first_seq: int
    count: int
    pieces: list[bytes | chunk.Piece]
    waiting: int

    def opened(self) -> Page:
        """The page.

        Raises:
            StoreCorrupt: a chunk of it is none that was ever packed.
        """
        pieces = [
            piece if isinstance(piece, bytes) else chunk.taken(piece) for piece in self.pieces
        ]
        data = pieces[0] if len(pieces) == 1 else b",".join(pieces)
        return Page(self.first_seq, self.count, data, self.waiting)


class Enter(msgspec.Struct, frozen=True):
    """Say how the store takes part in a migration; answered whether it did as expected.

    See `Transfer.enter`.
    """

    migration: Migration | None
    expected: Migration | None
    act: Act | None = None


class Replace(msgspec.Struct, frozen=True):
    """Drop rows of a part, then put others in; answered how many. See `Transfer.replace`."""

    part: Part
    drop: Sequence[Row]
    put: Sequence[Row]


Moving = Enter | Replace
"""What makes a store another; asked in the process that commits, and nowhere else."""

Counted = Append | Unpark | Discard | Redeliver | Release | Mark
"""What is answered how many."""

Upkeep = Forget | Purge
"""What nobody waits for, in steps; each is answered what it `Removed`."""

Derived = Follow | Unfollow | Count
"""What concerns tallies; answered whether it was done."""

Sent = Park | Pull | Changes | Erase | Upkeep | Counted | Derived
"""What may be told to another process."""

Operation = Sent | Moving
Answer = int | PutAside | Page | PackedPage | bool | ErasedStep | Removed | PullstatusError


def adds(operation: Operation) -> bool:
    """Whether it may add entries, for which there must be room."""
    if isinstance(operation, Unpark):
        return bool(operation.records or operation.back or operation.aside)
    return isinstance(operation, Append | Park | Redeliver)


def owner(operation: Operation) -> int | None:
    """The application that it is of; None: of several, or of none."""
    if isinstance(operation, Count):
        return operation.sdkappid
    mailbox: Mailbox | None = getattr(operation, "mailbox", None)
    return None if mailbox is None else mailbox.sdkappid


def packed(operation: Append) -> Append:
    """The same with what makes well-filled chunks packed, so that the store need not do it.

    A few entries are left as they are: the store joins them with those of others. Those that have
    fingerprints are nearly always new, all of them; only the store can tell, and opens them if not.
    """
    entries = operation.entries
    if len(entries) < _FILLED:
        return operation
    rest = len(entries) % chunk.COUNT_MAX
    stop = len(entries) - (rest if rest < _FILLED else 0)
    return Append(
        operation.mailbox,
        entries[stop:],
        operation.at_ms,
        operation.repeat_key,
        operation.fingerprints,
        operation.while_set,
        operation.ticket,
        [
            chunk.pack(entries[start : min(start + chunk.COUNT_MAX, stop)])
            for start in range(0, stop, chunk.COUNT_MAX)
        ],
    )


_FILLED = chunk.COUNT_MAX // 2


def weight(operation: Operation) -> int:
    """About how many bytes it brings.

    Of a pull a quarter of what its answer does: reading takes as much less time than storing.
    """
    if isinstance(operation, Append):
        size = sum(map(len, operation.entries))
        for each in operation.packed:
            size += len(each.bounds) + len(each.body)
        return size
    if isinstance(operation, Pull):
        return operation.count_max * limits.RECORD_BYTES_USUAL // 4
    if isinstance(operation, Park):
        return sum(map(len, operation.entries)) + weight(operation.records)
    if isinstance(operation, Follow) and operation.segment is not None:
        return len(operation.segment.numbers) + len(operation.segment.sids)
    return 0
