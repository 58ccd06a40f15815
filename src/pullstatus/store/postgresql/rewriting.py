"""Writing tables anew, so that nothing is left in them of what was removed or replaced.

The server's log, its standbys and backups keep what they have for as long as they are set up to.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final

import psycopg

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store.postgresql.location import Location
from pullstatus.store.postgresql.opening import Opened, open_store
from pullstatus.store.postgresql.schema import ALIVE_S, Connection, servers
from pullstatus.store.postgresql.session import translated
from pullstatus.store.postgresql.standbys import NO_STANDBY, Waits, prove_answering

SERVING_BYTES_MAX: Final = 64 * 1024 * 1024  # of a table: a second or two in which nobody uses it
LOOK_S: Final = 20.0  # between two looks at one that is written; it may wait so long for a standby

_TABLES: Final = ("chunk", "quarantine", "reader", "journal", "setting")


def rewrite_tables(location: Location, *, serving: bool) -> None:
    """Write each table that holds records or settings anew.

    Args:
        serving: refuse it where that would hold up a server for long; else another server than the
            one whose start this is.

    Raises:
        StoreRefused: that is so, or this role may not.
        StoreUnavailable: somebody used one all the while, or no standby answers.
    """
    opened = open_store(location, create=False)
    try:
        with translated():
            _check_rights(opened.session.connection)
            _check_size(opened.session.connection, servers_max=0 if serving else 1)
        for table in _TABLES:
            prove_answering(location, opened.session, opened.known)
            _write_anew(location, opened, table)
    finally:
        opened.session.close()


def _check_rights(connection: Connection) -> None:
    """Refuse what the database would leave out, with no more than a warning."""
    row = connection.execute(_FOREIGN, (list(_TABLES),)).fetchone()
    if row is not None:
        raise StoreRefused(
            f"the tables belong to another role: as {row[0]}, run `pullstatus rewrite`"
        )


# From PostgreSQL 17 on others can be given the right, too. Whoever owns the database has it.
_FOREIGN: Final = """
SELECT pg_get_userbyid(c.relowner) FROM pg_class c, pg_database d
WHERE c.relnamespace = 'pullstatus'::regnamespace AND c.relname = ANY(%s)
    AND d.datname = current_database()
    AND NOT pg_has_role(c.relowner, 'USAGE') AND NOT pg_has_role(d.datdba, 'USAGE')
    AND NOT CASE WHEN current_setting('server_version_num')::int < 170000 THEN false
        ELSE has_table_privilege(c.oid, 'MAINTAIN') END
LIMIT 1
"""


def _check_size(connection: Connection, *, servers_max: int) -> None:
    """Refuse large tables beside more servers than that."""
    row = connection.execute(_LARGEST, (list(_TABLES),)).fetchone()
    assert row is not None
    table, size = row
    if size > SERVING_BYTES_MAX and servers(connection) > servers_max:
        raise StoreRefused(
            f"table pullstatus.{table} has {size >> 20} MiB, and writing it anew would hold up all"
            " servers for long: stop them, and run `pullstatus rewrite`; each counts as gone"
            f" {ALIVE_S} seconds after it was seen last"
        )


_LARGEST: Final = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relnamespace = 'pullstatus'::regnamespace AND relname = ANY(%s) ORDER BY 2 DESC LIMIT 1
"""


def _write_anew(location: Location, opened: Opened, table: str) -> None:
    """Write a table anew; whoever uses it waits until a standby has that, too.

    A wait for one has no end of its own, nor is it one of those that are given up: what was written
    is written. So one that takes long is ended, and the table is free again.
    """
    session = opened.session
    session.warned = False
    with translated():
        # What libpq calls it may be a pooler's number for its client.
        [(pid,)] = session.connection.execute("SELECT pg_backend_pid()").fetchall()
    waits = Waits(location, opened.known, pid)
    with ThreadPoolExecutor(1) as beside:
        written = beside.submit(session.connection.execute, f"VACUUM FULL pullstatus.{table}")
        while not wait([written], LOOK_S).done:
            waits.look()
    try:
        with translated():
            written.result()
    except StoreUnavailable as error:
        if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            raise StoreUnavailable("others use the tables all the while; try again") from error
        raise
    if session.warned:  # of a wait that was ended
        raise StoreUnavailable(NO_STANDBY)
