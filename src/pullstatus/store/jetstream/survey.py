"""How all applications stand, kept and brought up to date by what was committed since.

A commit is the whole state of its application. So whoever looks again reads the commits behind the
newest message that it knows of each partition, or, where those are more than all applications would
be, the newest of each; where nothing was written, nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

from pullstatus.errors import StoreDamaged
from pullstatus.store.jetstream import snapshots
from pullstatus.store.jetstream.lists import Lists, Standing, number_of, standing_of
from pullstatus.store.jetstream.messages import is_whole
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus, Message
from pullstatus.store.values import Backlog, InHand, Mailbox, Totals
from pullstatus.store.verbs.sums import BlockSums

FOLLOWED_MAX: Final = 2_000  # messages behind the newest one that is known


class Survey:
    """As of the newest look; may be asked by several threads."""

    def __init__(self, bus: Bus, layout: Layout, lists: Lists) -> None:
        """Nothing is known yet: the first look reads how each application stands."""
        self._bus = bus
        self._layout = layout
        self._lists = lists
        self._lock = threading.Lock()
        self._reached: dict[str, int] = {}  # the newest message of a stream
        self._changed: set[int] = set()  # since they were summed up
        self._standings: dict[int, Standing] = {}
        self._sums = BlockSums()
        self._taken_ms: dict[int, list[int]] = {}  # of pages that are in a hand

    def totals(self) -> Totals:
        """See `Store.totals`."""
        with self._lock:
            self._look()
            self._sum_up()
            pages = sum(map(len, self._taken_ms.values()))
            oldest_ms = min(map(min, self._taken_ms.values()), default=None)
            return Totals(self._sums.totals(), InHand(pages, oldest_ms))

    def due_for_purge(self, left_before_ms: int) -> list[Mailbox]:
        """The mailboxes whose oldest journal row is from before.

        And those that items are on their way out of, which any operation there goes on with.
        """
        with self._lock:
            self._look()
            return [
                Mailbox(sdkappid, box.kind)
                for sdkappid, standing in sorted(self._standings.items())
                for box in standing.boxes
                if box.routing or (box.purged < box.cursor and box.left_ms < left_before_ms)
            ]

    def _look(self) -> None:
        """Learn what was committed since; one that is damaged stays as it was known."""
        for partition in range(self._layout.partitions):
            stream = self._layout.stream(partition)
            newest = self._bus.newest(stream)
            for message in self._news(stream, f"{self._layout.name}.{partition}.*.c", newest):
                if not is_whole(message):
                    continue
                sdkappid = number_of(message.subject)
                known = self._standings.get(sdkappid)
                if known is None or known.newest < message.sequence:
                    place = self._layout.application(sdkappid)
                    self._standings[sdkappid] = standing_of(place, sdkappid, message)
                    self._changed.add(sdkappid)
            self._reached[stream] = newest

    def _news(self, stream: str, commits: str, newest: int) -> Iterator[Message]:
        reached = self._reached.get(stream, 0)
        if newest == reached:
            return iter(())
        if 0 < newest - reached <= FOLLOWED_MAX and reached:
            return snapshots.all_of(self._bus, stream, commits, newest, reached)
        return snapshots.latest(self._bus, stream, self._bus.subjects(stream, commits))

    def _sum_up(self) -> None:
        """Sum up what has changed."""
        found = list(self._lists.readers_of(self._changed))
        for sdkappid in self._changed:
            self._taken_ms.pop(sdkappid, None)
        for reader in found:
            if reader.first_seq:
                self._taken_ms.setdefault(reader.mailbox.sdkappid, []).append(reader.taken_ms)
        for sdkappid in sorted(self._changed):
            standing = self._standings[sdkappid]
            with contextlib.suppress(StoreDamaged):  # it stays as it was known
                for box in standing.boxes:
                    if box.tail:
                        self._put(sdkappid, self._lists.backlog_of(standing, box))
            self._changed.remove(sdkappid)

    def _put(self, sdkappid: int, row: Backlog) -> None:
        counts = (row.accepted, row.handed_out, row.waiting, row.expired, row.erased)
        more = (row.quarantined, row.put_back, row.routed)
        self._sums.put(sdkappid, row.mailbox.kind, row.oldest_ms, (1, *counts, *more))
