"""Bugs to plant in the PostgreSQL engine: each of them has been one of somebody's.

A function changes the engine in this process, whose commits must be in a thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from pullstatus.store.postgresql import marks, refusals, session, statements
from pullstatus.store.postgresql.log import Log
from pullstatus.store.postgresql.session import Session
from pullstatus.store.postgresql.tables import PostgresTables
from pullstatus.store.postgresql.writes import Due


def blind() -> None:
    """A commit without an answer is done again unasked."""

    def happened(_session: Session, _lane: int, _number: int, *, server: bool = False) -> bool:
        return False

    marks.happened = happened  # type: ignore[assignment]


def trusting() -> None:
    """A commit without an answer is taken to have happened."""

    def happened(_session: Session, _lane: int, _number: int, *, server: bool = False) -> bool:
        return True

    marks.happened = happened  # type: ignore[assignment]


def forgetful() -> None:
    """Behind a commit of which nothing is known, nothing of those before is known either."""
    real = Log._begin_lane

    def begin_lane(self: Log) -> None:
        real(self)
        self._kept = None

    Log._begin_lane = begin_lane  # type: ignore[method-assign]


def deaf() -> None:
    """What the server warns of is not heard: that it has cancelled a wait for the standby."""
    session.hear = lambda _session, _diagnostic: None  # type: ignore[assignment]


def local() -> None:
    """Nobody waits for the standby, and nobody sees to it that somebody does."""
    real = refusals.check

    def check(
        row: Sequence[Any] | None, settings: Mapping[str, str], known: refusals.Known
    ) -> refusals.Found:
        assert row is not None
        lenient = [*row]
        lenient[COMMIT] = "on"
        return real(lenient, settings, known)

    refusals.check = check
    session.SETTINGS = dict(session.SETTINGS, synchronous_commit="local")  # type: ignore[misc]


COMMIT = 6  # the place of synchronous_commit in what a server answers


def lock_and_read_in_one() -> None:
    """A snapshot from before the wait for the lock: what the last one wrote is not seen."""
    lock = statements.LOCK
    statements.LOCK = lock.replace(" FOR UPDATE", "")  # type: ignore[misc]
    statements.STATE = statements.STATE.replace(  # type: ignore[misc]
        "unnest(%s::bigint[]) w(box)",
        f"({lock}) w",
    )


def no_lock() -> None:
    """Mailboxes are not locked."""
    statements.LOCK = statements.LOCK.replace(" FOR UPDATE", "")  # type: ignore[misc]


def hot_row() -> None:
    """How a mailbox stands is in a row that each group updates."""
    real = PostgresTables.take_writes

    def take_writes(self: PostgresTables) -> list[Due]:
        for box in sorted(self.changed):
            self._writes.other("UPDATE pullstatus.mailbox SET box = box WHERE box = %s", box)
        return real(self)

    PostgresTables.take_writes = take_writes  # type: ignore[method-assign]


def from_the_first_on() -> None:
    """Whoever looks for the oldest looks at all that was removed, too."""

    class Nothing(Counter[str]):
        def __setitem__(self, kind: str, through: int) -> None:
            pass

    real = Session.__init__

    def begin(self: Session, connection: psycopg.Connection[TupleRow]) -> None:
        real(self, connection)
        self.forgotten = Nothing()

    Session.__init__ = begin  # type: ignore[method-assign]
