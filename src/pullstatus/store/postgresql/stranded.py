"""Ends transactions of ours whose clients stand still, since others wait for what they have locked.

A process can be stopped for long while its machine keeps its connection open. The database's own
limit on idle transactions ends most of what such a process leaves, but not all: it counts from when
an answer to a whole trip was sent, and any message behind it, or a part of one, stops the count
without its transaction going on. The driver sends such a message (`Flush`) where answers come in
more than one piece. So whoever meets a lock in vain looks for such transactions, too, and so does
each lane from time to time: they hold up the removal of dead rows, also where nobody waits.
"""

from __future__ import annotations

import contextlib
from typing import Final

import psycopg

from pullstatus.store.postgresql.location import APPLICATION
from pullstatus.store.postgresql.session import SETTINGS, Session

# Only what waits for its client, and has locked more than readers do: these may read slowly.
# A transaction that is ended just as it goes on is one whose connection was lost: its mark tells.
_END: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity a
WHERE datname = current_database() AND application_name = %s AND pg_has_role(usesysid, 'USAGE')
    AND wait_event_type = 'Client' AND state_change < now() - %s::interval
    AND EXISTS (SELECT FROM pg_locks l
        WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.mode <> 'AccessShareLock')
"""
_LIMIT: Final = SETTINGS["idle_in_transaction_session_timeout"]


def end_stranded(session: Session) -> None:
    """End the transactions that have waited for their client for longer than the limit.

    Raises:
        psycopg.Error: the connection is lost.
    """
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):  # a superuser's
        session.connection.execute(_END, (APPLICATION, _LIMIT))
