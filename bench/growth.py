"""What grows with a store and must not: with its mailboxes, and with what has become too old.

Stores are made through the verbs of a store, two hundred applications in a commit and a record for
each of two hundred mailboxes in another: a million mailboxes in one to three minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from statistics import median
from typing import cast

import apsw

from bench.measure import Bench
from bench.paced import COUNT, exchange, percentile
from bench.process import ProcessFailed, Watch, family_cpu_seconds, memory_mib
from bench.records import as_array, record
from bench.results import Indicator, Line, Result, paired, share
from bench.scenarios import WITHIN, Scenario
from bench.server import ABREAST, PAGE, Product, callback_request, pull_request
from pullstatus.cli import load
from pullstatus.cli.load import Load, LoadFailed, Measured, Request
from pullstatus.records import Kind
from pullstatus.store import Append, Fingerprints, Mailbox, Pull, Store

FEW, MANY = 10_000, 1_000_000  # mailboxes
TIMES = 5.0  # what a hundred times the mailboxes may cost
ASKED = 50  # times for /metrics, one of which is shorter than the kernel's unit of processor time
METRICS = Request("/metrics", b"", method="GET")
READY = Request("/readyz", b"", method="GET")


def _growth(bench: Bench, scenario: Scenario) -> Result:
    """Everything that looks at all of a store, on one with few mailboxes and one with many."""
    counts = bench.mailboxes or (bench.scaled(FEW), bench.scaled(MANY))
    found: dict[int, dict[str, list[float]]] = {count: {} for count in counts}
    with contextlib.ExitStack() as stack:
        products = {}
        for count in counts:
            bench.say(f"making {count:,} mailboxes")
            products[count] = stack.enter_context(Product(bench.folder, count))
            products[count].fill_each(1)
            products[count].serve()  # the first start of a store looks for what only once can be
            products[count].stop()
        for run in range(1, bench.runs + 1):
            for count, product in list(products.items())[:: 1 if run % 2 else -1]:
                bench.say(f"{count:,} mailboxes, run {run} of {bench.runs}")
                for name, figure in _looked_at(product, run).items():
                    found[count].setdefault(name, []).append(figure)
    few, many = found[min(counts)], found[max(counts)]
    judged = [
        Indicator(
            f"{name.partition(',')[0]}, many to few",
            paired(many[name], few[name]),
            TIMES,
            lower_is_better=True,
            latency=True,
        )
        for name in few
    ]
    judged += [
        Indicator(f"{name}, of {count:,}", median(figures), lower_is_better=True, absolute=True)
        for count, its in found.items()
        for name, figures in its.items()
    ]
    return Result(scenario.name, scenario.conditions, [], judged)


def _looked_at(product: Product, run: int) -> dict[str, float]:
    """A start, what is asked of a server, and a command beside it; each with its unit."""
    began = time.perf_counter()
    running = product.serve()
    load.look(running.address, READY)
    found = {"time until ready, s": time.perf_counter() - began}
    found["processor until ready, s"] = family_cpu_seconds(running.pid)
    began = time.perf_counter()
    load.look(running.address, METRICS)
    found["first /metrics, ms"] = (time.perf_counter() - began) * 1000
    began, spent = time.perf_counter(), family_cpu_seconds(running.pid)
    for _ in range(ASKED):
        load.look(running.address, METRICS)
    found["further /metrics, ms"] = (time.perf_counter() - began) / ASKED * 1000
    spent = family_cpu_seconds(running.pid) - spent
    found["processor of /metrics, ms"] = spent / ASKED * 1000
    began, spent = time.perf_counter(), _children_s()
    _end(_token_command(product, f"growth-{run}"))
    found["time of a command, s"] = time.perf_counter() - began
    found["processor of a command, s"] = _children_s() - spent
    found["memory, MiB"] = memory_mib(running.pid)
    product.stop()
    return found


def _token_command(product: Product, name: str) -> subprocess.Popen[bytes]:
    """A command that writes, begun."""
    return subprocess.Popen(
        product.command("token", "create", name),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _end(command: subprocess.Popen[bytes]) -> None:
    _, said = command.communicate()
    if command.returncode:
        raise ProcessFailed(f"token create: {said.decode(errors='replace').strip()[-500:]}")


def _children_s() -> float:
    """Processor time of children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# -- a command that writes, beside pulls -----------------------------------------------------------

BESIDE = 100_000  # mailboxes
BETWEEN_S = 0.001
ALONE_S = 0.5
STOCK = 500_000  # records for pulls of one


def _beside_command(bench: Bench, scenario: Scenario) -> Result:
    """The longest of a lone client's pulls: alone, and while a command makes a token.

    A command takes a processor core of the machine's, whatever store it is about. What pulls take
    longer beside one at their own store than beside one at another store is the store's doing.
    """
    count = max(bench.mailboxes) if bench.mailboxes else bench.scaled(BESIDE)
    places = "alone", "... a command at another store", "... a command at this one"
    lines = [Line(place, "pulls/s") for place in places]
    longest: list[list[float]] = [[] for _ in places]
    with Product(bench.folder, count) as own, Product(bench.folder) as other:
        bench.say(f"making {count:,} mailboxes")
        own.fill_each(1)
        bench.fill(own, STOCK)
        running = own.serve()
        other.serve()
        request = pull_request(count_max=1).encode()
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _pulls_while(connection, request, lambda: False)  # what is first is slow
            for run in range(1, bench.runs + 1):
                bench.say(f"run {run} of {bench.runs}")
                for line, its, whose in zip(lines, longest, (None, other, own), strict=True):
                    until = time.perf_counter() + ALONE_S
                    command = whose and _token_command(whose, f"beside-{run}")
                    with Watch(running.pid) as watch:
                        measured = _pulls_while(
                            connection,
                            request,
                            (lambda it=command: it.poll() is None)  # type: ignore[misc]
                            if command
                            else (lambda until=until: time.perf_counter() < until),  # type: ignore[misc]
                        )
                    if command:
                        _end(command)
                    line.add(measured, watch.usage)
                    its.append(measured.max_ms)
    alone, elsewhere, beside = longest
    judged = [
        Indicator(
            f"longest pull to that {than}",
            paired(beside, others),
            goal,
            lower_is_better=True,
            latency=True,
        )
        for than, others, goal in (
            ("alone", alone, 2.0),
            ("beside a command at another store", elsewhere, None),
        )
    ]
    remark = (
        f"longest pulls, ms: alone {median(alone):.1f}, beside a command at another store"
        f" {median(elsewhere):.1f}, at this one {median(beside):.1f}"
    )
    return Result(scenario.name, scenario.conditions, lines, judged, [remark])


def _pulls_while(
    connection: socket.socket, request: bytes, goes_on: Callable[[], bool]
) -> Measured:
    """Pulls of a record, one after the other with pauses; at least some."""
    took: list[float] = []
    began_all = time.perf_counter()
    while goes_on() or len(took) < 20:
        began = time.perf_counter()
        answer = exchange(connection, request)
        took.append(time.perf_counter() - began)
        if (count := COUNT.search(answer)) is None or int(count[1]) != 1:
            raise LoadFailed(f"a pull of one record brought {answer[-200:]!r}")
        time.sleep(BETWEEN_S)
    ordered = sorted(took)
    p50, p99, most = (percentile(ordered, at) * 1000 for at in (0.5, 0.99, 1.0))
    return Measured(time.perf_counter() - began_all, len(took), 0, 0, 0, p50, p99, most)


# -- removal beside arrival ------------------------------------------------------------------------

WINDOW_S = 60  # what arrives in it is to be removed in it
OVERDUE = 3  # windows after which it is not waited for any more
CONNECTIONS = 64
OLD_MS = 10 * 86_400_000
PAIRS_PER_S = 4_000  # as a first guess


def _removal(bench: Bench, scenario: Scenario) -> Result:
    """Callbacks and pulls of single records, at the full rate, while as many old ones are removed.

    First without anything old. Then as many pulls and fingerprints as arrive in a window are there,
    too old; how long they take to go, and how late posts and pulls are meanwhile, is measured.
    """
    quiet, loaded = Line("nothing is old", "pairs/s"), Line("... removing", "pairs/s")
    numbers = itertools.count()
    with Product(bench.folder) as product:
        product.serve()
        if bench.warmup_s:
            _pairs(bench, product, numbers, None)
        for run in range(1, bench.runs + 1):
            bench.say(f"nothing is old, run {run} of {bench.runs}")
            _pairs(bench, product, numbers, quiet)
    with Product(bench.folder) as product:
        old = round(median(quiet.per_s) * bench.scaled(WINDOW_S))
        bench.say(f"making {old:,} old pulls and fingerprints")
        sdkappid = product.sdkappids[0]
        product.with_store(lambda store: _leave_old(store, sdkappid, old))
        product.serve("--retention-days", "1", "--upkeep-every", "1")
        arrived, gone = 0.0, (0, 0)
        while min(gone) < old and arrived < OVERDUE * old:
            before = _left(product)
            bench.say(f"removing: {sum(before):,} left")
            bench.done(1 - sum(before) / (2 * old))
            arrived += _pairs(bench, product, numbers, loaded).requests / 2
            left = _left(product)
            gone = old - left[0], old - left[1]
    judged = [
        Indicator("removal to arrival", min(gone) / arrived, 1.0),
        Indicator(
            "p99 of posts and pulls, to that without removal",
            share(loaded.p99_ms, quiet.p99_ms),
            WITHIN,
            lower_is_better=True,
            latency=True,
        ),
        Indicator(
            "processor of a pair, to that without removal",
            share(loaded.us, quiet.us),
            lower_is_better=True,
        ),
    ]
    return Result(scenario.name, scenario.conditions, [quiet, loaded], judged)


def _pairs(bench: Bench, product: Product, numbers: Iterator[int], line: Line | None) -> Measured:
    """A run of callbacks of a record each, all of them new, and of as many pulls of one."""
    per_s = median(line.per_s) if line and line.per_s else PAIRS_PER_S
    count = round(4 * per_s * bench.seconds)
    posts = [callback_request(product.token, as_array(1, next(numbers))) for _ in range(count)]
    picks = [pick for number in range(1, count + 1) for pick in (number, 0)]
    what = Load([pull_request(count_max=1), *posts], CONNECTIONS, picks)
    with Watch(product.server().pid) as watch:
        measured = load.run(product.address, what, bench.seconds)
    if measured.requests / 2 > count:
        raise LoadFailed("a run was too fast for its records: more --seconds even it out")
    if line is not None:
        line.add(measured, watch.usage, 0.5)
    return measured


async def _leave_old(store: Store, sdkappid: int, count: int) -> None:
    """So many records that were pulled one by one long ago, with what they are known by."""
    mailbox = Mailbox(sdkappid, Kind.DELIVERY_STATUS)
    old_ms = time.time_ns() // 1_000_000 - OLD_MS
    for first in range(0, count, PAGE):
        every = range(first, min(first + PAGE, count))
        known = [(old_ms // 1000, blake2b(b"%d" % n, digest_size=16).digest()) for n in every]
        await store.append(
            Append(
                mailbox,
                [record(n) for n in every],
                old_ms,
                fingerprints=Fingerprints("bench", known),
            )
        )
    for first in range(0, count, ABREAST):
        await asyncio.gather(
            *(
                store.pull(Pull(mailbox, 1, old_ms))
                for _ in range(first, min(first + ABREAST, count))
            )
        )


def _left(product: Product) -> tuple[int, int]:
    """Rows of old pulls that are still there, and old fingerprints."""
    before_ms = time.time_ns() // 1_000_000 - OLD_MS // 2
    flags = apsw.SQLITE_OPEN_READONLY
    with contextlib.closing(apsw.Connection(str(product.file), flags=flags)) as connection:
        pulls, keys = (
            cast("int", connection.execute(f"SELECT {what}_ms < ?", (before_ms,)).get)
            for what in (
                "count(*) FROM journal WHERE at",
                "coalesce(sum(length(keys)), 0) / 16 FROM fingerprint_step WHERE accepted",
            )
        )
    return pulls, keys


GROWTH = {
    scenario.name: scenario
    for scenario in (
        Scenario("growth", "a start, /metrics, a command: few mailboxes, many", _growth, 5.0),
        Scenario(
            "beside-command",
            "pulls of 1 by one client while a command writes",
            _beside_command,
            1.0,
        ),
        Scenario(
            "removal",
            f"callbacks and pulls of 1 flat out, while those of {WINDOW_S} s ago are removed",
            _removal,
            4.0,
        ),
    )
}
