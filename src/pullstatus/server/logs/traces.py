"""What is said of an error in the log: where it came from and its kind, and nobody's data."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import structlog

from pullstatus.errors import PullstatusError


def trace(exc_info: structlog.typing.ExcInfo) -> str:
    """Files, lines and kinds of errors. What an error says is left out, unless it is one of ours.

    Others quote what they stumble over, and that may be anybody's number or text.
    """
    return "\n".join(part.rstrip("\n") for error in _chain(exc_info[1]) for part in _told(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, after those that it came of."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return reversed(seen)


def _told(error: BaseException) -> Iterator[str]:
    yield from traceback.format_tb(error.__traceback__)
    says = ""
    if isinstance(error, PullstatusError):
        says = f": {error}"
    elif isinstance(error, OSError) and error.strerror:
        says = f": {error.strerror}"
    yield f"{type(error).__module__}.{type(error).__qualname__}{says}"
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _told(inner)
