"""Times and periods on the command line."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
AGO = re.compile(rf"(?P<count>[0-9]+)(?P<unit>[{''.join(UNITS)}])")


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
        try:
            # In whole numbers: the calendar's last moments, as a float, are of the year after.
            return (_parsed(str(value)) - EPOCH) // timedelta(milliseconds=1)
        except (ValueError, OverflowError):
            self.fail("a time is like 2026-11-23T04:00 (UTC), or how long ago, like 90m or 2d")


class MomentToCome(Moment):
    """A time at which something is to begin or to end: ISO 8601, and not how long ago."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Unix milliseconds."""
        if isinstance(value, str) and AGO.fullmatch(value):
            self.fail("that is so long ago; a time to come is like 2027-01-31T00:00 (UTC)")
        return super().convert(value, param, ctx)


def _parsed(text: str) -> datetime:
    """In UTC, where it is of the years 1 to 9999: ValueError or OverflowError otherwise."""
    if ago := AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{UNITS[ago["unit"]]: int(ago["count"])})
    parsed = datetime.fromisoformat(text)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def period_options(command: Callable[P, R]) -> Callable[P, R]:
    """`--from` and `--to`; written wrongly if they are the wrong way round."""

    @functools.wraps(command)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        from_ms, to_ms = kwargs["from_ms"], kwargs["to_ms"]
        if isinstance(from_ms, int) and isinstance(to_ms, int) and from_ms >= to_ms:
            raise click.UsageError("--from is not before --to")
        return command(*args, **kwargs)

    checked = click.option("--to", "to_ms", type=Moment(), help="Until before this time.")(checked)
    return click.option(
        "--from", "from_ms", type=Moment(), help="From this time on: 2026-11-23T04:00 (UTC), or 2h."
    )(checked)
