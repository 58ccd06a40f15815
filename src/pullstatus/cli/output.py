"""How commands speak: tables on a terminal, JSON elsewhere, errors that say what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import click
import msgspec
from rich.console import Console
from rich.table import Table

json_option = click.option(
    "--json", "as_json", is_flag=True, help="JSON also on a terminal; elsewhere it is JSON anyway."
)


def print_json(value: object) -> None:
    """One JSON value, for people and programs."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_rows(
    rows: Sequence[Mapping[str, object]], *, as_json: bool, columns: Iterable[str], empty: str
) -> None:
    """Rows as a table on a terminal, as a JSON array elsewhere."""
    if as_json or not sys.stdout.isatty():
        print_json(rows)
        return
    if not rows:
        click.echo(empty)
        return
    table = Table(header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console().print(table)


def moment(at_ms: int) -> str:
    """A time for people and programs: ISO 8601, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


def _cell(value: object) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "[green]yes[/]" if value else "[red]no[/]"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
