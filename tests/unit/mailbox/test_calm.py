"""When there is time for what nobody waits for: by a clock, and by loads, that are the test's."""

from __future__ import annotations

import asyncio

import pytest

from pullstatus.mailbox.calm import (
    BEHIND_S_MAX,
    CALM_S,
    HURRY_S,
    LOOK_S,
    RESTS,
    SLICE_S,
    Calm,
)


class Machine:
    """So much of the time is spent in commits, and so much of a core in this process."""

    def __init__(self, commits: float = 0.0, process: float = 0.0) -> None:
        self.now_s = 100.0
        self.commits, self.process = commits, process
        self.commit_s = self.process_s = 0.0
        self.worked_s = 0.0
        self.slept: list[float] = []
        self.requests_per_s = 0.0
        self.calm = Calm(
            self.commits_s,
            lambda: self.now_s,
            lambda: self.process_s,
            lambda: int(self.now_s * self.requests_per_s),
            self.sleep,
        )

    async def commits_s(self) -> float:
        return self.commit_s

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds
        self.commit_s += seconds * self.commits
        self.process_s += seconds * self.process

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_by(seconds)
        await asyncio.sleep(0)

    async def work(self, seconds: float) -> None:
        """Of its own, and a breath."""
        self.now_s += seconds
        self.worked_s += seconds
        self.process_s += seconds
        self.commit_s += seconds * self.commits
        await self.calm.breathe()


def worked(machine: Machine, slices: int = 1000) -> float:
    """How much of the time whoever is calm spends on his own work."""

    async def run() -> float:
        began_s = machine.now_s
        for _ in range(slices):
            await machine.work(SLICE_S)
        return slices * SLICE_S / (machine.now_s - began_s)

    return asyncio.run(run())


def test_who_is_alone_works_nearly_all_the_time() -> None:
    """His own work does not count as load."""
    assert worked(Machine()) > 0.8
    assert worked(Machine(commits=0.4)) > 0.8
    assert worked(Machine(process=0.55)) > 0.8


@pytest.mark.parametrize(("commits", "process"), [(0.6, 0.0), (0.0, 0.65), (1.0, 1.0)])
def test_who_is_not_stands_still(commits: float, process: float) -> None:
    """For as long as it takes; a low priority would not do."""
    machine = Machine(commits, process)

    async def run() -> None:
        working = asyncio.create_task(_slices(machine))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not working.done()
        assert machine.now_s > 110
        machine.commits = machine.process = 0.0
        await working

    asyncio.run(run())


async def _slices(machine: Machine) -> None:
    for _ in range(3):
        await machine.work(SLICE_S)


def test_a_load_that_begins_meanwhile_is_seen() -> None:
    """It can only be seen while he rests: his work takes the core that the load asks for."""
    machine = Machine()

    async def run() -> None:
        for _ in range(10):
            await machine.work(SLICE_S)
        machine.process = 1.0
        working = asyncio.create_task(_on_and_on(machine))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert machine.now_s > 101
        working.cancel()

    asyncio.run(run())
    assert machine.worked_s < 2 * CALM_S


async def _on_and_on(machine: Machine) -> None:
    while True:
        await machine.work(SLICE_S)


def test_the_first_look_that_finds_calm_is_good_for_a_moment_only() -> None:
    """A load that begins in the middle of it is too little to be seen."""
    machine = Machine()

    async def run() -> None:
        await machine.work(SLICE_S)
        await machine.work(SLICE_S)
        machine.process = machine.commits = 1.0
        working = asyncio.create_task(_on_and_on(machine))
        for _ in range(1000):
            await asyncio.sleep(0)
        working.cancel()

    asyncio.run(run())
    assert machine.now_s - 100.0 > LOOK_S
    assert machine.worked_s < CALM_S / 2


def test_a_look_that_was_held_up_finds_no_calm() -> None:
    """A process that is stopped under load has nothing to do for that while, and much behind it."""
    machine = Machine(commits=0.9, process=0.9)
    stops = [10.0, 0.0] * 10

    async def sleep(seconds: float) -> None:
        await machine.sleep(seconds)
        if stops:
            machine.now_s += stops.pop()

    machine.calm._sleep = sleep

    async def run() -> None:
        working = asyncio.create_task(_on_and_on(machine))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not stops
        working.cancel()

    asyncio.run(run())
    assert machine.worked_s < 3 * SLICE_S


def test_nobody_works_while_it_is_looked() -> None:
    """Of those that ask at a time one looks, and the others wait for what is seen."""
    machine = Machine()
    worked_s: list[float] = []

    async def one() -> None:
        for _ in range(100):
            await machine.work(SLICE_S)

    async def run() -> None:
        read = machine.calm._process_s

        def look() -> float:
            worked_s.append(machine.worked_s)
            return read()

        machine.calm._process_s = look
        await asyncio.gather(*(one() for _ in range(16)))

    asyncio.run(run())
    assert len(worked_s) > 10
    begun, ended = worked_s[2::2], worked_s[3::2]  # not the first look: they do not know of it yet
    assert all(end - begin <= 16 * SLICE_S for begin, end in zip(begun, ended, strict=True))


def test_others_have_their_turn_after_each_slice() -> None:
    machine = Machine()

    async def run() -> None:
        for _ in range(100):
            await machine.work(SLICE_S / 4)

    asyncio.run(run())
    assert 20 <= machine.slept.count(0) <= 30


@pytest.mark.parametrize("behind_s", [0.0, HURRY_S + 1])
def test_between_requests_there_is_more_rest_than_work(behind_s: float) -> None:
    """Unless he is behind, or nobody asks any more."""
    machine = Machine()
    machine.calm.behind_s = lambda: behind_s
    machine.requests_per_s = 200.0
    asked = worked(machine)
    assert asked > 0.8 if behind_s else 1 / (RESTS + 2) < asked < 1 / RESTS
    machine.requests_per_s = 0.0
    worked(machine, 300)
    assert worked(machine) > 0.8


def test_who_was_held_up_rests_no_longer_for_it() -> None:
    """What took so long was a thread's, or another process's."""
    machine = Machine()
    machine.requests_per_s = 200.0
    worked(machine, 10)
    machine.slept.clear()
    asyncio.run(machine.work(CALM_S / 10))
    assert machine.slept[0] == 2 * RESTS * SLICE_S


def test_who_is_an_hour_behind_goes_on_a_little() -> None:
    """Retention waits for him, and the disk has an end."""
    machine = Machine(commits=1.0)
    machine.calm.behind_s = lambda: BEHIND_S_MAX + 1
    assert 0.001 < worked(machine, 100) < 2 * SLICE_S / LOOK_S
