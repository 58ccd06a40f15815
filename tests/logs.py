"""The log of a test that has the program set it up in this process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any
from unittest import mock

import structlog


@contextlib.contextmanager
def own_log() -> Iterator[None]:
    """Whatever is set up meanwhile, the next test finds the log as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configuration = structlog.get_config()
    try:
        with mock.patch.object(structlog, "configure", _uncached(structlog.configure)):
            yield
    finally:
        structlog.configure(**configuration)
        root.handlers = handlers
        root.setLevel(level)


def _uncached(configure: Any) -> Any:  # noqa: ANN401
    """The loggers of modules live longer than a test."""
    return lambda **settings: configure(**settings | {"cache_logger_on_first_use": False})
