"""The scenarios beyond the everyday ones: long, many, large, unfair."""

from __future__ import annotations

import itertools
import random
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence

from bench import paced
from bench.measure import Bench, Side, to_ceiling
from bench.paced import Stream
from bench.process import Watch, memory_mib
from bench.records import record
from bench.results import Indicator, Line, Result, median, share
from bench.scenarios import EVERYDAY, EXAMPLES, WITHIN, Scenario, page_pulls
from bench.server import PAGE, Product, ingest_request, pull_request
from bench.workers import SCENARIO as WORKERS
from pullstatus.cli import load
from pullstatus.cli.load import Load, LoadFailed, Measured

CONNECTIONS = 32
GREEDY_S = 0.5  # head start of the greedy one
RENEW_S = 60.0  # signatures are made anew this often


def _drain_5m(bench: Bench, scenario: Scenario) -> Result:
    floor = bench.scaled(5_000_000)
    with Product(bench.folder) as product:
        ready = bench.keep_ready(product, page_pulls, floor)
        ours, top = bench.beside_ceiling(product, page_pulls, unit="pages/s", ready=ready)
    return _result(scenario, [ours, top], to_ceiling(ours, top, 0.4))


def _drain_cold(bench: Bench, scenario: Scenario) -> Result:
    warm, cold = Line("warm", "pages/s"), Line("cold", "pages/s")
    with Product(bench.folder) as product:
        ready = bench.keep_ready(product, page_pulls, bench.scaled(5_000_000))
        for run, line in itertools.product(range(1, bench.runs + 1), (warm, cold)):
            ready()
            if line is cold:
                product.stop()
                product.chill()
                product.serve()
            assert product.running is not None
            # Nothing is warmed up: a warm-up would read ahead what is to be found cold.
            line.add(*bench.watched(f"{line.label}, run {run}", product.running, page_pulls()))
    return _result(
        scenario,
        [warm, cold],
        [Indicator("cold to warm", share(cold.per_s, warm.per_s), 0.5)],
        [f"{median(cold.read_mib):,.0f} MiB came from the disk in a cold run"],
    )


def _mixed(bench: Bench, scenario: Scenario) -> Result:
    """One long run: posts of one record at a constant rate, and as many pulls as take them all."""
    rate, pulls_per_s = 3_000.0, 50.0
    posts, pulls = Line("posts", "posts/s"), Line("pulls", "pulls/s")
    with Product(bench.folder) as product:
        running = product.serve()
        post = ingest_request(product.token, 1).encode()
        streams = [
            # As many senders as it takes to have a commit wait for none of them.
            Stream(lambda: post, rate, 256),
            Stream(_renewed(lambda: pull_request().encode()), pulls_per_s, CONNECTIONS),
        ]
        bench.say(f"{bench.mixed_s:,.0f} s of {rate:,.0f} records a second")
        with Watch(running.pid) as watch:
            came_in, went_out = paced.run(running.port, streams, bench.mixed_s)
        left = product.waiting()
    posts.add(came_in.measured, watch.usage)
    pulls.add(went_out.measured, watch.usage)
    if went_out.records + left != came_in.measured.requests:
        raise LoadFailed(
            f"{came_in.measured.requests} records went in, {went_out.records} came out,"
            f" and {left} are left"
        )
    grown = watch.usage.memory_last_mib / watch.usage.memory_third_mib
    return _result(
        scenario,
        [posts, pulls],
        [
            _at_most("p99 of a post, ms", median(posts.p99_ms), 20.0),
            _at_most("p99 of a pull, ms", median(pulls.p99_ms), 20.0),
            _at_most("records left at the end, s of them", left / rate, 1.0),
            Indicator("memory at the end to that after a third", grown, 1.1, lower_is_better=True),
        ],
    )


def _empty_many(keep_alive: bool) -> Callable[[Bench, Scenario], Result]:  # noqa: FBT001
    def measure(bench: Bench, scenario: Scenario) -> Result:
        with Product(bench.folder, applications=bench.scaled(1000)) as product:
            product.serve()
            order = random.Random(4).sample(range(len(product.sdkappids)), len(product.sdkappids))

            def make() -> Load:
                requests = [pull_request(each, keep_alive=keep_alive) for each in product.sdkappids]
                return Load(requests, CONNECTIONS, order)

            ours, top = bench.beside_ceiling(product, make, unit="pulls/s")
        written = Indicator(
            "MiB written to disk", max(ours.written_mib), 0, lower_is_better=True, absolute=True
        )
        return _result(scenario, [ours, top], [*to_ceiling(ours, top), written])

    return measure


def _backlog(bench: Bench, scenario: Scenario) -> Result:
    """Posts of 100 and pulls of 100 in turn keep the number that waits where it is."""
    few, lots = bench.scaled(10_000), bench.scaled(10_000_000)
    with Product(bench.folder) as small, Product(bench.folder) as large:
        lines = []
        for product, count in ((small, few), (large, lots)):
            bench.fill(product, count)
            product.serve()
            lines.append(Line(f"{count:,} waiting", "requests/s"))
        bench.in_turns(
            [
                _side(small, lines[0], lambda: _post_and_pull(small, small.sdkappids[:1], PAGE)),
                _side(large, lines[1], lambda: _post_and_pull(large, large.sdkappids[:1], PAGE)),
            ]
        )
    return _result(
        scenario,
        lines,
        [
            Indicator("rate with many to few", share(lines[1].per_s, lines[0].per_s), 1 / WITHIN),
            Indicator(
                "p99 with many to few",
                share(lines[1].p99_ms, lines[0].p99_ms),
                WITHIN,
                lower_is_better=True,
                latency=True,
            ),
        ],
    )


def _many(bench: Bench, scenario: Scenario) -> Result:
    """The same load on one application and spread over many, the k-th asked 1/k as often."""
    count, some = bench.scaled(10_000), 10
    one, many = Line("1 application", "requests/s"), Line(f"{count:,} applications", "requests/s")
    with Product(bench.folder) as single, Product(bench.folder, applications=count) as crowd:
        bench.say("laying records ready")
        single.fill(CONNECTIONS * some, step=bench.done)
        crowd.fill_each(CONNECTIONS * some)
        single.serve()
        crowd.serve()
        weights = [1 / rank for rank in range(1, count + 1)]
        asked = random.Random(4).choices(crowd.sdkappids, weights, k=50_000)
        bench.in_turns(
            [
                _side(single, one, lambda: _post_and_pull(single, single.sdkappids[:1], some)),
                _side(crowd, many, lambda: _post_and_pull(crowd, asked, some)),
            ]
        )
    return _result(
        scenario,
        [one, many],
        [Indicator("rate of many to one", share(many.per_s, one.per_s), 0.5)],
    )


def _greedy(bench: Bench, scenario: Scenario) -> Result:
    """A hundred applications that post and pull once a second, alone and beside a greedy one."""
    alone, beside = Line("100 quiet ones, alone", "pulls/s"), Line("... beside", "pulls/s")
    greedy = Line("greedy one", "pages/s")
    with Product(bench.folder, applications=101) as product:
        ready = bench.keep_ready(product, page_pulls, bench.scaled(1_000_000))
        for run in range(1, bench.runs + 1):
            ready()
            running = product.running
            assert running is not None
            for line in (alone, beside):
                bench.say(f"{line.label}, run {run} of {bench.runs}")
                taken: list[Measured] = []
                taker = threading.Thread(
                    target=lambda address=running.address, taken=taken: taken.append(
                        load.run(address, page_pulls(), bench.seconds + 2 * GREEDY_S)
                    )
                )
                if line is beside:
                    taker.start()
                    time.sleep(GREEDY_S)
                with Watch(running.pid) as watch:
                    _, pulled = paced.run(running.port, _quiet(product), bench.seconds)
                line.add(pulled.measured, watch.usage)
                if line is beside:
                    taker.join()
                    if not taken:
                        raise LoadFailed("the greedy one's pulls failed")
                    greedy.add(taken[0], None)
    return _result(
        scenario,
        [alone, beside, greedy],
        [
            Indicator(
                "quiet p99 beside to alone",
                share(beside.p99_ms, alone.p99_ms),
                WITHIN,
                lower_is_better=True,
                latency=True,
            )
        ],
    )


def _size(bench: Bench, scenario: Scenario) -> Result:
    count = bench.scaled(10_000_000)
    with Product(bench.folder) as product:
        bench.fill(product, count)
        per_record = product.size_bytes() / count / len(record(0))
        running = product.serve()
        for _ in range(100):
            load.look(running.address, pull_request())
        memory = memory_mib(running.pid)
        bench.say("killing it under load")
        request = ingest_request(product.token, 1)
        taker = threading.Thread(target=_until_it_dies, args=(running.address, Load([request], 8)))
        taker.start()
        time.sleep(1)
        product.kill()
        taker.join()
        begun = time.perf_counter()
        with urllib.request.urlopen(f"{product.serve().address}/readyz") as answer:
            answer.read()
        ready_s = time.perf_counter() - begun
    return _result(
        scenario,
        [],
        [
            Indicator("bytes on disk to bytes of records", per_record, 1.4, lower_is_better=True),
            _at_most("MiB of memory", memory, 150.0),
            _at_most("s until ready after a kill", ready_s, 2.0),
        ],
        [f"{count:,} records of {len(record(0))} bytes waited"],
    )


# -- what they share -------------------------------------------------------------------------------


def _result(
    scenario: Scenario,
    lines: list[Line],
    indicators: list[Indicator],
    remarks: Sequence[str] = (),
) -> Result:
    return Result(scenario.name, scenario.conditions, lines, indicators, list(remarks))


def _at_most(name: str, value: float, goal: float) -> Indicator:
    return Indicator(name, value, goal, lower_is_better=True, absolute=True)


def _post_and_pull(product: Product, asked: Sequence[int], count: int) -> Load:
    """A post and a pull of `count` records in turn, for each application of `asked` after another.

    Both of a pair are for the same application, so what waits there stays what it is.
    """
    known = {sdkappid: number for number, sdkappid in enumerate(dict.fromkeys(asked))}
    requests = []
    for sdkappid in known:
        requests.append(ingest_request(product.token, count, sdkappid))
        requests.append(pull_request(sdkappid, count_max=count))
    picks = [2 * known[sdkappid] + half for sdkappid in asked for half in (0, 1)]
    return Load(requests, CONNECTIONS, picks)


def _side(product: Product, line: Line, make: Callable[[], Load]) -> Side:
    """Posts and pulls in turn, whose answers are of two sizes."""
    answers = [load.look(product.address, each) for each in make().requests[:2]]
    return Side(line, product.server, make, sum(a.wire_bytes for a in answers) / len(answers))


def _quiet(product: Product) -> list[Stream]:
    quiet = product.sdkappids[1:]

    def in_turn(make: Callable[[int], bytes]) -> Callable[[], bytes]:
        turn: Iterator[bytes] = itertools.cycle([make(each) for each in quiet])
        return lambda: next(turn)

    return [
        Stream(in_turn(lambda each: ingest_request(product.token, 1, each).encode()), 100.0, 16),
        Stream(in_turn(lambda each: pull_request(each).encode()), 100.0, 16),
    ]


def _renewed(make: Callable[[], bytes]) -> Callable[[], bytes]:
    made, made_at = b"", -RENEW_S

    def request() -> bytes:
        nonlocal made, made_at
        if time.monotonic() - made_at >= RENEW_S:
            made, made_at = make(), time.monotonic()
        return made

    return request


def _until_it_dies(address: str, what: Load) -> None:
    try:
        load.run(address, what, 3)
    except LoadFailed:
        return


FULL = {
    scenario.name: scenario
    for scenario in (
        Scenario("drain-5m", "pulls of 100 records, 32 connections, 5 M waiting", _drain_5m, 4.0),
        Scenario(
            "drain-cold", "the same after a restart, nothing in the page cache", _drain_cold, 4.0
        ),
        EVERYDAY["ingest-1"],
        EVERYDAY["ingest-100"],
        EXAMPLES,
        Scenario(
            "mixed", "3,000 posts of 1 record a second, and pulls that take all", _mixed, 11.0
        ),
        Scenario("empty-1000", "pulls of 1,000 empty mailboxes", _empty_many(keep_alive=True)),
        Scenario(
            "empty-close",
            "the same, a connection for each",
            _empty_many(keep_alive=False),
        ),
        Scenario("backlog", "posts and pulls of 100 in turn, 10 k or 10 M waiting", _backlog, 2.0),
        Scenario("many", "posts and pulls of 10 in turn, 1 or 10,000 applications", _many, 1.0),
        Scenario("greedy", "100 quiet applications beside one that pulls flat out", _greedy, 2.0),
        Scenario("size", "what 10 M waiting records take", _size, 1.5),
        WORKERS,
    )
}
