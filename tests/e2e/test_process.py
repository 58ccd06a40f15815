"""The process under load: stopped, killed, raced, changed while it runs, and what it lets out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import itertools
import json
import random
import re
import socket
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pullstatus import limits
from pullstatus.store import JournalRow, Mailbox, open_store
from pullstatus.version import VERSION
from pullstatus.wire.v5.pull import read_proof
from tests.faults.test_kill import KILLS, SEED
from tests.harness import (
    COMMAND,
    PATIENCE_S,
    REPLY,
    STATUS,
    Answer,
    App,
    Program,
    clean_environment,
    http_request,
    reply,
    status,
    statuses,
    with_values,
)

pytestmark = pytest.mark.anew

# --- clients that keep asking ---------------------------------------------------------------------


class Client:
    """One connection, kept alive; a new one when the server said that it closes."""

    def __init__(self, program: Program) -> None:
        self._address = program.host, program.port
        self._connection: http.client.HTTPConnection | None = None

    def post(self, target: str, body: bytes, headers: dict[str, str]) -> Answer | None:
        """The answer; None if no connection was to be had, and so nothing was sent.

        Raises:
            OSError, http.client.HTTPException: it was sent and is not answered.
        """
        if self._connection is None:
            self._connection = http.client.HTTPConnection(*self._address, timeout=PATIENCE_S)
            try:
                self._connection.connect()
            except OSError:
                return None
        self._connection.request("POST", target, body, headers)
        response = self._connection.getresponse()
        answer = Answer(response.status, response.getheaders(), response.read())
        if response.will_close:
            self._connection.close()
            self._connection = None
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def ingest_headers(program: Program, **more: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {program.token}",
        "Content-Type": "application/json",
    } | {name.replace("_", "-"): value for name, value in more.items()}


# --- a clean stop ---------------------------------------------------------------------------------

PATIENT = with_values(
    {"limits.DRAIN_DEADLINE_S": 2 * PATIENCE_S, "server.uvicorn_server.IDLE_GRACE_S": PATIENCE_S}
)
"""A command whose server gives a client that stands still the time to ask once more."""


def test_stop_under_load_leaves_no_outcome_unknown(tmp_path: Path) -> None:
    """Every request of a client that keeps its connection and keeps reading is answered."""
    program = Program(tmp_path, command=PATIENT)
    app = program.create_app()
    program.start()
    fed: list[str] = []
    pulled: list[str] = []
    running = threading.Barrier(13)

    def feed(worker: int) -> None:
        client = Client(program)
        for number in itertools.count():
            batch = [status(1, sid=f"{worker}-{number}-{place}") for place in range(5)]
            answer = client.post(
                f"/ingest/{app.sdkappid}/delivery-statuses",
                json.dumps(batch).encode(),
                ingest_headers(program),
            )
            if number == 20:
                running.wait()
            if answer is None:
                return
            assert answer.http_status == 200
            fed.extend(record["sid"] for record in batch)

    def pull() -> None:
        client = Client(program)
        for number in itertools.count():
            answer = client.post(*app.request(max=7), {})
            if number == 20:
                running.wait()
            if answer is None:
                return
            pulled.extend(record["sid"] for record in answer.data)

    with ThreadPoolExecutor(12) as pool:
        clients = [pool.submit(feed, worker) for worker in range(6)]
        clients += [pool.submit(pull) for _ in range(6)]
        running.wait(PATIENCE_S)
        assert program.stop() == 0
        for client in clients:
            client.result()  # an outcome that is unknown raises here
    with program:
        pulled += [record["sid"] for record in program.drain(app)]
    assert len(pulled) == len(set(pulled))
    assert set(pulled) == set(fed)


def test_stop_is_seen_by_readyz(tmp_path: Path) -> None:
    """Readiness turns false first, while requests on open connections are still answered."""
    program = Program(tmp_path, command=PATIENT)
    app = program.create_app()
    program.start()
    body = http_request("POST", *app.request())
    with program.connect() as slow, program.connect() as probe:
        slow.send(body[:-10])  # a request in flight keeps the server up
        probe.send(http_request("GET", "/readyz"))
        assert probe.read().http_status == 200
        assert program.process is not None
        program.process.terminate()
        probe.send(http_request("GET", "/readyz"))
        answer = probe.read()
        while answer.http_status == 200 and answer.header("connection") != "close":
            probe.send(http_request("GET", "/readyz"))
            answer = probe.read()
        assert answer.http_status == 503
        slow.send(body[-10:])
        assert slow.read().result == 0
        assert slow.ended()
    assert program.stop() == 0


@pytest.mark.parametrize("signal", ["TERM", "INT"])
def test_stop_of_an_idle_server_is_quiet(tmp_path: Path, signal: str) -> None:
    program = Program(tmp_path)
    program.start()
    assert program.process is not None
    subprocess.run(["kill", f"-{signal}", str(program.process.pid)], check=True)
    assert program.process.wait(PATIENCE_S) == 0
    program.stop()
    assert "rror" not in program.log()


# --- kills ----------------------------------------------------------------------------------------

A_QUARTER = max(1, KILLS // 4)


@dataclass
class Feeder:
    """Sends batches one after the other; with keys it asks again until it knows the outcome."""

    app: App
    keyed: bool
    rng: random.Random = field(default_factory=functools.partial(random.Random, SEED))
    number: int = 0
    acknowledged: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    open: list[int] = field(default_factory=list)

    def run(self, program: Program) -> None:
        """Go on until the server is gone."""
        client = Client(program)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(client):
            while True:
                if not (self.open and self.keyed):
                    self.open = list(range(self.number, self.number + self.rng.randint(1, 30)))
                    self.number = self.open[-1] + 1
                    self.sent += self.open
                records = [status(number, sid=str(number)) for number in self.open]
                headers = ingest_headers(program)
                if self.keyed:
                    headers["Idempotency-Key"] = f"feed-{self.open[0]}"
                answer = client.post(
                    f"/ingest/{self.app.sdkappid}/delivery-statuses",
                    json.dumps(records).encode(),
                    headers,
                )
                if answer is None:
                    return
                assert answer.http_status == 200
                self.acknowledged += self.open
                self.open = []


@dataclass
class Puller:
    """Pulls one page after the other; with keys it asks again for a page it did not get."""

    app: App
    keyed: bool
    number: int = 0
    got: list[int] = field(default_factory=list)
    lost_answers: list[str] = field(default_factory=list)
    open: str = ""

    def run(self, program: Program) -> None:
        """Go on until the server is gone."""
        client = Client(program)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(client):
            while True:
                if not (self.open and self.keyed):
                    if self.open:
                        self.lost_answers.append(self.open)
                    self.number += 1
                    self.open = str(self.number)
                headers = {"Idempotency-Key": f"pull-{self.open}"} if self.keyed else {}
                answer = client.post(*self.app.request(max=50, random=self.open), headers)
                if answer is None:
                    return
                self.got += [int(record["sid"]) for record in answer.data]
                self.open = ""


def test_kill_loses_nothing_and_hands_out_nothing_twice(tmp_path: Path) -> None:
    """Kills under load, one for four of `tests.faults.test_kill`.

    With keys on both sides each record arrives exactly once and in order, whatever was cut off.
    Without them nothing comes twice, and what is missing lies in pages whose answer was cut off:
    the journal names each of them.
    """
    program = Program(tmp_path)
    apps = [program.create_app(), program.create_app()]
    feeders = [Feeder(apps[0], keyed=True), Feeder(apps[1], keyed=False)]
    pullers = [Puller(apps[0], keyed=True), Puller(apps[1], keyed=False)]
    seconds = random.Random(7)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(A_QUARTER):
            program.start()
            clients = [pool.submit(feeder.run, program) for feeder in feeders]
            clients += [pool.submit(puller.run, program) for puller in pullers]
            pulled = len(pullers[0].got)
            program.until(lambda pulled=pulled: len(pullers[0].got) > pulled)  # type: ignore[misc]
            time.sleep(seconds.uniform(0, 0.3))  # the moment of the kill is what varies
            program.kill()
            for client in clients:
                client.result()
    program.start()
    for feeder in feeders:
        if feeder.open and feeder.keyed:
            answer = program.ingest(
                feeder.app,
                STATUS,
                [status(number, sid=str(number)) for number in feeder.open],
                Idempotency_Key=f"feed-{feeder.open[0]}",
            )
            assert answer.json == {"accepted": len(feeder.open)}
            feeder.acknowledged += feeder.open
    for puller in pullers:
        if puller.open and puller.keyed:
            answer = program.pull(puller.app, max=50, key=f"pull-{puller.open}")
            puller.got += [int(record["sid"]) for record in answer.data]
        elif puller.open:
            puller.lost_answers.append(puller.open)
        puller.got += [int(record["sid"]) for record in program.drain(puller.app)]
    assert program.stop() == 0

    keyed, bare = pullers
    assert len(keyed.got) > A_QUARTER
    assert keyed.got == feeders[0].acknowledged == feeders[0].sent

    assert bare.got == sorted(set(bare.got))
    missing = set(feeders[1].acknowledged) - set(bare.got)
    handed = {read_proof(row.proof)[0]: sids for row, sids in journal(program, apps[1])}
    in_lost_answers = [int(sid) for name in bare.lost_answers for sid in handed.get(name, [])]
    assert missing <= set(in_lost_answers)
    assert set(in_lost_answers).isdisjoint(bare.got)
    assert set(bare.got) <= set(feeders[1].sent)


def journal(program: Program, app: App) -> list[tuple[JournalRow, list[str]]]:
    """Every pull of an application's delivery statuses, with the `sid`s it was handed."""

    async def read() -> list[tuple[JournalRow, list[str]]]:
        store = await open_store(program.store)
        mailbox = Mailbox(app.sdkappid, STATUS)
        entries = [entry async for entry in store.entries(mailbox)]
        sids = {entry.seq: str(json.loads(entry.data)["sid"]) for entry in entries}
        rows = [row async for row in store.journal(mailbox)]
        await store.close()
        return [
            (row, [sids[seq] for seq in range(row.first_seq, row.first_seq + row.count)])
            for row in rows
        ]

    return asyncio.run(read())


# --- many at once ---------------------------------------------------------------------------------


def test_parallel_pullers_share_everything_and_overlap_nowhere(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        app = program.create_app()
        records = [status(number, sid=str(number)) for number in range(20_000)]
        program.feed(app, records)

        def pull_all(_: int) -> list[tuple[int, list[int]]]:
            client = Client(program)
            pages: list[tuple[int, list[int]]] = []
            with contextlib.closing(client):
                while True:
                    answer = client.post(*app.request(), {})
                    assert answer is not None
                    if not answer.data:
                        return pages
                    place = int(str(answer.header("pullstatus-pull-id")).split("-")[2])
                    pages.append((place, [int(record["sid"]) for record in answer.data]))

        with ThreadPoolExecutor(32) as pool:
            shares = list(pool.map(pull_all, range(32)))
        for pages in shares:
            assert pages == sorted(pages), "a puller was handed an older page after a newer one"
        in_order = sorted(itertools.chain.from_iterable(shares))
        assert [number for _, page in in_order for number in page] == list(range(20_000))
        assert program.waiting(app) == 0
        program.cli("audit")


def test_peer_that_hangs_up_before_reading_leaves_its_page_in_the_journal(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, statuses(10))

        def waits(count: int) -> bool:
            return program.waiting(app) == count

        for key, left in ((["Idempotency-Key: k"], 6), ([], 2)):
            with socket.create_connection((program.host, program.port)) as hasty:
                hasty.sendall(http_request("POST", *app.request(max=4), key))
                # One that is known to have gone before that gets nothing taken out for it.
                program.until(functools.partial(waits, left))
                hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        again = program.pull(app, max=4, key="k")
        assert again.data == statuses(4)
        assert program.pull(app, max=4, key="k").content == again.content
        assert program.pull(app).data == statuses(2, first=9)
        rows = journal(program, app)
    taken = [(row.first_seq, row.count, row.key) for row, _ in rows]
    assert taken == [(1, 4, "k"), (5, 4, None), (9, 2, None)]


# --- beside commands and other servers ------------------------------------------------------------


def test_changes_by_commands_reach_a_running_server(tmp_path: Path) -> None:
    """Within two seconds; `until` fails after that."""
    with Program(tmp_path) as program:
        program.cli("app", "create", "7")
        number = "7"
        key = program.cli("app", "rotate-key", number, "--drop-old")["appkey"]
        app = App(7, key)

        def answers(result: int) -> bool:
            return program.pull(app).result == result

        program.until(functools.partial(answers, 0))
        for change, result in (
            (("disable",), 1020),
            (("enable",), 0),
            (("set", "--pull", "off"), 1006),
            (("set", "--pull", "on", "--arrears", "on"), 1033),
            (("set", "--arrears", "off"), 0),
            (("rotate-key", "--drop-old"), 1001),
            (("delete",), 1019),
        ):
            program.cli("app", change[0], number, *change[1:])
            program.until(functools.partial(answers, result))
        program.cli("app", "create", number, "--appkey", key)
        program.until(lambda: program.pull(app).result == 0)
        token = program.create_token("late")
        program.until(lambda: program.ingest(app, STATUS, [], token=token).http_status == 400)
        program.cli("token", "revoke", "late")
        program.until(lambda: program.ingest(app, STATUS, [], token=token).http_status == 401)


def test_second_server_on_a_store_is_refused(tmp_path: Path) -> None:
    """Until the first is gone, however it went."""
    first = Program(tmp_path)

    def serve() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, "serve", "--port", "0", "--store", first.store],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    first.start()
    assert first.process is not None
    done = serve()
    assert (done.returncode, done.stdout) == (1, "")
    wanted = (
        rf"Error: another server \(process {first.process.pid}\) already serves \S+mailboxes\.db;"
        r" stop it first, or name another store\n"
    )
    assert re.fullmatch(wanted, done.stderr)
    assert first.http.get("/readyz").status_code == 200
    first.kill()
    first.start()
    assert first.stop() == 0


def test_restart_needs_no_repair_after_a_kill_without_load(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        app = program.create_app()
        for number in range(3):
            program.feed(app, [status(number)])
            program.kill()
            program.start()
        assert program.drain(app) == [status(number) for number in range(3)]


# --- what it shows --------------------------------------------------------------------------------


def test_health_and_root(shared: Program) -> None:
    for path, body in (("/healthz", {"status": "ok"}), ("/readyz", {"status": "ready"})):
        answer = shared.http.get(path)
        assert (answer.status_code, answer.json()) == (200, body)
        assert shared.http.head(path).status_code == 200
        assert shared.http.post(path).status_code == 405
    about = shared.http.get("/")
    assert about.json()["pull"] == "/v5/tlssmssvr/pullstatus"
    assert about.json()["version"] == VERSION
    assert about.json()["features"] == ["idempotency-key", "reader", "wait"]
    assert about.headers["content-type"] == "application/json"
    assert about.headers["cache-control"] == "public, max-age=60"


def test_metrics_count_what_happened(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        app = program.create_app()
        before, began_s = program.metrics(), time.time()
        program.feed(app, statuses(7))
        program.feed(app, [reply(1)])
        program.ingest(app, STATUS, [{}])
        program.pull(app, max=3, key="k")
        program.pull(app, max=3, key="k")
        program.post(app.target("1"), app.body("1", sig="0" * 64))
        after = program.metrics()
        changed = {name: after[name] - before.get(name, 0) for name in after}
        for name, change in {
            'records_in_total{kind="delivery-statuses"}': 7,
            'records_in_total{kind="replies"}': 1,
            'records_out_total{kind="delivery-statuses"}': 3,
            'waiting{kind="delivery-statuses"}': 4,
            'waiting{kind="replies"}': 1,
            'pulls_total{result="0"}': 2,
            'pulls_total{result="1001"}': 1,
            'batches_total{door="ingest",status="200"}': 2,
            'batches_total{door="ingest",status="400"}': 1,
            "mailboxes": 2,
        }.items():
            assert changed[f"pullstatus_{name}"] == change, name
        waited_s = after["pullstatus_oldest_waiting_seconds"]
        assert 0 < waited_s < time.time() - began_s + 1
        assert changed["pullstatus_commit_seconds_count"] >= 3
        assert after["pullstatus_store_bytes"] > 10_000
        answer = program.http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_nothing_secret_or_personal_gets_out(tmp_path: Path) -> None:
    """No appkey, token, number, text or key of anybody's in logs, figures or refusals."""
    program = Program(tmp_path, "--log-level", "debug")
    app = program.create_app()
    token = program.create_token("callbacks", app=app)
    number, text, sid = "13877700077", "canary text", "canary-sid"
    record = status(1, mobile=number, description=text, sid=sid)
    answer_to = reply(1, mobile=number, text=text, sign=text)
    canaries = [app.appkey, token, program.token, number, text, sid, "canary", "1387770"]
    with program:
        program.until(lambda: program.post(f"/callbacks/{token}", answer_to).http_status == 200)
        program.feed(app, [record])
        parked = program.post(f"/callbacks/{token}", [record | {"sid": ""}])
        assert parked.json["result"] == 0
        refusals = [
            program.ingest(app, STATUS, [record | {"nationcode": "canary"}]),
            program.ingest(app, STATUS, [record | {"report_status": text}]),
            program.ingest(app, REPLY, [answer_to | {"time": text}]),
            program.ingest(app, STATUS, f'[{{"sid":"{sid}'.encode()),
            program.ingest(app, STATUS, [record] * 1001),
            program.ingest(app, STATUS, [record], token="canary"),
            program.ingest(app, STATUS, [record], Content_Type="canary/json"),
            program.ingest(app, STATUS, [record], Idempotency_Key="canary canary"),
            program.ingest(app, STATUS, [record], Content_Encoding="canary"),
            program.post(f"/callbacks/{token}x", [record]),
            program.post(f"/callbacks/{program.token}", [record]),
            program.post("/canary", [record]),
            program.post("/v5/canary?random=canary", [record]),
            program.post(app.target("canary"), {"sig": app.appkey, "time": 1}),
            program.post(app.target("canary"), app.body("canary", type="canary")),
            program.post(app.target("canary"), app.body("canary", max="canary")),
            program.post(app.target("canary"), app.body("canary", time="canary")),
            program.post(app.target("canary"), f'{{"sig":"{app.appkey}"'.encode()),
            program.post(*app.request(), {"Idempotency-Key": "canary canary"}),
            program.post(f"{app.target('1')}{'1' * 64}", b"{}"),
            program.exchange(http_request("CANARY", app.target("canary"))),
            program.exchange(http_request("GET", "/canary", headers=["X: canary\x00"])),
            program.exchange(b"canary 13877700077 canary\r\n\r\n"),
            program.exchange(http_request("GET", "/", headers=["Pullstatus-canary: canary"] * 2)),
            program.exchange(http_request("GET", "/", headers=["Transfer-Encoding: canary"])),
            program.exchange(http_request("GET", f"http://{number}.canary/canary")),
            program.exchange(f"GET / HTTP/1.1\r\nHost: {text} {number}\r\n\r\n".encode()),
            program.exchange(http_request("TRACE", f"/canary?{number}")),
            program.exchange(http_request("CONNECT", f"/{number}")),
        ]
        for _ in range(limits.FAILED_TRIES_MAX + 1):
            program.post(f"/callbacks/canary-{number}", text.encode())
        program.until(lambda: "many failed tries" in program.log())
        with program.connect() as half:  # cut in the middle
            half.send(http_request("POST", f"/callbacks/{token}", f"{text} {number}".encode())[:-3])
        assert program.pull(app, key="canary").data == [record]
        assert program.pull(app, max=7, key="canary").result == 1004
        assert program.pull(app, REPLY).data == [answer_to]
        metrics = program.http.get("/metrics").text
        program.restart()
        program.kill()
        program.start()
    told = {"the log": program.log(), "the figures": metrics}
    told |= {
        f"refusal {place}": f"{answer.headers} {answer.content.decode()}"
        for place, answer in enumerate(refusals)
    }
    told["the answer to what is parked"] = parked.content.decode()
    for where, words in told.items():
        for canary in canaries:
            assert canary not in words, where
    assert all("result" not in a.json or a.json["result"] for a in refusals if a.content)
    assert "pull refused" in program.log()


def test_of_two_servers_that_begin_a_store_at_once_one_serves_it(tmp_path: Path) -> None:
    """The other is told so in a sentence, and the store is whole."""
    for round_ in range(3):
        store = f"sqlite:///{tmp_path}/new-{round_}.db"
        started = [
            subprocess.Popen(
                [COMMAND, "serve", "--port", "0", "--store", store],
                env=clean_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        try:
            deadline_s = time.monotonic() + PATIENCE_S
            while all(one.poll() is None for one in started):
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            [serving] = [one for one in started if one.poll() is None]
            [refused] = [one for one in started if one is not serving]
            _, said = refused.communicate()
            assert refused.returncode == 1
            assert re.fullmatch(
                rf"Error: another server \(process ({serving.pid}|unknown)\) already serves \S+;"
                r" stop it first, or name another store\n",
                said,
            )
            assert serving.stdout is not None
            assert serving.stdout.readline().startswith("pullstatus listens on ")
        finally:
            for one in started:
                one.terminate()
                one.communicate(timeout=60)
        assert [one.returncode for one in (serving, refused)] == [0, 1]
        audited = subprocess.run(
            [COMMAND, "audit", "--store", store], capture_output=True, timeout=60, check=False
        )
        assert audited.returncode == 0
