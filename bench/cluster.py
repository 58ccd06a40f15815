"""The engine over JetStream by itself: nodes, processes with doors of their own, mailboxes.

What a server adds to it is what it adds over any engine. Nodes, processes and whoever measures
share the cores, so processor time is what holds: of the processes, and of all nodes together.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from bench.door import Done, Verb, Work
from bench.measure import Bench
from bench.paced import percentile
from bench.process import Usage, Watch
from bench.results import Indicator, Line, Result, median
from bench.scenarios import Scenario
from bench.server import PAGE
from pullstatus.cli.load import Measured
from pullstatus.store import init_store
from tools.nats import Cluster

NODES: Final = (1, 3)
PROCESSES: Final = (1, 2, 4)
MAILBOXES: Final = (1, 1_000)
PARTITIONS: Final = 3
AT_ONCE: Final = 64
USE_S_MAX: Final = 60.0  # for using each mailbox once
_DONE: Final = msgspec.json.Decoder(Done)


class Measure(NamedTuple):
    """What is asked of a store.

    Attributes:
        entries: of an append, or at most of a page.
        unit_of: how many of the unit one of it is.
        callers: over all processes.
        goal: with three nodes, two processes, and as many mailboxes as `of`, a second.
    """

    name: str
    unit: str
    verb: Verb
    entries: int
    unit_of: int
    callers: int
    goal: float | None = None
    of: int = 0


SINGLES = Measure("appends of 1", "appends/s", "append", 1, 1, 512, 15_000, 1_000)
BATCHES = Measure(f"appends of {PAGE}", "records/s", "append", PAGE, PAGE, AT_ONCE, 2e5, 1_000)
PAGES = Measure("pages", "pages/s", "pull", PAGE, 1, AT_ONCE, 1_500, 1_000)
POLLS = Measure("empty pulls", "pulls/s", "pull", PAGE, 1, 256)


class Doors:
    """Processes, each with a door to the same store."""

    def __init__(self, url: str, count: int, stack: contextlib.ExitStack) -> None:
        self._processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "bench.door", url],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for _ in range(count)
        ]
        stack.callback(self._end)

    def __len__(self) -> int:
        return len(self._processes)

    @property
    def pids(self) -> Sequence[int]:
        """Of all of them."""
        return [process.pid for process in self._processes]

    def do(self, work: Work, most: Sequence[int] = ()) -> list[Done]:
        """Have all of them do it at once: each has a share of callers and mailboxes.

        Args:
            most: how often each does it at most.
        """
        count = len(self._processes)
        shares = count if work.mailboxes >= count else 1
        for number, process in enumerate(self._processes):
            own = msgspec.structs.replace(
                work,
                callers=max(1, work.callers // count),
                share=number % shares,
                shares=shares,
                most=most[number] if most else work.most,
            )
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(own) + b"\n")
            process.stdin.flush()
        done = []
        for process in self._processes:
            assert process.stdout is not None
            done.append(_DONE.decode(process.stdout.readline()))
        return done

    def _end(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()


def _measure(bench: Bench, scenario: Scenario) -> Result:
    lines: list[Line] = []
    judged: list[Indicator] = []
    for nodes in NODES:
        for processes in PROCESSES:
            for mailboxes in MAILBOXES:
                bench.say(f"{nodes} nodes, {processes} processes, {mailboxes:,} mailboxes")
                for measure, line in _cell(bench, nodes, processes, mailboxes):
                    lines.append(line)
                    if (nodes, processes, mailboxes) == (3, 2, measure.of):
                        judged.append(
                            Indicator(f"{line.label}, a second", median(line.per_s), measure.goal)
                        )
    return Result(scenario.name, scenario.conditions, lines, judged)


def _cell(
    bench: Bench, nodes: int, processes: int, mailboxes: int
) -> Iterator[tuple[Measure, Line]]:
    """Everything that is measured of so many, over a store of their own."""
    where = f"{nodes} nodes, {processes} processes, {mailboxes:,} mailboxes"
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster(nodes, place=bench.folder))
        url = cluster.url("bench", "single-node-for-tests=yes" if nodes == 1 else "")
        asyncio.run(init_store(url, partitions=PARTITIONS))
        cluster.settle()
        doors = Doors(url, processes, stack)
        _use_all(doors, mailboxes)
        behind = [node.pid for node in cluster.nodes]
        # Pages before what comes singly: one of such records is up to a hundred messages.
        for measure in (POLLS, PAGES, BATCHES, SINGLES):
            line = Line(f"{measure.name}, {where}", measure.unit)
            work = Work(
                measure.verb, mailboxes, measure.entries, measure.callers, bench.warmup_s or 0.1
            )
            # Of pages no more are taken than are there.
            laid = _lay(doors, work) if measure is PAGES else ()
            doors.do(work, laid)
            for _ in range(bench.runs):
                timed = msgspec.structs.replace(work, seconds=bench.seconds)
                laid = _lay(doors, timed) if measure is PAGES else ()
                with Watch(*doors.pids) as ours, Watch(*behind) as theirs:
                    done = doors.do(timed, laid)
                line.add(_measured(done), _together(ours.usage, theirs.usage), measure.unit_of)
                assert measure is not PAGES or not any(each.empty for each in done)
            yield measure, line


def _measured(done: Sequence[Done]) -> Measured:
    times_s = sorted(itertools.chain.from_iterable(each.times_s for each in done))
    p50, p99, most = (percentile(times_s, at) * 1000 for at in (0.5, 0.99, 1.0))
    seconds = max(each.seconds for each in done)
    return Measured(seconds, len(times_s), 0, 0, 0, p50, p99, most)


def _together(ours: Usage, theirs: Usage) -> Usage:
    """Of processes, and of the nodes behind them."""
    return msgspec.structs.replace(
        ours,
        processor_s=ours.processor_s + theirs.processor_s,
        behind_s=theirs.processor_s,
        cores=ours.cores + theirs.cores,
        memory_mib=ours.memory_mib + theirs.memory_mib,
        written_mib=ours.written_mib + theirs.written_mib,
        read_mib=ours.read_mib + theirs.read_mib,
    )


def _use_all(doors: Doors, mailboxes: int) -> None:
    """Have something in and out of each: a pull of one that was never used has more to ask."""
    each = [-(-mailboxes // len(doors))] * len(doors)
    verbs: Sequence[Verb] = ("append", "pull")
    for verb in verbs:
        doors.do(Work(verb, mailboxes, 1, AT_ONCE, USE_S_MAX), each)


def _lay(doors: Doors, work: Work) -> Sequence[int]:
    """Append full pages for as long as they will be taken; how many each process did.

    It takes them in the same order, so that none of its mailboxes is empty before its time. Where
    pages are faster than appends, what is measured ends when they are gone.
    """
    done = doors.do(Work("append", work.mailboxes, PAGE, AT_ONCE, work.seconds))
    return [len(each.times_s) for each in done]


SCENARIO: Final = Scenario(
    "cluster",
    f"appends, pages and empty pulls at doors to JetStream, {PARTITIONS} partitions",
    _measure,
    15.0,
)
