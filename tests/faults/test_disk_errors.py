"""The disk of a running server fails or stalls under load.

The server runs on a file layer of ours (see child/sitecustomize.py), so that one call of one kind
fails, once or from then on, wherever in the load it falls.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from random import Random

import apsw
import httpx
import pytest

from tests.faults.aged import LEAVINGS, expires_waiting, leave
from tests.faults.load import Load, Mix, doomed
from tests.harness import (
    PATIENCE_S,
    PLAIN,
    UPKEEP_ALWAYS,
    App,
    Program,
    http_request,
    statuses,
    with_limits,
)
from tests.sim.checker import Operation, Seen, Verb

SEED = os.environ.get("PULLSTATUS_SEED", "1")
CHILD = Path(__file__).with_name("child")


class Disk:
    """The orders that the file layer of a program's processes obeys."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"PYTHONPATH": str(CHILD), "FAULTS": str(folder)}
        self._orders = folder / "orders"
        self._struck = folder / "struck"
        self._afterwards = folder / "afterwards"

    def order(self, **orders: object) -> None:
        """Give orders, all at once."""
        draft = self._orders.with_name("draft")
        draft.write_text(json.dumps(orders), encoding="ascii")
        draft.replace(self._orders)

    def has_struck(self) -> bool:
        """Whether a call has failed."""
        return self._struck.exists()

    def heal(self) -> None:
        """Let everything work again."""
        self._orders.unlink()

    def struck(self) -> float:
        """When the first call failed, on the monotonic clock."""
        return float(self._struck.read_text(encoding="ascii"))

    def afterwards(self) -> str:
        """What was still written or synced, a line for each call."""
        return self._afterwards.read_text(encoding="utf-8") if self._afterwards.exists() else ""


class Probe:
    """Asks a path again and again, as a balancer or a monitor does."""

    def __init__(self, program: Program, path: str) -> None:
        self._url = f"http://{program.host}:{program.port}{path}"
        self.answers: list[tuple[float, float, int]] = []  # begun, took, status

    async def run(self) -> None:
        """Ask until nobody answers any more."""
        async with httpx.AsyncClient(verify=PLAIN, trust_env=False) as http:
            while True:
                began = time.monotonic()
                try:
                    answer = await http.get(self._url, timeout=PATIENCE_S)
                except httpx.TransportError:
                    return
                self.answers.append((began, time.monotonic() - began, answer.status_code))
                await asyncio.sleep(0.005)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


FAULTS = [
    *[("sync", "-wal", forever) for forever in (False, True)],
    *[("write", "-wal", forever) for forever in (False, True)],
    ("read", "", False),
    ("read", "", True),
]


@pytest.mark.parametrize("case", range(len(FAULTS)))
def test_failing_call_under_load(tmp_path: Path, disk: Disk, case: int) -> None:
    """After the first failed call nothing is accepted or handed out; a restart heals."""
    call, file, forever = FAULTS[case]
    fail(tmp_path, disk, Random(f"{SEED}/{case}"), Mix(), call, file, forever=forever, at_max=60)


@pytest.mark.parametrize("call", ["sync", "write"])
def test_failing_checkpoint_under_load(tmp_path: Path, disk: Disk, call: str) -> None:
    """Folding the log into the file fails: what is in the log is not lost, and nothing comes in."""
    mix = Mix(feeders=8, pullers=2, batch_max=1000)
    fail(tmp_path, disk, Random(f"{SEED}/{call}"), mix, call, ".db", forever=False, at_max=1)


def fail(
    folder: Path,
    disk: Disk,
    rng: Random,
    mix: Mix,
    call: str,
    file: str,
    *,
    forever: bool,
    at_max: int,
) -> None:
    program = Program(folder, *UPKEEP_ALWAYS, environment=disk.environment)
    load = Load(program, rng, mix)

    async def fault() -> None:
        assert program.process is not None
        probe = Probe(program, "/readyz")
        probing = asyncio.create_task(probe.run())
        await load.answered(50)
        disk.order(call=call, file=file, at=rng.randint(1, at_max), forever=forever)
        status = await asyncio.to_thread(program.process.wait, PATIENCE_S)
        assert status == 70, program.log()[-2000:]
        await probing
        check_readiness(load, probe)

    with doomed(program):
        asyncio.run(load.live(fault))
    for operation in load.since(disk.struck()):
        if operation.outcome is Seen.OK:
            assert operation.verb is Verb.PULL
            assert not operation.records
    if call != "read":  # a reader's failure is not the writer's
        assert not disk.afterwards(), "a failed write or sync must not be tried again"
    disk.heal()
    with program:
        load.settle()


def check_readiness(load: Load, probe: Probe) -> None:
    """Whoever was refused or cut off could have known: readiness ends before."""
    noticed = [
        operation.completed
        for operation in load.history
        if operation.outcome is Seen.FAIL and operation.completed is not None
    ]
    assert probe.answers[0][2] == 200
    for began, _, status in probe.answers:
        if noticed and began > min(noticed):
            assert status == 503


def lasted_s(operation: Operation) -> float:
    """How long an operation was under way; 0 if it has had no answer."""
    return 0.0 if operation.completed is None else operation.completed - operation.invoked


@pytest.mark.parametrize("stall_s", [0.02, 0.2, 2.0])
def test_stalled_syncs_under_load(tmp_path: Path, disk: Disk, stall_s: float) -> None:
    """A slow disk makes answers late and nothing else: health and figures still answer at once."""
    # A checkpoint is two or three syncs, each of which takes longer, on a busy machine much longer.
    command = with_limits(STALLED_S=PATIENCE_S)
    program = Program(tmp_path, environment=disk.environment, command=command)
    load = Load(program, Random(f"{SEED}/{stall_s}"))
    probes: list[Probe] = []
    ordered = 0.0

    async def fault() -> None:
        nonlocal ordered
        probes.extend(Probe(program, path) for path in ("/readyz", "/metrics"))
        tasks = [asyncio.create_task(probe.run()) for probe in probes]
        await load.answered(50)
        disk.order(stall_s=stall_s)
        ordered = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            while not any(lasted_s(each) > stall_s for each in load.since(ordered)):
                await load.answered(1)
        disk.heal()
        await load.answered(50)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with program:
        asyncio.run(load.live(fault))
        assert {operation.outcome for operation in load.history} == {Seen.OK}
        held = max(load.since(ordered), key=lasted_s)
        for probe in probes:
            assert {status for _, _, status in probe.answers} == {200}
            if stall_s >= 1:  # long enough for a probe whatever else the machine does
                assert any(
                    held.invoked < began and began + took < (held.completed or 0)
                    for began, took, _ in probe.answers
                ), "nobody was answered while the disk held a commit up"
        load.settle()


# --- during upkeep --------------------------------------------------------------------------------


def upheld(folder: Path, disk: Disk, what: str) -> tuple[Program, App]:
    """A server, not started, that does nothing but upkeep, and the one application of its store."""
    command = with_limits(HEADER_DEADLINE_S=2 * PATIENCE_S, DRAIN_DEADLINE_S=PATIENCE_S)
    program = Program(folder, *UPKEEP_ALWAYS, environment=disk.environment, command=command)
    app = program.create_app()
    if what == "discard":
        expires_waiting(program, app)
    return program, app


@pytest.mark.parametrize("what", LEAVINGS)
def test_failing_sync_of_upkeep(tmp_path: Path, disk: Disk, what: str) -> None:
    """It ends the server as any other does: orderly, and nobody who asks is cut off."""
    program, app = upheld(tmp_path, disk, what)
    with doomed(program), program.connect() as healthz, program.connect() as ingest:
        request = http_request("GET", "/healthz")
        feed = http_request(
            "POST",
            f"/ingest/{app.sdkappid}/delivery-statuses",
            json.dumps(statuses(1)).encode(),
            [f"Authorization: Bearer {program.token}", "Content-Type: application/json"],
        )
        healthz.send(request[:10])
        ingest.send(feed[:-10])
        disk.order(call="sync", file="-wal", at=1, forever=False)
        leave(program, app, LEAVINGS[what])
        program.until(disk.has_struck)
        healthz.send(request[10:])
        assert healthz.read().http_status == 200
        ingest.send(feed[-10:])
        assert ingest.read().http_status == 503
        assert program.process is not None
        assert program.process.wait(PATIENCE_S) == 70, program.log()[-2000:]
    assert "Traceback" not in program.log()
    assert not disk.afterwards()
    disk.heal()
    with program:
        assert program.cli("audit", "--json")["sound"]


def commits(file: Path) -> bool:
    """Whether somebody is in the middle of a commit."""
    connection = apsw.Connection(str(file))
    try:
        connection.execute("BEGIN IMMEDIATE")
    except apsw.BusyError:
        return True
    finally:
        connection.close()
    return False


@pytest.mark.parametrize("what", LEAVINGS)
def test_store_process_killed_during_upkeep(tmp_path: Path, disk: Disk, what: str) -> None:
    """The same, when nobody can say any more whether the commit of the upkeep happened."""
    program, app = upheld(tmp_path, disk, what)
    with doomed(program):
        assert program.process is not None
        # The first upkeep of a store notes something of its own.
        program.until(lambda: program.metrics()["pullstatus_upkeep_timestamp_seconds"] > 0)
        disk.order(stall_s=PATIENCE_S)
        leave(program, app, LEAVINGS[what])
        program.until(lambda: commits(tmp_path / "mailboxes.db"))
        os.kill(program.processes()[1], signal.SIGKILL)
        assert program.process.wait(PATIENCE_S) == 70, program.log()[-2000:]
    assert "Traceback" not in program.log()
    disk.heal()
    with program:
        assert program.cli("audit", "--json")["sound"]
