"""What is told of a log whose end was cut off, frame by frame, without a database."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

import pytest

from pullstatus.store.sqlite import recovery
from pullstatus.store.sqlite.recovery import FRAME_HEADER_BYTES, HEADER_BYTES, hides_commits

PAGE_BYTES = 4096
FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES
MAGIC = recovery.MAGIC[0]
PAGES = 300
# Of frames of 4,120 bytes: where a sector ends behind page and size, behind the salt, and neither.
SPLIT_EARLY, SPLIT_LATE, WHOLE = 41, 62, 50
FRAMES = 70


def a_log(ends: set[int]) -> bytearray:
    """A log whose frames all prove right, of which these end a commit."""
    rng = Random(1)
    head = struct.pack(">6I", MAGIC, 3007000, PAGE_BYTES, 0, *rng.choices(range(1 << 32), k=2))
    salt = head[16:24]
    sums = recovery._checksum(MAGIC, (0, 0), head)
    log = bytearray(head + struct.pack(">2I", *sums))
    for number in range(FRAMES):
        told = struct.pack(">2I", number + 1, PAGES if number in ends else 0)
        page = rng.randbytes(PAGE_BYTES)
        sums = recovery._checksum(MAGIC, sums, told + page)
        log += told + salt + struct.pack(">2I", *sums) + page
    return log


def start_of(number: int) -> int:
    return HEADER_BYTES + number * FRAME_BYTES


def hides(log: bytearray, valid_frames: int, folder: Path) -> bool:
    file = folder / "store.db-wal"
    file.write_bytes(log)
    return hides_commits(file, valid_frames, PAGES * PAGE_BYTES)


@pytest.mark.parametrize(("number", "bytes_before"), [(SPLIT_EARLY, 8), (SPLIT_LATE, 16)])
@pytest.mark.parametrize("page_too", [False, True])
def test_a_sector_of_another_time_is_no_end_of_a_commit(
    tmp_path: Path, number: int, bytes_before: int, page_too: bool
) -> None:
    """One commit that was cut off: the sector before a frame's salt is as it was long before."""
    log = a_log(ends={FRAMES - 1})
    start = start_of(number)
    assert (start + bytes_before) % recovery.SECTOR_BYTES == 0
    log[start : start + bytes_before] = struct.pack(">2I", 7, PAGES) + bytes(bytes_before - 8)
    if page_too:
        log[start + 1000 : start + 1512] = bytes(512)
    assert not hides(log, number, tmp_path)


@pytest.mark.parametrize("number", [SPLIT_EARLY, SPLIT_LATE, WHOLE])
def test_a_commit_behind_one_that_is_damaged_is_told(tmp_path: Path, number: int) -> None:
    log = a_log(ends={number, FRAMES - 1})
    log[start_of(number)] ^= 1
    assert hides(log, number, tmp_path), "its page tells what its beginning was"
    log = a_log(ends={number, FRAMES - 1})
    log[start_of(number) + 1000] ^= 1
    split = number != WHOLE
    assert hides(log, number, tmp_path) == (not split), "beyond that sector it tells of itself"
    log = a_log(ends={number, number + 3, FRAMES - 1})
    log[start_of(number) + 1000] ^= 1
    assert hides(log, number, tmp_path), "by the next commit at the latest"
