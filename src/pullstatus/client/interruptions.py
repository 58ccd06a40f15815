"""Exceptions that come into a call from outside: a signal's, or one thrown in by another thread.

What the HTTP library and all below it raise tells what became of a request. These tell nothing of
it: they are their owner's way to end the work at hand, as Celery's and RQ's time limits do. Many
are an `Exception` like any other, and some take the form of one that says the network has failed:

    def ring(_signal, _frame):
        raise TimeoutError      # from within a read: httpx.ReadTimeout, made of this
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from functools import partial
from types import CodeType
from typing import Final

__all__ = ["interruption"]

_BELOW: Final = sys.stdlib_module_names | {
    "anyio",
    "h11",
    "httpcore",
    "httpx",
    "idna",
    "sniffio",
    "socksio",
}


def interruption(
    error: Exception, *, known_below: bool, handled: BaseException | None
) -> Exception | None:
    """The exception from outside that this one is, or was made of; None: there is none.

    Args:
        known_below: whether what is asked through raises nothing but what Python and the libraries
            that we know do. Otherwise only a signal's exceptions can be told from its own.
        handled: what our caller was handling when he called, which is none of this call's.
    """
    handlers = _handlers()
    for one in _made_of(error, handled):
        if known_below and type(one).__module__.partition(".")[0] not in _BELOW:
            return one
        if not handlers.isdisjoint(_codes(one)):
            return one
    return None


def _made_of(error: BaseException | None, handled: BaseException | None) -> Iterator[Exception]:
    while isinstance(error, Exception) and error is not handled:
        yield error
        error = error.__cause__ or error.__context__


def _codes(error: Exception) -> Iterator[CodeType]:
    """What ran when it was raised."""
    line = error.__traceback__
    while line is not None:
        yield line.tb_frame.f_code
        line = line.tb_next


def _handlers() -> set[CodeType]:
    """What runs when a signal comes, as far as it is Python."""
    found: set[CodeType] = set()
    for number in signal.valid_signals():
        handler: object = signal.getsignal(number)
        while isinstance(handler, partial):
            handler = handler.func
        if callable(handler):
            codes = (getattr(one, "__code__", None) for one in (handler, type(handler).__call__))
            found.update(code for code in codes if isinstance(code, CodeType))
    return found
