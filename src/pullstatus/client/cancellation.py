"""An exchange over HTTP that lets go of its connection when its caller's task is cancelled.

httpcore shields what it does at the end of an exchange with a scope of anyio. Nothing else respects
that: a `task.cancel()`, and so `asyncio.timeout` or a `TaskGroup`, comes at whatever is awaited
just then. In between a connection's states it stays in its pool, of use to nobody, for ever. So an
exchange has a task of its own, which nobody but a scope of anyio cancels.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import anyio

__all__ = ["cancellable"]

T = TypeVar("T")


async def cancellable(exchange: Coroutine[Any, Any, T]) -> T:
    """What an exchange returns or raises; a cancelled one has ended when this leaves.

    Raises:
        asyncio.CancelledError: the caller was cancelled.
    """
    scope = anyio.CancelScope()
    task = asyncio.create_task(_outcome(exchange, scope))
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        scope.cancel()
        await _end(task)
        _, error = (None, None) if task.cancelled() else task.result()
        if error is not None and not isinstance(error, Exception):
            raise error from None  # the program is to end
        raise
    except BaseException:  # it came from outside, such as a signal's, or nobody waits any more
        with contextlib.suppress(RuntimeError):  # no loop runs any more, and so no exchange does
            scope.cancel()
        raise
    value, error = task.result()
    if error is not None:
        context = error.__context__
        try:
            raise error
        finally:  # not what our caller handles: it tells of what this one was made
            error.__context__ = context
            del error
    return cast("T", value)


async def _outcome(
    exchange: Coroutine[Any, Any, T], scope: anyio.CancelScope
) -> tuple[T | None, BaseException | None]:
    """What it returned, what it raised. A task that raises `SystemExit` would end the loop."""
    try:
        with scope:
            return await exchange, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - it is raised in the caller's task
        return None, error
    return None, None  # cancelled: nobody looks


async def _end(task: asyncio.Task[Any]) -> None:
    """Wait for it, however often the caller is cancelled meanwhile: it takes a few steps."""
    with anyio.CancelScope(shield=True):
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
