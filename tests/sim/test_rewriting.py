"""Power is cut, or the process killed, at any call of what writes a store's file anew."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import apsw
import pytest

from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.sqlite.rewriting import rewrite
from tests.sim.disk import NEVER, VFS_NAME, Disk
from tests.sim.test_copies import STORE, _never_fold, drains, remains, rows, survives, used


@pytest.fixture(autouse=True)
def _readers_only_read() -> Iterator[None]:
    apsw.connection_hooks.append(_never_fold)
    yield
    apsw.connection_hooks.remove(_never_fold)


def do_rewrite(disk: Disk) -> None:
    connection = open_writer(Path(disk.path(STORE)), vfs=VFS_NAME)
    with contextlib.closing(connection):
        rewrite(connection)


@pytest.mark.parametrize("number", [1, 2])
def test_a_store_survives_a_cut_at_any_call_of_its_rewriting(number: int) -> None:
    """Whatever is found holds all it held, serves, and can be written anew again."""
    before = used(number)
    expected = rows(before.disk, STORE)
    durable = before.disk.crash(Random(0)) if number % 2 else before.disk.copy()
    for left in range(NEVER):
        disk = durable.copy()
        disk.left = left
        done = survives(disk, lambda disk=disk: do_rewrite(disk))  # type: ignore[misc]
        for place, found in enumerate(remains(disk, left)):
            assert rows(found, STORE) == expected
            if place == left % 4:
                drains(found, STORE, before)
                do_rewrite(found)
                assert rows(found, STORE) == expected
            found.abandoned = True
        if done:
            break
    assert left > 15
