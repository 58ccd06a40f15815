"""Power is cut, or the process killed, at any call of an erasure of single entries."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import apsw
import pytest

from pullstatus.store import Aside, Mailbox, chunk, segments
from pullstatus.store.gathering.operations import Erase, ErasedStep
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.blocks import COLUMNS, Row, segment_of
from pullstatus.store.sqlite.connection import open_reader, open_writer
from pullstatus.store.sqlite.log import Log
from pullstatus.store.sqlite.rewriting import rewrite
from tests.sim.disk import NEVER, VFS_NAME, Disk
from tests.sim.life import MAILBOXES
from tests.sim.test_copies import STORE, _never_fold, image, remains, rows, survives, used

PARKED = {Mailbox(mailbox.sdkappid, Aside.PARKED) for mailbox in MAILBOXES}
Entries = dict[tuple[int, int], bytes]  # by the key of its chunk and its place there


@pytest.fixture(autouse=True)
def _readers_only_read() -> Iterator[None]:
    apsw.connection_hooks.append(_never_fold)
    yield
    apsw.connection_hooks.remove(_never_fold)


def do_erase(disk: Disk, meant: list[bytes]) -> None:
    """In steps of a chunk each, as the engine takes them."""
    holding = tuple((one,) for one in meant)
    with contextlib.closing(open_writer(Path(disk.path(STORE)), vfs=VFS_NAME)) as connection:
        log = Log(connection)
        for mailbox in (*MAILBOXES, *PARKED):
            next_seq = 1
            while next_seq:
                [step] = log.commit([Erase(mailbox, next_seq, 1, 5, holding, frozenset())])
                assert isinstance(step, ErasedStep)
                next_seq = step.next_seq


def entries(disk: Disk) -> Entries:
    copy = disk.copy()
    with contextlib.closing(open_reader(Path(copy.path(STORE)), vfs=VFS_NAME)) as connection:
        return {
            (key, place): entry
            for key, count, checksum, bounds, body in connection.execute(
                "SELECT key, count, checksum, bounds, body FROM chunk"
            )
            for place, entry in chunk.proven(key, count, checksum, bounds, body)
        }


def indexed(disk: Disk) -> set[tuple[int, int]]:
    """Which entries segments find: the key of their mailbox, and their number."""
    copy = disk.copy()
    with contextlib.closing(open_reader(Path(copy.path(STORE)), vfs=VFS_NAME)) as connection:
        return {
            (row.key & ~schema.SEQ_MASK, row.first_seq + (word & 0xFFFF))
            for row in map(Row._make, connection.execute(f"SELECT {COLUMNS} FROM segment"))
            for word in segments.words(segment_of(connection, row), segments.Index.NUMBER)
        }


@pytest.mark.parametrize(
    "number", [5, 12]
)  # in which something has been followed; in the other one something is parked
def test_an_erasure_survives_a_cut_at_any_call(number: int) -> None:
    """Every store that is found is sound and has all others; done again, it has none of those."""
    before = used(number)
    durable = before.disk.crash(Random(0)) if number % 2 else before.disk.copy()
    stored = entries(durable)
    found_by = indexed(durable)
    meant = sorted(set(stored.values()))[::3]
    others = {place: entry for place, entry in stored.items() if entry not in meant}
    assert len(meant) > 3
    assert not any(one in other for one in meant for other in others.values())
    partly = 0
    for left in range(NEVER):
        disk = durable.copy()
        disk.left = left
        done = survives(disk, lambda disk=disk: do_erase(disk, meant))  # type: ignore[misc]
        for place, found in enumerate(remains(disk, left)):
            rows(found, STORE)  # which audits
            kept = entries(found)
            assert others.items() <= kept.items() <= stored.items()
            partly += others.keys() < kept.keys() < stored.keys()
            gone = {
                (key & ~schema.SEQ_MASK, (key & schema.SEQ_MASK) + offset)
                for key, offset in stored.keys() - kept.keys()
            }
            assert indexed(found) == found_by - gone
            if done:
                assert kept == others
            elif place == left % 4:
                do_erase(found, meant)
                assert entries(found) == others
                with contextlib.closing(
                    open_writer(Path(found.path(STORE)), vfs=VFS_NAME)
                ) as connection:
                    rewrite(connection)
                rows(found, STORE)
                written = [image(found, STORE + suffix) or b"" for suffix in ("", "-wal")]
                assert not [one for one in meant for file in written if one in file]
            found.abandoned = True
        if done:
            break
    assert left > 8
    assert partly
    assert found_by
