"""What operators did, as rows of the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import apsw

from pullstatus.store.acts import problems_of
from pullstatus.store.values import NO_TICKET, Act, ActRow

_COLUMNS = "SELECT id, actor, action, reason, detail, at_ms, ticket, hash FROM act"


class ActRows:
    """The rows of acts, within an open transaction; see `verbs.tables`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def act_number(self, ticket: bytes) -> int | None:
        """See `ActTable.act_number`."""
        return cast(
            "int | None",
            self._connection.execute("SELECT id FROM act WHERE ticket = ?", (ticket,)).get,
        )

    def newest_act(self) -> tuple[int, bytes] | None:
        """See `ActTable.newest_act`."""
        return cast(
            "tuple[int, bytes] | None",
            self._connection.execute(
                "SELECT id, hash FROM act ORDER BY id DESC LIMIT 1"
            ).fetchone(),
        )

    def add_act(self, act_id: int, act: Act, proof: bytes) -> None:
        """See `ActTable.add_act`."""
        members = (act_id, act.ticket, act.at_ms, act.actor, act.action, act.reason, act.detail)
        self._connection.execute(
            "INSERT INTO act VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*members, proof)
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
    yield from problems_of(rows)
    stray = connection.execute(
        "SELECT count(DISTINCT act_id) FROM again WHERE act_id NOT IN (SELECT id FROM act)"
    ).get
    if stray:
        yield f"copies are marked with {stray} acts that are not on record"
