"""What a store has in hand at a time, and what still waits before it and can be dropped.

    submit -> [ waits, owners in turn ] -> [ window: at the store ] -> answered
                 | who asked has gone: dropped
                 | waited `limits.STORE_WAIT_S`: refused

Of what was handed over nobody knows how it ends until the store says so, and a store may stall. So
little is handed over: enough for the next commit while one is under way. The rest waits where it
can be refused with the certainty that nothing happened, and where one owner's many do not stand
before another's few. For any engine; the order of what one owner submits is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import msgspec

from pullstatus import limits
from pullstatus.errors import CallerGone, StoreUnavailable
from pullstatus.turns import Turns

LATE = "the store does not answer in time"
LOOK_S = 1.0  # how long it may take until who has gone, or has waited too long, leaves the queue

Gone = Callable[[float], bool]
"""Tells whether whoever wants an operation done has gone. It has waited so many seconds for it: one
who may only say no more counts as gone sooner or later, and is told that nothing happened."""

Op = TypeVar("Op")


class UnderWay(msgspec.Struct, frozen=True):
    """What a store object has to do.

    Attributes:
        queued: operations that wait and can still be dropped.
        handed_over: operations at the store.
        bytes: of both, about.
        oldest_s: for how long the oldest of them waits, or another question that the store has not
            answered; 0 when there is none.
    """

    queued: int = 0
    handed_over: int = 0
    bytes: int = 0
    oldest_s: float = 0.0


class Waiting(Generic[Op]):
    """An operation and who waits for its answer.

    Attributes:
        future: gets the answer.
        since: the loop's time of its coming.
    """

    __slots__ = ("future", "gone", "operation", "since", "weight")

    def __init__(
        self, operation: Op, future: asyncio.Future[Any], gone: Gone | None, since: float, size: int
    ) -> None:
        """For `Window.submit`."""
        self.operation = operation
        self.future = future
        self.gone = gone
        self.since = since
        self.weight = size

    def is_dropped(self, now: float) -> bool:
        """Whether nobody wants it any more; who waits is told."""
        if self.future.done():
            return True
        if self.gone is not None and self.gone(now - self.since):
            self.future.set_exception(CallerGone(LATE))
            return True
        return False


class Window(Generic[Op]):
    """The operations of one event loop on their way to a store and at it."""

    def __init__(
        self,
        send: Callable[[Waiting[Op]], None],
        *,
        owner: Callable[[Op], Hashable],
        weight: Callable[[Op], int],
        sharers: int = 1,
    ) -> None:
        """Nothing waits.

        Args:
            send: hands one over to the store; `answered` is to be called once it has ended.
            owner: whose an operation is, for its turn.
            weight: about how many bytes it brings, or its answer does.
            sharers: how many windows there are before the store, which share what all may have.
        """
        self._sharers = sharers
        self._loop = asyncio.get_running_loop()
        self._owner, self._weight = owner, weight
        self._send = send
        self._queue: Turns[Waiting[Op]] = Turns()
        self._queued_bytes = 0
        self._at_store: dict[Waiting[Op], None] = {}
        self._at_store_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, operation: Op, gone: Gone | None = None) -> asyncio.Future[Any]:
        """Hand it over, at once or in its turn; the future gets its answer.

        Raises:
            StoreUnavailable: too much waits already; nothing happened.
        """
        if len(self._at_store) + len(self._queue) >= limits.STORE_PENDING_MAX // self._sharers:
            raise StoreUnavailable("too many requests wait for the store; try again")
        waiting: Waiting[Op] = Waiting(
            operation,
            self._loop.create_future(),
            gone,
            self._loop.time(),
            self._weight(operation),
        )
        if self._queue or not self._has_room():
            self._queue.push(self._owner(operation), waiting)
            self._queued_bytes += waiting.weight
            if self._timer is None:
                self._timer = self._loop.call_later(LOOK_S, self._look)
        else:
            self._hand_over(waiting)
        return waiting.future

    def answered(self, waiting: Waiting[Op]) -> None:
        """The store is done with this one; call `refill` when all that it told is."""
        del self._at_store[waiting]
        self._at_store_bytes -= waiting.weight

    def refill(self) -> None:
        """Hand over what is next, as far as there is room."""
        while self._queue and self._has_room():
            waiting = self._pop()
            if not waiting.is_dropped(self._loop.time()):
                self._hand_over(waiting)

    def flush(self) -> None:
        """Hand over all that waits, room or not: nothing comes any more."""
        while self._queue:
            waiting = self._pop()
            if not waiting.is_dropped(self._loop.time()):
                self._hand_over(waiting)
        self._rest()

    def refuse(self, why: str) -> None:
        """Refuse all that waits: the store takes no more."""
        for waiting in self._take(lambda _: True):
            if not waiting.future.done():
                waiting.future.set_exception(StoreUnavailable(why))
        self._rest()

    def under_way(self) -> UnderWay:
        """How much it is, and how old."""
        since = [waiting.since for waiting in self._queue.heads()]
        since += [waiting.since for waiting in list(self._at_store)[:1]]
        return UnderWay(
            len(self._queue),
            len(self._at_store),
            self._queued_bytes + self._at_store_bytes,
            self._loop.time() - min(since) if since else 0.0,
        )

    def _has_room(self) -> bool:
        return (
            len(self._at_store) < limits.STORE_WINDOW_OPERATIONS // self._sharers
            and self._at_store_bytes < limits.STORE_WINDOW_BYTES // self._sharers
        )

    def _hand_over(self, waiting: Waiting[Op]) -> None:
        self._at_store[waiting] = None
        self._at_store_bytes += waiting.weight
        self._send(waiting)

    def _pop(self) -> Waiting[Op]:
        waiting = self._queue.pop()
        self._queued_bytes -= waiting.weight
        return waiting

    def _take(self, leaves: Callable[[Waiting[Op]], bool]) -> list[Waiting[Op]]:
        taken = self._queue.take(leaves)
        self._queued_bytes -= sum(waiting.weight for waiting in taken)
        return taken

    def _look(self) -> None:
        """Drop whom nobody waits for any more, and refuse who has waited too long."""
        self._timer = None
        now = self._loop.time()
        late = now - limits.STORE_WAIT_S
        for waiting in self._take(lambda each: each.is_dropped(now) or each.since <= late):
            if not waiting.future.done():
                waiting.future.set_exception(StoreUnavailable(LATE))
        self.refill()
        if self._queue:
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
