"""Pulls of a group: the pages of a mailbox from one read of its head, each with a journal row."""

from __future__ import annotations

from collections.abc import Sequence

from pullstatus import limits
from pullstatus.errors import (
    AcknowledgementRefused,
    KeyReused,
    PullstatusError,
    ReplayRefused,
    StoreUnavailable,
    TooManyReaders,
)
from pullstatus.records import Kind
from pullstatus.store import chunk
from pullstatus.store.gathering.operations import Answer, PackedPage
from pullstatus.store.readers import Given, Hand, decide
from pullstatus.store.values import JournalRow, Mailbox, Outcome, Page, Pull, Reader
from pullstatus.store.verbs import readers
from pullstatus.store.verbs.conditions import refuses
from pullstatus.store.verbs.head import Head, read_again
from pullstatus.store.verbs.placing import leave
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import ReaderRow, Tables

EMPTY = Page(0, 0, b"", 0)

_NOBODY = ReaderRow(0)  # stands for a reader that was never handed anything


def pull(tables: Tables, operations: Sequence[Pull]) -> list[Answer]:
    """Carry out the pulls of one mailbox, in order of arrival; one answer each."""
    state = tables.draft(operations[0].mailbox)
    reading = None
    if state is not None and state.cursor < state.tail:
        reading = Head(tables, state, state.read_from, state.cursor + 1)
    answers: list[Answer] = []
    for operation in operations:
        if operation.reader is None:
            answers.append(_pull(tables, state, reading, operation))
        else:
            answers.append(_pull_of_reader(tables, state, reading, operation, operation.reader))
    if state is not None and reading is not None:
        state.read_from = reading.read_from
    return answers


def _pull(
    tables: Tables, state: State | None, head: Head | None, operation: Pull
) -> Page | PackedPage | PullstatusError:
    """A pull without a reader."""
    refusal = refuses(tables, *operation.conditions)
    if refusal is not None:
        return refusal
    if operation.key is not None:
        repeated = _repeated(tables, operation, operation.key)
        if repeated is not None:
            return repeated
    replay = _spend(tables, operation)
    if replay is not None:
        return replay
    if state is None or head is None:
        return EMPTY
    return _take(tables, state, head, operation)


def _pull_of_reader(
    tables: Tables,
    state: State | None,
    head: Head | None,
    operation: Pull,
    reader: Reader,
) -> Page | PackedPage | PullstatusError:
    """A pull of a reader, by the table of `store.readers`. What may refuse it comes first."""
    refusal = refuses(tables, *operation.conditions)
    if refusal is not None:
        return refusal
    row = None if state is None else tables.reader(state, reader.name)
    known = row or _NOBODY
    hand = known.hand.since(operation.former(operation.mailbox.kind))
    move = decide(hand, reader.ack, takes=operation.count_max > 0)
    if move is None:
        return AcknowledgementRefused(_ACK_REFUSED)
    entries = forgotten = None
    if state is not None and move.given is Given.AGAIN:
        entries = readers.page_in_hand(tables, state, reader.name, known)
        if entries is None:
            return StoreUnavailable(_HAND_DAMAGED)
    if state is not None and head is not None and row is None and move.given is Given.NEXT:
        try:
            forgotten = readers.dispensable(tables, state)
        except TooManyReaders as error:
            return error
    replay = _spend(tables, operation)
    if replay is not None:
        return replay
    if state is None:
        return EMPTY
    if entries is not None:
        readers.give_again(tables, state, reader.name, known, operation.at_ms)
        waiting, given = state.tail - state.cursor, known.given + 1
        data = b",".join(entries)
        return Page(known.first_seq, len(entries), data, waiting, repeated=True, given=given)
    page: Page | PackedPage = Page(0, 0, b"", state.tail - state.cursor)
    if head is not None and move.given is Given.NEXT:
        page = _take(tables, state, head, operation)
    if move.acknowledges:
        tables.note_acked(state, readers.journal_seq(state, known), operation.at_ms)
        hand = Hand(None, known.first_seq)
    elif page.count and known.first_seq:  # a former owner's
        tables.note_released(state, readers.journal_seq(state, known), operation.at_ms)
    if page.count:
        if forgotten is not None:
            tables.drop_reader(state, forgotten)
        readers.hand_out(
            *(tables, state, reader.name, hand, page.first_seq),
            *(state.cursor + 1 - page.first_seq, operation.at_ms),
        )
    elif move.acknowledges:
        readers.empty(tables, state, reader.name, known, operation.at_ms)
    return page


_ACK_REFUSED = (
    "the page that is acknowledged is not the one in this reader's hand: pull without"
    " acknowledging to get that one"
)
_HAND_DAMAGED = (
    "the page in this reader's hand was damaged on the disk; an operator can take it from there,"
    " with `pullstatus readers release`"
)


def _take(tables: Tables, state: State, head: Head, operation: Pull) -> Page | PackedPage:
    """The next page, with its journal row.

    Damaged entries at the head are set aside first, and erased ones leave. Others that were erased
    are within the range of the page, which is as full as if they had never been.
    """
    while state.cursor < state.tail:
        if run := head.damaged(state.tail - state.cursor):
            tables.set_aside(state, head.read_from, head.read_from)
            head.skip(run)
            outcome = Outcome.QUARANTINED
        elif run := head.pass_erased(state.tail - state.cursor):
            outcome = Outcome.ERASED
        else:
            break
        leave(tables, state, run, outcome, operation.at_ms, operation.ticket)
    if state.cursor == state.tail:
        return EMPTY
    first_seq = state.cursor + 1
    count, pieces = head.take(operation.count_max, state.tail - state.cursor)
    covered = head.seq - first_seq
    tables.lay_in(state, len(pieces))
    state.leave(Outcome.PULLED, count)
    state.leave(Outcome.ERASED, covered - count)
    tables.add_journal(
        state,
        JournalRow(
            operation.mailbox,
            first_seq,
            covered,
            Outcome.PULLED,
            operation.at_ms,
            operation.address,
            operation.key,
            operation.count_max,
            operation.proof,
            operation.ticket,
            None if operation.reader is None else operation.reader.name,
        ),
    )
    return page_of(first_seq, count, pieces, state.tail - state.cursor)


def page_of(
    first_seq: int, count: int, pieces: list[bytes | chunk.Piece], waiting: int
) -> Page | PackedPage:
    """A page; whoever answers with it opens what is packed in it."""
    plain = [piece for piece in pieces if isinstance(piece, bytes)]
    if len(plain) < len(pieces):
        return PackedPage(first_seq, count, pieces, waiting)
    return Page(first_seq, count, plain[0] if len(plain) == 1 else b",".join(plain), waiting)


def _spend(tables: Tables, operation: Pull) -> ReplayRefused | None:
    """Note what must not come twice; the refusal if it came before."""
    if operation.once is not None:
        fresh = tables.spend(operation.mailbox.sdkappid, operation.once, operation.at_ms)
        if not fresh:
            return ReplayRefused("this came before; make each request anew")
    return None


def _repeated(tables: Tables, operation: Pull, pull_key: str) -> Page | PullstatusError | None:
    """The page that a key got before; of one that was erased as a whole there is none."""
    old_ms = operation.at_ms - limits.PULL_KEY_S * 1000
    for kind in Kind:
        state = tables.draft(Mailbox(operation.mailbox.sdkappid, kind))
        row = None if state is None else tables.keyed(state, pull_key)
        if state is None or row is None:
            continue
        first_seq, count, at_ms, count_max = row
        if at_ms < old_ms or first_seq <= operation.former(kind):
            continue
        entries = read_again(tables, state, first_seq, count)
        if entries == []:
            continue
        if state.mailbox != operation.mailbox or count_max != operation.count_max:
            return KeyReused("this key came before with another mailbox or another count")
        if entries is None:
            return StoreUnavailable(_PAGE_DAMAGED)
        data, waiting = b",".join(entries), state.tail - state.cursor
        return Page(first_seq, len(entries), data, waiting, repeated=True)
    return None


_PAGE_DAMAGED = "the page of this Idempotency-Key was damaged on the disk"
