"""The embedded engine alone: its file, and doors to what is inside."""

from pathlib import Path

import pytest

from pullstatus.store import Follow, Followed, Mailbox
from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.sqlite.log import Log
from tests.store.engines import ENGINES, Tested, sqlite_url


class Clock:
    """Seconds, of which each look takes some."""

    now_s = 0.0
    look_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.look_s
        return self.now_s


def follow(log: Log, mailbox: Mailbox) -> None:
    """Move the mark of a mailbox to its tail: nothing is removed before."""
    state = log.states.draft(mailbox)
    assert state is not None
    mark = Followed(max(state.purged, state.followed), max(state.purged, state.tallied), state.turn)
    if mark.through < state.tail:
        assert log.commit([Follow(mailbox, mark, state.tail, None, [])]) == [True]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def engine() -> Tested:
    """Takes the place of the fixture that goes over all engines."""
    return ENGINES["sqlite-thread"]


@pytest.fixture
def url(file: Path) -> str:
    """Of a store that is not there yet.

    These look inside, where the engine shares our process; `test_process` is for the other way.
    """
    return sqlite_url(file)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(file: Path, clock: Clock) -> Log:
    """A log by that clock, of a file that is not synced."""
    connection = open_writer(file)
    connection.pragma("synchronous", 0)
    return Log(connection, clock=clock)
