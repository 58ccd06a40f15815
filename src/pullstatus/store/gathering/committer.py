"""Commits groups and reports how each ended: what the store's thread or process does all day.

It knows no thread and no process of its own: `thread` and `process` bring it groups and carry away
its reports. Nor does it know an engine, but for its log.

After the first error that the log calls final it takes no more work: a failed sync, say, must not
be tried again.
Those whose outcome is unknown get `OutcomeUnknown`, whoever comes later `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pullstatus.errors import StoreFull, StoreUnavailable
from pullstatus.store.gathering.groups import Groups
from pullstatus.store.gathering.log import Figures, Log
from pullstatus.store.gathering.operations import Answer, Operation, adds

Answers = Sequence[Answer | BaseException]


class Report(msgspec.Struct, frozen=True, gc=False):
    """What came of a commit, or what the committer noticed.

    Attributes:
        answers: to the oldest operations that have none yet, in order.
        waiting: see `Log.take_waiting`.
        as_of: see `Log.as_of`.
        room: whether there is room for more entries.
        figures: what the log has done so far.
        failure: the error after which it takes no more work.
        took: how long commits took so far, in seconds together and as the counts of `Durations`;
            None: whoever reads all reports knows by `figures`.
    """

    answers: Answers
    waiting: dict[int, int]
    as_of: bytes | None
    room: bool
    figures: Figures
    failure: BaseException | None
    took: tuple[float, list[int]] | None = None


class Committer:
    """One log, and whether it still works."""

    def __init__(self, log: Log) -> None:
        """Take over `log`, opened; closed by `close`."""
        self._log = log
        self._room = log.has_room()
        self._failure: BaseException | None = None
        self._reported: tuple[object, ...] = ()

    def work(self, groups: Groups, send: Callable[[Report], None]) -> None:
        """Commit what comes until there is no more; `send` carries away what came of it."""
        while (group := groups.next()) is not None:
            if group:
                send(self.commit(group))
                report = self.tend()
            else:
                report = self.watch()
            if report is not None:
                send(report)

    def opening(self) -> Report:
        """How everything stands before the first commit."""
        return self._report([], self._log.take_waiting())

    def standing(self) -> Report:
        """How everything stands, without what waits."""
        return self._report([], {})

    def commit(self, group: Sequence[Operation]) -> Report:
        """Commit a group as one; its answers are durable when this returns."""
        if self._failure is not None:
            refusal = StoreUnavailable("the store takes no more work")
            return self._report([refusal] * len(group), {})
        answers = self._answers(group)
        if answers and isinstance(answers[0], StoreFull):
            answers = self._pulls_at_least(group, answers)
        return self._report(answers, self._log.take_waiting())

    def tend(self) -> Report | None:
        """Do between two commits what nobody waits for; a report if something changed."""
        self._attempt(self._log.tend)
        self._attempt(self._look_for_room)
        return self._news()

    def watch(self) -> Report | None:
        """Learn, while nothing comes, what other processes did; a report if something changed."""
        self._attempt(self._log.watch)
        self._attempt(self._look_for_room)
        return self._news()

    def close(self) -> None:
        """Close the log; one that failed is left as it is."""
        self._log.close(failed=self._failure is not None)

    def _pulls_at_least(self, group: Sequence[Operation], answers: Answers) -> Answers:
        """Pulls need little room and come first: what can't be stored must not hold them up."""
        places = [n for n, operation in enumerate(group) if not adds(operation)]
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
            return self._log.commit(group)
        except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            self._note(error)
            # Out of here, not kept in a variable: its traceback has this frame, and a cycle of the
            # two would keep what was being read open until the garbage collector comes by.
            return [error] * len(group)

    def _attempt(self, work: Callable[[], None]) -> None:
        """Do what nobody waits for; its failure counts like any other."""
        if self._failure is None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - it must live on, to refuse
                self._note(error)

    def _look_for_room(self) -> None:
        self._room = self._log.has_room()

    def _note(self, error: BaseException) -> None:
        """Remember an error after which nothing may be written."""
        if self._log.is_final(error):
            self._failure = error

    def _news(self) -> Report | None:
        waiting = self._log.take_waiting()
        if not waiting and self._reported == (self._log.as_of(), self._room, self._failure):
            return None
        return self._report([], waiting)

    def _report(self, answers: Answers, waiting: dict[int, int]) -> Report:
        self._reported = as_of, room, failure = self._log.as_of(), self._room, self._failure
        return Report(answers, waiting, as_of, room, self._log.figures(), failure)
