"""What the demonstration shows: two tables, a command to paste, and a line of figures.

Made for 80 columns. Pure: values in, text or something rich can print out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from pullstatus.records import UTC8

Record = Mapping[str, object]


class Sample(NamedTuple):
    """How the server stands at a moment (`at_s`, of any clock that only goes forward)."""

    at_s: float
    taken_in: int
    handed_out: int
    waiting: int
    commits: int


def status_table(records: Sequence[Record]) -> Table:
    """Delivery statuses, one a row."""
    table = _table("received UTC+8", "number", "status", "code", "meaning")
    for record in records:
        status = str(record["report_status"])
        table.add_row(
            str(record["user_receive_time"])[-8:],
            _number(record),
            Text(status, "green" if status == "SUCCESS" else "red"),
            Text(str(record["errmsg"])),
            Text(str(record["description"])),
        )
    return table


def reply_table(records: Sequence[Record]) -> Table:
    """Replies, one a row. What people wrote is shown as text, never as markup."""
    table = _table("written UTC+8", "number", "signature", "text")
    for record in records:
        written = datetime.fromtimestamp(int(str(record["time"])), UTC8)
        table.add_row(
            f"{written:%H:%M:%S}",
            _number(record),
            Text(str(record["sign"])),
            Text(str(record["text"])),
        )
    return table


def curl_line(address: str, path: str, body: bytes) -> str:
    """A pull for a shell. Neither path nor body may hold a single quote; ours don't."""
    assert "'" not in path
    assert b"'" not in body
    return f"curl -s '{address}{path}' -d '{body.decode()}'"


def figures_line(then: Sample, now: Sample, elapsed_s: float) -> str:
    """The totals as of `now`, and how fast they grew since `then`."""
    span_s = now.at_s - then.at_s
    minutes, seconds = divmod(int(elapsed_s), 60)

    def rate(before: int, after: int) -> str:
        return f"{(after - before) / span_s if span_s > 0 else 0:.1f}/s"

    return (
        f"{minutes:02}:{seconds:02}"
        f"  in {now.taken_in:,} ({rate(then.taken_in, now.taken_in)})"
        f"  out {now.handed_out:,}"
        f"  waiting {now.waiting:,}"
        f"  commits {rate(then.commits, now.commits)}"
    )


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1])
    return table


def _number(record: Record) -> str:
    return f"+{record['nationcode']} {record['mobile']}"
