"""Plays sequences to both ways of a server, until the time is over: `python -m tests.fuzz.ways`.

What Hypothesis makes up, as in `tests/unit/server/test_ways.py`, but more of it.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
import time
import traceback

import click
import hypothesis
import structlog
from hypothesis import HealthCheck, given, settings

from tests.unit.server.test_ways import SEQUENCES, Step, check

EXAMPLES = 100  # between two looks at the time


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.ways", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    count = at_once = 0
    ends = time.monotonic() + options.seconds

    def play(steps: list[Step]) -> None:
        nonlocal count, at_once
        count += 1
        at_once += check(steps)

    plan = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    for seed in itertools.count(options.seed):
        try:
            hypothesis.seed(seed)(plan(given(steps=SEQUENCES)(play)))()
        except Exception:  # noqa: BLE001 - told with the steps that found it
            click.echo(f"seed {seed}\n{traceback.format_exc()}")
            return 1
        if time.monotonic() >= ends:
            break
    click.echo(f"{count} sequences, {at_once} requests answered at once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
