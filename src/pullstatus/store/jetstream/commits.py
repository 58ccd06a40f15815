"""A commit to an application that is no group's: it changes how that stands, or what is beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pullstatus.store.jetstream.messages import Commit, GuardMessage, Value, opened, sealed
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus, Put, Stale

NewOp = Callable[[], bytes]

Written = tuple[str, Value]
"""A subject, and what is put there."""

Change = Callable[[Commit], tuple[Sequence[Written], Commit] | None]
"""Given how an application stands, with `previous` of the commit that is next: what is written, by
subject, and that commit; None: nothing is to be done."""


class Newer(Stale):
    """The store has said something else of a migration since.

    Attributes:
        number: of the gate, which a commit knows of.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def guard(bus: Bus, layout: Layout, partition: int) -> tuple[int, int]:
    """What first commits of a partition rest on: its sequence, and number of the gate."""
    found = bus.last(layout.stream(partition), layout.guard(partition), leader=True)
    return (0, 0) if found is None else (found.sequence, opened(found, GuardMessage).gate)


def commit(
    bus: Bus, layout: Layout, sdkappid: int, new_op: NewOp, gate: int, change: Change
) -> int:
    """Commit a change, whoever else commits meanwhile.

    Returns the sequence of the first message that was written; 0: none was.

    Args:
        gate: number up to which the caller knows what the store says of a migration.

    Raises:
        Newer: the store has said something else since; nothing was written.
    """
    place = layout.application(sdkappid)
    partition = layout.partition(sdkappid)
    while True:
        found = bus.last(place.stream, place.commits, leader=True)
        told = Commit(0, 0, []) if found is None else opened(found, Commit)
        sequence = 0 if found is None else found.sequence
        if told.gate > gate:
            raise Newer(told.gate)
        due = change(Commit(sequence, told.fence, told.boxes, gate=told.gate))
        if due is None:
            return 0
        values, following = due
        op = new_op()
        puts = []
        if not sequence:
            last, number = guard(bus, layout, partition)
            if number > gate:
                raise Newer(number)
            subject = layout.guard(partition)
            puts.append(Put(subject, sealed(op, subject, GuardMessage(number)), last))
        puts += [Put(subject, sealed(op, subject, value)) for subject, value in values]
        puts.append(Put(place.commits, sealed(op, place.commits, following), sequence))
        try:
            return bus.write(place.stream, puts, op) - len(puts) + 1
        except Stale:
            continue
