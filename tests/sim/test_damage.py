"""A log that was cut off is used, a log that was damaged is refused; they look much alike."""

from random import Random

import pytest

from pullstatus.errors import StoreCorrupt
from pullstatus.store.sqlite.recovery import FRAME_HEADER_BYTES, HEADER_BYTES
from pullstatus.store.sqlite.schema import PAGE_BYTES
from tests.sim.disk import Disk
from tests.sim.life import MAILBOXES, Life
from tests.sim.workload import plan_append_of

COMMITS = 12


def used() -> tuple[Life, int]:
    """A store whose log holds some commits, and where in the log the last of them begins."""
    life = Life("damage")
    for _ in range(COMMITS - 1):
        append(life)
    last = len(life.disk.names["store.db-wal"].content)
    append(life)
    return life, last


def append(life: Life) -> None:
    life.commit([plan_append_of(life, MAILBOXES[0], life.records((60, 60)))])


def damaged(disk: Disk, offset: int, bit: int) -> Disk:
    """The disk with one bit of the log turned over."""
    found = disk.copy()
    inode = found.names["store.db-wal"]
    inode.content[offset] ^= 1 << bit
    return found


def kept(disk: Disk) -> int | None:
    """How many entries there are; None if the store was refused."""
    life = Life("looks")
    life.move(disk)
    try:
        life.check_sound()
        return len(life.look().kept.get(MAILBOXES[0], ()))
    except StoreCorrupt:
        return None
    finally:
        life.move(Disk())


def frame_starts(start: int, stop: int) -> list[int]:
    frame_bytes = FRAME_HEADER_BYTES + PAGE_BYTES
    assert (start - HEADER_BYTES) % frame_bytes == 0
    return list(range(start, stop, frame_bytes))


def test_no_turned_bit_takes_an_acknowledged_commit_but_perhaps_the_last() -> None:
    """P16: behind the last commit nothing can prove that there was one."""
    life, last = used()
    rng = Random(1)
    log = life.disk.names["store.db-wal"].content
    everywhere = [rng.randrange(last) for _ in range(60)]
    headers = [
        start + rng.randrange(FRAME_HEADER_BYTES)
        for start in [0, *frame_starts(HEADER_BYTES, last)]
    ]
    refused = 0
    for offset in everywhere + headers:
        found = kept(damaged(life.disk, offset, rng.randrange(8)))
        assert found is None or found >= 2 * (COMMITS - 1)
        refused += found is None
    assert refused > 100
    in_last = {kept(damaged(life.disk, rng.randrange(last, len(log)), 0)) for _ in range(20)}
    assert in_last == {2 * (COMMITS - 1)}
    life.move(Disk())


def test_a_commit_cut_off_twice_is_no_damage() -> None:
    """Two ends of commits may stand behind the last whole one: neither was acknowledged."""
    life, last = used()
    log = life.disk.names["store.db-wal"].content
    whole = bytes(log)
    starts = frame_starts(last, len(whole))
    assert len(starts) >= 2
    # A longer commit was cut off here before: its end is still there, behind this one's.
    torn = bytearray(whole + whole[starts[-1] :])
    torn[starts[0] + FRAME_HEADER_BYTES] ^= 1
    log[:] = torn
    assert kept(life.disk.copy()) == 2 * (COMMITS - 1)
    life.move(Disk())


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
def test_what_a_torn_header_holds_is_no_end_of_a_commit(torn: bool) -> None:
    """The last commit was cut off; a frame within it lacks its beginning, or more, not its end."""
    life, last = used()
    log = life.disk.names["store.db-wal"].content
    whole = bytes(log)
    rng = Random(1)
    starts = frame_starts(last, len(whole))
    assert len(starts) > 1
    for start in starts[:-1]:
        for rubbish in (b"\xff" * 8, rng.randbytes(8), whole[8:16]):
            log[:] = whole
            log[start : start + 8] = rubbish
            if torn:
                log[start + FRAME_HEADER_BYTES + 500] ^= 1
            assert kept(life.disk.copy()) == 2 * (COMMITS - 1)
    life.move(Disk())


@pytest.mark.parametrize("shortened", [1, FRAME_HEADER_BYTES, PAGE_BYTES])
def test_a_log_that_ends_early_is_no_damage(shortened: int) -> None:
    life, _ = used()
    del life.disk.names["store.db-wal"].content[-shortened:]
    assert kept(life.disk.copy()) == 2 * (COMMITS - 1)
    life.move(Disk())
