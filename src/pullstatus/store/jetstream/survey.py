"""How all applications stand, kept and brought up to date by what was committed since.

A commit is the whole state of its application. So whoever looks again reads the commits behind the
newest message that it knows of each partition, or, where those are more than all applications would
be, the newest of each; where nothing was written, nothing. What is kept of each application is what
it adds to the sums, and what may be purged of it: some 500 bytes a mailbox.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Final

from pullstatus.errors import StoreDamaged
from pullstatus.store.jetstream import snapshots
from pullstatus.store.jetstream.lists import ApplicationStanding, Lists, number_of, standing_of
from pullstatus.store.jetstream.messages import Box, is_whole
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus, Message
from pullstatus.store.values import Aside, Backlog, InHand, Mailbox, Totals
from pullstatus.store.verbs.sums import BlockSums, worst_of

FOLLOWED_MAX: Final = 2_000  # messages behind the newest one that is known
TOGETHER_MAX: Final = (
    1_000  # applications that are summed up at once: all that is read of them is held
)
ON_ITS_WAY_MS: Final = -1  # before any time


class Survey:
    """As of the newest look; may be asked by several threads."""

    def __init__(self, bus: Bus, layout: Layout, lists: Lists) -> None:
        """Nothing is known yet: the first look reads how each application stands."""
        self._bus = bus
        self._layout = layout
        self._lists = lists
        self._lock = threading.Lock()
        self._reached: dict[str, int] = {}  # the newest message of a stream
        self._newest: dict[int, int] = {}  # the commit by which an application was summed up
        self._left_ms: dict[Mailbox, int] = {}  # when the oldest row came of what may be purged
        self._sums = BlockSums()
        self._taken_ms: dict[int, list[int]] = {}  # of pages that are in a hand

    def totals(self, worst: int = 0) -> Totals:
        """See `Store.totals`."""
        with self._lock:
            self._look()
            pages = sum(map(len, self._taken_ms.values()))
            oldest_ms = min(map(min, self._taken_ms.values()), default=None)
            in_hand = InHand(pages, oldest_ms)
            rows = chain.from_iterable(map(self._backlog_of, self._sums.worst(worst)))
            found = worst_of([row for row in rows if not row.mailbox.aside], worst)
            return Totals(self._sums.totals(), in_hand, found)

    def due_for_purge(self, left_before_ms: int) -> list[Mailbox]:
        """The mailboxes whose oldest journal row is from before.

        And those that items are on their way out of, which any operation there goes on with.
        """
        with self._lock:
            self._look()
            due = (mailbox for mailbox, at_ms in self._left_ms.items() if at_ms < left_before_ms)
            return sorted(due)

    def behind(self, count_max: int) -> list[Backlog]:
        """See `Store.behind`."""
        return self._some(
            count_max,
            BlockSums.behind,
            lambda row: not row.mailbox.aside and row.followed.through < row.accepted,
        )

    def pending(self, count_max: int) -> list[Backlog]:
        """See `Store.pending`."""
        return self._some(
            count_max,
            BlockSums.pending,
            lambda row: row.mailbox.kind is Aside.PENDING and row.waiting > 0,
        )

    def _some(
        self,
        count_max: int,
        of: Callable[[BlockSums], set[int]],
        is_meant: Callable[[Backlog], bool],
    ) -> list[Backlog]:
        found: list[Backlog] = []
        with self._lock:
            self._look()
            for sdkappid in sorted(of(self._sums)):
                found += filter(is_meant, self._backlog_of(sdkappid))
                if len(found) >= count_max:
                    break
        return found[:count_max]

    def _backlog_of(self, sdkappid: int) -> list[Backlog]:
        """How its mailboxes stand; nothing of one that is damaged."""
        with contextlib.suppress(StoreDamaged):  # its own operations are told
            standing = self._lists.standing(sdkappid)
            if standing is not None:
                return [self._lists.backlog_of(standing, box) for box in standing.boxes]
        return []

    def _look(self) -> None:
        """Learn what was committed since; one that is damaged stays as it was known."""
        for partition in range(self._layout.partitions):
            stream = self._layout.stream(partition)
            newest = self._bus.newest(stream)
            changed: dict[int, ApplicationStanding] = {}
            for message in self._news(stream, f"{self._layout.name}.{partition}.*.c", newest):
                if not is_whole(message):
                    continue
                sdkappid = number_of(message.subject)
                if self._newest.get(sdkappid, 0) < message.sequence:
                    place = self._layout.application(sdkappid)
                    changed[sdkappid] = standing_of(place, sdkappid, message)
                if len(changed) == TOGETHER_MAX:
                    self._sum_up(changed)
                    changed = {}
            self._sum_up(changed)
            self._reached[stream] = newest

    def _news(self, stream: str, commits: str, newest: int) -> Iterator[Message]:
        reached = self._reached.get(stream, 0)
        if newest == reached:
            return iter(())
        if 0 < newest - reached <= FOLLOWED_MAX and reached:
            return snapshots.all_of(self._bus, stream, commits, newest, reached)
        return snapshots.latest(self._bus, stream, self._bus.subjects(stream, commits))

    def _sum_up(self, changed: Mapping[int, ApplicationStanding]) -> None:
        """Sum up what has changed."""
        found = list(self._lists.readers_of(changed, damaged=False))  # its own pulls are told
        for sdkappid in changed:
            self._taken_ms.pop(sdkappid, None)
        for reader in found:
            if reader.first_seq:
                self._taken_ms.setdefault(reader.mailbox.sdkappid, []).append(reader.taken_ms)
        for sdkappid, standing in sorted(changed.items()):
            for box in standing.boxes:
                self._see(Mailbox(sdkappid, box.kind), box)
            with contextlib.suppress(StoreDamaged):  # it stays as it was known
                for box in standing.boxes:
                    if box.tail:
                        self._put(sdkappid, self._lists.backlog_of(standing, box))
            self._newest[sdkappid] = standing.newest

    def _see(self, mailbox: Mailbox, box: Box) -> None:
        """Keep whether something of a mailbox may be purged."""
        self._left_ms.pop(mailbox, None)
        if box.routing:
            self._left_ms[mailbox] = ON_ITS_WAY_MS
        elif box.purged < box.cursor:
            self._left_ms[mailbox] = box.left_ms

    def _put(self, sdkappid: int, row: Backlog) -> None:
        counts = (row.accepted, row.handed_out, row.waiting, row.expired, row.erased)
        more = (row.quarantined, row.put_back, row.routed, row.followed.through)
        self._sums.put(sdkappid, row.mailbox.kind, row.oldest_ms, row.waiting, (1, *counts, *more))
