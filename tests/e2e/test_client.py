"""The client and its commands against the real server: answers lost, consumers killed."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import pty
import random
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pullstatus import (
    AnswerLost,
    AsyncClient,
    Client,
    ClockSkewed,
    DeliveryStatus,
    Kind,
    NotConnected,
    Page,
    Reply,
    SignatureRefused,
    UnknownSdkappid,
)
from pullstatus.client.flow import LONG_POLL_S
from pullstatus.client.records import Record
from pullstatus.consumer.run import pull_into
from pullstatus.consumer.sqlite import SqliteTarget
from pullstatus.consumer.state import Source
from pullstatus.consumer.targets import FileTarget
from pullstatus.consumer.ways import Job
from tests.faults.test_kill import KILLS
from tests.foreign import Foreign
from tests.harness import (
    COMMAND,
    PATIENCE_S,
    App,
    Program,
    clean_environment,
    ends_after_s,
    replies,
    reply,
    status,
    statuses,
    with_limits,
)
from tests.proxy import CuttingProxy

Records = list[dict[str, Any]]

HELD = "pullstatus_pulls_held"
PULLS = 'pullstatus_pulls_total{result="0"}'


def base_url(program: Program) -> str:
    return f"http://{program.host}:{program.port}"


def connect(program: Program, app: App, **options: Any) -> Client:  # noqa: ANN401 - the client's own
    return Client(base_url(program), app.sdkappid, app.appkey, **options)


@pytest.fixture
def proxy(shared: Program) -> Iterator[CuttingProxy]:
    with CuttingProxy(shared.host, shared.port) as proxy:
        yield proxy


# --- the two clients ------------------------------------------------------------------------------


def drain(address: str, app: App) -> Records:
    found: Records = []
    with Client(address, app.sdkappid, app.appkey, keyed=True, sleep=lambda _s: None) as client:
        for batch in client.delivery_statuses(max=10, follow=False):
            with batch:
                found += [status.members for status in batch]
    return found


def drain_async(address: str, app: App) -> Records:
    async def scenario() -> Records:
        found: Records = []
        async with AsyncClient(
            address, app.sdkappid, app.appkey, keyed=True, sleep=lambda _s: asyncio.sleep(0)
        ) as client:
            async for batch in client.delivery_statuses(max=10, follow=False):
                with batch:
                    found += [status.members for status in batch]
        return found

    return asyncio.run(scenario())


@pytest.mark.parametrize("drained", [drain, drain_async])
def test_lost_answers_lose_nothing(
    shared: Program, app: App, proxy: CuttingProxy, drained: Callable[[str, App], Records]
) -> None:
    """Cut anywhere, head or body, up to four times in a row: each page comes with its key."""
    chance = random.Random(5)
    shared.feed(app, statuses(200))
    for _ in range(20):
        cuts = [chance.choice((0, 1, 100, 300, 1000, 2300)) for _ in range(chance.randrange(5))]
        proxy.cut(*cuts, None)
    assert drained(proxy.address, app) == statuses(200)
    assert proxy.cuts > 20
    assert shared.waiting(app) == 0


def test_lost_first_answer_is_told_with_the_key_that_brings_it(
    shared: Program, app: App, proxy: CuttingProxy
) -> None:
    """Who says that the service knows no keys has it left to himself."""
    shared.feed(app, statuses(3))
    proxy.cut(0)
    with Client(proxy.address, app.sdkappid, app.appkey, keyed=False) as client:
        with pytest.raises(AnswerLost) as caught:
            client.pull(Kind.DELIVERY_STATUS, max=2)
        assert caught.value.may_have_consumed
        assert proxy.requests == 1
        page = client.pull(Kind.DELIVERY_STATUS, max=2, key=caught.value.key)
        assert [record.members for record in page] == statuses(2)
        assert client.keyed
        assert page.waiting == 1


def test_records_are_typed(shared: Program, app: App) -> None:
    shared.feed(app, [status(1, new="kept")])
    shared.feed(app, [reply(1, text="好 👍")])
    with connect(shared, app) as client:
        [one] = client.pull(Kind.DELIVERY_STATUS)
        assert isinstance(one, DeliveryStatus)
        assert one.received_at is not None
        assert one.received_at.isoformat() == "2026-01-02T03:04:05+08:00"
        assert one.members == status(1, new="kept")
        page = client.pull(Kind.REPLY)
        [two] = page
        assert isinstance(two, Reply)
        assert (two.text, two.time) == ("好 👍", 1_767_000_001)
        assert page.pull_id == f"{app.sdkappid}-1-1"
        assert page.waiting == 0


def test_refusals_are_told_apart(shared: Program, app: App) -> None:
    with (
        Client(base_url(shared), app.sdkappid, "0" * 32) as client,
        pytest.raises(SignatureRefused),
    ):
        client.pull(Kind.REPLY)
    with Client(base_url(shared), 1, app.appkey) as client, pytest.raises(UnknownSdkappid):
        client.pull(Kind.REPLY)


def test_skewed_clock_is_measured(shared: Program, app: App) -> None:
    with connect(shared, app, clock=lambda: time.time() - 4000) as client:
        with pytest.raises(ClockSkewed) as caught:
            client.pull(Kind.REPLY)
        assert caught.value.skew_s == pytest.approx(-4000, abs=30)
        assert "behind" in caught.value.fix


def test_server_that_is_not_there(tmp_path: Path) -> None:
    with (
        Client("http://127.0.0.1:9", 1, "0" * 32, sleep=lambda _s: None) as client,
        pytest.raises(NotConnected),
    ):
        client.pull(Kind.REPLY)


# --- pullstatus pull ------------------------------------------------------------------------------


class Shell:
    """Commands in a folder, with the service's address and keys in the environment.

    They hear what the service can do, however busy the machine.
    """

    command = with_limits(ABOUT_WAIT_S=PATIENCE_S)

    def __init__(self, folder: Path, address: str, app: App, token: str) -> None:
        self.folder = folder
        self.environment = clean_environment() | {
            "PULLSTATUS_URL": address,
            "PULLSTATUS_SDKAPPID": str(app.sdkappid),
            "PULLSTATUS_APPKEY": app.appkey,
            "PULLSTATUS_TOKEN": token,
            "XDG_STATE_HOME": str(folder),
            "NO_COLOR": "1",
        }

    def start(self, *arguments: str, pipe_bytes: int = -1) -> subprocess.Popen[str]:
        """Run a command; it goes no further than that what it prints fits in, until it is read."""
        return subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pipesize=pipe_bytes,
            text=True,
        )

    def run(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            input=text,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def lines(self, *arguments: str, text: str | None = None, exit_status: int = 0) -> Records:
        """The lines of JSON that a command prints."""
        done = self.run(*arguments, text=text)
        assert done.returncode == exit_status, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def shell(tmp_path: Path, shared: Program, app: App) -> Shell:
    return Shell(tmp_path, base_url(shared), app, shared.token)


STATUSES = ("pull", "--type", "delivery-status", "--to")


def read_ndjson(path: Path) -> Records:
    content = path.read_bytes()
    assert content.endswith(b"\n")
    return [json.loads(line) for line in content.splitlines()]


def read_csv(path: Path) -> Records:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [dict(row) for row in csv.DictReader(file, strict=True)]
    assert {(row.pop("extra"), row.pop("ext")) for row in rows} == {("", "")}
    return rows


def read_sqlite(path: Path) -> Records:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT json FROM delivery_statuses ORDER BY number").fetchall()
    connection.close()
    return [json.loads(row) for (row,) in rows]


A_QUARTER = max(1, KILLS // 4)
PIPE_BYTES = 4096  # the least there is
AHEAD_MAX = PIPE_BYTES // 40 + 1  # pages of which nobody has read yet: a line has more bytes


@pytest.mark.parametrize(
    ("to", "read"),
    [("out.ndjson", read_ndjson), ("out.csv", read_csv), ("sqlite:///out.db", read_sqlite)],
)
def test_consumer_killed_again_and_again(
    shell: Shell,
    shared: Program,
    app: App,
    to: str,
    read: Callable[[Path], Records],
) -> None:
    """kill -9 in the middle of its work, a few times: every record is there once, in order."""
    chance = random.Random(A_QUARTER)
    records = statuses(A_QUARTER * 10 * (8 + AHEAD_MAX))  # more than it pulls in all its lives
    shared.feed(app, records)
    for _ in range(A_QUARTER):
        with shell.start(*STATUSES, to, "--max", "10", pipe_bytes=PIPE_BYTES) as process:
            assert isinstance(process.stdout, io.TextIOWrapper)
            lines = process.stdout.buffer.raw  # which reads no more than a line
            for _ in range(chance.randrange(1, 9)):
                assert lines.readline()
            # Anywhere within the next page: asking, writing, syncing.
            moment = time.perf_counter() + chance.uniform(0, 0.01)
            while time.perf_counter() < moment:
                pass
            process.kill()
        assert process.returncode == -signal.SIGKILL
    assert shared.waiting(app) > 0
    shell.lines(*STATUSES, to)
    assert read(shell.folder / to.removeprefix("sqlite:///")) == records


def test_pages_are_told_as_lines_of_json(shell: Shell, shared: Program, app: App) -> None:
    shared.feed(app, statuses(5))
    told = shell.lines(*STATUSES, "out.ndjson", "--max", "2")
    assert [(line["count"], line["total"], line["waiting"]) for line in told] == [
        (2, 2, 3),
        (2, 4, 1),
        (1, 5, 0),
    ]
    assert told[0]["pull_id"] == f"{app.sdkappid}-0-1"
    assert shell.lines(*STATUSES, "out.ndjson") == []
    assert read_ndjson(shell.folder / "out.ndjson") == statuses(5)


def test_standard_output_has_the_records_and_nothing_else(
    shell: Shell, shared: Program, app: App
) -> None:
    shared.feed(app, statuses(250))
    assert shell.lines(*STATUSES, "-") == statuses(250)


def test_reader_that_goes_away_gets_its_page_again(shell: Shell, shared: Program, app: App) -> None:
    """`pull --to - | head -1` loses nothing: the next run writes the page in flight whole."""
    many = statuses(600)
    shared.feed(app, many)
    with shell.start(*STATUSES, "-") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert "standard output" in process.stderr.read()
    assert process.returncode == 1
    assert json.loads(first) == many[0]
    rest = shell.lines(*STATUSES, "-")
    assert rest == many[-len(rest) :]
    # What left before is a whole number of pages, and at most what fits into the pipe.
    assert (600 - len(rest)) % 100 == 0


def test_follow_goes_on_until_it_is_told_to_end(shell: Shell, shared: Program, app: App) -> None:
    shared.feed(app, statuses(1))
    with shell.start(*STATUSES, "out.ndjson", "--follow") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["total"] == 1
        shared.feed(app, statuses(2, first=2))
        assert json.loads(process.stdout.readline())["total"] == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert read_ndjson(shell.folder / "out.ndjson") == statuses(3)


def test_follow_is_held_by_the_service_and_ends_at_once(
    shell: Shell, shared: Program, app: App
) -> None:
    """A record is there when it has come; and whoever is held need not be waited for."""
    shared.feed(app, statuses(1))
    with shell.start(*STATUSES, "out.ndjson", "--follow") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["total"] == 1
        shared.until(lambda: shared.metrics()[HELD] == 1)
        pulls = shared.metrics()[PULLS]
        shared.feed(app, statuses(1, first=2))
        assert json.loads(process.stdout.readline())["total"] == 2
        shared.until(lambda: shared.metrics()[HELD] == 1)
        # The one that was held, one that finds nothing, and the one that is held now.
        assert shared.metrics()[PULLS] - pulls == 2
        process.send_signal(signal.SIGTERM)
        assert ends_after_s(process) < LONG_POLL_S / 2
        assert process.wait() == 0
    shared.until(lambda: shared.metrics()[HELD] == 0)
    assert read_ndjson(shell.folder / "out.ndjson") == statuses(2)
    # Nothing was in flight: a target of another name is no reason to refuse.
    shared.feed(app, statuses(1, first=3))
    assert len(shell.lines(*STATUSES, "tomorrow.ndjson")) == 1


@pytest.mark.parametrize("offered", [None, frozenset({"idempotency-key"})], ids=["reader", "key"])
@pytest.mark.parametrize("form", ["ndjson", "db"])
def test_answers_cut_at_every_byte(
    shared: Program,
    app: App,
    proxy: CuttingProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    offered: frozenset[str] | None,
) -> None:
    """In this process, where it is quick; what ends a process is tested beside."""
    cuts = 560  # an answer has no more bytes
    shared.feed(app, statuses(cuts))
    monkeypatch.setattr(os, "fsync", lambda _file: None)
    if offered:
        monkeypatch.setattr(Client, "features", lambda _client: offered)
    source = Source(proxy.address, app.sdkappid, Kind.DELIVERY_STATUS)
    path = tmp_path / f"out.{form}"
    target = SqliteTarget(path, source) if form == "db" else FileTarget(path, source)
    told = Told()
    job = Job(
        target=target,
        connect=partial(Client, proxy.address, app.sdkappid, app.appkey, sleep=lambda _s: None),
        kind=source.kind,
        count_max=1,
        reader=None,
        follow=False,
        abandon=False,
        watcher=told,
        clock=time.time,
        random=random.Random(1),
    )
    proxy.cut(*[None] * 3)  # behind the questions what the service can do
    for size in range(cuts):
        proxy.cut(size, None)
    with contextlib.closing(target):
        pull_into(job, lambda _s: None)
    assert (read_sqlite if form == "db" else read_ndjson)(path) == statuses(cuts)
    assert 400 < proxy.cuts < cuts  # so the last of them got through whole
    assert not told.warnings
    assert shared.waiting(app) == 0


class Told:
    """Who is told what goes on, and keeps what a person should know."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def page(self, page: Page[Record]) -> None:
        """It is in the target."""

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_follow_rides_out_lost_answers(
    shell: Shell, shared: Program, app: App, proxy: CuttingProxy
) -> None:
    shared.feed(app, statuses(3))
    shell.environment["PULLSTATUS_URL"] = proxy.address
    proxy.cut(None, 10, 0)
    with shell.start(*STATUSES, "out.ndjson", "--follow", "--max", "1") as process:
        assert process.stdout is not None
        totals = [json.loads(process.stdout.readline())["total"] for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    assert totals == [1, 2, 3]
    assert proxy.cuts == 2
    assert read_ndjson(shell.folder / "out.ndjson") == statuses(3)


@pytest.mark.parametrize("cuts", [(50,), (None, 50), (50, 50)])
def test_first_answer_may_be_lost(
    shell: Shell, shared: Program, app: App, proxy: CuttingProxy, cuts: tuple[int | None, ...]
) -> None:
    """That of the first pull, or of the question what the service can do, or both."""
    shared.feed(app, statuses(3))
    shell.environment["PULLSTATUS_URL"] = proxy.address
    proxy.cut(*cuts)
    shell.lines(*STATUSES, "out.ndjson")
    assert read_ndjson(shell.folder / "out.ndjson") == statuses(3)
    assert proxy.cuts == sum(cut is not None for cut in cuts)


def test_first_answer_of_another_service_lost_is_exit_status_5(shell: Shell) -> None:
    """The next run asks with the same key, and says what may be lost if that was in vain."""
    content = json.dumps({"result": 0, "errmsg": "ok", "count": 3, "data": statuses(3)}).encode()
    empty = b'{"result":0,"errmsg":"ok","count":0,"data":[]}'
    with Foreign("html", [None, content, empty]) as service:
        shell.environment["PULLSTATUS_URL"] = service.address
        done = shell.run(*STATUSES, "out.ndjson")
        assert done.returncode == 5
        assert "may be lost" in done.stderr
        assert service.asked == ["GET", "POST"]
        assert (shell.folder / "out.ndjson").read_bytes() == b""
        done = shell.run(*STATUSES, "out.ndjson")
        assert done.returncode == 0
        assert "up to 100 records may be lost" in done.stderr
    assert read_ndjson(shell.folder / "out.ndjson") == statuses(3)


@pytest.mark.parametrize(
    ("change", "arguments", "exit_status", "said"),
    [
        ({"PULLSTATUS_APPKEY": "0" * 32}, (), 3, "1001"),
        ({"PULLSTATUS_SDKAPPID": "1"}, (), 3, "1019"),
        ({"PULLSTATUS_APPKEY": "0 "}, (), 2, "blank"),
        ({"PULLSTATUS_URL": "nowhere"}, (), 2, "base_url"),
        ({"SSL_CERT_FILE": "/nowhere", "PULLSTATUS_URL": "https://a.test"}, (), 2, "SSL_CERT_FILE"),
        ({}, ("--max", "101"), 2, "101"),
        ({}, ("--state", "/nowhere/state"), 1, "directory; --state gives another path, the same"),
    ],
)
def test_exit_status_tells_what_happened(
    shell: Shell,
    change: dict[str, str],
    arguments: tuple[str, ...],
    exit_status: int,
    said: str,
) -> None:
    shell.environment |= change
    done = shell.run(*STATUSES, "out.ndjson", *arguments)
    assert done.returncode == exit_status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_targets_that_are_none_are_refused(shell: Shell) -> None:
    for to in ("out.txt", "postgres:///x", "out"):
        assert shell.run(*STATUSES, to).returncode == 2
    for to in ("out.db", "sqlite:out.db", "sqlite://out.db"):
        assert "did you mean sqlite:///out.db?" in shell.run(*STATUSES, to).stderr
    (shell.folder / "key").write_text("0" * 32 + "\n")
    del shell.environment["PULLSTATUS_APPKEY"]
    assert shell.run(*STATUSES, "out.ndjson").returncode == 2
    assert shell.run(*STATUSES, "out.ndjson", "--appkey-file", "key").returncode == 3


def test_progress_is_shown_on_a_terminal(shell: Shell, shared: Program, app: App) -> None:
    shared.feed(app, statuses(300))
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, *STATUSES, "out.ndjson"],
        cwd=shell.folder,
        env=shell.environment | {"TERM": "xterm", "COLUMNS": "80"},
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # the terminal is hung up
        pass
    os.close(master)
    assert process.wait(PATIENCE_S) == 0
    assert b"Pulling" in shown
    assert b"300 records went to out.ndjson; the mailbox is empty." in shown
    assert b'"count"' not in shown


# --- pullstatus push ------------------------------------------------------------------------------

PUSH = ("push", "--type", "delivery-status")


def ndjson(records: Records) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_what_was_pulled_can_be_pushed_and_pulled_again(
    shell: Shell, shared: Program, app: App, form: str
) -> None:
    """Through a file of either form, nothing of a record is lost."""
    texts = ["TD", "a,b", 'say "x"', "two\nlines", "好 👍", "", " "]
    records = [reply(n, text=text) for n, text in enumerate(texts)]
    records[0]["new"] = {"deep": [1, 2.5]}
    shared.feed(app, records)
    file = f"out.{form}"
    shell.lines("pull", "--type", "reply", "--to", file)
    told = shell.lines("push", file, "--type", "reply")
    assert told == [{"accepted": 7, "refused": 0, "skipped": 0}]
    assert shared.drain(app, Kind.REPLY) == records


def test_refused_records_are_reported_and_keep_nobody_back(
    shell: Shell, shared: Program, app: App
) -> None:
    records = statuses(40)
    records[3] = status(4, mobile="none")
    records[17] = {"sid": "8:18"}
    text = ndjson(records) + "not json\n"
    (shell.folder / "in.ndjson").write_text(text)
    told = shell.lines(*PUSH, "in.ndjson", "--batch", "25", exit_status=3)
    assert [line["line"] for line in told[:-1]] == [4, 18, 41]
    assert told[0]["record"] == records[3]
    assert "mobile must be" in told[0]["reason"]
    assert "is missing" in told[1]["reason"]
    assert told[2]["record"] == "not json"
    assert told[-1] == {"accepted": 38, "refused": 3, "skipped": 0}
    good = [record for n, record in enumerate(records) if n not in (3, 17)]
    assert shared.drain(app) == good


def held_until(over: threading.Event, size: int) -> int:
    """All of an answer of this size, but later."""
    assert over.wait(PATIENCE_S)
    return size


def test_push_killed_again_and_again(
    shell: Shell, shared: Program, app: App, proxy: CuttingProxy
) -> None:
    """kill -9 of the pushing side: run again it goes on, and every record is stored once."""
    chance = random.Random(3)
    lives, batches, most = 8, 50, 12  # so it never comes to its end
    records = statuses(lives * batches * most)
    (shell.folder / "in.ndjson").write_text(ndjson(records))
    state = shell.folder / "in.ndjson.pushed"
    noted = b""

    def goes_on() -> bool:
        return state.exists() and len(state.read_bytes()) > 4096 and state.read_bytes() != noted

    shell.environment["PULLSTATUS_URL"] = proxy.address
    for _ in range(lives):
        killed = threading.Event()
        held = partial(held_until, killed)
        proxy.cut(*[None] * (batches - 1), *[held] * batches)  # some for what it asks again
        batch = str(chance.randrange(5, most + 1))
        with shell.start(*PUSH, "in.ndjson", "--batch", batch) as process:
            shared.until(goes_on)
            noted = state.read_bytes()
            shared.until(goes_on)
            moment = time.perf_counter() + chance.uniform(0, 0.03)
            while time.perf_counter() < moment:
                pass
            process.kill()
        assert process.returncode == -signal.SIGKILL
        noted = state.read_bytes()
        proxy.cut_no_more()
        killed.set()
    told = shell.lines(*PUSH, "in.ndjson")
    assert told[-1]["refused"] == 0
    assert shared.drain(app) == records


def test_pipe_that_gives_the_same_again_is_stored_once(
    shell: Shell, shared: Program, app: App
) -> None:
    text = ndjson(statuses(30))
    for _ in range(2):
        told = shell.lines(*PUSH, "-", "--batch", "7", text=text)
        assert told[-1]["accepted"] == 30
    assert shared.drain(app) == statuses(30)
    shell.lines(*PUSH, "-", "--again", text=text)
    assert shared.drain(app) == statuses(30)


def test_pushed_file_is_skipped_and_what_was_added_is_not(
    shell: Shell, shared: Program, app: App
) -> None:
    file = shell.folder / "in.ndjson"
    file.write_text(ndjson(statuses(5)))
    shell.lines(*PUSH, "in.ndjson")
    with file.open("a") as added:
        added.write(ndjson(statuses(2, first=6)))
    told = shell.lines(*PUSH, "in.ndjson")
    assert told == [{"accepted": 2, "refused": 0, "skipped": 5}]
    assert shared.drain(app) == statuses(7)
    assert shell.lines(*PUSH, "in.ndjson", "--again")[-1]["accepted"] == 7


def test_another_file_of_the_same_name_is_pushed_whole(
    shell: Shell, shared: Program, app: App
) -> None:
    """A daily export; and one that was changed where it was pushed is told from it."""
    file = shell.folder / "daily.ndjson"
    file.write_text(ndjson(statuses(5)))
    shell.lines(*PUSH, "daily.ndjson")
    file.write_text(ndjson(statuses(8, first=101)))
    told = shell.lines(*PUSH, "daily.ndjson")
    assert told == [{"accepted": 8, "refused": 0, "skipped": 0}]
    assert shared.drain(app) == statuses(5) + statuses(8, first=101)
    file.write_text(ndjson(statuses(7, first=101)))
    done = shell.run(*PUSH, "daily.ndjson")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--again" in done.stderr
    shell.environment["PULLSTATUS_URL"] = shell.environment["PULLSTATUS_URL"].upper() + "/"
    file.write_text(ndjson(statuses(9, first=101)))
    assert shell.lines(*PUSH, "daily.ndjson")[-1]["accepted"] == 1


def test_line_that_is_not_finished_waits(shell: Shell, shared: Program, app: App) -> None:
    text = ndjson(statuses(4))
    file = shell.folder / "in.ndjson"
    file.write_text(text[:-10])
    told = shell.run(*PUSH, "in.ndjson")
    assert told.returncode == 5
    assert "line 4 of in.ndjson is not finished" in told.stderr
    assert shell.lines(*PUSH, "-", text=text[:-10], exit_status=3)[0]["line"] == 4
    file.write_text(text[:-1])
    assert shell.lines(*PUSH, "in.ndjson")[-1] == {"accepted": 1, "refused": 0, "skipped": 3}
    assert shared.drain(app) == [*statuses(3), *statuses(3), *statuses(4)[3:]]
    rows = "user_receive_time,nationcode,mobile,report_status,errmsg,description,sid\n"
    (shell.folder / "in.csv").write_text(rows + ",".join(statuses(1)[0].values()))
    assert shell.run(*PUSH, "in.csv").returncode == 5
    assert shell.lines(*PUSH, "in.csv", "--whole")[-1]["accepted"] == 1
    assert shared.drain(app) == statuses(1)


def test_push_that_is_stopped_says_how_far_it_came(
    shell: Shell, shared: Program, app: App, proxy: CuttingProxy
) -> None:
    (shell.folder / "in.ndjson").write_text(ndjson(statuses(3000)))
    state = shell.folder / "in.ndjson.pushed"
    stopped = threading.Event()
    shell.environment["PULLSTATUS_URL"] = proxy.address
    proxy.cut(*[None] * 50, *[partial(held_until, stopped)] * 50)  # so it never comes to its end
    with shell.start(*PUSH, "in.ndjson", "--batch", "5") as process:
        shared.until(lambda: state.exists() and re.search(rb'"lines":[1-9]', state.read_bytes()))
        process.send_signal(signal.SIGINT)
        proxy.cut_no_more()
        stopped.set()
        output, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    count = json.loads(output)["accepted"]
    assert f"{count:,} pushed; run it again to go on" in said
    assert "Aborted" not in said
    shell.lines(*PUSH, "in.ndjson")
    assert shared.drain(app) == statuses(3000)


def test_push_that_may_not_ends_with_the_reason(shell: Shell) -> None:
    (shell.folder / "in.ndjson").write_text(ndjson(statuses(1)))
    shell.environment["PULLSTATUS_TOKEN"] = "pst_wrong"
    done = shell.run(*PUSH, "in.ndjson")
    assert done.returncode == 4
    assert "revoked" in done.stderr


def test_push_of_the_wrong_type_ends_soon(shell: Shell) -> None:
    (shell.folder / "in.ndjson").write_text(ndjson(replies(50)))
    done = shell.run(*PUSH, "in.ndjson", "--batch", "10", "--refused-max", "15")
    assert done.returncode == 3
    assert "is --type right?" in done.stderr
    assert len(done.stdout.splitlines()) == 21


def test_csv_without_its_columns_is_refused(shell: Shell) -> None:
    (shell.folder / "in.csv").write_text("a,b\r\n1,2\r\n")
    done = shell.run(*PUSH, "in.csv")
    assert done.returncode == 1
    assert "there is none named user_receive_time" in done.stderr


# --- pullstatus sign, pullstatus verify -----------------------------------------------------------


def test_signed_command_pulls(shell: Shell, shared: Program, app: App) -> None:
    """What `sign --curl` prints is a call that the server takes."""
    done = shell.run("sign", "--curl", "--type", "reply", "--max", "7")
    assert done.returncode == 0
    found = subprocess.run(
        ["sh", "-c", done.stdout.replace("curl ", 'printf "%s\\n" ', 1)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    _, body, address = found
    answer = shared.post(address.removeprefix(base_url(shared)), body.encode())
    assert answer.result == 0


@pytest.mark.parametrize("at", ["\u00b2", "9" * 5000, "now"])
def test_time_of_a_signed_command_is_an_integer(shell: Shell, at: str) -> None:
    done = shell.run("sign", "--curl", "--type", "reply", "--time", at)
    assert done.returncode == 2
    assert "--time is not an integer" in done.stderr


def test_signature_is_explained(shell: Shell) -> None:
    [made] = [json.loads(shell.run("sign", "--random", "012345").stdout)]
    arguments = ["verify", "--random", "012345", "--time", made["time"], "--sig"]
    assert json.loads(shell.run(*arguments, made["sig"]).stdout) == {
        "accepted": True,
        "findings": [],
    }
    assert shell.environment["PULLSTATUS_APPKEY"] not in json.dumps(made)
    other = json.loads(shell.run("sign", "--random", "12345", "--time", made["time"]).stdout)
    done = shell.run(*arguments, other["sig"])
    assert done.returncode == 1
    [finding] = json.loads(done.stdout)["findings"]
    assert "without its leading zeros" in finding["mistake"]


def test_whole_request_is_explained(shell: Shell, app: App) -> None:
    target, body = app.request(at=int(time.time()) - 700)
    (shell.folder / "key").write_text(app.appkey + " \n")
    arguments = ("verify", "--appkey-file", "key", "--address", target, "--body")
    done = shell.run(*arguments, body.decode())
    assert done.returncode == 1
    first, second = json.loads(done.stdout)["findings"]
    assert "blank" in first["mistake"]
    assert "behind the server's clock: 1021" in second["mistake"]
    done = shell.run(*arguments, "-", "--any-time", text=body.decode())
    assert len(json.loads(done.stdout)["findings"]) == 1
    done = shell.run(*arguments, "{}")  # As the server says it.
    assert done.returncode == 1
    assert "1003" in json.loads(done.stdout)["findings"][1]["mistake"]


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--random", "", "--time", "5"), 1, "1004"),
        (("--random", "7" * 65, "--time", "5"), 1, "1004"),
        (("--random", "7", "--time", "1" * 20), 1, "1004"),
        (("--random", "7", "--time", "soon"), 1, "1004"),
        (("--random", "7", "--time", "5", "--now", "9" * 400), 2, "--now"),
        (("--random", "7", "--time", "5", "--body", "{}"), 2, "give --sig"),
        (("--random", "7", "--address", "/?random=7", "--time", "5"), 2, "give --sig"),
    ],
)
def test_what_the_server_would_not_read_is_not_accepted(
    shell: Shell, options: tuple[str, ...], status: int, said: str
) -> None:
    done = shell.run("verify", "--sig", "0" * 64, *options)
    assert done.returncode == status
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
