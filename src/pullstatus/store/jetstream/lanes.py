"""Several writers that look like one: each operation goes to that of its partition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import msgspec

from pullstatus.durations import Durations
from pullstatus.errors import StoreDamaged, StoreFull
from pullstatus.store.gathering.committer import Report
from pullstatus.store.gathering.log import Figures
from pullstatus.store.gathering.operations import (
    Changes,
    Counted,
    Derived,
    Enter,
    Erase,
    ErasedStep,
    Forget,
    Mark,
    Operation,
    Purge,
    Removed,
    Replace,
    Upkeep,
    adds,
    owner,
)
from pullstatus.store.gathering.writer import Writer
from pullstatus.store.jetstream import routing
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.values import Mailbox, Page, Park, Pull, PutAside, Watching
from pullstatus.store.verbs.state import mailbox_of
from pullstatus.store.window import Gone, UnderWay


class Lanes:
    """See `pullstatus.store.gathering.writer.Writer`."""

    def __init__(self, layout: Layout, partitions: Sequence[Writer], common: Writer) -> None:
        """Take over writers: one for each partition, and one for what is of no application."""
        self._layout = layout
        self._partitions = partitions
        self._common = common
        self._all = [*partitions, common]

    @overload
    def submit(self, operation: Park, gone: Gone | None = None) -> asyncio.Future[PutAside]: ...
    @overload
    def submit(self, operation: Pull, gone: Gone | None = None) -> asyncio.Future[Page]: ...
    @overload
    def submit(
        self, operation: Changes | Derived | Enter, gone: Gone | None = None
    ) -> asyncio.Future[bool]: ...
    @overload
    def submit(self, operation: Erase, gone: Gone | None = None) -> asyncio.Future[ErasedStep]: ...
    @overload
    def submit(self, operation: Upkeep, gone: Gone | None = None) -> asyncio.Future[Removed]: ...
    @overload
    def submit(
        self, operation: Counted | Replace, gone: Gone | None = None
    ) -> asyncio.Future[int]: ...
    def submit(self, operation: Operation, gone: Gone | None = None) -> asyncio.Future[Any]:
        """See `Writer.submit`."""
        self.check()
        if isinstance(operation, Changes | Mark | Enter):
            return self._common.submit(operation, gone)
        if isinstance(operation, Forget):
            return asyncio.ensure_future(
                _together([(each, operation) for each in self._partitions])
            )
        if isinstance(operation, Purge):
            return asyncio.ensure_future(_together(self._parts_of(operation)))
        sdkappid = owner(operation)
        assert sdkappid is not None
        lane: Any = self._of(sdkappid)
        if adds(operation) and not all(each.report.room for each in self._filled(operation, lane)):
            raise StoreFull(
                "the cluster has no room for more: what is left of a stream's max_bytes, or of a"
                " node's max_file_store, is for pulls"
            )
        submitted: asyncio.Future[Any] = lane.submit(operation, gone)
        return submitted

    def _of(self, sdkappid: int) -> Writer:
        return self._partitions[self._layout.partition(sdkappid)]

    def _parts_of(self, operation: Purge) -> list[tuple[Writer, Upkeep]]:
        parts: dict[int, list[Mailbox]] = {}
        for mailbox in operation.mailboxes:
            parts.setdefault(self._layout.partition(mailbox.sdkappid), []).append(mailbox)
        count_max = max(1, operation.count_max // max(1, len(parts)))
        return [
            (
                self._partitions[partition],
                msgspec.structs.replace(operation, mailboxes=tuple(mailboxes), count_max=count_max),
            )
            for partition, mailboxes in parts.items()
        ]

    def _filled(self, operation: Operation, lane: Writer) -> Iterator[Writer]:
        """The writers of the partitions in which it stores something."""
        yield lane
        if routing.is_split(operation, self._layout):
            for partition in routing.partitions_of(operation, self._layout):
                yield self._partitions[partition]

    def watch(self, place: int, on_arrival: Callable[[], None]) -> Watching:
        """See `Writer.watch`."""
        return self._of(mailbox_of(place).sdkappid).watch(place, on_arrival)

    def waiting(self, place: int) -> int | None:
        """Entries that wait in a mailbox after this process's newest commit; None: not known."""
        return self._of(mailbox_of(place).sdkappid).waiting.get(place)

    @property
    def report(self) -> Report:
        """What all of them reported, together."""
        reports = [each.report for each in self._all]
        figures = Figures(
            sum(report.figures.commits for report in reports),
            sum(report.figures.commit_s for report in reports),
            sum(report.figures.operations for report in reports),
        )
        room = all(report.room for report in reports)
        failure = next((each.failure for each in reports if each.failure is not None), None)
        return Report([], {}, None, room, figures, failure)

    @property
    def commits(self) -> Durations:
        """How long each commit took."""
        found = Durations()
        for each in self._all:
            found.include(each.commits)
        return found

    @property
    def works(self) -> bool:
        """See `Writer.works`."""
        return all(each.works for each in self._all)

    def check(self) -> None:
        """See `Writer.check`."""
        for each in self._all:
            each.check()

    def under_way(self) -> UnderWay:
        """See `Store.under_way`."""
        found = [each.under_way() for each in self._all]
        return UnderWay(
            sum(each.queued for each in found),
            sum(each.handed_over for each in found),
            sum(each.bytes for each in found),
            max(each.oldest_s for each in found),
        )

    async def close(self) -> None:
        """See `Writer.close`."""
        await asyncio.gather(*[each.close() for each in self._all])


async def _done(writer: Writer, operation: Upkeep) -> Removed:
    """Have one part of it done, but for mailboxes of applications that are damaged."""
    try:
        return await writer.submit(operation)
    except StoreDamaged:
        if not isinstance(operation, Purge):
            raise
    if len(operation.mailboxes) == 1:
        return Removed(0, more=False)  # what is old stays, and its own operations are told why
    alone = [msgspec.structs.replace(operation, mailboxes=(each,)) for each in operation.mailboxes]
    return await _together([(writer, each) for each in alone])


async def _together(parts: Sequence[tuple[Writer, Upkeep]]) -> Removed:
    """Have a step of upkeep done by several writers at once."""
    found = await asyncio.gather(*[_done(writer, operation) for writer, operation in parts])
    return Removed(
        sum(each.count for each in found),
        any(each.more for each in found),
        tuple(mailbox for each in found for mailbox in each.mailboxes),
    )
