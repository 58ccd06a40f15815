"""Writing tables anew, so that nothing is left in them of what was removed or replaced.

The server's log, its standbys and backups keep what they have for as long as they are set up to.
"""

from __future__ import annotations

from typing import Final

import psycopg

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store.postgresql.location import Location
from pullstatus.store.postgresql.opening import open_store
from pullstatus.store.postgresql.session import meaning

SERVING_BYTES_MAX: Final = 64 * 1024 * 1024  # of a table: a second or two in which nobody uses it

_TABLES: Final = ("chunk", "quarantine", "reader", "journal", "setting")


def rewrite_tables(location: Location, *, serving: bool) -> None:
    """Write each table that holds records or settings anew.

    Args:
        serving: refuse it where that would hold up a server for long.

    Raises:
        StoreRefused: that is so, or this role does not own them.
        StoreUnavailable: somebody used one all the while.
    """
    opened = open_store(location, create=False)
    connection = opened.session.connection
    try:
        for table in _TABLES:
            row = connection.execute(
                "SELECT pg_total_relation_size(%s::regclass)", (f"pullstatus.{table}",)
            ).fetchone()
            if serving and row is not None and row[0] > SERVING_BYTES_MAX:
                raise StoreRefused(
                    f"table pullstatus.{table} is large, and nobody could use it meanwhile; end the"
                    " servers and do this again, or run VACUUM FULL on it when that suits"
                )
            opened.session.warned = False
            connection.execute(f"VACUUM FULL pullstatus.{table}")
            if opened.session.warned:  # it leaves out what it must not touch
                raise StoreRefused(
                    "the tables belong to another role, which must do this: run it as that one"
                )
    except psycopg.errors.LockNotAvailable as error:
        raise StoreUnavailable("others use the tables all the while; try again") from error
    except psycopg.Error as error:
        raise meaning(error) from error
    finally:
        opened.session.close()
