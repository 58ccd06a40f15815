"""One, two and four processes that answer: what each costs, and what they bring; over engines."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from bench import databases
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


Place = Callable[[Bench, int], AbstractContextManager[tuple[Product, tuple[int, ...]]]]
"""A server of so many workers, and the roots of what works behind it."""


@contextlib.contextmanager
def _embedded(bench: Bench, count: int) -> Iterator[tuple[Product, tuple[int, ...]]]:
    with Product(bench.folder) as product:
        product.serve("--workers", str(count))
        yield product, ()


@contextlib.contextmanager
def _over_postgresql(bench: Bench, count: int) -> Iterator[tuple[Product, tuple[int, ...]]]:
    with (
        databases.database(bench.folder) as server,
        databases.over(server, bench.folder, 1, "--workers", str(count)) as product,
    ):
        yield product, (server.pid,)


def _measuring(place: Place) -> Callable[[Bench, Scenario], Result]:
    """Each load on servers of so many workers, in turns."""

    def measure(bench: Bench, scenario: Scenario) -> Result:
        lines: list[Line] = []
        indicators: list[Indicator] = []
        with contextlib.ExitStack() as stack:
            servers = {count: stack.enter_context(place(bench, count)) for count in WORKERS}
            for name, load in LOADS.items():
                sides = [
                    Side(
                        Line(f"{name}, {count} to answer", "requests/s"),
                        product.server,
                        lambda product=product, load=load: load(product),  # type: ignore[misc]
                        None,
                        behind=behind,
                    )
                    for count, (product, behind) in servers.items()
                ]
                bench.in_turns(sides)
                lines += [side.line for side in sides]
                indicators += _judged(name, [side.line for side in sides])
        remarks = ["the load generator and all processes share the cores of this machine"]
        return Result(scenario.name, scenario.conditions, lines, indicators, remarks)

    return measure


def _judged(name: str, lines: Sequence[Line]) -> Iterator[Indicator]:
    alone, *several = lines
    for count, line in zip(WORKERS[1:], several, strict=True):
        told = f"{name}: %s by {count} to those by one"
        yield Indicator(told % "requests", paired(line.per_s, alone.per_s))
        yield Indicator(told % "microseconds", paired(line.us, alone.us), lower_is_better=True)


_CONDITIONS = "1, 2 and 4 processes that answer, in turns"
SCENARIO = Scenario("workers", _CONDITIONS, _measuring(_embedded), 2.5)
OVER_POSTGRESQL = Scenario(
    "workers-postgresql", f"{_CONDITIONS}, over PostgreSQL", _measuring(_over_postgresql), 3.5
)
