"""In which order requests are begun and bodies read: at once, as long as few come; else in turn.

An event loop brings whatever has come on all connections, and who has many of them would have as
much of each round. So a round begins no more than takes half a millisecond. The rest waits in turn
of applications, and within an application in turn of addresses, while the loop goes on to see who
else is there. Longer rounds would cost a little less, a tenth for the smallest requests; but each
call of everybody waits for two of them.

Reading a request takes a third of the time of beginning it. So what comes while others wait is not
even read until it is its turn: that of the application for which the same connection asked before,
since for which it asks now is not known yet. If it is another one, it waits for the turn of that.

Of a large body the loop brings up to 256 KB at a time, on each of its connections. So behind each
such piece the connection is read on in turn of applications, a few of them a round.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from time import perf_counter
from typing import Any, Final

from pullstatus.server import eager
from pullstatus.turns import Turns

ROUND_S = 0.0005  # of beginning requests, until the loop looks who else is there

PIECES = 2  # of large bodies, read in one round; each takes up to a tenth of a millisecond

Work = Coroutine[Any, Any, None]
Answer = Callable[[Any], Work]
Client = tuple[str, int] | None

_NOBODY: Final = object()


class Schedule:
    """The requests of one event loop that have come and are not begun."""

    def __init__(
        self, loop: AbstractEventLoop, application_of: Callable[[Any], Hashable] = lambda _: None
    ) -> None:
        """Nothing waits.

        Args:
            application_of: tells which one a request is for, by its scope; None: none that is
                known.
        """
        self._loop = loop
        self._application_of = application_of
        # By application, in turn; within one by address.
        self._waiting: OrderedDict[Hashable, Turns[Callable[[], None]]] = OrderedDict()
        self._bodies: Turns[Callable[[], None]] = Turns()
        self._until = 0.0  # no more is begun in this round; 0: nothing was begun in it yet
        self._in_turn: object = _NOBODY  # whose turn it is

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def busy(self) -> bool:
        """Whether what comes now waits."""
        return bool(self._waiting or (self._until and perf_counter() >= self._until))

    def begin(self, answer: Answer, app: object, scope: object, client: Client) -> None:
        """Begin it, now or in turn.

        Args:
            answer, app: the first makes, of the second, the coroutine that answers the request.
            scope: of the request.
            client: whose connection it has come over.
        """
        if self.lets_begin(scope):
            eager.run(self._loop, answer(app))
        else:
            self.wait(answer, app, scope, client)

    def wait(self, answer: Answer, app: object, scope: object, client: Client) -> None:
        """Begin it when it is its turn, and not now."""
        self._push(self._application_of(scope), client, partial(self._run, answer, app))

    def put_off(self, read: Callable[[], None], before: object, client: Client) -> None:
        """Have `read` called in turn: it reads what came over a connection, and may begin that.

        Args:
            before: scope of the last request that came over it; None: there was none.
            client: whose connection it is.
        """
        application = None if before is None else self._application_of(before)
        self._push(application, client, read)

    def read_on(self, read: Callable[[], None], scope: object) -> None:
        """Have `read` called in turn, once: it lets one more piece of a large body come.

        Args:
            scope: of the request that it is of.
        """
        if not self._bodies:
            self._loop.call_soon(self._read_on)
        self._bodies.push(self._application_of(scope), read)

    def _read_on(self) -> None:
        for _ in range(min(PIECES, len(self._bodies))):
            self._bodies.pop()()
        if self._bodies:
            self._loop.call_soon(self._read_on)

    def lets_begin(self, scope: object) -> bool:
        """Whether a request of this scope may be begun now; what is done for it counts."""
        if self._in_turn is not _NOBODY:  # it was just read
            return self._application_of(scope) == self._in_turn
        if self.busy():
            return False
        if not self._until:
            self._until = perf_counter() + ROUND_S
            self._loop.call_soon(self._next_round)
        return True

    def _run(self, answer: Answer, app: object) -> None:
        eager.run(self._loop, answer(app))

    def _push(self, application: Hashable, client: Client, go_on: Callable[[], None]) -> None:
        if not self._waiting and self._in_turn is _NOBODY:
            self._loop.call_soon(self._go_on)
        line = self._waiting.get(application)
        if line is None:
            line = self._waiting[application] = Turns()
        line.push(client[0] if client else None, go_on)

    def _next_round(self) -> None:
        self._until = 0.0

    def _go_on(self) -> None:
        until = perf_counter() + ROUND_S
        try:
            while self._waiting:
                self._in_turn, go_on = self._next()
                go_on()
                if perf_counter() >= until:
                    break
        finally:
            self._in_turn = _NOBODY
            if self._waiting:
                self._loop.call_soon(self._go_on)

    def _next(self) -> tuple[Hashable, Callable[[], None]]:
        application, line = next(iter(self._waiting.items()))
        found = line.pop()
        if line:
            self._waiting.move_to_end(application)
        else:
            del self._waiting[application]
        return application, found
