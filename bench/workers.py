"""One, two and four processes that answer: what each costs, and what they bring."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from bench.measure import Bench, Side
from bench.records import as_array
from bench.results import Indicator, Line, Result, paired
from bench.scenarios import Scenario
from bench.server import PAGE, Product, ingest_request, pull_request
from pullstatus.cli.load import Load

WORKERS = (1, 2, 4)


def _empty(_product: Product) -> Load:
    return Load([pull_request()], connections=32)


def _posts(count: int) -> Callable[[Product], Load]:
    def load(product: Product) -> Load:
        return Load([ingest_request(product.token, count, body=as_array(count))], connections=64)

    return load


LOADS: dict[str, Callable[[Product], Load]] = {
    "empty": _empty,
    "posts of 1": _posts(1),
    f"posts of {PAGE}": _posts(PAGE),
}


def measure(bench: Bench, scenario: Scenario) -> Result:
    """Each load on servers of so many workers, in turns."""
    lines: list[Line] = []
    indicators: list[Indicator] = []
    with contextlib.ExitStack() as stack:
        products = {}
        for workers in WORKERS:
            products[workers] = stack.enter_context(Product(bench.folder))
            products[workers].serve("--workers", str(workers))
        for name, load in LOADS.items():
            sides = [
                Side(
                    Line(f"{name}, {workers} to answer", "requests/s"),
                    product.server,
                    lambda product=product, load=load: load(product),  # type: ignore[misc]
                    None,
                )
                for workers, product in products.items()
            ]
            bench.in_turns(sides)
            alone, *several = (side.line for side in sides)
            lines += [alone, *several]
            for workers, line in zip(WORKERS[1:], several, strict=True):
                told = f"{name}: %s by {workers} to those by one"
                indicators += [
                    Indicator(told % "requests", paired(line.per_s, alone.per_s)),
                    Indicator(
                        told % "microseconds", paired(line.us, alone.us), lower_is_better=True
                    ),
                ]
    remarks = ["the load generator and all processes share the cores of this machine"]
    return Result(scenario.name, scenario.conditions, lines, indicators, remarks)


SCENARIO = Scenario("workers", "1, 2 and 4 processes that answer, in turns", measure)
