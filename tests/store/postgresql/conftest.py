"""A database of PostgreSQL, and a store in it whose lane is in this process."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from pullstatus.store import Store
from pullstatus.store.gathering.thread import ThreadChannel
from pullstatus.store.gathering.writer import Writer
from pullstatus.store.postgresql import PostgresStore, hangs
from pullstatus.store.postgresql.log import Log
from pullstatus.store.postgresql.session import SETTINGS
from tests.harness import PATIENCE_S
from tests.store.build import until
from tests.store.engines import ENGINES, Tested, server


@pytest.fixture
def database() -> Iterator[str]:
    """An empty database, for tools as they are."""
    with server().database() as url:
        yield url


@pytest.fixture
def engine() -> Tested:
    """Takes the place of the fixture that goes over all engines."""
    return ENGINES["postgresql"]


@pytest.fixture
def url(database: str) -> str:
    """The same, for a store."""
    return f"{database}&commits=thread"


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[TupleRow]]:
    """A connection beside the store's own."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


async def until_locked(connection: psycopg.Connection[TupleRow]) -> None:
    """Until somebody waits for a lock in the database of a connection."""
    question = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    await until(lambda: connection.execute(question).fetchall() != [(0,)])


def writer_of(store: Store) -> Writer:
    """Where operations of a store gather."""
    assert isinstance(store, PostgresStore)
    return store._writer


def log_of(store: Store) -> Log:
    """The lane of a store."""
    assert isinstance(store, PostgresStore)
    channel = store._writer._channel
    assert isinstance(channel, ThreadChannel)
    log = channel._committer._log
    assert isinstance(log, Log)
    return log


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a lock, or keeps others waiting, does so for as long as a test does."""
    be_patient(monkeypatch)


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, for stores that are opened from now on."""
    for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
        monkeypatch.setitem(SETTINGS, name, "1min")
    monkeypatch.setattr(hangs, "HANGS_S", PATIENCE_S)
