"""What is remembered to know repeats by goes when it is too old, in steps, of a whole partition.

It lies in order of acceptance, but for clocks that differ, so a step reads what it drops and a
slice more, however much stays. No commit tells of it: nothing that is young enough to matter goes.
Of what is on its way between partitions rows matter however old they are: they are passed over.

As long as nothing is passed over, all that lies before a place goes as one. So does what lies there
and was not read, since the replica that told has lost it: it is as old as what lies around it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from pullstatus.errors import StoreDamaged
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
QUIET_S: Final = 600.0  # repeats are known for far longer, whatever clocks say
YEARS: Final = 2  # before, whose tallies are looked for: whoever tallies forgets, too


class _Kind(NamedTuple):
    """Of what is remembered: its subjects, its messages, from when on they stay.

    Attributes:
        ordered: it lies as it was accepted. Not so what a migration has brought, what was written
            anew since, and what has a time that its sender says.
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
    in_use: InUse,
    clock: Callable[[], float],
) -> Removed:
    """Drop a step of what is too old to matter."""
    begin, stream = f"{layout.name}.{partition}.*", layout.stream(partition)
    accepted_ms = operation.accepted_before_ms
    kinds = [
        (stream, _Kind(f"{begin}.print.*", PrintsMessage, accepted_ms, ordered=True)),
        (stream, _Kind(f"{begin}.repeat.*", RepeatMessage, accepted_ms, ordered=True)),
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
    in_use.begin_step(accepted_ms)
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


class InUse:
    """Which rows what is on its way between partitions rests on; see `routing`."""

    def __init__(self, bus: Bus, layout: Layout, clock: Callable[[], float]) -> None:
        """Nothing is asked before a row is met that may be one, or all are to go as one."""
        self._bus = bus
        self._layout = layout
        self._clock = clock
        self._quiet_until_s = clock()
        self._young_ms = 0
        self._told: list[set[str] | None] = []

    def begin_step(self, young_ms: int) -> None:
        """From now on it is asked anew, once."""
        self._young_ms = young_ms
        self._told.clear()

    def holds(self, message: Message, told: _Held | None) -> bool:
        """Of a message, and what it tells; None: it is damaged."""
        row = told if isinstance(told, RepeatMessage) else None
        if told is not None and (row is None or routing.row_ms(row) is None):
            return False
        found = self._rows()
        if found is not None:
            return routing.last_part(message.subject) in found
        return row is not None and row.at_ms >= self._young_ms

    def may_hold_old(self) -> bool:
        """Whether any may be old, of those that were not met, too.

        What is on its way only by now was begun since: its rows are young for hours.
        """
        return self._clock() >= self._quiet_until_s and self._rows() != set()

    def _rows(self) -> set[str] | None:
        """None: a mailbox that something is on its way out of is damaged."""
        if not self._told:
            try:
                self._told.append(routing.rows_in_use(self._bus, self._layout))
            except StoreDamaged:
                self._told.append(None)
            if self._told == [set()]:
                self._quiet_until_s = self._clock() + QUIET_S
        return self._told[0]


def _dropped(bus: Bus, stream: str, kind: _Kind, in_use: InUse) -> Iterator[int]:
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
        if as_one and not (kind.held is RepeatMessage and in_use.may_hold_old()):
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
