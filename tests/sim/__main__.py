"""Cuts power under a store, many times: `python -m tests.sim --cuts 100000 --seed 1`."""

from __future__ import annotations

import argparse
import itertools
import os
import secrets
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from tests.sim.found import PromiseBroken
from tests.sim.life import Tally
from tests.sim.workload import live, torture

CYCLES_AT_ONCE = 25


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--cuts", type=int, default=20_000, help="how many power cuts (20000)")
    parser.add_argument("--seed", type=int, default=None, help="a number; made up when absent")
    parser.add_argument("--only", type=int, metavar="CYCLE", help="one cycle of the seed again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (all)")
    options = parser.parse_args()
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    console = Console()
    try:
        if options.only is not None:
            life = live(seed, options.only)
            console.print(f"cycle {options.only} of seed {seed}: {life.cuts} cuts, all is well")
        else:
            tally = cut_power(seed, options.cuts, options.jobs, console)
            console.print(f"seed {seed}: {tally}")
    except PromiseBroken as broken:
        console.print(str(broken), markup=False, highlight=False)
        return 1
    return 0


def cut_power(seed: int, cuts: int, jobs: int, console: Console) -> Tally:
    """Run cycles of a seed until they had so many cuts.

    Raises:
        PromiseBroken: one of them found something.
    """
    total = Tally()
    columns = ("cuts", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        ProcessPoolExecutor(jobs) as pool,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        task = progress.add_task("cuts", total=cuts)
        try:
            for tally in _tallies(pool, seed, 2 * jobs):
                total += tally
                progress.update(task, completed=min(total.cuts, cuts))
                if total.cuts >= cuts:
                    break
        finally:
            pool.shutdown(cancel_futures=True)
    return total


def _tallies(pool: ProcessPoolExecutor, seed: int, ahead: int) -> Iterator[Tally]:
    starts = itertools.count(0, CYCLES_AT_ONCE)
    running: set[Future[Tally]] = set()
    while True:
        while len(running) < ahead:
            start = next(starts)
            running.add(pool.submit(torture, seed, range(start, start + CYCLES_AT_ONCE)))
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


if __name__ == "__main__":
    sys.exit(main())
