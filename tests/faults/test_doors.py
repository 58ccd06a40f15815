"""Processes that each have a door to one store, killed under load; and that the judge sees faults.

A longer run, and another one: `PULLSTATUS_KILLS=500 PULLSTATUS_SEED=7`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from pullstatus.store import Again, Backlog, Entry, JournalRow, Outcome
from tests.faults import planted
from tests.faults.doors import LET_GO, Doors, Plant, record_of
from tests.faults.test_kill import KILLS, SEED
from tests.faults.verdict import COPY, Stored, gaps_of, judge, totals_of


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder}/store.db?commits=thread"


def test_killed_processes_lose_nothing_through_their_doors(tmp_path: Path) -> None:
    """Those that live go on; the next life of a killed one goes on where it was."""
    rng = Random(f"{SEED}/doors")
    with Doors(sqlite_url(tmp_path), tmp_path, SEED) as doors:
        doors.start(3)
        for _ in range(max(1, KILLS // 10)):
            doors.answered(rng.randrange(100, 400))
            name = rng.choice(sorted(doors.processes))
            doors.kill(name)
            doors.start_again(name)
        doors.answered(300)
        doors.finish()
    verdict = asyncio.run(judge(sqlite_url(tmp_path), tmp_path, SEED))
    assert verdict.sound, str(verdict)
    assert verdict.killed
    assert verdict.report.acknowledged
    assert verdict.report.delivered


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (planted.loses, "lost"),
        (planted.stores_twice, "duplicated"),
        (planted.counts_twice, "derived"),
        (planted.hands_out_twice, "duplicated"),
        (planted.takes_and_is_silent, "changed"),
        (planted.does_not_look, "false_short"),
        (planted.changes_repeats, "wrong"),
        (planted.shrugs, "unresolved"),
        (planted.forgets_once, "wrong"),
    ],
)
def test_the_judge_finds(tmp_path: Path, plant: Plant, found: str) -> None:
    """A bug strikes by chance, so it is given a few lives."""
    verdicts = []
    for life in range(planted.LIVES):
        folder = tmp_path / str(life)
        folder.mkdir()
        seed = f"{SEED}/{life}"
        with Doors(sqlite_url(folder), folder, seed, plant) as doors:
            doors.start(1)
            doors.answered(300)
            doors.finish()
        verdicts.append(asyncio.run(judge(sqlite_url(folder), folder, seed)))
        if found in verdicts[-1].found:
            return
    pytest.fail("\n".join(map(str, verdicts)))


# --- what is stored -------------------------------------------------------------------------------


def stored(*seqs: int, rows: list[tuple[int, int]] | None = None) -> Stored:
    entries = [Entry(seq, 1, record_of(100 + seq)) for seq in seqs]
    taken = [
        JournalRow(LET_GO, first, count, Outcome.PULLED, 1, "", None, 100, "")
        for first, count in rows or [(1, 2), (3, 1)]
    ]
    return Stored(entries, taken, [])


def test_what_is_stored_has_no_gap() -> None:
    assert not gaps_of(LET_GO, stored(1, 2, 3))


@pytest.mark.parametrize(
    "wrong",
    [
        stored(1, 3),
        stored(1, 2, 3, rows=[(1, 1), (3, 1)]),
        stored(1, 2, 3, rows=[(1, 2), (2, 2)]),
        stored(1, 2, 3, 4),
    ],
    ids=["an entry", "a range", "a range twice", "the rest"],
)
def test_gaps(wrong: Stored) -> None:
    assert gaps_of(LET_GO, wrong)


def test_totals_are_what_the_journal_adds_up_to() -> None:
    sound = Backlog(LET_GO, accepted=3, handed_out=3, waiting=0)
    assert not totals_of(LET_GO, stored(1, 2, 3), sound)
    assert totals_of(LET_GO, stored(1, 2, 3), Backlog(LET_GO, 3, 2, 1))
    assert totals_of(LET_GO, stored(1, 2, 3), None)


def test_a_copy_of_a_copy_is_another_record() -> None:
    twice = stored(1, 2, 3)
    twice.entries = [Entry(seq, 1, record_of(7)) for seq in (1, 2, 3)]
    twice.again = [Again(2, 1, 1, 1), Again(3, 1, 2, 2)]
    assert twice.instances() == {1: 7, 2: 7 + COPY, 3: 7 + 2 * COPY}
