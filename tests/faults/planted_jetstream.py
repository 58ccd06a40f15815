"""Bugs to plant in the JetStream engine, in a client's process of `Doors`.

What nodes are told to do and what is believed of them is changed; they themselves are real.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from pullstatus.errors import StoreUnavailable
from pullstatus.store.jetstream import nodes, writing
from pullstatus.store.jetstream.links import NoAnswer
from pullstatus.store.jetstream.lists import ApplicationStanding, Lists
from pullstatus.store.jetstream.wire import Put, Stale
from pullstatus.store.jetstream.writing import Writing

BEHIND_S: Final = 1.0

Standing = ApplicationStanding | Exception | None


def unconditional() -> None:
    """A write names nothing that it rests on."""
    writing._condition = lambda _put: {}  # type: ignore[assignment]


def refused() -> None:
    """A write without an answer is taken for one that was refused."""
    real = Writing._send

    async def send(self: Writing, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        try:
            return await real(self, *arguments, **named)
        except NoAnswer as error:
            raise StoreUnavailable(str(error)) from error

    Writing._send = send  # type: ignore[method-assign]


def anew() -> None:
    """A write without an answer is done again, with nothing to tell that it was done before."""

    async def resolved(*_arguments: object, **_named: object) -> int:
        raise Stale

    Writing._resolved = resolved  # type: ignore[method-assign]


class _Unheard(Exception):
    """No answer has come."""


def read_back() -> None:
    """A write without an answer is looked for, and taken for lost where it is not found."""
    send, decided = Writing._send, Writing._decided

    async def once(self: Writing, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        try:
            return await send(self, *arguments, **named)
        except NoAnswer as error:
            raise _Unheard from error

    async def looked_for(self: Writing, stream: str, puts: Sequence[Put], op: bytes) -> int:
        try:
            return await decided(self, stream, puts, op)
        except _Unheard as error:
            if sequence := await self._stored(stream, puts, op):
                return sequence
            raise StoreUnavailable("it is not there") from error

    Writing._send = once  # type: ignore[method-assign]
    Writing._decided = looked_for  # type: ignore[method-assign]


def replica_says_empty() -> None:
    """That nothing waits is said by a replica that is behind, and not by who leads."""
    real = Lists.standings_of
    told: dict[int, tuple[float, Standing]] = {}

    def standings_of(self: Lists, sdkappids: Sequence[int]) -> dict[int, Standing]:
        now_s = time.monotonic()
        for sdkappid in sdkappids:
            if sdkappid not in told or now_s - told[sdkappid][0] > BEHIND_S:
                told[sdkappid] = now_s, real(self, [sdkappid])[sdkappid]
        return {sdkappid: told[sdkappid][1] for sdkappid in sdkappids}

    Lists.standings_of = standings_of  # type: ignore[method-assign]


def unproven() -> None:
    """Nodes are believed to sync what they acknowledge."""
    nodes._check = lambda _node: None  # type: ignore[assignment]
