"""The one thread that writes: it takes what has gathered and commits it as one group.

While a commit waits for the disk, operations gather; the next commit takes them all. So the busier
it gets the more of them share a sync, and a lone one waits for nothing.

After the first failure of the disk it takes no more work (a failed sync must not be tried again),
gives those whose outcome is unknown `OutcomeUnknown`, and tells its owner, who ends the process.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pullstatus.errors import OutcomeUnknown, StoreCorrupt, StoreFailed, StoreFull, StoreUnavailable
from pullstatus.store.sqlite.log import Log
from pullstatus.store.sqlite.operations import Answer, Operation
from pullstatus.store.values import Append

GROUP_MAX = 1024  # operations in one commit: bounds its memory and the wait of its first
NOTICE_S = 0.2  # how long another process's change may stay unseen by an idle writer
PENDING_MAX = 16_384  # operations that may wait for the writer before it refuses more

_Waiting = tuple[Operation, "asyncio.Future[Any]"]


class Writer:
    """Takes operations from one event loop, commits them in groups on a thread of its own."""

    def __init__(
        self,
        log: Log,
        on_failure: Callable[[BaseException], None] | None,
        has_room: Callable[[], bool],
    ) -> None:
        """Start the thread; `log` is its alone from now on, but for `states.waiting`.

        Args:
            log: opened; closed by the thread when it ends.
            on_failure: called once, on the thread, with the error after which it stops working.
            has_room: whether the disk has room for more entries; asked after every commit.
        """
        self._log = log
        self._on_failure = on_failure
        self._has_room = has_room
        self.room = has_room()
        self._loop = asyncio.get_running_loop()
        self._gathered: list[_Waiting] = []
        self._pending = 0
        self._queue: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._closed = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Queue an operation; the future gets its answer once that is durable.

        Raises:
            StoreUnavailable: closed, failed, or too much waits already; nothing happened.
        """
        self.check()
        if self._pending >= PENDING_MAX:
            raise StoreUnavailable("too many requests wait for the store; try again")
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._gathered:
            # All that this turn of the event loop brings goes to the thread together.
            self._loop.call_soon(self._hand_over)
        self._gathered.append((operation, future))
        self._pending += 1
        return future

    def check(self) -> None:
        """Refuse what does not even need the writer, once it has failed or is closed."""
        if self._failure is not None or self._closed:
            raise StoreUnavailable("the store takes no more work; restart the server")

    async def close(self) -> None:
        """Commit what waits, then end the thread and close the log."""
        if self._closed:
            return
        self._closed = True
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _hand_over(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    # -- on the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (group := self._next_group()) is not None:
                if group:
                    self._commit(group)
        finally:
            self._log.close(fold=self._failure is None)

    def _next_group(self) -> list[_Waiting] | None:
        """What has gathered; None at the end. While nothing comes, watches for other processes."""
        try:
            first = self._queue.get(timeout=NOTICE_S)
        except queue.Empty:
            self._attempt(self._log.notice_others)
            self.room = self._has_room()
            return []
        if first is None:
            return None
        group = list(first)
        while len(group) < GROUP_MAX:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)
                break
            group += more
        return group

    def _commit(self, group: list[_Waiting]) -> None:
        if self._failure is not None:
            self._settle(group, [StoreUnavailable("the store takes no more work")] * len(group))
            return
        answers = self._answers(group)
        pulls = [waiting for waiting in group if not isinstance(waiting[0], Append)]
        if isinstance(answers[0], StoreFull) and 0 < len(pulls) < len(group):
            # Pulls need little room and come first: what can't be stored must not hold them up.
            appends = [waiting for waiting in group if isinstance(waiting[0], Append)]
            self._settle(appends, answers[:1] * len(appends))
            group, answers = pulls, self._answers(pulls)
        self._settle(group, answers)
        self._attempt(self._log.checkpoint)
        self.room = self._has_room()

    def _answers(self, group: list[_Waiting]) -> list[Answer | BaseException]:
        """What the log says to each of a group, be it one error for all."""
        try:
            return list(self._log.commit([operation for operation, _ in group]))
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
            except BaseException as error:  # noqa: BLE001 - the thread must live to refuse
                self._note(error)

    def _note(self, error: BaseException) -> None:
        """Remember an error after which nothing may be written, and tell the owner."""
        if isinstance(error, OutcomeUnknown | StoreFailed | StoreCorrupt):
            self._failure = error
            if self._on_failure is not None:
                self._on_failure(error)

    def _settle(self, group: list[_Waiting], answers: Sequence[Answer | BaseException]) -> None:
        self._loop.call_soon_threadsafe(self._resolve, group, answers)

    # -- on the event loop ---------------------------------------------------------------------

    def _resolve(self, group: list[_Waiting], answers: Sequence[Answer | BaseException]) -> None:
        self._pending -= len(group)
        for (_, future), answer in zip(group, answers, strict=True):
            if future.cancelled():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
