"""The way of operations to the committer and of its answers back, seen from the event loop.

While a commit waits for the disk, operations gather; the next commit takes them all. So the busier
it gets the more of them share a sync, and a lone one waits for nothing.

The committer works somewhere else, at the far end of a *lane*: in a thread of this process, or in
a process of its own. After its first failure nothing more is taken, and the owner is told, who ends
the process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pullstatus.errors import StoreUnavailable
from pullstatus.store.sqlite.committer import Word
from pullstatus.store.sqlite.operations import Operation

GATHERED_MAX = 8  # operations that go at once: the next ones are read while these are committed
PENDING_MAX = 16_384  # operations that may wait for the committer before more are refused


class Lane(Protocol):
    """Carries operations to a committer and its words back, each in order."""

    def start(self, told: Callable[[Word], None]) -> None:
        """Begin; from now on `told` is called on this event loop with each word."""
        ...

    def send(self, operations: Sequence[Operation]) -> None:
        """Send operations; a word will answer them."""
        ...

    async def close(self) -> None:
        """Have what was sent committed, the log closed, and the last word told."""
        ...


class Writer:
    """Takes operations from one event loop; each is answered once it is durable.

    Attributes:
        waiting: entries that wait in each mailbox, by `states.slot`, after the newest commit.
        word: the newest one; its figures are those of the engine.
    """

    def __init__(
        self, lane: Lane, first: Word, on_failure: Callable[[BaseException], None] | None
    ) -> None:
        """Begin to use `lane`.

        Args:
            lane: this writer's alone from now on; closed with it.
            first: the committer's first word.
            on_failure: called once, with the error after which the committer takes no more work.
        """
        self._lane = lane
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._gathered: list[Operation] = []
        self._unanswered: deque[asyncio.Future[Any]] = deque()
        self._closed = False
        self._failure: BaseException | None = None
        self.waiting: dict[int, int] = {}
        self._told(first)
        lane.start(self._told)

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Queue an operation; the future gets its answer once that is durable.

        Raises:
            StoreUnavailable: closed, failed, or too much waits already; nothing happened.
        """
        self.check()
        if len(self._unanswered) >= PENDING_MAX:
            raise StoreUnavailable("too many requests wait for the store; try again")
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._gathered:
            # What this turn of the event loop brings goes together, if it is not much.
            self._loop.call_soon(self._hand_over)
        self._gathered.append(operation)
        self._unanswered.append(future)
        if len(self._gathered) == GATHERED_MAX:
            self._hand_over()
        return future

    def check(self) -> None:
        """Refuse what does not even need the committer, once it has failed or is closed."""
        if self._failure is not None or self._closed:
            raise StoreUnavailable("the store takes no more work; restart the server")

    async def close(self) -> None:
        """Have what waits committed, then close the lane."""
        if self._closed:
            return
        self._closed = True
        self._hand_over()
        await self._lane.close()

    def _hand_over(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._lane.send(gathered)

    def _told(self, word: Word) -> None:
        self.word = word
        self.waiting.update(word.waiting)
        if word.failure is not None and self._failure is None:
            self._failure = word.failure
            if self._on_failure is not None:
                self._on_failure(word.failure)
        for answer in word.answers:
            future = self._unanswered.popleft()
            if future.cancelled():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
