"""`python -m bench goals`: what the product is to reach, and what it reaches on this machine.

The scenarios beyond the everyday ones that goals need; each compares two things in turns.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial

from bench import drain
from bench.beside import BESIDE
from bench.drain import Drain, by_posts
from bench.engines import ENGINES
from bench.faces import FACES
from bench.growth import GROWTH
from bench.index import INDEX_SCENARIO
from bench.measure import Bench, Side, microseconds, to_processor
from bench.names import NAMES_SCENARIO
from bench.paced import as_measured, exchange
from bench.process import Watch
from bench.records import aliyun, aliyun_at_random, as_array, example, record
from bench.results import Indicator, Line, Result, paired
from bench.scenarios import EVERYDAY, EXAMPLES, Scenario, page_pulls
from bench.server import (
    PAGE,
    Checkout,
    Product,
    callback_request,
    ingest_request,
    pull_request,
)
from pullstatus.cli.load import Load, Request

MAILBOXES = 100  # over which records that come singly are spread
CONNECTIONS = 32
BODIES = 3_000  # arrays of a run, each posted once: what came before is not counted again
BETWEEN_S = 0.001
FRAME_BYTES = 4 * (8192 + 24)  # pages and their heads that a commit of one record adds to the log


def _singles(bench: Bench, scenario: Scenario) -> Result:
    """Each record in a commit of its own, as far as its mailbox goes; and then joined, or not."""
    rested, at_once = Line("singly, rested", "pages/s"), Line("singly, at once", "pages/s")
    by_hundreds = Line("by hundreds", "pages/s")
    lines = [rested, at_once, by_hundreds]
    with contextlib.ExitStack() as stack:
        products = [
            stack.enter_context(Product(bench.folder, applications=MAILBOXES)) for _ in lines
        ]
        for product in products:
            product.serve()
        first, second, third = products
        drain.in_turns(
            bench,
            [
                _spread(bench, first, rested, 1, rest=True),
                _spread(bench, second, at_once, 1),
                _spread(bench, third, by_hundreds, PAGE),
            ],
        )
    judged = [
        Indicator(
            "pages of singles to pages of hundreds", paired(rested.per_s, by_hundreds.per_s), 0.5
        ),
        to_processor(rested, by_hundreds, "that of hundreds"),
        Indicator("the same, pulled at once", paired(at_once.per_s, by_hundreds.per_s)),
        to_processor(at_once, by_hundreds, "that of hundreds, pulled at once"),
    ]
    return Result(scenario.name, scenario.conditions, lines, judged)


def _spread(
    bench: Bench, product: Product, line: Line, at_once: int, *, rest: bool = False
) -> Drain:
    """Pulls from all mailboxes in turn, which hold as many records each.

    Singles take minutes to lay: what was laid once is kept, and put back for each run.
    """
    kept = 0

    def fill(count: int) -> int:
        nonlocal kept
        left = product.waiting()
        product.stop()
        if kept:
            product.put_back()
        if left + count > kept:
            pages = math.ceil((left + count - kept) / MAILBOXES / PAGE)
            product.fill_each(pages * PAGE, at_once=at_once, rest=rest)
            product.keep()
            kept += pages * PAGE * MAILBOXES
        product.serve()
        return kept - left

    def make() -> Load:
        return Load([pull_request(each) for each in product.sdkappids], CONNECTIONS)

    return Drain(bench, line, product.server, make, fill, rested_s=lambda: product.rested_s)


def _callbacks(bench: Bench, scenario: Scenario) -> Result:
    """The same arrays by the two doors, each record for the first time."""
    theirs, ours = Line("/callbacks", "records/s"), Line("/ingest", "records/s")
    with Product(bench.folder) as one, Product(bench.folder) as other:
        one.serve()
        other.serve()
        numbers = _numbers()

        def callbacks() -> Load:
            bodies = [as_array(PAGE, next(numbers)) for _ in range(bench.scaled(BODIES))]
            return Load([callback_request(one.token, body) for body in bodies], CONNECTIONS)

        def posts() -> Load:
            bodies = [as_array(PAGE, next(numbers)) for _ in range(bench.scaled(BODIES))]
            return Load([ingest_request(other.token, PAGE, body=b) for b in bodies], CONNECTIONS)

        bench.in_turns(
            [
                Side(theirs, one.server, callbacks, None, PAGE),
                Side(ours, other.server, posts, None, PAGE),
            ]
        )
    judged = [
        Indicator("records/s to those of /ingest", paired(theirs.per_s, ours.per_s), 0.6),
        to_processor(theirs, ours, "that of /ingest"),
        microseconds(theirs),
    ]
    return Result(scenario.name, scenario.conditions, [theirs, ours], judged)


def _sources(bench: Bench, scenario: Scenario) -> Result:
    """The same statuses as Tencent pushes them, and as another gateway does."""
    theirs, others = Line("/callbacks", "records/s"), Line("/in/TOKEN/aliyun", "records/s")
    at_random = Line("... ids at random", "records/s")
    with contextlib.ExitStack() as stack:
        one, other, third = (stack.enter_context(Product(bench.folder)) for _ in range(3))
        for product in (one, other, third):
            product.serve()
        numbers = _numbers()

        def load(product: Product, path: str, make: Callable[[int], bytes]) -> Load:
            firsts = [next(numbers) for _ in range(bench.scaled(BODIES))]
            target = path.format(product.token)
            bodies = [as_array(PAGE, first, make) for first in firsts]
            return Load([Request(target, body) for body in bodies], CONNECTIONS)

        bench.in_turns(
            [
                Side(line, product.server, partial(load, product, path, make), None, PAGE)
                for line, product, path, make in (
                    (theirs, one, "/callbacks/{}", record),
                    (others, other, "/in/{}/aliyun", aliyun),
                    (at_random, third, "/in/{}/aliyun", aliyun_at_random),
                )
            ]
        )
    judged = [
        to_processor(others, theirs, "that of /callbacks", 1 / 0.8),
        to_processor(at_random, theirs, "that of /callbacks, ids at random"),
        microseconds(others),
        microseconds(theirs),
    ]
    return Result(scenario.name, scenario.conditions, [theirs, others, at_random], judged)


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += PAGE


def _lone(bench: Bench, scenario: Scenario) -> Result:
    """A post, then a sync of as much as its commit wrote, again and again, with pauses."""
    posts, syncs = Line("posts", "posts/s"), Line("syncs", "syncs/s")
    with Product(bench.folder) as product:
        running = product.serve()
        request = ingest_request(product.token, 1).encode()
        with (
            (product.folder / "probe").open("w+b", buffering=0) as probe,
            socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection,
        ):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            probe.write(bytes(1024 * FRAME_BYTES))
            os.fsync(probe.fileno())

            def sync(number: int) -> None:
                # Over blocks that exist, as the log does once it has been round.
                os.pwrite(probe.fileno(), bytes(FRAME_BYTES), number % 1024 * FRAME_BYTES)
                os.fdatasync(probe.fileno())

            for run in range(1, bench.runs + 1):
                bench.say(f"run {run} of {bench.runs}")
                with Watch(running.pid) as watch:
                    took = _alternate(
                        [lambda _: exchange(connection, request), sync], bench.seconds
                    )
                posts.add(as_measured(took[0], bench.seconds), watch.usage)
                syncs.add(as_measured(took[1], bench.seconds), None)
    ratio = Indicator(
        "p50 of a post to a sync's",
        paired(posts.p50_ms, syncs.p50_ms),
        2.2,
        lower_is_better=True,
        latency=True,
    )
    return Result(scenario.name, scenario.conditions, [posts, syncs], [ratio])


def _alternate(calls: list[Callable[[int], object]], seconds: float) -> list[list[float]]:
    """How long each took, in seconds; one after the other with pauses, for a while."""
    took: list[list[float]] = [[] for _ in calls]
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for call, its in zip(calls, took, strict=True):
            began = time.perf_counter()
            call(len(its))
            its.append(time.perf_counter() - began)
            time.sleep(BETWEEN_S)
    return took


def _stored(bench: Bench, scenario: Scenario) -> Result:
    count = bench.scaled(500_000)
    with Product(bench.folder) as product:
        bench.fill(product, count)
        share = product.size_bytes() / sum(len(record(number)) for number in range(count))
    ratio = Indicator("bytes on disk to bytes of records", share, 0.4, lower_is_better=True)
    return Result(scenario.name, scenario.conditions, [], [ratio])


def _before(bench: Bench, scenario: Scenario) -> Result:
    """The present server in turns with that of another checkout, each on a store of its own."""
    lines: list[Line] = []
    judged: list[Indicator] = []
    remarks = [] if bench.before else ["nothing to compare with: --before CHECKOUT"]
    for name, goal, bodies in (
        ("pages/s", 1.8, None),
        ("records/s", 1.6, record),
        ("records/s, all alike", 2.0, example),
    ):
        if bench.before is None:
            break
        now, then = Line(f"now, {name}", name), Line("before", name)
        with Product(bench.folder) as product, Checkout(bench.folder, bench.before) as other:
            product.serve()
            other.serve()
            both = (product, now), (other, then)
            if bodies is None:
                drain.in_turns(bench, [_pulls(bench, each, line) for each, line in both])
            else:
                bench.in_turns([_posts(each, line, bodies) for each, line in both])
        lines += [now, then]
        judged.append(Indicator(f"{name} to those before", paired(now.per_s, then.per_s), goal))
        judged.append(to_processor(now, then, f"that before, {name}"))
    return Result(scenario.name, scenario.conditions, lines, judged, remarks)


def _pulls(bench: Bench, product: Product, line: Line) -> Drain:
    fill = by_posts(product.server, lambda body: ingest_request(product.token, PAGE, body=body))
    return Drain(bench, line, product.server, page_pulls, fill)


def _posts(product: Product, line: Line, make: Callable[[int], bytes]) -> Side:
    request = ingest_request(product.token, PAGE, body=as_array(PAGE, make=make))
    return Side(line, product.server, lambda: Load([request], CONNECTIONS), None, PAGE)


_OWN = (
    Scenario("stored", "what records take on the disk once the log is folded", _stored),
    Scenario(
        "callbacks", f"arrays of {PAGE} new records, {CONNECTIONS} connections", _callbacks, 1.0
    ),
    Scenario(
        "sources",
        f"callbacks of {PAGE} by the row of another gateway, {CONNECTIONS} connections",
        _sources,
        1.0,
    ),
    NAMES_SCENARIO,
    Scenario(
        "singles",
        f"pulls of {PAGE} from {MAILBOXES} mailboxes whose records came singly",
        _singles,
        6.0,
    ),
    Scenario("lone", "one client, a post of 1 record at a time with pauses", _lone),
    Scenario("before", "pulls and posts of 100, and those of --before CHECKOUT", _before, 5.0),
)
_EVERYDAY = [EVERYDAY[name] for name in ("empty", "ingest-1", "drain", "ingest-100")]
_ENGINES = [ENGINES[name] for name in ("databases", "trips", "snapshot", "server-memory")]
GOALS = {
    scenario.name: scenario
    for scenario in (
        *_EVERYDAY,
        *FACES.values(),
        EXAMPLES,
        *_OWN,
        *GROWTH.values(),
        INDEX_SCENARIO,
        *BESIDE.values(),
        *_ENGINES,
    )
}
