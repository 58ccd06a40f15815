"""The everyday scenarios: one application, one kind of request at a time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bench.measure import Bench, to_ceiling
from bench.results import Result
from bench.server import PAGE, Product, ingest_request, pull_request
from pullstatus.cli.load import Load, Request

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
        Scenario("empty", "pulls of an empty mailbox, 32 connections", _empty),
    )
}
