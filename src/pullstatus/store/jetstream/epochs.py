"""Beginning a new epoch: streams were restored from a copy, and an operator has seen to it.

What waits may have been handed out before, so it is marked; pulls get other names. The act is on
record first, and the epoch is counted last: one that was cut off is begun anew, and marks twice
what it had marked.
"""

from __future__ import annotations

import os

import msgspec

from pullstatus.errors import StoreUnavailable
from pullstatus.store.gate import check_open
from pullstatus.store.jetstream import commits, meta
from pullstatus.store.jetstream.commits import NewOp, Written
from pullstatus.store.jetstream.common import CommonTables
from pullstatus.store.jetstream.gate import LaneGate
from pullstatus.store.jetstream.lists import Lists
from pullstatus.store.jetstream.messages import AgainMessage, Commit
from pullstatus.store.jetstream.subjects import Layout, Place
from pullstatus.store.jetstream.wire import Bus, Stale
from pullstatus.store.tickets import Tickets
from pullstatus.store.values import Act
from pullstatus.store.verbs.acts import record


def begin_epoch(bus: Bus, layout: Layout, act: Act) -> int:
    """Begin a new epoch; returns its number. For when no server works on the store.

    Raises:
        StoreRefused: the store is not to be used.
        StoreUnavailable, OutcomeUnknown: the cluster failed; do it again.
    """
    told, _ = meta.read(bus, layout)
    detail = f'{{"epoch":{told.epoch + 1}}}'
    mark_waiting(bus, layout, msgspec.structs.replace(act, detail=detail))
    try:
        return meta.begin_epoch(bus, layout, act.at_ms, Tickets(os.urandom))
    except Stale:
        raise StoreUnavailable("somebody else has just begun an epoch; look first") from None


def mark_waiting(bus: Bus, layout: Layout, act: Act) -> None:
    """Put an act on record, and mark what waits as handed out before, perhaps, by that act.

    Raises:
        StoreRefused: the store is not to be used.
        StoreUnavailable: somebody has begun to move it.
    """
    new_op = Tickets(os.urandom)
    check_open(LaneGate(bus, layout, new_op).found, server=True)
    _pass_numbers(bus, layout, new_op)
    gate = LaneGate(bus, layout, new_op)
    gate.admit(gate.number)
    act_id = _recorded(bus, layout, act, new_op)
    for sdkappid in Lists(bus, layout).applications():
        place = layout.application(sdkappid)

        def marked(told: Commit, place: Place = place) -> tuple[list[Written], Commit] | None:
            due: list[Written] = []
            for box in told.boxes:
                if box.cursor < box.tail:
                    first_seq, subject = box.cursor + 1, place.again(box.kind)
                    due.append(
                        (
                            subject,
                            AgainMessage(first_seq, box.tail - box.cursor, first_seq, act_id),
                        )
                    )
            return (due, told) if due else None

        try:
            commits.commit(bus, layout, sdkappid, new_op, gate.number, marked)
        except Stale:
            raise StoreUnavailable(
                "somebody has just begun to move the store; look first"
            ) from None


def _pass_numbers(bus: Bus, layout: Layout, new_op: NewOp) -> None:
    """Have the gate's number behind all that commits know of: it may lie in the older stream."""
    numbers = [standing.gate for standing in Lists(bus, layout).standings()]
    numbers += [commits.guard(bus, layout, each)[1] for each in range(layout.partitions)]
    while True:
        common = CommonTables(bus, layout.common, new_op)
        told = common.gate()
        if told.number >= max(numbers):
            return
        common.put_gate(msgspec.structs.replace(told, number=max(numbers) + 1))
        try:
            common.write()
        except Stale:
            continue
        return


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
