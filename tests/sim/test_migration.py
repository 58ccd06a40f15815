"""Power is cut, or the process killed, at any call of a migration, of both of its ends.

Source and target share one disk. Whatever is found, at most one of them can be used; gone on with,
both hold the same in the end, and abandoned, the source holds what it held.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import apsw
import pytest

from pullstatus.errors import PullstatusError, StoreRefused
from pullstatus.store.gate import check_open
from pullstatus.store.gathering.operations import Answer, Enter, Operation, Replace
from pullstatus.store.migration import Ends, move
from pullstatus.store.sqlite import gate, transfer
from pullstatus.store.sqlite.audit import audit
from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.sqlite.log import Log
from pullstatus.store.transfer import Key, Migration, Part, Row, Stage
from pullstatus.store.values import Act, AuditReport, Mailbox, Progress, accept_any
from tests.sim.disk import NEVER, VFS_NAME, Disk
from tests.sim.test_copies import (
    NEW,
    STORE,
    _never_fold,
    drains,
    no_progress,
    remains,
    rows,
    survives,
    used,
)


@pytest.fixture(autouse=True)
def _readers_only_read() -> Iterator[None]:
    apsw.connection_hooks.append(_never_fold)
    yield
    apsw.connection_hooks.remove(_never_fold)


class End:
    """A file of a disk as one end of a migration; commits as the product does.

    Attributes:
        entering: the calls of the disk, counted from 0, in which it said how it takes part.
    """

    def __init__(self, disk: Disk, name: str) -> None:
        self.name = name
        self.entering: list[int] = []
        self._disk = disk
        self.connection = open_writer(Path(disk.path(name)), vfs=VFS_NAME)
        self._log = Log(self.connection)

    async def migration(self) -> Migration | None:
        return gate.read(self.connection)

    async def enter(
        self, migration: Migration | None, *, expected: Migration | None, act: Act | None = None
    ) -> bool:
        began = self._disk.left
        entered = bool(self._commit(Enter(migration, expected, act)))
        self.entering += range(NEVER - began, NEVER - self._disk.left + 1)
        return entered

    async def rows(
        self, part: Part, after: Key | None = None, mailboxes: Sequence[Mailbox] = ()
    ) -> Sequence[Row]:
        return transfer.rows(self.connection, part, after, mailboxes)

    async def replace(self, part: Part, drop: Sequence[Row], put: Sequence[Row]) -> None:
        self._commit(Replace(part, drop, put))

    async def audit(self, progress: Progress) -> AuditReport:
        return audit(self.connection, progress)

    def _commit(self, operation: Operation) -> Answer:
        [answer] = self._log.commit([operation])
        self._log.checkpoint()
        if isinstance(answer, PullstatusError):
            raise answer
        return answer


OTHERS = 12  # calls that power is cut in, of those that copy
ACT = Act("me", "migrate", "", "", 1, b"ticket of migrate"[:16])


def do_move(disk: Disk) -> list[int]:
    """Move the one store to the other; returns the calls in which either said how it stands."""
    with contextlib.ExitStack() as stack:
        source, target = (End(disk, name) for name in (STORE, NEW))
        for end in (source, target):
            stack.enter_context(contextlib.closing(end.connection))
        asyncio.run(
            move(
                Ends(source, target, source.audit, target.audit),
                act=ACT,
                phase=lambda _what: contextlib.nullcontext(no_progress),
                accept=accept_any,
            )
        )
        return source.entering + target.entering


def usable(disk: Disk, name: str) -> bool:
    """Whether a server would take it, and finds what the source held."""
    copy = disk.copy()
    if name not in copy.names or not copy.names[name].content:
        return False
    connection = open_writer(Path(copy.path(name)), vfs=VFS_NAME)
    with contextlib.closing(connection):
        try:
            check_open(gate.read(connection), server=True)
        except StoreRefused:
            return False
        return name == STORE or gate.read(connection) is not None  # else it is new, and empty


def told(disk: Disk, name: str) -> dict[str, list[tuple[object, ...]]]:
    """All that a file holds, but for what the two ends have of their own."""
    found = rows(disk, name)
    del found["transfer"]
    return found


def abandon(disk: Disk) -> None:
    """As the command does, for a target that nobody used."""

    async def work(source: End, target: End) -> None:
        theirs = await target.migration()
        if theirs is not None:
            left = Migration(theirs.ticket, theirs.role, Stage.ABANDONED, theirs.peer)
            assert await target.enter(left, expected=theirs)
        assert await source.enter(None, expected=await source.migration())

    with contextlib.ExitStack() as stack:
        ends = [End(disk, name) for name in (STORE, NEW)]
        for end in ends:
            stack.enter_context(contextlib.closing(end.connection))
        asyncio.run(work(*ends))


@pytest.mark.parametrize("number", [1, 2])
def test_a_migration_survives_a_cut_at_any_call(number: int) -> None:
    before = used(number)
    durable = before.disk.crash(Random(0)) if number % 2 else before.disk.copy()
    fresh = durable.copy()
    telling = do_move(fresh)
    count = NEVER - fresh.left
    expected = told(fresh.copy(), STORE)
    seen: Counter[tuple[bool, bool]] = Counter()
    # The others, which copy, are many and alike.
    cuts = {*telling, *Random(number).sample(range(count), OTHERS), count}
    done = False
    for left in sorted(cuts):
        disk = durable.copy()
        disk.left = left
        done = survives(disk, lambda disk=disk: do_move(disk))  # type: ignore[misc]
        for place, found in enumerate(remains(disk, left)):
            use = usable(found, STORE), usable(found, NEW)
            seen[use] += 1
            assert use != (True, True)
            assert not done or use == (False, True)
            if place == left % 4:
                if left % 3 == 0 and not use[1]:
                    abandon(found)
                    assert usable(found, STORE)
                    drains(found, STORE, before)
                else:
                    do_move(found)
                    assert (usable(found, STORE), usable(found, NEW)) == (False, True)
                    assert same(told(found, NEW), expected)
                    drains(found, NEW, before)
            found.abandoned = True
    assert done
    assert len(telling) >= 5 * 4  # a commit is that many calls at least
    assert set(seen) == {(True, False), (False, False), (False, True)}


def same(
    found: dict[str, list[tuple[object, ...]]], expected: dict[str, list[tuple[object, ...]]]
) -> bool:
    """Whether two files hold as many rows everywhere; what they are was compared by the move."""
    counts = {name: len(rows) for name, rows in found.items()}
    return counts == {name: len(rows) for name, rows in expected.items()} | {
        "fingerprint": counts["fingerprint"]  # an index, which lags behind elsewhere
    }
