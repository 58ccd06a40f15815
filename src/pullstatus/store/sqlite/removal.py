"""Removal of what is too old, in steps: what left, and what is remembered to know repeats by.

Everybody waits for a step. So it ends with its time, whatever it has done by then, and goes round:
a little of each mailbox, or of each kind, so that none waits for the end of another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import cast

import apsw

from pullstatus.store import chunk
from pullstatus.store.gathering.operations import Forget, Purge, Removed
from pullstatus.store.sqlite import joining, readers, schema
from pullstatus.store.sqlite.states import State
from pullstatus.store.sqlite.transaction import Transaction
from pullstatus.store.values import Mailbox

SLICE = 32  # journal rows, or remembered things, between two looks at the clock

Clock = Callable[[], float]


class _Step:
    """How much a step has done, and whether it may go on: it may at first."""

    def __init__(self, operation: Forget | Purge, clock: Clock) -> None:
        self.count = 0
        self._begun = False
        self._began_s = clock()
        self._count_max = operation.count_max
        self._work_s = operation.work_s
        self._clock = clock

    @property
    def due(self) -> int:
        """How many things may be looked at before this is asked again; 0: the step is over."""
        if self._begun and self._clock() - self._began_s >= self._work_s:
            return 0
        self._begun = True
        return max(0, min(SLICE, self.room))

    @property
    def room(self) -> int:
        """How many more may be removed."""
        return self._count_max - self.count

    def removed(self, *, more: bool, mailboxes: Iterable[Mailbox] = ()) -> Removed:
        """The answer."""
        return Removed(self.count, more, tuple(mailboxes))


def forget(transaction: Transaction, operation: Forget, clock: Clock) -> Removed:
    """Drop a step of what is too old to matter, oldest first.

    Reads no more than it drops: each kind has an order that begins with the oldest.
    """
    connection = transaction.connection
    before_ms, now_ms = operation.accepted_before_ms, operation.now_ms
    turns = deque[Callable[[int], int | None]](
        (
            lambda _count: transaction.remembered.forget(before_ms),
            lambda count: _forget_of(connection, _FORGET_BATCHES, before_ms, count),
            lambda count: _forget_of(connection, _FORGET_ONCE, now_ms, count),
        )
    )
    step = _Step(operation, clock)
    while turns and (due := step.due):
        dropped = turns[0](due)
        if dropped is None:
            turns.popleft()
        else:
            step.count += dropped
            turns.rotate(-1)
    return step.removed(more=bool(turns))


def _forget_of(
    connection: apsw.Connection, statement: str, before_ms: int, count_max: int
) -> int | None:
    """Drop the oldest that one table remembers; returns how many, None if there are none."""
    connection.execute(statement, (before_ms, count_max))
    return connection.changes() or None


_FORGET_BATCHES = (
    "DELETE FROM repeat_key WHERE id IN (SELECT id"
    " FROM repeat_key WHERE accepted_ms < ? ORDER BY accepted_ms LIMIT ?)"
)
_FORGET_ONCE = (
    "DELETE FROM once WHERE (sdkappid, nonce) IN (SELECT sdkappid, nonce"
    " FROM once WHERE until_ms < ? ORDER BY until_ms LIMIT ?)"
)


def purge(transaction: Transaction, operation: Purge, clock: Clock) -> Removed:
    """Remove a step of what left long ago, of one mailbox after the other."""
    step = _Step(operation, clock)
    turns = deque(operation.mailboxes)
    while turns and step.due:
        mailbox = turns.popleft()
        removed, more = _purge_some(transaction, mailbox, operation, step.room)
        step.count += removed
        if more:
            turns.append(mailbox)
    return step.removed(more=bool(turns), mailboxes=turns)


def _purge_some(
    transaction: Transaction, mailbox: Mailbox, operation: Purge, room: int
) -> tuple[int, bool]:
    """How many entries were removed of a mailbox, and whether there may be more.

    Args:
        room: how many may be; a page that is larger goes as a whole.
    """
    state = transaction.states.draft(mailbox)
    if state is None:
        return 0, False
    connection = transaction.connection
    through, more = _due(connection, state, operation.left_before_ms, room)
    if operation.aside:
        connection.execute(
            "DELETE FROM quarantine WHERE key BETWEEN ? AND ?", (state.key, state.key | through)
        )
    if through == state.purged:
        return 0, more
    readers.keep(transaction, state, through)
    for table in ("journal", "again"):
        connection.execute(
            f"DELETE FROM {table} WHERE key BETWEEN ? AND ?",  # noqa: S608 - ours
            (state.key, state.key | through),
        )
    connection.execute(
        "DELETE FROM chunk WHERE key BETWEEN ?1 AND ?2 AND key + count - 1 <= ?2",
        (state.key, state.key | through),
    )
    joining.cut(connection, state, through)
    removed = through - state.purged
    state.purged = through
    return removed, more


def _due(
    connection: apsw.Connection, state: State, left_before_ms: int, room: int
) -> tuple[int, bool]:
    """Up to which number a mailbox is to be removed now, and whether there may be more.

    A row that tells of more than a page is of what left without a pull, in any number: of such a
    one what fits is cut off.
    """
    rows = cast(
        "list[tuple[int, int, int]]",
        connection.execute(
            "SELECT key, count, at_ms FROM journal WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
            (state.key | state.purged, state.key | schema.SEQ_MASK, SLICE),
        ).fetchall(),
    )
    through = state.purged
    for key, count, at_ms in rows:
        if at_ms >= left_before_ms:
            return through, False
        left = room - (through - state.purged)
        if count <= left or (through == state.purged and count <= chunk.COUNT_MAX):
            through += count
            continue
        if count > chunk.COUNT_MAX and left > 0:
            through += left
            connection.execute(
                "UPDATE journal SET key = key + ?1, count = count - ?1 WHERE key = ?2", (left, key)
            )
        return through, True
    return through, len(rows) == SLICE
