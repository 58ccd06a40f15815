"""What is remembered to know repeats by goes when it is too old, in steps, of a whole partition.

It lies in order of acceptance, but for clocks that differ, so a step reads what it drops and a
slice more, however much stays. No commit tells of it: nothing that is young enough to matter goes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from pullstatus.store.fingerprints import KEY
from pullstatus.store.gathering.operations import Forget, Removed
from pullstatus.store.jetstream.messages import (
    MarkMessage,
    OnceMessage,
    PrintsMessage,
    RepeatMessage,
    is_whole,
    opened,
)
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus

_SLICE: Final = 32  # messages between two looks at the clock


class _Kind(NamedTuple):
    """Of what is remembered: its subjects, its messages, from when on they stay."""

    subjects: str
    held: type[PrintsMessage | RepeatMessage | OnceMessage | MarkMessage]
    young_ms: int


def forget(
    bus: Bus, layout: Layout, partition: int, operation: Forget, clock: Callable[[], float]
) -> Removed:
    """Drop a step of what is too old to matter."""
    begin, stream = f"{layout.name}.{partition}.*", layout.stream(partition)
    accepted_ms = operation.accepted_before_ms
    kinds = [
        (stream, _Kind(f"{begin}.print.*", PrintsMessage, accepted_ms)),
        (stream, _Kind(f"{begin}.repeat.*", RepeatMessage, accepted_ms)),
        (stream, _Kind(f"{begin}.once.*", OnceMessage, operation.now_ms)),
    ]
    if partition == 0:  # what a migration has brought is of none
        common = layout.common
        kinds += [
            (common.stream, _Kind(common.moved_rows, PrintsMessage, accepted_ms)),
            (common.stream, _Kind(common.moved_hour("*"), PrintsMessage, accepted_ms)),
            (common.stream, _Kind(common.moved_batches, RepeatMessage, accepted_ms)),
            (common.stream, _Kind(common.moved, MarkMessage, accepted_ms)),
        ]
    turns = deque(_dropped(bus, stream, kind) for stream, kind in kinds)
    until_s = clock() + operation.work_s
    count = 0
    while turns:
        dropped = next(turns[0], None)
        if dropped is None:
            turns.popleft()
            continue
        count += dropped
        turns.rotate(-1)
        if count >= operation.count_max or clock() >= until_s:
            break
    return Removed(count, bool(turns))


def _dropped(bus: Bus, stream: str, kind: _Kind) -> Iterator[int]:
    """Drops some each time, and tells how many."""
    at = 1
    while messages := bus.following(stream, kind.subjects, at, count=_SLICE, leader=True):
        count = 0
        at_ms = kind.young_ms
        for message in reversed(messages):  # one that is damaged is as old as the one behind it
            prints = 1
            if is_whole(message):
                told = opened(message, kind.held)
                at_ms = told.at_ms
                prints = len(told.keys) // KEY.size if isinstance(told, PrintsMessage) else 1
            if at_ms < kind.young_ms:
                # Not what was written to the same subject since.
                bus.purge(stream, message.subject, below=message.sequence + 1)
                count += prints
        if not count:
            return
        yield count
        at = messages[-1].sequence + 1
