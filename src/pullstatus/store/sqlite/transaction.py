"""What the open transaction of a group works with: the connection, the mailboxes, the journal."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from pullstatus import limits
from pullstatus.store.sqlite import chunk
from pullstatus.store.sqlite.conditions import Conditions
from pullstatus.store.sqlite.fingerprints import Remembered
from pullstatus.store.sqlite.states import State, States
from pullstatus.store.values import Outcome

CHUNK_COUNT_MAX = limits.PULL_COUNT_MAX  # a full page is then one read


class Transaction:
    """Shared by the operations of one connection; holds nothing of its own."""

    def __init__(self, connection: apsw.Connection, states: States) -> None:
        self.connection = connection
        self.states = states
        self.conditions = Conditions(connection)
        self.remembered = Remembered(connection)

    def pack(
        self, state: State, entries: Sequence[bytes], at_ms: int, tickets: Sequence[bytes]
    ) -> None:
        """Put entries, each with its ticket, at the tail of a mailbox, in chunks."""
        for start in range(0, len(entries), CHUNK_COUNT_MAX):
            part = entries[start : start + CHUNK_COUNT_MAX]
            key = state.key | (state.tail + 1)
            checksum, bounds, body = chunk.pack(key, part)
            self.connection.execute(
                "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    *(key, len(part), at_ms, checksum, bounds, body),
                    chunk.label(tickets[start : start + CHUNK_COUNT_MAX]),
                ),
            )
            state.tail += len(part)

    def leave(self, state: State, count: int, outcome: Outcome, at_ms: int, ticket: bytes) -> None:
        """Let `count` entries leave the head without a pull, on record."""
        self.connection.execute(
            "INSERT INTO journal (key, count, outcome, at_ms, address, count_max, proof, ticket)"
            " VALUES (?, ?, ?, ?, '', 0, '', ?)",
            (state.key | state.cursor + 1, count, outcome, at_ms, ticket),
        )
        state.leave(outcome, count)
