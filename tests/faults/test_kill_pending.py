"""kill -9 while things wait for a name or for other parts, those of nobody yet too: none is lost.

`PULLSTATUS_KILLS` and `PULLSTATUS_SEED` are those of `test_kill`; here is one kill for ten there.

A name may be registered long after its receipt here, since a server that is killed again and again
takes its time: so what nobody registers is overdue only for the last server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import httpx
import pytest

from pullstatus.apps.values import NOBODY
from pullstatus.mailbox.parking import parked
from pullstatus.store import open_store
from tests.e2e.conftest import master_key
from tests.faults.load import doomed
from tests.faults.test_kill import KILLS, SEED
from tests.harness import PATIENCE_S, REPLY, App, Program, with_values
from tests.store.jetstream import real
from tools.postgresql import PostgreSQL

PAUSE_S = 0.01
REPEATS = 0.3  # of requests whose success is not heard
APPS = 3
PARTITIONS = 2  # so in a cluster number 0 lies in one of them, and not every application


def releasing(name_s: int) -> tuple[str, ...]:
    """A command whose server looks all the time for what may leave.

    Args:
        name_s: for how long a receipt waits for its name.
    """
    return with_values({"limits.PENDING_NAME_S": name_s, "server.serve.PENDING_EVERY_S": 0.02})


class Request(NamedTuple):
    """What is sent until it has success."""

    method: str
    path: str
    rows: object = None
    headers: dict[str, str] | None = None


class Gateways:
    """One gateway with an application's token, one with a platform's, and whoever sends.

    Each repeats a request until it is told of success, over all lives of the server.

    Attributes:
        sids: of the records of each application.
        texts: of its replies.
        nobodys: ids that nobody registers.
        rounds: how many had success.
    """

    def __init__(self, program: Program, apps: Sequence[App], rng: Random) -> None:
        self.sids: dict[App, list[str]] = {app: [] for app in apps}
        self.texts: dict[App, list[str]] = {app: [] for app in apps}
        self.nobodys: list[str] = []
        self.rounds = 0
        self._program = program
        self._rng = rng
        self._tokens = {app: program.create_token(f"of-{app.sdkappid}", app=app) for app in apps}
        self._platforms = program.create_token("platform")
        self._open: list[Request] = []

    def send(self) -> bool:
        """Send what has had no success yet, or something new; whether the server was there."""
        self._open = self._open or self._invent()
        method, path, rows, headers = self._open[0]
        try:
            answer = self._program.http.request(method, path, json=rows, headers=headers)
        except httpx.TransportError:
            return False
        assert answer.status_code in (200, 503), answer.content
        if answer.status_code == 200:
            if self._rng.random() < REPEATS:
                return True  # as if the answer had been lost
            self._open.pop(0)
            self.rounds += not self._open
        else:
            time.sleep(PAUSE_S)
        return True

    def settle(self) -> None:
        """Have success for all."""
        while self._open:
            assert self.send()

    def register(self, app: App, ids: Sequence[str], parts: Sequence[str] = ()) -> Request:
        """Whoever sends says that these are its own, and these the parts of one."""
        rows: list[dict[str, object]] = [{"sid": f"8:{name}", "id": name} for name in ids]
        if parts:
            rows.append({"sid": f"8:{parts[0]}", "ids": parts})
        headers = {"Authorization": f"Bearer {self._program.token}", "Idempotency-Key": ids[0]}
        return Request("POST", f"/ingest/{app.sdkappid}/sends", rows, headers)

    def _invent(self) -> list[Request]:
        """Receipts before their names and behind, parts of messages, and what stays nobody's."""
        begin, app = self.rounds, self._rng.choice(list(self.sids))
        own, platforms, nobodys = (
            [f"{kind}{begin}-{place}" for place in range(self._rng.choice((1, 4, 12)))]
            for kind in ("own", "platform", "nobody")
        )
        parts = [f"part{begin}-{place}" for place in range(self._rng.choice((2, 3)))]
        self.sids[app] += [f"8:{name}" for name in [*own, *platforms, parts[0]]]
        self.nobodys += nobodys
        self.texts[app].append(f"<{begin}:1><{begin}:2>")
        token, platform = self._tokens[app], self._platforms
        mixed = [receipt(name) for name in platforms + nobodys]
        self._rng.shuffle(mixed)
        sent = [
            Request("POST", f"/in/{platform}/native", mixed),
            Request("POST", f"/in/{token}/native", [receipt(name) for name in own]),
            Request("GET", f"/in/{token}/{part(begin, 1)}"),
            Request("GET", f"/in/{token}/{part(begin, 2)}"),
            *(Request("POST", f"/in/{platform}/native", [receipt(name)]) for name in parts),
            self.register(app, platforms + own, parts),
        ]
        self._rng.shuffle(sent)
        return sent


def receipt(name: str) -> dict[str, object]:
    """What a gateway says of an SMS, by an id of its own."""
    return {"mobile": "13800138000", "id": name, "report_status": "SUCCESS", "errmsg": "DELIVRD"}


def part(message: int, number: int) -> str:
    """One of two SMS of a reply, each from somebody else."""
    udh = f"%05%00%03%{message % 256:02X}%02%0{number}"
    sender = f"%2B86138{message:08}"
    return f"kannel?text=<{message}:{number}>&from={sender}&to=1069&id={message}-{number}&udh={udh}"


@contextlib.contextmanager
def program_over(engine: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Program]:
    """A server over a new store, which does not run yet."""
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(master_key(folder))
        url = None
        if engine == "postgresql":
            server: PostgreSQL = request.getfixturevalue("postgresql")
            url = stack.enter_context(server.database())
        elif engine == "jetstream":
            url = stack.enter_context(real.place(folder, PARTITIONS))
        yield Program(folder, environment=environment, store=url)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "jetstream"])
def test_killed_while_things_are_pending(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    """The server or the process of its store, at any instant of what comes, waits and leaves."""
    rng = Random(f"{SEED}/pending/{engine}")
    with program_over(engine, tmp_path, request) as program:
        apps = [program.create_app() for _ in range(APPS)]
        gateways = Gateways(program, apps, rng)
        program.command = releasing(name_s=3600)
        with program:
            begin(program, gateways, apps)
        for _ in range(max(3, KILLS // 10)):
            with doomed(program):
                kill_one(program, gateways, rng)
        with program:
            gateways.settle()
            program.until(lambda: waits(program) == len(gateways.nobodys))
        program.command = releasing(name_s=1)
        with doomed(program):  # all that is left is overdue, and leaves number 0's for good
            time.sleep(rng.uniform(0, 0.05))
        with program:
            program.until(lambda: waits(program) == 0)
            check(program, gateways, apps)
        assert program.cli("audit", "--json")["sound"]


def begin(program: Program, gateways: Gateways, apps: Sequence[App]) -> None:
    """Have all of them register names, so that receipts wait for such."""
    for app in apps:
        request = gateways.register(app, [f"first-{app.sdkappid}"])
        answer = program.http.post(request.path, json=request.rows, headers=request.headers)
        assert answer.status_code == 200


def waits(program: Program) -> float:
    """How much is pending."""
    return program.metrics()["pullstatus_pending"]


def kill_one(program: Program, gateways: Gateways, rng: Random) -> None:
    """Let things come, wait and leave until one of the processes is killed."""
    wanted = gateways.rounds + rng.randrange(1, 8)
    enough = threading.Event()

    def go_on() -> None:
        while gateways.send():
            if gateways.rounds >= wanted:
                enough.set()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        assert enough.wait(PATIENCE_S)
        time.sleep(rng.uniform(0, 0.05))  # in the middle of whatever comes next
        assert program.process is not None
        os.kill(rng.choice(program.processes()), signal.SIGKILL)
        program.process.wait(PATIENCE_S)
    finally:
        program.http.close()
        thread.join(PATIENCE_S)


def check(program: Program, gateways: Gateways, apps: Sequence[App]) -> None:
    """Each record and reply has come once, and the rest is nobody's, until a rule says whose."""
    for app in apps:
        assert sids(program, app) == sorted(gateways.sids[app])
        assert sorted(row["text"] for row in program.drain(app, REPLY)) == sorted(
            gateways.texts[app]
        )
    assert sorted(asyncio.run(parked_ids(program))) == sorted(gateways.nobodys)
    program.cli("route", "add", "rest", "--sdkappid", str(apps[0].sdkappid), "--from-prefix", "138")
    program.cli("parked", "retry", str(NOBODY), "--all")
    assert sids(program, apps[0]) == sorted(gateways.nobodys)
    assert asyncio.run(parked_ids(program)) == []


def sids(program: Program, app: App) -> list[Any]:
    """Of all that an application has pulled, each of an SMS that has arrived."""
    rows = program.drain(app)
    assert {row["report_status"] for row in rows} <= {"SUCCESS"}
    return sorted(row["sid"] for row in rows)


async def parked_ids(program: Program) -> list[str]:
    """What is nobody's."""
    store = await open_store(program.store)
    try:
        items = [each.item for each in await parked(store, NOBODY)]
    finally:
        await store.close()
    return [json.loads(item.raw)["id"] for item in items if item]
