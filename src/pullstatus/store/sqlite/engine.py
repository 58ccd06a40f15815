"""`SqliteStore`: the verbs of `Store` over a writer and read-only connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pullstatus import limits
from pullstatus.errors import StoreFull, StoreRefused, StoreSealed
from pullstatus.store.gate import check_open
from pullstatus.store.gathering.committer import Committer
from pullstatus.store.gathering.messages import Watch
from pullstatus.store.gathering.operations import Enter, Mark, Replace
from pullstatus.store.gathering.process import JoinedChannel, ProcessChannel
from pullstatus.store.gathering.store import GatheredStore
from pullstatus.store.gathering.thread import ThreadChannel
from pullstatus.store.gathering.writer import Channel, Writer
from pullstatus.store.segments import Index, Segment
from pullstatus.store.sqlite import acts, derived, gate, reading, schema, transfer
from pullstatus.store.sqlite.connection import file_bytes
from pullstatus.store.sqlite.location import Location
from pullstatus.store.sqlite.opening import open_guarded
from pullstatus.store.sqlite.place import (
    ServerLock,
    begins,
    check_place,
    check_there,
    free_bytes,
    log_bytes,
)
from pullstatus.store.sqlite.reading import ReadPool
from pullstatus.store.sqlite.readonly import ReadOnlyChannel, can_only_be_read
from pullstatus.store.sqlite.retention import Retention
from pullstatus.store.sqlite.stamp import StampReader
from pullstatus.store.sqlite.totals import Survey
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
    Share,
    Span,
    Tally,
    Totals,
    Watching,
)
from pullstatus.store.verbs.pulls import EMPTY
from pullstatus.store.verbs.state import slot
from pullstatus.store.window import Gone

READ_ROWS = 200  # rows a reading step takes before others get their turn
SEARCH_ROWS = 2000  # chunks that it looks through: some 20 ms if they are full

_NOTHING = Mark(())  # an operation that changes nothing


class SqliteStore(GatheredStore):
    """A store in one file. See `pullstatus.store.Store` for what each verb promises.

    Attributes:
        created: whether opening it has made the file.
        epoch: 1, and one more with every restore.
        revision: of the setting that was written last, when it was opened.
        path: of the file, without links in it.
    """

    _writer: Writer

    def __init__(
        self,
        path: Path,
        writer: Writer,
        lock: ServerLock | StampReader | None,
        *,
        created: bool,
        shared: ProcessChannel | JoinedChannel | None = None,
    ) -> None:
        """For `open` and `join`; takes what they have made.

        Args:
            lock: of a server and its workers: by which they learn that another door has committed.
            shared: the writer's channel, if several processes of a server have one to the same end.
        """
        super().__init__(writer, created=created)
        self.path = path
        self._lock = lock
        self._shared = shared
        # Entries that wait, by `slot`; None of a mailbox that was not used.
        self._waits = writer.waiting.get if shared is None else shared.table.get
        self._reads = ReadPool(path)
        self._survey = Survey()
        self._retention = Retention()
        self._closed = False

    @classmethod
    async def open(
        cls,
        location: Location,
        *,
        create: bool = True,
        server: bool = False,
        shared: bool = False,
        reserve_bytes: int = limits.STORE_RESERVE_BYTES,
        on_failure: Callable[[BaseException], None] | None = None,
        moving: bool = False,
    ) -> SqliteStore:
        """Open or make a file; the further arguments are those of `open_store`.

        Args:
            moving: to move it, or to fill it from another, whatever it says of that.

        Raises:
            StoreRefused: the place, the file or its format is not safe to use.
        """
        name = location.path.absolute()
        path = await asyncio.to_thread(real, name)
        if not create:
            check_there(path)
        if not (create or server) and can_only_be_read(path):
            return await cls.read(location)
        await asyncio.to_thread(check_place, path, any_file_system=location.any_file_system)
        created = await asyncio.to_thread(begins, path)
        _make_private(path)
        lock = await asyncio.to_thread(ServerLock, path, making=created) if server else None
        apart = shared or (server if location.apart is None else location.apart)
        open_log = partial(
            open_guarded, path, name, server=server, reserve_bytes=reserve_bytes, moving=moving
        )
        try:
            channel: Channel
            if apart:
                held = [] if lock is None else [lock.fileno()]
                channel = await ProcessChannel.open(open_log, held, shared=shared)
            else:
                channel = ThreadChannel(Committer(await asyncio.to_thread(open_log)))
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        common = channel if shared and isinstance(channel, ProcessChannel) else None
        store = cls(path, Writer(channel, on_failure), lock, created=created, shared=common)
        return await store._ready()

    @classmethod
    async def read(cls, location: Location) -> SqliteStore:
        """Open a file of which nothing is to be changed; see `read_store`.

        Raises:
            StoreRefused: it cannot be read as it is.
        """
        path = await asyncio.to_thread(real, location.path.absolute())
        check_there(path)
        channel = await asyncio.to_thread(ReadOnlyChannel, path)
        store = cls(path, Writer(channel, None), None, created=False)
        return await store._ready()

    @classmethod
    async def join(
        cls,
        location: Location,
        share: Share,
        *,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> SqliteStore:
        """Use a store that a server has opened to be shared; see `join_store`.

        Raises:
            StoreRefused: the server's store is gone.
        """
        path = await asyncio.to_thread(real, location.path.absolute())
        reader = StampReader(path)
        try:
            channel = await JoinedChannel.join(share)
        except BaseException:
            reader.release()
            raise
        writer = Writer(channel, on_failure, sharers=share.sharers)
        store = cls(path, writer, reader, created=False, shared=channel)
        return await store._ready()

    def share(self, sharers: int) -> Share:
        """What another process joins this store by; see `share_store`."""
        assert isinstance(self._shared, ProcessChannel)
        return self._shared.share(sharers)

    async def _ready(self) -> SqliteStore:
        """This store, once it knows its epoch and where changes of settings go on."""
        try:
            self.epoch, self.revision = await asyncio.to_thread(reading.beginning, self.path)
            if self.created and isinstance(self._lock, ServerLock):
                self._lock.made()
        except BaseException:
            await self.close()
            raise
        return self

    # -- writing ---------------------------------------------------------------------------------

    async def pull(self, operation: Pull, gone: Gone | None = None) -> Page:
        """See `Store.pull`.

        A pull from a server that finds nothing and leaves no trace costs no commit, unless the
        stamp says that there was one behind its back. A command beside a server learns only from
        the file what there is.
        """
        if not operation.leaves_trace and self.surely_empty(operation.mailbox):
            return EMPTY
        return await self._writer.submit(operation, gone)

    def surely_empty(self, mailbox: Mailbox) -> bool:
        """See `Store.surely_empty`."""
        return (
            self._lock is not None
            and self._waits(slot(mailbox)) == 0
            and self._writer.works
            and self._lock.stamp() == self._writer.report.as_of
        )

    async def _due_for_purge(self, left_before_ms: int) -> list[Mailbox]:
        ask, retention = self._reads.ask, self._retention
        runs = await ask(lambda connection: retention.to_read(connection, left_before_ms))
        due: list[Mailbox] = []
        for run in runs:
            due += await ask(
                lambda connection, run=run: retention.due(  # type: ignore[misc]
                    connection, run, left_before_ms
                )
            )
        return due

    # -- becoming another ------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """See `Transfer`."""
        return f"sqlite:///{self.path}"

    async def migration(self) -> Migration | None:
        """See `Transfer.migration`."""
        return await self._reads.ask(gate.read)

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
        return await self._reads.ask(
            lambda connection: transfer.rows(connection, part, after, mailboxes)
        )

    async def replace(self, part: Part, drop: Sequence[Row], put: Sequence[Row]) -> None:
        """See `Transfer.replace`. Refused as `append` is."""
        self._check_room()
        await self._writer.submit(Replace(part, drop, put))

    # -- reading ---------------------------------------------------------------------------------

    def watch(
        self, mailbox: Mailbox, on_arrival: Callable[[], None], since_s: float = 0.0
    ) -> Watching:
        """See `Store.watch`. Other processes' commits are noticed a fifth of a second later."""
        number = slot(mailbox)
        unwatch = self._writer.watch(number, on_arrival)
        channel = self._shared
        if not isinstance(channel, JoinedChannel):
            return unwatch

        def watching(since_s: float | None = None) -> None:
            unwatch(since_s)
            channel.watch(Watch(number, since_s))

        channel.watch(Watch(number, since_s))
        return watching

    async def backlog(self, sdkappid: int | None = None) -> list[Backlog]:
        """See `Store.backlog`."""
        return await self._reads.ask(lambda connection: reading.backlog(connection, sdkappid))

    async def totals(self, worst: int = 0) -> Totals:
        """See `Store.totals`."""
        survey = await self._surveyed()
        of, rows = await self._reads.ask(lambda connection: survey.look(connection, worst))
        return Totals(of, await self._reads.ask(reading.in_hand), rows)

    async def behind(self, count_max: int) -> list[Backlog]:
        """See `Store.behind`."""
        survey = await self._surveyed()
        return await self._reads.ask(lambda connection: survey.behind(connection, count_max))

    async def pending(self, count_max: int) -> list[Backlog]:
        """See `Store.pending`."""
        survey = await self._surveyed()
        return await self._reads.ask(lambda connection: survey.pending(connection, count_max))

    async def _surveyed(self) -> Survey:
        """What keeps sums, and knows what has changed since.

        Only a server is told of every change, so only it can keep them.
        """
        if self._lock is not None and not isinstance(self._shared, JoinedChannel):
            # And so learn what another door has done, or another process of this server.
            with contextlib.suppress(StoreSealed):  # then it is summed anew
                if self._writer.works and (
                    self._shared is not None or self._lock.stamp() != self._writer.report.as_of
                ):
                    await self._writer.submit(_NOTHING)
                self._survey.tell(self._writer.take_changed())
                return self._survey
        return Survey()

    async def commit_s(self) -> float:
        """See `Store.commit_s`. Of what others have committed only an answer tells."""
        if self._shared is not None:
            await self._writer.submit(_NOTHING)
        return await super().commit_s()

    async def runs(self, mailbox: Mailbox, first_seq: int, count_max: int) -> list[Run]:
        """See `Store.runs`."""
        return await self._reads.ask(
            lambda connection: derived.runs(connection, mailbox, first_seq, count_max)
        )

    async def entries_at(self, mailbox: Mailbox, seqs: Sequence[int]) -> list[Entry]:
        """See `Store.entries_at`."""
        found: list[Entry] = []
        for start in range(0, len(seqs), READ_ROWS):
            some = seqs[start : start + READ_ROWS]
            found += await self._reads.ask(
                lambda connection, some=some: derived.entries_at(  # type: ignore[misc]
                    connection, mailbox, some
                )
            )
        return found

    async def spans(self, mailbox: Mailbox, first_seq: int = 1) -> list[Span]:
        """See `Store.spans`."""
        return await self._reads.ask(
            lambda connection: derived.spans(connection, mailbox, first_seq)
        )

    async def segment(self, mailbox: Mailbox, first_seq: int) -> Segment | None:
        """See `Store.segment`."""
        return await self._reads.ask(
            lambda connection: derived.segment(connection, mailbox, first_seq)
        )

    async def sought(self, mailbox: Mailbox, index: Index, hashed: int) -> list[int]:
        """See `Store.sought`."""
        found: list[int] = []
        next_seq: int | None = 1
        while next_seq is not None:
            some, next_seq = await self._reads.ask(
                lambda connection, first=next_seq: derived.sought(  # type: ignore[misc]
                    connection, mailbox, index, hashed, first
                )
            )
            found += [seq for seq in some if not found or seq > found[-1]]
        return found

    async def tallies(
        self, sdkappid: int, first_hour: int, last_hour: int, *, whole: bool = True
    ) -> list[Tally]:
        """See `Store.tallies`."""
        return await self._reads.ask(
            lambda connection: derived.tallies(
                connection, sdkappid, first_hour, last_hour, whole=whole
            )
        )

    async def named(self, slots: Sequence[int], sdkappid: int | None = None) -> list[Named]:
        """See `Store.named`."""
        return await self._reads.ask(lambda connection: derived.named(connection, slots, sdkappid))

    async def entries(
        self, mailbox: Mailbox, first_seq: int = 1, *, containing: bytes | None = None
    ) -> AsyncIterator[Entry]:
        """See `Store.entries`."""
        ask = self._reads.ask
        first_seq = max(1, first_seq)  # below lie the keys of other mailboxes
        base = await ask(lambda connection: reading.base(connection, mailbox))
        if base is None:
            return
        rows_max = READ_ROWS if containing is None else SEARCH_ROWS
        next_seq: int | None = first_seq
        while next_seq is not None:
            found, next_seq = await ask(
                partial(
                    reading.entries,
                    base=base,
                    first_seq=next_seq,
                    containing=containing,
                    rows_max=rows_max,
                    found_max=READ_ROWS,
                )
            )
            for entry in found:
                yield entry

    async def journal(
        self, mailbox: Mailbox, first_seq: int = 1, *, newest_first: bool = False
    ) -> AsyncIterator[JournalRow]:
        """See `Store.journal`."""
        base = await self._reads.ask(lambda connection: reading.base(connection, mailbox))
        if base is None:
            return
        first, last = max(1, first_seq), schema.SEQ_MASK
        while True:
            lowest, highest = base | first, base | last
            rows = await self._reads.ask(
                lambda connection, lowest=lowest, highest=highest: reading.journal(  # type: ignore[misc]
                    connection, mailbox, lowest, highest, READ_ROWS, backwards=newest_first
                )
            )
            if not rows:
                return
            for row in rows:
                yield row
            if newest_first:
                last = rows[-1].first_seq - 1
            else:
                first = rows[-1].first_seq + 1

    async def keyed(self, sdkappid: int, key: str) -> Sequence[JournalRow]:
        """See `Store.keyed`."""
        return await self._reads.ask(lambda connection: reading.keyed(connection, sdkappid, key))

    async def readers(self, sdkappid: int | None = None) -> AsyncIterator[ReaderState]:
        """See `Store.readers`."""
        after = (0, "")
        while True:
            step = await self._reads.ask(
                lambda connection, after=after: reading.readers(  # type: ignore[misc]
                    connection, sdkappid, after, READ_ROWS
                )
            )
            if not step:
                return
            for _, state in step:
                yield state
            after = (step[-1][0], step[-1][1].name)

    async def again(self, mailbox: Mailbox, first_seq: int = 1) -> AsyncIterator[Again]:
        """See `Store.again`."""
        after = (0, 0)
        while rows := await self._reads.ask(
            lambda connection, after=after: reading.again(  # type: ignore[misc]
                connection, mailbox, first_seq, after, READ_ROWS
            )
        ):
            for row in rows:
                yield row
            after = rows[-1].first_seq, rows[-1].act_id

    async def acts(self, *, newest_first: bool = False) -> AsyncIterator[ActRow]:
        """See `Store.acts`."""
        first, last = -schema.ACT_ID_MAX, schema.ACT_ID_MAX  # whoever tampers may number below 1
        while True:
            rows = await self._reads.ask(
                lambda connection, first=first, last=last: acts.step(  # type: ignore[misc]
                    connection, first, last, READ_ROWS, backwards=newest_first
                )
            )
            if not rows:
                return
            for row in rows:
                yield row
            if newest_first:
                last = rows[-1].act_id - 1
            else:
                first = rows[-1].act_id + 1

    async def settings(
        self, since: int = 0, *, prefix: str | None = None
    ) -> AsyncIterator[Setting]:
        """See `Store.settings`. There is one writer, so revisions become visible in their order."""
        if prefix is not None:
            async for row in self._named(prefix, since):
                yield row
            return
        count = READ_ROWS
        while count == READ_ROWS:
            rows = await self._reads.ask(
                lambda connection, since=since: reading.settings(  # type: ignore[misc]
                    connection, since, READ_ROWS
                )
            )
            for row in rows:
                yield row
                since = row.revision
            count = len(rows)

    async def _named(self, prefix: str, since: int) -> AsyncIterator[Setting]:
        first: str | None = prefix
        while first is not None:
            rows = await self._reads.ask(
                lambda connection, first=first: reading.named(  # type: ignore[misc]
                    connection, prefix, first, since, READ_ROWS
                )
            )
            for row in rows:
                yield row
            first = rows[-1].name + "\0" if len(rows) == READ_ROWS else None

    async def setting(self, name: str) -> Setting | None:
        """See `Store.setting`."""
        return await self._reads.ask(lambda connection: reading.setting(connection, name))

    async def settings_of(self, names: Sequence[str]) -> Mapping[str, Setting]:
        """See `Store.settings_of`."""
        found = await self._reads.ask(lambda connection: reading.settings_of(connection, names))
        return {setting.name: setting for setting in found}

    async def marks(self, prefix: str = "") -> dict[str, Noted]:
        """See `Store.marks`."""
        return await self._reads.ask(lambda connection: reading.marks(connection, prefix))

    async def engine(self) -> Engine:
        """See `Store.engine`."""
        size = await self._reads.ask(lambda _connection: file_bytes(self.path))
        report = self._writer.report
        return Engine(
            report.figures.commits,
            report.figures.commit_s,
            report.figures.operations,
            size,
            report.room,
            self._writer.commits,
            *await asyncio.to_thread(lambda: (log_bytes(self.path), free_bytes(self.path))),
        )

    def _check_room(self) -> None:
        if not self._writer.report.room:
            if log_bytes(self.path) > limits.STORE_LOG_BYTES_MAX:
                raise StoreFull(
                    "the store's log is too long: a program that has read the store for long keeps"
                    " it from being folded; end that, such as a backup that was stopped"
                )
            raise StoreFull("the disk is nearly full; free some space and try again")

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        await self._reads.close()
        await self._writer.close()  # last: whoever closes last folds the log into the file
        if self._lock is not None:
            self._lock.release()


def real(path: Path) -> Path:
    """The one name of a file: by two names, two servers would each hold a lock of their own."""
    return Path(os.path.realpath(path))


def _make_private(path: Path) -> None:
    """Make the file before SQLite does, readable by its owner only: it holds keys and numbers.

    A file that is there is left alone: closing a handle of it would drop SQLite's locks on it.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreRefused(f"{path} cannot be made: {error.strerror}") from error
