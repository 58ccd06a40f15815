"""A connection to the database, set up so that what it is told to commit is committed.

Every connection, the first one and each after a failover, is asked for the same settings, has them
read back, and is refused if the server is not safe (`refusals`). A connection pooler may drop what
it does not know, and say nothing.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8Dumper

from pullstatus.errors import StoreCorrupt, StoreFailed, StoreFull, StoreRefused, StoreUnavailable
from pullstatus.store.postgresql import refusals
from pullstatus.store.postgresql.location import SET_HERE, Location

# The driver tells of what it does not raise, such as a pipeline that ends with its connection: a
# program that keeps no log would have that on its standard error.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

SETTINGS: Final[Mapping[str, str]] = {
    "synchronous_commit": "on",
    # A commit that is cut off by a time limit may be here and nowhere else.
    "statement_timeout": "0",
    # Whoever waits for a lock, or keeps others waiting, gives up and does its group again.
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    # One plan for each statement, by index: a plan that was made while a table was empty reads all
    # of it for as long as nobody has analyzed it.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "search_path": "pg_catalog",
    # What follows is the server's default, which a database or a role may have otherwise.
    "enable_nestloop": "on",
    "enable_indexscan": "on",
    "enable_indexonlyscan": "on",
    # That a wait for a standby was cancelled is told by a warning, and by nothing else.
    "client_min_messages": "notice",
    # Else NULL is a word in an array, and what is under a key of an index is left out by chance.
    "array_nulls": "on",
    "gin_fuzzy_search_limit": "0",
    # A connection holds locks while nothing is asked over it.
    "idle_session_timeout": "0",
}
"""What every session is set to, and must say that it is."""

_STATEMENTS_MAX: Final = 200  # that a connection keeps prepared: more than there are


class Session:
    """One connection that commits.

    Attributes:
        connection: in autocommit: transactions begin and end by what it is told.
        warned: whether the server has warned of something since this was last set to False. That it
            does so while it commits means that a standby may not have what was committed.
        found: what the server told of itself.
        forgotten: up to which time, or number, this has dropped what is too old, by its kind.
            Whoever looks for the oldest begins there: what a snapshot keeps lies before it.
        heard_s: when the server answered a question of many, by the monotonic clock; see `hangs`.
    """

    def __init__(self, connection: psycopg.Connection[TupleRow]) -> None:
        """For `open_session`."""
        self.connection = connection
        self.warned = False
        self.found: refusals.Found
        self.forgotten: Counter[str] = Counter()
        self.heard_s = 0.0

    def close(self) -> None:
        """Give it up; what it was doing goes on or not, as it happens."""
        with contextlib.suppress(psycopg.Error, OSError):
            self.connection.close()


def hear(session: Session, diagnostic: psycopg.errors.Diagnostic) -> None:
    """Take note of what the server says beside its answers."""
    if diagnostic.severity_nonlocalized == "WARNING":
        session.warned = True


def arguments(location: Location, known: refusals.Known) -> dict[str, Any]:
    """How to connect: to a server that writes, with our settings.

    Servers are tried in the order of the URL, but for a former primary that goes on: once one was
    met, the others are tried first.
    """
    options = " ".join(
        f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in SETTINGS.items()
    )
    return {
        **turned(conninfo_to_dict(location.conninfo), known.strayed),
        "autocommit": True,
        "prepare_threshold": 0,
        "options": options,
        "target_session_attrs": "read-write",
        **SET_HERE,
    }


def turned(values: Mapping[str, Any], by: int) -> dict[str, Any]:
    """Parameters of libpq with so many of the first hosts moved to the end."""
    lists = {name: str(values[name]).split(",") for name in _BY_HOST if values.get(name)}
    count = max(map(len, lists.values()), default=1)
    return {
        **values,
        **{
            name: ",".join([*each[by % count :], *each[: by % count]])
            for name, each in lists.items()
            if len(each) == count
        },
    }


_BY_HOST: Final = ("host", "hostaddr", "port")


Watching = Callable[[Session], AbstractContextManager[object]]


def open_session(
    location: Location, known: refusals.Known, watching: Watching = contextlib.nullcontext
) -> Session:
    """Connect, and prove that the server is safe.

    Args:
        watching: for how long it may take to answer; see `hangs`.

    Raises:
        StoreUnavailable: no server of the URL can be written to, now.
        StoreRefused: it is not safe to use; the text says what to change.
        StoreCorrupt: it is not what it was.
    """
    try:
        session = Session(psycopg.connect(**arguments(location, known)))
    except psycopg.Error as error:
        raise meaning(error) from error
    connection = session.connection
    try:
        connection.prepared_max = _STATEMENTS_MAX
        connection.adapters.register_dumper(int, Int8Dumper)  # one statement for small and large
        connection.add_notice_handler(partial(hear, session))
        with watching(session), translated():
            row = connection.execute(refusals.QUESTION, (list(SETTINGS),)).fetchone()
        session.found = refusals.check(row, SETTINGS, known)
    except BaseException:
        session.close()
        raise
    return session


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Say what the database's errors mean for the caller; no name of its own climbs from here."""
    try:
        yield
    except psycopg.Error as error:
        raise meaning(error) from error


def meaning(error: psycopg.Error) -> StoreUnavailable | StoreCorrupt:
    """What an error means, of which it is known that nothing was committed."""
    if isinstance(error, psycopg.errors.DiskFull):
        return StoreFull("the database's disk is full; free some space and try again")
    if isinstance(error, psycopg.errors.DataCorrupted | psycopg.errors.IndexCorrupted):
        return StoreCorrupt(
            "the database is damaged: keep a copy of it, then restore a backup and begin a new"
            " epoch, with `pullstatus store new-epoch`"
        )
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return StoreFailed(
            f"the database does not let this role do what is due ({said(error)}): {TO_GRANT}"
        )
    if isinstance(error, _ABSENT) and not error.diag.context:  # nothing that a trigger looks for
        return StoreFailed(f"something of the store is missing ({said(error)}): {NOT_AS_LEFT}")
    if error.sqlstate is None:  # by libpq, of the way there: addresses are no caller's business
        if isinstance(error, psycopg.DataError):
            return StoreUnavailable("the database's driver does not take a value")
        if _CROWDED.search(str(error)):
            return StoreUnavailable(
                "the database has no connection left for this role: let it have more, or end some"
            )
        return StoreUnavailable("the database cannot be reached")
    return StoreUnavailable(f"the database does not answer as it should ({said(error)})")


_ABSENT: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)
TO_GRANT: Final = (
    "run it as the role that owns the tables, or grant again, as docs/how-to/postgresql.md says"
)
NOT_AS_LEFT: Final = "the database is not as pullstatus left it; restore a backup of it"


def final(refusal: StoreRefused) -> StoreFailed | StoreCorrupt:
    """What it means for a store that is open, if a server cannot be used that it connects to anew.

    Nothing happened, and nothing more will.
    """
    return refusal if isinstance(refusal, StoreCorrupt) else StoreFailed(str(refusal))


def said(error: psycopg.Error) -> str:
    """The first line of what the server or libpq said, which holds no password and no value."""
    primary = error.diag.message_primary
    if primary and isinstance(error, psycopg.DataError):
        return _VALUE.sub('"..."', primary)
    if primary:
        return primary
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


_CROWDED: Final = re.compile(
    "too many connections for|too many clients already|remaining connection slots"
)
_VALUE: Final = re.compile('".*"', re.DOTALL)


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, or leads to a server that must not be written to."""
    return isinstance(
        error,
        psycopg.OperationalError | psycopg.InterfaceError | psycopg.errors.ReadOnlySqlTransaction,
    ) and not isinstance(
        error,
        psycopg.errors.LockNotAvailable
        | psycopg.errors.DiskFull
        | psycopg.errors.TransactionRollback
        | psycopg.errors.ProgramLimitExceeded,
    )
