"""Commits groups and reports how each ended: what the store's thread or process does all day.

It knows no thread and no process of its own: `thread` and `process` bring it groups and carry away
its reports. Nor does it know an engine, but for its log.

After the first error that the log calls final it takes no more work: a failed sync, say, must not
be tried again.
Those whose outcome is unknown get `OutcomeUnknown`, whoever comes later `StoreUnavailable`.

What a log refuses of a group is nobody's fault but of who has asked for it, so the group is
committed again by halves, until what is refused stands alone:

    [a b c X e f g h] refused    [a b c X] refused    [a b]    [c X] refused    [c]  [X]  [e f g h]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from pullstatus import limits
from pullstatus.errors import StoreFull, StoreUnavailable
from pullstatus.store.gathering.groups import Groups
from pullstatus.store.gathering.log import Figures, Log, Undone
from pullstatus.store.gathering.operations import Answer, Operation, adds

NOTICE_S = 0.2  # how long another process's change may stay unseen while nothing comes
LOOK_LEAST_S = 0.01  # between two looks while nothing comes, however much is due

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

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        """Take over `log`, opened; closed by `close`.

        Args:
            clock: of seconds.
        """
        self._log = log
        self._clock = clock
        self._room = log.has_room()
        self._failure: BaseException | None = None
        self._reported: tuple[object, ...] = ()
        self._quiet = False  # nothing has come since the newest look

    def work(self, groups: Groups, send: Callable[[Report], None]) -> None:
        """Commit what comes until there is no more; `send` carries away what came of it."""
        while (group := groups.next(self.patience_s())) is not None:
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
        """Commit a group, as one if nothing of it is refused; its answers are durable on return."""
        self._quiet = False
        if self._failure is not None:
            refusal = StoreUnavailable("the store takes no more work")
            return self._report([refusal] * len(group), {})
        answers = self._answers(group)
        return self._report(answers, self._log.take_waiting())

    def tend(self) -> Report | None:
        """Do between two commits what nobody waits for; a report if something changed."""
        self._attempt(self._log.tend)
        self._attempt(self._look_for_room)
        return self._news()

    def watch(self) -> Report | None:
        """Learn, while nothing comes, what other processes did; a report if something changed."""
        self._quiet = True
        self._attempt(self._log.watch)
        self._attempt(self._look_for_room)
        return self._news()

    def patience_s(self) -> float:
        """How long to wait for what comes, in seconds above 0, until `watch` is to be called.

        Who comes again and again does so beside nothing that is done while nobody comes.
        """
        if not self._quiet or self._failure is not None:
            return NOTICE_S
        return min(max(self._log.due_in_s(), LOOK_LEAST_S), NOTICE_S)

    def close(self) -> None:
        """Close the log; one that failed is left as it is."""
        self._log.close(failed=self._failure is not None)

    def _answers(self, group: Sequence[Operation]) -> Answers:
        """What the log says to each of a group: to all at once, or else to parts of it."""
        untried = StoreUnavailable("the store did not get to it; try again")
        answers: list[Answer | BaseException] = [untried] * len(group)
        parts: list[Sequence[int]] = [range(len(group))]  # places; the first are tried last
        until_s = self._clock() + limits.STORE_WAIT_S  # meanwhile everybody else waits
        while parts and self._failure is None and self._clock() < until_s:
            part = parts.pop()
            found, again = self._tried([group[place] for place in part])
            for place, answer in zip(part, found, strict=bool(found)):
                answers[place] = answer
            parts += [[part[place] for place in places] for places in reversed(again)]
        return answers

    def _tried(self, group: Sequence[Operation]) -> tuple[Answers, Sequence[Sequence[int]]]:
        """What the log says to a group as one commit, and what of it may go better by itself.

        It says nothing to a group of which one is to be found that it refuses.
        """
        places = range(len(group))
        try:
            return self._log.commit(group), ()
        except Undone as undone:
            half = len(group) // 2
            return ((), (places[:half], places[half:])) if half else ([undone.error], ())
        except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            self._note(error)
            # Pulls need little room and come first: what can't be stored must not hold them up.
            pulls = [place for place in places if not adds(group[place])]
            some = isinstance(error, StoreFull) and 0 < len(pulls) < len(group)
            # Out of here, not kept in a variable: its traceback has this frame, and a cycle of the
            # two would keep what was being read open until the garbage collector comes by.
            return [error] * len(group), (pulls,) if some else ()

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
