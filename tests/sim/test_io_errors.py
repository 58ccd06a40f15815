"""Every call to the disk fails once, and for good: no answer may turn out to be a lie.

Of those which are many, some (`STRIDES`); with more PULLSTATUS_CUTS than usual each.
"""

import itertools

import pytest

from tests.sim.disk import CALL_KINDS, CallKind, Fault
from tests.sim.faults import fill, survive
from tests.sim.test_power_cuts import CUTS

SEEDS = ("b", "c")
CALLS_LEAST: dict[CallKind, int] = {"read": 30, "write": 100, "sync": 15, "truncate": 2, "open": 2}
"""With fewer calls than that a life is too short to prove anything."""
STRIDES: dict[CallKind, int] = {} if CUTS > 4000 else {"read": 5, "write": 9, "sync": 2}
"""From one call that fails to the next; 1 where none stands."""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for_good"])
@pytest.mark.parametrize("kind", CALL_KINDS)
def test_a_failed_call_makes_no_answer_a_lie(kind: CallKind, forever: bool, seed: str) -> None:
    """P5, P15: what was accepted stays, what was refused left nothing, the rest is one of both."""
    for nth in itertools.count(1 + SEEDS.index(seed), STRIDES.get(kind, 1)):
        fault = Fault(kind, nth, forever)
        survive(fault, seed)
        if not fault.fired:
            break
    assert nth > CALLS_LEAST[kind]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for_good"])
def test_what_the_kernel_forgot_was_never_accepted(forever: bool, seed: str) -> None:
    """A sync fails, the pages are dropped and called clean, and the next process reads them."""
    for nth in itertools.count(1 + SEEDS.index(seed), STRIDES.get("sync", 1)):
        fault = Fault("sync", nth, forever, forgets=True)
        survive(fault, seed)
        if not fault.fired:
            break
    assert nth > CALLS_LEAST["sync"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_full_disk_makes_no_answer_a_lie(seed: str) -> None:
    """P14: whatever did not fit left nothing, and with room again all goes on."""
    met = [fill(spare_bytes, seed) for spare_bytes in range(0, 400_000, 5_000)]
    assert sum(met) > 30
    assert not fill(100_000_000, seed)
