"""Faults of the store's disk, and of who shares its file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from pullstatus import limits
from pullstatus.mailbox import parking
from pullstatus.mailbox.pending import Item, wait
from pullstatus.receipts.parts import Part
from pullstatus.receipts.reports import Report
from pullstatus.records import Kind
from pullstatus.store import Tickets, open_store
from tests.e2e.alarms.stories import HOUR_S, Fault, Story, figures
from tests.faults.load import doomed
from tests.faults.test_disk_errors import Disk
from tests.faults.test_full_disk import a_room
from tests.harness import PATIENCE_S, REPLY, STATUS, App, Program, http_request, reply, statuses
from tests.store.build import incompressible

MIB = 1 << 20
SCRAPE_S = 9.0  # Prometheus waits for 10
SLOW_S = 0.6
TEXT_BYTES, TOGETHER = 15_000, 64  # of the records of a batch


def stalled(folder: Path, *flags: str) -> Story:
    """Another program holds the store's file for longer than a pull waits."""
    oldest, refused = "pullstatus_store_oldest_seconds", 'pullstatus_pulls_total{result="1007"}'
    program = Program(folder, *flags)
    app = program.create_app()
    with program:
        program.feed(app, statuses(1))
        scrapes = [figures(program)]
        with contextlib.closing(sqlite3.connect(folder / "mailboxes.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            with program.connect() as wire:
                wire.send(http_request("POST", *app.request()))
                for name, least in ((oldest, 5), (refused, 0)):
                    due_s = time.monotonic() + PATIENCE_S
                    while (scrape := figures(program, within_s=SCRAPE_S))[name] <= least:
                        assert time.monotonic() < due_s
                        time.sleep(0.2)
                    scrapes.append(scrape)
    return Story(*scrapes, step_min=20)


def stalled_workers(folder: Path) -> Story:
    """The same with workers: their store is another process's, which tells of all of them."""
    return stalled(folder, "--workers", "2")


def slow_disk(folder: Path) -> Story:
    """Each sync takes so long, as those of a disk do that somebody else keeps busy."""
    disk = Disk(folder)
    program = Program(folder, environment=disk.environment)
    app = program.create_app()
    with program:
        before = figures(program)
        disk.order(stall_s=SLOW_S)
        program.feed(app, statuses(1))
        assert program.drain(app)
        after = figures(program)
        disk.heal()
    return Story(before, after, commits_are_timed=True)


def filling_disk(folder: Path) -> Story:
    """Another program takes what is free, piece by piece."""
    with a_room(folder) as room:
        program, scrapes = Program(room.folder, environment=room.environment), []
        with program:
            for left in (48 * MIB, 32 * MIB, 16 * MIB):
                room.leave(limits.STORE_RESERVE_BYTES + left)
                scrapes.append(figures(program))
    return Story(*scrapes, step_min=20)


def full_disk(folder: Path) -> Story:
    """There is room for pulls alone: what comes in is refused, and what is pending stays."""
    with a_room(folder) as room:
        program = Program(room.folder, environment=room.environment)
        app = program.create_app()
        asyncio.run(_wait_for_parts(program, app, int(time.time() * 1000) - 2 * HOUR_S * 1000))
        room.leave(limits.STORE_RESERVE_BYTES - MIB)
        scrapes = []
        with program:
            program.until(lambda: "pending" in _put_off(program))
            for _ in range(2):
                assert program.ingest(app, STATUS, statuses(1)).http_status == 503
                scrapes.append(figures(program))
    return Story(*scrapes)


def _put_off(program: Program) -> set[str]:
    """What of its chores a server could not do, as its log says."""
    lines = [json.loads(line) for line in program.log().splitlines() if line.endswith("}")]
    return {line["chore"] for line in lines if line["event"] == "chore put off"}


async def _wait_for_parts(program: Program, app: App, at_ms: int) -> None:
    """The first part of a reply came then; the other one never has."""
    of = Part("7", 2, 1)
    said = Report(Kind.REPLY, b"1", number="13800000001", to="1069", text="half", part=of)
    store = await open_store(program.store)
    live = await parking.live_application(store, app.sdkappid)
    items = [Item("kannel", "gateway", at_ms, said, owner=live.application.owner)]
    await wait(store, live, items, sender="gateway", now_ms=at_ms, ticket=Tickets(bytes)())
    await store.close()


def held_log(folder: Path) -> Story:
    """A program has begun to read the store's file, and does not end, while much comes in."""
    program = Program(folder)
    app = program.create_app()
    texts = [incompressible(TEXT_BYTES, number).decode() for number in range(TOGETHER)]
    batch = json.dumps([reply(1, text=text) for text in texts]).encode()
    file = contextlib.closing(sqlite3.connect(folder / "mailboxes.db"))
    with doomed(program), file as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM mailbox").fetchall()
        for _ in range(256 * MIB // (TEXT_BYTES * TOGETHER) + 1):
            assert program.ingest(app, REPLY, batch).http_status == 200
        return Story(figures(program))


FAULTS: Mapping[Fault, set[str]] = {
    stalled: {"PullstatusStoreStalled", "PullstatusPullsFail"},
    stalled_workers: {"PullstatusStoreStalled", "PullstatusPullsFail"},
    slow_disk: {"PullstatusStoreSlow"},
    filling_disk: {"PullstatusDiskFills"},
    full_disk: {"PullstatusNoRoom", "PullstatusRefusesInput", "PullstatusPendingStays"},
    held_log: {"PullstatusLogGrows"},
}
