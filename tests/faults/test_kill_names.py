"""kill -9 while sends are registered: a report's names and counts are kept once, or not at all.

`PULLSTATUS_KILLS` and `PULLSTATUS_SEED` are those of `test_kill`; here is one kill for ten there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

import httpx
import pytest

from pullstatus.mailbox.names import Told, names_of
from pullstatus.records.hours import hour_of
from pullstatus.store import open_store
from tests.e2e.conftest import master_key
from tests.faults.load import doomed
from tests.faults.test_kill import KILLS, SEED
from tests.harness import PATIENCE_S, App, Program
from tools.postgresql import PostgreSQL

PAUSE_S = 0.01
EVER_HOURS = 1 << 40


class Sender:
    """Whoever sends, and repeats a report until it is told of success, over all lives.

    Attributes:
        sids: what each gateway's id is to lead to.
        reports: how many had success.
    """

    def __init__(self, program: Program, app: App, rng: Random) -> None:
        self.sids: dict[str, str] = {}
        self.reports = 0
        self._program = program
        self._path = f"/ingest/{app.sdkappid}/sends"
        self._rng = rng
        self._open: tuple[dict[str, str], list[dict[str, object]]] | None = None

    def report(self) -> bool:
        """Send what has had no success yet, or something new; whether the server was there."""
        headers, rows = self._open = self._open or self._invent()
        try:
            answer = self._program.http.post(self._path, headers=headers, json=rows)
        except httpx.TransportError:
            return False
        assert answer.status_code in (200, 503), answer.content
        if answer.status_code == 200:
            self._open = None
            self.reports += 1
        else:
            time.sleep(PAUSE_S)
        return True

    def settle(self) -> None:
        """Have success for all."""
        while self._open:
            assert self.report()

    def _invent(self) -> tuple[dict[str, str], list[dict[str, object]]]:
        begin, hour = len(self.sids), hour_of(time.time_ns() // 1_000_000)
        names = {
            f"{begin + place:x}": f"8:{begin + place}"
            for place in range(self._rng.choice((1, 3, 40, 300)))
        }
        self.sids |= names
        rows: list[dict[str, object]] = [
            {"hour": hour, "result": 0, "fee": 1, "sid": sid, "id": name}
            for name, sid in names.items()
        ]
        key = {"Idempotency-Key": f"report-{begin}"}
        return {"Authorization": f"Bearer {self._program.token}"} | key, rows


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_killed_while_sends_are_registered(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    """The server or the process of its store, at any instant."""
    if engine == "sqlite":
        outlive(Program(tmp_path), Random(f"{SEED}/names"))
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    with server.database() as url, master_key(tmp_path) as environment:
        outlive(Program(tmp_path, store=url, environment=environment), Random(f"{SEED}/names"))


def outlive(program: Program, rng: Random) -> None:
    """Kill it again and again while sends are registered, and look at what it has then."""
    app = program.create_app()
    sender = Sender(program, app, rng)
    for _ in range(max(2, KILLS // 10)):
        with doomed(program):
            kill_one(program, sender, rng)
    with program:
        sender.settle()
        assert program.cli("audit", "--json")["sound"]
    asyncio.run(check(program, app, sender))


def kill_one(program: Program, sender: Sender, rng: Random) -> None:
    """Let sends be registered until one of the processes is killed."""
    wanted = sender.reports + rng.randrange(1, 12)
    enough = threading.Event()

    def go_on() -> None:
        while sender.report():
            if sender.reports >= wanted:
                enough.set()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        assert enough.wait(PATIENCE_S)
        time.sleep(rng.uniform(0, 0.02))  # in the middle of whatever comes next
        assert program.process is not None
        os.kill(rng.choice(program.processes()), signal.SIGKILL)
        program.process.wait(PATIENCE_S)
    finally:
        program.http.close()
        thread.join(PATIENCE_S)


async def check(program: Program, app: App, sender: Sender) -> None:
    """Every name leads to its send, lies in one block, and is counted once."""
    store = await open_store(program.store)
    try:
        ids = sorted(sender.sids)
        names = await names_of(store, [Told(name) for name in ids], sdkappid=app.sdkappid)
        assert [name and name.sid for name in names] == [sender.sids[name] for name in ids]
        assert await names_of(store, [Told("nobody")]) == [None]
        hashes = sorted({name.message >> 32 for name in names if name})
        blocks = await store.named(hashes, app.sdkappid)
        kept = Counter(block.body for block in blocks)
        assert (sum(len(block.slots) for block in blocks), max(kept.values())) == (len(ids), 1)
        tallies = await store.tallies(app.sdkappid, 0, EVER_HOURS)
        assert sum(tally.counts[-1] for tally in tallies) == len(ids)  # what they are billed as
    finally:
        await store.close()
