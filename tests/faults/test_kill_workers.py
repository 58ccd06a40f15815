"""kill -9 of workers under load: the others go on, nothing is lost or doubled.

`PULLSTATUS_KILLS` and `PULLSTATUS_SEED` are those of `test_kill`; here is one kill for ten there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from random import Random

import pytest

from tests.faults.load import Load, Mix
from tests.faults.test_kill import KILLS, SEED
from tests.harness import UPKEEP_ALWAYS, Program

A_TENTH = max(1, KILLS // 10)


def workers_of(program: Program) -> dict[int, int]:
    """The newest process of each worker, by its number."""
    lines = map(json.loads, program.log().splitlines())
    return {line["worker"]: line["process"] for line in lines if line["event"] == "worker started"}


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_killed_under_load(tmp_path: Path, workers: int) -> None:
    """A store has one server all along; whatever dies of it is told, and replaced."""
    rng = Random(f"{SEED}/{workers}")
    program = Program(tmp_path, "--workers", str(workers), *UPKEEP_ALWAYS)
    load = Load(program, rng, Mix())

    async def kill() -> None:
        for _ in range(A_TENTH):
            await load.answered(rng.randrange(20, 400))
            before = workers_of(program)
            number = rng.choice(sorted(before))
            await asyncio.sleep(rng.uniform(0, 0.02))  # in the middle of whatever comes next
            os.kill(before[number], signal.SIGKILL)
            while workers_of(program)[number] == before[number]:
                await load.answered(1)  # by those that are left
        assert program.process is not None
        assert program.process.poll() is None

    with program:
        asyncio.run(load.live(kill))
        report = load.settle()
        assert program.metrics()["pullstatus_workers_ended_total"] == A_TENTH
    assert report.acknowledged
