"""After a kill with a million records waiting, service is back for little work; all are there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random

from bench.process import cpu_seconds
from pullstatus.store import Append, open_store
from tests.faults.load import Load, Mix, app_mailbox, doomed
from tests.harness import STATUS, App, Program, slowness, status

WAITING = 1_000_000
BACK_S = 2.0  # of processor time on a machine that `slowness` knows; five seconds are promised
BATCH = 1000
TOGETHER = 20
MARK = b"8:0000000"


async def seed(url: str, app: App, count: int) -> None:
    """Put so many numbered delivery statuses into a mailbox, past the server."""
    record = json.dumps(status(1, sid=MARK.decode()), separators=(",", ":")).encode()
    before, _, behind = record.partition(MARK)
    store = await open_store(url)

    async def batch(first: int) -> int:
        entries = [b"%b8:%07d%b" % (before, n, behind) for n in range(first, first + BATCH)]
        return await store.append(Append(app_mailbox(app, STATUS), entries, first))

    try:
        for first in range(0, count, BATCH * TOGETHER):
            firsts = range(first, first + BATCH * TOGETHER, BATCH)
            assert sum(await asyncio.gather(*map(batch, firsts))) == BATCH * TOGETHER
    finally:
        await store.close()


def processor_s(program: Program) -> float:
    """What the server's processes have used of the processors since they began."""
    return sum(
        cpu_seconds(Path(f"/proc/{process}/stat").read_text(encoding="ascii"))
        for process in program.processes()
    )


def test_back_in_service_soon_after_a_kill(tmp_path: Path) -> None:
    """With a million waiting: ready, and the first page handed out, for little processor time."""
    program = Program(tmp_path)
    app = program.create_app()
    asyncio.run(seed(program.store, app, WAITING))
    load = Load(program, Random(1), Mix(batch_max=200))

    async def kill() -> None:
        await load.answered(500)
        assert program.process is not None
        program.process.kill()

    with doomed(program):
        assert len(program.pull(app).data) == 100
        asyncio.run(load.live(kill))

    before = slowness()
    with program:
        ready_s = processor_s(program)
        page = program.pull(app).data
        back_s = processor_s(program)
        assert [record["sid"] for record in page] == [f"8:{n:07d}" for n in range(100, 200)]
        enough_s = BACK_S * max(before, slowness())
        assert back_s <= enough_s, f"ready after {ready_s:.1f} s, a page after {back_s:.1f} s"
        assert program.waiting(app) == WAITING - 200
        assert load.settle().acknowledged
