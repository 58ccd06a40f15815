"""Commits groups and reports how each ended: what the store's thread or process does all day.

It knows no thread and no process of its own: `thread` and `process` bring it groups and carry away
its reports.

After the first failure of the disk it takes no more work: a failed sync must not be tried again.
Those whose outcome is unknown get `OutcomeUnknown`, whoever comes later `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pullstatus.errors import (
    OutcomeUnknown,
    StoreCorrupt,
    StoreFailed,
    StoreFull,
    StoreMoved,
    StoreUnavailable,
)
from pullstatus.store.sqlite.log import CHECKPOINT_PAGES, Log
from pullstatus.store.sqlite.names import Names
from pullstatus.store.sqlite.operations import Answer, Operation
from pullstatus.store.values import Append

NOTICE_S = 0.2  # how long another process's change may stay unseen while nothing comes
GROUP_MAX = 1024  # operations in one commit: bounds its memory and the wait of its first

Answers = Sequence[Answer | BaseException]


class Report(msgspec.Struct, frozen=True, gc=False):
    """What came of a commit, or what the committer noticed.

    Attributes:
        answers: to the oldest operations that have none yet, in order.
        waiting: mailboxes, by `states.slot`, with how many entries wait now, where that changed.
        room: whether the disk has room for more entries.
        commits, commit_s, operations: figures since the log was opened.
        failure: the error after which it takes no more work.
    """

    answers: Answers
    waiting: dict[int, int]
    room: bool
    commits: int
    commit_s: float
    operations: int
    failure: BaseException | None


class Committer:
    """One log, and whether it still works."""

    def __init__(self, log: Log, names: Names, has_room: Callable[[], bool]) -> None:
        """Take over `log`.

        Args:
            log: opened; closed by `close`.
            names: of its files; asked after each commit, before its answers go out.
            has_room: whether the disk has room for more entries; asked between commits.
        """
        self._log = log
        self._names = names
        self._has_room = has_room
        self._room = has_room()
        self._failure: BaseException | None = None
        self._reported: tuple[bool, BaseException | None] | None = None

    def opening(self) -> Report:
        """How everything stands before the first commit, all mailboxes included."""
        return self._report([])

    def commit(self, group: Sequence[Operation]) -> Report:
        """Commit a group as one; its answers are durable when this returns."""
        if self._failure is not None:
            return self._report([StoreUnavailable("the store takes no more work")] * len(group))
        answers = self._answers(group)
        if answers and isinstance(answers[0], StoreFull):
            answers = self._pulls_at_least(group, answers)
        return self._report(answers)

    def tend(self) -> Report | None:
        """Do between two commits what nobody waits for; a report if something changed."""
        self._attempt(self._fold)
        self._attempt(self._look_for_room)
        return self._news()

    def watch(self) -> Report | None:
        """Learn, while nothing comes, what other processes did; a report if something changed."""
        self._attempt(self._log.notice_others)
        self._attempt(self._check_names)
        self._attempt(self._look_for_room)
        return self._news()

    def close(self) -> None:
        """Close the log; one that failed is left as it is."""
        self._attempt(self._check_names)  # folding at the end removes the log by its name
        self._log.close(fold=self._failure is None)

    def _pulls_at_least(self, group: Sequence[Operation], answers: Answers) -> Answers:
        """Pulls need little room and come first: what can't be stored must not hold them up."""
        places = [n for n, operation in enumerate(group) if not isinstance(operation, Append)]
        if not 0 < len(places) < len(group):
            return answers
        found = list(answers)
        for place, answer in zip(
            places, self._answers([group[place] for place in places]), strict=True
        ):
            found[place] = answer
        return found

    def _answers(self, group: Sequence[Operation]) -> Answers:
        """What the log says to each of a group, be it one error for all."""
        try:
            answers = self._log.commit(group)
            self._check_names()
            return answers
        except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            self._note(error)
            # Out of here, not kept in a variable: its traceback has this frame, and a cycle of the
            # two would keep what was being read open until the garbage collector comes by.
            return [error] * len(group)

    def _attempt(self, work: Callable[[], None]) -> None:
        """Do what nobody waits for; its failure of the disk counts like any other."""
        if self._failure is None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - it must live on, to refuse
                self._note(error)

    def _check_names(self) -> None:
        try:
            unchanged = self._names.check()
        except StoreMoved:
            # The disk works. Wherever the file is now, it then holds all that was answered.
            self._log.fold_for_good()
            raise
        if not unchanged:  # somebody else has folded the log; or else has no business there
            self._log.check_pair()
            self._names.written()

    def _fold(self) -> None:
        # A log that begins anew takes no more of a disk that is nearly full.
        try:
            folded = self._log.checkpoint(CHECKPOINT_PAGES if self._room else 1)
        except BaseException:
            self._names.written()  # a part of it may have been
            raise
        if folded:
            self._names.written()

    def _look_for_room(self) -> None:
        self._room = self._has_room()

    def _note(self, error: BaseException) -> None:
        """Remember an error after which nothing may be written."""
        if isinstance(error, OutcomeUnknown | StoreFailed | StoreCorrupt):
            self._failure = error

    def _news(self) -> Report | None:
        if self._reported == (self._room, self._failure) and not self._log.states.changed:
            return None
        return self._report([])

    def _report(self, answers: Answers) -> Report:
        self._reported = (self._room, self._failure)
        log = self._log
        return Report(
            answers,
            log.states.take_changed(),
            self._room,
            log.commits,
            log.commit_s,
            log.operations,
            self._failure,
        )
