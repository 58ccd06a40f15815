"""What operators did, as rows of the file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import apsw

from pullstatus.store.acts import NOTHING_BEFORE, breaks, chained
from pullstatus.store.values import NO_TICKET, Act, ActRow

_NEWEST = "SELECT id, hash FROM act ORDER BY id DESC LIMIT 1"
_COLUMNS = "SELECT id, actor, action, reason, detail, at_ms, ticket, hash FROM act"
_PROBLEMS_MAX = 20


def record(connection: apsw.Connection, act: Act) -> int:
    """Put an act on record behind the newest one, unless it is; returns its number."""
    known = number(connection, act)
    if known is not None:
        return known
    newest, before = connection.execute(_NEWEST).fetchone() or (0, NOTHING_BEFORE)
    act_id = int(newest) + 1
    members = (act_id, act.ticket, act.at_ms, act.actor, act.action, act.reason, act.detail)
    connection.execute(
        "INSERT INTO act VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*members, chained(before, act_id, act)),
    )
    return act_id


def number(connection: apsw.Connection, act: Act) -> int | None:
    """The number of an act; None if it is not on record."""
    return cast(
        "int | None", connection.execute("SELECT id FROM act WHERE ticket = ?", (act.ticket,)).get
    )


def step(
    connection: apsw.Connection, first: int, last: int, rows_max: int, *, backwards: bool
) -> list[ActRow]:
    """A step of the acts numbered from `first` to `last`."""
    order = "DESC" if backwards else ""
    rows = connection.execute(
        f"{_COLUMNS} WHERE id BETWEEN ? AND ? ORDER BY id {order} LIMIT ?", (first, last, rows_max)
    )
    return [_row(row) for row in rows]


def _row(row: tuple[Any, ...]) -> ActRow:
    act_id, actor, action, reason, detail, at_ms, ticket, found = row
    # Those from before there were tickets have none.
    act = Act(actor, action, reason, detail, at_ms, NO_TICKET if ticket is None else ticket)
    return ActRow(act_id, act, found)


def problems(connection: apsw.Connection) -> Iterator[str]:
    """What is wrong with the record of acts: it reads each of them once, and no record."""
    rows = map(_row, connection.execute(f"{_COLUMNS} ORDER BY id"))
    found = breaks(rows)
    yield from map(str, islice(found, _PROBLEMS_MAX))
    if more := sum(1 for _ in found):
        yield f"{more} more acts are not what was recorded; `pullstatus acts verify` lists them"
    stray = connection.execute(
        "SELECT count(DISTINCT act_id) FROM again WHERE act_id NOT IN (SELECT id FROM act)"
    ).get
    if stray:
        yield f"copies are marked with {stray} acts that are not on record"
