"""What can happen to a PostgreSQL and its clients, while clients of `Doors` are at work."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Final, NamedTuple

from pullstatus.store import open_store
from pullstatus.store.postgresql import log
from tests.faults.torment import Fault, Run, Stage, kill_a_client, pause_a_client
from tests.harness import PATIENCE_S
from tests.postgresql_proxy import MessageProxy
from tools.postgresql import POLL_S, Pair, PostgreSQL

CANCELS: Final = 5  # times that all waits for a standby are cancelled, one after the other
CUT_RATE: Final = 0.02
UNHEARD: Final = 50  # answers without a standby are enough: nobody waits for one


class Servers(NamedTuple):
    """What runs.

    Attributes:
        pair: None for a fault that needs one server only.
        proxy: between server and clients, for a fault that needs one.
    """

    server: PostgreSQL
    pair: Pair | None
    proxy: MessageProxy | None


def kill_the_primary(run: Run[Servers]) -> None:
    """All its processes at once; it starts again on what it had."""
    run.servers.server.kill()
    run.servers.server.start()
    run.happened["kills of the primary"] += 1


def pause_the_primary(run: Run[Servers]) -> None:
    """It says nothing for a while, and connections stay."""
    run.servers.server.pause()
    time.sleep(run.rng.choice((0.1, 1)))
    run.servers.server.resume()
    run.happened["pauses of the primary"] += 1


def cut_connections(run: Run[Servers]) -> None:
    """For a while some commits are cut at any byte, on their way or on that of their answer."""
    proxy = run.servers.proxy
    assert proxy is not None
    proxy.cut_at_random(Random(run.rng.random()), CUT_RATE)
    before = proxy.cuts
    due_s = time.monotonic() + PATIENCE_S
    while proxy.cuts < before + 3:
        run.doors.check_alive()
        assert time.monotonic() < due_s, "nothing is committed"
        time.sleep(POLL_S)
    proxy.cut_at_random(Random(), 0)
    run.happened["commits cut"] += proxy.cuts - before


def fail_over(run: Run[Servers]) -> None:
    """The primary is killed, its standby takes over, and gets a standby of its own."""
    pair = run.servers.pair
    assert pair is not None
    pair.fail_over()
    time.sleep(run.rng.uniform(0, 0.2))  # clients wait for a standby
    pair.rejoin()
    run.happened["failovers"] += 1


def strand_commits(run: Run[Servers]) -> None:
    """The standby is cut off; the waits for it are cancelled; then the primary is lost."""
    pair = run.servers.pair
    assert pair is not None
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


def patient() -> None:
    """Learn what a commit came to however long a server takes on a busy machine."""
    log.RESOLVE_S = PATIENCE_S  # type: ignore[misc]


async def _make(url: str) -> None:
    """Have a store there."""
    store = await open_store(url)
    await store.close()


def _stage(
    stack: contextlib.ExitStack,
    major: int | None,
    *,
    paired: bool = False,
    proxied: bool = False,
    apart: bool = False,
) -> Stage[Servers]:
    """Have servers run, and a store on them.

    Args:
        paired: with a standby.
        proxied: with a proxy between.
        apart: commits are made by processes of their own, in which nothing can be planted.
    """
    pair = stack.enter_context(Pair(major)) if paired else None
    server = pair.primary if pair else stack.enter_context(PostgreSQL(major))
    with server.connect() as connection:
        connection.execute("CREATE DATABASE store TEMPLATE template0")
    proxy = stack.enter_context(MessageProxy(server.port)) if proxied else None
    direct = pair.url("store") if pair else server.tcp_url("store")
    url = server.tcp_url("store", port=proxy.port) if proxy else direct
    commits = "process" if apart else "thread"
    url += f"{'&' if '?' in url else '?'}commits={commits}"
    asyncio.run(_make(direct))
    return Stage(Servers(server, pair, proxy), url, direct, patient)


_apart = partial(_stage, apart=True)
_paired = partial(_stage, paired=True)
_proxied = partial(_stage, proxied=True)

FAULTS: Final[Mapping[str, Fault[Servers]]] = {
    fault.name: fault
    for fault in (
        Fault("kill the primary", kill_the_primary, 1, _stage),
        Fault("kill clients", kill_a_client, 1, _apart),
        Fault("pause clients", pause_a_client, 0.1, _stage),
        Fault("pause the primary", pause_the_primary, 0.1, _stage),
        Fault("cut connections", cut_connections, 0.25, _proxied),
        Fault("fail over", fail_over, 0.2, _paired),
        Fault("strand commits", strand_commits, 0.05, _paired),
    )
}
