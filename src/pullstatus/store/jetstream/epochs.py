"""Beginning a new epoch: streams were restored from a copy, and an operator has seen to it.

What waits may have been handed out before, so it is marked; pulls get other names. The act is on
record first, and the epoch is counted last: one that was cut off is begun anew, and marks twice
what it had marked.
"""

from __future__ import annotations

import os

import msgspec

from pullstatus.store.jetstream.common import CommonTables
from pullstatus.store.jetstream.lists import Lists
from pullstatus.store.jetstream.log import NewOp
from pullstatus.store.jetstream.messages import AgainMessage, Commit, opened, sealed
from pullstatus.store.jetstream.opening import Opened
from pullstatus.store.jetstream.subjects import Layout, Place
from pullstatus.store.jetstream.wire import Bus, Put, Stale
from pullstatus.store.tickets import Tickets
from pullstatus.store.values import Act
from pullstatus.store.verbs.acts import record


def begin_epoch(found: Opened, act: Act) -> int:
    """Begin a new epoch; returns its number. For when no server works on the store.

    Raises:
        StoreUnavailable, OutcomeUnknown: the cluster failed; do it again.
    """
    detail = f'{{"epoch":{found.meta.epoch + 1}}}'
    mark_waiting(found.bus, found.layout, msgspec.structs.replace(act, detail=detail))
    return found.bus.begin_epoch()


def mark_waiting(bus: Bus, layout: Layout, act: Act) -> None:
    """Put an act on record, and mark what waits as handed out before, perhaps, by that act."""
    new_op = Tickets(os.urandom)
    act_id = _recorded(bus, layout, act, new_op)
    for sdkappid in Lists(bus, layout).applications():
        while not _marked(bus, layout.application(sdkappid), act_id, new_op):
            pass


def _recorded(bus: Bus, layout: Layout, act: Act, new_op: NewOp) -> int:
    while True:
        common = CommonTables(bus, layout.common, new_op)
        act_id = record(common, act)
        try:
            if common.writes:
                common.write()
        except Stale:
            continue
        return act_id


def _marked(bus: Bus, place: Place, act_id: int, new_op: NewOp) -> bool:
    """Mark what waits of an application; whether nobody else has committed to it meanwhile."""
    found = bus.last(place.stream, place.commits, leader=True)
    told = Commit(0, 0, []) if found is None else opened(found, Commit)
    sequence = 0 if found is None else found.sequence
    op = new_op()
    puts = []
    for box in told.boxes:
        if box.cursor < box.tail:
            first_seq, subject = box.cursor + 1, place.again(box.kind)
            row = AgainMessage(first_seq, box.tail - box.cursor, first_seq, act_id)
            puts.append(Put(subject, sealed(op, subject, row)))
    if not puts:
        return True
    commit = sealed(op, place.commits, Commit(sequence, told.fence, told.boxes))
    try:
        bus.write(place.stream, [*puts, Put(place.commits, commit, sequence)], op)
    except Stale:
        return False
    return True
