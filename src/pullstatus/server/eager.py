"""A coroutine that runs at once, and goes on when what it waits for is there: without a task.

A task begins a turn of the loop later, even where there is nothing to wait for.
"""

from __future__ import annotations

import functools
from asyncio import AbstractEventLoop, Future
from collections.abc import Coroutine
from typing import Any


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
