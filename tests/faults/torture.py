"""Breaks servers of a store, and its clients: `python -m tests.faults.torture postgresql`.

So many of the first kind of fault, and of the others the share that `FAULTS` of the engine says.
They go round in parts, each of which is judged by itself. In the end a database of PostgreSQL is
worked on for long under a snapshot.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.faults import clusters, servers
from tests.faults.doors import LARGE, Load
from tests.faults.snapshots import costs_of, slower
from tests.faults.torment import Fault, Told, torment
from tools.postgresql import majors

FAULTS: Final[Mapping[str, Mapping[str, Fault[Any]]]] = {
    "postgresql": servers.FAULTS,
    "jetstream": clusters.FAULTS,
}


class Size(NamedTuple):
    """How much there is of a run.

    Attributes:
        part: faults of a kind before what came of them is judged: a history is kept in memory.
        calm: answers between two of them, at least and at most.
    """

    part: int = 25
    calm: tuple[int, int] = (100, 500)
    load: Load = Load()


LARGER: Final = Size(8, (400, 1200), LARGE)
NODES: Final = 3  # each is brought up to date once
SNAPSHOT_LIVES = 2000  # three times, of five operations each: more than a minute


def main() -> int:
    """Run it; returns the exit status."""
    gc.disable()  # histories are large, and have no cycles: that is half of what a verdict costs
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.torture", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("engine", choices=FAULTS, help="whose servers")
    parser.add_argument("--kills", type=int, default=100, help="of the first kind of fault (100)")
    parser.add_argument("--seed", type=int, default=None, help="a number; made up when absent")
    parser.add_argument("--only", metavar="FAULT", help="that fault alone")
    parser.add_argument("--major", type=int, choices=majors(), help="that PostgreSQL (newest)")
    parser.add_argument(
        "--before", type=Path, metavar="PROGRAM", help="nodes of this nats-server are upgraded"
    )
    parser.add_argument("--large", action="store_true", help="many more records")
    parser.add_argument("--whole", action="store_true", help="compare replicas by their messages")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no more than about these")
    options = parser.parse_args()
    faults = FAULTS[options.engine]
    if options.before:
        upgrade = clusters.upgrading_from(options.before)
        faults = {upgrade.name: upgrade}
    size = LARGER if options.large else Size()
    if options.only not in (None, *faults):
        parser.error(f"--only is one of: {', '.join(faults)}")
    until_s = time.monotonic() + options.minutes * 60
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    version = f" {options.major or max(majors())}" if options.engine == "postgresql" else ""
    console.print(f"seed {seed}, {options.engine}{version}")
    wanted = {
        name: max(1, round(options.kills * fault.share)) if fault.share else NODES
        for name, fault in faults.items()
        if options.only in (None, name)
    }
    told: list[Told] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        tasks = {name: progress.add_task(name, total=total) for name, total in wanted.items()}
        for name, first, count in parts(wanted, size.part):
            if time.monotonic() > until_s:
                break
            folder = Path(tempfile.mkdtemp(prefix="pullstatus-torture-"))
            one = torment(
                folder,
                faults[name],
                f"{seed}/{first}",
                count,
                major=options.major,
                calm=size.calm,
                load=size.load,
                compare=options.whole,
                done=_upward(progress, tasks[name], first),
            )
            told.append(one)
            so_far = sum(each.verdict.report.acknowledged for each in told)
            console.print(
                f"{name}, {first + count} of {wanted[name]}: {one.seconds:,.0f} s,"
                f" {one.verdict.report.acknowledged:,} of {so_far:,} acknowledged"
            )
            if one.found:
                console.print(f"{one}\nwhat is left of it is in {folder}", markup=False)
                console.print(table_of(told, wanted))
                return 1
            shutil.rmtree(folder)
    console.print(table_of(told, wanted))
    if options.only or options.engine != "postgresql" or time.monotonic() > until_s:
        return 0
    return under_a_snapshot(console, options.major)


def parts(wanted: Mapping[str, int], size: int) -> Iterator[tuple[str, int, int]]:
    """The kinds in turn: a name, how many there were before, how many there are in this part."""
    rounds = max(math.ceil(total / size) for total in wanted.values())
    for number in range(rounds):
        for name, total in wanted.items():
            first, end = (total * place // rounds for place in (number, number + 1))
            if end > first:
                yield name, first, end - first


def _upward(progress: Progress, task: object, first: int) -> Callable[[int], None]:
    return lambda count: progress.update(task, completed=first + count)  # type: ignore[arg-type]


def under_a_snapshot(console: Console, major: int | None) -> int:
    """Work on a store for long while somebody holds a snapshot; returns the exit status."""
    began = time.monotonic()
    thirds = asyncio.run(costs_of(SNAPSHOT_LIVES, major=major))
    costs = "; ".join(" + ".join(f"{cost:.0f}" for cost in one) for one in thirds)
    wrong = ", ".join(slower(thirds)) or "nothing"
    console.print(
        f"under a snapshot, {time.monotonic() - began:,.0f} s: pages looked at for five operations,"
        f" for removing and for forgetting what they left, {SNAPSHOT_LIVES:,} times, in each third:"
        f" {costs}; slower: {wrong}"
    )
    return int(wrong != "nothing")


def table_of(told: list[Told], wanted: Mapping[str, int]) -> Table:
    """A row for each kind of fault."""
    table = Table(box=None, header_style="bold")
    table.add_column("fault")
    headings = ("wanted", "done", "operations", "acknowledged", "delivered", "in limbo", "s")
    for heading in headings:
        table.add_column(heading, justify="right")
    table.add_column("wrong")
    for name, total in wanted.items():
        mine = [one for one in told if one.fault.name == name]
        reports = [one.verdict.report for one in mine]
        found = {key: count for one in mine for key, count in one.found.items()}
        table.add_row(
            name,
            f"{total:,}",
            f"{sum(one.times for one in mine):,}",
            f"{sum(one.verdict.operations for one in mine):,}",
            f"{sum(report.acknowledged for report in reports):,}",
            f"{sum(report.delivered for report in reports):,}",
            f"{sum(report.limbo for report in reports):,}",
            f"{sum(one.seconds for one in mine):,.0f}",
            ", ".join(f"{key}: {count}" for key, count in found.items()) or "nothing",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
