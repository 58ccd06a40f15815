"""kill -9 at random instants: what was acknowledged is there, what was handed out never again.

`PULLSTATUS_KILLS=2000 PULLSTATUS_SEED=7` asks for a longer run, or for another one.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from random import Random

import pytest

from tests.faults.aged import (
    an_old_batch,
    an_old_page,
    an_old_record,
    expires_waiting,
    leaving,
    left,
)
from tests.faults.load import Load, Mix, doomed
from tests.harness import PATIENCE_S, UPKEEP_ALWAYS, Program

KILLS = int(os.environ.get("PULLSTATUS_KILLS", "20"))
SEED = os.environ.get("PULLSTATUS_SEED", "1")
SHARDS = 4


@pytest.mark.parametrize("shard", range(SHARDS))
def test_killed_under_load(tmp_path: Path, shard: int) -> None:
    """A store outlives any number of kills: nothing lost, doubled, reordered or torn.

    Half of them hit the store's own process; then the server ends by itself. Each finds it at
    work on what is too old, which is no less orderly: what a kill left is dealt with afterwards.
    """
    rng = Random(f"{SEED}/{shard}")
    program = Program(tmp_path, *UPKEEP_ALWAYS)
    load = Load(program, rng, Mix())
    taken, expiring = program.create_app(), program.create_app()
    expires_waiting(program, expiring)

    async def kill() -> None:
        await load.answered(rng.randrange(20, 400))
        await leaving(program, taken, *[an_old_page] * 40)
        await leaving(program, expiring, an_old_batch, an_old_record)
        await asyncio.sleep(rng.uniform(0, 0.02))  # in the middle of whatever comes next
        assert program.process is not None
        victim = rng.choice(program.processes())
        os.kill(victim, signal.SIGKILL)
        status = await asyncio.to_thread(program.process.wait, PATIENCE_S)
        assert status == (-signal.SIGKILL if victim == program.process.pid else 70)

    for _ in range(KILLS // SHARDS + (shard < KILLS % SHARDS)):
        with doomed(program):
            asyncio.run(load.live(kill))
    with program:
        report = load.settle()
        program.until(lambda: not asyncio.run(left(program, taken, expiring)))
    assert report.acknowledged
    assert any(one.client.startswith("reader") and one.records for one in load.history)
