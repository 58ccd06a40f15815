"""Opening a store: the first connection, and whether what lies there is a store that we know."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import psycopg

from pullstatus.errors import StoreFailed, StoreRefused, StoreUnavailable
from pullstatus.store.postgresql import schema
from pullstatus.store.postgresql.location import Location
from pullstatus.store.postgresql.refusals import Known, check_system
from pullstatus.store.postgresql.session import Session, open_session, said
from pullstatus.store.postgresql.standbys import prove_answering

T = TypeVar("T")


class Opened(NamedTuple):
    """A store that was found or made.

    Attributes:
        session: the caller's from now on.
        known: what each further connection to it is held against.
        created: whether this has made it.
    """

    session: Session
    meta: schema.Meta
    known: Known
    created: bool


def open_store(location: Location, *, create: bool) -> Opened:
    """Connect to a store; make it in an empty database, if that is asked for.

    Raises:
        StoreRefused: there is none, it is not safe, or of a format that this version can't use.
    """
    known = Known()
    session = there(location, lambda: open_session(location, known))
    try:
        created = create and schema.meta(session.connection) is None
        if created:
            there(location, lambda: prove_answering(location, session, known))
            created = schema.create(session)
        found = schema.needed(session.connection, location.shown)
        schema.check_format(found.format, found.works_with)
        known.system = found.system
        check_system(session.found.system, known)
    except BaseException:
        session.close()
        raise
    return Opened(session, found, known, created)


def there(location: Location, connect: Callable[[], T]) -> T:
    """What connects at the start of a command or a server: a server that is not there is told.

    Raises:
        StoreRefused: it is not there, or not safe.
    """
    try:
        return connect()
    except StoreUnavailable as error:
        cause, why = error.__cause__, str(error)
        if isinstance(cause, psycopg.Error) and not isinstance(error, StoreFailed):
            why = said(cause)
        if "no password supplied" in why:
            why = "the server wants a password: put it into a file that PGPASSFILE names"
        raise StoreRefused(f"{location.shown} cannot be used: {why}") from error


def holds_store(location: Location) -> bool:
    """Whether there is a store in a database that can be reached."""
    session = there(location, lambda: open_session(location, Known()))
    try:
        return schema.meta(session.connection) is not None
    finally:
        session.close()


def upgrade(location: Location, *, post: bool) -> list[int]:
    """Bring a store to a format of this version; see `schema.upgrade`."""
    known = Known()
    session = there(location, lambda: open_session(location, known))
    try:
        found = schema.meta(session.connection)
        if found is not None and found.format < schema.FORMAT:
            there(location, lambda: prove_answering(location, session, known))
        return schema.upgrade(session, post=post)
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"{error}. Each step is taken whole or not at all, so that servers go on: do it again"
        ) from error
    finally:
        session.close()


def cautions_of(location: Location) -> list[str]:
    """What an operator is told of a server that is not refused; nothing of one that is not there.

    Raises:
        StoreRefused: it is not safe.
    """
    try:
        session = open_session(location, Known())
    except StoreUnavailable:
        return []
    session.close()
    return list(session.found.warnings)
