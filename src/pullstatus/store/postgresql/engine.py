"""`PostgresStore`: the verbs of `Store` over a lane that commits and connections that ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.errors import StoreFailed, StoreFull, StoreRefused
from pullstatus.store.gate import Gate, check_open, decoded
from pullstatus.store.gathering.committer import Committer
from pullstatus.store.gathering.operations import Enter, Replace
from pullstatus.store.gathering.process import ProcessChannel
from pullstatus.store.gathering.shared import SharedStore
from pullstatus.store.gathering.thread import ThreadChannel
from pullstatus.store.gathering.writer import Channel, Writer
from pullstatus.store.postgresql import schema, transfer
from pullstatus.store.postgresql.derived import Derived
from pullstatus.store.postgresql.lists import Lists
from pullstatus.store.postgresql.location import Location
from pullstatus.store.postgresql.log import SIZE_S, Log
from pullstatus.store.postgresql.look import Looks
from pullstatus.store.postgresql.opening import Opened, open_store, there
from pullstatus.store.postgresql.reads import Reads
from pullstatus.store.postgresql.totals import Survey
from pullstatus.store.postgresql.turns import Turn
from pullstatus.store.segments import Index, Segment
from pullstatus.store.transfer import Key, Migration, Part, Row
from pullstatus.store.values import (
    Act,
    ActRow,
    Again,
    Backlog,
    Engine,
    Entry,
    JournalRow,
    Mailbox,
    Named,
    Noted,
    Page,
    Pull,
    ReaderState,
    Run,
    Setting,
    Span,
    Tally,
    Totals,
    Watching,
    While,
)
from pullstatus.store.verbs.pulls import EMPTY
from pullstatus.store.verbs.state import slot
from pullstatus.store.window import Gone, UnderWay

LIST_S: Final = 600.0  # that one step of a list, or all sums, may take
_UPKEEP: Final = 0x7570  # the lock of whoever removes what is too old
_FOLLOWING: Final = 0x666F  # that of whoever follows


class PostgresStore(SharedStore):
    """A store in a database. See `pullstatus.store.Store` for what each verb promises.

    Nothing that counts is kept here, so any number of these may be open anywhere.
    """

    _writer: Writer

    def __init__(self, location: Location, opened: Opened, writer: Writer, *, server: bool) -> None:
        """For `open`; takes what it has made."""
        super().__init__(writer, created=opened.created)
        known = opened.known
        self._server = server
        self._name = location.name
        self._reads = Reads(location, known, self._timeline, LIST_S)
        self._lists = Lists(self._reads)
        self._derived = Derived(self._reads)
        quick = partial(Reads, location, known, self._timeline, limits.STORE_WAIT_S)
        self._quick = quick()
        self._looks = Looks(self._quick, Gate(opened.meta.moving))
        self._settings = Lists(self._quick)  # a server follows them, whatever is listed meanwhile
        self._upkeep = Turn(quick(), _UPKEEP, kept=False)
        self._following = Turn(quick(), _FOLLOWING, kept=True)  # asked for each second
        self._survey = Survey()
        self._surveying = asyncio.Lock()
        self._size = 0
        self._size_due_s = 0.0
        self._closed = False

    @classmethod
    async def open(
        cls,
        location: Location,
        *,
        create: bool,
        server: bool,
        on_failure: Callable[[BaseException], None] | None = None,
        moving: bool = False,
    ) -> PostgresStore:
        """Open a store, or make it in an empty database.

        Args:
            moving: to move it, or to fill it from another, whatever it says of that.

        Raises:
            StoreRefused: there is none, or the server is not safe; the text says what to change.
        """
        opened = await asyncio.to_thread(open_store, location, create=create)
        try:
            if not moving:
                _check_open(location, opened, server=server)
            epoch, revision = await asyncio.to_thread(schema.beginning, opened.session.connection)
        finally:
            opened.session.close()
        open_log = partial(open_lane, location, server=server, moving=moving)
        apart = server if location.apart is None else location.apart
        channel: Channel = (
            await ProcessChannel.open(open_log)
            if apart
            else ThreadChannel(Committer(await asyncio.to_thread(open_log)))
        )
        writer = Writer(channel, on_failure)
        store = cls(location, opened, writer, server=server)
        store.epoch, store.revision = epoch, revision
        return store

    def _timeline(self) -> int:
        """The newest one that the lane has worked on."""
        return int.from_bytes(self._writer.report.as_of or b"")

    def _check_room(self) -> None:
        if not self._writer.report.room:
            raise StoreFull(
                "the database has no room for more: its disk was full just now, or it is as large"
                " as max-bytes in the store's URL lets it be"
            )

    async def pull(self, operation: Pull, gone: Gone | None = None) -> Page:
        """See `Store.pull`. One that leaves no trace looks first, unless something waits anyway."""
        box = slot(operation.mailbox)
        if (
            not operation.leaves_trace
            and not self._writer.waiting.get(box)
            and self._writer.works
            and await self._finds_nothing(box, operation.conditions)
        ):
            return EMPTY
        return await self._writer.submit(operation, gone)

    async def _finds_nothing(self, box: int, conditions: Sequence[While]) -> bool:
        """Whether a pull would, whose conditions hold.

        Not if the database cannot be used any more: the lane finds that, too, and ends the store.
        """
        waits = self._looks.waiting(box)
        revisions = [(self._looks.revision(each.name), each.revision) for each in conditions]
        try:
            if await asyncio.shield(waits):
                return False
            for found, revision in revisions:
                if await asyncio.shield(found) != revision:
                    return False
            return True
        except StoreFailed:
            return False

    def watch(
        self,
        mailbox: Mailbox,
        on_arrival: Callable[[], None],
        since_s: float = 0.0,  # noqa: ARG002 - no other store object shares this one's watchers
    ) -> Watching:
        """See `Store.watch`. Other processes' commits are noticed half a second later."""
        box = slot(mailbox)
        unwatch, look_away = self._writer.watch(box, on_arrival), self._looks.watch(box, on_arrival)

        def watching(since_s: float | None = None) -> None:
            unwatch(since_s)
            if since_s is None:
                look_away()

        return watching

    async def _due_for_purge(self, left_before_ms: int) -> list[Mailbox]:
        return await self._lists.due_for_purge(left_before_ms)

    def _removing(self) -> AbstractAsyncContextManager[bool]:
        return self._upkeep.take()

    # -- becoming another ------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """See `Transfer`."""
        return self._name

    async def migration(self) -> Migration | None:
        """See `Transfer.migration`."""
        rows = await self._reads.ask("SELECT state FROM pullstatus.transfer")
        return decoded(rows[0][0]) if rows else None

    async def check_served(self) -> None:
        """See `Store.check_served`."""
        check_open(await self.migration(), server=True)

    async def enter(
        self, migration: Migration | None, *, expected: Migration | None, act: Act | None = None
    ) -> bool:
        """See `Transfer.enter`."""
        return await self._writer.submit(Enter(migration, expected, act))

    async def rows(
        self, part: Part, after: Key | None = None, mailboxes: Sequence[Mailbox] = ()
    ) -> Sequence[Row]:
        """See `Transfer.rows`."""
        return await transfer.rows(self._reads.ask, part, after, mailboxes)

    async def replace(self, part: Part, drop: Sequence[Row], put: Sequence[Row]) -> None:
        """See `Transfer.replace`. Refused as `append` is."""
        self._check_room()
        await self._writer.submit(Replace(part, drop, put))

    # -- reading ---------------------------------------------------------------------------------

    async def backlog(self, sdkappid: int | None = None) -> list[Backlog]:
        """See `Store.backlog`."""
        return await self._lists.backlog(sdkappid)

    async def totals(self, worst: int = 0) -> Totals:
        """See `Store.totals`."""
        return await asyncio.create_task(self._look_at_all(worst))

    async def _look_at_all(self, worst: int) -> Totals:
        async with self._surveying:
            return await self._survey.look(self._reads, worst)

    def following(self) -> AbstractAsyncContextManager[bool]:
        """See `Store.following`."""
        return self._following.take()

    async def behind(self, count_max: int) -> list[Backlog]:
        """See `Store.behind`."""
        return await asyncio.create_task(self._look_behind(count_max))

    async def _look_behind(self, count_max: int) -> list[Backlog]:
        async with self._surveying:
            return await self._survey.behind(self._reads, count_max)

    async def pending(self, count_max: int) -> list[Backlog]:
        """See `Store.pending`."""
        return await asyncio.create_task(self._look_pending(count_max))

    async def _look_pending(self, count_max: int) -> list[Backlog]:
        async with self._surveying:
            return await self._survey.pending(self._reads, count_max)

    async def runs(self, mailbox: Mailbox, first_seq: int, count_max: int) -> list[Run]:
        """See `Store.runs`."""
        return await self._derived.runs(mailbox, first_seq, count_max)

    async def entries_at(self, mailbox: Mailbox, seqs: Sequence[int]) -> list[Entry]:
        """See `Store.entries_at`."""
        return await self._derived.entries_at(mailbox, seqs)

    async def spans(self, mailbox: Mailbox, first_seq: int = 1) -> list[Span]:
        """See `Store.spans`."""
        return await self._derived.spans(mailbox, first_seq)

    async def segment(self, mailbox: Mailbox, first_seq: int) -> Segment | None:
        """See `Store.segment`."""
        return await self._derived.segment(mailbox, first_seq)

    async def sought(self, mailbox: Mailbox, index: Index, hashed: int) -> list[int]:
        """See `Store.sought`."""
        return await asyncio.create_task(self._derived.sought(mailbox, index, hashed))

    async def tallies(
        self,
        sdkappid: int,
        first_hour: int,
        last_hour: int,
        *,
        whole: bool = True,  # noqa: ARG002 - a row of this engine cannot be damaged by itself
    ) -> list[Tally]:
        """See `Store.tallies`."""
        return await self._derived.tallies(sdkappid, first_hour, last_hour)

    async def named(self, slots: Sequence[int], sdkappid: int | None = None) -> list[Named]:
        """See `Store.named`."""
        return await self._derived.named(slots, sdkappid)

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
        lists = self._settings
        return lists.settings(since) if prefix is None else lists.named(prefix, since)

    async def setting(self, name: str) -> Setting | None:
        """See `Store.setting`."""
        return await self._settings.setting(name)

    async def settings_of(self, names: Sequence[str]) -> Mapping[str, Setting]:
        """See `Store.settings_of`."""
        return await self._settings.settings_of(names)

    async def marks(self, prefix: str = "") -> dict[str, Noted]:
        """See `Store.marks`."""
        return await self._lists.marks(prefix)

    def under_way(self) -> UnderWay:
        """See `Store.under_way`.

        A server asks for its settings twice a second, so it learns of a database that does not
        answer whatever else is asked.
        """
        found = super().under_way()
        oldest_s = max(found.oldest_s, self._quick.silent_s())
        return msgspec.structs.replace(found, oldest_s=oldest_s)

    async def engine(self) -> Engine:
        """See `Store.engine`. The size is of the last half minute."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._size_due_s:
            self._size = await self._lists.size()
            self._size_due_s = now_s + SIZE_S
        report = self._writer.report
        return Engine(
            report.figures.commits,
            report.figures.commit_s,
            report.figures.operations,
            self._size,
            report.room,
            self._writer.commits,
        )

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        await self._looks.close()
        await self._reads.close()
        await self._upkeep.close()
        await self._following.close()
        await self._writer.close()


def open_lane(location: Location, *, server: bool, moving: bool) -> Log:
    """Open a lane where the committer works."""
    opened = there(location, lambda: open_store(location, create=False))
    return there(location, lambda: Log(location, opened, server=server, moving=moving))


def _check_open(location: Location, opened: Opened, *, server: bool) -> None:
    try:
        check_open(opened.meta.moving, server=server)
    except StoreRefused as error:
        raise StoreRefused(f"{location.shown}: {error}") from error
