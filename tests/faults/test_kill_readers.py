"""Kills of consumers and their server at random instants: `make torture-readers` has many more.

`PULLSTATUS_KILLS` and `PULLSTATUS_SEED` are those of `test_kill`; here is one kill for five there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pullstatus.records import Kind
from pullstatus.store import JournalRow, Mailbox, Outcome
from tests.faults import planted
from tests.faults.consumers import Seen, without_a_reader
from tests.faults.killing import Tally, judge, kill_readers
from tests.faults.test_kill import KILLS, SEED


def test_killed_consumers_see_every_record(tmp_path: Path) -> None:
    """Both clients, `pullstatus pull` and curl in a shell, on one mailbox."""
    tally = kill_readers(tmp_path, SEED, max(1, KILLS // 5))
    assert tally.sound, str(tally)
    assert tally.kills.total() == max(1, KILLS // 5)
    assert tally.records


def test_a_consumer_without_a_reader_is_caught(tmp_path: Path) -> None:
    """The run is tested: what it had in hand when it was killed is missing."""
    works, tally = (without_a_reader,), Tally()
    for life in range(planted.LIVES):
        folder = tmp_path / str(life)
        folder.mkdir()
        seed = f"{SEED}/{life}"
        tally = kill_readers(folder, seed, 6, works=works, shell=False, quiet_s=2)
        if tally.never_seen:
            break
    assert tally.never_seen
    assert not tally.acknowledged_by_none  # all of it has left the mailbox
    assert not tally.sound


# --- the judgement --------------------------------------------------------------------------------


def row(first: int, reader: str | None, *, acked: bool = True, given: int = 1) -> JournalRow:
    """A page of two records."""
    return JournalRow(
        Mailbox(1400000001, Kind.DELIVERY_STATUS),
        first,
        2,
        Outcome.PULLED,
        at_ms=1,
        address="",
        key=None if reader else "key",
        count_max=2,
        proof="",
        reader=reader,
        given=given,
        acked_ms=2 if acked and reader else None,
    )


SOUND: dict[str, Seen] = {
    "a": [("p1", "1"), ("p1", "1"), ("p1", "2")],
    "b": [("p2", "3"), ("p2", "4")],
    "command": [("line 0", "5"), ("line 1", "6")],
}
JOURNAL = [
    (row(1, "a", given=2), ["1", "2"]),
    (row(3, "b"), ["3", "4"]),
    (row(5, None), ["5", "6"]),
]


@pytest.mark.parametrize(
    ("seen", "journal", "found"),
    [
        ({}, [], {"given_again": 1}),
        ({"a": [("p1", "1")]}, [], {"never_seen": 1}),
        ({"a": [("p1", "1")], "b": [*SOUND["b"], ("p9", "2")]}, [], {"never_seen": 1}),
        ({"command": [("line 0", "5")]}, [], {"never_seen": 1}),
        ({"a": [*SOUND["a"], ("p7", "2")]}, [], {"seen_twice": 1}),
        ({"command": [*SOUND["command"], ("line 2", "5")]}, [], {"seen_twice": 1}),
        ({"b": [*SOUND["b"], ("p1", "2")]}, [], {"seen_twice": 1}),
        ({}, [(row(2, "b"), ["3"])], {"acknowledged_by_two": 1}),
        ({}, [(row(2, None), ["3"])], {"acknowledged_by_two": 1}),
        ({}, [(row(2, "b", acked=False), ["3"])], {"given_again": 1}),
    ],
)
def test_judgement(
    seen: dict[str, Seen], journal: list[tuple[JournalRow, list[str]]], found: dict[str, int]
) -> None:
    tally = judge(Tally(audited=True), "123456", SOUND | seen, [*JOURNAL, *journal])
    names = ("never_seen", "seen_twice", "acknowledged_by_none", "acknowledged_by_two")
    told = {name: count for name in names if (count := getattr(tally, name))}
    assert told == {name: count for name, count in found.items() if name != "given_again"}
    assert tally.given_again == 1
    assert tally.sound is (not told)


def test_judgement_of_pages_that_stay_in_hand() -> None:
    left = [*JOURNAL[:1], (row(3, "b", acked=False), ["3", "4"]), JOURNAL[2]]
    tally = judge(Tally(audited=True), "123456", SOUND, left)
    assert tally.acknowledged_by_none == 2
    assert not tally.sound
