"""Two servers, a primary, its synchronous standby; the primary is killed, and the table goes on.

    gateway      --batches-->  pullstatus serve A, B  ---->  PostgreSQL, the primary
    application  <--pages----   whichever answers               | each commit, before
                                                                v it is answered
                                                             PostgreSQL, the standby

`make cluster-demo ENGINE=postgresql`. Both databases are made for this run, of the programs that
are installed, and removed at its end. The gateway repeats a batch under its key until somebody
has accepted it, and the application a pull until it has the page, each of whichever server
answers: as they do anywhere. What the application has seen is then held against what was accepted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import msgspec
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pullstatus.emulator.scenario import APPKEY, SDKAPPID
from pullstatus.records import Kind
from pullstatus.wire.v5.pull import pull_request
from tools.postgresql import Pair, PostgreSQL

COMMAND = Path(sys.executable).with_name("pullstatus")
BATCH = 20
TICK_S = 0.1
PAUSE_S = 0.05  # before somebody is asked again
START_S = 60.0
DRAIN_S = 240.0
LINES_MAX = 8  # of what has happened
NO_HEADERS: Mapping[str, str] = {}


class Ended(Exception):
    """The demo cannot go on; the text says why."""


# --- servers --------------------------------------------------------------------------------------


@dataclass
class Server:
    """`pullstatus serve` of one machine."""

    name: str
    process: subprocess.Popen[str]
    address: str
    answers: int = 0


def environment(folder: Path, store: str) -> dict[str, str]:
    """What each process of pullstatus is told: where the store is, and the key of all of them."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PULLSTATUS_")}
    return own | {
        "PULLSTATUS_STORE": store,
        "PULLSTATUS_MASTER_KEY_FILE": str(folder / "master.key"),
    }


def run(folder: Path, store: str, *words: str) -> str:
    """What a command says."""
    done = subprocess.run(
        [COMMAND, *words],
        env=environment(folder, store),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Ended(f"pullstatus {words[0]} has failed: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def serving(name: str, folder: Path, store: str) -> Iterator[Server]:
    """A server, on a free port, until the block ends."""
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0"],
            env=environment(folder, store),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "listens on" not in line:
            raise Ended(f"server {name} does not start: {(folder / f'{name}.log').read_text()}")
        yield Server(name, process, line.split()[-1])
    finally:
        process.terminate()
        process.wait(START_S)


# --- traffic --------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What gateway and application know of their own.

    Attributes:
        accepted: records that a server has said it has.
        seen: how many times the application has got each record.
        unsure: attempts without an answer, or refused for now; each was made again.
        happened: what is told, with the second of the run.
    """

    accepted: set[str] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)
    unsure: int = 0
    happened: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=LINES_MAX))


class Traffic:
    """A gateway that sends, and an application that pulls, over two servers in turn."""

    def __init__(self, servers: list[Server], token: str, tally: Tally) -> None:
        self._servers = itertools.cycle(servers)
        self._token = token
        self._tally = tally
        self._client = httpx.AsyncClient(timeout=30, trust_env=False)
        self._wanted = self._feeding = True

    def stop(self) -> None:
        """Have the gateway end with the batch that it has begun, and then the application."""
        self._wanted = False

    async def feed(self, rate: int) -> None:
        """Send batches until `stop`, and what was begun is accepted."""
        numbers = itertools.count(1)
        while self._wanted:
            began = time.monotonic()
            sids = [f"8:{next(numbers)}" for _ in range(BATCH)]
            body = msgspec.json.encode([_status(sid) for sid in sids])
            path = f"/ingest/{SDKAPPID}/{Kind.DELIVERY_STATUS.path}"
            headers = {
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
            }
            await self._ask(partial(_constant, (path, body)), sids[0], headers)
            self._tally.accepted.update(sids)
            await asyncio.sleep(max(0, BATCH / rate - (time.monotonic() - began)))
        self._feeding = False

    async def pull(self) -> None:
        """Take pages, each under a key of its own, until nothing comes in and none is left."""
        while True:
            last = not self._feeding
            page = await self._ask(_signed, secrets.token_hex(8))
            found = msgspec.json.decode(page)
            self._tally.seen.update(record["sid"] for record in found["data"])
            if not found["data"]:
                if last:
                    return
                await asyncio.sleep(TICK_S)

    async def _ask(
        self,
        request: Callable[[], tuple[str, bytes]],
        key: str,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> bytes:
        """Ask one server after the other until one of them has an answer; returns that.

        Args:
            request: makes path and body, anew for each attempt, since a pull is signed.
            key: by which an attempt is known for the same as the one before.
        """
        headers = {**headers, "Idempotency-Key": key}
        while True:
            server = next(self._servers)
            path, body = request()
            with contextlib.suppress(httpx.TransportError):
                answer = await self._client.post(
                    server.address + path, content=body, headers=headers
                )
                if answer.status_code == httpx.codes.OK and b'"result":1007' not in answer.content:
                    server.answers += 1
                    return answer.content
            self._tally.unsure += 1
            await asyncio.sleep(PAUSE_S)


def _constant(request: tuple[str, bytes]) -> tuple[str, bytes]:
    return request


def _signed() -> tuple[str, bytes]:
    random_text = str(secrets.randbelow(10**10))
    kind = Kind.DELIVERY_STATUS
    return pull_request(SDKAPPID, APPKEY, kind, 100, random_text, int(time.time()))


def _status(sid: str) -> dict[str, str]:
    return {
        "user_receive_time": time.strftime(
            "%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + 8 * 3600)
        ),
        "nationcode": "86",
        "mobile": "13800000000",
        "report_status": "SUCCESS",
        "errmsg": "DELIVRD",
        "description": "made up",
        "sid": sid,
    }


# --- the screen -----------------------------------------------------------------------------------


class Screen:
    """The table of all that is there, figures, and what has happened."""

    def __init__(self, pair: Pair, servers: list[Server], tally: Tally) -> None:
        self._pair = pair
        self._servers = servers
        self._tally = tally
        self._began = time.monotonic()
        self._dead: set[int] = set()
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=int(3 / TICK_S))

    def tell(self, text: str) -> None:
        """Put something on the list of what has happened."""
        self._tally.happened.append((time.monotonic() - self._began, text))

    def lost(self, server: PostgreSQL) -> None:
        """It is gone, until `back`."""
        self._dead.add(server.port)

    def back(self, server: PostgreSQL) -> None:
        """It is there again."""
        self._dead.discard(server.port)

    def __rich__(self) -> Group:
        """All of it, as it is now."""
        tally = self._tally
        now = time.monotonic(), len(tally.accepted), tally.seen.total()
        self._samples.append(now)
        span_s = max(TICK_S, now[0] - self._samples[0][0])
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in ("", "is", "at", "answers"):
            table.add_column(column, justify="right" if column == "answers" else "left")
        for server in self._servers:
            table.add_row(f"server {server.name}", "serves", server.address, f"{server.answers:,}")
        databases = sorted((self._pair.primary, self._pair.standby), key=lambda one: one.port)
        for number, database in enumerate(databases, 1):
            state = Text("primary", "green") if database is self._pair.primary else Text("standby")
            if database.port in self._dead:
                state = Text("killed", "red")
            table.add_row(f"database {number}", state, f"127.0.0.1:{database.port}", "")
        minutes, seconds = divmod(int(now[0] - self._began), 60)
        figures = (
            f"{minutes:02}:{seconds:02}"
            f"  accepted {now[1]:,} ({(now[1] - self._samples[0][1]) / span_s:.0f}/s)"
            f"  handed out {now[2]:,} ({(now[2] - self._samples[0][2]) / span_s:.0f}/s)"
            f"  asked again {tally.unsure:,}"
        )
        lines = [Text(f"  {at_s:5.1f} s  {text}", no_wrap=True) for at_s, text in tally.happened]
        return Group(table, Text(""), Text(figures, "bold", no_wrap=True), *lines)


# --- what happens ---------------------------------------------------------------------------------


async def play(
    pair: Pair,
    servers: list[Server],
    token: str,
    screen: Screen,
    tally: Tally,
    options: argparse.Namespace,
) -> None:
    """Traffic, a death, a successor, and traffic again; then all that waits is taken."""
    traffic = Traffic(servers, token, tally)
    feeding = asyncio.create_task(traffic.feed(options.rate))
    pulling = asyncio.create_task(traffic.pull())
    screen.tell("each commit is on both databases before it is answered")
    await _beside(asyncio.sleep(options.calm), feeding, pulling)
    victim = pair.primary
    screen.tell("the primary is killed, all its processes at once")
    await asyncio.to_thread(victim.kill)
    screen.lost(victim)
    await _beside(asyncio.sleep(options.blind), feeding, pulling)
    screen.tell("the standby is promoted, as a cluster manager would")
    await asyncio.to_thread(pair.take_over)
    screen.tell("it answers nobody before it has a standby of its own")
    await asyncio.to_thread(pair.rejoin)
    screen.back(victim)
    screen.tell("the first database is a copy of the new primary, and its standby")
    before = len(tally.accepted)
    await _beside(asyncio.sleep(options.calm), feeding, pulling)
    screen.tell(f"{len(tally.accepted) - before:,} records more were accepted since")
    traffic.stop()
    await asyncio.wait_for(asyncio.gather(feeding, pulling), DRAIN_S)
    screen.tell("all that was accepted has been pulled")


async def _beside(work: Awaitable[object], *others: asyncio.Task[None]) -> None:
    """Do it; what others raise meanwhile is raised here."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        if other.done():
            other.result()
    await task


async def shown(console: Console, screen: Screen, work: Awaitable[None]) -> None:
    """Do it, with the screen as it is meanwhile; where no line can be rewritten, as it is then."""
    task = asyncio.ensure_future(work)
    if console.is_terminal:
        with Live(screen, console=console, auto_refresh=False) as live:
            while not task.done():
                live.update(screen, refresh=True)
                await asyncio.wait({task}, timeout=TICK_S)
            live.update(screen, refresh=True)
    await task
    if not console.is_terminal:
        console.print(screen)


def judged(tally: Tally, *, sound: bool) -> list[str]:
    """What is wrong; nothing, if every promise was kept."""
    lost = len(tally.accepted - tally.seen.keys())
    twice = sum(count > 1 for count in tally.seen.values())
    never = len(tally.seen.keys() - tally.accepted)
    return [
        f"{count:,} records {text}"
        for count, text in ((lost, "lost"), (twice, "handed out twice"), (never, "of nobody"))
        if count
    ] + ([] if sound else ["the audit is not content"])


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make cluster-demo", description=__doc__.split("\n")[0])
    parser.add_argument("--engine", choices=["postgresql"], default="postgresql")
    parser.add_argument("--rate", type=int, default=400, help="records a second (400)")
    parser.add_argument("--calm", type=float, default=12, help="seconds before and behind (12)")
    parser.add_argument("--blind", type=float, default=3, help="seconds without a primary (3)")
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        return demonstrate(console, options)
    except Ended as error:
        console.print(Text(str(error), "red"))
        return 1
    except KeyboardInterrupt:
        return 130


def demonstrate(console: Console, options: argparse.Namespace) -> int:
    """Have all there is, let it happen, and judge."""
    tally = Tally()
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="pullstatus-cluster-"))
        )
        console.print("Making two databases, a primary and a synchronous standby ...")
        pair = stack.enter_context(Pair())
        with pair.primary.connect() as connection:
            connection.execute("CREATE DATABASE mailboxes TEMPLATE template0")
        store = pair.url("mailboxes")
        key = folder / "master.key"
        key.write_text(secrets.token_hex(32) + "\n")
        key.chmod(0o600)
        console.print(f"PostgreSQL {pair.primary.major}; the store of both servers is\n  {store}\n")
        run(folder, store, "store", "init")
        run(folder, store, "app", "create", str(SDKAPPID), "--appkey", APPKEY)
        token = json.loads(run(folder, store, "token", "create", "gateway"))["token"]
        servers = [stack.enter_context(serving(name, folder, store)) for name in ("A", "B")]
        screen = Screen(pair, servers, tally)
        asyncio.run(shown(console, screen, play(pair, servers, token, screen, tally, options)))
        audit = json.loads(run(folder, store, "audit", "--json"))
        wrong = judged(tally, sound=audit["sound"])
    console.print()
    if wrong:
        console.print(Text("; ".join(wrong), "red"))
        return 1
    told = (
        f"{len(tally.accepted):,} records accepted, each handed out once, none lost; audit sound."
    )
    console.print(Text(told, "bold green"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
