"""A store becomes another one while clients work at two doors to it, and the run is killed.

What they saw at the store and at what it has become is judged as one history: nothing lost, nothing
twice, and pages that come again are byte for byte what they were. `test_kill_migrating` has a
server and its callers instead, over files.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

import pytest

from pullstatus.store import Act, init_store
from pullstatus.store.migration import move_store
from pullstatus.store.transfer import Role, Stage
from pullstatus.store.values import accept_any, any_setting
from tests.faults.doors import WARM, Doors, Load
from tests.faults.test_kill import KILLS, SEED
from tests.faults.verdict import Verdict, judge
from tests.harness import PATIENCE_S
from tests.store.jetstream import real
from tests.store.test_migration import quiet, state_of
from tools.postgresql import PostgreSQL

SEEN_MAX_S = 1.5  # how long a run goes on before it is killed, at most
LOAD = Load(rest_s=0.2)  # else a slow target never has what a fast source gets meanwhile
MOVED_S = 10 * PATIENCE_S  # of a run that is not: what is added meanwhile is copied, too


def move_main(source: str, target: str) -> None:
    """What a run does in a process of its own."""
    act = Act("me", "migrate", "", "", 1, b"a move of doors."[:16])
    asyncio.run(
        move_store(
            source,
            target,
            act=act,
            phase=quiet,
            prove_setting=any_setting,
            accept=accept_any,
        )
    )


@contextlib.contextmanager
def run_of(source: str, target: str) -> Iterator[ForkServerProcess]:
    process = WARM.Process(target=move_main, args=(source, target))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join(PATIENCE_S)


@contextlib.contextmanager
def places(engine: str, folder: Path, server: PostgreSQL) -> Iterator[str]:
    """Where a store is, or can be."""
    if engine == "sqlite":
        folder.mkdir()
        yield f"sqlite:///{folder}/store.db?commits=thread"
        return
    if engine == "jetstream":
        with real.place(folder) as url:
            yield url
        return
    with server.database() as database:
        url = f"{database}&commits=thread"
        asyncio.run(init_store(url))
        yield url


def moved_under_load(folder: Path, source: str, target: str, kills: int) -> Verdict:
    """Have a store moved by runs that are killed, and one that is not."""
    rng = Random(f"{SEED}/moving")
    with Doors(source, folder, SEED, load=LOAD) as doors:
        doors.start(2)
        doors.answered(150)
        over = False
        while not over:
            with run_of(source, target) as run:
                run.join(rng.uniform(0, SEEN_MAX_S) if kills > 0 else MOVED_S)
                over = run.exitcode == 0
                assert over or (kills > 0 and run.exitcode is None), run.exitcode
                kills -= 1
            found = asyncio.run(state_of(source))
            if found is None or (found.role, found.stage) == (Role.SOURCE, Stage.COPYING):
                doors.answered(rng.randrange(20, 150))
        doors.move(target)
        doors.answered(150)
        doors.finish()
    return asyncio.run(judge(target, folder, SEED, LOAD))


# A store is read alike whatever it becomes, so each engine is once a source and once a target;
# a longer run has the other ways as well.
EACH_ONCE = ["postgresql to postgresql", "sqlite to jetstream", "jetstream to sqlite"]
OTHERS = ["postgresql to sqlite", "sqlite to postgresql", "jetstream to jetstream"]


@pytest.mark.parametrize("engines", EACH_ONCE + (OTHERS if KILLS > 20 else []))
def test_moved_under_load(tmp_path: Path, engines: str, postgresql: PostgreSQL) -> None:
    one, _, other = engines.partition(" to ")
    with (
        places(one, tmp_path / "source", postgresql) as source,
        places(other, tmp_path / "target", postgresql) as target,
    ):
        verdict = moved_under_load(tmp_path, source, target, max(2, KILLS // 10))
    assert verdict.sound, str(verdict)
    assert verdict.report.delivered
    assert verdict.report.acknowledged
