"""Lives in which a call to the disk fails, and the process that owns the store ends for it.

What a server does: after an error that says the store is no more to be used, it ends, with or
without closing its files, and another one starts on what is there: what the kernel still holds, or
after a power cut what the disk holds.
"""

from __future__ import annotations

from pullstatus.errors import StoreUnavailable
from tests.sim.disk import Disk, Fault
from tests.sim.found import PromiseBroken
from tests.sim.life import STOPS, Life, Setup
from tests.sim.workload import finish, step, template, work

STEPS = 30
STEPS_AFTER = 6


def survive(fault: Fault, seed: str, setup: Setup | None = None) -> None:
    """A life with a fault in it, judged at its end.

    Args:
        fault: the calls that fail.
        seed: of everything but the fault.
        setup: of the store.

    Raises:
        PromiseBroken: the fault made the store break one.
    """
    life = Life(f"faults {seed}", setup, template(3))
    life.disk.fault = fault
    _judged(life, f"seed {seed}, {fault}")


def fill(spare_bytes: int, seed: str) -> bool:
    """A life on a disk with little room, judged at its end; returns whether it was too little.

    Raises:
        PromiseBroken: the full disk made the store break one.
    """
    life = Life(f"full {seed}", None, template(3))
    disk = life.disk
    disk.capacity_bytes = spare_bytes + sum(len(inode.content) for inode in disk.names.values())
    _judged(life, f"seed {seed}, {spare_bytes} bytes to spare")
    return disk.overfull > 0


def _judged(life: Life, again: str) -> None:
    try:
        _until_stopped(life)
        work(life, STEPS_AFTER)
        if life.rng.random() < 0.5:
            life.cut()
            life.recover()
        finish(life)
    except Exception as error:
        raise PromiseBroken(f"{type(error).__name__}: {error}\n{again}") from error
    finally:
        life.move(Disk())


def _until_stopped(life: Life) -> None:
    for _ in range(STEPS):
        try:
            step(life)
        except STOPS:
            _restart(life)
            return
        except StoreUnavailable:
            # It may be used on, and power may go at any time.
            if life.rng.random() < 0.2:
                life.cut()
                life.recover()
                return
    life.disk.fault = life.disk.capacity_bytes = None


def _restart(life: Life) -> None:
    if life.rng.random() < 0.5:
        life.close(fold=False)
    if life.rng.random() < 0.5:
        life.cut()
    else:
        life.kill()
    life.recover()
    if life.rng.random() < 0.3:
        life.cut()
        life.recover()
