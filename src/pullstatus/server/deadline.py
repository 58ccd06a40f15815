"""A bound on waiting that needs no task: a request's coroutine is driven without one.

`asyncio.timeout` cancels the task it is in. This cancels what is being waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_AGAIN_S = 0.1  # when the time is over and nothing is there to be cancelled: look again


class Within(Generic[T]):
    """`await Within(seconds, work)`: what `work` returns, or TimeoutError when it takes longer.

    What it was waiting for then is cancelled.
    """

    def __init__(self, seconds: float, work: Coroutine[Any, Any, T]) -> None:
        self._seconds = seconds
        self._work = work
        self._awaited: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle
        self._late = False

    def __await__(self) -> Generator[Any, None, T]:
        """Drive the work until it is done."""
        steps = self._work.__await__()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._end)
        try:
            self._awaited = next(steps)
            while True:
                try:
                    yield self._awaited
                except BaseException as error:  # noqa: BLE001 - for the work to see
                    self._awaited = steps.throw(error)
                else:
                    self._awaited = next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        except asyncio.CancelledError:
            if self._late:
                raise TimeoutError from None
            raise
        finally:
            self._timer.cancel()

    def _end(self) -> None:
        self._late = True
        if self._awaited is None or not self._awaited.cancel():
            # It goes on by itself in a moment, perhaps to wait for something else.
            self._timer = asyncio.get_running_loop().call_later(_AGAIN_S, self._end)
