"""What is derived of entries, and what it is derived from: see `pullstatus.store.Store`.

Which segments a mailbox has is told by one row. An array of one lies in parts, each on a subject of
its own, so that a search reads those that it asks for, and no more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from pullstatus.errors import StoreCorrupt, StoreUnavailable
from pullstatus.store import segments
from pullstatus.store.jetstream import chunks, snapshots
from pullstatus.store.jetstream.lists import Lists, entries_of, times_of
from pullstatus.store.jetstream.messages import (
    ArrayMessage,
    Laid,
    SegmentsMessage,
    TallyMessage,
    is_whole,
    opened,
)
from pullstatus.store.jetstream.proven import check_all_answer, newest_of_anybody
from pullstatus.store.jetstream.subjects import Place, day_of, hours_of, series_of
from pullstatus.store.jetstream.wire import Bus, Message
from pullstatus.store.segments import Index, Search, Segment
from pullstatus.store.values import Entry, Mailbox, Run, Span, Tally

PART_BYTES: Final = 8 * segments.BLOCK_BYTES  # of an array, in one message
_SEARCHES: Final = 32  # segments that are searched at once, of each of which a part is read
_LOOKS_MAX: Final = 10  # at segments that change meanwhile

T = TypeVar("T")


class _Changed(Exception):
    """Segments are others than when they were listed."""


def parts_of(place: Place, kind: int, segment: Segment) -> Iterator[tuple[str, ArrayMessage]]:
    """What is stored of a segment, each part with its subject."""
    for index in Index:
        data = segment.array(index)
        for part, at in enumerate(range(0, len(data), PART_BYTES)):
            subject = place.array(kind, segment.first_seq, index, part)
            yield subject, ArrayMessage(data[at : at + PART_BYTES])


def subjects_of(place: Place, kind: int, laid: Laid) -> dict[Index, list[str]]:
    """Where its parts are, by array."""
    return {
        index: [
            place.array(kind, laid.first_seq, index, part)
            for part in range(-(-laid.array(index).size // PART_BYTES))
        ]
        for index in Index
    }


def data_of(message: Message | None) -> bytes:
    """What a part of an array has; nothing if it is damaged: then no block of it proves itself."""
    if message is None or not is_whole(message):
        return b""
    return opened(message, ArrayMessage).data


class Derived:
    """The questions about it; each blocks."""

    def __init__(self, bus: Bus, lists: Lists) -> None:
        """Ask over `bus`."""
        self._bus = bus
        self._lists = lists

    # -- entries

    def runs(self, mailbox: Mailbox, first_seq: int, count_max: int) -> list[Run]:
        """See `Store.runs`."""
        found: list[Run] = []
        for chunk in self._lists.chunks(mailbox, max(1, first_seq)):
            entries = list(entries_of(mailbox, chunk, first_seq))
            first, seq = chunk.row.first_seq, max(chunk.row.first_seq, first_seq)
            there = {entry.seq for entry in entries}
            times = times_of(chunk)
            found.append(
                Run(
                    seq,
                    chunk.next_seq - seq,
                    chunk.accepted_ms,
                    [entry.seq for entry in entries],
                    [entry.accepted_ms for entry in entries],
                    b",".join([entry.data for entry in entries]),
                    [
                        times[each - first]
                        for each in range(seq, chunk.next_seq)
                        if each not in there
                    ],
                )
            )
            count_max -= chunk.next_seq - seq
            if count_max <= 0:
                break
        return found

    def entries_at(self, mailbox: Mailbox, seqs: Sequence[int]) -> list[Entry]:
        """See `Store.entries_at`."""
        found: list[Entry] = []
        due = deque(seqs)
        while due:
            for chunk in self._lists.chunks(mailbox, due[0]):
                wanted = set()
                while due and due[0] < chunk.next_seq:
                    wanted.add(due.popleft())
                if wanted:
                    entries = entries_of(mailbox, chunk, min(wanted))
                    found += [entry for entry in entries if entry.seq in wanted]
                if not due or due[0] > chunk.next_seq + chunks.NEAR:
                    break
            else:
                break
        return found

    # -- segments

    def spans(self, mailbox: Mailbox, first_seq: int) -> list[Span]:
        """See `Store.spans`."""
        found = self._segments(mailbox)
        laid = () if found is None else found.laid
        return [Span(each.first_seq, each.count) for each in laid if each.last_seq >= first_seq]

    def segment(self, mailbox: Mailbox, first_seq: int) -> Segment | None:
        """See `Store.segment`."""

        def read(there: _Segments) -> Segment | None:
            for laid in there.laid:
                if laid.first_seq == first_seq:
                    names = subjects_of(there.place, mailbox.holds, laid)
                    parts = self._parts(there, [name for own in names.values() for name in own])
                    numbers, sids = (
                        b"".join([parts.get(name, b"") for name in names[index]]) for index in Index
                    )
                    return Segment(laid.first_seq, laid.count, numbers, sids)
            return None

        return self._looked(mailbox, read, None)

    def sought(self, mailbox: Mailbox, index: Index, hashed: int) -> list[int]:
        """See `Store.sought`."""
        nothing: list[int] = []

        def read(there: _Segments) -> list[int]:
            found: list[int] = []
            for begin in range(0, len(there.laid), _SEARCHES):
                some = there.laid[begin : begin + _SEARCHES]
                found += self._search(there, mailbox.holds, some, index, hashed)
            return found

        return self._looked(mailbox, read, nothing)

    def _looked(self, mailbox: Mailbox, read: Callable[[_Segments], T], nothing: T) -> T:
        """What is read of segments, all of one moment."""
        for _ in range(_LOOKS_MAX):
            there = self._segments(mailbox)
            if there is None:
                return nothing
            try:
                return read(there)
            except _Changed:
                continue
        raise StoreUnavailable("what is derived of the mailbox changes again and again; try again")

    def _segments(self, mailbox: Mailbox) -> _Segments | None:
        """Which a mailbox has, by now."""
        standing = self._lists.standing(mailbox.sdkappid)
        if standing is None or standing.box(mailbox.holds) is None:
            return None
        place, subject = standing.place, standing.place.segments(mailbox.holds)
        found = self._bus.lasts(place.stream, [subject], at_least=standing.newest).get(subject)
        if found is None:
            return None
        if not is_whole(found):
            raise StoreCorrupt(
                f"what tells the segments of {mailbox} is damaged; `pullstatus reindex` makes them"
                " anew"
            )
        return _Segments(place, standing.newest, found, opened(found, SegmentsMessage).laid)

    def _search(
        self,
        there: _Segments,
        kind: int,
        laid: Sequence[Laid],
        index: Index,
        hashed: int,
    ) -> list[int]:
        searches = [Search(each.array(index), hashed) for each in laid]
        while due := [(search, search.part) for search in searches if search.part is not None]:
            names = [
                there.place.array(kind, search.array.first_seq, index, part.at // PART_BYTES)
                for search, part in due
            ]
            parts = self._parts(there, names)
            for (search, part), name in zip(due, names, strict=True):
                at = part.at % PART_BYTES
                search.go_on(parts.get(name, b"")[at : at + part.size])
        return [seq for search in searches for seq in search.found]

    def _parts(self, there: _Segments, subjects: Sequence[str]) -> dict[str, bytes]:
        """Parts of arrays, by their subjects.

        Raises:
            _Changed: they may be of others than those that were listed.
        """
        place, row = there.place, there.row
        names = [row.subject, *subjects]
        found = self._bus.lasts(place.stream, names, at_least=there.newest)
        if found[row.subject].sequence != row.sequence:
            raise _Changed
        lost = [name for name in subjects if name not in found]
        if lost:  # by that node: another one may have it
            found |= newest_of_anybody(self._bus, place.stream, lost)
            if any(name not in found for name in lost):
                check_all_answer(self._bus, place.stream)
                found |= newest_of_anybody(self._bus, place.stream, lost)
        return {name: data_of(found.get(name)) for name in subjects}

    # -- tallies

    def tallies(
        self, sdkappid: int, first_hour: int, last_hour: int, *, whole: bool = True
    ) -> list[Tally]:
        """See `Store.tallies`."""
        standing = self._lists.standing(sdkappid)
        if standing is None:
            return []
        place = standing.place
        days = range(day_of(first_hour), day_of(last_hour) + 1)
        names = [
            name
            for name in self._bus.subjects(place.stream, place.tallies())
            if int(name.rpartition(".")[2]) in days
        ]
        found = [
            Tally(series_of(message.subject), hour, counts)
            for message in snapshots.latest(self._bus, place.stream, names)
            for hour, counts in self._hours(place, message, whole=whole).items()
            if first_hour <= hour <= last_hour
        ]
        return sorted(found, key=lambda tally: (tally.series, tally.hour))

    def _hours(
        self, place: Place, message: Message, *, whole: bool
    ) -> Mapping[int, tuple[int, ...]]:
        """What was counted in the hours of a day; of one that is damaged, that each may have been.

        Raises:
            StoreDamaged: it is, and `whole` does not allow for that.
            Unproven: a node may have it as it was.
        """
        if whole or is_whole(message):
            return opened(message, TallyMessage).hours
        check_all_answer(self._bus, place.stream)
        return dict.fromkeys(hours_of(int(message.subject.rpartition(".")[2])), ())


class _Segments(NamedTuple):
    """Which a mailbox has, as its row says; `newest`: a commit, behind which that was asked."""

    place: Place
    newest: int
    row: Message
    laid: Sequence[Laid]
