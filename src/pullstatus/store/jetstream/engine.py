"""`JetStreamStore`: the verbs of `Store` over lanes that commit and threads that ask."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from pullstatus.errors import StoreRefused, WorldError
from pullstatus.store.gathering.committer import Committer
from pullstatus.store.gathering.log import Log as LogOfOne
from pullstatus.store.gathering.store import GatheredStore
from pullstatus.store.gathering.thread import ThreadChannel
from pullstatus.store.gathering.writer import Writer
from pullstatus.store.jetstream.lanes import Lanes
from pullstatus.store.jetstream.lists import Lists
from pullstatus.store.jetstream.log import Log
from pullstatus.store.jetstream.proven import ProvenBus
from pullstatus.store.jetstream.settings import SettingLog
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus
from pullstatus.store.tickets import Tickets
from pullstatus.store.values import (
    ActRow,
    Again,
    Backlog,
    Engine,
    Entry,
    JournalRow,
    Mailbox,
    Noted,
    Page,
    Pull,
    ReaderState,
    Setting,
    Totals,
    Watching,
    While,
)
from pullstatus.store.verbs.pulls import EMPTY
from pullstatus.store.verbs.state import slot
from pullstatus.store.window import Gone

WATCH_S: Final = 0.5  # how long what another process has brought may stay unseen by who waits


class JetStreamStore(GatheredStore):
    """A store in a cluster. See `pullstatus.store.Store` for what each verb promises.

    Nothing that counts is kept here, so any number of these may be open anywhere.
    """

    _writer: Lanes

    def __init__(self, bus: Bus, layout: Layout, lanes: Lanes, *, created: bool) -> None:
        """For `open`; takes what it has made."""
        super().__init__(lanes, created=created)
        self._bus = bus
        self._lists = Lists(bus, layout)
        self._watched: dict[Mailbox, Callable[[], None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(
        cls,
        bus: Bus,
        layout: Layout,
        secret: bytes,
        epoch: int,
        *,
        created: bool,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> JetStreamStore:
        """Open a store whose streams there are; `bus` is its own from now on.

        Args:
            secret: what fingerprints are keyed with.
            created: whether it was made just now.
        """
        bus = ProvenBus(bus)
        new_op = Tickets(os.urandom)
        logs = [
            Log(bus, layout, partition, secret, new_op) for partition in range(layout.partitions)
        ]
        writers = [_writer(log, on_failure) for log in logs]
        common = _writer(SettingLog(bus, layout, new_op), on_failure)
        store = cls(bus, layout, Lanes(layout, writers, common), created=created)
        store.epoch = epoch
        store.revision = (await asyncio.to_thread(store._lists.common)).revision
        return store

    def _check_room(self) -> None:
        """Each lane has a stream of its own: see `Lanes.submit`."""

    async def pull(self, operation: Pull, gone: Gone | None = None) -> Page:
        """See `Store.pull`. One that leaves no trace looks first, unless something waits anyway."""
        if (
            operation.key is None
            and operation.once is None
            and operation.reader is None
            and not self._writer.waiting(slot(operation.mailbox))
            and self._writer.works
            and await asyncio.to_thread(self._finds_nothing, operation)
        ):
            return EMPTY
        return await self._writer.submit(operation, gone)

    def _finds_nothing(self, operation: Pull) -> bool:
        """Whether a pull would, whose condition holds, as the leader says."""
        condition: While | None = operation.while_set
        try:
            if self._waits(operation.mailbox):
                return False
            return condition is None or self._lists.revision(condition.name) == condition.revision
        except StoreRefused:  # the lane finds that, too, and ends the store
            return False

    def _waits(self, mailbox: Mailbox) -> bool:
        standing = self._lists.standing(mailbox.sdkappid)
        box = None if standing is None else standing.box(mailbox.holds)
        return box is not None and box.cursor < box.tail

    def surely_empty(self, mailbox: Mailbox) -> bool:  # noqa: ARG002 - nobody can know
        """See `Store.surely_empty`. Another process may have filled it at any time."""
        return False

    def watch(
        self,
        mailbox: Mailbox,
        on_arrival: Callable[[], None],
        since_s: float = 0.0,  # noqa: ARG002 - no other store object shares this one's watchers
    ) -> Watching:
        """See `Store.watch`. Other processes' commits are noticed half a second later."""
        unwatch = self._writer.watch(slot(mailbox), on_arrival)
        self._watched[mailbox] = on_arrival
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

        def watching(since_s: float | None = None) -> None:
            unwatch(since_s)
            if since_s is None:
                del self._watched[mailbox]

        return watching

    async def _watch(self) -> None:
        """Tell watchers what other processes have brought."""
        while self._watched:
            await asyncio.sleep(WATCH_S)
            for mailbox in list(self._watched):
                with contextlib.suppress(WorldError):  # it is tried again
                    if await asyncio.to_thread(self._waits, mailbox) and mailbox in self._watched:
                        self._watched[mailbox]()

    async def _due_for_purge(self, left_before_ms: int) -> list[Mailbox]:
        return await self._lists.due_for_purge(left_before_ms)

    # -- reading ---------------------------------------------------------------------------------

    async def backlog(self, sdkappid: int | None = None) -> list[Backlog]:
        """See `Store.backlog`."""
        return await self._lists.backlog(sdkappid)

    async def totals(self) -> Totals:
        """See `Store.totals`."""
        return await self._lists.totals()

    def entries(
        self, mailbox: Mailbox, first_seq: int = 1, *, containing: bytes | None = None
    ) -> AsyncIterator[Entry]:
        """See `Store.entries`."""
        return self._lists.entries(mailbox, first_seq, containing)

    def journal(
        self, mailbox: Mailbox, first_seq: int = 1, *, newest_first: bool = False
    ) -> AsyncIterator[JournalRow]:
        """See `Store.journal`."""
        return self._lists.journal(mailbox, first_seq, newest_first=newest_first)

    async def keyed(self, sdkappid: int, key: str) -> Sequence[JournalRow]:
        """See `Store.keyed`."""
        return await self._lists.keyed(sdkappid, key)

    def readers(self, sdkappid: int | None = None) -> AsyncIterator[ReaderState]:
        """See `Store.readers`."""
        return self._lists.readers(sdkappid)

    def again(self, mailbox: Mailbox) -> AsyncIterator[Again]:
        """See `Store.again`."""
        return self._lists.again(mailbox)

    def acts(self, *, newest_first: bool = False) -> AsyncIterator[ActRow]:
        """See `Store.acts`."""
        return self._lists.acts(newest_first=newest_first)

    def settings(self, since: int = 0, *, prefix: str | None = None) -> AsyncIterator[Setting]:
        """See `Store.settings`."""
        return self._lists.settings(since) if prefix is None else self._lists.named(prefix, since)

    async def setting(self, name: str) -> Setting | None:
        """See `Store.setting`."""
        return await self._lists.setting(name)

    async def marks(self, prefix: str = "") -> dict[str, Noted]:
        """See `Store.marks`."""
        return await self._lists.marks(prefix)

    async def engine(self) -> Engine:
        """See `Store.engine`."""
        report = self._writer.report
        return Engine(
            report.figures.commits,
            report.figures.commit_s,
            report.figures.operations,
            await self._lists.size(),
            report.room,
            self._writer.commits,
        )

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self._writer.close()
        await asyncio.to_thread(self._bus.close)


def _writer(log: LogOfOne, on_failure: Callable[[BaseException], None] | None) -> Writer:
    return Writer(ThreadChannel(Committer(log)), on_failure)
