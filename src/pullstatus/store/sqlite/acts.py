"""What operators did, as rows of the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import apsw

from pullstatus.store.acts import chained
from pullstatus.store.values import Act

_NEWEST = "SELECT id, hash FROM act ORDER BY id DESC LIMIT 1"


def record(connection: apsw.Connection, act: Act) -> int:
    """Put an act on record behind the newest one, unless it is; returns its number."""
    known = number(connection, act)
    if known is not None:
        return known
    newest, before = connection.execute(_NEWEST).fetchone() or (0, None)
    act_id = int(newest) + 1
    members = (act_id, act.ticket, act.at_ms, act.actor, act.action, act.reason, act.detail)
    connection.execute(
        "INSERT INTO act VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*members, chained(before or b"", *members)),
    )
    return act_id


def number(connection: apsw.Connection, act: Act) -> int | None:
    """The number of an act; None if it is not on record."""
    return cast(
        "int | None", connection.execute("SELECT id FROM act WHERE ticket = ?", (act.ticket,)).get
    )


def problems(connection: apsw.Connection) -> Iterator[str]:
    """What is wrong with the record of acts. Rows from before there was a chain are not proven."""
    before: bytes | None = None
    for *members, found in connection.execute(
        "SELECT id, ticket, at_ms, actor, action, reason, detail, hash FROM act ORDER BY id"
    ):
        if found is None and before is None:
            continue
        if found is None or members[1] is None or found != chained(before or b"", *members):
            yield f"act {members[0]} is not what was recorded, or one before it is missing"
            break
        before = found
    stray = connection.execute(
        "SELECT count(DISTINCT act_id) FROM again WHERE act_id NOT IN (SELECT id FROM act)"
    ).get
    if stray:
        yield f"copies are marked with {stray} acts that are not on record"
