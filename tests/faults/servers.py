"""What can happen to a PostgreSQL and its clients, while clients of `Doors` are at work.

    told = torment(folder, FAULTS["kill the primary"], seed, times=3)
    assert told.verdict.sound, told

A fault happens so many times, between answers; then the run is judged (see verdict.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from pullstatus.store import open_store
from pullstatus.store.postgresql import log
from tests.faults.doors import Doors, Plant
from tests.faults.verdict import Verdict, judge
from tests.harness import PATIENCE_S
from tests.postgresql_proxy import MessageProxy
from tools.postgresql import POLL_S, Pair, PostgreSQL

PROCESSES: Final = 3
CANCELS: Final = 5  # times that all waits for a standby are cancelled, one after the other
CUT_RATE: Final = 0.02
UNHEARD: Final = 50  # answers without a standby are enough: nobody waits for one


@dataclass
class Run:
    """Servers, and clients of a store on them.

    Attributes:
        pair: None for a fault that needs one server only.
        happened: what was done, how many times.
    """

    server: PostgreSQL
    pair: Pair | None
    proxy: MessageProxy | None
    doors: Doors
    rng: Random
    happened: Counter[str] = field(default_factory=Counter)

    def some_door(self) -> str:
        """One of the processes."""
        return self.rng.choice(sorted(self.doors.processes))


@dataclass(frozen=True)
class Fault:
    """Something that happens.

    Attributes:
        paired: it needs a standby.
        proxied: it needs a proxy between.
        apart: commits are made by processes of their own, in which nothing can be planted.
        share: how many there are in a long run for each kill of the primary.
        happen: has it happen once.
    """

    name: str
    happen: Callable[[Run], None]
    share: float
    paired: bool = False
    proxied: bool = False
    apart: bool = False


@dataclass
class Told:
    """What was done in a run, and what came of it.

    Attributes:
        times: how many times the fault has happened.
        happened: what that was, counted.
        alarms: how many stores have noticed that commits were lost, and given up.
    """

    fault: Fault
    times: int
    happened: Counter[str]
    seconds: float
    alarms: int
    verdict: Verdict

    def __str__(self) -> str:
        done = ", ".join(f"{count} {what}" for what, count in self.happened.items())
        return f"{self.fault.name}: {done}; {self.verdict}"


def kill_the_primary(run: Run) -> None:
    """All its processes at once; it starts again on what it had."""
    run.server.kill()
    run.server.start()
    run.happened["kills of the primary"] += 1


def kill_a_client(run: Run) -> None:
    """And a next life of it."""
    name = run.some_door()
    run.doors.kill(name)
    run.doors.start_again(name)
    run.happened["kills of a client"] += 1


def pause_a_client(run: Run) -> None:
    """For a moment, or until the server has given up on what it has open."""
    name = run.some_door()
    run.doors.signal(name, signal.SIGSTOP)
    time.sleep(run.rng.choice((0.2, 1.5, IDLE_S + 1)))
    run.doors.signal(name, signal.SIGCONT)
    run.happened["pauses of a client"] += 1


IDLE_S: Final = 5  # after that a server gives up on an open transaction


def pause_the_primary(run: Run) -> None:
    """It says nothing for a while, and connections stay."""
    run.server.pause()
    time.sleep(run.rng.choice((0.1, 1)))
    run.server.resume()
    run.happened["pauses of the primary"] += 1


def cut_connections(run: Run) -> None:
    """For a while some commits are cut at any byte, on their way or on that of their answer."""
    assert run.proxy is not None
    run.proxy.cut_at_random(Random(run.rng.random()), CUT_RATE)
    before = run.proxy.cuts
    due_s = time.monotonic() + PATIENCE_S
    while run.proxy.cuts < before + 3:
        run.doors.check_alive()
        assert time.monotonic() < due_s, "nothing is committed"
        time.sleep(POLL_S)
    run.proxy.cut_at_random(Random(), 0)
    run.happened["commits cut"] += run.proxy.cuts - before


def fail_over(run: Run) -> None:
    """The primary is killed, its standby takes over, and gets a standby of its own."""
    assert run.pair is not None
    run.pair.fail_over()
    time.sleep(run.rng.uniform(0, 0.2))  # clients wait for a standby
    run.pair.rejoin()
    run.happened["failovers"] += 1


def strand_commits(run: Run) -> None:
    """The standby is cut off; the waits for it are cancelled; then the primary is lost."""
    assert run.pair is not None
    pair = run.pair
    pair.cut_off()
    waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')"
    before = run.doors.count()
    while not pair.primary.ask(waits) and run.doors.count() < before + UNHEARD:
        run.doors.check_alive()
        time.sleep(POLL_S)
    for _ in range(CANCELS):
        run.happened["waits cancelled"] += pair.cancel_waits()
        time.sleep(run.rng.uniform(0.02, 0.1))  # whoever did not hear of it answers now
    fail_over(run)


FAULTS: Final[Mapping[str, Fault]] = {
    fault.name: fault
    for fault in (
        Fault("kill the primary", kill_the_primary, 1),
        Fault("kill clients", kill_a_client, 1, apart=True),
        Fault("pause clients", pause_a_client, 0.1),
        Fault("pause the primary", pause_the_primary, 0.1),
        Fault("cut connections", cut_connections, 0.25, proxied=True),
        Fault("fail over", fail_over, 0.2, paired=True),
        Fault("strand commits", strand_commits, 0.05, paired=True),
    )
}


def patient() -> None:
    """Learn what a commit came to however long a server takes on a busy machine."""
    log.RESOLVE_S = PATIENCE_S  # type: ignore[misc]


async def _make(url: str) -> None:
    """Have a store there."""
    store = await open_store(url)
    await store.close()


def torment(
    folder: Path,
    fault: Fault,
    seed: object,
    times: int,
    *,
    major: int | None = None,
    plant: Plant | None = None,
    calm: tuple[int, int] = (100, 500),
    done: Callable[[int], None] = lambda _count: None,
) -> Told:
    """Have a fault happen so many times, and judge.

    Args:
        calm: how many answers come between two of them, at least and at most.
        done: told after each how many there were.
    """
    rng = Random(f"{seed}/{fault.name}")
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        pair = stack.enter_context(Pair(major)) if fault.paired else None
        server = pair.primary if pair else stack.enter_context(PostgreSQL(major))
        with server.connect() as connection:
            connection.execute("CREATE DATABASE store TEMPLATE template0")
        proxy = stack.enter_context(MessageProxy(server.port)) if fault.proxied else None
        direct = pair.url("store") if pair else server.tcp_url("store")
        url = server.tcp_url("store", port=proxy.port) if proxy else direct
        commits = "process" if fault.apart else "thread"
        url += f"{'&' if '?' in url else '?'}commits={commits}"
        doors = stack.enter_context(Doors(url, folder, seed, plant, patient))
        run = Run(server, pair, proxy, doors, rng)
        asyncio.run(_make(direct))
        doors.start(PROCESSES)
        doors.answered(calm[0])
        for count in range(1, times + 1):
            fault.happen(run)
            doors.answered(rng.randrange(*calm))
            done(count)
        doors.finish()
        verdict = asyncio.run(judge(direct, folder, seed))
    return Told(fault, times, run.happened, time.monotonic() - began, doors.alarms, verdict)
