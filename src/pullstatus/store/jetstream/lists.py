"""What can be listed of a store, asked in threads, in steps, each of its own moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, TypeVar

import msgspec

from pullstatus.errors import StoreDamaged
from pullstatus.store import chunk
from pullstatus.store.jetstream import chunks, common, snapshots
from pullstatus.store.jetstream.messages import (
    ActMessage,
    AgainMessage,
    Box,
    Chunk,
    Commit,
    CommonCommit,
    KeyMessage,
    MarkMessage,
    ReaderMessage,
    Row,
    SettingMessage,
    is_whole,
    opened,
)
from pullstatus.store.jetstream.subjects import Layout, Place
from pullstatus.store.jetstream.wire import Bus, Message
from pullstatus.store.texts import decoded
from pullstatus.store.values import (
    Act,
    ActRow,
    Again,
    Backlog,
    Entry,
    JournalRow,
    Mailbox,
    Noted,
    ReaderState,
    Setting,
)
from pullstatus.store.verbs.state import key_of, slot
from pullstatus.store.verbs.tables import ReaderRow

ROWS: Final = 200  # that one step reads
COMMITS: Final = 256
ENDS_MAX: Final = 1000
KEPT_MAX: Final = 10_000  # journal rows, of some hundred bytes each

T = TypeVar("T")


class ApplicationStanding(msgspec.Struct, frozen=True):
    """How an application stands: its newest commit."""

    place: Place
    sdkappid: int
    newest: int
    boxes: Sequence[Box]
    gate: int

    def box(self, kind: int) -> Box | None:
        """One of its mailboxes, if there is such."""
        return next((box for box in self.boxes if box.kind == kind and box.tail), None)


class Lists:
    """The reading verbs; see `pullstatus.store.Store` for what each promises."""

    def __init__(self, bus: Bus, layout: Layout) -> None:
        """Ask over `bus`."""
        self._bus = bus
        self._layout = layout
        self._common = layout.common
        # By mailbox, the number behind a chunk that was read, and the place of the next one.
        self._ends: dict[Mailbox, tuple[int, int]] = {}
        self._reached = (0, 0)  # a revision, and a sequence: settings of later ones lie behind it
        self._names: tuple[int, Sequence[str]] | None = None  # of all settings, as of a revision

    # -- how applications stand

    def standing(self, sdkappid: int) -> ApplicationStanding | None:
        """How one stands, as the leader says."""
        place = self._layout.application(sdkappid)
        message = self._bus.last(place.stream, place.commits, leader=True)
        return None if message is None else standing_of(place, sdkappid, message)

    def standings_of(
        self, sdkappids: Sequence[int]
    ) -> dict[int, ApplicationStanding | Exception | None]:
        """How some of one partition stand, or what is wrong with one; see `standing`."""
        places = [self._layout.application(sdkappid) for sdkappid in sdkappids]
        commits = [place.commits for place in places]
        told = snapshots.newest_of_each(self._bus, places[0].stream, commits)
        found: dict[int, ApplicationStanding | Exception | None] = {}
        for sdkappid, place, message in zip(sdkappids, places, told, strict=True):
            try:
                found[sdkappid] = message and standing_of(place, sdkappid, message)
            except StoreDamaged as error:
                found[sdkappid] = error
        return found

    def moment(self, sdkappid: int) -> tuple[ApplicationStanding, dict[str, Message]] | None:
        """How one stands by now, with its readers and the pages kept for them, as of that commit.

        These messages are by subject. So many that no node tells them at once are as they are now.
        """
        standing = self.standing(sdkappid)
        if standing is None:
            return None
        place = standing.place
        patterns = [
            pattern
            for box in standing.boxes
            for pattern in (place.readers(box.kind), place.pages(box.kind))
        ]
        try:
            found = self._bus.lasts(
                place.stream, [place.commits, *patterns], at_least=standing.newest
            )
        except ValueError:
            names = [
                name for pattern in patterns for name in self._bus.subjects(place.stream, pattern)
            ]
            told = snapshots.latest(self._bus, place.stream, names)
            return standing, {message.subject: message for message in told}
        return standing_of(place, sdkappid, found.pop(place.commits)), found

    def standings(self) -> Iterator[ApplicationStanding]:
        """How all stand, with all that was committed before this was called.

        Without one of which that is damaged: it is what its own operations are told, and the audit.
        """
        for stream, names in self._commits():
            for message in snapshots.latest(self._bus, stream, names):
                sdkappid = number_of(message.subject)
                with contextlib.suppress(StoreDamaged):
                    yield standing_of(self._layout.application(sdkappid), sdkappid, message)

    def applications(self) -> Iterator[int]:
        """The numbers of all that have ever committed."""
        for _, names in self._commits():
            yield from map(number_of, names)

    def _commits(self) -> Iterator[tuple[str, Sequence[str]]]:
        for partition in range(self._layout.partitions):
            stream = self._layout.stream(partition)
            yield stream, self._bus.subjects(stream, f"{self._layout.name}.{partition}.*.c")

    async def backlog(self, sdkappid: int | None) -> list[Backlog]:
        """See `Store.backlog`."""
        return await asyncio.to_thread(self._backlog, sdkappid)

    def _backlog(self, sdkappid: int | None) -> list[Backlog]:
        if sdkappid is None:
            found = self.standings()
        else:
            one = self.standing(sdkappid)
            found = iter(() if one is None else (one,))
        rows = [
            self.backlog_of(standing, box)
            for standing in found
            for box in standing.boxes
            if box.tail
        ]
        return sorted(rows, key=lambda row: row.mailbox)

    def backlog_of(self, standing: ApplicationStanding, box: Box) -> Backlog:
        """How a mailbox stands."""
        oldest_ms = None
        if box.cursor < box.tail and box.waits_ms:
            oldest_ms = box.waits_ms
        elif box.cursor < box.tail:
            waiting = chunks.chunks_of_box(
                self._bus, standing.place, box, box.cursor + 1, standing.newest
            )
            first = next(waiting, None)
            oldest_ms = None if first is None else first.accepted_at(box.cursor + 1)
        return Backlog(
            *(Mailbox(standing.sdkappid, box.kind), box.tail, box.handed_out),
            *(box.tail - box.cursor, box.expired, box.erased, box.quarantined, box.put_back),
            *(box.routed, box.purged, oldest_ms),
            box.pulled_ms if box.pulled_seq > box.purged else None,
            box.mark,
        )

    # -- entries

    async def entries(
        self, mailbox: Mailbox, first_seq: int, containing: bytes | None
    ) -> AsyncIterator[Entry]:
        """See `Store.entries`."""
        async for each in _in_steps(lambda: self.chunks(mailbox, max(1, first_seq))):
            for entry in entries_of(mailbox, each, first_seq, containing):
                yield entry

    def chunks(self, mailbox: Mailbox, first_seq: int) -> Iterator[Chunk]:
        """The chunks of a mailbox by now, from the one on that holds an entry."""
        standing = self.standing(mailbox.sdkappid)
        box = None if standing is None else standing.box(mailbox.holds)
        if standing is None or box is None or first_seq > box.tail:
            return
        first_seq = max(first_seq, box.purged + 1)
        reached, at = self._ends.get(mailbox, (0, 0))
        for each in chunks.chunks_of_box(
            *(self._bus, standing.place, box, first_seq, standing.newest),
            at if reached == first_seq else None,
        ):
            if each.whole and each.sequences and not box.anew_from:
                if len(self._ends) >= ENDS_MAX:
                    self._ends.clear()
                self._ends[mailbox] = each.next_seq, each.sequences[-1] + 1
            yield each

    # -- the journal

    async def journal(
        self, mailbox: Mailbox, first_seq: int, *, newest_first: bool
    ) -> AsyncIterator[JournalRow]:
        """See `Store.journal`."""
        rows = self._rows_back if newest_first else self._rows
        async for row in _in_steps(lambda: rows(mailbox, first_seq)):
            yield row

    def _rows(self, mailbox: Mailbox, first_seq: int) -> Iterator[JournalRow]:
        """Journal rows in order, each with what was noted of it until now."""
        standing = self.standing(mailbox.sdkappid)
        box = None if standing is None else standing.box(mailbox.holds)
        if standing is None or box is None or box.purged == box.cursor:
            return
        at = box.rows_at
        if first_seq > box.purged + 1:
            at = snapshots.row_place(
                self._bus, standing.place, box.kind, first_seq, standing.newest
            )
        for row in rows_from(self._bus, standing, box, at):
            if row.first_seq >= first_seq:
                yield row

    def _rows_back(self, mailbox: Mailbox, first_seq: int) -> Iterator[JournalRow]:
        """Journal rows backwards: so notes come before their rows."""
        standing = self.standing(mailbox.sdkappid)
        box = None if standing is None else standing.box(mailbox.holds)
        if standing is None or box is None or box.purged == box.cursor:
            return
        notes = Notes(box.kind)
        for commit in self._commits_back(standing.place, box.rows_at, standing.newest):
            notes.learn(commit)
            for row in reversed(commit.rows):
                if row.kind != box.kind:
                    continue
                if row.first_seq + row.size - 1 <= box.purged or row.first_seq < first_seq:
                    return
                yield notes.told(row.journal_row(mailbox.sdkappid, box.purged))

    def _commits_back(self, place: Place, at: int, newest: int) -> Iterator[Commit]:
        """Commits backwards, by windows of sequences which fit how close they lie."""
        width, high = COMMITS, newest
        while high >= at:
            low = max(at, high - width + 1)
            found = [commit for _, commit in snapshots.commits_from(self._bus, place, low, high)]
            yield from reversed(found)
            width = 2 * width if len(found) < COMMITS // 2 else max(1, width // 2)
            high = low - 1

    async def keyed(self, sdkappid: int, key: str) -> Sequence[JournalRow]:
        """See `Store.keyed`."""

        def rows() -> list[JournalRow]:
            standing = self.standing(sdkappid)
            if standing is None:
                return []
            place, newest = standing.place, standing.newest
            found: dict[tuple[int, int], JournalRow] = {}
            for message in snapshots.all_of(self._bus, place.stream, place.key(key), newest):
                for taken in opened(message, KeyMessage).taken:
                    box = standing.box(taken.kind)
                    if box is None or (taken.kind, taken.first_seq) in found:
                        continue
                    for row in self._row_at(standing, taken.row_at):
                        if (row.kind, row.first_seq) != (taken.kind, taken.first_seq):
                            continue
                        if row.first_seq > box.purged:
                            told = row.journal_row(sdkappid, box.purged)
                            found[taken.kind, taken.first_seq] = told
            return [found[each] for each in sorted(found)]

        return await asyncio.to_thread(rows)

    def _row_at(self, standing: ApplicationStanding, at: int) -> Sequence[Row]:
        commits = snapshots.commits_from(self._bus, standing.place, at, standing.newest)
        return next((commit.rows for _, commit in commits), ())

    async def again(self, mailbox: Mailbox, first_seq: int) -> AsyncIterator[Again]:
        """See `Store.again`."""

        def rows() -> Iterator[Again]:
            standing = self.standing(mailbox.sdkappid)
            box = None if standing is None else standing.box(mailbox.holds)
            if standing is None or box is None:
                return
            subject = standing.place.again(box.kind)
            for message in snapshots.all_of(
                self._bus, standing.place.stream, subject, standing.newest
            ):
                row = opened(message, AgainMessage).behind(box.purged)
                if row is not None and row.first_seq + row.size > first_seq:
                    yield Again(row.first_seq, row.size, row.source_seq, row.act_id)

        async for row in _in_steps(rows):
            yield row

    async def readers(self, sdkappid: int | None) -> AsyncIterator[ReaderState]:
        """See `Store.readers`."""
        whose = None if sdkappid is None else {sdkappid}
        async for state in _in_steps(lambda: self.readers_of(whose)):
            yield state

    def readers_of(
        self, whose: Collection[int] | None, *, damaged: bool = True
    ) -> Iterator[ReaderState]:
        """All readers of some applications, or of all.

        Args:
            damaged: one that is damaged is refused; else it is passed over.
        """
        partitions: Iterable[int] = range(self._layout.partitions)
        if whose is not None:
            partitions = sorted({self._layout.partition(sdkappid) for sdkappid in whose})
        for partition in partitions:
            stream, begin = self._layout.stream(partition), f"{self._layout.name}.{partition}"
            [only] = whose if whose is not None and len(whose) == 1 else ("*",)
            places: dict[tuple[int, int], list[str]] = {}
            for name in self._bus.subjects(stream, f"{begin}.{only}.*.reader.*"):
                sdkappid, kind = map(int, name.split(".")[2:4])
                if whose is None or sdkappid in whose:
                    places.setdefault((sdkappid, kind), []).append(name)
            for (sdkappid, kind), names in sorted(places.items()):
                mailbox = Mailbox(sdkappid, kind)
                told = [
                    opened(message, ReaderMessage)
                    for message in snapshots.latest(self._bus, stream, names)
                    if damaged or is_whole(message)
                ]
                for reader in sorted(told, key=lambda reader: reader.name):
                    if reader.row is not None:
                        yield _reader_state(mailbox, reader.name, reader.row)

    # -- what is of no application

    def common(self) -> CommonCommit:
        """How it stands, as the leader says."""
        told, _ = self._newest_common()
        return told

    def _newest_common(self) -> tuple[CommonCommit, int]:
        """The same, and the sequence of the commit that tells it."""
        place = self._common
        message = self._bus.last(place.stream, place.commits, leader=True)
        if message is None:
            return CommonCommit(0), 0
        return opened(message, CommonCommit), message.sequence

    def revision(self) -> int:
        """Of the newest setting; what is asked for from there on is found at once."""
        told, sequence = self._newest_common()
        self._reached = told.revision, sequence
        return told.revision

    async def acts(self, *, newest_first: bool) -> AsyncIterator[ActRow]:
        """See `Store.acts`."""
        async for row in _in_steps(lambda: self.act_rows(newest_first=newest_first)):
            yield row

    def act_rows(self, *, newest_first: bool = False) -> Iterator[ActRow]:
        """See `Store.acts`."""
        numbers = range(1, self.common().act_id + 1)
        names = [self._common.act(number) for number in numbers]
        names = names[::-1] if newest_first else names
        for message in snapshots.latest(self._bus, self._common.stream, names):
            yield act_row(opened(message, ActMessage))

    async def settings(self, since: int) -> AsyncIterator[Setting]:
        """Settings by revision."""
        async for row in _in_steps(lambda: self.setting_rows(since)):
            yield row

    def setting_rows(self, since: int = 0) -> Iterator[Setting]:
        """Settings by revision, which is the order in which they lie."""
        self._names = None
        told, commit = self._newest_common()
        if told.revision <= since:
            self._reached = max(self._reached, (told.revision, commit))
            return
        revision, sequence = self._reached
        at = sequence + 1 if revision <= since else 1
        stream, subject = self._common.stream, self._common.settings
        while messages := self._bus.following(stream, subject, at, count=ROWS, leader=True):
            for message in messages:
                setting = opened(message, SettingMessage)
                self._reached = max(self._reached, (setting.revision, message.sequence))
                if setting.revision > since:
                    yield setting_of(setting)
            at = messages[-1].sequence + 1

    async def named(self, prefix: str, since: int) -> AsyncIterator[Setting]:
        """Settings whose names begin so, by name."""
        place = self._common

        def rows() -> Iterator[Setting]:
            names = _beginning(self._setting_names(), place.setting(prefix))
            for message in snapshots.latest(self._bus, place.stream, names):
                told = opened(message, SettingMessage)
                if told.revision > since:
                    yield setting_of(told)

        async for row in _in_steps(rows):
            yield row

    def _setting_names(self) -> Sequence[str]:
        """The subjects of all settings by now.

        No node lists a part of them. So whoever asks for one part after the other, as a server does
        at its start, has them listed once; they are let go of when changes are asked for.
        """
        revision = self.common().revision
        known = self._names
        if known is None or known[0] != revision:
            place = self._common
            known = self._names = revision, self._bus.subjects(place.stream, place.settings)
        return known[1]

    async def setting(self, name: str) -> Setting | None:
        """See `Store.setting`."""
        message = await asyncio.to_thread(self._last_setting, name)
        return None if message is None else setting_of(message)

    async def settings_of(self, names: Sequence[str]) -> dict[str, Setting | StoreDamaged]:
        """See `Store.settings_of`."""
        found = await asyncio.to_thread(common.settings_of, self._bus, self._common, names)
        return {
            name: setting_of(told) if isinstance(told, SettingMessage) else told
            for name, told in found.items()
        }

    def _last_setting(self, name: str) -> SettingMessage | None:
        place = self._common
        message = self._bus.last(place.stream, place.setting(name), leader=True)
        return None if message is None else opened(message, SettingMessage)

    def revisions(self, names: Sequence[str]) -> dict[str, int | Exception]:
        """See `common.revisions`."""
        return common.revisions(self._bus, self._common, names)

    async def marks(self, prefix: str) -> dict[str, Noted]:
        """See `Store.marks`."""

        def noted() -> dict[str, Noted]:
            place = self._common
            every = self._bus.subjects(place.stream, place.marks)
            names = _beginning(every, place.mark(prefix))
            found = snapshots.latest(self._bus, place.stream, names)
            told = [opened(message, MarkMessage) for message in found]
            return {
                decoded(each.name): Noted(each.at_ms, decoded(each.place))
                for each in told
                if each.at_ms
            }

        return await asyncio.to_thread(noted)

    async def size(self) -> int:
        """Bytes of all streams."""
        names = [stream for stream, _ in self._layout.streams]
        return await asyncio.to_thread(lambda: sum(map(self._bus.size, names)))


def rows_from(bus: Bus, standing: ApplicationStanding, box: Box, at: int) -> Iterator[JournalRow]:
    """Journal rows of a mailbox from a place on, each with what was noted of it until now.

    Notes lie behind their rows, so all commits are gone through first. The rows of the first of
    them are kept meanwhile, and the others are gone through again.
    """
    notes = Notes(box.kind)
    kept: list[Row] = []
    again = 0
    for sequence, commit in snapshots.commits_from(bus, standing.place, at, standing.newest):
        notes.learn(commit)
        if len(kept) < KEPT_MAX:
            kept += commit.rows
        else:
            again = again or sequence
    further: Iterator[tuple[int, Commit]] = iter(())
    if again:
        further = snapshots.commits_from(bus, standing.place, again, standing.newest)
    for row in chain(kept, (row for _, commit in further for row in commit.rows)):
        if row.kind == box.kind and row.first_seq + row.size - 1 > box.purged:
            yield notes.told(row.journal_row(standing.sdkappid, box.purged))


class Notes:
    """What was noted of journal rows of a mailbox."""

    def __init__(self, kind: int) -> None:
        """Nothing yet."""
        self._kind = kind
        self._given: dict[int, int] = {}
        self._acked_ms: dict[int, int] = {}
        self._released_ms: dict[int, int] = {}

    def learn(self, commit: Commit) -> None:
        """Take in what a commit notes."""
        for note in commit.notes:
            if note.kind != self._kind:
                continue
            if note.acked_ms is not None:
                self._acked_ms[note.first_seq] = note.acked_ms
            elif note.released_ms is not None:
                self._released_ms[note.first_seq] = note.released_ms
            else:
                self._given[note.first_seq] = self._given.get(note.first_seq, 0) + note.given

    def told(self, row: JournalRow) -> JournalRow:
        """A row with what was noted of it."""
        if row.reader is None:
            return row
        return msgspec.structs.replace(
            row,
            given=1 + self._given.get(row.first_seq, 0),
            acked_ms=self._acked_ms.get(row.first_seq),
            released_ms=self._released_ms.get(row.first_seq),
        )


def _beginning(names: Sequence[str], begin: str) -> list[str]:
    """Those that begin so, in order."""
    return sorted(name for name in names if name.startswith(begin))


async def _in_steps(begin: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """What an iterator gives that blocks, gone on with in a thread, so many at once."""
    rows = begin()
    while step := await asyncio.to_thread(lambda: list(islice(rows, ROWS))):
        for row in step:
            yield row


def number_of(commits: str) -> int:
    """Of the application whose commits have this subject."""
    return int(commits.split(".")[-2])


def standing_of(place: Place, sdkappid: int, message: Message) -> ApplicationStanding:
    """How an application stands after a commit."""
    told = opened(message, Commit)
    return ApplicationStanding(place, sdkappid, message.sequence, told.boxes, told.gate)


def entries_of(
    mailbox: Mailbox, stored: Chunk, first_seq: int, containing: bytes | None = None
) -> Iterator[Entry]:
    """The entries of a chunk from a number on that prove themselves, and hold some bytes."""
    first, count, checksum, bounds, body = stored.row
    if containing is not None:
        joined = chunk.readable(bounds, body)
        if joined is None or containing not in joined:
            return
    origins = chunk.origins(stored.label, chunk.entry_count(bounds), stored.accepted_ms)
    key = key_of(slot(mailbox)) + first
    for place, data in chunk.proven(key, count, checksum, bounds, body):
        if first + place >= first_seq and (containing is None or containing in data):
            yield Entry(first + place, origins[place].at_ms, data, origins[place].ticket)


def times_of(stored: Chunk) -> list[int]:
    """When each of a chunk's entries was accepted, as far as that is told."""
    count = stored.next_seq - stored.row.first_seq
    return [each.at_ms for each in chunk.origins(stored.label, count, stored.accepted_ms)]


def _reader_state(mailbox: Mailbox, name: bytes, row: ReaderRow) -> ReaderState:
    return ReaderState(
        *(mailbox, decoded(name), row.kept, row.first_seq, row.count, row.taken_ms),
        *(row.given, row.acked_seq, row.at_ms),
    )


def act_row(told: ActMessage) -> ActRow:
    """An act as it is told."""
    act = Act(
        *(decoded(told.actor), decoded(told.action), decoded(told.reason), decoded(told.detail)),
        *(told.at_ms, told.ticket),
    )
    return ActRow(told.act_id, act, told.proof)


def setting_of(told: SettingMessage) -> Setting:
    """A setting as it is told."""
    return Setting(decoded(told.name), told.value, told.revision, told.ticket)
