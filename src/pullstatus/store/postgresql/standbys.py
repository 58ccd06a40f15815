"""Says of a commit that has no answer that it waits for a standby, where that is so.

The database goes on meanwhile, and answers whatever is only read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import psycopg

from pullstatus.errors import OutcomeUnknown, StoreRefused, StoreUnavailable
from pullstatus.store.postgresql.location import APPLICATION, Location
from pullstatus.store.postgresql.refusals import Known
from pullstatus.store.postgresql.session import open_session

NO_STANDBY: Final = (
    "no standby answers, and a commit waits for one: start it, or empty synchronous_standby_names"
)


@contextlib.contextmanager
def missed(location: Location, known: Known) -> Iterator[None]:
    """While something is committed for which somebody can wait for a connection more."""
    try:
        yield
    except (StoreUnavailable, OutcomeUnknown) as error:
        if type(error) in (StoreUnavailable, OutcomeUnknown) and _awaited(location, known):
            raise type(error)(NO_STANDBY) from error
        raise


def _awaited(location: Location, known: Known) -> bool:
    """Whether a commit of this role's waits for a standby; False if that cannot be asked."""
    try:
        session = open_session(location, known)
    except (StoreUnavailable, StoreRefused):
        return False
    try:
        return session.connection.execute(_AWAITED, (APPLICATION,)).fetchone() == (True,)
    except psycopg.Error:
        return False
    finally:
        session.close()


_AWAITED: Final = """
SELECT EXISTS (SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = %s AND wait_event = 'SyncRep')
"""
