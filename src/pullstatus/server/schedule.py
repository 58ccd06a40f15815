"""In which order requests are begun: at once, as long as few come; else owners in turn.

An event loop brings whatever has come on all connections, and who has many of them would have as
much of each round. So a round begins no more than takes a millisecond. The rest waits in turn of
applications, and within an application in turn of addresses, while the loop goes on to see who else
is there.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Hashable
from time import perf_counter
from typing import Any

from pullstatus.server import eager
from pullstatus.turns import Turns

ROUND_S = 0.001  # of beginning requests, until the loop looks who else is there

Work = Coroutine[Any, Any, None]


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
        self._turns: Turns[Hashable] = Turns()  # an application, for each request of it
        self._of: dict[Hashable, Turns[Callable[[], Work]]] = {}
        self._spent_s = 0.0  # in this round of the loop

    def __len__(self) -> int:
        return len(self._turns)

    def begin(
        self,
        work: Callable[[], Work],
        scope: object,
        client: tuple[str, int] | None,
    ) -> None:
        """Begin it, now or in turn.

        Args:
            work: makes the coroutine that answers the request.
            scope: of the request.
            client: whose connection it has come over.
        """
        if self._turns or self._spent_s >= ROUND_S:
            self.wait(work, scope, client)
            return
        if not self._spent_s:
            self._loop.call_soon(self._next_round)
        began = perf_counter()
        eager.run(self._loop, work())
        self._spent_s += perf_counter() - began

    def wait(self, work: Callable[[], Work], scope: object, client: tuple[str, int] | None) -> None:
        """Begin it when it is its turn, and not now."""
        application = self._application_of(scope)
        if not self._turns:
            self._loop.call_soon(self._go_on)
        self._turns.push(application, application)
        line = self._of.get(application)
        if line is None:
            line = self._of[application] = Turns()
        line.push(client[0] if client else None, work)

    def _next_round(self) -> None:
        self._spent_s = 0.0

    def _go_on(self) -> None:
        until = perf_counter() + ROUND_S
        while self._turns:
            eager.run(self._loop, self._next()())
            if perf_counter() >= until:
                break
        if self._turns:
            self._loop.call_soon(self._go_on)

    def _next(self) -> Callable[[], Work]:
        application = self._turns.pop()
        line = self._of[application]
        work = line.pop()
        if not line:
            del self._of[application]
        return work
