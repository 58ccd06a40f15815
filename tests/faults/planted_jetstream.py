"""Bugs to plant in the JetStream engine, in a client's process of `Doors`.

What nodes are told to do and what is believed of them is changed; they themselves are real.
"""

from __future__ import annotations

from typing import Any

from pullstatus.errors import StoreUnavailable
from pullstatus.store.jetstream import nodes, writing
from pullstatus.store.jetstream.links import NoAnswer
from pullstatus.store.jetstream.wire import Stale
from pullstatus.store.jetstream.writing import Writing


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


def unproven() -> None:
    """Nodes are believed to sync what they acknowledge."""
    nodes._check = lambda _node: None  # type: ignore[assignment]
