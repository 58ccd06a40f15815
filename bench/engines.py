"""The engines side by side, and what each promises of itself.

The product over SQLite, over PostgreSQL, over one that waits for a standby, and what people build
instead over PostgreSQL, each on a server of its own, take turns second by second.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import msgspec
import psycopg

from bench import cluster, consumer, databases, workers
from bench.measure import Bench
from bench.peers.proof import prove
from bench.process import memory_mib
from bench.records import record
from bench.results import Indicator, Line, Result, median, paired
from bench.scenarios import WITHIN, Scenario
from bench.server import PAGE, Product, ingest_request, pull_request
from bench.subjects import Measure, Subject, in_turns, of_peer, of_product
from pullstatus.cli import load
from pullstatus.cli.load import Load
from pullstatus.records import Kind
from pullstatus.store import Append, Mailbox, open_store
from tests.postgresql_proxy import MessageProxy

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
STANDBY, SKIP_LOCKED = "PostgreSQL, a standby", "SKIP LOCKED"


MEASURES = (
    Measure("posts of 1", "posts/s", 1, 64, 4.0),
    Measure(f"batches of {PAGE}", "records/s", PAGE, 32, 3.0),
    Measure("pages", "pages/s", 0, 32, 6.0),
)


def _databases(bench: Bench, scenario: Scenario) -> Result:
    lines: list[Line] = []
    judged: list[Indicator] = []
    remarks: list[str] = []
    with contextlib.ExitStack() as stack:
        subjects = list(_subjects(bench, stack, remarks))
        for measure in MEASURES:
            found = {
                subject.label: Line(f"{measure.name}, {subject.label}", measure.unit)
                for subject in subjects
            }
            in_turns(bench, measure, subjects, found)
            lines += found.values()
            judged += _judged(measure, found)
    return Result(scenario.name, scenario.conditions, lines, judged, remarks)


def _subjects(bench: Bench, stack: contextlib.ExitStack, remarks: list[str]) -> Iterator[Subject]:
    bench.say("starting servers")
    embedded = stack.enter_context(Product(bench.folder))
    embedded.serve()
    yield of_product(SQLITE, embedded, ())
    server = stack.enter_context(databases.database(bench.folder))
    remarks.append(f"PostgreSQL {server.major}, data checksums on, on the disk of the stores")
    product = stack.enter_context(databases.over(server, bench.folder))
    yield of_product(POSTGRESQL, product, (server.pid,))
    servers = stack.enter_context(databases.pair(bench.folder))
    product = stack.enter_context(databases.over(servers.primary, bench.folder))
    yield of_product(STANDBY, product, (servers.primary.pid, servers.standby.pid))
    server = stack.enter_context(databases.database(bench.folder))
    try:
        running = stack.enter_context(databases.skip_locked(server, bench.folder))
    except databases.PeersMissing as error:
        remarks.append(f"without {SKIP_LOCKED}: {error}")
        return
    prove(running.address)
    yield of_peer(SKIP_LOCKED, running, (server.pid,))


def _judged(measure: Measure, lines: dict[str, Line]) -> Iterator[Indicator]:
    ours = lines[POSTGRESQL]
    if SKIP_LOCKED in lines:
        theirs = lines[SKIP_LOCKED]
        name = f"{measure.name} to those of {SKIP_LOCKED}"
        yield Indicator(name, paired(ours.per_s, theirs.per_s), measure.goal)
    yield Indicator(f"{measure.name} to those of {SQLITE}", paired(ours.per_s, lines[SQLITE].per_s))
    yield Indicator(
        f"{measure.name} with a standby to those without",
        paired(lines[STANDBY].per_s, ours.per_s),
    )
    behind = median(ours.behind_us)
    for whose, us in (("the server", median(ours.us) - behind), ("the database", behind)):
        yield Indicator(f"{measure.name}: processor of {whose}, µs", us, lower_is_better=True)


# -- round trips -----------------------------------------------------------------------------------

LONE = 200  # appends


def _trips(bench: Bench, scenario: Scenario) -> Result:
    """What goes over the wire for an append that nothing else is beside."""
    entries = [record(0)]
    with databases.database(bench.folder) as server, MessageProxy(server.port) as proxy:
        url = server.tcp_url(server.create(), port=proxy.port)

        async def append(count: int) -> int:
            store = await open_store(f"{url}?commits=thread")
            try:
                # The first makes the mailbox.
                await store.append(Append(Mailbox(1, Kind.DELIVERY_STATUS), entries, 1))
                before = proxy.flights
                for number in range(count):
                    now_ms = time.time_ns() // 1_000_000 + number
                    await store.append(Append(Mailbox(1, Kind.DELIVERY_STATUS), entries, now_ms))
                return proxy.flights - before
            finally:
                await store.close()

        trips = asyncio.run(append(LONE)) / LONE
    judged = [
        Indicator("round trips of a lone append", trips, 2.0, lower_is_better=True, absolute=True)
    ]
    return Result(scenario.name, scenario.conditions, [], judged)


# -- an old snapshot -------------------------------------------------------------------------------

SNAPSHOT_S = 60
AT_ONCE = 10  # records of a post, and of a pull


def _snapshot(bench: Bench, scenario: Scenario) -> Result:
    """Posts and pulls in turn, while a session keeps the database as it was when that began."""
    line = Line("beside an old snapshot", "requests/s")
    third = msgspec.structs.replace(bench, seconds=bench.scaled(SNAPSHOT_S) / 3)
    with (
        databases.database(bench.folder) as server,
        databases.over(server, bench.folder) as product,
    ):
        post = ingest_request(product.token, AT_ONCE)
        what = Load([post, pull_request(count_max=AT_ONCE)], connections=32)
        bench.warm_up(product.address, what)
        with psycopg.connect(product.url) as session:
            session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            session.execute("SELECT count(*) FROM pg_class")  # from here on it is held
            for number in range(1, 4):
                text = f"third {number} of 3"
                running = product.server()
                line.add(*third.watched(text, running, what, behind=(server.pid,)))
    judged = [
        Indicator("rate of the last third to the first's", line.per_s[2] / line.per_s[0], 0.8),
        Indicator(
            "processor of the last third to the first's",
            line.us[2] / line.us[0],
            lower_is_better=True,
        ),
    ]
    return Result(scenario.name, scenario.conditions, [line], judged)


# -- memory ----------------------------------------------------------------------------------------

FEW, MANY = 1_000, 100_000  # mailboxes
ASKED = 1_000  # of them


def _memory(bench: Bench, scenario: Scenario) -> Result:
    """What the processes of a server have in memory after the same load, over few mailboxes, many.

    Not the database's: that takes what it was given.
    """
    counts = bench.scaled(FEW), bench.scaled(MANY)
    found = []
    with databases.database(bench.folder) as server:
        for count in counts:
            bench.say(f"making {count:,} mailboxes")
            with databases.over(server, bench.folder, count) as product:
                product.stop()
                product.fill_each(1)
                running = product.serve()
                pulls = [pull_request(each) for each in product.sdkappids[:ASKED]]
                bench.say(f"pulls from {len(pulls):,} mailboxes of {count:,}")
                load.run(running.address, Load(pulls, 32), bench.runs * bench.seconds)
                found.append(memory_mib(running.pid))
    judged = [
        Indicator(
            "memory with many mailboxes to that with few",
            found[1] / found[0],
            WITHIN,
            lower_is_better=True,
        ),
        *(
            Indicator(f"memory, MiB, of {count:,}", mib, lower_is_better=True, absolute=True)
            for count, mib in zip(counts, found, strict=True)
        ),
    ]
    return Result(scenario.name, scenario.conditions, [], judged)


ENGINES = {
    scenario.name: scenario
    for scenario in (
        Scenario("databases", "SQLite, PostgreSQL and SKIP LOCKED, in turns", _databases, 8.0),
        Scenario("trips", "appends to PostgreSQL, one after the other, counted", _trips),
        Scenario(
            "snapshot",
            f"posts and pulls of {AT_ONCE} for {SNAPSHOT_S} s while a snapshot is held",
            _snapshot,
            1.5,
        ),
        Scenario("server-memory", "a server over PostgreSQL: few mailboxes, many", _memory, 2.0),
        workers.SCENARIO,
        workers.OVER_POSTGRESQL,
        cluster.SCENARIO,
        consumer.SCENARIO,
    )
}
