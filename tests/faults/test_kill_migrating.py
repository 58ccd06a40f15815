"""kill -9 while a store becomes another, there and back, under load: of the run, its server, both.

Clients work all the while; what is killed is started again until the switch is made. What they saw
over all stores is judged as by `test_kill`: nothing lost, nothing twice, and pages that come again,
by a key or to a reader, are byte for byte what they were.

`PULLSTATUS_KILLS` and `PULLSTATUS_SEED` are those of `test_kill`; here is one kill for five there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from pullstatus.store.transfer import Migration, Role, Stage
from tests.faults.load import Load, Mix, doomed
from tests.faults.test_kill import KILLS, SEED
from tests.harness import COMMAND, PATIENCE_S, Program
from tests.store.test_migration import state_of

SHARDS = 2
SEEN_MAX_S = 1.0  # how long a run goes on before it is killed, at most
MOVED_S = 10 * PATIENCE_S  # of a run that is not: what is added meanwhile is copied, too


class Moves:
    """A program whose store becomes another, and what ends a run.

    Attributes:
        kills: how many, by the victim.
    """

    def __init__(self, program: Program, rng: Random) -> None:
        self.program = program
        self.kills: Counter[str] = Counter()
        self.count = 0
        self._over = False
        self._rng = rng
        self._url = ""

    def begin(self) -> None:
        """Choose a new store, of which the master key is there."""
        self.count += 1
        self._over = False
        file = self.program.folder / f"moved-{self.count}.db"
        before = self.program.store.removeprefix("sqlite:///")
        shutil.copy2(f"{before}-master-key", f"{file}-master-key")
        self._url = f"sqlite:///{file}"

    def over(self) -> bool:
        """Whether the newest run came to its end."""
        return self._over

    def end(self) -> None:
        """Serve the new one from now on."""
        self.program.store = self._url

    def state(self) -> Migration | None:
        """What the store says that is in use."""
        return asyncio.run(state_of(self.program.store))

    def start(self) -> subprocess.Popen[bytes]:
        with (self.program.folder / "migrate").open("ab") as log:
            return subprocess.Popen(
                [COMMAND, "migrate", "--from", self.program.store, "--to", self._url],
                stdout=log,
                stderr=log,
                env=self.program.environment,
            )

    def told(self) -> str:
        return (self.program.folder / "migrate").read_text(encoding="utf-8")

    async def run(self, victim: str) -> None:
        """Run it beside the server, and kill one of them, or both, or nobody."""
        process = self.start()
        try:
            if victim != "nobody":
                within_s = self._rng.uniform(0, SEEN_MAX_S)
                try:
                    await asyncio.to_thread(process.wait, within_s)
                except subprocess.TimeoutExpired:
                    self.kills[victim] += 1
                    self._kill(process, victim)
            status = await asyncio.to_thread(process.wait, MOVED_S)
        finally:
            process.kill()
            process.wait()
        assert status in (0, -signal.SIGKILL), self.told()
        self._over = status == 0

    def _kill(self, process: subprocess.Popen[bytes], victim: str) -> None:
        server = self.program.process
        assert server is not None
        if victim in ("run", "both"):
            process.kill()
        if victim in ("server", "both"):
            os.kill(self._rng.choice(self.program.processes()), signal.SIGKILL)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_killed_while_its_store_becomes_another(tmp_path: Path, shard: int) -> None:
    """There and back again: nothing is lost by it, and nobody ever finds two stores in use."""
    rng = Random(f"{SEED}/migrate/{shard}")
    program = Program(tmp_path)
    load = Load(program, rng, Mix())
    moves = Moves(program, rng)
    while moves.count < 2 or not moves.kills:  # a quick run may be over before
        moves.begin()
        kills = max(1, KILLS // 5 // SHARDS // 2)
        while not moves.over():
            kills -= 1
            victim = rng.choice(["run", "run", "server", "both"]) if kills >= 0 else "nobody"
            found = moves.state()
            if found is not None and found.role is Role.SOURCE and found.stage is not Stage.COPYING:
                # No server takes it: the run that was killed is gone on with alone.
                asyncio.run(moves.run("nobody"))
                continue

            async def fault(victim: str = victim) -> None:
                await load.answered(rng.randrange(20, 200))
                await moves.run(victim)

            with doomed(program):
                asyncio.run(load.live(fault))
                if moves.over() and program.process is not None and victim == "nobody":
                    status = program.process.wait(PATIENCE_S)
                    assert status == 70, program.log()[-2000:]
                    assert "was moved to" in program.log()
        moves.end()
    with program:
        report = load.settle()
    assert report.acknowledged
    assert any(one.client.startswith("reader") and one.records for one in load.history)
