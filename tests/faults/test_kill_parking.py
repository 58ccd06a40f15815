"""kill -9 while callbacks park and `parked retry` or `route` works: nothing is lost, or twice.

`PULLSTATUS_KILLS` and `PULLSTATUS_SEED` are those of `test_kill`; here is one kill for ten there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from random import Random

import httpx

from pullstatus.mailbox.parking import parked
from pullstatus.store import open_store
from tests.faults.load import doomed
from tests.faults.test_kill import KILLS, SEED
from tests.harness import COMMAND, PATIENCE_S, App, Program, status

PARKED_BEFORE = 120  # more than one commit of a retry
REFUSED_PAUSE_S = 0.01


class Sender:
    """A carrier that repeats a push until it is told of success, over all lives of the server.

    Every push parks something: most are labelled as compressed and are not, which a retry reads;
    the others hold one record that nobody can ever read.

    Attributes:
        sids: of the records of every push so far; each is to come out once.
        hopeless: the items that are to stay parked, each once.
    """

    def __init__(self, program: Program, app: App, rng: Random) -> None:
        self.sids: list[str] = []
        self.hopeless: list[bytes] = []
        self._program = program
        self._path = f"/callbacks/{program.create_token('carrier', app=app)}"
        self._rng = rng
        self._open: tuple[dict[str, str], str] | None = None
        self._number = 0

    def push(self) -> bool:
        """Send what has had no success yet, or something new; whether the server was there."""
        headers, content = self._open = self._open or self._invent()
        try:
            answer = self._program.http.post(self._path, headers=headers, content=content)
        except httpx.TransportError:
            return False
        assert answer.status_code in (200, 503), answer.content
        if answer.status_code == 200:
            self._open = None
        else:
            time.sleep(REFUSED_PAUSE_S)
        return True

    def settle(self) -> None:
        """Have success for all."""
        while self._open:
            assert self.push()

    def _invent(self) -> tuple[dict[str, str], str]:
        records = [status(self._number + place) for place in range(self._rng.randint(1, 100))]
        self._number += len(records)
        self.sids += [str(record["sid"]) for record in records]
        headers = {"Content-Encoding": "gzip"}
        if self._rng.random() < 0.05:
            headers = {}
            bad = status(self._number, mobile=f"{self._number}x")
            self._number += 1
            self.hopeless.append(json.dumps(bad, separators=(",", ":")).encode())
            records.insert(self._rng.randint(0, len(records)), bad)
        return headers, json.dumps(records, separators=(",", ":"))


def settling(program: Program, app: App, to: App | None = None) -> subprocess.Popen[bytes]:
    """`parked retry` under way, or `parked route` to another application."""
    action = ["retry"] if to is None else ["route", "--to", str(to.sdkappid)]
    return subprocess.Popen(
        [COMMAND, "parked", *action, str(app.sdkappid), "--all", "--store", program.store],
        stdout=subprocess.DEVNULL,
        env=program.environment,
    )


def test_killed_while_parking_and_retrying(tmp_path: Path) -> None:
    """The command, the server or the store's process is killed, at any instant of its work.

    Whatever was routed is the other application's: a record there, or parked there.
    """
    rng = Random(f"{SEED}/parking")
    program = Program(tmp_path)
    app, other = program.create_app(), program.create_app()
    sender = Sender(program, app, rng)
    began = time.monotonic()
    assert settling(program, app).wait(PATIENCE_S) == 0
    usual_s = time.monotonic() - began
    for _ in range(max(1, KILLS // 10)):
        with doomed(program):
            to = rng.choice([None, other])
            kill_one(program, app, to, sender, rng, usual_s)
    with program:
        sender.settle()
        for each in (app, other):
            program.cli("parked", "retry", str(each.sdkappid), "--all")
        left = [
            program.cli("parked", "retry", str(each.sdkappid), "--all") for each in (app, other)
        ]
        assert [told["items"] for told in left] == [0, 0]
        assert sum(told["left"] for told in left) == len(sender.hopeless)
        found: list[str] = []
        while page := program.pull(app).data or program.pull(other).data:
            found += [record["sid"] for record in page]
        assert sorted(found) == sorted(sender.sids)
        assert program.cli("audit", "--json")["sound"]
    items = [raw for each in (app, other) for raw in asyncio.run(raws(program, each))]
    assert sorted(items) == sorted(sender.hopeless)


def kill_one(
    program: Program, app: App, to: App | None, sender: Sender, rng: Random, usual_s: float
) -> None:
    """Let things be parked and retried, or routed, until one of the processes is killed."""
    for _ in range(PARKED_BEFORE):
        assert sender.push()
    stopping = threading.Event()

    def go_on() -> None:
        while not stopping.is_set() and sender.push():
            pass

    thread = threading.Thread(target=go_on)
    thread.start()
    command = settling(program, app, to)
    try:
        time.sleep(rng.uniform(0.7 * usual_s, 1.7 * usual_s))  # in the middle of whatever it does
        victim = rng.choice([command.pid, command.pid, *program.processes()])
        os.kill(victim, signal.SIGKILL)
        killed = -signal.SIGKILL if victim == command.pid else 0
        assert command.wait(PATIENCE_S) in (0, killed)
    finally:
        stopping.set()
        thread.join(PATIENCE_S)
        command.kill()
        command.wait()


async def raws(program: Program, app: App) -> list[bytes]:
    """The bytes of what is parked."""
    store = await open_store(program.store)
    try:
        return [each.item.raw for each in await parked(store, app.sdkappid) if each.item]
    finally:
        await store.close()
