"""The way of operations to the committer and of its answers back, seen from the event loop.

While a commit waits for the disk, operations gather; the next commit takes them all. So the busier
it gets the more of them share a sync, and a lone one waits for nothing. Those beyond a `Window`
wait before it.

The committer works somewhere else, at the far end of a *channel*: in a thread of this process, or
in a process of its own. After its first failure nothing more is taken, and the owner is told, who
ends the process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, overload

from pullstatus.durations import Durations
from pullstatus.errors import OutcomeUnknown, StoreCorrupt, StoreUnavailable
from pullstatus.store.gathering.committer import Report
from pullstatus.store.gathering.operations import (
    Changes,
    Counted,
    Derived,
    Enter,
    Erase,
    ErasedStep,
    Operation,
    PackedPage,
    Removed,
    Replace,
    Upkeep,
    owner,
    packed,
    weight,
)
from pullstatus.store.values import Append, Page, Park, Pull, PutAside, Watching
from pullstatus.store.window import Gone, UnderWay, Waiting, Window

GATHERED_MAX = 8  # operations that go at once: the next ones are read while these are committed


class Channel(Protocol):
    """Carries operations to a committer and its reports back, each in order."""

    def start(self, on_report: Callable[[Report], None]) -> None:
        """Begin: call `on_report` at once with how everything stands, and then with each report.

        It is always called on the event loop that this was called on.
        """
        ...

    def send(self, operations: Sequence[Operation]) -> None:
        """Send operations; a report will answer them."""
        ...

    async def close(self) -> None:
        """Have what was sent committed, the log closed, and the last report given."""
        ...


class Submits(Protocol):
    """What takes operations: a writer, or several of them."""

    @property
    def report(self) -> Report:
        """How the committers stand, as of their newest reports."""
        ...

    @overload
    def submit(self, operation: Park, gone: Gone | None = None) -> asyncio.Future[PutAside]: ...
    @overload
    def submit(self, operation: Pull, gone: Gone | None = None) -> asyncio.Future[Page]: ...
    @overload
    def submit(
        self, operation: Changes | Derived | Enter, gone: Gone | None = None
    ) -> asyncio.Future[bool]: ...
    @overload
    def submit(self, operation: Erase, gone: Gone | None = None) -> asyncio.Future[ErasedStep]: ...
    @overload
    def submit(self, operation: Upkeep, gone: Gone | None = None) -> asyncio.Future[Removed]: ...
    @overload
    def submit(
        self, operation: Counted | Replace, gone: Gone | None = None
    ) -> asyncio.Future[int]: ...
    def submit(self, operation: Operation, gone: Gone | None = None) -> asyncio.Future[Any]:
        """See `Writer.submit`."""
        ...

    def under_way(self) -> UnderWay:
        """See `Store.under_way`."""
        ...


class Writer:
    """Takes operations from one event loop; each is answered once it is durable.

    Attributes:
        waiting: entries that wait in each mailbox that was used, by the engine's number of it,
            after the newest commit.
        report: the newest one.
        commits: how long each took, as far as a report told of it.
    """

    def __init__(
        self,
        channel: Channel,
        on_failure: Callable[[BaseException], None] | None,
        *,
        sharers: int = 1,
    ) -> None:
        """Begin to use `channel`.

        Args:
            channel: this writer's alone from now on; closed with it.
            on_failure: called once, with the error after which the committer takes no more work.
            sharers: how many writers there are at the committer.
        """
        self._channel = channel
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._window: Window[Operation] = Window(
            self._gather, owner=owner, weight=weight, sharers=sharers
        )
        self._gathered: list[Operation] = []
        self._unanswered: deque[Waiting[Operation]] = deque()
        self._closed = False
        self._failure: BaseException | None = None
        self.waiting: dict[int, int] = {}
        self._changed: set[int] = set()
        self.report: Report
        self.commits = Durations()
        self._commit_s = 0.0  # in all, as of the newest report
        self._watched: dict[int, Callable[[], None]] = {}
        channel.start(self._on_report)

    @overload
    def submit(self, operation: Park, gone: Gone | None = None) -> asyncio.Future[PutAside]: ...
    @overload
    def submit(self, operation: Pull, gone: Gone | None = None) -> asyncio.Future[Page]: ...
    @overload
    def submit(
        self, operation: Changes | Derived | Enter, gone: Gone | None = None
    ) -> asyncio.Future[bool]: ...
    @overload
    def submit(self, operation: Erase, gone: Gone | None = None) -> asyncio.Future[ErasedStep]: ...
    @overload
    def submit(self, operation: Upkeep, gone: Gone | None = None) -> asyncio.Future[Removed]: ...
    @overload
    def submit(
        self, operation: Counted | Replace, gone: Gone | None = None
    ) -> asyncio.Future[int]: ...
    def submit(self, operation: Operation, gone: Gone | None = None) -> asyncio.Future[Any]:
        """Queue an operation; the future gets its answer once that is durable.

        It gets StoreUnavailable if it was never handed over: it waited too long, or `gone` said so.

        Raises:
            StoreUnavailable: closed, failed, or too much waits already; nothing happened.
        """
        self.check()
        if isinstance(operation, Append):
            operation = packed(operation)
        return self._window.submit(operation, gone)

    def under_way(self) -> UnderWay:
        """See `Store.under_way`."""
        return self._window.under_way()

    def watch(self, place: int, on_arrival: Callable[[], None]) -> Watching:
        """Have `on_arrival` called with each report that tells of entries that wait in a mailbox.

        Args:
            place: the engine's number of the mailbox, which nobody else watches.
            on_arrival: called on the event loop; must not raise.

        Returns:
            what ends that; see `Store.watch`.
        """
        assert place not in self._watched
        self._watched[place] = on_arrival

        def watching(since_s: float | None = None) -> None:
            if since_s is None:
                del self._watched[place]

        return watching

    def take_changed(self) -> set[int]:
        """The mailboxes, by the engine's number, that were told of since this was called last."""
        changed, self._changed = self._changed, set()
        return changed

    @property
    def works(self) -> bool:
        """Whether it takes operations: it has not failed, nor is it closed."""
        return self._failure is None and not self._closed

    def check(self) -> None:
        """Refuse what does not even need the committer, once it does not work."""
        if not self.works:
            raise StoreUnavailable("the store takes no more work; restart the server")

    async def close(self) -> None:
        """Have what waits committed, then close the channel."""
        if self._closed:
            return
        self._closed = True
        self._window.flush()
        self._hand_over()
        await self._channel.close()

    def _gather(self, waiting: Waiting[Operation]) -> None:
        if not self._gathered:
            # What this turn of the event loop brings goes together, if it is not much.
            self._loop.call_soon(self._hand_over)
        self._gathered.append(waiting.operation)
        self._unanswered.append(waiting)
        if len(self._gathered) == GATHERED_MAX:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._channel.send(gathered)

    def _on_report(self, report: Report) -> None:
        self.report = report
        commit_s = report.figures.commit_s
        if report.took is not None:
            self.commits.sum_s, self.commits.counts = report.took
        elif commit_s != self._commit_s:
            self.commits.add(commit_s - self._commit_s)
            self._commit_s = commit_s
        if report.waiting:
            self.waiting.update(report.waiting)
            self._changed.update(report.waiting)
        if report.failure is not None and self._failure is None:
            self._failure = report.failure
            self._window.refuse("the store takes no more work; restart the server")
            if self._on_failure is not None:
                self._on_failure(report.failure)
        for answer in report.answers:
            waiting = self._unanswered.popleft()
            self._window.answered(waiting)
            future = waiting.future
            if future.cancelled():
                continue
            if isinstance(answer, StopIteration):  # a future refuses it, and others come behind
                future.set_exception(RuntimeError(f"the store raised {answer!r}"))
            elif isinstance(answer, BaseException):
                future.set_exception(answer)
            elif isinstance(answer, PackedPage):
                _open(answer, future)
            else:
                future.set_result(answer)
        self._window.refill()
        if self._watched:
            for place in report.waiting.keys() & self._watched.keys():
                if report.waiting[place]:
                    self._watched[place]()


def _open(page: PackedPage, future: asyncio.Future[Page]) -> None:
    """Answer with a page that was taken.

    Its chunks were proven to be what lies in the store. If somebody has put there what can't be
    opened, that is learned only here, when it has left its mailbox.
    """
    try:
        future.set_result(page.opened())
    except StoreCorrupt:
        future.set_exception(
            OutcomeUnknown(
                "a page was taken that can't be read: the store is damaged; run `pullstatus audit`"
            )
        )
