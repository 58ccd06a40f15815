"""One line for each thing worth telling, on standard error: JSON, or text for a terminal.

Never a key, a token, a number or a text of anybody's. `traces` is what is said of an error,
`repeats` which lines are summed, `writing` how they get out.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import structlog

from pullstatus.server.logs.repeats import LineKind, Repeats
from pullstatus.server.logs.traces import trace
from pullstatus.server.logs.writing import Own, Writer
from pullstatus.terminal import visible

_CODES: Final = ("result", "status", "code")  # members that say what was answered

_writer: Writer | None = None


class LogLines(msgspec.Struct, frozen=True):
    """Lines since the log was set up.

    Attributes:
        written: on standard error.
        summed: told by number only, since others of their kind were written in that second.
        dropped: lost, since standard error did not take them, or not as fast as they came.
    """

    written: int
    summed: int
    dropped: int


def configure(
    level: str = "info", *, sums: bool = True, worker: int | None = None, workers: int = 1
) -> None:
    """Send our log, and that of the libraries, through one formatter. May be called again.

    Args:
        sums: whether lines of one kind are summed when there are many in a second; see `repeats`.
        worker: the number of this process, which each line is to say.
        workers: processes that write to this standard error, and share what a second may bring.
    """
    shared: list[structlog.typing.Processor] = [
        *([] if worker is None else [_says(worker)]),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(trace),
    ]
    renderer = _renderer()

    def own(level: str, event: str, members: Mapping[str, object]) -> str:
        line: structlog.typing.EventDict = {"event": event, **members}
        for processor in (*shared, renderer):
            line = processor(None, level, line)  # type: ignore[assignment]
        return str(line)

    handler = _open(own, workers)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,  # asked each time: a reload may change it
            *([_sum_ours(handler.repeats)] if sums else []),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[_first_words, *shared],
        )
    )
    handler.filters = [_sum_foreign(handler.repeats)] if sums else []
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # These two tell of each connection and request in words of their own.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells addresses, which hold tokens
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = False


def set_level(level: str) -> None:
    """Log from this level on."""
    logging.getLogger().setLevel(level.upper())


def _says(worker: int) -> structlog.typing.Processor:
    def add(_logger: object, _level: str, line: structlog.typing.EventDict) -> Any:  # noqa: ANN401
        line.setdefault("worker", worker)
        return line

    return add


def lines() -> LogLines:
    """How many lines there were; none where the log is another program's."""
    if _writer is None:
        return LogLines(0, 0, 0)
    return LogLines(_writer.written, _writer.repeats.summed, _writer.dropped)


def _open(own: Own, workers: int) -> Writer:
    """The writer that there is, unless standard error is another one now."""
    global _writer  # noqa: PLW0603 - a process has one log, as it has one root logger
    if _writer is None or _writer.stream is not sys.stderr:
        if _writer is not None:
            _writer.close()
        _writer = Writer(sys.stderr, Repeats(time.monotonic, workers), own, alone=workers == 1)
    _writer.own = own
    return _writer


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


def _sum_ours(repeats: Repeats) -> structlog.typing.Processor:
    def admit(
        _logger: object, level: str, line: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """Let a line about a request go on, or count it; the server's own are few."""
        if "address" not in line and "request" not in line:
            return line
        code = next(((name, line[name]) for name in _CODES if name in line), None)
        if repeats.admit(LineKind(level, line["event"], code), line.get("address", "")):
            return line
        raise structlog.DropEvent

    return admit


def _sum_foreign(repeats: Repeats) -> Callable[[logging.LogRecord], bool]:
    def admit(record: logging.LogRecord) -> bool:
        """The same for a line of a library; what it says is not known to be of any kind."""
        if isinstance(record.msg, dict):  # ours
            return True
        return repeats.admit(LineKind(record.levelname.lower(), f"lines of {record.name}"))

    return admit


_OBJECTS = re.compile(r"[\n(]|<(?!locals>)")


def _first_words(
    _logger: object, _level: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Leave out what asyncio says of objects: it shows all that is in them."""
    if line["_record"].name == "asyncio":
        line["event"] = _OBJECTS.split(line["event"], maxsplit=1)[0]
    return line
