"""One line for each thing worth telling, on standard error: JSON, or text for a terminal.

Never a key, a token, a number or a text of anybody's.
"""

from __future__ import annotations

import logging
import logging.config
import sys
import traceback
from collections.abc import Iterator

import structlog

from pullstatus.errors import PullstatusError
from pullstatus.terminal import visible


def configure(level: str = "info") -> None:
    """Send our log, and that of the libraries, through one formatter. May be called again."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_trace),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,  # asked each time: a reload may change it
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # These two tell of each connection and request in words of their own.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells addresses, which hold tokens
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = False


def _renderer() -> structlog.typing.Processor:
    if sys.stderr is not None and sys.stderr.isatty():
        render = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        return lambda logger, name, line: render(logger, name, _harmless(line))
    return structlog.processors.JSONRenderer()


def _harmless(line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A line in which nothing steers the terminal; lists and the like are quoted anyway."""
    return {
        name: visible(value) if isinstance(value, str) else value for name, value in line.items()
    }


def _trace(exc_info: structlog.typing.ExcInfo) -> str:
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
