"""The follower: what is derived of entries is made behind the log, and never in their own commit.

    entries   1 .............. mark .......... tail
              segments, tallies     read, and followed next

Of every record a segment has a keyed hash of its number's end and of its sid, by which `questions`
and `search` find it; and a tally has its hour and what it says, for `statistics`. Both, and the
mark up to which that is so, are kept in one commit (`store.Follow`): what is derived is a function
of the entries up to the mark, and can be made anew from them.

Segments lie in frames, and those at the end of a frame are merged as they come: one takes those
before it along that are not twice as long. So a frame has some twenty at most, one once it is full,
and an entry is written again some five times at most.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Final

from pullstatus.apps.operator import RandomHex
from pullstatus.apps.values import INDEX_KEY
from pullstatus.errors import StoreCorrupt, StoreDamaged
from pullstatus.mailbox import fields, index
from pullstatus.mailbox.fields import Fields, Status
from pullstatus.mailbox.search import copies_of, source_of
from pullstatus.mailbox.standing import of_records, standing_of
from pullstatus.mailbox.tallies import (
    LAST_HOUR,
    SET_BACK,
    WIDTH,
    columns_of,
    columns_of_status,
    set_back_series,
)
from pullstatus.records import Kind
from pullstatus.records.hours import in_calendar, nearest_hours, written
from pullstatus.records.numbers import endings
from pullstatus.store import (
    Again,
    Backlog,
    Change,
    Follow,
    Mailbox,
    Run,
    Segment,
    Store,
    Tally,
    Tickets,
    segments,
)
from pullstatus.store.segments import WordsOf

ABREAST = 16  # mailboxes that are followed at a time: their commits are one
READ_COUNT = 2000  # entries that are read at once: a few ms
MERGED_TIMES = 2  # a segment that is not so many times as long as what follows it is merged with it

Breathe = Callable[[], Awaitable[None]]
"""Lets others have their turn; called after some 100 entries."""


async def let_others() -> None:
    """Let others have their turn, and go on at once."""
    await asyncio.sleep(0)


class Follower:
    """Follows the mailboxes of a store. Of two at one mailbox, one does it for nothing."""

    def __init__(
        self,
        store: Store,
        random_hex: RandomHex,
        *,
        breathe: Breathe = let_others,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is done yet.

        Args:
            random_hex: makes the key of the hashes, if there is none yet.
            breathe: waits until it may go on.
            clock: of seconds.
        """
        self._store = store
        self._random_hex = random_hex
        self._breathe = breathe
        self._ticket = Tickets(lambda size: bytes.fromhex(random_hex(size)))
        self._clock = clock
        self._level_s = clock()
        self._words_of: WordsOf | None = None

    async def work(self) -> None:
        """Follow what is behind, unless another process is at it.

        It goes on until a look finds nothing, or but what came since the one before.
        """
        await self._breathe()
        began_s = self._clock()
        if not await self._store.behind(1):
            self._level_s = began_s
            return
        async with self._store.following() as ours:
            if ours:
                await self._work()
            else:
                self._level_s = self._clock()  # how far it has come is told by who is at it

    async def _work(self) -> None:
        while True:
            await self._breathe()
            began_s = self._clock()
            rows = await self._store.behind(ABREAST)
            done = await asyncio.gather(*map(self._try, rows))
            if len(rows) < ABREAST and all(done):
                self._level_s = began_s
            if len(rows) < ABREAST or not any(done):
                break

    async def _try(self, row: Backlog) -> bool:
        """Follow a mailbox, if nothing of it is missing; whoever uses it is told of that."""
        try:
            await self.follow_mailbox(row)
        except StoreDamaged:
            return False
        return True

    def behind_s(self) -> float:
        """All that was accepted longer ago than this has been followed."""
        return self._clock() - self._level_s

    async def follow(self, sdkappid: int) -> None:
        """Follow all that an application was sent until now."""
        for row in await self._store.backlog(sdkappid):
            await self.follow_mailbox(row)

    async def follow_mailbox(self, row: Backlog) -> None:
        """Follow all that was accepted when a mailbox stood like that, but what is no record."""
        now: Backlog | None = row
        while now is not None and now.followed.through < row.accepted and not row.mailbox.aside:
            try:
                await self._step(now)
            except StoreDamaged:
                standing = await standing_of(self._store, row.mailbox)
                if standing is None or standing.followed == now.followed:
                    raise  # or somebody else has followed what is missing, and then removed it
            now = await standing_of(self._store, row.mailbox)

    async def _step(self, row: Backlog) -> None:
        """Follow a mailbox to the end of a frame, or to its tail as it stood.

        Nothing is kept if somebody else has followed meanwhile, or something was erased.
        """
        store, mailbox, mark = self._store, row.mailbox, row.followed
        first_seq = mark.through + 1
        # What came since the mailbox stood so may be copies of which `copies` does not know.
        last_seq = min(row.accepted, (segments.frame_of(first_seq) + 1) * segments.COUNT_MAX)
        copies = await copies_of(store, mailbox, first_seq)
        piece = Piece(mailbox, first_seq, mark.tallied, await self._worder(), copies)
        await read(store, piece, last_seq, self._breathe)
        segment = await self._merged(mailbox, piece)
        tallies = [*piece.tallies(), *await _set_back(store, piece)]
        await store.follow(Follow(mailbox, mark, piece.through, segment, tallies, self._ticket()))

    async def _merged(self, mailbox: Mailbox, piece: Piece) -> Segment:
        """A segment of what was read, and of those before it that it takes along."""
        frame_seq = segments.frame_of(piece.first_seq) * segments.COUNT_MAX + 1
        full = piece.through == frame_seq + segments.COUNT_MAX - 1
        parts: list[Segment] = []
        size, next_seq = piece.count, piece.first_seq
        for span in reversed(await self._store.spans(mailbox, frame_seq)):
            adjacent = frame_seq <= span.first_seq and span.first_seq + span.count == next_seq
            if not adjacent or not (full or span.count < MERGED_TIMES * size):
                break
            part = await self._store.segment(mailbox, span.first_seq)
            if part is None or part.count != span.count:
                break
            parts.insert(0, part)
            size, next_seq = size + span.count, span.first_seq
        return await asyncio.to_thread(piece.segment, parts)

    async def _worder(self) -> WordsOf:
        """What hashes with the store's key, which is made when it is needed first."""
        while self._words_of is None:
            key = await index.key_of(self._store)
            if key is None:
                key = bytes.fromhex(self._random_hex(segments.KEY_BYTES))
                if not await self._store.change(
                    Change(INDEX_KEY, key, None), ticket=self._ticket()
                ):
                    continue  # another one has just made it
            self._words_of = segments.worder(key)
        return self._words_of


async def read(store: Store, piece: Piece, last_seq: int, breathe: Breathe) -> None:
    """Take entries up to a number into a piece.

    Raises:
        StoreDamaged: some are nowhere, though the store says that there are as many.
    """
    while piece.through < last_seq:
        runs = await store.runs(piece.mailbox, piece.through + 1, READ_COUNT)
        if not runs:
            raise StoreDamaged(
                f"entries of {piece.mailbox} are missing behind {piece.through}: run `pullstatus"
                " audit`, and restore a backup if it confirms this"
            )
        for run in runs:
            found = fields.read_run(piece.kind, run) or await _one_by_one(store, piece, run)
            piece.take(run, found, last_seq)
            await breathe()
            if piece.through == last_seq:
                break


async def _one_by_one(store: Store, piece: Piece, run: Run) -> list[Fields | bytes]:
    """The records of a run, and what is none as it is; empty where it is gone by now."""
    entries = {entry.seq: entry.data for entry in await store.entries_at(piece.mailbox, run.seqs)}
    found = [entries.get(seq, b"") for seq in run.seqs]
    return [fields.read(piece.kind, entry) or entry for entry in found]


async def _set_back(store: Store, piece: Piece) -> list[Tally]:
    """The tally that says at which hour a clock was set back, if one was, and nobody has said so.

    It is in the commit that counts the first entry behind that.
    """
    hours = piece.counts.keys() | piece.missing.keys()
    if not hours:
        return []
    mailbox, since = piece.mailbox, written(min(hours))
    known = await store.tallies(mailbox.sdkappid, since + 1, LAST_HOUR, whole=False)
    series = set_back_series(mailbox.holds)
    told = {tally.hour for tally in known if tally.series == series}
    counted = {tally.hour for tally in known if tally.series == mailbox.holds}
    latest = max([*counted, written(piece.set_back)])
    return [Tally(series, latest, SET_BACK)] if latest > since and latest not in told else []


def found_by_nothing(_texts: Sequence[bytes], _offsets: Sequence[int]) -> list[int]:
    """The words of a piece that is only counted: none."""
    return []


async def pass_over(store: Store) -> None:
    """Move all marks to the tails, with nothing derived: for a store that is to be emptied."""
    for row in await of_records(store):
        if row.followed.through < row.accepted:
            await store.follow(Follow(row.mailbox, row.followed, row.accepted, None, []))


_SAID: Final = attrgetter("errmsg", "report_status")


class Piece:
    """What is derived of some entries of a mailbox.

    Attributes:
        kind: the mailbox's.
        first_seq, through: the first of them, and the last.
        numbers, sids: the words of a segment of them.
        counts: what they add to tallies, by hours since the beginning of Unix time.
        missing: the same of those that are damaged or erased.
        broken: hours of which something is, or may be.
        timeless: whether one has a time that is none: it counts in the nearest hour that there is.
        set_back: the latest hour behind which one of an earlier hour was counted; 0: none.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        first_seq: int,
        tallied: int,
        words_of: WordsOf,
        copies: Sequence[Again],
    ) -> None:
        """Of none yet.

        Args:
            words_of: `segments.worder` with the store's key.
            tallied: those up to this number are not counted.
            copies: what of the mailbox is there as a copy, from `first_seq` on.
        """
        assert isinstance(mailbox.kind, Kind)
        self.mailbox = mailbox
        self.kind = mailbox.kind
        self._tallied = tallied
        self._words_of = words_of
        self._copies = copies
        self.first_seq = first_seq
        self.through = first_seq - 1
        self.numbers: list[int] = []
        self.sids: list[int] = []
        self.counts: dict[int, list[int]] = {}
        self.missing: dict[int, list[int]] = {}
        self.broken: set[int] = set()
        self.timeless = False
        self.set_back = self._latest = 0

    @property
    def count(self) -> int:
        """How many entries it is of."""
        return self.through + 1 - self.first_seq

    def take(self, run: Run, found: Sequence[Fields | bytes], last_seq: int) -> None:
        """The next entries, but none behind `last_seq`.

        Args:
            found: the fields of each that is in `run.seqs`; of what is no record, itself.
        """
        end = min(run.first_seq + run.count - 1, last_seq)
        due = bisect_right(run.seqs, end)
        offset = run.seqs[0] - self.first_seq if due else 0
        gapless = due and run.seqs[due - 1] - run.seqs[0] == due - 1
        offsets = (
            range(offset, offset + due)
            if gapless
            else [seq - self.first_seq for seq in run.seqs[:due]]
        )
        self._find_by(found[:due], offsets)
        times = (run.newest_ms, *run.times)
        self.timeless |= not (in_calendar(min(times)) and in_calendar(max(times)))
        begin = bisect_right(run.seqs, self._tallied)
        if begin < due:
            self._tally(run, found, begin, due)
        if due < end - self.through:
            self._tally_missing(run, end)
        self.through = end

    def tallies(self) -> list[Tally]:
        """What they add to tallies."""
        return [
            Tally(int(self.kind), written(hours), tuple(counts))
            for each in (self.counts, self.missing)
            for hours, counts in sorted(each.items())
        ]

    def segment(self, before: Sequence[Segment]) -> Segment:
        """A segment of them, and of those before it.

        One of these that is damaged is left as it is, and so are those before it.
        """
        own = segments.build(self.first_seq, self.count, self.numbers, self.sids)
        for start in range(len(before)):
            try:
                return segments.merge([*before[start:], own])
            except StoreCorrupt:
                continue
        return own

    def _find_by(self, found: Sequence[Fields | bytes], offsets: Sequence[int]) -> None:
        """Have entries found by what they say, all at once; what is no record is by nothing."""
        records = [record for record in found if isinstance(record, Fields)]
        if len(records) < len(found):
            pairs = zip(offsets, found, strict=True)
            offsets = [offset for offset, record in pairs if isinstance(record, Fields)]
        ends = [end.encode() for end in endings(records)]
        self.numbers += self._words_of(ends, offsets)
        sids = [record.sid.encode() for record in records]
        if not all(sids):
            offsets = [offset for offset, sid in zip(offsets, sids, strict=True) if sid]
            sids = [sid for sid in sids if sid]
        self.sids += self._words_of(sids, offsets)

    def _tally(self, run: Run, found: Sequence[Fields | bytes], begin: int, due: int) -> None:
        """Count each that is no copy."""
        copies, kind = self._copies, self.kind
        hours = {nearest_hours(at_ms) for at_ms in set(run.times[begin:due])}
        some = found[begin:due]
        usual = not copies and len(hours) == 1
        if usual and {*map(type, some)} == {Status}:
            # Most are such: those that say the same are counted together.
            for (code, report_status), count in Counter(map(_SAID, some)).items():
                columns = columns_of_status(code, report_status)
                self._add(self.counts, run.times[begin], columns, count)
            return
        for seq, at_ms, record in zip(run.seqs[begin:due], run.times[begin:due], some, strict=True):
            if copies and source_of(seq, copies) is not None:
                continue
            if isinstance(record, Status):
                columns = columns_of_status(record.errmsg, record.report_status)
            else:
                columns = columns_of(kind, record if isinstance(record, bytes) else b"")
            self._add(self.counts, at_ms, columns)

    def _tally_missing(self, run: Run, end: int) -> None:
        """Count each that is damaged, or was erased before anybody has counted it.

        Where damage has taken what tells the times, they are those of the newest that lie there.
        """
        there = set(run.seqs)
        self.broken |= {nearest_hours(at_ms) for at_ms in (*run.times, run.newest_ms, *run.lost)}
        missing = [
            each for each in range(run.first_seq, run.first_seq + run.count) if each not in there
        ]
        told = max(self.through, self._tallied)
        for seq, at_ms in zip(missing, run.lost, strict=True):
            if told < seq <= end and source_of(seq, self._copies) is None:
                self._add(self.missing, at_ms, columns_of(self.kind, None))

    def _add(
        self, found: dict[int, list[int]], at_ms: int, columns: Sequence[int], count: int = 1
    ) -> None:
        hours = nearest_hours(at_ms)
        if hours < self._latest:
            self.set_back = self._latest
        else:
            self._latest = hours
        counts = found.get(hours)
        if counts is None:
            counts = found[hours] = [0] * WIDTH
        for column in columns:
            counts[column] += count
