"""Removal of what is too old, in steps: what left, and what is remembered to know repeats by.

Everybody waits for a step. So it ends with its time, whatever it has done by then, and goes round:
a little of each mailbox, or of each kind, so that none waits for the end of another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from pullstatus.store import chunk
from pullstatus.store.gathering.operations import Forget, Purge, Removed
from pullstatus.store.values import Mailbox
from pullstatus.store.verbs import readers
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import Tables

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


def forget(tables: Tables, operation: Forget, clock: Clock) -> Removed:
    """Drop a step of what is too old to matter, oldest first.

    Reads no more than it drops: each kind has an order that begins with the oldest.
    """
    turns = deque(tables.forgetters(operation))
    step = _Step(operation, clock)
    while turns and (due := step.due):
        dropped = turns[0](due)
        if dropped is None:
            turns.popleft()
        else:
            step.count += dropped
            turns.rotate(-1)
    return step.removed(more=bool(turns))


def purge(tables: Tables, operation: Purge, clock: Clock) -> Removed:
    """Remove a step of what left long ago, of one mailbox after the other."""
    step = _Step(operation, clock)
    turns = deque(operation.mailboxes)
    while turns and step.due:
        mailbox = turns.popleft()
        removed, more = _purge_some(tables, mailbox, operation, step.room)
        step.count += removed
        if more:
            turns.append(mailbox)
    return step.removed(more=bool(turns), mailboxes=turns)


def _purge_some(tables: Tables, mailbox: Mailbox, operation: Purge, room: int) -> tuple[int, bool]:
    """How many entries were removed of a mailbox, and whether there may be more.

    Args:
        room: how many may be; a page that is larger goes as a whole.
    """
    state = tables.draft(mailbox)
    if state is None:
        return 0, False
    # What nobody has followed yet would be missing in the tallies for ever.
    last = state.tail if mailbox.aside else tables.followed(state).through
    through, more = _due(tables, state, operation, room, last)
    if through > state.purged:
        readers.keep(tables, state, through)
    # What was set aside of items lies in whole chunks, with the numbers of others: an erasing by
    # number finds those by what is not removed.
    if operation.through is not None or (mailbox.aside and through > state.purged):
        tables.remove_aside(state, through)  # what was just set aside of damaged pages, too
    if through == state.purged:
        return 0, more
    tables.remove(state, through)
    tables.drop_segments(state, through)
    removed = through - state.purged
    state.purged = through
    return removed, more


def _due(tables: Tables, state: State, operation: Purge, room: int, last: int) -> tuple[int, bool]:
    """Up to which number a mailbox is to be removed now, and whether there may be more.

    A row that tells of more than a page is of what left without a pull, or of a page around what
    was erased, in any number: of such a one what fits is cut off.

    Args:
        last: nothing behind it goes.
    """
    rows = tables.oldest_rows(state, SLICE)
    through = state.purged
    for first_seq, count, at_ms in rows:
        if not operation.is_due(first_seq, at_ms) or first_seq + count - 1 > last:
            return through, False
        left = room - (through - state.purged)
        if count <= left or (through == state.purged and count <= chunk.COUNT_MAX):
            through += count
            continue
        if count > chunk.COUNT_MAX and left > 0:
            through += left
            # If it is a page in a reader's hand, that is kept while it still proves itself.
            readers.keep(tables, state, through)
            tables.cut_row(state, first_seq, left)
        return through, True
    return through, len(rows) == SLICE
