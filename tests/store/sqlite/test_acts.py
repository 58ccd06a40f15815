"""Acts are chained: whatever is done to the record of them later, `audit` sees it."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from pullstatus.store import Act
from pullstatus.store.acts import HASH_BYTES
from pullstatus.store.sqlite import acts
from pullstatus.store.sqlite.audit import audit
from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.verbs.acts import record

# What is done to the file, and the acts that do not hold then.
CHANGES = {
    "UPDATE act SET reason = 'another' WHERE id = 2": [2],
    "UPDATE act SET at_ms = at_ms + 1 WHERE id = 1": [1],
    "UPDATE act SET actor = 'mere', action = 'store' WHERE id = 3": [
        3
    ],  # the same letters in a row
    "UPDATE act SET ticket = x'00' WHERE id = 3": [3],
    "UPDATE act SET ticket = NULL WHERE id = 4": [4],
    "UPDATE act SET hash = zeroblob(32) WHERE id = 4": [4],
    "UPDATE act SET hash = zeroblob(32) WHERE id = 2": [2, 3],
    "UPDATE act SET reason = 'another', hash = zeroblob(32)": [1, 2, 3, 4],
    "DELETE FROM act WHERE id = 1": [2],
    "DELETE FROM act WHERE id = 3": [4],
    "DELETE FROM act WHERE id < 4": [4],
    "UPDATE act SET id = 5 WHERE id = 4": [5],
    "UPDATE act SET id = -id WHERE id > 1": [-4, -3, -2, 1],
    "INSERT INTO act SELECT 5, NULL, 4, 'me', 'restore', '', '{}', hash FROM act WHERE id = 4": [5],
    "INSERT INTO act VALUES (0, NULL, 1, 'me', 'restore', '', '{}', x'')": [0],
}


@pytest.fixture
def recorded(file: Path) -> apsw.Connection:
    connection = open_writer(file)
    for number in range(4):
        act = Act("me", "restore", "", "{}", number, bytes([number + 1]) * 16)
        assert (
            record(acts.ActRows(connection), act)
            == record(acts.ActRows(connection), act)
            == number + 1
        )
    return connection


def findings(connection: apsw.Connection) -> list[str]:
    return [finding.problem for finding in audit(connection, lambda _done, _total: None).findings]


def test_a_record_that_nobody_touched_is_sound(recorded: apsw.Connection) -> None:
    assert findings(recorded) == []
    hashes = [row[0] for row in recorded.execute("SELECT hash FROM act ORDER BY id")]
    assert len(set(hashes)) == 4
    assert {len(found) for found in hashes} == {HASH_BYTES}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_shows(recorded: apsw.Connection, change: str) -> None:
    recorded.execute(change)
    told = findings(recorded)
    assert [int(problem.split()[1]) for problem in told] == CHANGES[change]
    assert all("is not what was recorded" in problem for problem in told)


def test_rows_without_a_hash_are_none_of_ours(recorded: apsw.Connection) -> None:
    with pytest.raises(apsw.ConstraintError):
        recorded.execute("UPDATE act SET hash = NULL")


def test_of_many_the_first_are_told(recorded: apsw.Connection) -> None:
    for number in range(4, 30):
        record(
            acts.ActRows(recorded), Act("me", "restore", "", "{}", number, bytes([number + 1]) * 16)
        )
    recorded.execute("UPDATE act SET reason = 'another'")
    *told, rest = findings(recorded)
    assert len(told) == 20
    assert rest.startswith("10 more acts are not what was recorded")


def test_what_the_rows_alone_cannot_tell(recorded: apsw.Connection) -> None:
    """The newest is gone, or all are chained anew: it takes a hash that was kept elsewhere."""
    kept = newest(recorded)
    recorded.execute("DELETE FROM act WHERE id = 4")
    assert findings(recorded) == []
    assert newest(recorded) != kept
    recorded.execute("DELETE FROM act")
    for number in range(4):
        record(
            acts.ActRows(recorded),
            Act("her", "restore", "", "{}", number, bytes([number + 1]) * 16),
        )
    assert findings(recorded) == []
    assert newest(recorded) != kept


def newest(connection: apsw.Connection) -> object:
    return connection.execute("SELECT hash FROM act ORDER BY id DESC LIMIT 1").get


def test_a_mark_of_an_act_that_is_gone_shows(recorded: apsw.Connection) -> None:
    """As when the newest are gone, which no chain tells."""
    recorded.execute("INSERT INTO again VALUES (1 << 40, 1, 1, 4)")
    assert findings(recorded) == []
    recorded.execute("DELETE FROM act WHERE id = 4")
    assert findings(recorded) == ["copies are marked with 1 acts that are not on record"]
