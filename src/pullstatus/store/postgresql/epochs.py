"""Beginning a new epoch: the database was set back, or is a copy, and an operator has seen to it.

What waits may have been handed out before, so it is marked; pulls get other names; and the store is
at home in the cluster that it is in now. A migration concerned the store that a copy was made of.
"""

from __future__ import annotations

from typing import Final

import msgspec
import psycopg

from pullstatus.errors import OutcomeUnknown
from pullstatus.store.gate import check_open
from pullstatus.store.postgresql import schema, statements
from pullstatus.store.postgresql.asked import Asked
from pullstatus.store.postgresql.gate import LaneGate
from pullstatus.store.postgresql.location import Location
from pullstatus.store.postgresql.opening import there
from pullstatus.store.postgresql.refusals import Known
from pullstatus.store.postgresql.session import is_lost, meaning, open_session
from pullstatus.store.postgresql.standbys import NO_STANDBY, prove_answering
from pullstatus.store.postgresql.tables import PostgresTables
from pullstatus.store.values import Act
from pullstatus.store.verbs.acts import record


def begin_epoch(location: Location, act: Act) -> int:
    """Begin a new epoch; returns its number. For when no server works on the store.

    Raises:
        StoreRefused: there is no store, it is not to be used, or the server is not safe.
        StoreUnavailable: nothing happened.
        OutcomeUnknown: it may have begun, or has on this server alone.
    """
    known = Known()
    session = there(location, lambda: open_session(location, known))
    connection = session.connection
    committing = False
    try:
        found = schema.needed(connection, location.shown)
        schema.check_format(found.format, found.works_with)
        there(location, lambda: prove_answering(location, session, known))
        with connection.transaction():
            connection.execute(statements.OWN_GATE)
            _see_to_migration(connection, copied=found.system != session.found.system)
            connection.execute(_LOCK_ALL)
            connection.execute(statements.OWN_ACTS)
            [(epoch,)] = connection.execute(_EPOCH, (session.found.timeline,)).fetchall()
            detail = f'{{"epoch":{epoch}}}'
            tables = PostgresTables(session, Asked([], b""))
            act_id = record(tables, msgspec.structs.replace(act, detail=detail))
            connection.execute(_MARK_WAITING, (act_id,))
            connection.execute("UPDATE pullstatus.meta SET system = %s", (session.found.system,))
            session.warned = False
            committing = True
    except psycopg.Error as error:
        if committing and is_lost(error):
            raise OutcomeUnknown(
                f"the database did not say whether the new epoch has begun: {_ANOTHER}"
            ) from error
        raise meaning(error) from error
    finally:
        session.close()
    if session.warned:
        raise OutcomeUnknown(f"{NO_STANDBY}; the new epoch is on this server alone: {_ANOTHER}")
    return int(epoch)


_ANOTHER: Final = "begin another one then, which does no harm"


def _see_to_migration(connection: schema.Connection, *, copied: bool) -> None:
    """Refuse a store that is elsewhere, or not filled to its end; a copy takes part in nothing."""
    gate = LaneGate(None)
    gate.know(connection.execute(statements.GATE).fetchall())
    check_open(gate.found, server=not copied)
    if copied:
        connection.execute(statements.SAY_NOTHING)
    else:
        for each in gate.due():
            connection.execute(each.sql, each.values)


_LOCK_ALL: Final = "SELECT count(*) FROM (SELECT FROM pullstatus.mailbox ORDER BY box FOR UPDATE) m"
_EPOCH: Final = """
INSERT INTO pullstatus.epoch (number, system, timeline)
SELECT (SELECT max(number) + 1 FROM pullstatus.epoch), system_identifier, %s
FROM pg_control_system() RETURNING number
"""
_MARK_WAITING: Final = f"""
INSERT INTO pullstatus.again (box, first_seq, count, source_seq, act_id)
SELECT s.box, s.cursor + 1, s.tail - s.cursor, s.cursor + 1, %s FROM ({statements.DERIVED}) s
WHERE s.tail > s.cursor
"""  # noqa: S608 - ours
