"""Times and periods on the command line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


# Without its argument: click takes one since 8.4 only, and is asked for from 8.1 on.
class Moment(click.ParamType):  # type: ignore[type-arg]
    """A time: ISO 8601 (UTC unless it says otherwise), or how long ago, such as 90m or 2d."""

    name = "time"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002 - as above
    ) -> int:
        """Unix milliseconds."""
        if isinstance(value, int):
            return value
        text = str(value)
        if text[:-1].isdigit() and text[-1:] in UNITS:
            ago = timedelta(**{UNITS[text[-1]]: int(text[:-1])})
            return int((datetime.now(UTC) - ago).timestamp() * 1000)
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            self.fail("a time is like 2026-11-23T04:00 (UTC), or how long ago, like 90m or 2d")
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        return int(parsed.timestamp() * 1000)


def period_options(command: F) -> F:
    """`--from` and `--to`."""
    command = click.option("--to", "to_ms", type=Moment(), help="Until before this time.")(command)
    return click.option(
        "--from", "from_ms", type=Moment(), help="From this time on: 2026-11-23T04:00 (UTC), or 2h."
    )(command)
