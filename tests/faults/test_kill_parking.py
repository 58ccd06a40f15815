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
from collections.abc import Mapping
from pathlib import Path
from random import Random

import httpx
import pytest

from pullstatus.apps.values import NOBODY
from pullstatus.mailbox.parking import parked
from pullstatus.store import open_store
from tests.faults.load import doomed
from tests.faults.test_kill import KILLS, SEED
from tests.harness import COMMAND, PATIENCE_S, App, Program, status

CHILD = Path(__file__).with_name("child")
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
        self._path = f"/callbacks/{program.create_token(f'carrier-{app.sdkappid}', app=app)}"
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
        records = [status(self._number + place) for place in range(self._rng.randint(1, 40))]
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


def settling(
    program: Program,
    app: App,
    to: App | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """`parked retry` under way, or `parked route` to another application."""
    action = ["retry"] if to is None else ["route", "--to", str(to.sdkappid)]
    return subprocess.Popen(
        [COMMAND, "parked", *action, str(app.sdkappid), "--all", "--store", program.store],
        stdout=subprocess.DEVNULL,
        env=program.environment | dict(environment or {}),
    )


def check_parked(program: Program, sender: Sender, *apps: App) -> None:
    """After one more retry each record has come once, and what cannot be read stays, each once.

    Args:
        apps: whose all of it is: what was routed is the other application's.
    """
    for app in apps:
        program.cli("parked", "retry", str(app.sdkappid), "--all")
    left = [program.cli("parked", "retry", str(app.sdkappid), "--all") for app in apps]
    assert [told["items"] for told in left] == [0] * len(apps)
    assert sum(told["left"] for told in left) == len(sender.hopeless)
    found = [record["sid"] for app in apps for record in program.drain(app)]
    assert sorted(found) == sorted(sender.sids)
    items = [raw for app in apps for raw in asyncio.run(raws(program, app))]
    assert sorted(items) == sorted(sender.hopeless)


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
        check_parked(program, sender, app, other)
        assert program.cli("audit", "--json")["sound"]


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


# --- at a point that is named ---------------------------------------------------------------------

POINTS = [  # of the call, which one of its kind, where there; and how many of two commits then are
    ("retry", "write", 1, "before", 0),
    ("retry", "sync", 1, "before", 0),  # all of it is in the log, and not in the log's index
    ("retry", "sync", 1, "after", 0),
    ("retry", "sync", 2, "before", 1),
    ("retry", "close", 1, "before", 2),  # and nobody has been told
    ("route", "sync", 1, "after", 0),
    ("route", "sync", 2, "before", 1),
]
ALONE = [  # the same if nobody else has the store open: whoever opens it next reads the log itself
    ("retry", "write", 1, "before", 0),
    ("retry", "sync", 1, "before", 1),
]


class Stopping:
    """A retry, or a route, of two commits that stands still at a point of one of them."""

    behind = 50  # writes

    def __init__(self, program: Program, rng: Random) -> None:
        """Nothing is retried yet; what is to be is parked by the server that runs."""
        self.apps = program.create_app(), program.create_app()
        self.sender = Sender(program, self.apps[0], rng)
        self._program = program
        self._folder = program.folder / str(self.apps[0].sdkappid)
        self._folder.mkdir()
        for _ in range(PARKED_BEFORE):
            assert self.sender.push()

    def stand(self, action: str, call: str, at: int, where: str) -> None:
        """Start it; on return it is there."""
        # To open the store takes a few writes, each of the commits many more.
        orders = {"call": call, "file": "-wal", "at": at, "behind": self.behind, "stop": where}
        (self._folder / "orders").write_text(json.dumps(orders), encoding="ascii")
        environment = {"PYTHONPATH": str(CHILD), "FAULTS": str(self._folder)}
        app, other = self.apps
        to = other if action == "route" else None
        self._command = settling(self._program, app, to, environment)

        def stands() -> bool:
            assert self._command.poll() is None, f"it is over before {orders}"
            return (self._folder / "stopped").exists()

        try:
            self._program.until(stands)
        except AssertionError:
            self._command.kill()
            self._command.wait()
            raise

    def kill(self) -> int:
        """End it where it stands; returns how many of its commits are."""
        self._command.kill()
        assert self._command.wait(PATIENCE_S) == -signal.SIGKILL
        left = len(asyncio.run(raws(self._program, self.apps[0])))
        # The first commit is of a hundred items, of which what stays goes to the tail.
        return 0 if left == PARKED_BEFORE else 2 if left == self.hopeless else 1

    @property
    def hopeless(self) -> int:
        """How many items are to stay."""
        return len(self.sender.hopeless)

    def go_on(self) -> None:
        """Let it do the rest."""
        (self._folder / "go").touch()
        assert self._command.wait(PATIENCE_S) == 0


def test_a_retry_that_is_killed_at_a_point_of_its_commit(tmp_path: Path) -> None:
    """A commit is all of it or nothing, beside a server; the next retry does the rest."""
    program, rng = Program(tmp_path), Random(f"{SEED}/points")
    with program:
        for action, call, at, where, commits in POINTS:
            retry = Stopping(program, rng)
            retry.stand(action, call, at, where)
            assert retry.kill() == commits, (action, call, at, where)
            check_parked(program, retry.sender, *retry.apps)
        program.kill()
        program.start()
        assert program.cli("audit", "--json")["sound"]


def test_a_retry_alone_that_is_killed_at_a_point_of_its_commit(tmp_path: Path) -> None:
    """As above, and what is in the log as a whole is done."""
    program, rng = Program(tmp_path), Random(f"{SEED}/alone")
    with program:
        retries = [Stopping(program, rng) for _ in ALONE]
    for retry, (action, call, at, where, commits) in zip(retries, ALONE, strict=True):
        retry.stand(action, call, at, where)
        assert retry.kill() == commits, (action, call, at, where)
    with program:
        for retry in retries:
            check_parked(program, retry.sender, *retry.apps)
        assert program.cli("audit", "--json")["sound"]


class StoppingForNobody(Stopping):
    """A retry of what was nobody's, which a rule gives to the application by now."""

    behind = 20

    def __init__(self, program: Program, number: int) -> None:
        """It is parked under number 0, pushed with a platform's token."""
        app = program.create_app()
        self.apps = App(NOBODY, ""), app
        self.sids = [f"{number}-{place}" for place in range(PARKED_BEFORE)]
        self._program = program
        self._folder = program.folder / f"nobody-{number}"
        self._folder.mkdir()
        path = f"/in/{program.create_token(f'gateway-{number}')}/native"
        pushed = program.http.post(path, json=[native(sid) for sid in self.sids])
        assert pushed.status_code == 200
        program.cli("route", "add", f"r{number}", "--sdkappid", str(app.sdkappid), *RULE)

    @property
    def hopeless(self) -> int:
        """None stays."""
        return 0

    def check(self) -> None:
        """After one more retry each record has come once, and nothing is left."""
        told = self._program.cli("parked", "retry", "0", "--all")
        assert told["left"] == 0
        found = [record["sid"] for record in self._program.drain(self.apps[1])]
        assert sorted(found) == sorted(self.sids)
        self._program.cli("route", "remove", f"r{self._folder.name.removeprefix('nobody-')}")


RULE = ("--from-prefix", "138")
POINTS_FOR_NOBODY = [("sync", 1, "before", 0), ("sync", 2, "before", 1), ("close", 1, "before", 2)]


def native(sid: str) -> dict[str, object]:
    """What a gateway says of an SMS, by its own id."""
    return {
        "mobile": "13800138000",
        "id": sid,
        "report_status": "SUCCESS",
        "errmsg": "DELIVRD",
    }


def test_a_retry_for_nobody_that_is_killed_at_a_point_of_its_commit(tmp_path: Path) -> None:
    """An item leaves number 0 with the commit that stores its record, and not before."""
    program = Program(tmp_path)
    with program:
        for number, (call, at, where, commits) in enumerate(POINTS_FOR_NOBODY):
            retry = StoppingForNobody(program, number)
            retry.stand("retry", call, at, where)
            assert retry.kill() == commits, (call, at, where)
            retry.check()
        assert program.cli("audit", "--json")["sound"]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_server_that_is_killed_in_the_commit_of_a_retry(tmp_path: Path, victim: int) -> None:
    """The server or its store's process: the retry goes on, and nothing is missing afterwards."""
    program, rng = Program(tmp_path), Random(f"{SEED}/{victim}")
    retries = []
    for call, at, where in (("write", 1, "after"), ("sync", 1, "after")):
        with doomed(program):
            assert program.process is not None
            retry = Stopping(program, rng)
            retries.append(retry)
            retry.stand("retry", call, at, where)
            os.kill(program.processes()[victim], signal.SIGKILL)
            assert program.process.wait(PATIENCE_S) == (70 if victim else -signal.SIGKILL)
            retry.go_on()
    with program:
        for retry in retries:
            check_parked(program, retry.sender, *retry.apps)
        assert program.cli("audit", "--json")["sound"]
