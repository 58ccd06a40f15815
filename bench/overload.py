"""One quiet client beside a greedy one: what each kind of greed costs those who ask for little.

A greedy client and its server keep the machine busy, which makes everything on it slower. So the
quiet one is measured three times: alone, with the greedy one at another server on the same machine,
and with the greedy one at its own. What the second takes longer than the first is the machine's
and the load generator's; what the third takes longer than the second is the server's doing.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from bench.measure import Bench
from bench.paced import exchange, percentile
from bench.process import Watch
from bench.results import Indicator, Line, Result, share
from bench.scenarios import Scenario
from bench.server import Product, ingest_request, pull_request
from pullstatus.cli import load
from pullstatus.cli.load import Load, LoadFailed, Measured, Request

GREEDY = 256  # its connections
HEAD_START_S = 0.5
BETWEEN_S = 0.004  # the quiet client's pause between two calls
TWICE = 2.0


class Greed(NamedTuple):
    """A load, and the call of the quiet client beside it.

    Attributes:
        waiting: records that wait for the greedy one, so that its pulls bring pages.
    """

    greedy: Callable[[Product], Request]
    quiet: Callable[[Product], Request]
    waiting: int = 0


def _pull(product: Product) -> Request:
    return pull_request(product.sdkappids[0])


def _forged(product: Product) -> Request:
    request = _pull(product)
    wrong = re.sub(rb'"sig":".{8}', b'"sig":"00000000', request.body)
    return msgspec.structs.replace(request, body=wrong)


def _quiet_pull(product: Product) -> Request:
    return pull_request(product.sdkappids[1])


def _post(count: int) -> Callable[[Product], Request]:
    return lambda product: ingest_request(product.token, count, product.sdkappids[0])


def _quiet_post(product: Product) -> Request:
    return ingest_request(product.token, 1, product.sdkappids[1])


LOADS = {
    "empty polls, quiet pull": Greed(_pull, _quiet_pull),
    "wrong signatures, quiet pull": Greed(_forged, _quiet_pull),
    "posts of 1, quiet pull": Greed(_post(1), _quiet_pull),
    "pages of 100, quiet pull": Greed(_pull, _quiet_pull, waiting=3_000_000),
    "posts of 1,000, quiet pull": Greed(_post(1000), _quiet_pull),
    "posts of 1, quiet post": Greed(_post(1), _quiet_post),
    "posts of 1,000, quiet post": Greed(_post(1000), _quiet_post),
}


def _overload(bench: Bench, scenario: Scenario) -> Result:
    lines: list[Line] = []
    indicators: list[Indicator] = []
    remarks: list[str] = []
    for name, greed in LOADS.items():
        alone = Line(f"{name}: alone", "calls/s")
        apart, beside = Line("... greedy elsewhere", "calls/s"), Line("... beside", "calls/s")
        with Product(bench.folder, applications=2) as own, Product(bench.folder) as other:
            for product in (own, other):
                if greed.waiting:
                    bench.fill(product, bench.scaled(greed.waiting))
                product.serve()
            for run in range(1, bench.runs + 1):
                bench.say(f"{name}, run {run} of {bench.runs}")
                assert own.running is not None
                asking = greed.quiet(own).encode()
                alone.add(_ask(own.running.port, asking, bench.seconds), None)
                _beside(bench, own, other, greed, apart)
                greedy = _beside(bench, own, own, greed, beside)
                remarks.append(
                    f"{name}: the greedy one had {greedy.per_s:,.0f}/s,"
                    f" {greedy.http_errors:,} refused, its generator {greedy.generator_cores:.2f}"
                    " cores"
                )
        lines += [alone, apart, beside]
        indicators.append(
            Indicator(
                name, share(beside.p99_ms, apart.p99_ms), TWICE, lower_is_better=True, latency=True
            )
        )
    return Result(scenario.name, scenario.conditions, lines, indicators, remarks)


def _beside(bench: Bench, own: Product, greedy_at: Product, greed: Greed, line: Line) -> Measured:
    """Measure the quiet client of `own` into `line`; returns what the greedy one had."""
    had: list[Measured] = []
    what = Load([greed.greedy(greedy_at)], GREEDY)
    taker = threading.Thread(
        target=lambda: had.append(
            load.run_unchecked(greedy_at.address, what, bench.seconds + 2 * HEAD_START_S)
        )
    )
    taker.start()
    time.sleep(HEAD_START_S)
    assert own.running is not None
    with Watch(own.running.pid) as watch:
        measured = _ask(own.running.port, greed.quiet(own).encode(), bench.seconds)
    taker.join()
    if not had:
        raise LoadFailed("the greedy load failed")
    line.add(measured, watch.usage)
    return had[0]


def _ask(port: int, request: bytes, seconds: float) -> Measured:
    """Ask again and again over one connection, one at a time."""
    latencies: list[float] = []
    size = 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            size += len(exchange(connection, request))
            latencies.append(time.perf_counter() - began)
            time.sleep(BETWEEN_S)
    ordered = sorted(latencies)
    return Measured(
        seconds=seconds,
        requests=len(ordered),
        answer_bytes=size,
        http_errors=0,
        socket_errors=0,
        p50_ms=percentile(ordered, 0.5) * 1000,
        p99_ms=percentile(ordered, 0.99) * 1000,
        max_ms=percentile(ordered, 1.0) * 1000,
    )


OVERLOAD = {
    "overload": Scenario(
        "overload",
        f"one quiet client beside {GREEDY} connections of another application, seven ways",
        _overload,
        7.0,
    )
}
