"""A group of operations, carried out in an open transaction.

The appends of a mailbox become chunks together, its pulls share one read. Appends come before
pulls: none of the group has been answered yet, so any order is a true one, and this one lets a pull
see what came with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pullstatus.store.gathering.operations import (
    Answer,
    Changes,
    Erase,
    Forget,
    Mark,
    Moving,
    Operation,
    Purge,
)
from pullstatus.store.values import (
    Append,
    Count,
    Discard,
    Follow,
    Park,
    Pull,
    Release,
    Unfollow,
    Unpark,
)
from pullstatus.store.verbs import following, removal, upkeep
from pullstatus.store.verbs.appends import append
from pullstatus.store.verbs.erasing import erase
from pullstatus.store.verbs.parking import park, unpark
from pullstatus.store.verbs.pulls import pull
from pullstatus.store.verbs.redelivery import redeliver
from pullstatus.store.verbs.state import slot
from pullstatus.store.verbs.tables import Tables


def carry_out(
    tables: Tables,
    group: Sequence[Operation],
    clock: Callable[[], float],
    move: Callable[[Moving], Answer] | None = None,
) -> list[Answer]:
    """Appends, then pulls, a mailbox at a time, then the rest; one answer each, in order.

    Args:
        clock: of seconds, by which steps of upkeep end in time.
        move: does what a migration asks, where the engine can.
    """
    answers: list[Answer] = [0] * len(group)
    appends: dict[int, list[int]] = {}
    pulls: dict[int, list[int]] = {}
    rest: list[int] = []
    for place, operation in enumerate(group):
        if isinstance(operation, Append):
            appends.setdefault(slot(operation.mailbox), []).append(place)
        elif isinstance(operation, Pull):
            pulls.setdefault(slot(operation.mailbox), []).append(place)
        else:
            rest.append(place)
    for places in appends.values():
        found = append(tables, [group[place] for place in places])  # type: ignore[misc]
        for place, answer in zip(places, found, strict=True):
            answers[place] = answer
    for places in pulls.values():
        found = pull(tables, [group[place] for place in places])  # type: ignore[misc]
        for place, answer in zip(places, found, strict=True):
            answers[place] = answer
    for place in rest:
        operation = group[place]
        if isinstance(operation, Moving):
            assert move is not None
            answers[place] = move(operation)
        else:
            answers[place] = _do(tables, operation, clock)
    return answers


def _do(tables: Tables, operation: Operation, clock: Callable[[], float]) -> Answer:
    if isinstance(operation, Park):
        return park(tables, operation)
    if isinstance(operation, Unpark):
        return unpark(tables, operation)
    if isinstance(operation, Changes):
        return upkeep.change(tables, operation)
    if isinstance(operation, Mark):
        return upkeep.mark(tables, operation)
    if isinstance(operation, Forget):
        return removal.forget(tables, operation, clock)
    if isinstance(operation, Discard):
        return upkeep.discard(tables, operation)
    if isinstance(operation, Purge):
        return removal.purge(tables, operation, clock)
    if isinstance(operation, Erase):
        return erase(tables, operation)
    if isinstance(operation, Release):
        return upkeep.release(tables, operation)
    if isinstance(operation, Follow):
        return following.follow(tables, operation)
    if isinstance(operation, Unfollow):
        return following.unfollow(tables, operation)
    if isinstance(operation, Count):
        return following.count(tables, operation)
    assert not isinstance(operation, Append | Pull | Moving)
    return redeliver(tables, operation)
