"""Faults of those who pull, and of what is in mailboxes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from pullstatus.mailbox.following import Follower
from pullstatus.records import Kind
from pullstatus.server import serve
from pullstatus.store import Append, Aside, Discard, Mailbox, Outcome, Pull, Reader, open_store
from tests.e2e.alarms.stories import HOUR_S, Fault, Scrape, Story, figures, figures_of
from tests.harness import PATIENCE_S, Program, status, statuses


def unpulled(folder: Path) -> Story:
    program = Program(folder)
    app = program.create_app()
    with program:
        before = figures(program)
        program.feed(app, statuses(5))
        after = figures(program)
    return Story(before, after)


def pulled_elsewhere(folder: Path) -> Story:
    """What comes in by one server goes out by another one, and some of it waits meanwhile."""
    program = Program(folder)
    app = program.create_app()
    with program:
        program.feed(app, statuses(5))
        program.pull(app, max=1)
        before = figures(program)
        program.feed(app, statuses(5))
        program.pull(app, max=1)
        after = figures(program)

    def but_for(counted: str) -> Scrape:
        return {**after, **{name: before[name] for name in before if name.startswith(counted)}}

    giving = Story(before, but_for("pullstatus_records_in_total"))
    return Story(before, but_for("pullstatus_records_out_total"), beside=giving)


def long_ago(folder: Path) -> Story:
    """A record has waited since this morning, and a page is in a hand since noon."""
    now_ms = int(time.time() * 1000)
    program = Program(folder)
    mailbox = Mailbox(program.create_app().sdkappid, Kind.DELIVERY_STATUS)

    async def fill() -> None:
        store = await open_store(program.store)
        entries = [json.dumps(status(number)).encode() for number in range(2)]
        await store.append(Append(mailbox, entries, now_ms - 7 * HOUR_S * 1000))
        await store.pull(Pull(mailbox, 1, now_ms - 2 * HOUR_S * 1000, reader=Reader("worker")))
        await store.close()

    asyncio.run(fill())
    with program:
        after = figures(program)
    return Story(after)


def parked(folder: Path) -> Story:
    program = Program(folder)
    app = program.create_app()
    token = program.create_token("gateway", app=app)
    with program:
        before = figures(program)
        assert program.post(f"/callbacks/{token}", [{"mobile": 7}]).http_status == 200

    async def expire() -> None:
        store = await open_store(program.store)
        parked = Mailbox(app.sdkappid, Aside.PARKED)
        assert await store.discard(Discard(parked, Outcome.EXPIRED, int(time.time() * 1000))) == 1
        await store.close()

    asyncio.run(expire())
    with program:
        assert program.post(f"/callbacks/{token}", [{"mobile": 8}]).http_status == 200
        after = figures(program)
    return Story(before, after)


def damaged(folder: Path) -> Story:
    program = Program(folder)
    app = program.create_app()
    with program:
        program.feed(app, statuses(5))
        before = figures(program)
    path = folder / "mailboxes.db"
    path.write_bytes(path.read_bytes().replace(b'"sid":"8:3"', b'"sid":"8:7"'))
    with program:
        program.drain(app)
        after = figures(program)
    return Story(before, after)


def restored(folder: Path) -> Story:
    """The store's sums are those of the backup, which had not lost as much."""
    lost, known = sums_of_losses(folder, 40, 15)
    return Story(lost, known, known, step_min=40)


def lost_after_a_restore(folder: Path) -> Story:
    return Story(*sums_of_losses(folder, 40, 15, 16), step_min=20)


def sums_of_losses(folder: Path, *counts: int) -> list[Scrape]:
    """What a server tells over a store that has lost so many."""
    program = Program(folder)
    program.create_app()
    with program:
        found = figures(program)
    sums = ("pullstatus_quarantined_total", "pullstatus_parked_expired_total")
    assert set(sums) <= set(found)
    return [{**found, **dict.fromkeys(sums, count)} for count in counts]


def unfollowed(folder: Path) -> Story:
    """What was stored last is lost: what finds and counts by it is not past that hours later."""
    behind = "pullstatus_unfollowed_seconds"
    passed_s, tried = 0, asyncio.Event()
    program = Program(folder)
    app = program.create_app()

    class Follows(Follower):
        async def work(self) -> None:
            await super().work()
            tried.set()

    def clock() -> float:
        return time.monotonic() + passed_s

    async def fill() -> None:
        store = await open_store(program.store)
        mailbox = Mailbox(app.sdkappid, Kind.DELIVERY_STATUS)
        entries = [json.dumps(status(1)).encode()]
        await store.append(Append(mailbox, entries, int(time.time() * 1000)))
        await store.close()

    async def run() -> Scrape:
        nonlocal passed_s
        async with program.inside(), program.client() as client, asyncio.timeout(PATIENCE_S):
            await tried.wait()
            passed_s = 2 * HOUR_S
            while (scrape := await figures_of(client))[behind] < HOUR_S:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        return scrape

    asyncio.run(fill())
    with closing(sqlite3.connect(folder / "mailboxes.db")) as file, file:
        assert file.execute("DELETE FROM chunk").rowcount == 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(serve, "Follower", partial(Follows, clock=clock))
        return Story(asyncio.run(run()))


FAULTS: Mapping[Fault, set[str]] = {
    unpulled: {"PullstatusNobodyPulls"},
    pulled_elsewhere: set(),
    long_ago: {"PullstatusWaitingTooOld", "PullstatusPageInHand"},
    parked: {"PullstatusParked", "PullstatusParkedLost"},
    damaged: {"PullstatusQuarantined"},
    restored: set(),
    lost_after_a_restore: {"PullstatusQuarantined", "PullstatusParkedLost"},
    unfollowed: {"PullstatusSearchBehind"},
}
