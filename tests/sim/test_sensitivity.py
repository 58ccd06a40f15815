# ruff: noqa: ANN401 - what SQLite takes and gives can be anything
"""Bugs are planted in the store or under it; a harness that misses one proves nothing.

Each of them has been shipped by somebody. What they have in common is that every test passes in
which nothing is cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast
from unittest import mock

import apsw
import msgspec
import pytest

from pullstatus.errors import OutcomeUnknown, PullstatusError, StoreFailed, StoreUnavailable
from pullstatus.store.gathering.operations import Answer, Operation, Purge
from pullstatus.store.sqlite.log import Log
from pullstatus.store.sqlite.tables import SqliteTables
from pullstatus.store.values import Append, Followed, Pull
from tests.sim.disk import Fault
from tests.sim.faults import survive
from tests.sim.found import PromiseBroken
from tests.sim.life import Setup
from tests.sim.workload import live

CYCLES_MAX = 1000
LATE = {"does_not_fold": 326, "JoinsInTwoCommits": 317, "FollowsInTwoCommits": 120}
"""The cycle that catches what most do not: all are tried from there, and then those before it."""


class Tampered:
    """A connection as the log sees it; what is not overridden is the real one's."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._real = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, statement: str, bindings: Any = None) -> Any:
        return self._real.execute(statement, bindings)


def tampered(kind: type[Tampered]) -> Callable[[apsw.Connection], apsw.Connection]:
    return lambda connection: cast("apsw.Connection", kind(connection))


def synchronous_normal(connection: apsw.Connection) -> apsw.Connection:
    """The log is synced only when it is folded into the file."""
    connection.pragma("synchronous", 1)
    return connection


class AnswersBeforeCommit(Tampered):
    """Commits a group when the next one begins."""

    due = False
    taken = False

    def execute(self, statement: str, bindings: Any = None) -> Any:
        if statement == "COMMIT" and self.postpones():
            self.due = True
            return None
        if statement.startswith("BEGIN"):
            self.flush()
            self.taken = False
        self.taken = self.taken or statement.startswith("INSERT INTO journal")
        return self._real.execute(statement, bindings)

    def postpones(self) -> bool:
        return True

    def flush(self) -> None:
        if self.due:
            self.due = False
            self._real.execute("COMMIT")

    def wal_checkpoint(self, **arguments: Any) -> tuple[int, int]:
        self.flush()
        return self._real.wal_checkpoint(**arguments)

    def close(self, force: bool = False) -> None:
        if not force:
            self.flush()
        self._real.close(force)


class CursorAfterAnswer(AnswersBeforeCommit):
    """Only what pulls take is written late."""

    def postpones(self) -> bool:
        return self.taken


class ForgetsBatches(Tampered):
    """Ignores the keys of batches."""

    def execute(self, statement: str, bindings: Any = None) -> Any:
        if "FROM repeat_key WHERE scope" in statement:
            statement += " AND 0"
        return self._real.execute(statement, bindings)


class ForgetsRecords(Tampered):
    """Reads nothing of what records it remembered when it is started."""

    def execute(self, statement: str, bindings: Any = None) -> Any:
        found = self._real.execute(statement, bindings)
        if "FROM fingerprint_step WHERE id >" in statement:
            return ((number, at_ms, b"") for number, at_ms, _ in found)
        return found


class ForgetsIndexed(Tampered):
    """Knows of records what is in memory, and nothing else."""

    def execute(self, statement: str, bindings: Any = None) -> Any:
        if "JOIN fingerprint " in statement:
            return iter(())
        return self._real.execute(statement, bindings)


class RemembersFirst(Tampered):
    """Remembers records in a commit of its own, before that which stores them."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self.done: list[Callable[[], Any]] = []

    def execute(self, statement: str, bindings: Any = None) -> Any:
        if statement.startswith("INSERT INTO fingerprint_step"):
            self._real.execute("ROLLBACK")
            self._real.execute(statement, bindings)
            self._real.execute("BEGIN IMMEDIATE")
            for do_again in self.done:
                do_again()
            return None
        do = partial(self._real.execute, statement, bindings)
        self.done = [] if statement.startswith("BEGIN") else [*self.done, do]
        return do()

    def executemany(self, statement: str, bindings: Any) -> Any:
        do = partial(self._real.executemany, statement, list(bindings))
        self.done.append(do)
        return do()


class RemembersLater(Tampered):
    """Remembers records when the next transaction begins."""

    late = "INSERT INTO fingerprint_step"

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self.due: list[Callable[[], Any]] = []

    def execute(self, statement: str, bindings: Any = None) -> Any:
        return self.do(statement, partial(self._real.execute, statement, bindings))

    def executemany(self, statement: str, bindings: Any) -> Any:
        return self.do(statement, partial(self._real.executemany, statement, list(bindings)))

    def do(self, statement: str, do: Callable[[], Any]) -> Any:
        if statement.startswith(self.late):
            self.due.append(do)
            return None
        if statement.startswith("BEGIN"):
            self.flush()
        return do()

    def flush(self) -> None:
        while self.due:
            self.due.pop(0)()

    def close(self, force: bool = False) -> None:
        if not force:
            self.flush()
        self._real.close(force)


class IndexesLater(RemembersLater):
    """Says that the index has taken what it takes in the next transaction."""

    late = "INSERT INTO fingerprint VALUES"


class NamesLater(RemembersLater):
    """Says by which hashes names are found when the next transaction begins."""

    late = "INSERT INTO name VALUES"


class ForgetsPullKeys(Tampered):
    """Ignores the keys of pulls."""

    def execute(self, statement: str, bindings: Any = None) -> Any:
        if "journal_by_pull_key" in statement:
            statement = statement.replace("LIMIT 1", "LIMIT 0")
        return self._real.execute(statement, bindings)


PUT_READER = "INSERT INTO reader"
PAGE_IN_HAND = 4  # of the columns: its first number, or 0


class ForgetsHands(Tampered):
    """Hands pages to readers and does not remember it."""

    def execute(self, statement: str, bindings: Any = None) -> Any:
        if statement.startswith(PUT_READER) and bindings[PAGE_IN_HAND]:
            return None
        return self._real.execute(statement, bindings)


class ForgetsAcknowledgements(Tampered):
    """Gives a page again that was acknowledged with nothing behind it."""

    def execute(self, statement: str, bindings: Any = None) -> Any:
        if statement.startswith(PUT_READER) and not bindings[PAGE_IN_HAND]:
            return None
        return self._real.execute(statement, bindings)


class KeepsNoJournal(Tampered):
    """Hands out without writing down what."""

    def execute(self, statement: str, bindings: Any = None) -> Any:
        if statement.startswith("INSERT INTO journal"):
            return None
        return self._real.execute(statement, bindings)


class JoinsInTwoCommits(Tampered):
    """Removes small chunks, commits, and then stores what they are joined into."""

    def execute(self, statement: str, bindings: Any = None) -> Any:
        found = self._real.execute(statement, bindings)
        if statement.startswith("DELETE FROM chunk WHERE key >"):
            self._real.execute("COMMIT")
            self._real.execute("BEGIN IMMEDIATE")
        return found


class FollowsInTwoCommits(Tampered):
    """Keeps a segment, commits, and then moves the mark and adds to tallies."""

    def executemany(self, statement: str, bindings: Any) -> Any:
        found = self._real.executemany(statement, bindings)
        if statement.startswith("INSERT INTO segment_block"):
            self._real.execute("COMMIT")
            self._real.execute("BEGIN IMMEDIATE")
        return found


class TalliesLater(RemembersLater):
    """Adds to tallies when the next transaction begins."""

    late = "INSERT OR REPLACE INTO tally"


class RemovesBehindMarks(Log):
    """Removes what nobody has followed."""

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        if not any(isinstance(operation, Purge) for operation in group):
            return super().commit(group)
        everything = mock.patch.object(
            SqliteTables, "followed", lambda _self, state: Followed(state.tail, state.tail)
        )
        with everything:
            return super().commit(group)


class RefusalsConsume(Log):
    """A refused pull takes a page all the same."""

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        answers = super().commit(group)
        super().commit(
            [
                msgspec.structs.replace(operation, key=None, once=None)
                for operation, answer in zip(group, answers, strict=True)
                if isinstance(operation, Pull) and isinstance(answer, PullstatusError)
            ]
        )
        return answers


class OneTooMany(Log):
    """Takes one more than was asked for."""

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        return super().commit(
            [
                msgspec.structs.replace(operation, count_max=operation.count_max + 1)
                if isinstance(operation, Pull)
                else operation
                for operation in group
            ]
        )


class OneTooFew(Log):
    """Takes one less than was asked for, and there are."""

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        return super().commit(
            [
                msgspec.structs.replace(operation, count_max=max(1, operation.count_max - 1))
                if isinstance(operation, Pull)
                else operation
                for operation in group
            ]
        )


class TearsBatches(Log):
    """Stores a batch in two commits."""

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        batch = group[0] if len(group) == 1 else None
        if not isinstance(batch, Append) or batch.repeat_key or batch.fingerprints or batch.packed:
            return super().commit(group)
        half = (len(batch.entries) + 1) // 2
        for part in (batch.entries[:half], batch.entries[half:]):
            super().commit([msgspec.structs.replace(batch, entries=part)] if part else [])
        return [len(batch.entries)]


class SaysFailed(Log):
    """Calls a commit failed of which nobody knows whether it did."""

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        try:
            return super().commit(group)
        except OutcomeUnknown as error:
            raise StoreFailed("the disk failed") from error


class GoesOn(Log):
    """Tries again after the disk has failed, as if that could not do harm."""

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        try:
            return super().commit(group)
        except OutcomeUnknown as error:
            raise StoreUnavailable("try again") from error


def caught_by_cuts(setup: Setup) -> Iterator[str]:
    """What a planted bug is caught with when power is cut."""
    first = LATE.get(name_of(setup), 0)
    for cycle in (*range(first, CYCLES_MAX), *range(first)):
        try:
            live(9, cycle, setup)
        except PromiseBroken as broken:
            yield str(broken)


def caught_by_faults(setup: Setup) -> Iterator[str]:
    """What a planted bug is caught with when syncs fail."""
    faults = (
        Fault("sync", nth, forever, forgets)
        for nth in range(1, 40)
        for forever in (False, True)
        for forgets in (False, True)
    )
    for fault, seed in itertools.product(faults, "abc"):
        try:
            survive(replace(fault), seed, setup)
        except PromiseBroken as broken:
            yield str(broken)


@pytest.mark.parametrize(
    ("setup", "how"),
    [
        (Setup(connect=synchronous_normal), "lost: "),
        (Setup(ignores_sync=True), "lost: "),
        (Setup(folds=False), "duplicated: "),
        (Setup(connect=tampered(AnswersBeforeCommit)), "lost: "),
        (Setup(connect=tampered(CursorAfterAnswer)), "duplicated: "),
        (Setup(connect=tampered(ForgetsBatches)), "duplicated: "),
        (Setup(connect=tampered(ForgetsRecords)), "duplicated: "),
        (Setup(connect=tampered(ForgetsIndexed)), "duplicated: "),
        (Setup(connect=tampered(RemembersFirst)), "lost: "),
        (Setup(connect=tampered(RemembersLater)), "duplicated: "),
        (Setup(connect=tampered(IndexesLater)), "duplicated: "),
        (Setup(connect=tampered(ForgetsPullKeys)), "two different pages"),
        (Setup(connect=tampered(ForgetsHands)), "was given to a reader that has"),
        (Setup(connect=tampered(ForgetsAcknowledgements)), "came again and was acknowledged"),
        (Setup(connect=tampered(KeepsNoJournal)), "journals end at"),
        (Setup(connect=tampered(JoinsInTwoCommits)), "chunks of "),
        (Setup(connect=tampered(FollowsInTwoCommits)), "segments of "),
        (Setup(connect=tampered(TalliesLater)), "are counted of"),
        (Setup(connect=tampered(NamesLater)), "names are not found"),
        (Setup(make_log=RemovesBehindMarks), "are counted of"),
        (Setup(make_log=RefusalsConsume), "burned: "),
        (Setup(make_log=OneTooMany), "oversize: "),
        (Setup(make_log=OneTooFew), "false_short: "),
        (Setup(make_log=TearsBatches), "came back in part"),
    ],
    ids=lambda value: name_of(value) if isinstance(value, Setup) else "",
)
def test_power_cuts_catch(setup: Setup, how: str) -> None:
    assert any(how in text for text in caught_by_cuts(setup))


@pytest.mark.parametrize(
    ("setup", "how"),
    [
        (Setup(folds=False), "lost: "),
        (Setup(make_log=SaysFailed), "what was refused happened"),
        (Setup(make_log=GoesOn), "what was refused happened"),
    ],
    ids=lambda value: name_of(value) if isinstance(value, Setup) else "",
)
def test_failed_syncs_catch(setup: Setup, how: str) -> None:
    assert any(how in text for text in caught_by_faults(setup))


def name_of(setup: Setup) -> str:
    """The planted bug's name."""
    if setup.ignores_sync:
        return "ignores_sync"
    if not setup.folds:
        return "does_not_fold"
    planted = setup.make_log if setup.make_log is not Log else setup.connect
    cells = getattr(planted, "__closure__", None) or ()
    return next((cell.cell_contents.__name__ for cell in cells), planted.__name__)
