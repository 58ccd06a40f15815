"""The programs in examples/ have every record once, whatever ends them and whatever gets lost.

Each pulls through a proxy that loses answers, and is killed: when an answer was just lost, and in
the middle of its work. Then it may go on, and what it has stored is counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.committed import EXTRA, NOTING, ways
from tests.harness import PATIENCE_S, ROOT, App, Program, clean_environment, made, statuses
from tests.proxy import CuttingProxy

EXAMPLES = ROOT / "examples"
SYNCS = ROOT / "tests/e2e/syncs"  # on the PATH of programs; they note what is synced, and told
COUNT = 950  # ten pages


class Example(NamedTuple):
    """How one is run, and where it stores what it has pulled."""

    command: tuple[str, ...]
    stored: Callable[[Path], list[str]]
    before: tuple[str, ...] = ()
    follows: bool = False
    page: str = ""  # the table of the pages' names; "": they are names of files
    draft: str = ""  # the file that is written before the one that has the page's name
    broker: str = ""  # a folder that stands for a broker: a kill leaves halves of messages there


def in_pages(folder: Path) -> list[str]:
    pages = [json.loads(file.read_bytes()) for file in sorted(folder.glob("pages/*.json"))]
    return [record["sid"] for page in pages for record in page["data"]]


def in_table(name: str) -> Callable[[Path], list[str]]:
    def stored(folder: Path) -> list[str]:
        # Before it has made its database, and its table in it, nothing is stored.
        with contextlib.suppress(sqlite3.OperationalError):
            database = sqlite3.connect(f"file:{folder}/app.db?mode=ro", uri=True, timeout=20)
            with contextlib.closing(database):
                return [sid for (sid,) in database.execute(f"SELECT sid FROM {name}")]
        return []

    return stored


RUNNING = {
    "shell": Example(("./statuses.sh",), in_pages, draft="page.new"),
    "node": Example(
        ("node", "statuses.mjs"), in_pages, follows=True, draft="pages/{pull_id}.json.new"
    ),
    "fastapi": Example(
        ("python", "-m", "uvicorn", "app:app", "--port", "0"),
        in_table("status"),
        follows=True,
        page="page",
    ),
    "django": Example(
        ("python", "manage.py", "pull_statuses"),
        in_table("sms_status"),
        before=("python", "manage.py", "migrate", "--verbosity", "0"),
        page="sms_page",
    ),
    "celery": Example(
        ("python", "-m", "celery", "--app", "tasks", "worker", "--pool", "solo", "--beat"),
        in_table("status"),
        follows=True,
        page="page",
        broker="messages",
    ),
}


class Runs:
    """An example in a folder of its own, started and ended as often as one likes."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: tuple[str, ...]) -> int:
        """Run something to its end; returns its exit status."""
        self.start(command)
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE_S)
        finally:
            self.end(signal.SIGKILL)

    def start(self, command: tuple[str, ...]) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,  # with whatever it starts
            )

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def end(self, how: signal.Signals) -> int:
        """Send a signal to it and all that it has started; returns its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            return process.wait(PATIENCE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def failures(self) -> int:
        """How often it has said that it could not take a page."""
        said = (self.folder / "log").read_text(encoding="utf-8", errors="replace")
        return len(re.findall("asking again|raised unexpected", said))

    def opened(self, path: str) -> int:
        """How often it has this file open."""
        assert self._process is not None
        found = 0
        for descriptor in Path(f"/proc/{self._process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found += str(descriptor.readlink()) == path
        return found

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]


@pytest.fixture(params=RUNNING)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(shared: Program) -> Iterator[CuttingProxy]:
    with CuttingProxy(shared.host, shared.port) as running:
        yield running


@pytest.fixture
def runs(
    name: str, app: App, proxy: CuttingProxy, node: list[str], tmp_path: Path
) -> Iterator[Runs]:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    environment = clean_environment() | {
        "PATH": os.pathsep.join(
            [
                str(SYNCS),
                str(made("examples") / "bin"),
                str(Path(node[0]).parent),
                os.environ["PATH"],
            ]
        ),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), NOTING]),
        "COMMITS": str(folder / "commits"),
        "NODE_OPTIONS": f"--require={SYNCS / 'note.cjs'}",
        "SYNCED": str(folder / "synced"),
        "TOLD": str(folder / "told"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PULLSTATUS_URL": f"{proxy.address}/",  # as an address is often copied
        "PULLSTATUS_SDKAPPID": str(app.sdkappid),
        "PULLSTATUS_APPKEY": app.appkey,
    }
    started = Runs(folder, environment)
    yield started
    started.end(signal.SIGKILL)


def test_examples_have_every_record_once(
    name: str, runs: Runs, shared: Program, app: App, proxy: CuttingProxy
) -> None:
    example = RUNNING[name]
    records = statuses(COUNT)
    records[7]["user_receive_time"] = "0001-01-01 00:00:00"  # which UTC has no time for
    shared.feed(app, records)
    if example.before:
        assert runs.run(example.before) == 0, runs.log()

    def stored() -> list[str]:
        return example.stored(runs.folder)

    def until(happened: Callable[[], bool]) -> None:
        def seen() -> bool:
            if happened():
                return True
            if not runs.running():  # a pull failed, or nothing was left: it is run again
                # Celery's broker of files may read a message that is half written, and ends.
                half = example.broker and "kombu/transport/filesystem.py" in runs.log()
                assert half or not example.follows, runs.log()
                runs.start(example.command)
            return False

        shared.until(seen)

    def end(how: signal.Signals) -> None:
        runs.end(how)
        if example.broker:
            shutil.rmtree(runs.folder / example.broker)

    # The very first answer is lost, and it dies then and there; then a later one, in its middle.
    for plan in ((0,), (None, 30)):
        cuts = proxy.cuts
        proxy.cut(*plan)
        runs.start(example.command)
        until(lambda cuts=cuts: proxy.cuts > cuts)  # type: ignore[misc]
        end(signal.SIGKILL)

    # In the middle of its work, then asked to stop.
    for how in (signal.SIGKILL, signal.SIGTERM):
        before = len(stored())
        proxy.cut(None, 0, None)
        runs.start(example.command)
        until(lambda before=before: len(stored()) > before)  # type: ignore[misc]
        end(how)

    runs.start(example.command)
    until(lambda: len(stored()) >= COUNT)
    until(lambda: shared.waiting(app) == 0)
    assert sorted(stored()) == sorted(record["sid"] for record in records)
    assert proxy.cuts >= 3
    if (runs.folder / "app.db").exists():
        assert ways(runs.folder / "commits") == {EXTRA}
    else:  # a page has its name in its folder, and that has one, too
        synced = (runs.folder / "synced").read_text("utf-8").splitlines()
        assert synced.index(".") < synced.index("pages")


@pytest.mark.parametrize("name", ["shell", "node"])
def test_examples_keep_a_page_as_it_came(name: str, runs: Runs, shared: Program, app: App) -> None:
    """Once it is acknowledged theirs is the only copy."""
    shared.feed(app, [{**status, "more": 9_007_199_254_740_993} for status in statuses(3)])
    runs.start(RUNNING[name].command)
    shared.until(lambda: len(RUNNING[name].stored(runs.folder)) == 3)
    runs.end(signal.SIGKILL)
    [page] = [file.read_text("utf-8") for file in (runs.folder / "pages").glob("*.json")]
    assert page.count('"more":9007199254740993') == 3


@pytest.mark.parametrize("name", ["shell", "node"])
def test_examples_have_no_page_again_whose_file_was_fetched(
    name: str, runs: Runs, shared: Program, app: App, proxy: CuttingProxy
) -> None:
    example, records = RUNNING[name], statuses(200)

    def go_on() -> bool:
        if not runs.running():
            runs.start(example.command)
        return len(example.stored(runs.folder)) == 100

    shared.feed(app, records[:100])
    proxy.cut(None, None)  # what the service can do, and a page; its acknowledgement gets lost
    proxy.hold()
    runs.start(example.command)
    shared.until(lambda: proxy.held)
    (runs.folder / "pages").rename(runs.folder / "fetched")
    (runs.folder / "pages").mkdir()
    if not example.follows:
        shared.until(lambda: not runs.running())
        assert runs.run(example.command) == 0, runs.log()
        assert example.stored(runs.folder) == []

    shared.feed(app, records[100:])
    shared.until(go_on)
    assert sorted(example.stored(runs.folder)) == sorted(one["sid"] for one in records[100:])


@pytest.mark.parametrize("name", ["shell"])
def test_examples_forget_an_acknowledgement_that_the_service_does_not_know(
    name: str, runs: Runs, shared: Program, app: App
) -> None:
    shared.feed(app, statuses(100))
    (runs.folder / "last").write_text(f"{app.sdkappid}-0-7", "utf-8")
    assert runs.run(RUNNING[name].command) == 0, runs.log()
    assert len(RUNNING[name].stored(runs.folder)) == 100


@pytest.mark.parametrize("name", ["shell"])
def test_examples_show_nobody_what_they_sign(
    name: str, runs: Runs, shared: Program, app: App
) -> None:
    """Whoever sees the arguments of a process could pull with them for ten minutes."""
    shared.feed(app, statuses(100))
    assert runs.run(RUNNING[name].command) == 0, runs.log()
    told = (runs.folder / "told").read_text("utf-8")
    assert "--config" in told
    for secret in (app.appkey, "sig", "random", 'time"'):
        assert secret not in told, secret


class Disk:
    """Where an example stores its pages; full, as far as this one page is concerned."""

    def __init__(self, folder: Path, example: Example, pull_id: str) -> None:
        self._draft = folder / example.draft.format(pull_id=pull_id) if example.draft else None
        self._page = example.page
        self._path = folder / "app.db"

    def fill(self) -> bool:
        """Whether it could be done: what the example makes at its start has to be there."""
        with contextlib.suppress(FileNotFoundError, sqlite3.OperationalError):
            if self._draft is not None:
                self._draft.symlink_to("/dev/full")
            else:
                refused = "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
                self._execute(f"CREATE TRIGGER full BEFORE INSERT ON {self._page} {refused}")
            return True
        return False

    def make_room(self) -> None:
        if self._draft is not None:
            self._draft.unlink()
        else:
            self._execute("DROP TRIGGER full")

    def _execute(self, statement: str) -> None:
        address = f"file:{self._path}?mode=rw"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=20)) as database:
            database.execute(statement)


@contextlib.contextmanager
def other_service(
    features: str, headers: Mapping[str, str], busy: Sequence[int] = (), moved_to: str = ""
) -> Iterator[tuple[str, list[bytes]]]:
    """A service that hands whoever asks a page, with these headers: its address, and the pages.

    What it knows it tells behind answers of these HTTP statuses. One that has moved hands out none.
    """
    pages: list[bytes] = []
    ahead = iter(busy)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            about = f'{{"name":"pullstatus","features":[{features}]}}'
            status = next(ahead, 200)
            self._answer(about.encode() if status == 200 else b"busy", status)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if moved_to:
                return self._answer(b"", 307)
            record = f'{{"sid":"8:{len(pages)}","data":[]}}'
            pages.append(b'{"result":0,"errmsg":"OK","count":1,"data":[%b]}' % record.encode())
            return self._answer(pages[-1])

        def _answer(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 307:
                self.send_header("Location", moved_to + self.path)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_of: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", pages
        finally:
            server.shutdown()


@pytest.mark.parametrize("name", ["shell", "node"])
@pytest.mark.parametrize(
    ("features", "headers", "pulls"),
    [
        pytest.param("", {}, 0, id="knows no readers"),
        pytest.param('"reader"', {}, 1, id="drops the headers"),
        pytest.param('"reader"', {"Pullstatus_Pull_Id": "1-0-1"}, 1, id="names no reader"),
        pytest.param('"reader"', {"Pullstatus_Reader": "{name}"}, 1, id="names no page"),
        pytest.param(
            '"reader"', {"Pullstatus_Reader": "x", "Pullstatus_Pull_Id": "1-0-1"}, 1, id="another's"
        ),
    ],
)
def test_examples_lose_no_page_that_was_given_to_no_reader(
    name: str, runs: Runs, features: str, headers: dict[str, str], pulls: int
) -> None:
    said = {header: value.format(name=name) for header, value in headers.items()}
    with other_service(features, said) as (address, pages):
        runs.environment["PULLSTATUS_URL"] = address
        assert runs.run(RUNNING[name].command) not in (0, -signal.SIGKILL), runs.log()
    assert len(pages) == pulls
    kept = [file.read_text("utf-8") for file in runs.folder.glob("lone-*.json")]
    assert len(kept) == pulls
    assert all('"sid":"8:0"' in page for page in kept)


@pytest.mark.parametrize("name", ["node"])
def test_examples_take_what_is_signed_to_no_other_address(
    name: str, runs: Runs, shared: Program
) -> None:
    with (
        other_service('"reader"', {}) as (other, pages),
        other_service('"reader"', {}, moved_to=other) as (address, _),
    ):
        runs.environment["PULLSTATUS_URL"] = address
        runs.start(RUNNING[name].command)
        shared.until(lambda: runs.failures() or not runs.running())
        runs.end(signal.SIGKILL)
    assert f"moved to {other}/" in runs.log()
    assert not pages


@pytest.mark.parametrize("name", ["node"])
def test_examples_that_run_for_ever_ask_again_what_a_busy_service_knows(
    name: str, runs: Runs
) -> None:
    with other_service('"reader"', {}, busy=(503, 429)) as (address, pages):
        runs.environment["PULLSTATUS_URL"] = address
        assert runs.run(RUNNING[name].command) != 0
    assert runs.failures() == 2
    assert len(pages) == 1


def test_examples_go_on_when_the_disk_has_room_again(
    name: str, runs: Runs, shared: Program, app: App
) -> None:
    example = RUNNING[name]
    pull_id = ""
    if name == "node":  # the page that its reader has in hand
        shared.feed(app, statuses(100))
        answer = shared.post(*app.request(), {"Pullstatus-Reader": "node"})
        pull_id = str(answer.header("pullstatus-pull-id"))
        (runs.folder / "pages").mkdir()
    if example.before:
        assert runs.run(example.before) == 0, runs.log()
    disk = Disk(runs.folder, example, pull_id)
    if example.follows:
        runs.start(example.command)
    shared.until(disk.fill)
    shared.feed(app, statuses(250)[100 if pull_id else 0 :])

    if example.follows:
        shared.until(lambda: runs.failures() >= 3)
        assert runs.opened("/dev/full") <= 1
        disk.make_room()
        shared.until(lambda: len(example.stored(runs.folder)) >= 250)
        assert runs.running(), runs.log()
    else:
        assert runs.run(example.command) != 0
        disk.make_room()
        assert runs.run(example.command) == 0, runs.log()
    assert sorted(example.stored(runs.folder)) == sorted(one["sid"] for one in statuses(250))
