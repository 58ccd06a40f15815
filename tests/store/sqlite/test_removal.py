"""Removal in steps: each as long as a commit may be, of one mailbox after the other, oldest first.

The clock is the test's: it goes on by as much each time somebody looks at it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pullstatus import limits
from pullstatus.records import Kind
from pullstatus.store import (
    Discard,
    Mailbox,
    Once,
    Outcome,
    Pull,
    open_store,
)
from pullstatus.store.gathering import store as gathering
from pullstatus.store.gathering.operations import Forget, Purge, Removed, Upkeep
from pullstatus.store.gathering.pace import BEHIND_S, PAUSE_BUSY, PAUSE_ELSE, STEP_S, Pace
from pullstatus.store.gathering.store import STEP_MAILBOXES, STEP_REMOVED, GatheredStore
from pullstatus.store.sqlite import fingerprints
from pullstatus.store.sqlite.log import Log
from pullstatus.store.verbs.removal import SLICE
from tests.store.build import NOW_MS, append, fingerprinted, follow_all, pull, records, repeat_key
from tests.store.engines import sqlite_url
from tests.store.sqlite.conftest import Clock, follow

OLD_MS = NOW_MS - 1


def box(number: int) -> Mailbox:
    return Mailbox(number, Kind.DELIVERY_STATUS)


def pulled(log: Log, mailbox: Mailbox, pulls: int, each: int = 1) -> None:
    """A mailbox of which so many pulls took all there was, long ago."""
    for start in range(0, pulls, 500):
        count = min(500, pulls - start)
        log.commit([append(mailbox, records(each), OLD_MS) for _ in range(count)])
        log.commit([pull(mailbox, each, OLD_MS) for _ in range(count)])
    follow(log, mailbox)


def purge(log: Log, *mailboxes: Mailbox) -> Removed:
    """A step as the engine takes it."""
    [removed] = log.commit([Purge(mailboxes, NOW_MS, STEP_REMOVED, STEP_S)])
    assert isinstance(removed, Removed)
    return removed


def rows(log: Log, mailbox: Mailbox) -> int:
    """How many journal rows a mailbox has."""
    state = log.states.draft(mailbox)
    assert state is not None
    count: int = log._connection.execute(
        "SELECT count(*) FROM journal WHERE key >> 40 = ?", (state.number,)
    ).get
    return count


@pytest.mark.parametrize("slices", [1, 2, 5])
def test_a_step_ends_when_its_time_is_over(log: Log, clock: Clock, slices: int) -> None:
    """Whatever it has done by then, but for the first slice: a slow disk, too, gets on."""
    pulled(log, box(1), 400)
    clock.look_s = STEP_S / slices
    removed = purge(log, box(1))
    assert (removed.count, removed.mailboxes) == (slices * SLICE, (box(1),))
    assert removed.more
    assert rows(log, box(1)) == 400 - slices * SLICE


def test_a_step_that_takes_no_time_ends_all_the_same(log: Log) -> None:
    """Its commit has to write what it has removed."""
    pulled(log, box(1), 40, each=100)
    removed = purge(log, box(1))
    assert (removed.count, removed.mailboxes) == (STEP_REMOVED, (box(1),))
    removed = purge(log, *removed.mailboxes)
    assert (removed.count, removed.more, rows(log, box(1))) == (800, False, 0)


def test_what_left_without_a_pull_goes_in_steps_too(log: Log) -> None:
    """Of a mailbox that expired, one row of the journal tells of any number of entries."""
    log.commit([append(box(1), records(7000), OLD_MS)])
    assert log.commit([Discard(box(1), Outcome.EXPIRED, OLD_MS)]) == [7000]
    log.commit([append(box(1), records(1), OLD_MS), pull(box(1), 1, OLD_MS)])
    follow(log, box(1))
    for count, left in ((STEP_REMOVED, 2), (STEP_REMOVED, 2), (601, 0)):
        removed = purge(log, box(1))
        assert (removed.count, removed.more) == (count, left > 0)
        assert rows(log, box(1)) == left
    assert log._connection.execute("SELECT count(*) FROM chunk").get == 0


def test_no_mailbox_waits_behind_a_great_one(log: Log, clock: Clock) -> None:
    """Not even where there is time for a slice a step only; and the great one gets on as well."""
    pulled(log, box(1), 600)
    small = [box(number) for number in range(2, 7)]
    for mailbox in small:
        pulled(log, mailbox, 10)
    clock.look_s = 1.0
    due: tuple[Mailbox, ...] = (box(1), *small)
    for _ in range(1 + len(small)):
        due = purge(log, *due).mailboxes
    assert due == (box(1),)
    assert [rows(log, mailbox) for mailbox in small] == [0] * len(small)
    assert rows(log, box(1)) == 600 - SLICE
    while due:
        due = purge(log, *due).mailboxes
    assert rows(log, box(1)) == 0


@pytest.mark.parametrize("indexed", [False, True])
def test_what_is_remembered_goes_abreast(
    log: Log, clock: Clock, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    """Batches and signatures do not wait for all the records to be forgotten."""
    monkeypatch.setattr(fingerprints, "INDEXED_KEYS", 100)
    if indexed:
        monkeypatch.setattr(limits, "FINGERPRINTS_RECENT_MAX", 0)
    for start in range(0, 1000, 100):
        numbers = list(range(start, start + 100))
        log.commit([fingerprinted(box(1), records(100), numbers, OLD_MS)])
    log.commit([append(box(1), records(1), OLD_MS, key=repeat_key(f"{n}")) for n in range(3)])
    log.commit([Pull(box(1), 1, OLD_MS, once=Once(f"{n}", OLD_MS)) for n in range(3)])
    assert log._connection.execute("SELECT count(*) FROM fingerprint").get == 900 * indexed
    clock.look_s = STEP_S / 3
    [removed] = log.commit([Forget(NOW_MS, NOW_MS, STEP_REMOVED, STEP_S)])
    assert (removed.count, removed.more) == (100 + 3 + 3, True)  # type: ignore[union-attr]
    for table in ("repeat_key", "once"):
        assert log._connection.execute(f"SELECT count(*) FROM {table}").get == 0
    clock.look_s = 0
    [removed] = log.commit([Forget(NOW_MS, NOW_MS, STEP_REMOVED, STEP_S)])
    assert (removed.count, removed.more) == (900, False)  # type: ignore[union-attr]


def test_a_store_removes_of_many_mailboxes_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more than one step looks at."""
    boxes = [box(number) for number in range(1, 2 * STEP_MAILBOXES + 2)]
    steps: list[Removed] = []

    stepping = GatheredStore._step

    async def step(store: GatheredStore, pace: Pace, operation: Upkeep) -> Removed:
        steps.append(await stepping(store, pace, operation))
        return steps[-1]

    async def run() -> None:
        store = await open_store(sqlite_url(tmp_path / "store.db"))
        for mailbox in boxes:
            await store.append(append(mailbox, records(2), OLD_MS))
            for _ in range(2):
                await store.pull(pull(mailbox, 1, OLD_MS))
        await follow_all(store)
        assert await store.purge(left_before_ms=NOW_MS) == 2 * len(boxes)
        assert [row.purged for row in await store.backlog()] == [2] * len(boxes)
        assert await store.purge(left_before_ms=NOW_MS) == 0
        await store.close()

    monkeypatch.setattr(GatheredStore, "_step", step)
    monkeypatch.setattr(gathering, "STEP_REMOVED", 16)
    asyncio.run(run())
    assert all(0 < step.count < 16 + 2 for step in steps)
    assert len(steps) >= 2 * len(boxes) // 16 - 1
    assert {mailbox for step in steps for mailbox in step.mailboxes} <= set(boxes)


def test_the_pauses_of_upkeep_follow_the_load() -> None:
    """They are longer while others work, and the more so the longer a step has to wait for them."""
    pace = Pace(100.0, operations=10)
    now_s = 100.0
    for took_s, operations, pause in (
        (0.25, 11, PAUSE_ELSE),
        (0.25, 13, PAUSE_BUSY),
        (2.0, 30, PAUSE_BUSY),
        (0.25, 31, PAUSE_ELSE),
    ):
        pace.begin_step(now_s)
        now_s += took_s
        assert pace.pause_s(now_s, operations) == pause * took_s


def test_upkeep_that_falls_behind_waits_for_less() -> None:
    """Else what arrives all the time at the full rate would fill the disk."""
    pace = Pace(100.0, operations=10)
    pace.begin_step(100.0 + BEHIND_S - 0.5)
    assert pace.pause_s(100.0 + BEHIND_S - 0.25, 20) == PAUSE_BUSY * 0.25
    pace.begin_step(100.0 + BEHIND_S)
    assert pace.pause_s(100.0 + BEHIND_S + 0.25, 30) == PAUSE_ELSE * 0.25
