"""Pulls of one record at a fixed rate: alone, and beside something else that the server does.

The rate is low, so that what pulls take longer is not that they queue behind each other. Each run
is a pair, alone and beside, that had the same minute of the machine.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence

from bench import paced
from bench.index import RECORDS, question
from bench.measure import Bench
from bench.paced import Stream
from bench.process import ProcessFailed, Watch
from bench.records import as_array, record
from bench.results import Indicator, Line, Result, median, paired
from bench.scenarios import Scenario
from bench.server import PAGE, Product, pull_request
from pullstatus.cli import load
from pullstatus.cli.load import LoadFailed, Request

PULLS_PER_S = 100.0
CONNECTIONS = 16
RECEIPTS_PER_S = 10_000
QUESTIONS_PER_S = 20.0


def _flood(way: str) -> Callable[[Bench, Scenario], Result]:
    """Receipts of another application come in arrays, each for the first time, by `way`."""

    def measure(bench: Bench, scenario: Scenario) -> Result:
        with Product(bench.folder, applications=2) as product:
            flooded, pulled = product.sdkappids
            path = way.format(token=product.make_token(flooded))
            bench.say("laying records ready")
            product.fill_each(_pulled(bench))
            product.serve()
            numbers = itertools.count(step=PAGE)

            def streams() -> Sequence[Stream]:
                # Made before the run: the load generator has other things to do in it.
                posts = RECEIPTS_PER_S / PAGE
                count = round(posts * bench.seconds)
                bodies = [as_array(PAGE, next(numbers)) for _ in range(count)]
                made = [Request(path, body).encode() for body in bodies]
                return [Stream(iter(made).__next__, posts, CONNECTIONS)]

            return _beside(bench, scenario, product, pulled, f"posts of {PAGE}", streams, 1.5)

    return measure


def _questions(bench: Bench, scenario: Scenario) -> Result:
    """Others ask for numbers of a large mailbox, whose records are indexed."""
    count = bench.scaled(RECORDS)
    with Product(bench.folder, applications=2) as product:
        bench.fill(product, count)
        product.fill_each(_pulled(bench))
        product.serve()
        bench.say("waiting for the index")
        product.await_index()
        asked = _asked(product.sdkappids[0], count)
        answer = load.look(product.address, next(asked))
        if b'"count":0' in answer.body:
            raise LoadFailed(f"a number that is there was answered {answer.body[:200]!r}")

        def streams() -> Sequence[Stream]:
            return [Stream(lambda: next(asked).encode(), QUESTIONS_PER_S, 4)]

        pulled = product.sdkappids[1]
        return _beside(bench, scenario, product, pulled, "questions by number", streams, 1.2)


def _asked(sdkappid: int, count: int) -> Iterator[Request]:
    """Questions for numbers all over the mailbox, signed when they are sent."""
    for place in itertools.count():
        of = json.loads(record(place * 7_919 * PAGE % count))
        yield question(sdkappid, of["nationcode"], of["mobile"], count)


def _pulled(bench: Bench) -> int:
    """Records that all runs pull, alone and beside."""
    runs = 2 * bench.runs * bench.seconds + bench.warmup_s
    return round(PULLS_PER_S * runs) + PAGE


def _beside(
    bench: Bench,
    scenario: Scenario,
    product: Product,
    sdkappid: int,
    what: str,
    streams: Callable[[], Sequence[Stream]],
    goal: float,
) -> Result:
    """Measure the pulls of an application, run by run, alone and beside these streams."""
    alone, beside, other = Line("alone", "pulls/s"), Line("... beside", "pulls/s"), Line(what, "/s")
    running = product.server()
    if bench.warmup_s:
        bench.say("warming up")
        paced.run(running.port, [_pulls(sdkappid)], bench.warmup_s)
    for run in range(1, bench.runs + 1):
        for line in (alone, beside)[:: 1 if run % 2 else -1]:
            bench.say(f"{line.label}, run {run} of {bench.runs}")
            more = streams() if line is beside else []
            with Watch(running.pid) as watch:
                pulls, *rest = paced.run(running.port, [_pulls(sdkappid), *more], bench.seconds)
            line.add(pulls.measured, watch.usage)
            if pulls.records != pulls.measured.requests:
                raise ProcessFailed(f"{pulls.measured.requests} pulls brought {pulls.records}")
            for each in rest:
                other.add(each.measured, watch.usage)
    judged = [
        Indicator(
            f"{name} of pulls to that alone",
            paired(theirs, ours),
            limit,
            lower_is_better=True,
            latency=True,
        )
        for name, theirs, ours, limit in (
            ("p99", beside.p99_ms, alone.p99_ms, goal),
            ("p50", beside.p50_ms, alone.p50_ms, None),
        )
    ]
    own_us = [
        (pair - lone) * pulled / posted
        for pair, lone, pulled, posted in zip(
            beside.us, alone.us, beside.requests, other.requests, strict=True
        )
    ]
    judged.append(
        Indicator(f"processor of one of {what}, µs", median(own_us), lower_is_better=True)
    )
    return Result(scenario.name, scenario.conditions, [alone, beside, other], judged)


def _pulls(sdkappid: int) -> Stream:
    request = pull_request(sdkappid, count_max=1).encode()
    return Stream(lambda: request, PULLS_PER_S, CONNECTIONS)


BESIDE = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "beside-callbacks",
            f"{PULLS_PER_S:.0f} pulls a second, and {RECEIPTS_PER_S:,} receipts a second",
            _flood("/callbacks/{token}"),
        ),
        Scenario(
            "beside-inbound",
            "the same, through a row of gateways",
            _flood("/in/{token}/tencent"),
        ),
        Scenario(
            "beside-questions",
            f"{PULLS_PER_S:.0f} pulls a second, and {QUESTIONS_PER_S:.0f} questions by number,"
            f" of {RECORDS:,} records",
            _questions,
            3.0,
        ),
    )
}
