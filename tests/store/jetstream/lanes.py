"""Lanes of several processes over one cluster in memory."""

from __future__ import annotations

import os

from pullstatus.store import Change, Follow, Mailbox, Page, Pull, Tickets
from pullstatus.store.gathering.operations import Changes, Operation, PackedPage, Purge, Removed
from pullstatus.store.jetstream import chunks
from pullstatus.store.jetstream.forgetting import Quiet
from pullstatus.store.jetstream.gate import LaneGate
from pullstatus.store.jetstream.log import Log
from pullstatus.store.jetstream.messages import (
    ActMessage,
    Box,
    Chunk,
    Commit,
    SettingMessage,
    opened,
)
from pullstatus.store.jetstream.moved import Moved
from pullstatus.store.jetstream.proven import ProvenBus
from pullstatus.store.jetstream.settings import SettingLog
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus
from tests.store.build import NOW_MS
from tests.store.jetstream.memory import MemoryBus

LAYOUT = Layout("s", 1)
PARTITION = LAYOUT.stream(0)
COMMON = LAYOUT.common.stream
SECRET = bytes(32)


def cluster() -> MemoryBus:
    return MemoryBus(LAYOUT.streams)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Process:
    """What one process has: a lane for all applications, and one for what is of none."""

    def __init__(self, bus: Bus, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        new_op = Tickets(os.urandom)
        bus = ProvenBus(bus)
        gate = self.gate = LaneGate(bus, LAYOUT, new_op)
        moved = Moved(bus, LAYOUT, self.clock)
        quiet = self.quiet = Quiet(bus, LAYOUT, self.clock)
        self.log = Log(
            *(bus, LAYOUT, 0, SECRET, new_op, self.clock), gate=gate, moved=moved, quiet=quiet
        )
        self.settings = SettingLog(bus, LAYOUT, new_op, self.clock, gate=gate)
        self.bus = bus

    def do(self, operation: Operation) -> object:
        """Have one carried out; what it is answered."""
        [answer] = self.log.commit([operation])
        return answer.opened() if isinstance(answer, PackedPage) else answer

    def pull(self, operation: Pull) -> Page:
        answer = self.do(operation)
        assert isinstance(answer, Page), answer
        return answer

    def change(self, name: str, value: bytes) -> int:
        """Set a setting; its revision then."""
        before = self._setting(name)
        expected = None if before is None else before.value
        assert self.settings.commit([Changes((Change(name, value, expected),))]) == [True]
        return self.revision(name)

    def revision(self, name: str) -> int:
        """Of a setting."""
        found = self._setting(name)
        return 0 if found is None else found.revision

    def _setting(self, name: str) -> SettingMessage | None:
        found = self.bus.last(COMMON, LAYOUT.common.setting(name), leader=True)
        return None if found is None else opened(found, SettingMessage)

    def acts(self) -> list[bytes]:
        """The tickets of all acts on record, in order."""
        found = self.bus.following(COMMON, LAYOUT.common.act("*"), 1, count=100, leader=True)
        return [opened(message, ActMessage).ticket for message in found]

    def purge(self, mailbox: Mailbox) -> Removed:
        """Remove all that has left a mailbox, once its mark is at its tail."""
        box, _ = self._box(mailbox)
        if box.mark.through < box.tail:
            assert self.do(Follow(mailbox, box.mark, box.tail, None, []))
        removed = self.do(Purge((mailbox,), NOW_MS + 1, 1000, 1.0))
        assert isinstance(removed, Removed)
        return removed

    def standing(self, mailbox: Mailbox) -> tuple[int, int]:
        """Tail and cursor."""
        box, _ = self._box(mailbox)
        return box.tail, box.cursor

    def numbers(self, mailbox: Mailbox) -> list[int]:
        """Of all that lies in its log, first to last, as chunks have it."""
        found = self.chunks(mailbox)
        return [seq for each in found for seq in range(each.row.first_seq, each.next_seq)]

    def chunks(self, mailbox: Mailbox) -> list[Chunk]:
        """All that lie in its log."""
        box, newest = self._box(mailbox)
        place = LAYOUT.application(mailbox.sdkappid)
        return list(chunks.chunks_of_box(self.bus, place, box, 1, newest))

    def _box(self, mailbox: Mailbox) -> tuple[Box, int]:
        """How a mailbox stands, and by which commit."""
        place = LAYOUT.application(mailbox.sdkappid)
        found = self.bus.last(place.stream, place.commits, leader=True)
        boxes = [] if found is None else opened(found, Commit).boxes
        box = next((box for box in boxes if box.kind == mailbox.holds), Box(mailbox.holds))
        return box, 0 if found is None else found.sequence
