"""Power is cut, or the process killed, while small chunks are joined, and while one is cut."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from pullstatus.store.gathering.operations import Purge
from pullstatus.store.sqlite import reading
from pullstatus.store.sqlite.connection import open_reader, open_writer
from pullstatus.store.sqlite.log import Log
from pullstatus.store.values import Append, Entry, Pull
from tests.sim.disk import NEVER, VFS_NAME, Disk
from tests.sim.life import MAILBOXES
from tests.sim.test_copies import STORE, _never_fold, remains, rows, survives
from tests.store.sqlite.conftest import follow

COUNT, LEFT = 60, 15
BOX = MAILBOXES[0]


@pytest.fixture(autouse=True)
def _readers_only_read() -> Iterator[None]:
    apsw.connection_hooks.append(_never_fold)
    yield
    apsw.connection_hooks.remove(_never_fold)


def log_of(disk: Disk) -> contextlib.closing[Log]:
    return contextlib.closing(Log(open_writer(Path(disk.path(STORE)), vfs=VFS_NAME)))


def join(disk: Disk) -> None:
    """As between two commits, some time after the start of a server."""
    with log_of(disk) as log:
        assert log.states.draft(BOX) is not None
        log._tables.joins._due[BOX] = None
        log.join()


def purge(disk: Disk) -> None:
    with log_of(disk) as log:
        follow(log, BOX)
        log.commit([Purge((BOX,), 10**9, 3200, 3600.0)])


def kept(disk: Disk) -> list[Entry]:
    """What can be read of the mailbox."""
    copy = disk.copy()
    with contextlib.closing(open_reader(Path(copy.path(STORE)), vfs=VFS_NAME)) as connection:
        base = reading.base(connection, BOX)
        assert base is not None
        found, _ = reading.entries(connection, base, 1, None, rows_max=200, found_max=200)
        return found


def counts(disk: Disk) -> list[object]:
    return [row[1] for row in rows(disk, STORE)["chunk"]]  # which audits


@pytest.mark.parametrize(
    ("act", "joined", "before", "after"),
    [
        (join, False, [1] * COUNT, [1] * LEFT + [COUNT - LEFT]),
        (purge, True, [COUNT], [COUNT - LEFT]),
    ],
    ids=["join", "cut"],
)
def test_a_cut_at_any_call_leaves_all_of_it_or_nothing(
    act: Callable[[Disk], None], joined: bool, before: list[int], after: list[int]
) -> None:
    """What waits is what it was, whenever it happens; done again, it is done."""
    durable = Disk()
    with log_of(durable) as log:
        for number in range(COUNT):
            data = b'"%d:%s"' % (number, b"x" * 200)
            log.commit([Append(BOX, [data], 1000 + number, ticket=b"%016d" % number)])
        if joined:
            log.join()
        log.commit([Pull(BOX, LEFT, 5000)])
    expected = kept(durable)
    assert len(expected) == COUNT
    assert counts(durable) == before
    seen: list[list[object]] = []
    for left in range(NEVER):
        disk = durable.copy()
        disk.left = left
        done = survives(disk, lambda disk=disk: act(disk))  # type: ignore[misc]
        for place, found in enumerate(remains(disk, left)):
            seen.append(counts(found))
            assert seen[-1] == after if done else seen[-1] in (before, after)
            gone = 0 if act is join or seen[-1] == before else LEFT
            assert kept(found) == expected[gone:]
            if place == left % 4:
                act(found)
                assert counts(found) == after
            found.abandoned = True
        if done:
            break
    assert left > 8
    assert before in seen[1:]
