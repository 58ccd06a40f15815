"""Something that happens, again and again, to servers and to the clients of `Doors`.

    told = torment(folder, FAULTS["kill the primary"], seed, times=3)
    assert not told.found, told

A fault happens so many times, between answers; then the run is judged (see verdict.py). What can
happen to the servers of an engine is beside it: `servers` for PostgreSQL, `clusters` for JetStream.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pullstatus.errors import StoreRefused
from tests.faults.doors import Doors, Load, Plant
from tests.faults.verdict import Verdict, judge
from tests.sim.checker import Report

PROCESSES: Final = 3
NO_EVIDENCE: Final = shutil.ignore_patterns("image", "served")  # a disk below its file system
SILENCE_S: Final = 240.0  # that servers may need to be there again, on a busy machine
PLANTED_JUDGED_S: Final = 60.0  # twenty times what it takes: then a store waits for what is gone
IDLE_S: Final = 5  # after that a server gives up on an open transaction

S = TypeVar("S")


@dataclass
class Run(Generic[S]):
    """Servers, and clients of a store on them.

    Attributes:
        servers: as their engine has them.
        happened: what was done, how many times.
    """

    servers: S
    doors: Doors
    rng: Random
    happened: Counter[str] = field(default_factory=Counter)

    def some_door(self) -> str:
        """One of the processes."""
        return self.rng.choice(sorted(self.doors.processes))


class Stage(NamedTuple, Generic[S]):
    """Where a run takes place.

    Attributes:
        servers: they run.
        url: of a store there, for clients.
        straight: of the same for who judges, with nothing between.
        prepare: changes something in each client's process that is no bug.
        apart: what the servers do not have alike, once nobody is at work any more; told whether to
            compare all that they have, which takes long.
        evidence: folders of what servers have on disk and have said.
    """

    servers: S
    url: str
    straight: str
    prepare: Plant | None = None
    apart: Callable[[bool], list[str]] = lambda _all: []
    evidence: Sequence[Path] = ()


@dataclass(frozen=True)
class Fault(Generic[S]):
    """Something that happens.

    Attributes:
        happen: has it happen once.
        share: how many there are in a long run for each one of the first kind.
        stage: has servers run that it can happen to, for as long as the stack is open.
        needs: programs of the system; see `tests.conftest`.
        allowed: what may be found, by what is promised while it happens.
    """

    name: str
    happen: Callable[[Run[S]], None]
    share: float
    stage: Callable[[contextlib.ExitStack, int | None], Stage[S]]
    needs: tuple[str, ...] = ()
    allowed: frozenset[str] = frozenset()


@dataclass
class Told:
    """What was done in a run, and what came of it.

    Attributes:
        times: how many times the fault has happened.
        happened: what that was, counted.
        alarms: how many stores have noticed that something is lost, and given up; that of who
            judges is one of them.
    """

    fault: Fault[Any]
    times: int
    happened: Counter[str]
    seconds: float
    alarms: int
    verdict: Verdict

    @property
    def found(self) -> dict[str, int]:
        """All that must not be, by name."""
        found = self.verdict.found
        return {name: found[name] for name in found.keys() - self.fault.allowed}

    def __str__(self) -> str:
        done = ", ".join(f"{count} {what}" for what, count in self.happened.items())
        return f"{self.fault.name}: {done}; {self.verdict}"


def kill_a_client(run: Run[Any]) -> None:
    """And a next life of it."""
    name = run.some_door()
    run.doors.kill(name)
    run.doors.start_again(name)
    run.happened["kills of a client"] += 1


def pause_a_client(run: Run[Any]) -> None:
    """For a moment, or until the server has given up on what it has open."""
    name = run.some_door()
    run.doors.signal(name, signal.SIGSTOP)
    time.sleep(run.rng.choice((0.2, 1.5, IDLE_S + 1)))
    run.doors.signal(name, signal.SIGCONT)
    run.happened["pauses of a client"] += 1


def torment(
    folder: Path,
    fault: Fault[Any],
    seed: object,
    times: int,
    *,
    major: int | None = None,
    plant: Plant | None = None,
    calm: tuple[int, int] = (100, 500),
    load: Load = Load(),  # noqa: B008 it is a constant
    compare: bool = False,
    done: Callable[[int], None] = lambda _count: None,
) -> Told:
    """Have a fault happen so many times, and judge.

    When something is found that must not be, what servers have is copied to `folder`.

    Args:
        major: of the servers' versions; None: the newest there is.
        calm: how many answers come between two of them, at least and at most.
        compare: all that the servers have, in the end.
        done: told after each how many there were.
    """
    rng = Random(f"{seed}/{fault.name}")
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        stage = fault.stage(stack, major)
        doors = stack.enter_context(Doors(stage.url, folder, seed, plant, stage.prepare, load))
        run = Run(stage.servers, doors, rng)
        sound = False
        try:
            doors.start(PROCESSES)
            doors.answered(calm[0], patience_s=SILENCE_S)
            for count in range(1, times + 1):
                fault.happen(run)
                doors.answered(rng.randrange(*calm), patience_s=SILENCE_S)
                done(count)
            doors.finish()
            verdict = asyncio.run(_judged(stage.straight, folder, seed, load, plant))
            alarms = doors.alarms + (verdict is None)
            if verdict is not None:
                verdict.replicas = stage.apart(compare)
            seconds = time.monotonic() - began
            told = Told(fault, times, run.happened, seconds, alarms, verdict or Verdict(Report()))
            sound = not told.found
        finally:
            if not sound and plant is None:
                _keep(stage, folder)
    return told


async def _judged(
    url: str, folder: Path, seed: object, load: Load, plant: Plant | None
) -> Verdict | None:
    """None with a bug planted: the store refuses what it has come to, or waits for what is gone."""
    if plant is None:
        return await judge(url, folder, seed, load)
    try:
        async with asyncio.timeout(PLANTED_JUDGED_S):
            return await judge(url, folder, seed, load)
    except (StoreRefused, TimeoutError):
        return None


def _keep(stage: Stage[Any], folder: Path) -> None:
    for number, place in enumerate(stage.evidence):
        with contextlib.suppress(shutil.Error):  # of files that are gone meanwhile
            shutil.copytree(place, folder / f"servers {number}", ignore=NO_EVIDENCE)
