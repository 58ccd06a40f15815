"""Each alarm of dist/alerts.yml rings for its fault and no other does; an ordinary hour rings none.

And each question of the dashboard, dist/grafana.json, has an answer once everything has happened.

Faults are made on real servers. What their /metrics say before and behind it is laid out over two
hours, as if the fault went on, and Prometheus' own tool says what rings. What takes days or a
cluster is written into the figures of a server that is well; each of those figures must be there.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest
import trustme

from pullstatus.mailbox.done import Task, note
from pullstatus.records import Kind
from pullstatus.store import Append, Aside, Discard, Mailbox, Outcome, Pull, Reader, open_store
from tests.harness import (
    COMMAND,
    PATIENCE_S,
    PLAIN,
    ROOT,
    Program,
    http_request,
    status,
    statuses,
)

RULES = ROOT / "dist/alerts.yml"
ALARMS = set(re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8")))
ASKED = set(re.findall(r"\w+", RULES.read_text(encoding="utf-8")))
DASHBOARD = json.loads((ROOT / "dist/grafana.json").read_text(encoding="utf-8"))
CHOSEN = {"$job": "pullstatus", "$instance": ".+", "$__rate_interval": "5m"}
"""What is put for the dashboard's variables."""
COUNTED = re.compile(r"(_total|_bucket)\b")
Scrape = Mapping[str, float]
"""Figures by name and labels."""
UPKEEP = "pullstatus_upkeep_timestamp_seconds"
STARTED = "process_start_time_seconds"
HOUR_S, DAY_S = 3600, 86_400
LATER_S = 12 * DAY_S
"""In the time of Prometheus' test, which begins at 0: for what was days ago."""


class Story:
    """Figures of one server over two hours, a value a minute.

    Its upkeep goes on meanwhile, unless that it does not is what rings.

    Attributes:
        rings: what is to.
    """

    def __init__(
        self, rings: set[str], *scrapes: Scrape, step_min: int = 60, begins_s: int = 0
    ) -> None:
        """Each scrape stands for `step_min` minutes, the last one until the end.

        What was counted between the last two is counted again in each further minute.

        Args:
            begins_s: when the two hours begin, in Prometheus' test: what was before is before 0.
        """
        self.rings = rings
        self.begins_s = begins_s
        self.scrapes = scrapes
        self.step_min = step_min
        self.upkeep_hangs = "PullstatusUpkeepLate" in rings
        self.now_s = time.time()

    def values(self, name: str) -> list[str]:
        """One figure, in the notation of Prometheus' tests: value, change a minute, how often."""
        known = [scrape.get(name) for scrape in self.scrapes]
        parts = []
        for place, value in enumerate(known):
            last = place == len(known) - 1
            minutes = 121 - self.step_min * place if last else self.step_min
            before = known[place - 1] if place else None
            if value is None:
                parts.append(f"_x{minutes}")
                continue
            change = 0.0
            if last and before is not None and COUNTED.search(name):
                change = value - before
            moment = self._moved(name, value, place)
            if name == UPKEEP and not self.upkeep_hangs:
                moment, change = self._moved(name, self.now_s, place), 60.0
            parts.append(f"{moment:.6f}{change:+.6f}x{minutes - 1}")
        return parts

    def _moved(self, name: str, value: float, place: int) -> float:
        """A figure that is a moment, as a moment of the test's time."""
        if value and "timestamp" in name:
            return value - self.now_s + self.begins_s + 60 * self.step_min * place
        return value - self.now_s + self.begins_s if name == STARTED else value

    def series(self, instance: str, asked: set[str] = ASKED) -> list[dict[str, str]]:
        """All figures that are asked for, by an alarm if nothing else is said, of an instance."""
        made = []
        waits = [f"_x{self.begins_s // 60}"] if self.begins_s else []
        for name in sorted(set().union(*self.scrapes)):
            family, _, labels = name.partition("{")
            if family not in asked:
                continue
            own = ",".join(filter(None, (labels.rstrip("}"), f'instance="{instance}"')))
            given = f'{family}{{job="pullstatus",{own}}}'
            made.append({"series": given, "values": " ".join([*waits, *self.values(name)])})
        return made


def rung(stories: Mapping[str, Story], rules: str, folder: Path) -> dict[str, set[str]]:
    """What of some rules rings at any time of stories that begin together, by instance."""
    [begins_s] = {story.begins_s for story in stories.values()}
    # What it got is told where it is not what was expected, which is nothing.
    asked = {
        "expr": "last_over_time(ALERTS{alertstate='firing'}[3h])",
        "eval_time": f"{begins_s // 60 + 120}m",
        "exp_samples": [],
    }
    series = [one for name, story in stories.items() for one in story.series(name)]
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "10m" if begins_s else "1m",  # of days, each minute would take long
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [asked]}],
    }
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    told = told_by_promtool(test, folder).replace("\\", "")
    assert "SUCCESS" in told or "alertname" in told, told[:2000]
    found: dict[str, set[str]] = {name: set() for name in stories}
    for text in re.findall(r"\{(.*?alertname=.*?)\}", told):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', text))
        found[labels["instance"]].add(labels["alertname"])
    return found


def told_by_promtool(test: Mapping[str, object], folder: Path) -> str:
    """What Prometheus' tool says of its test of some rules."""
    (folder / "test.yml").write_text(json.dumps(test), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", folder / "test.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


# --- faults ---------------------------------------------------------------------------------------


WATCHED = ("--admin", "127.0.0.1:0")


def figures(program: Program) -> Scrape:
    return {**program.metrics(), "up": 1}


def watched(program: Program) -> Scrape:
    """The figures of a server that shows them elsewhere."""
    events = [json.loads(line) for line in program.log().splitlines()]
    [*_, admin] = [line["admin"] for line in events if line["event"] == "started"]
    found = httpx.get(f"{admin}/metrics", verify=PLAIN, trust_env=False, timeout=PATIENCE_S)
    return read(found.text)


def read(text: str) -> Scrape:
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {**{name: float(value) for name, value in pairs}, "up": 1}


def ordinary(folder: Path) -> Story:
    """Records come in and go out, some wait for a moment; one poll in two finds nothing."""
    program = Program(folder)
    app = program.create_app()
    with program:
        scrapes = []
        for _ in range(2):
            program.feed(app, statuses(30))
            program.pull(app, max=20)
            scrapes.append(figures(program))
            program.drain(app)
    return Story(set(), *scrapes)


def gone(folder: Path) -> Story:
    """The server does not answer any more."""
    with Program(folder) as program:
        before = figures(program)
        address = (program.host, program.port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    return Story({"PullstatusDown"}, before, {"up": 0})


def restarting(folder: Path) -> Story:
    program, scrapes = Program(folder), []
    for _ in range(3):
        with program:
            scrapes.append(figures(program))
    return Story({"PullstatusRestarts"}, *scrapes, step_min=5)


def full_disk(folder: Path) -> Story:
    program = Program(folder)
    app = program.create_app()

    async def run() -> list[Scrape]:
        async with program.inside(reserve_bytes=1 << 60), program.client() as client:
            scrapes = []
            for _ in range(2):
                answer = await client.post(
                    f"/ingest/{app.sdkappid}/delivery-statuses",
                    json=statuses(1),
                    headers={"Authorization": f"Bearer {program.token}"},
                )
                assert answer.status_code == 503
                scrapes.append(await _figures(client))
        return scrapes

    return Story({"PullstatusNoRoom", "PullstatusRefusesInput"}, *asyncio.run(run()))


async def _figures(client: httpx.AsyncClient) -> Scrape:
    return read((await client.get("/metrics")).text)


def stalled(folder: Path) -> Story:
    """Another program holds the store's file for longer than a pull waits."""
    oldest, refused = "pullstatus_store_oldest_seconds", 'pullstatus_pulls_total{result="1007"}'
    program = Program(folder)
    app = program.create_app()
    with program:
        program.feed(app, statuses(1))
        scrapes = [figures(program)]
        with contextlib.closing(sqlite3.connect(folder / "mailboxes.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            with program.connect() as wire:
                wire.send(http_request("POST", *app.request()))
                for name, least in ((oldest, 5), (refused, 0)):
                    while (scrape := figures(program))[name] <= least:
                        time.sleep(0.2)
                    scrapes.append(scrape)
    return Story({"PullstatusStoreStalled", "PullstatusPullsFail"}, *scrapes, step_min=20)


def failing(folder: Path) -> Story:
    """An error that nobody foresaw, in the middle of a pull."""

    program = Program(folder)
    app = program.create_app()

    async def run() -> list[Scrape]:
        async with program.inside() as server, program.client() as client:
            before = await _figures(client)

            async def fails(*_: object) -> None:
                raise RuntimeError("a bug")

            with pytest.MonkeyPatch.context() as patched, contextlib.suppress(httpx.HTTPError):
                patched.setattr(server.store, "pull", fails)
                patched.setattr(server.store, "surely_empty", lambda _mailbox: False)
                target, body = app.request()
                await client.post(target, content=body)
            return [before, await _figures(client)]

    return Story({"PullstatusFails"}, *asyncio.run(run()))


def wrong(folder: Path) -> Story:
    program = Program(folder)
    app = program.create_app()
    with program:
        before = figures(program)
        for _ in range(10):
            assert program.ingest(app, Kind.REPLY, b"{").http_status == 400
            assert program.ingest(app, Kind.REPLY, [], token="pst_none").http_status == 401
        after = figures(program)
    return Story({"PullstatusInputWrong", "PullstatusGuessing"}, before, after)


def crowded(folder: Path) -> Story:
    """More connect than there are descriptors for."""
    few = ("prlimit", "--nofile=200:200", COMMAND)
    program = Program(folder, *WATCHED, command=few)
    program.start()
    with contextlib.ExitStack() as held:
        held.callback(program.stop)
        before = watched(program)
        for _ in range(200):
            held.enter_context(socket.create_connection((program.host, program.port)))
        refused = 'pullstatus_connections_refused_total{reason="total"}'
        program.until(lambda: watched(program)[refused] > 10)
        after = watched(program)
    return Story({"PullstatusSheds"}, before, after)


def losing_workers(folder: Path) -> Story:
    with Program(folder, "--workers", "2", *WATCHED) as program:
        before = watched(program)
        log = [json.loads(line) for line in program.log().splitlines()]
        [worker, *_] = [line["process"] for line in log if line["event"] == "worker started"]
        os.kill(worker, signal.SIGKILL)
        program.until(lambda: watched(program)["pullstatus_workers_ended_total"] == 1)
        after = watched(program)
    return Story({"PullstatusWorkerEnded"}, before, after)


def unread_log(folder: Path) -> Story:
    program = Program(folder)
    with Path("/dev/full").open("wb") as full:
        program.start(stderr=full)
    try:
        before = figures(program)
        dropped = 'pullstatus_log_lines_total{fate="dropped"}'
        assert program.post("/ingest/1/replies", b"").http_status == 401
        program.until(lambda: program.metrics()[dropped] > before[dropped])
        after = figures(program)
    finally:
        program.stop()
    return Story({"PullstatusLogDropped"}, before, after)


def unpulled(folder: Path) -> Story:
    program = Program(folder)
    app = program.create_app()
    with program:
        before = figures(program)
        program.feed(app, statuses(5))
        after = figures(program)
    return Story({"PullstatusNobodyPulls"}, before, after)


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
    return Story({"PullstatusWaitingTooOld", "PullstatusPageInHand"}, after)


def neglected(folder: Path) -> Story:
    """The newest backup is of yesterday, and the newest audit of last week."""
    now_ms = int(time.time() * 1000)
    program = Program(folder)

    async def fill() -> None:
        store = await open_store(program.store)
        await note(store, Task.BACKUP, now_ms - 27 * HOUR_S * 1000)
        await note(store, Task.AUDIT, now_ms - 9 * DAY_S * 1000)
        await store.close()

    asyncio.run(fill())
    with program:
        program.until(lambda: figures(program)["pullstatus_backup_timestamp_seconds"])
        after = figures(program)
    return Story({"PullstatusBackupLate", "PullstatusAuditLate"}, after, begins_s=LATER_S)


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
    return Story({"PullstatusParked", "PullstatusParkedLost"}, before, after)


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
    return Story({"PullstatusQuarantined"}, before, after)


def old_certificate(folder: Path) -> Story:
    authority = trustme.CA()
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=10)
    authority.issue_cert("127.0.0.1", not_after=soon).private_key_and_cert_chain_pem.write_to_path(
        folder / "server.pem"
    )
    (folder / "server.pem").chmod(0o600)
    flags = ["--tls-certificate", "server.pem", "--tls-key", "server.pem"]
    flags = [str(folder / flag) if flag.endswith(".pem") else flag for flag in flags]
    with Program(folder, *flags, *WATCHED) as program:
        ends = "pullstatus_certificate_end_timestamp_seconds"
        program.until(lambda: watched(program)[ends])
        return Story({"PullstatusCertificateEnds"}, watched(program))


FAULTS: list[Callable[[Path], Story]] = [
    *(gone, restarting, full_disk, stalled, failing, wrong, crowded, losing_workers),
    *(unread_log, unpulled, long_ago, neglected, parked, damaged, old_certificate),
]

WRITTEN: dict[str, tuple[Scrape, Scrape]] = {
    "PullstatusStoreSlow": (
        {},
        {'pullstatus_commit_seconds_bucket{le="+Inf"}': 100},
    ),
    "PullstatusDiskFills": (
        {"pullstatus_store_free_bytes": 9 * 2**30},
        {"pullstatus_store_free_bytes": 2**30},
    ),
    "PullstatusSearchBehind": ({}, {"pullstatus_unfollowed_seconds": 7200}),
    "PullstatusPendingStays": ({}, {"pullstatus_oldest_pending_seconds": 7200}),
    "PullstatusLogGrows": ({}, {"pullstatus_store_log_bytes": 300 * 2**20}),
    "PullstatusStreamsDown": ({}, {"pullstatus_cluster_streams_down": 1}),
    "PullstatusLeaderWithoutWrites": ({}, {"pullstatus_cluster_streams_without_writes": 1}),
    "PullstatusCopiesAway": ({}, {"pullstatus_cluster_copies_away": 1}),
    "PullstatusNodeDamaged": ({}, {"pullstatus_cluster_mended_total": 1}),
    "PullstatusClusterFull": ({}, {"pullstatus_cluster_full_ratio": 0.9}),
}
"""What is written into the figures of a server that is well, before and behind."""


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return ordinary(tmp_path_factory.mktemp("ordinary"))


@pytest.mark.needs("promtool")
def test_each_alarm_rings_for_its_fault_and_an_ordinary_hour_rings_none(
    usual: Story, tmp_path: Path
) -> None:
    stories = {"ordinary": usual}
    for fault in FAULTS:
        folder = tmp_path / fault.__name__
        folder.mkdir()
        stories[fault.__name__] = fault(folder)
    well = usual.scrapes[0]
    for name, scrapes in WRITTEN.items():
        assert set(scrapes[1]) <= set(well), name
        stories[name] = Story({name}, *(({**well, **scrape}) for scrape in scrapes))
    late = {**well, UPKEEP: time.time() - 2 * HOUR_S}
    stories["late"] = Story({"PullstatusUpkeepLate"}, late, begins_s=LATER_S)
    head, *groups = re.split(r"(?m)^(?=  - name:)", RULES.read_text(encoding="utf-8"))
    [care] = [group for group in groups if "name: pullstatus-care" in group]
    found: dict[str, set[str]] = {}
    for begins_s, rules in ((0, [head, *groups]), (LATER_S, [head, care])):
        some = {name: story for name, story in stories.items() if story.begins_s == begins_s}
        found |= rung(some, "".join(rules), tmp_path)
    assert found == {name: story.rings for name, story in stories.items()}
    assert set().union(*(story.rings for story in stories.values())) == ALARMS


# --- the dashboard --------------------------------------------------------------------------------

SEEN: Scrape = dict.fromkeys(
    (
        "pullstatus_backup_timestamp_seconds",
        "pullstatus_audit_timestamp_seconds",
        "pullstatus_certificate_end_timestamp_seconds",
    ),
    time.time(),
)
"""What a server tells once it was backed up and audited, and has a certificate."""


def questions() -> list[str]:
    """What the dashboard asks."""
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    for name, value in CHOSEN.items():
        asked = [question.replace(name, value) for question in asked]
    return asked


@pytest.mark.needs("promtool")
def test_each_question_of_the_dashboard_has_an_answer(usual: Story, tmp_path: Path) -> None:
    asked = questions()
    assert len(asked) > 50
    assert not [question for question in asked if "$" in question]
    before, after = usual.scrapes
    happened = {name: after[name] + 1 for name in after if COUNTED.search(name)}
    story = Story(set(), {**before, **SEEN}, {**after, **happened, **SEEN})
    names = set(re.findall(r"\w+", " ".join(asked)))
    # It tells what it got where it is not what was expected, which is one figure of no sense.
    sense = {"labels": "nobody", "value": -1}
    tested = {
        "interval": "1m",
        "input_series": story.series("one", names) + story.series("two", names),
        "promql_expr_test": [
            {"expr": question, "eval_time": "90m", "exp_samples": [sense]} for question in asked
        ],
    }
    told = told_by_promtool({"rule_files": [], "tests": [tested]}, tmp_path)
    answers = re.findall(r'(?s)expr: "(.*?)", time: 1h30m.*?got:(.*?)(?=\n    expr: |\Z)', told)
    assert len(answers) == len(asked), told[:2000]
    empty = [question for question, got in answers if got.strip() in ("", "nil", "{}")]
    assert empty == []
