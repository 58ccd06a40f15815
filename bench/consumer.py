"""The product over JetStream, beside a consumer of JetStream's own, each over a node of its own.

Both behind HTTP, in turns. The consumer is that of `bench.peers`: it takes what is there and
acknowledges it; it checks no signature, keeps no journal, and cannot tell who had a page.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench import databases
from bench.measure import Bench
from bench.peers import services
from bench.peers.proof import prove
from bench.process import Running
from bench.results import Indicator, Line, Result, paired
from bench.scenarios import Scenario
from bench.server import PAGE, Product
from bench.subjects import Measure, Subject, in_turns, of_peer, of_product
from pullstatus.store import init_store
from tools.nats import Cluster

RUN_S: Final = 3.0  # at least, so that the consumer answers batches within one
OURS, CONSUMER = "pullstatus over JetStream", "a consumer of JetStream"
# Pages before posts of one: a page of such records is up to a hundred messages.
MEASURES: Final = (
    Measure("pages", "pages/s", 0, 32, 10.0),
    Measure(f"batches of {PAGE}", "records/s", PAGE, 32, 10.0),
    Measure("posts of 1", "posts/s", 1, 64, 1.0),
)


def _measure(bench: Bench, scenario: Scenario) -> Result:
    lines: list[Line] = []
    judged: list[Indicator] = []
    remarks: list[str] = []
    long = msgspec.structs.replace(bench, seconds=max(bench.seconds, RUN_S))
    with contextlib.ExitStack() as stack:
        subjects = [stack.enter_context(_product(bench))]
        try:
            subjects.append(stack.enter_context(_consumer(bench)))
        except databases.PeersMissing as error:
            remarks.append(f"without {CONSUMER}: {error}")
        for measure in MEASURES:
            found = {
                each.label: Line(f"{measure.name}, {each.label}", measure.unit) for each in subjects
            }
            in_turns(long, measure, subjects, found)
            lines += found.values()
            if CONSUMER in found:
                times = paired(found[OURS].per_s, found[CONSUMER].per_s)
                judged.append(Indicator(f"{measure.name} to the consumer's", times, measure.goal))
    return Result(scenario.name, scenario.conditions, lines, judged, remarks)


@contextlib.contextmanager
def _product(bench: Bench) -> Iterator[Subject]:
    with Cluster(1, place=bench.folder) as cluster:
        url = cluster.url("bench", "single-node-for-tests=yes")
        asyncio.run(init_store(url))
        cluster.settle()
        with Product(bench.folder, database=url) as product:
            product.serve()
            yield of_product(OURS, product, tuple(node.pid for node in cluster.nodes))


@contextlib.contextmanager
def _consumer(bench: Bench) -> Iterator[Subject]:
    python = databases.peers_python()
    with tempfile.TemporaryDirectory(prefix="bench-consumer-", dir=bench.folder) as name:
        folder = Path(name)
        with services.jetstream(folder, python.parent) as service:
            command = [str(python), "-m", "bench.peers.front", "lean", "jetstream"]
            command += [service.address, "1"]
            with Running(command, folder / "front.log", cwd=databases.CHECKOUT) as running:
                prove(running.address)
                yield of_peer(CONSUMER, running, service.pids)


SCENARIO: Final = Scenario(
    "consumer", "posts and pages over a node of JetStream, by the product and a consumer", _measure
)
