"""The everyday scenarios: one application, one kind of request at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from bench import floor, held
from bench.measure import Bench, Side, to_ceiling, to_processor
from bench.process import Watch
from bench.records import as_array, example, record
from bench.results import Indicator, Line, Result, paired, share
from bench.server import PAGE, Product, ingest_request, pull_request
from pullstatus.cli.load import Load, Measured, Request

WITHIN = 1.2  # what "the same" may differ by
HELD = 256  # mailboxes, each with a pull that waits
HELD_PER_S = 500  # records, so that a pull has waited for half a second when its own comes

EVERYDAY: dict[str, Scenario]


class Scenario(msgspec.Struct, frozen=True):
    """Something to measure.

    Attributes:
        conditions: what is done, in a line.
        minutes: that it takes, about, on two quiet cores; one that takes many times as long ends.
    """

    name: str
    conditions: str
    measure: Callable[[Bench, Scenario], Result]
    minutes: float = 0.5


def _drain(bench: Bench, scenario: Scenario) -> Result:
    remarks: list[str] = []
    with Product(bench.folder) as product, contextlib.ExitStack() as stack:
        lowest: list[Side] = []
        try:
            lowest.append(stack.enter_context(floor.beside(bench, "pages/s")))
        except floor.FloorMissing as error:
            remarks.append(f"without the C program: {error}")
        ready = bench.keep_ready(product, page_pulls, floor=0)
        ours, top = bench.beside_ceiling(
            product, page_pulls, unit="pages/s", ready=ready, besides=lowest
        )
    lines = [ours, top, *(side.line for side in lowest)]
    indicators = to_ceiling(ours, top, 0.4)
    indicators += [to_processor(ours, side.line, "the C program's", 2.2) for side in lowest]
    return Result(scenario.name, scenario.conditions, lines, indicators, remarks)


def _empty(bench: Bench, scenario: Scenario) -> Result:
    with Product(bench.folder) as product:
        product.serve()
        ours, top = bench.beside_ceiling(product, page_pulls, unit="pulls/s")
    # A rate of 0.8 of the ceiling's would do as well; but the load's own share sets that.
    indicators = to_ceiling(ours, top, processor_goal=2.0)
    return Result(scenario.name, scenario.conditions, [ours, top], indicators)


def _ingest_1(bench: Bench, scenario: Scenario) -> Result:
    ours, top = _ingest(bench, 1, 64, "posts/s", record)
    return Result(scenario.name, scenario.conditions, [ours, top], to_ceiling(ours, top, 0.5))


def _ingest_100(make: Callable[[int], bytes]) -> Callable[[Bench, Scenario], Result]:
    def measure(bench: Bench, scenario: Scenario) -> Result:
        ours, top = _ingest(bench, PAGE, 32, "records/s", make)
        size = len(as_array(PAGE, make=make)) - PAGE - 1  # without brackets and commas
        accepted = [requests * size / 2**20 for requests in ours.requests]
        judged = [
            *to_ceiling(ours, top),
            Indicator(
                "p99 to p50",
                paired(ours.p99_ms, ours.p50_ms),
                3.0,
                lower_is_better=True,
                latency=True,
            ),
            Indicator(
                "bytes written to bytes accepted",
                paired(ours.written_mib, accepted),
                1.0,
                lower_is_better=True,
            ),
        ]
        return Result(scenario.name, scenario.conditions, [ours, top], judged)

    return measure


def _ingest(
    bench: Bench, count: int, connections: int, unit: str, make: Callable[[int], bytes]
) -> tuple[Line, Line]:
    body = as_array(count, make=make)
    with Product(bench.folder) as product:
        product.serve()
        request: Request = ingest_request(product.token, count, body=body)
        return bench.beside_ceiling(
            product, lambda: Load([request], connections), unit=unit, factor=count
        )


def page_pulls() -> Load:
    """Pulls of pages of one mailbox."""
    return Load([pull_request()], connections=32)


def _held(bench: Bench, scenario: Scenario) -> Result:
    """A record for a pull that waits must not come late: two commits, where a post has one."""
    posts, pulls = Line("posts", "posts/s"), Line("held pulls", "pulls/s")
    with Product(bench.folder, applications=HELD) as product:
        running = product.serve()

        def run(seconds: float) -> tuple[Measured, Measured]:
            return held.run(running.port, product.token, product.sdkappids, HELD_PER_S, seconds)

        if bench.warmup_s:
            run(bench.warmup_s)
        for number in range(1, bench.runs + 1):
            bench.say(f"run {number} of {bench.runs}")
            with Watch(running.pid) as watch:
                posted, pulled = run(bench.seconds)
            posts.add(posted, watch.usage)
            pulls.add(pulled, watch.usage)
    late = Indicator(
        "p99 from accepted to handed out, to a post's",
        share(pulls.p99_ms, posts.p99_ms),
        2.0,
        lower_is_better=True,
        latency=True,
    )
    return Result(scenario.name, scenario.conditions, [posts, pulls], [late])


EVERYDAY = {
    scenario.name: scenario
    for scenario in (
        Scenario("drain", f"pulls of {PAGE} records, 32 connections", _drain, 2.5),
        Scenario("ingest-1", "posts of 1 record, 64 connections", _ingest_1),
        Scenario("ingest-100", "posts of 100 records, 32 connections", _ingest_100(record)),
        Scenario("held", f"{HELD_PER_S} records a second for {HELD} held pulls", _held),
        Scenario("empty", "pulls of an empty mailbox, 32 connections", _empty),
    )
}

EXAMPLES = Scenario(
    "ingest-alike",
    "the same of the documented example 100 times, with other numbers and sids",
    _ingest_100(example),
)
