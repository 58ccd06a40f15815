"""Marks: one row a group, by which it is learned whether a commit without an answer happened.

    group        INSERT mark (lane, n) ... COMMIT              the answer does not come
    resolver     INSERT mark (lane, n) as a fence, unless it is there; COMMIT

The second waits, at the unique index, until the first transaction has ended, wherever it hangs. If
the mark is there then, the group was committed. If not, the fence is, and the group never can be.
What a server says of a transaction's number is no substitute: after a failover it says it of
another transaction.

The newest mark that was answered must be there whenever we connect anew, or a later one of its
lane in its place. If it is not, the server has lost what it had said was safe. So that this can be
told of a server that comes back, however late, the newest mark of its lane outlives that.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from pullstatus.errors import CommitsLost
from pullstatus.store.postgresql import schema, statements
from pullstatus.store.postgresql.session import Session

_LANE_BITS = 62


class Unsure(Exception):
    """The server warned while it committed: a standby may not have what was committed."""


class Mark(NamedTuple):
    """Which row it is."""

    lane: int
    number: int


def new_lane() -> int:
    """A number for who commits over one connection at a time; nobody has had it."""
    return random.SystemRandom().getrandbits(_LANE_BITS)


def happened(session: Session, lane: int, number: int, *, server: bool = False) -> bool:
    """Whether a group was committed; if not, it never will be. May be asked any number of times.

    Its own commit waits for what the standbys have, so it writes something in any case.

    Raises:
        Unsure: that cannot be said of the standbys.
    """
    connection = session.connection
    session.warned = False
    with connection.transaction():
        connection.execute(statements.FENCE, (lane, number, True, "{}"))
        schema.register(connection, lane, server=server)
        row = connection.execute(statements.IS_FENCE, (lane, number)).fetchone()
    if session.warned:
        raise Unsure
    assert row is not None
    return not row[0]


def prove_kept(session: Session, kept: Mark) -> None:
    """Make sure that the server has the newest group that it acknowledged.

    Raises:
        CommitsLost: it does not.
    """
    if session.connection.execute(_KEPT, (*kept, kept.number)).fetchone() is None:
        raise CommitsLost(
            "the database has lost what it said was safe: it was set back, or a standby took over"
            " that did not have all of it. Nothing more is accepted until an operator has seen to"
            " it and begun a new epoch, with `pullstatus store new-epoch`"
        )


def tidy(session: Session, lane: int) -> None:
    """Remove marks that nobody will ask for: this lane's, and those of lanes that are gone.

    Of a lane that works the newest thousand stay, and whatever is younger than ten minutes: sums
    are brought up to date by them. Of a server's that was not seen for a day the newest stays: it
    may only have been away.
    """
    connection, through = session.connection, session.forgotten["marks"]
    [(newest,)] = connection.execute(_TIDY, (lane, through, lane)).fetchall()
    session.forgotten["marks"] = newest or through
    connection.execute(_TIDY_GONE, (lane,))


# What was put down later, a fence too, was so by a process that had the answer already.
_KEPT = """
SELECT 1 FROM pullstatus.mark
WHERE lane = %s AND number >= %s AND (number > %s OR NOT fence) LIMIT 1
"""
_TIDY = """
WITH gone AS (DELETE FROM pullstatus.mark WHERE lane = %s AND number > %s
    AND number <= (SELECT max(number) - 1000 FROM pullstatus.mark WHERE lane = %s)
    AND at < now() - interval '10 minutes' RETURNING number)
SELECT max(number) FROM gone
"""
_TIDY_GONE = """
WITH gone AS (DELETE FROM pullstatus.lane WHERE lane <> %s AND seen < now() - interval '1 day'
    RETURNING lane, server)
DELETE FROM pullstatus.mark m USING gone WHERE m.lane = gone.lane AND (NOT gone.server
    OR m.number < (SELECT max(number) FROM pullstatus.mark WHERE lane = gone.lane))
"""
