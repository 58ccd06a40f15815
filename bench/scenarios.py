"""The everyday scenarios: one application, one kind of request at a time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bench import held
from bench.measure import Bench, to_ceiling
from bench.process import Watch
from bench.results import Indicator, Line, Result, share
from bench.server import PAGE, Product, ingest_request, pull_request
from pullstatus.cli.load import Load, Measured, Request

HELD = 256  # mailboxes, each with a pull that waits
HELD_PER_S = 500  # records, so that a pull has waited for half a second when its own comes

EVERYDAY: dict[str, Scenario]


class Scenario(msgspec.Struct, frozen=True):
    """Something to measure.

    Attributes:
        conditions: what is done, in a line.
    """

    name: str
    conditions: str
    measure: Callable[[Bench, Scenario], Result]


def _drain(bench: Bench, scenario: Scenario) -> Result:
    def make() -> Load:
        return Load([pull_request()], connections=32)

    with Product(bench.folder) as product:
        ready = bench.keep_ready(product, make, floor=0)
        ours, top = bench.beside_ceiling(product, make, unit="pages/s", prepare=ready)
    return Result(
        scenario.name, scenario.conditions, [ours, top], to_ceiling(ours, top, 0.5, p99_goal=4.0)
    )


def _empty(bench: Bench, scenario: Scenario) -> Result:
    with Product(bench.folder) as product:
        product.serve()
        ours, top = bench.beside_ceiling(
            product, lambda: Load([pull_request()], connections=32), unit="pulls/s"
        )
    return Result(scenario.name, scenario.conditions, [ours, top], to_ceiling(ours, top, 0.6))


def _ingest(
    count: int, connections: int, unit: str, goal: float | None
) -> Callable[[Bench, Scenario], Result]:
    def measure(bench: Bench, scenario: Scenario) -> Result:
        with Product(bench.folder) as product:
            product.serve()
            request: Request = ingest_request(product.token, count)
            ours, top = bench.beside_ceiling(
                product, lambda: Load([request], connections), unit=unit, factor=count
            )
        return Result(scenario.name, scenario.conditions, [ours, top], to_ceiling(ours, top, goal))

    return measure


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
        Scenario("drain", f"pulls of {PAGE} records, 32 connections", _drain),
        Scenario(
            "ingest-1", "posts of 1 record, 64 connections", _ingest(1, 64, "posts/s", goal=0.6)
        ),
        Scenario(
            "ingest-100",
            "posts of 100 records, 32 connections",
            _ingest(100, 32, "records/s", goal=None),
        ),
        Scenario("held", f"{HELD_PER_S} records a second for {HELD} held pulls", _held),
        Scenario("empty", "pulls of an empty mailbox, 32 connections", _empty),
    )
}
