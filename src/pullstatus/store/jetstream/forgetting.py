"""What is remembered to know repeats by goes when it is too old, in steps, of a whole partition.

It lies in order of acceptance, but for clocks that differ, so a step reads what it drops and a
slice more, however much stays. No commit tells of it: nothing that is young enough to matter goes.
Of what is on its way between partitions rows matter however old they are: they are passed over.

As long as nothing is passed over, all that lies before a place goes as one. So does what lies there
and was not read, since the replica that told has lost it: it is as old as what lies around it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from pullstatus.errors import StoreDamaged, StoreUnavailable
from pullstatus.store.fingerprints import KEY
from pullstatus.store.gathering.operations import Forget, Removed
from pullstatus.store.jetstream import routing
from pullstatus.store.jetstream.messages import (
    MarkMessage,
    NamesMessage,
    OnceMessage,
    PrintsMessage,
    RepeatMessage,
    TallyMessage,
    is_whole,
    opened,
)
from pullstatus.store.jetstream.subjects import Layout, year_of
from pullstatus.store.jetstream.wire import Bus, Message

_Held = PrintsMessage | RepeatMessage | OnceMessage | MarkMessage | TallyMessage

_SLICE: Final = 64  # messages between two looks at the clock: some 10 ms
QUIET_S: Final = 3600.0  # repeats are known for far longer, whatever clocks say
YEARS: Final = 2  # before, whose tallies are looked for: whoever tallies forgets, too


class _Kind(NamedTuple):
    """Of what is remembered: its subjects, its messages, from when on they stay.

    Attributes:
        ordered: it lies as it was accepted, and none of it matters for longer. Not so what a
            migration has brought, what was written anew since, what has a time that its sender
            says, and rows of what is on its way.
    """

    subjects: str
    held: type[_Held]
    young: int
    ordered: bool = False


def forget(
    bus: Bus,
    layout: Layout,
    partition: int,
    operation: Forget,
    quiet: Quiet,
    clock: Callable[[], float],
) -> Removed:
    """Drop a step of what is too old to matter."""
    begin, stream = f"{layout.name}.{partition}.*", layout.stream(partition)
    accepted_ms = operation.accepted_before_ms
    kinds = [
        (stream, _Kind(f"{begin}.print.*", PrintsMessage, accepted_ms, ordered=True)),
        (stream, _Kind(f"{begin}.repeat.*", RepeatMessage, accepted_ms, ordered=quiet.lasts)),
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
    hours = operation.hours_before
    for year in range(year_of(hours) - YEARS, year_of(hours) + 1):
        kinds.append((stream, _Kind(f"{begin}.tally.*.{year}.*", TallyMessage, hours)))
    in_use = _InUse(bus, layout, accepted_ms)
    turns = deque(_dropped(bus, stream, kind, in_use) for stream, kind in kinds)
    turns.append(_dropped_names(bus, stream, layout.names(partition), accepted_ms))
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


class Quiet:
    """Whether nothing old can be on its way between partitions; of all lanes of a process.

    So no row that nobody has met can be in use. Until it was looked at, it is not known.
    """

    def __init__(self, bus: Bus, layout: Layout, clock: Callable[[], float]) -> None:
        self._bus = bus
        self._layout = layout
        self._clock = clock
        self._until_s = clock()

    @property
    def lasts(self) -> bool:
        """Whether it is so: what was not on its way at the last look was begun since."""
        return self._clock() < self._until_s

    def look(self) -> None:
        """Ask all partitions. Not for a lane: one that cannot be reached is waited for."""
        now_s = self._clock()
        with contextlib.suppress(StoreUnavailable, StoreDamaged):
            if not routing.rows_in_use(self._bus, self._layout):
                self._until_s = now_s + QUIET_S


class _InUse:
    """Whether a row is one that what is on its way between partitions rests on; see `routing`."""

    def __init__(self, bus: Bus, layout: Layout, young_ms: int) -> None:
        """Nothing is asked before a row is met that may be one."""
        self._bus = bus
        self._layout = layout
        self._young_ms = young_ms

    def holds(self, message: Message, told: _Held | None) -> bool:
        """Of a message, and what it tells; None: it is damaged."""
        row = told if isinstance(told, RepeatMessage) else None
        if told is not None and (row is None or routing.row_ms(row) is None):
            return False
        if self._found is not None:
            return routing.last_part(message.subject) in self._found
        return row is not None and row.at_ms >= self._young_ms

    @cached_property
    def _found(self) -> set[str] | None:
        """None: a mailbox that something is on its way out of is damaged."""
        try:
            return routing.rows_in_use(self._bus, self._layout)
        except StoreDamaged:
            return None


def _dropped(bus: Bus, stream: str, kind: _Kind, in_use: _InUse) -> Iterator[int]:
    """Drops some each time, and tells how many."""
    at = 1
    as_one = kind.ordered  # nothing of what was read is passed over
    while messages := bus.following(stream, kind.subjects, at, count=_SLICE, leader=True):
        count, any_old = 0, False
        going: list[Message] = []
        age = kind.young
        for message in reversed(messages):  # one that is damaged is as old as the one behind it
            things = 1
            told = opened(message, kind.held) if is_whole(message) else None
            if told is not None:
                age, things = _age_of(told)
            if age >= kind.young:
                continue
            any_old = True
            if not in_use.holds(message, told):
                going.append(message)
                count += things
        if not any_old:
            return
        as_one = as_one and len(going) == len(messages)
        if as_one:
            bus.purge(stream, kind.subjects, below=messages[-1].sequence + 1)
        else:  # not what was written to the same subjects since
            ends = {each.subject: each.sequence + 1 for each in reversed(going)}
            bus.purge_each(stream, list(ends.items()))
        yield count
        at = messages[-1].sequence + 1


def _dropped_names(bus: Bus, stream: str, subject: str, young_ms: int) -> Iterator[int]:
    """The same of names, by how many hashes lead to them; all lie on one subject.

    Clocks differ, so what is old may lie behind what is young: it goes by itself.
    """
    at = 1
    ahead = True  # nothing young was met yet
    while messages := bus.following(stream, subject, at, count=_SLICE, leader=True):
        count = below = 0
        for message, (age_ms, things) in zip(messages, _told_ages(messages, young_ms), strict=True):
            if age_ms >= young_ms:
                ahead = False
                continue
            count += things
            if ahead:
                below = message.sequence + 1
            else:
                bus.delete(stream, message.sequence)
        if below:
            bus.purge(stream, subject, below=below)
        if not count:
            return
        yield count
        at = messages[-1].sequence + 1


def _told_ages(messages: Sequence[Message], young_ms: int) -> list[tuple[int, int]]:
    """When each was registered, and its hashes; one that is damaged is as old as what is behind."""
    found: list[tuple[int, int]] = []
    age_ms = young_ms
    for message in reversed(messages):
        things = 1
        if is_whole(message):
            told = opened(message, NamesMessage)
            age_ms, things = told.at_ms, sum(len(slots) for slots, _ in told.named())
        found.append((age_ms, things))
    return found[::-1]


def _age_of(told: _Held) -> tuple[int, int]:
    """When what a message tells was, and how many things it tells."""
    if isinstance(told, TallyMessage):  # hours of a day go with the last of them
        return max(told.hours, default=0), len(told.hours)
    if isinstance(told, PrintsMessage):
        return told.at_ms, len(told.keys) // KEY.size
    if isinstance(told, RepeatMessage) and (begun_ms := routing.row_ms(told)) is not None:
        return begun_ms, 1
    return told.at_ms, 1
