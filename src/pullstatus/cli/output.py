"""How commands speak: tables on a terminal, JSON elsewhere, errors that say what to do.

This is the one door: whatever a command prints goes through one of these, which spell out what
would steer a terminal, whoever wrote it. A test looks for other doors.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import msgspec
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from pullstatus.cli.surroundings import discard
from pullstatus.errors import StoreCorrupt
from pullstatus.terminal import visible

F = TypeVar("F", bound=Callable[..., object])

UTC_SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")  # shorter in a table
GAP = 2  # between two columns
WRAPPED_WIDTH_MIN = 16  # of a column that wraps; narrower it would be a word on a line

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
    text = json.decode()
    click.echo(visible(text) if sys.stdout.isatty() else text)


class _Console(Console):
    """Shows what strangers wrote, and obeys none of it: no markup, no escape sequence."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of what is printed, at each depth of it."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def render_str(self, text: str, **how: Any) -> Text:  # noqa: ANN401 - rich's signature
        """A string as it is laid out: spelt out before it is measured."""
        return super().render_str(visible(text), **how)


def console(*, err: bool = False) -> Console:
    """For what needs more than `say`: tables, bars, lines that are rewritten."""
    return _Console(stderr=err, highlight=False, markup=False, emoji=False)


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
    and a line below says so; see `fitting`.

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
    terminal = console()
    shown = fitting(rows, columns, terminal.width, wraps)
    table = Table(
        header_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in shown:
        values = [row.get(column) for row in rows]
        table.add_column(
            column,
            justify="right" if all(map(_is_figure, values)) else "left",
            no_wrap=column != wraps and len(shown) > 1,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in shown))
    terminal.print(table)
    if left_out := [column for column in columns if column not in shown]:
        say(f"No room for {', '.join(left_out)}: a wider terminal or --json shows them.")


def print_newest(
    rows: Sequence[Mapping[str, object]],
    limit: int,
    *,
    as_json: bool,
    columns: Sequence[str],
    empty: str,
    wraps: str = "",
) -> None:
    """The first rows, as `print_rows` does, and on standard error that there are more, if so."""
    print_rows(rows[:limit], as_json=as_json, columns=columns, empty=empty, wraps=wraps)
    if len(rows) > limit:
        say(f"Only the newest {limit} are shown; --limit shows more.", err=True)


def fitting(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], width: int, wraps: str = ""
) -> list[str]:
    """The columns that fit beside each other, in their order.

    Those go first in which no row says anything, then one after the other from the right.
    """
    widths = {
        column: max(cell_len(column), *(_cell(row.get(column)).cell_len for row in rows))
        for column in columns
    }
    if wraps in widths:
        widths[wraps] = min(widths[wraps], WRAPPED_WIDTH_MIN)
    silent = [column for column in columns if not any(row.get(column) for row in rows)]
    shown = list(columns)
    while len(shown) > 1 and sum(widths[column] + GAP for column in shown) - GAP > width:
        shown.remove(next((column for column in reversed(shown) if column in silent), shown[-1]))
    return shown


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


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object) -> Text:
    if value is None or value == []:
        return Text("-")
    if isinstance(value, bool):
        return Text("yes", "green") if value else Text("no", "red")
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = visible(str(value)).replace("\n", "\\n")
    return Text(f"{text[:-6]}Z" if UTC_SECOND.fullmatch(text) else text)
