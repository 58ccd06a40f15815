"""`JetStreamStore`: the verbs of `Store` over lanes that commit and threads that ask."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar

import msgspec

from pullstatus.errors import (
    OutcomeUnknown,
    SettingChanged,
    StoreDamaged,
    StoreRefused,
    StoreUnavailable,
    WorldError,
)
from pullstatus.store import transfer
from pullstatus.store.gate import check_open
from pullstatus.store.gathering.committer import Committer
from pullstatus.store.gathering.log import Log as LogOfOne
from pullstatus.store.gathering.operations import Enter, Purge, Replace
from pullstatus.store.gathering.pace import STEP_S
from pullstatus.store.gathering.shared import SharedStore
from pullstatus.store.gathering.store import STEP_REMOVED
from pullstatus.store.gathering.thread import ThreadChannel
from pullstatus.store.gathering.writer import Writer
from pullstatus.store.jetstream import spread
from pullstatus.store.jetstream.ages import AGE_S
from pullstatus.store.jetstream.derived import Derived
from pullstatus.store.jetstream.filling import Filling
from pullstatus.store.jetstream.forgetting import Quiet
from pullstatus.store.jetstream.gate import LaneGate
from pullstatus.store.jetstream.lanes import Lanes
from pullstatus.store.jetstream.lease import RENEW_S, Lease
from pullstatus.store.jetstream.lists import ApplicationStanding, Lists
from pullstatus.store.jetstream.log import Log
from pullstatus.store.jetstream.looks import Looks
from pullstatus.store.jetstream.moved import Moved
from pullstatus.store.jetstream.naming import Names, Sought
from pullstatus.store.jetstream.proven import ProvenBus
from pullstatus.store.jetstream.settings import SettingLog
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.survey import Survey
from pullstatus.store.jetstream.transfer import Reading
from pullstatus.store.jetstream.vitals import Vitals
from pullstatus.store.jetstream.watchdog import Watchdog
from pullstatus.store.jetstream.wire import Bus
from pullstatus.store.segments import Index, Segment
from pullstatus.store.tickets import Tickets
from pullstatus.store.transfer import Key, Migration, Part, Role, Stage
from pullstatus.store.transfer import Row as RowOfAny
from pullstatus.store.values import (
    Act,
    ActRow,
    Again,
    Append,
    Backlog,
    Engine,
    Entry,
    Health,
    JournalRow,
    Mailbox,
    Named,
    Noted,
    Page,
    Park,
    Pull,
    PutAside,
    ReaderState,
    Run,
    Setting,
    Span,
    Tally,
    Totals,
    Watching,
)
from pullstatus.store.verbs.pulls import EMPTY
from pullstatus.store.verbs.state import slot
from pullstatus.store.window import Gone, UnderWay

SEALS_MAX: Final = 10  # others begin to route items only now and then
WATCH_S: Final = 0.5  # how long what another process has brought may stay unseen by who waits
DOWN_S: Final = 0.5  # how long who waits for what streams say may not know that one is down
NAMES_S: Final = 5.0  # that who asks for names waits for the first look, which reads 72 hours


P = TypeVar("P")
R = TypeVar("R")


class _Watched:
    """Of a mailbox: what is to be called, and the newest message of its stream at the last look."""

    def __init__(self, on_arrival: Callable[[], None]) -> None:
        self.on_arrival = on_arrival
        self.reached = 0


class JetStreamStore(SharedStore):
    """A store in a cluster. See `pullstatus.store.Store` for what each verb promises.

    Nothing that counts is kept here, so any number of these may be open anywhere.
    """

    _writer: Lanes

    def __init__(
        self,
        name: str,
        bus: Bus,
        layout: Layout,
        lanes: Lanes,
        upkeep: Lease,
        following: Lease,
        gate: LaneGate,
        quiet: Quiet,
        watchdog: Watchdog,
        *,
        created: bool,
    ) -> None:
        """For `open`; takes what it has made."""
        super().__init__(lanes, created=created)
        self._name = name
        self._gate = gate
        self._quiet = quiet
        self._rows = Reading(bus, layout)
        self._filling = Filling(
            bus, layout, Tickets(os.urandom), self._rows.told, lambda: gate.number
        )
        self._bus = bus
        self._layout = layout
        self._lists = Lists(bus, layout)
        self._survey = Survey(bus, layout, self._lists)
        self._derived = Derived(bus, self._lists)
        self._standings = Looks(self._lists.standings_of, layout.partition)
        self._revisions = Looks(self._lists.revisions)
        self._names = Looks(Names(bus, layout).look)
        self._upkeep, self._following = upkeep, following
        self._watchdog = watchdog
        self._watched: dict[Mailbox, _Watched] = {}
        self._watching: asyncio.Task[None] | None = None
        self._lookers = ThreadPoolExecutor(layout.partitions, "store-watch")  # each may be held up
        self._closed = False

    @classmethod
    async def open(
        cls,
        name: str,
        bus: Bus,
        layout: Layout,
        secret: bytes,
        epoch: int,
        *,
        created: bool,
        on_failure: Callable[[BaseException], None] | None = None,
        server: bool = False,
        moving: bool = False,
    ) -> JetStreamStore:
        """Open a store whose streams there are; `bus` is its own from now on.

        Args:
            name: see `Transfer`.
            secret: what fingerprints are keyed with.
            created: whether it was made just now.
            server: to serve it: somebody looks after its nodes, too.
            moving: to move it, or to fill it from another, whatever it says of that.

        Raises:
            StoreRefused: it is not to be used.
        """
        vitals = Vitals()
        bus = ProvenBus(bus, vitals)
        new_op = Tickets(os.urandom)
        gate = await asyncio.to_thread(LaneGate, bus, layout, new_op)
        if not moving:
            check_open(gate.found, server=server)
        moved = Moved(bus, layout, time.monotonic)
        quiet = Quiet(bus, layout, time.monotonic)
        logs = [
            Log(bus, layout, partition, secret, new_op, gate=gate, moved=moved, quiet=quiet)
            for partition in range(layout.partitions)
        ]
        writers = [_writer(log, on_failure) for log in logs]
        settings = SettingLog(bus, layout, new_op, gate=gate, server=server, moving=moving)
        lanes = Lanes(layout, writers, _writer(settings, on_failure))
        common = layout.common
        upkeep = Lease(bus, common, common.lease, new_op)
        following = Lease(bus, common, common.following, new_op)
        watchdog = Watchdog(bus, [stream for stream, _ in layout.streams], vitals)
        store = cls(
            *(name, bus, layout, lanes, upkeep, following, gate, quiet, watchdog), created=created
        )
        store.epoch = epoch
        store.revision = await asyncio.to_thread(store._lists.revision)
        if server:
            await asyncio.to_thread(watchdog.start)
        return store

    def _check_room(self) -> None:
        """Each lane has a stream of its own: see `Lanes.submit`."""

    async def append(self, operation: Append, gone: Gone | None = None) -> int:
        """See `Store.append`. Records of very many hours are stored in several commits.

        Raises:
            OutcomeUnknown: some of these were not done; sent again, the rest is stored.
        """
        parts = spread.appends_of(operation)
        return sum(await _part_by_part(super().append, parts, gone))

    async def park(self, operation: Park, gone: Gone | None = None) -> PutAside:
        """See `Store.park`, and `append`."""
        found = await _part_by_part(super().park, spread.parks_of(operation), gone)
        counts = zip(*[(each.records, each.items, each.expired) for each in found], strict=True)
        return PutAside(*map(sum, counts))

    async def pull(self, operation: Pull, gone: Gone | None = None) -> Page:
        """See `Store.pull`. One that leaves no trace looks first, unless something waits anyway."""
        if (
            not operation.leaves_trace
            and not self._writer.waiting(slot(operation.mailbox))
            and self._writer.works
            and await self._finds_nothing(operation)
        ):
            return EMPTY
        return await self._writer.submit(operation, gone)

    async def _finds_nothing(self, operation: Pull) -> bool:
        """Whether a pull would, whose conditions hold, as the leaders say."""
        conditions = operation.conditions
        looks: list[Awaitable[object]] = [self._standings.at(operation.mailbox.sdkappid)]
        looks += [self._revisions.at(each.name) for each in conditions]
        try:
            standing, *revisions = await asyncio.gather(*looks)
        except (StoreRefused, StoreDamaged):  # the lane finds that, too, and says so
            return False
        if revisions != [each.revision for each in conditions]:
            return False
        assert standing is None or isinstance(standing, ApplicationStanding)
        if standing is None or self._gate.shut or standing.gate > self._gate.number:
            return False  # the lane asks what the store says of a migration
        return not _waits(standing, operation.mailbox)

    def watch(
        self,
        mailbox: Mailbox,
        on_arrival: Callable[[], None],
        since_s: float = 0.0,  # noqa: ARG002 - no other store object shares this one's watchers
    ) -> Watching:
        """See `Store.watch`. Other processes' commits are noticed half a second later."""
        unwatch = self._writer.watch(slot(mailbox), on_arrival)
        self._watched[mailbox] = _Watched(on_arrival)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

        def watching(since_s: float | None = None) -> None:
            unwatch(since_s)
            if since_s is None:
                del self._watched[mailbox]

        return watching

    async def _watch(self) -> None:
        """Tell watchers what other processes have brought, where anything was written at all.

        Of each stream by itself: one that is down is waited for, by who watches there alone.
        """
        looking: dict[str, asyncio.Task[None]] = {}
        try:
            while self._watched:
                await asyncio.sleep(WATCH_S)
                for stream, there in self._watched_by_stream().items():
                    if stream not in looking or looking[stream].done():
                        looking[stream] = asyncio.create_task(self._look_at(stream, there))
        finally:
            for task in looking.values():
                task.cancel()
            await asyncio.gather(*looking.values(), return_exceptions=True)

    def _watched_by_stream(self) -> dict[str, list[tuple[Mailbox, _Watched]]]:
        streams: dict[str, list[tuple[Mailbox, _Watched]]] = {}
        for mailbox, watched in self._watched.items():
            stream = self._layout.application(mailbox.sdkappid).stream
            streams.setdefault(stream, []).append((mailbox, watched))
        return streams

    async def _look_at(self, stream: str, there: Sequence[tuple[Mailbox, _Watched]]) -> None:
        """Look for what has come; what fails is tried again, as long as somebody watches."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(WorldError):
            newest = await loop.run_in_executor(self._lookers, self._bus.newest, stream)
            for mailbox, watched in there:
                if watched.reached != newest:
                    with contextlib.suppress(StoreDamaged):  # its own operations are told
                        await self._look_for(mailbox, watched, newest)

    async def _look_for(self, mailbox: Mailbox, watched: _Watched, newest: int) -> None:
        standing = await self._standings.at(mailbox.sdkappid)
        if self._watched.get(mailbox) is watched:
            watched.reached = newest
            if _waits(standing, mailbox):
                watched.on_arrival()

    # -- upkeep ----------------------------------------------------------------------------------

    def _removing(self) -> AbstractAsyncContextManager[bool]:
        return _alone(self._upkeep)

    async def _due_for_purge(self, left_before_ms: int) -> list[Mailbox]:
        return await asyncio.to_thread(self._survey.due_for_purge, left_before_ms)

    async def forget(self, *, accepted_before_ms: int, now_ms: int, hours_before: int = 0) -> int:
        """See `Store.forget`."""
        await asyncio.to_thread(self._quiet.look)
        return await super().forget(
            accepted_before_ms=accepted_before_ms, now_ms=now_ms, hours_before=hours_before
        )

    async def purge_rest(self, sdkappid: int) -> None:
        """See `Store.purge_rest`.

        The journal lies in commits, and whoever does not know what came of his own looks for it: so
        those stay that are too young; see `ages`. No step of retention comes again for these.
        """
        stream = self._layout.application(sdkappid).stream
        reached = await asyncio.to_thread(self._bus.newest, stream)
        await asyncio.sleep(AGE_S)
        await asyncio.to_thread(self._purge_rest, sdkappid, reached)

    def _purge_rest(self, sdkappid: int, reached: int) -> None:
        standing = self._lists.standing(sdkappid)
        if standing is None:
            return
        place, rows_at = standing.place, [box.rows_at for box in standing.boxes]
        below = min([reached + 1, standing.newest, *rows_at])
        for subject in (place.keys, place.commits):
            self._bus.purge(place.stream, subject, below=below)

    # -- becoming another ------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """See `Transfer`."""
        return self._name

    async def migration(self) -> Migration | None:
        """See `Transfer.migration`.

        What a kill has left half said is said to its end, and a store that it left sealed while
        items are on their way between partitions is opened for them to arrive.
        """
        await asyncio.to_thread(self._gate.settle)
        found = self._gate.found
        if (
            found is not None
            and (found.role, found.stage) == (Role.SOURCE, Stage.SEALED)
            and await self._on_their_way()
        ):
            opened = msgspec.structs.replace(found, stage=Stage.COPYING)
            await self._writer.submit(Enter(opened, found))
        return self._gate.found

    async def check_served(self) -> None:
        """See `Store.check_served`."""
        check_open(self._gate.found, server=True)

    async def enter(
        self, migration: Migration | None, *, expected: Migration | None, act: Act | None = None
    ) -> bool:
        """See `Transfer.enter`. It is not sealed while items are on their way between partitions.

        Raises:
            StoreUnavailable: some are, again and again.
        """
        if migration is None or migration.stage is not Stage.SEALED:
            if migration is not None and migration.stage is Stage.READY:
                await asyncio.to_thread(self._filling.settle)
            return await self._writer.submit(Enter(migration, expected, act))
        for _ in range(SEALS_MAX):
            for mailbox in await self._on_their_way():
                await self._writer.submit(Purge((mailbox,), 0, STEP_REMOVED, STEP_S))
            if not await self._writer.submit(Enter(migration, expected, act)):
                return False
            if not await self._on_their_way():
                return True
            await self._writer.submit(Enter(expected, migration))
        raise StoreUnavailable("parked items are on their way to another application; try again")

    async def _on_their_way(self) -> list[Mailbox]:
        """The mailboxes that items are on their way out of."""

        def found() -> list[Mailbox]:
            return [
                Mailbox(standing.sdkappid, box.kind)
                for standing in self._lists.standings()
                for box in standing.boxes
                if box.routing
            ]

        return await asyncio.to_thread(found)

    async def rows(
        self, part: Part, after: Key | None = None, mailboxes: Sequence[Mailbox] = ()
    ) -> Sequence[RowOfAny]:
        """See `Transfer.rows`."""
        return await asyncio.to_thread(self._rows.step, part, after, mailboxes)

    async def applications(self) -> Sequence[int]:
        """See `copying.Frozen`."""
        return await asyncio.to_thread(self._rows.applications)

    async def freeze(self, sdkappid: int) -> Sequence[transfer.Standing]:
        """See `copying.Frozen`."""
        return await asyncio.to_thread(self._rows.freeze, sdkappid)

    async def thaw(self) -> bool:
        """See `copying.Frozen`."""
        return await asyncio.to_thread(self._rows.thaw)

    async def replace(self, part: Part, drop: Sequence[RowOfAny], put: Sequence[RowOfAny]) -> None:
        """See `Transfer.replace`."""
        await asyncio.to_thread(self._replace, Replace(part, drop, put))

    def _replace(self, operation: Replace) -> None:
        refusal = self._gate.refusal_to_fill()
        if refusal is not None:
            raise refusal
        self._filling.replace(operation)

    # -- reading ---------------------------------------------------------------------------------

    async def backlog(self, sdkappid: int | None = None) -> list[Backlog]:
        """See `Store.backlog`."""
        return await self._lists.backlog(sdkappid)

    async def totals(self, worst: int = 0) -> Totals:
        """See `Store.totals`. They are of all streams: one that is down is not waited for.

        Nor is one that goes meanwhile; the thread that asks it gives up by itself.
        """
        self._check_none_is_down()
        asked = asyncio.create_task(asyncio.to_thread(self._survey.totals, worst))
        try:
            while not asked.done():
                await asyncio.wait({asked}, timeout=DOWN_S)
                if not asked.done():
                    self._check_none_is_down()
            return asked.result()
        finally:
            asked.cancel()

    def _check_none_is_down(self) -> None:
        if self._watchdog.health.down:
            raise StoreUnavailable("a stream of the store is down now; try again")

    def following(self) -> AbstractAsyncContextManager[bool]:
        """See `Store.following`."""
        return _alone(self._following)

    async def behind(self, count_max: int) -> list[Backlog]:
        """See `Store.behind`."""
        return await asyncio.to_thread(self._survey.behind, count_max)

    async def pending(self, count_max: int) -> list[Backlog]:
        """See `Store.pending`."""
        return await asyncio.to_thread(self._survey.pending, count_max)

    async def runs(self, mailbox: Mailbox, first_seq: int, count_max: int) -> list[Run]:
        """See `Store.runs`."""
        return await asyncio.to_thread(self._derived.runs, mailbox, first_seq, count_max)

    async def entries_at(self, mailbox: Mailbox, seqs: Sequence[int]) -> list[Entry]:
        """See `Store.entries_at`."""
        return await asyncio.to_thread(self._derived.entries_at, mailbox, seqs)

    async def spans(self, mailbox: Mailbox, first_seq: int = 1) -> list[Span]:
        """See `Store.spans`."""
        return await asyncio.to_thread(self._derived.spans, mailbox, first_seq)

    async def segment(self, mailbox: Mailbox, first_seq: int) -> Segment | None:
        """See `Store.segment`."""
        return await asyncio.to_thread(self._derived.segment, mailbox, first_seq)

    async def sought(self, mailbox: Mailbox, index: Index, hashed: int) -> list[int]:
        """See `Store.sought`."""
        return await asyncio.to_thread(self._derived.sought, mailbox, index, hashed)

    async def tallies(
        self, sdkappid: int, first_hour: int, last_hour: int, *, whole: bool = True
    ) -> list[Tally]:
        """See `Store.tallies`."""
        return await asyncio.to_thread(
            self._derived.tallies, sdkappid, first_hour, last_hour, whole=whole
        )

    async def named(self, slots: Sequence[int], sdkappid: int | None = None) -> list[Named]:
        """See `Store.named`. Who does not wait for a look has it go on, for who asks next.

        Raises:
            StoreUnavailable: what was registered is not all read yet.
        """
        asked = asyncio.ensure_future(self._names.at(Sought(tuple(slots), sdkappid)))
        try:  # not every caller is in a task, which `asyncio.timeout` needs
            await asyncio.wait({asked}, timeout=NAMES_S)
            if asked.done():
                return asked.result()
        finally:
            asked.cancel()
        raise StoreUnavailable("names of sends are still being read; try again")

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

    def again(self, mailbox: Mailbox, first_seq: int = 1) -> AsyncIterator[Again]:
        """See `Store.again`."""
        return self._lists.again(mailbox, first_seq)

    def acts(self, *, newest_first: bool = False) -> AsyncIterator[ActRow]:
        """See `Store.acts`."""
        return self._lists.acts(newest_first=newest_first)

    def settings(self, since: int = 0, *, prefix: str | None = None) -> AsyncIterator[Setting]:
        """See `Store.settings`."""
        return self._lists.settings(since) if prefix is None else self._lists.named(prefix, since)

    async def settings_of(self, names: Sequence[str]) -> Mapping[str, Setting | StoreDamaged]:
        """See `Store.settings_of`."""
        return await self._lists.settings_of(names)

    async def setting(self, name: str) -> Setting | None:
        """See `Store.setting`."""
        return await self._lists.setting(name)

    async def marks(self, prefix: str = "") -> dict[str, Noted]:
        """See `Store.marks`."""
        return await self._lists.marks(prefix)

    def under_way(self) -> UnderWay:
        """See `Store.under_way`. Nodes are asked whether anything else is or not."""
        found = super().under_way()
        oldest_s = max(found.oldest_s, self._watchdog.silent_s())
        return msgspec.structs.replace(found, oldest_s=oldest_s)

    def health(self) -> Health:
        """See `Store.health`."""
        return self._watchdog.health

    async def engine(self) -> Engine:
        """See `Store.engine`. While it is served its size is of the last look at the nodes."""
        size = self._watchdog.bytes
        if size is None:
            size = await self._lists.size()
        report = self._writer.report
        return Engine(
            report.figures.commits,
            report.figures.commit_s,
            report.figures.operations,
            size,
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
        self._lookers.shutdown(wait=False)
        await self._standings.close()
        await self._revisions.close()
        await self._names.close()
        await self._writer.close()
        self._watchdog.end()
        await asyncio.to_thread(self._bus.close)
        await asyncio.to_thread(self._watchdog.close)


async def _part_by_part(
    store: Callable[[P, Gone | None], Awaitable[R]], parts: Sequence[P], gone: Gone | None
) -> list[R]:
    """Have all parts of an operation done; what each is answered."""
    found: list[R] = []
    for part in parts:
        try:
            found.append(await store(part, gone))
        except StoreUnavailable as error:
            if not found or isinstance(error, SettingChanged):  # then it is tried again at once
                raise
            raise OutcomeUnknown(
                f"a part of it is stored; send all of it again: {error}"
            ) from error
    return found


def _waits(standing: ApplicationStanding | None, mailbox: Mailbox) -> bool:
    box = None if standing is None else standing.box(mailbox.holds)
    return box is not None and box.cursor < box.tail


def _writer(log: LogOfOne, on_failure: Callable[[BaseException], None] | None) -> Writer:
    return Writer(ThreadChannel(Committer(log)), on_failure)


@contextlib.asynccontextmanager
async def _alone(lease: Lease) -> AsyncIterator[bool]:
    """Whether this process is the one that does something, until the block ends."""
    if not await asyncio.to_thread(lease.take):
        yield False
        return
    renewing = asyncio.create_task(_renew(lease))
    try:
        yield True
    finally:
        renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewing
        with contextlib.suppress(WorldError):  # then it is found left, in time
            await asyncio.to_thread(lease.let_go)


async def _renew(lease: Lease) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        with contextlib.suppress(WorldError):  # who takes it does what this does
            await asyncio.to_thread(lease.take)
