"""An attempt that is held up on its way and arrives after its repeats were answered.

    first attempt   -- held up by a proxy ------------------> takes three records of five
    its repeats     ------> cut; an empty page
                                         five records come in
    the next look   ------------------------------------------------------> must bring all five

The repeats find nothing, rightly. Whoever then asks with a new key loses what the first one takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from pullstatus import AsyncClient, Client, Kind
from pullstatus.client.keys import NextPage
from tests.harness import (
    PATIENCE_S,
    PLAIN,
    App,
    Program,
    clean_environment,
    status,
    statuses,
)
from tests.proxy import CuttingProxy

Records = list[dict[str, Any]]
COUNT_MAX = 3
STATUS = Kind.DELIVERY_STATUS

# The bug that these tests are about, for this process and for those it starts.
PLANTED = """
import secrets
from pullstatus.client.keys import NextPage
NextPage.empty = lambda page, _asked_s: NextPage.new(secrets.token_hex(16), page.count_max)
"""

# Our service, as a command sees it that has met an older one: by keys.
BY_KEY = """
from pullstatus import Client
Client.features = lambda client: frozenset({"idempotency-key"})
"""
WAYS = {"reader": "", "key": BY_KEY}

# So that a test need not wait for a pull that is held.
SHORT = """
from pullstatus.consumer import ways
ways.LONG_POLL_S = 1
"""


class Consumer(Protocol):
    """Somebody who empties a mailbox now and then."""

    def look(self) -> Records:
        """What the mailbox has for it, until it is empty."""

    def close(self) -> None:
        """Go."""


# --- consumers ------------------------------------------------------------------------------------


class Keyed:
    """The rule of the reference in a few lines, as a client in any language would have it."""

    def __init__(self, address: str, app: App, *, planted: bool = False) -> None:
        self._http = httpx.Client(
            base_url=address, verify=PLAIN, trust_env=False, timeout=PATIENCE_S
        )
        self._app = app
        self._planted = planted
        self._key = secrets.token_hex(16)

    def look(self) -> Records:
        found: Records = []
        while True:
            target, body = self._app.request(STATUS, COUNT_MAX)
            headers = {"Idempotency-Key": self._key}
            try:
                answer = self._http.post(target, content=body, headers=headers).json()
            except httpx.TransportError:
                continue
            assert answer["result"] == 0
            if answer["data"] or self._planted:
                self._key = secrets.token_hex(16)
            if not answer["data"]:
                return found
            found += answer["data"]

    def close(self) -> None:
        self._http.close()


class ByHand:
    """`Client.pull`, again and again."""

    reader: str | None = None

    def __init__(self, address: str, app: App) -> None:
        self._client = Client(
            address, app.sdkappid, app.appkey, reader=self.reader, sleep=lambda _s: None
        )

    def look(self) -> Records:
        found: Records = []
        while page := self._client.pull(STATUS, max=COUNT_MAX):
            found += [record.members for record in page]
        return found

    def close(self) -> None:
        self._client.close()


class Iterating(ByHand):
    """A new iterator for each look."""

    def look(self) -> Records:
        found: Records = []
        for batch in self._client.delivery_statuses(max=COUNT_MAX, follow=False):
            with batch:
                found += [record.members for record in batch]
        return found


class Reading(Iterating):
    """The same under a reader's name."""

    reader = "billing"


class ReadingByHand(ByHand):
    """`Client.pull` of a reader, which says itself what it has done with."""

    reader = "billing"
    _ack: str | None = None

    def look(self) -> Records:
        found: Records = []
        while page := self._client.pull(STATUS, max=COUNT_MAX, ack=self._ack):
            found += [record.members for record in page]
            self._ack = page.pull_id
        return found


class AsyncByHand:
    """`AsyncClient.pull`."""

    reader: str | None = None

    def __init__(self, address: str, app: App) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(
            address,
            app.sdkappid,
            app.appkey,
            reader=self.reader,
            sleep=lambda _s: asyncio.sleep(0),
        )

    def look(self) -> Records:
        return self._runner.run(self._look())

    async def _look(self) -> Records:
        found: Records = []
        while page := await self._client.pull(STATUS, max=COUNT_MAX):
            found += [record.members for record in page]
        return found

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


class AsyncIterating(AsyncByHand):
    """A new iterator for each look."""

    async def _look(self) -> Records:
        found: Records = []
        async for batch in self._client.delivery_statuses(max=COUNT_MAX, follow=False):
            with batch:
                found += [record.members for record in batch]
        return found


class AsyncReading(AsyncIterating):
    """The same under a reader's name."""

    reader = "billing"


class Command:
    """`pullstatus pull`, a process for each look."""

    def __init__(self, address: str, app: App, folder: Path, to: str, plant: str = "") -> None:
        self.folder = folder
        self._to = to
        self._seen = 0
        code = f"{plant}\nfrom pullstatus.cli import main\nmain()"
        self.command = [sys.executable, "-c", code, "pull", "--type", "delivery-status"]
        self.command += ["--to", to, "--max", str(COUNT_MAX)]
        self.environment = clean_environment() | {
            "PULLSTATUS_URL": address,
            "PULLSTATUS_SDKAPPID": str(app.sdkappid),
            "PULLSTATUS_APPKEY": app.appkey,
            "XDG_STATE_HOME": str(folder),
        }

    def look(self) -> Records:
        done = subprocess.run(
            self.command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if self._to == "-":
            return [json.loads(line) for line in done.stdout.splitlines()]
        found = self.read()[self._seen :]
        self._seen += len(found)
        return found

    def read(self) -> Records:
        """All that is in the target."""
        path = self.folder / self._to.removeprefix("sqlite:///")
        if path.suffix == ".db":
            with contextlib.closing(sqlite3.connect(path)) as connection:
                rows = connection.execute("SELECT json FROM delivery_statuses ORDER BY number")
                return [json.loads(text) for (text,) in rows]
        lines = path.read_text(encoding="utf-8").splitlines()
        if path.suffix == ".ndjson":
            return [json.loads(line) for line in lines]
        return [status(int(line.split(",")[2].removeprefix("138"))) for line in lines[1:]]

    def close(self) -> None:
        """Nothing of it stays."""


TARGETS = ("out.ndjson", "out.csv", "sqlite:///out.db", "-")
IN_PROCESS = (ByHand, Iterating, AsyncByHand, AsyncIterating)
READERS = (Reading, ReadingByHand, AsyncReading)


@pytest.fixture
def proxy(shared: Program) -> Iterator[CuttingProxy]:
    with CuttingProxy(shared.host, shared.port) as proxy:
        yield proxy


# --- the fault ------------------------------------------------------------------------------------


def lost_to_a_late_attempt(
    program: Program,
    app: App,
    proxy: CuttingProxy,
    consumer: Consumer,
    *,
    cut_before: tuple[int | None, ...] = (),
    held: int = 1,
) -> Records:
    """Which of five records never reach a consumer whose attempts are late."""
    with contextlib.closing(consumer):
        program.feed(app, [status(99)])
        assert consumer.look() == [status(99)]  # so it knows that the service knows keys
        proxy.cut(*cut_before)
        proxy.hold(held)
        assert consumer.look() == []
        assert len(proxy.held) == held
        program.feed(app, statuses(5))
        proxy.release()
        assert program.waiting(app) == 2  # that was one page, however many were late
        found = consumer.look()
    assert program.waiting(app) == 0
    assert found == [one for one in statuses(5) if one in found]
    return [one for one in statuses(5) if one not in found]


@pytest.mark.parametrize("consumer", [Keyed, *IN_PROCESS, *READERS])
@pytest.mark.parametrize(
    ("cut_before", "held"), [((), 1), ((0, 40), 1), ((), 3), ((100,), 2)], ids=str
)
def test_late_attempt_loses_nothing(
    shared: Program,
    app: App,
    proxy: CuttingProxy,
    consumer: Callable[[str, App], Consumer],
    cut_before: tuple[int, ...],
    held: int,
) -> None:
    made = consumer(proxy.address, app)
    assert not lost_to_a_late_attempt(shared, app, proxy, made, cut_before=cut_before, held=held)
    assert proxy.cuts == len(cut_before)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("to", TARGETS)
def test_late_attempt_of_a_command_loses_nothing(
    shared: Program, app: App, proxy: CuttingProxy, tmp_path: Path, to: str, way: str
) -> None:
    """The run whose attempt was late has ended; the next one asks with its name, or its key."""
    command = Command(proxy.address, app, tmp_path, to, WAYS[way])
    asked = (None,) if way == "reader" else ()  # what the service can do, at each start
    cut_before = (*asked, 17)
    assert not lost_to_a_late_attempt(shared, app, proxy, command, cut_before=cut_before)


@pytest.mark.parametrize("way", WAYS)
def test_late_attempt_of_a_following_command_loses_nothing(
    shared: Program, app: App, proxy: CuttingProxy, tmp_path: Path, way: str
) -> None:
    command = Command(proxy.address, app, tmp_path, "out.ndjson", WAYS[way] + SHORT)
    shared.feed(app, [status(99)])
    with subprocess.Popen(
        [*command.command, "--follow"],
        cwd=tmp_path,
        env=command.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["total"] == 1
            proxy.hold()
            shared.until(lambda: proxy.held)
            answered = proxy.requests
            shared.until(lambda: proxy.requests > answered)
            with proxy.still():
                shared.feed(app, statuses(5))
                proxy.release()
                assert shared.waiting(app) == 2
            assert [json.loads(process.stdout.readline())["total"] for _ in range(2)] == [4, 6]
        finally:
            process.terminate()
        assert process.wait(PATIENCE_S) == 0
    assert command.read() == [status(99), *statuses(5)]


# --- the tests are tested -------------------------------------------------------------------------


@pytest.mark.parametrize("consumer", IN_PROCESS)
def test_clients_that_drop_their_key_are_caught(
    shared: Program,
    app: App,
    proxy: CuttingProxy,
    consumer: Callable[[str, App], Consumer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(NextPage, "empty", NextPage.empty)  # put back at the end
    exec(PLANTED, {})
    made = consumer(proxy.address, app)
    assert lost_to_a_late_attempt(shared, app, proxy, made) == statuses(COUNT_MAX)


@pytest.mark.parametrize("to", TARGETS)
def test_commands_that_drop_their_key_are_caught(
    shared: Program, app: App, proxy: CuttingProxy, tmp_path: Path, to: str
) -> None:
    command = Command(proxy.address, app, tmp_path, to, BY_KEY + PLANTED)
    assert lost_to_a_late_attempt(shared, app, proxy, command) == statuses(COUNT_MAX)


def test_plain_pulls_that_drop_their_key_are_caught(
    shared: Program, app: App, proxy: CuttingProxy
) -> None:
    made = Keyed(proxy.address, app, planted=True)
    assert lost_to_a_late_attempt(shared, app, proxy, made) == statuses(COUNT_MAX)
