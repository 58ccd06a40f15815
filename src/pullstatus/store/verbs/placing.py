"""Where entries come to lie, and how they leave without a pull."""

from __future__ import annotations

from collections.abc import Sequence

from pullstatus.store import chunk
from pullstatus.store.values import Chunk, JournalRow, Outcome
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import ChunkRow, Tables


def pack(
    tables: Tables, state: State, entries: Sequence[bytes], at_ms: int, tickets: Sequence[bytes]
) -> None:
    """Put entries, each with its ticket, at the tail of a mailbox, in chunks."""
    for start in range(0, len(entries), chunk.COUNT_MAX):
        stop = start + chunk.COUNT_MAX
        label = chunk.label(tickets[start:stop])
        put(tables, state, chunk.pack(entries[start:stop]), at_ms, label)


def put(tables: Tables, state: State, packed: Chunk, at_ms: int, label: bytes) -> None:
    """Put a chunk at the tail of a mailbox."""
    first_seq = state.tail + 1
    proof = chunk.placed(state.key + first_seq, packed)
    tables.add_chunk(state, ChunkRow(first_seq, packed.count, *proof), at_ms, label)
    state.tail += packed.count


def leave(
    tables: Tables, state: State, count: int, outcome: Outcome, at_ms: int, ticket: bytes
) -> None:
    """Let `count` entries leave the head without a pull, on record."""
    first_seq = state.cursor + 1
    state.leave(outcome, count)
    tables.add_journal(
        state,
        JournalRow(state.mailbox, first_seq, count, outcome, at_ms, "", None, 0, "", ticket),
    )
