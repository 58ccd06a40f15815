"""Breaks PostgreSQL and its clients, many times: `python -m tests.faults.torture --kills 1000`."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.faults.servers import FAULTS, Told, torment
from tools.postgresql import majors

ROUND = 25  # faults of a kind before what came of them is judged: a history is kept in memory


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many faults (1000)")
    parser.add_argument("--seed", type=int, default=None, help="a number; made up when absent")
    parser.add_argument("--only", choices=FAULTS, help="that fault alone")
    parser.add_argument("--major", type=int, choices=majors(), help="that PostgreSQL (newest)")
    parser.add_argument("--minutes", type=float, default=60, help="at most about so long (60)")
    options = parser.parse_args()
    until_s = time.monotonic() + options.minutes * 60
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    console = Console()
    console.print(f"seed {seed}, PostgreSQL {options.major or max(majors())}", highlight=False)
    shares = {name: fault.share for name, fault in FAULTS.items()}
    if options.only:
        shares = {options.only: 1.0}
    wanted = {name: max(1, round(options.kills * share)) for name, share in shares.items()}
    told: list[Told] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        for name, total in wanted.items():
            task = progress.add_task(name, total=total)
            for first in range(0, total, ROUND):
                if time.monotonic() > until_s:
                    break
                folder = Path(tempfile.mkdtemp(prefix="pullstatus-torture-"))
                told.append(
                    torment(
                        folder,
                        FAULTS[name],
                        f"{seed}/{first}",
                        min(ROUND, total - first),
                        major=options.major,
                        done=lambda count, task=task, first=first: progress.update(  # type: ignore[misc]
                            task, completed=first + count
                        ),
                    )
                )
                if not told[-1].verdict.sound:
                    console.print(f"{told[-1]}\nwhat is left of it is in {folder}", markup=False)
                    console.print(table_of(told))
                    return 1
                shutil.rmtree(folder)
    console.print(table_of(told))
    return 0


def table_of(told: list[Told]) -> Table:
    """A row for each kind of fault."""
    table = Table(box=None, header_style="bold")
    table.add_column("fault")
    for heading in ("done", "operations", "acknowledged", "delivered", "in limbo", "s"):
        table.add_column(heading, justify="right")
    table.add_column("wrong")
    for name in dict.fromkeys(one.fault.name for one in told):
        mine = [one for one in told if one.fault.name == name]
        reports = [one.verdict.report for one in mine]
        found = {key: count for one in mine for key, count in one.verdict.found.items()}
        table.add_row(
            name,
            f"{sum(one.happened.total() for one in mine):,}",
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
