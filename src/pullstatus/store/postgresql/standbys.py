"""Says of a commit that has no answer that it waits for a standby, where that is so.

The database goes on meanwhile, and answers whatever is only read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import psycopg

from pullstatus.errors import OutcomeUnknown, StoreRefused, StoreUnavailable
from pullstatus.store.postgresql import schema
from pullstatus.store.postgresql.hangs import Hangs
from pullstatus.store.postgresql.location import APPLICATION, Location
from pullstatus.store.postgresql.refusals import Known
from pullstatus.store.postgresql.session import Session, open_session, translated

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


def prove_answering(location: Location, session: Session, known: Known) -> None:
    """Commit what changes nothing, before something is whose wait for a standby has no limit.

    While none answers no more than one waits there, as of lanes: see `schema.register_first`.

    Raises:
        StoreUnavailable: no standby answers.
    """
    hangs = Hangs()
    try:
        with missed(location, known), hangs.watching(session), translated():
            session.connection.execute(_PROOF, (schema.BEGINS,))
    finally:
        hangs.close()


_PROOF: Final = """
SELECT pg_logical_emit_message(true, 'pullstatus', '') FROM pg_advisory_xact_lock(%s)
"""


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


class Waits:
    """Looks whether a backend waits for a standby for long, and ends its wait then.

    What it has written is on this server alone, so far, and it is warned of that.
    """

    def __init__(self, location: Location, known: Known, pid: int) -> None:
        """Nobody has looked yet."""
        self._location = location
        self._known = known
        self._pid = pid
        self._waited = False

    def look(self) -> None:
        """End its wait if it stood in one when this was last called, too.

        Of a server that cannot be asked nothing is known; the next look may tell.
        """
        with contextlib.suppress(StoreUnavailable, StoreRefused):
            session = open_session(self._location, self._known)
            try:
                with translated():
                    row = session.connection.execute(_WAITS, (self._waited, self._pid)).fetchone()
                self._waited = row is not None
            finally:
                session.close()


_WAITS: Final = """
SELECT CASE WHEN %s THEN pg_cancel_backend(pid) END FROM pg_stat_activity
WHERE pid = %s AND datname = current_database() AND wait_event = 'SyncRep'
"""


_AWAITED: Final = """
SELECT EXISTS (SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = %s AND wait_event = 'SyncRep')
"""
