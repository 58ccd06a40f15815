"""What operators did, as rows of the file."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from pullstatus.store.acts import chained

_NEWEST = "SELECT id, hash FROM act ORDER BY id DESC LIMIT 1"


def record(
    connection: apsw.Connection,
    *,
    ticket: bytes | None,
    at_ms: int,
    actor: str,
    action: str,
    reason: str,
    detail: str,
) -> int:
    """Put an act on record, behind the newest one; returns its number."""
    newest, before = connection.execute(_NEWEST).fetchone() or (0, None)
    members = (newest + 1, ticket, at_ms, actor, action, reason, detail)
    connection.execute(
        "INSERT INTO act VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*members, chained(before or b"", *members)),
    )
    return int(newest) + 1


def problems(connection: apsw.Connection) -> Iterator[str]:
    """What is wrong with the record of acts. Rows from before there was a chain are not proven."""
    before: bytes | None = None
    for *members, found in connection.execute(
        "SELECT id, ticket, at_ms, actor, action, reason, detail, hash FROM act ORDER BY id"
    ):
        if found is None and before is None:
            continue
        if found is None or found != chained(before or b"", *members):
            yield f"act {members[0]} is not what was recorded, or one before it is missing"
            break
        before = found
    stray = connection.execute(
        "SELECT count(DISTINCT act_id) FROM again WHERE act_id NOT IN (SELECT id FROM act)"
    ).get
    if stray:
        yield f"copies are marked with {stray} acts that are not on record"
