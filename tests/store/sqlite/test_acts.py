"""Acts are chained: whatever is done to the record of them later, `audit` sees it."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from pullstatus.store import Act
from pullstatus.store.acts import HASH_BYTES, chained
from pullstatus.store.sqlite import acts
from pullstatus.store.sqlite.audit import audit
from pullstatus.store.sqlite.connection import open_writer

CHANGES = (
    "UPDATE act SET reason = 'another' WHERE id = 2",
    "UPDATE act SET at_ms = at_ms + 1 WHERE id = 1",
    "UPDATE act SET actor = 'mere', action = 'store' WHERE id = 3",  # the same letters in a row
    "UPDATE act SET ticket = x'00' WHERE id = 3",
    "UPDATE act SET hash = zeroblob(32) WHERE id = 4",
    "UPDATE act SET hash = NULL WHERE id = 4",
    "DELETE FROM act WHERE id = 1",
    "DELETE FROM act WHERE id = 3",
    "UPDATE act SET id = 5 WHERE id = 4",
    "INSERT INTO act SELECT 5, NULL, 4, 'me', 'restore', '', '{}', hash FROM act WHERE id = 4",
    "INSERT INTO act VALUES (5, NULL, 1, 'me', 'restore', '', '{}', NULL)",
)


@pytest.fixture
def recorded(file: Path) -> apsw.Connection:
    connection = open_writer(file)
    for number in range(4):
        act = Act("me", "restore", "", "{}", number, bytes([number]) * 16)
        assert acts.record(connection, act) == acts.record(connection, act) == number + 1
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
    [problem] = findings(recorded)
    assert "is not what was recorded" in problem


def test_acts_from_before_the_chain_are_taken_as_they_are(recorded: apsw.Connection) -> None:
    recorded.execute("UPDATE act SET reason = 'another', hash = NULL")
    assert findings(recorded) == []


def test_a_mark_of_an_act_that_is_gone_shows(recorded: apsw.Connection) -> None:
    """As when the newest are gone, which no chain tells."""
    recorded.execute("INSERT INTO again VALUES (1 << 40, 1, 1, 4)")
    assert findings(recorded) == []
    recorded.execute("DELETE FROM act WHERE id = 4")
    assert findings(recorded) == ["copies are marked with 1 acts that are not on record"]


def test_no_two_acts_are_told_alike() -> None:
    assert (
        len({chained(b"", *told) for told in (("ab", "c"), ("a", "bc"), ("abc",), (b"", "abc"))})
        == 4
    )
    assert chained(b"x", "a") != chained(b"", "a")
