"""Kills consumers and their server, many times: `python -m tests.faults --kills 1000 --seed 1`."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from tests.faults.killing import kill_readers


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--seed", type=int, default=None, help="a number; made up when absent")
    parser.add_argument("--minutes", type=float, default=60, help="at most so long (60)")
    options = parser.parse_args()
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    console = Console()
    console.print(f"seed {seed}", highlight=False)
    columns = ("kills", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="pullstatus-readers-"))
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("kills", total=options.kills)
            tally = kill_readers(
                folder,
                seed,
                options.kills,
                time_s_max=options.minutes * 60,
                done=lambda count: progress.update(task, completed=count),
            )
    except AssertionError:
        console.print(f"seed {seed} has failed; what is left of it is in {folder}")
        raise
    minutes = (time.monotonic() - began) / 60
    console.print(f"seed {seed}, {minutes:.1f} minutes: {tally}", highlight=False, soft_wrap=True)
    if not tally.sound:
        console.print(f"what is left of it is in {folder}", soft_wrap=True)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
