"""Consumers of one mailbox that can be killed anywhere, and say afterwards what they have seen.

    blocking    a program with `Client`, as a reader
    awaiting    the same with `AsyncClient`
    command     `pullstatus pull` into a file, which keeps beside it what its next run needs
    shell       examples/shell, with curl and the headers of a reader

A program writes each record into its file before it goes on to the next, and acknowledges the page
behind the last. Python ones are forked from a process that has everything imported, so that a start
costs next to nothing. Each has a way to the server of its own, which can lose its answers.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

from pullstatus import AsyncClient, Client
from pullstatus.cli import main
from tests.harness import PATIENCE_S, ROOT, App, clean_environment

LIFE_S_MAX = 600  # whatever becomes of whoever has started it
RECORD_S = 0.001  # an application's work on a record
RETRY_PAUSE_S = (0.01, 0.2)
RUN_PAUSE_S = 0.05  # between two runs of the shell script

WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload([__name__])

Seen = list[tuple[str, str]]  # the name of a page, and the sid of a record on it


@dataclass(frozen=True)
class Place:
    """Where a consumer pulls from, and the folder that is its own."""

    address: str
    app: App
    folder: Path


class Consumer(Protocol):
    """A consumer that is started and killed as often as one likes."""

    name: str

    def start(self, count_max: int) -> None:
        """Start it; it asks for so many records at a time, if that can be told to it."""

    def ended(self) -> str:
        """Why it has ended by itself, though it must not; "" if it has not."""

    def kill(self, how: signal.Signals) -> None:
        """Send a signal to it and all that it has started; on return they are gone."""

    def progress(self) -> int:
        """A number that grows with what it has seen, and costs nothing."""

    def seen(self) -> Seen:
        """Everything that it has seen, in all its lives."""


# --- forked from a warm process -------------------------------------------------------------------


class Forked:
    """A function of this module in a process of its own, whose output is a file."""

    def __init__(
        self,
        place: Place,
        work: Callable[[Place, int], None],
        may_end: frozenset[int] = frozenset(),
    ) -> None:
        self.name = work.__name__
        self._place = place
        self._work = work
        self._may_end = may_end
        self._process: ForkServerProcess | None = None
        self._count_max = 1
        place.folder.mkdir(exist_ok=True)

    def start(self, count_max: int) -> None:
        self._count_max = count_max
        self._process = WARM.Process(target=live, args=(self._work, self._place, count_max))
        self._process.start()

    def ended(self) -> str:
        process = self._process
        if process is None or process.exitcode is None:
            return ""
        if process.exitcode not in self._may_end:
            log = (self._place.folder / "log").read_text(encoding="utf-8", errors="replace")
            return f"{self.name} has ended with status {process.exitcode}:\n{log[-2000:]}"
        process.close()
        self.start(self._count_max)  # as whatever supervises it does
        return ""

    def kill(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.pid is not None
        if process.exitcode is None:
            os.kill(process.pid, how)
        process.join(PATIENCE_S)
        if process.exitcode is None:
            process.kill()
            process.join(PATIENCE_S)
            raise AssertionError(f"{self.name} does not end by signal {how}")
        process.close()

    def progress(self) -> int:
        try:
            return self._output.stat().st_size
        except FileNotFoundError:
            return 0

    def seen(self) -> Seen:
        lines = self._output.read_text("utf-8").split("\n")[:-1] if self._output.exists() else []
        if self._work is command:
            # Their names are not in the file; a record that comes again is on another line.
            return [(f"line {n}", json.loads(line)["sid"]) for n, line in enumerate(lines)]
        return [(page, sid) for page, sid in (line.split() for line in lines)]

    @property
    def _output(self) -> Path:
        return self._place.folder / "seen.ndjson"


def live(work: Callable[[Place, int], None], place: Place, count_max: int) -> None:
    """What a forked process does."""
    signal.alarm(LIFE_S_MAX)
    os.chdir(place.folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    work(place, count_max)


def blocking(place: Place, count_max: int) -> None:
    """The program of the README, which stores the page's name with each record."""
    seen = os.open("seen.ndjson", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    app = place.app
    with Client(
        place.address, app.sdkappid, app.appkey, reader="blocking", retry_pause_s=RETRY_PAUSE_S
    ) as client:
        for batch in client.delivery_statuses(max=count_max):
            with batch:
                for status in batch:
                    os.write(seen, f"{batch.pull_id} {status.sid}\n".encode())
                    time.sleep(RECORD_S)


def awaiting(place: Place, count_max: int) -> None:
    """The same, with await."""
    asyncio.run(_await(place, count_max))


async def _await(place: Place, count_max: int) -> None:
    seen = os.open("seen.ndjson", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    app = place.app
    async with AsyncClient(
        place.address, app.sdkappid, app.appkey, reader="awaiting", retry_pause_s=RETRY_PAUSE_S
    ) as client:
        async for batch in client.delivery_statuses(max=count_max):
            with batch:
                for status in batch:
                    os.write(seen, f"{batch.pull_id} {status.sid}\n".encode())
                    await asyncio.sleep(RECORD_S)


def command(place: Place, count_max: int) -> None:
    """`pullstatus pull`, as it starts in a process of its own."""
    os.environ["PULLSTATUS_APPKEY"] = place.app.appkey
    flags = {
        "--url": place.address,
        "--sdkappid": str(place.app.sdkappid),
        "--type": "delivery-status",
        "--to": "seen.ndjson",
        "--max": str(count_max),
    }
    main(["pull", "--follow", *(word for flag in flags.items() for word in flag)])


def without_a_reader(place: Place, count_max: int) -> None:
    """A bug is planted: `blocking` without the one word that it is about."""
    seen = os.open("seen.ndjson", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    app = place.app
    client = Client(place.address, app.sdkappid, app.appkey, retry_pause_s=RETRY_PAUSE_S)
    for batch in client.delivery_statuses(max=count_max):
        with batch:
            for status in batch:
                os.write(seen, f"{batch.pull_id} {status.sid}\n".encode())
                time.sleep(RECORD_S)


# --- the shell ------------------------------------------------------------------------------------


class Shell:
    """The shell example, run again and again as by cron; a run ends when the mailbox is empty."""

    name = "shell"

    def __init__(self, place: Place) -> None:
        self._folder = place.folder
        self._process: subprocess.Popen[bytes] | None = None
        shutil.copytree(ROOT / "examples" / "shell", place.folder)
        self._pages = place.folder / "pages"
        self._environment = clean_environment() | {
            "PULLSTATUS_URL": place.address,
            "PULLSTATUS_SDKAPPID": str(place.app.sdkappid),
            "PULLSTATUS_APPKEY": place.app.appkey,
            "PULLSTATUS_READER": self.name,
        }

    def start(self, count_max: int) -> None:  # the script asks for 100
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["timeout", "--foreground", str(LIFE_S_MAX), "sh", "-c", self._script],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    _script = f"while :; do ./statuses.sh; sleep {RUN_PAUSE_S}; done"

    def ended(self) -> str:
        running = self._process is None or self._process.poll() is None
        return "" if running else f"{self.name} has ended"

    def kill(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, how)
            try:
                process.wait(PATIENCE_S)
            finally:
                _kill_rest(process.pid)

    def progress(self) -> int:
        return sum(1 for _ in self._pages.glob("*.json"))

    def seen(self) -> Seen:
        return [
            (file.stem, record["sid"])
            for file in self._pages.glob("*.json")
            for record in json.loads(file.read_bytes())["data"]
        ]


def _kill_rest(group: int) -> None:
    """Have nothing left of a group: TERM may have met a process between fork and exec."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(0.001)
