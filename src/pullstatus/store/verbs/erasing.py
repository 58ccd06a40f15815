"""Erasing single entries where they lie, a step at a time.

An entry that was erased keeps its number: its place in its chunk is empty from then on (`chunk`).
What waited and now leads its mailbox leaves at once; what is further behind leaves when a pull
passes it. A page in a reader's hand of which nothing is left is taken from it: an answer without
records names no page that could be acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable

from pullstatus.store import chunk
from pullstatus.store.gathering.operations import NOT_COUNTED, Erase, ErasedStep
from pullstatus.store.values import NO_TICKET, Outcome
from pullstatus.store.verbs import following, readers
from pullstatus.store.verbs.head import Head
from pullstatus.store.verbs.placing import leave
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import ChunkRow, Tables


def erase(tables: Tables, operation: Erase) -> ErasedStep:
    """Carry out a step; the same one again finds nothing."""
    state = tables.draft(operation.mailbox)
    if state is None:
        return ErasedStep(0, 0, 0)
    if operation.counted and not _is_counted(tables, state, operation.through):
        return ErasedStep(0, 0, NOT_COUNTED)
    start = tables.chunk_at(state, operation.first_seq)
    rows = tables.chunk_step(state, start, operation.chunks_max)
    if not rows:
        kept = _erase_aside(tables, state, operation)
        return ErasedStep(0, kept, 0)
    seqs: list[int] = []
    lost: list[int] = []
    for row in rows:
        found = _erase_in(tables, state, row, operation, aside=False)
        if found is not None:
            seqs += found
            lost += found or range(row.first_seq, row.first_seq + row.size)
    last_seq = rows[-1].first_seq + rows[-1].size - 1
    following.let_go(tables, state, lost)
    if seqs:
        readers.let_go_of_nothing(tables, state, seqs[0], seqs[-1], operation.at_ms)
    waiting = sum(seq > state.cursor for seq in seqs)
    if waiting:
        _let_leave(tables, state, operation.at_ms)
    return ErasedStep(waiting, len(seqs) - waiting, last_seq + 1)


def _is_counted(tables: Tables, state: State, through: int | None) -> bool:
    """Whether all that is stored up to there is: what was erased tells nobody what it was."""
    last_seq = state.tail if through is None else through
    return max(state.purged, tables.followed(state).tallied) >= last_seq


def _erase_in(
    tables: Tables, state: State, row: ChunkRow, operation: Erase, *, aside: bool
) -> list[int] | None:
    """Erase in one row of chunks, of whichever table; returns the numbers of what was erased.

    None: nothing was; none: all that there was, of which nothing could be told.
    """
    first_seq, count, checksum, bounds, body = row
    last = first_seq + count if operation.through is None else operation.through
    if first_seq > last:
        return None
    joined = chunk.readable(bounds, body)
    if joined is not None and chunk.is_packed(bounds):
        # What opens may still not be what was stored.
        proves = chunk.checksum(state.key + first_seq, bounds, body) == checksum
        joined = joined if proves and chunk.entry_count(bounds) == count else None
    if not (operation.seqs or joined is None or holds(operation, joined)):
        return None

    def is_meant(place: int, entry: bytes) -> bool:
        if place >= 0:
            if first_seq + place > last:
                return False
            return holds(operation, entry) or first_seq + place in operation.seqs
        # What can't be read any more may hold whatever is looked for.
        within = any(first_seq <= seq < first_seq + count for seq in operation.seqs)
        return within or (holds(operation, entry) if entry else bool(operation.holding))

    changed = chunk.erase(
        state.key + first_seq,
        (count, checksum, bounds, body),
        state.cursor - first_seq,
        is_meant,
    )
    if changed is None:
        return None
    checksum, bounds, body, places = changed
    tables.change_chunk(state, ChunkRow(first_seq, count, checksum, bounds, body), aside=aside)
    return [first_seq + place for place in places]


def _erase_aside(tables: Tables, state: State, operation: Erase) -> int:
    """Erase in what was set aside, and in pages that are kept for readers; returns how many there.

    After everything else: what retention puts into a reader's row meanwhile was gone through there.
    """
    for row in tables.aside(state):
        _erase_in(tables, state, row, operation, aside=True)
    meant: Callable[[bytes], bool] = lambda entry: holds(operation, entry)  # noqa: E731
    return readers.erase_kept(tables, state, meant, operation.at_ms)


def _let_leave(tables: Tables, state: State, at_ms: int) -> None:
    """Let what leads its mailbox and was erased leave, as a pull would."""
    head = Head(tables, state, state.read_from, state.cursor + 1)
    if run := head.pass_erased(state.tail - state.cursor):
        leave(tables, state, run, Outcome.ERASED, at_ms, NO_TICKET)
    state.waiting_bytes = -1
    state.read_from = head.read_from


def holds(operation: Erase, data: bytes) -> bool:
    """Whether bytes hold all of one of what entries that go hold."""
    return any(all(part in data for part in parts) for parts in operation.holding)
