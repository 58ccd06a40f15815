"""Power is cut at any write, and nothing is lost and nothing comes twice.

PULLSTATUS_CUTS tells how many cuts, PULLSTATUS_SEED which ones. `python -m tests.sim` does the same
outside of a test run, and one cycle again when one has failed.
"""

import itertools
import os
from random import Random

import pytest

from pullstatus.store.sqlite import schema
from tests.sim.checker import Seen, Verb
from tests.sim.disk import NEVER, Disk, PowerCut
from tests.sim.life import Life, Tally
from tests.sim.workload import finish, live, old_format, template, torture

CUTS = int(os.environ.get("PULLSTATUS_CUTS", "2000"))
SEED = int(os.environ.get("PULLSTATUS_SEED", "1"))
SHARDS = 8


@pytest.mark.parametrize("shard", range(SHARDS))
def test_nothing_is_lost_and_nothing_comes_twice(shard: int) -> None:
    """P1, P2, P3, P4, P5, P7, P8, P9, P10, P11, P12, P13 and P16, whenever power is cut."""
    tally = torture(SEED, itertools.count(shard, SHARDS), cuts_max=CUTS / SHARDS)
    assert tally.cuts >= CUTS / SHARDS


def test_lives_are_eventful() -> None:
    """A life in which hardly anything happens proves nothing."""
    seen: set[tuple[object, Seen]] = set()
    total = Tally()
    expected = set(itertools.product(Verb, Seen)) - {
        (Verb.ERASE, Seen.FAIL),
        (Verb.EXPIRE, Seen.FAIL),
        (Verb.REDELIVER, Seen.FAIL),  # what is to come again has been purged: once in 500 lives
    }
    for cycle in range(800):
        if total.cuts > 300 and min(total.limbo, total.recovered) > 5 and seen >= expected:
            break  # a page in a lost answer, and what rarely ends so, may be long in coming
        life = live(SEED, cycle)
        seen |= {(entry.verb, entry.outcome) for entry in life.history}
        total += life.tally()
    assert seen >= expected
    assert total.cuts > 300
    assert total.delivered > 5 * total.cuts
    assert total.recovered > 5
    assert total.limbo > 5


@pytest.mark.parametrize("version", range(schema.VERSION))
def test_a_first_start_and_every_migration_survive_a_cut_at_any_call(version: int) -> None:
    """P21: a step is done or not begun, and the next start does what is left."""
    before = old_format(version) if version else None
    for left in range(NEVER):
        life = Life(f"start {version}/{left}", None, before)
        life.disk.left = left
        try:
            _ = life.log
            through = True
        except PowerCut:
            through = False
            life.disk.abandoned = True
        life.cut()
        life.recover()
        finish(life)
        life.move(Disk())
        if through:
            break
    assert left > 15


def test_a_cycle_is_the_same_again() -> None:
    """What one seed shows, it shows again: the same operations, cuts and remains."""
    first, second = live(5, 3), live(5, 3)
    assert first.cuts == second.cuts
    assert first.history == second.history
    assert first.found == second.found
    assert live(5, 4).history != first.history


def test_a_cut_in_peace_takes_nothing() -> None:
    """What was answered is there, whatever the disk made of the rest."""
    for seed in range(50):
        life = Life(f"peace {seed}", None, template(1 + seed % 5))
        before = life.look()
        life.move(life.disk.crash(Random(seed)))
        assert life.look() == before
        life.move(Disk())
