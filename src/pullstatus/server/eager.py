"""A coroutine that runs at once, and goes on when what it waits for is there: without a task.

A task begins a turn of the loop later, even where there is nothing to wait for.
"""

from __future__ import annotations

import functools
from asyncio import AbstractEventLoop, Future
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(loop: AbstractEventLoop, coroutine: Coroutine[Any, Any, None], _: object = None) -> None:
    """Go on with it until there is something to wait for: what a task does, and no more.

    It cannot be cancelled, and is nobody's current task; what it raises is raised here, or goes to
    the loop's handler once it has waited.
    """
    try:
        awaited: Future[Any] | None = coroutine.send(None)
    except StopIteration:
        return
    go_on = functools.partial(run, loop, coroutine)
    if awaited is None:  # it only lets others go first
        loop.call_soon(go_on)
    else:
        awaited.add_done_callback(go_on)


def begin(loop: AbstractEventLoop, work: Awaitable[T]) -> Future[T]:
    """Go on with it likewise, beside whoever waits for what it comes to."""
    end: Future[T] = loop.create_future()
    run(loop, _settle(end, work))
    return end


async def _settle(end: Future[T], work: Awaitable[T]) -> None:
    """Tell `end` what the work came to."""
    try:
        end.set_result(await work)
    except Exception as error:  # noqa: BLE001 - who waits is told
        end.set_exception(error)
