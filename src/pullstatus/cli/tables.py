"""What is drawn on a terminal: tables, and the console for bars and lines that are rewritten.

Loaded by what draws: a command whose output is read by a program starts without rich.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from pullstatus.cli.output import say
from pullstatus.terminal import visible

UTC_SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")  # shorter in a table
GAP = 2  # between two columns
WRAPPED_WIDTH_MIN = 16  # of a column that wraps; narrower it would be a word on a line


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


def print_table(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], wraps: str = ""
) -> None:
    """Rows as a table, as `output.print_rows` says, and what there was no room for."""
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
