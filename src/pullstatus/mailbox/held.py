"""Pulls of empty mailboxes that wait for a record: a line for each mailbox, in order of arrival.

    enter -> ask the store -- a page ------------------------------------> leave
               ^      `------ nothing -> sleep -- time over, peer gone --> leave
               `---------------------------- it is the sleeper's turn

While it sleeps, a pull costs its place in line and no look at the store. One of a line at a time
has the *turn*: the first gets it when something arrives, asks the store, and passes it on when it
leaves and something may still wait. If it finds nothing, since a pull that never slept was quicker,
it sleeps on where it was. So an arrival wakes one pull, not all of them.

Where several processes are one server each has its lines. The store's process, which all share,
knows since when the first of each waits, and tells the one whose first came first; when that one
has left, the next.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pullstatus import limits
from pullstatus.store import Mailbox, Store, Watching


def _as_it_is(count: int) -> int:
    return count


class Held:
    """The pulls of one server that are held.

    Attributes:
        count: how many there are.
    """

    def __init__(
        self,
        store: Store,
        in_all: Callable[[int], int] = _as_it_is,
        *,
        among_others: bool = False,
    ) -> None:
        """For pulls of `store`; to be used on one event loop.

        Args:
            among_others: other processes of the server hold pulls, too, by the same store, which
                then says whose first is next.
            in_all: told, whenever it changes, how many are held here; returns how many are held by
                all processes of the server.
        """
        self._in_all = in_all
        self._among_others = among_others
        self._store = store
        self._lines: dict[Mailbox, _Line] = {}
        self._ended = False
        self.count = 0

    def enter(self, mailbox: Mailbox) -> Place:
        """A place in the line of this mailbox; to be entered before the store is asked.

        One that can't be held (too many are, or the server stops) is in no line and never sleeps.
        """
        if self._ended or self._in_all(self.count) >= limits.PULLS_HELD_MAX:
            return Place(self, mailbox, _Line(), ended=True)
        now_s = asyncio.get_running_loop().time()
        line = self._lines.get(mailbox)
        if line is None:
            line = self._lines[mailbox] = _Line(among_others=self._among_others)
            since = (now_s,) if self._among_others else ()
            line.watching = self._store.watch(mailbox, line.arrived, *since)
        place = Place(self, mailbox, line, ended=False)
        line.places[place] = now_s
        self.count += 1
        self._in_all(self.count)
        return place

    def end(self) -> None:
        """Let all of them go, each with what it found last: the server stops."""
        self._ended = True
        for line in list(self._lines.values()):
            for place in list(line.places):
                place.end()

    def leave(self, place: Place, mailbox: Mailbox, line: _Line) -> None:
        """For `Place`: it is in line no more."""
        if place in line.places:
            del line.places[place]
            self.count -= 1
            self._in_all(self.count)
            if not line.places:
                line.watching()
                del self._lines[mailbox]
            elif self._among_others:
                line.watching(next(iter(line.places.values())))


class Place:
    """A pull's place in line. Leaving its context leaves the line.

    Attributes:
        leaves_some: whether something may be left that it has not taken. To be said before it
            leaves; until then it may.
    """

    __slots__ = ("_alarm", "_ended", "_held", "_line", "_mailbox", "leaves_some")

    def __init__(self, held: Held, mailbox: Mailbox, line: _Line, *, ended: bool) -> None:
        """For `Held.enter`."""
        self._held = held
        self._mailbox = mailbox
        self._line = line
        self._ended = ended
        self._alarm: asyncio.Future[None] | None = None
        self.leaves_some = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._held.leave(self, self._mailbox, self._line)
        if self._line.turn is self:
            self._line.pass_on(needed=self.leaves_some)

    async def sleep(self, until_s: float) -> bool:
        """Sleep until it has the turn, and the store is worth asking; else False.

        That is: until the (loop's) time is over, or `end` was called. To be called once the store
        was asked and had nothing.
        """
        line = self._line
        if self._ended:
            return False
        if line.turn is self:
            if line.news:  # it may have come behind what the store looked at
                line.news = False
                return True
            line.turn = None
        loop = asyncio.get_running_loop()
        self._alarm = loop.create_future()
        timer = loop.call_at(until_s, self.wake)
        try:
            await self._alarm
        finally:
            timer.cancel()
            self._alarm = None
        return line.turn is self and not self._ended

    @property
    def asleep(self) -> bool:
        """Whether it is, and nothing has woken it yet."""
        return self._alarm is not None and not self._alarm.done()

    def wake(self) -> None:
        """Let it see whether it has the turn."""
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    def end(self) -> None:
        """Let it sleep no more: what it waits for is over."""
        self._ended = True
        self.wake()


def _nothing(since_s: float | None = None) -> None:  # noqa: ARG001 - as `Watching` has it
    return


class _Line:
    """The places of one mailbox, first come first.

    Attributes:
        turn: the one that asks the store for what has arrived; None: nothing has.
        news: whether something has arrived since that one began to ask.
        watching: ends the calls of `arrived`.
    """

    def __init__(self, *, among_others: bool = False) -> None:
        self._among_others = among_others
        # A dict finds its first only past all that were taken out before.
        self.places: OrderedDict[Place, float] = OrderedDict()  # and since when they wait
        self.turn: Place | None = None
        self.news = False
        self.watching: Watching = _nothing

    def arrived(self) -> None:
        """Something waits in the mailbox."""
        if self.turn is not None:
            self.news = True
        else:
            self._give_turn()

    def pass_on(self, *, needed: bool) -> None:
        """Whoever has the turn leaves; the next gets it if there is need."""
        self.turn = None
        if (needed or self.news) and not self._among_others:  # or the store says who is next
            self._give_turn()

    def _give_turn(self) -> None:
        self.turn = next(iter(self.places), None)
        if self.turn is not None:
            self.news = not self.turn.asleep  # what it asks now may have been too early
            self.turn.wake()
