"""How commands speak: tables on a terminal, JSON elsewhere, errors that say what to do.

This is the one door, with `tables` for what is drawn: whatever a command prints goes through one
of these, which spell out what would steer a terminal, whoever wrote it. A test looks for other
doors.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import click
import msgspec

from pullstatus.cli.surroundings import discard
from pullstatus.errors import StoreCorrupt
from pullstatus.json import ascii_json
from pullstatus.terminal import visible

F = TypeVar("F", bound=Callable[..., object])

json_option = click.option(
    "--json", "as_json", is_flag=True, help="JSON also on a terminal; elsewhere it is JSON anyway."
)

limit_option = click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most."
)


def log_level_option(help_of_it: str) -> Callable[[F], F]:
    """`--log-level`."""
    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        envvar="PULLSTATUS_LOG_LEVEL",
        default="info",
        show_default=True,
        show_envvar=True,
        help=help_of_it,
    )


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """A text for people, on standard output or, `err`, on standard error."""
    click.echo(visible(text), err=err, nl=nl)


def print_json(value: object) -> None:
    """One JSON value, for people and programs."""
    _print_json(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_json_line(value: object) -> None:
    """One JSON value on one line, of many."""
    _print_json(msgspec.json.encode(value))


def _print_json(json: bytes) -> None:
    """As UTF-8 for programs, whatever the locale is; a terminal gets what it can show."""
    if not sys.stdout.isatty():
        click.echo(json)
        return
    try:
        text = json.decode()
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = ascii_json(json).decode()
    click.echo(visible(text))


def print_rows(
    rows: Sequence[Mapping[str, object]],
    *,
    as_json: bool,
    columns: Sequence[str],
    empty: str,
    wraps: str = "",
) -> None:
    """Rows as a table on a terminal, as a JSON array elsewhere.

    A table never cuts what a cell holds. A column for which the terminal has no room is left out,
    and a line below says so; see `tables.fitting`.

    Args:
        columns: the most telling first.
        wraps: the column of free text, if there is one. It takes as many lines as it needs.
    """
    if as_json or not sys.stdout.isatty():
        print_json(rows)
        return
    if not rows:
        say(empty)
        return
    from pullstatus.cli.tables import print_table  # rich is not read where no table is drawn

    print_table(rows, columns, wraps)


def print_newest(
    rows: Sequence[Mapping[str, object]],
    limit: int,
    *,
    as_json: bool,
    columns: Sequence[str],
    empty: str,
    wraps: str,
) -> None:
    """The first rows, as `print_rows` does, and on standard error that there are more, if so."""
    print_rows(rows[:limit], as_json=as_json, columns=columns, empty=empty, wraps=wraps)
    if len(rows) > limit:
        say(f"Only the newest {limit} are shown; --limit shows more.", err=True)


def say_ready(text: str) -> None:
    """Say that connections are accepted now. A server whose reader is gone serves all the same."""
    try:
        say(text)
    except OSError as error:
        discard(sys.stdout)
        with contextlib.suppress(OSError):
            say(f"pullstatus: standard output cannot be written: {error.strerror}", err=True)


def moment(at_ms: int) -> str:
    """A time for people and programs: ISO 8601, UTC.

    Raises:
        StoreCorrupt: there is no such time in the calendar, so none was stored.
    """
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError) as error:
        raise StoreCorrupt(
            "the store holds a time that is none: run `pullstatus audit`, and restore a backup"
        ) from error


def exact_moment(at_ms: int) -> str:
    """The same to the millisecond, where it is of no whole second: given back, it is this one.

    Raises:
        StoreCorrupt: as `moment` does.
    """
    whole_s, beyond_ms = divmod(at_ms, 1000)
    shown = moment(whole_s * 1000)
    return shown.replace("+", f".{beyond_ms:03}+") if beyond_ms else shown


def moment_or_none(at_ms: int | None) -> str | None:
    """The same of a time that may be none; see `moment`."""
    return None if at_ms is None else moment(at_ms)
