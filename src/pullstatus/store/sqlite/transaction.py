"""What the open transaction of a group works with: the connection, the mailboxes, the journal."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from pullstatus.store import chunk
from pullstatus.store.sqlite.conditions import Conditions
from pullstatus.store.sqlite.fingerprints import Remembered
from pullstatus.store.sqlite.joining import Joins
from pullstatus.store.sqlite.states import State, States
from pullstatus.store.values import Chunk, Outcome


class Transaction:
    """Shared by the operations of one connection; holds nothing of its own."""

    def __init__(self, connection: apsw.Connection, states: States) -> None:
        self.connection = connection
        self.states = states
        self.conditions = Conditions(connection)
        self.remembered = Remembered(connection)
        self.joins = Joins(connection, states)

    def pack(
        self, state: State, entries: Sequence[bytes], at_ms: int, tickets: Sequence[bytes]
    ) -> None:
        """Put entries, each with its ticket, at the tail of a mailbox, in chunks."""
        for start in range(0, len(entries), chunk.COUNT_MAX):
            stop = start + chunk.COUNT_MAX
            self.put(
                state, chunk.pack(entries[start:stop]), at_ms, chunk.label(tickets[start:stop])
            )

    def put(self, state: State, packed: Chunk, at_ms: int, label: bytes) -> None:
        """Put a chunk at the tail of a mailbox."""
        key = state.key | (state.tail + 1)
        self.connection.execute(
            "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, packed.count, at_ms, *chunk.placed(key, packed), label),
        )
        self.joins.put(state, packed.count)
        state.tail += packed.count

    def leave(self, state: State, count: int, outcome: Outcome, at_ms: int, ticket: bytes) -> None:
        """Let `count` entries leave the head without a pull, on record."""
        self.connection.execute(
            "INSERT INTO journal (key, count, outcome, at_ms, address, count_max, proof, ticket)"
            " VALUES (?, ?, ?, ?, '', 0, '', ?)",
            (state.key | state.cursor + 1, count, outcome, at_ms, ticket),
        )
        state.leave(outcome, count)
