"""The proof that what is derived of entries is what they say: segments, tallies and marks.

marks     stand between what was removed and the tail
segments  reach without a gap from the first kept entry to the mark, and find each record by its
          number and its sid, and no other by these
tallies   are what is counted again, in every hour of which all is stored and whole; in others they
          are no less, and in all no more than was accepted

It reads beside whoever follows, erases and removes: what has changed meanwhile is looked at again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from pullstatus.errors import StoreCorrupt, StoreDamaged
from pullstatus.mailbox import index
from pullstatus.mailbox.following import Piece, let_others, read
from pullstatus.mailbox.reindexing import numbers
from pullstatus.mailbox.search import copies_of
from pullstatus.mailbox.standing import standing_now
from pullstatus.mailbox.tallies import FORGOTTEN, LAST_HOUR, WIDTH, Column, set_back_of
from pullstatus.records import Kind
from pullstatus.records.hours import in_calendar, nearest_hour, written
from pullstatus.store import (
    Again,
    Backlog,
    Finding,
    Index,
    Mailbox,
    Noted,
    Span,
    Store,
    segments,
)

TRIES: Final = 5  # at what changes while it is looked at
MOMENTS: Final = 50
_OFFSET: Final = (1 << 16) - 1  # of a word


async def problems(store: Store) -> list[Finding]:
    """What is wrong with what is derived of each mailbox, and with the times it is derived of."""
    found: list[Finding] = []
    noted = (await store.marks(FORGOTTEN)).get(FORGOTTEN, Noted(0))
    oldest_hour = nearest_hour(noted.at_ms)
    for row in await store.backlog():
        told: list[str] = []
        if not row.mailbox.aside:
            told += await _of_mailbox(store, row.mailbox, oldest_hour)
        if _TIMELESS not in told and not await _all_have_times(store, row):
            told.append(_TIMELESS)
        found += [Finding(row.mailbox, problem) for problem in told]
    for sdkappid in await numbers(store):
        known = await store.tallies(sdkappid, 0, LAST_HOUR, whole=False)
        hours = sorted(
            {tally.hour for tally in known if not tally.counts and tally.series not in set(Kind)}
        )
        found += [
            Finding(
                None,
                f"what {sdkappid} was told of sends, or a token brought, in hour {hour} is"
                " damaged: run `pullstatus reindex`",
            )
            for hour in hours
        ]
    return found


_TIMELESS: Final = "entries have a time that is none: restore a backup"


async def _all_have_times(store: Store, row: Backlog) -> bool:
    """Whether those have of which nothing is derived."""
    async for entry in store.entries(row.mailbox, row.followed.tallied + 1):
        if not in_calendar(entry.accepted_ms):
            return False
    return True


async def _of_mailbox(store: Store, mailbox: Mailbox, oldest_hour: int) -> list[str]:
    """What is wrong, at a moment in which nothing is erased or removed."""
    for _ in range(TRIES):
        moment = await _moment(store, mailbox)
        if moment is None:
            break
        # Behind the segments, which are never there before it: a follower may begin just now.
        key = await index.key_of(store) if moment.spans else None
        found = [problem async for problem in _Look(store, moment, key, oldest_hour).problems()]
        now = await standing_now(store, mailbox)
        same = now.followed.turn == moment.row.followed.turn and now.purged == moment.row.purged
        if not found or same:
            return found
    return []


class _Moment(NamedTuple):
    """How a mailbox stands, and what was derived by then: all of one moment."""

    row: Backlog
    spans: Sequence[Span]
    tallies: Mapping[int, Sequence[int]]
    set_back: int  # the latest hour at which a clock was, as far as one was set back


async def _moment(store: Store, mailbox: Mailbox) -> _Moment | None:
    """None: whoever follows was quicker, each time."""
    for _ in range(MOMENTS):
        row = await standing_now(store, mailbox)
        spans = await store.spans(mailbox)
        known = await store.tallies(mailbox.sdkappid, 0, LAST_HOUR, whole=False)
        tallies = {tally.hour: tally.counts for tally in known if tally.series == mailbox.holds}
        now = await standing_now(store, mailbox)
        if (now.followed, now.purged) == (row.followed, row.purged):
            return _Moment(row, spans, tallies, set_back_of(mailbox, known))
    return None


class _Look:
    """One look at a mailbox."""

    def __init__(self, store: Store, moment: _Moment, key: bytes | None, oldest_hour: int) -> None:
        self._store, self._oldest_hour, self._key = store, oldest_hour, key
        self._row, self._spans, self._tallies, self._set_back = moment
        self._counts: dict[int, list[int]] = {}
        self._broken: set[int] = set()
        self._timeless = False

    async def problems(self) -> AsyncIterator[str]:
        """All that is wrong."""
        row, mark, spans = self._row, self._row.followed, self._spans
        if not row.purged <= mark.through <= mark.tallied <= row.accepted:
            yield f"its mark stands at {mark.through}, {mark.tallied}, its tail at {row.accepted}"
            return
        gap = self._gap()
        if gap is not None:
            yield gap
            return
        if spans and self._key is None:
            yield "the key by which segments find its entries is gone"
            return
        words_of = segments.worder(self._key or bytes(segments.KEY_BYTES))
        copies = await copies_of(self._store, row.mailbox)
        try:
            for span in spans:
                async for problem in self._segment(span, words_of, copies):
                    yield problem
            last = spans[-1].first_seq + spans[-1].count - 1 if spans else row.purged
            piece = Piece(row.mailbox, last + 1, 0, words_of, copies)
            await read(self._store, piece, mark.tallied, let_others)
            self._count(piece)
        except (StoreDamaged, StoreCorrupt) as error:
            yield str(error)
            return
        if self._timeless:
            yield _TIMELESS
        for problem in self._wrong_tallies():
            yield problem

    def _gap(self) -> str | None:
        """Segments that do not reach from the first kept entry to the mark, side by side."""
        next_seq = self._row.purged + 1
        for place, span in enumerate(self._spans):
            if span.first_seq > next_seq or (place and span.first_seq < next_seq):
                return f"segments have a gap, or overlap, at entry {next_seq}"
            next_seq = span.first_seq + span.count
        through = self._row.followed.through
        if next_seq == through + 1:
            return None
        return f"segments end at entry {next_seq - 1}, the mark stands at {through}"

    async def _segment(
        self, span: Span, words_of: segments.WordsOf, copies: Sequence[Again]
    ) -> AsyncIterator[str]:
        """What a segment has, against what its entries say."""
        mailbox = self._row.mailbox
        first_seq, last_seq = span.first_seq, span.first_seq + span.count - 1
        segment = await self._store.segment(mailbox, first_seq)
        begin = max(first_seq, self._row.purged + 1)
        piece = Piece(mailbox, begin, 0, words_of, copies)
        await read(self._store, piece, last_seq, let_others)
        self._count(piece)
        if segment is None or segment.count < span.count:
            # A follower merges some with those before them.
            if (await standing_now(self._store, mailbox)).followed == self._row.followed:
                yield f"the segment from entry {first_seq} on is gone"
            return
        for by, own in ((Index.NUMBER, piece.numbers), (Index.SID, piece.sids)):
            due = {word + begin - first_seq for word in own}
            there = set(segments.words(segment, by))
            lost = [word & _OFFSET for word in due - there]
            if lost:
                yield (
                    f"{len(lost)} entries are not found by their {by.name.lower()}, the first is"
                    f" {first_seq + min(lost)}"
                )
            known = {word & _OFFSET for word in due}
            wrong = [offset for word in there - due if (offset := word & _OFFSET) in known]
            if wrong:
                yield f"{len(wrong)} entries are found by a {by.name.lower()} that is another's"

    def _count(self, piece: Piece) -> None:
        self._broken |= piece.broken
        self._timeless |= piece.timeless
        for hours, counts in piece.counts.items():
            known = self._counts.setdefault(hours, [0] * WIDTH)
            self._counts[hours] = [one + more for one, more in zip(known, counts, strict=True)]

    def _wrong_tallies(self) -> Iterator[str]:
        """Tallies that are not what entries say, or less where these are not all there are."""
        row = self._row
        counted = {written(hours): counts for hours, counts in self._counts.items()}
        broken = {written(hours) for hours in self._broken}
        # Of the oldest hour some may be removed, and of those before a clock was set back; where
        # nothing is left, of every one.
        oldest = max(min(counted, default=LAST_HOUR), self._set_back) if row.purged else -1
        for hour in sorted({*self._tallies, *counted}):
            if hour < self._oldest_hour:
                continue
            if self._tallies.get(hour) == ():
                yield f"the tally of hour {hour} is damaged: run `pullstatus reindex`"
                continue
            kept = [*self._tallies.get(hour, ()), *[0] * WIDTH][:WIDTH]
            again = counted.get(hour, [0] * WIDTH)
            if hour > oldest and hour not in broken:
                wrong = kept != again
            else:
                wrong = any(one < more for one, more in zip(kept, again, strict=True))
            if wrong:
                yield f"the tally of hour {hour} is not what its entries say"
        if sum(sum(counts[: Column.UNREADABLE]) for counts in self._tallies.values()) > (
            row.followed.tallied
        ):
            yield "its tallies have more than was accepted"
