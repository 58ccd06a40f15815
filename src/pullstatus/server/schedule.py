"""In which order requests are begun: at once, as long as few come; else owners in turn.

An event loop brings whatever has come on all connections, and who has many of them would have as
much of each round. So a round begins no more than takes two milliseconds. The rest waits in turn of
applications, and within an application in turn of addresses, while the loop goes on to see who else
is there.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from time import perf_counter
from typing import Any

from pullstatus.server import eager
from pullstatus.turns import Turns

ROUND_S = 0.002  # of beginning requests, until the loop looks who else is there

Work = Coroutine[Any, Any, None]
Answer = Callable[[Any], Work]


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
        self._waiting: OrderedDict[Hashable, Turns[tuple[Answer, object]]] = OrderedDict()
        self._until = 0.0  # no more is begun in this round; 0: nothing was begun in it yet

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def begin(
        self,
        answer: Answer,
        app: object,
        scope: object,
        client: tuple[str, int] | None,
    ) -> None:
        """Begin it, now or in turn.

        Args:
            answer, app: the first makes, of the second, the coroutine that answers the request.
            scope: of the request.
            client: whose connection it has come over.
        """
        if not self._until:
            self._until = perf_counter() + ROUND_S
            self._loop.call_soon(self._next_round)
        elif perf_counter() >= self._until:
            self.wait(answer, app, scope, client)
            return
        if self._waiting:
            self.wait(answer, app, scope, client)
        else:
            eager.run(self._loop, answer(app))

    def wait(
        self, answer: Answer, app: object, scope: object, client: tuple[str, int] | None
    ) -> None:
        """Begin it when it is its turn, and not now."""
        if not self._waiting:
            self._loop.call_soon(self._go_on)
        application = self._application_of(scope)
        line = self._waiting.get(application)
        if line is None:
            line = self._waiting[application] = Turns()
        line.push(client[0] if client else None, (answer, app))

    def _next_round(self) -> None:
        self._until = 0.0

    def _go_on(self) -> None:
        until = perf_counter() + ROUND_S
        while self._waiting:
            answer, app = self._next()
            eager.run(self._loop, answer(app))
            if perf_counter() >= until:
                break
        if self._waiting:
            self._loop.call_soon(self._go_on)

    def _next(self) -> tuple[Answer, object]:
        application, line = next(iter(self._waiting.items()))
        found = line.pop()
        if line:
            self._waiting.move_to_end(application)
        else:
            del self._waiting[application]
        return found
