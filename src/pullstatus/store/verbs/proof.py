"""What must be true of a mailbox, told from its rows alone: nothing lost, doubled or changed.

chunks    reach without a gap from the first kept entry to the tail, and match their checksums
journal   reaches without a gap or an overlap from the first kept entry to the cursor
counts    accepted = waiting + handed out + expired + erased + quarantined + put back + routed,
          each as stored, and each as the journal adds it up
derived   of no entry that is not there
put back  each that the journal says was put back has its copy, and one only
readers   the page in a reader's hand is in the journal as its own, not acknowledged, or, once
          that was removed, kept whole; and no other page is in a hand
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from pullstatus.store import chunk
from pullstatus.store.values import Backlog, Outcome
from pullstatus.store.verbs.readers import unsealed
from pullstatus.store.verbs.tables import ChunkRow, ReaderRow


class LeftRow(NamedTuple):
    """Of a journal row: what left, and in whose hand it still is."""

    first_seq: int
    size: int
    outcome: int
    in_hand_of: str | None


class Kept(Protocol):
    """The rows of one mailbox, of one moment, in order of number.

    Attributes:
        key: as that of `State`.
    """

    key: int

    def chunks(self) -> Iterable[ChunkRow]:
        """All chunks."""
        ...

    def bounds(self) -> Iterable[tuple[int, int, bytes]]:
        """First number, count and bounds of all chunks."""
        ...

    def journal(self) -> Iterable[LeftRow]:
        """All journal rows."""
        ...

    def readers(self) -> Sequence[tuple[str, ReaderRow, bytes | None]]:
        """All readers, each with the page that is kept for it, in order of the page in hand."""
        ...

    def copies(self) -> Iterable[tuple[int, int, int]]:
        """First number, count and first number of the originals of ranges that are copies."""
        ...


def problems(kept: Kept, row: Backlog) -> Iterator[str]:
    """What is wrong with a mailbox that is said to stand like `row`."""
    left: Counter[Outcome] = Counter()
    aside: list[range] = []
    back: list[int] = []
    hands: dict[int, tuple[int, str]] = {}
    expected = row.purged + 1
    erased, copied = _erased_waiting(kept)
    perhaps = 0
    for first, count, outcome, reader in kept.journal():
        if first != expected:
            kind = "overlap" if first < expected else "have a hole"
            yield f"journal rows {kind} at entry {min(first, expected)}"
        expected = first + count
        if reader is not None:
            hands[first] = count, reader
        if outcome not in _OUTCOMES:
            yield f"the journal row of entry {first} says nothing about what became of it"
            continue
        left[Outcome(outcome)] += count
        if outcome == Outcome.PULLED:
            # Pulls pass what was erased while it waited, which was not handed out.
            _pass(left, _within(erased, first, count))
            perhaps += _within(copied, first, count)
        if outcome == Outcome.QUARANTINED:
            aside.append(range(first, first + count))
        elif outcome == Outcome.PUT_BACK:
            back += range(first, first + count)
    cursor = row.accepted - row.waiting
    if row.followed.through > row.accepted:
        yield f"followed to entry {row.followed.through}, the tail stands at {row.accepted}"
    if expected - 1 != cursor:
        yield f"the journal ends at entry {expected - 1}, the cursor stands at {cursor}"
    # Empty copies were handed out by pulls that knew of none, and are passed by those that do.
    _pass(left, min(perhaps, max(0, left[Outcome.PULLED] - row.handed_out)))
    yield from _count_problems(row, left)
    yield from _chunk_problems(kept, row, aside)
    yield from _reader_problems(kept, row.purged, hands)
    if row.mailbox.parked:
        yield from _copy_problems(kept, row, back)


_OUTCOMES = frozenset(map(int, Outcome))


def _erased_waiting(kept: Kept) -> tuple[list[int], list[int]]:
    """The numbers of entries that were erased while they waited, and of empty copies, in order."""
    erased: list[int] = []
    copied: list[int] = []
    for first, count, bounds in kept.bounds():
        if chunk.entry_count(bounds) == count:
            found = copied if chunk.is_packed(bounds) else erased
            found += [first + place for place in chunk.empty_places(bounds, waiting=True)]
    return erased, copied


def _within(numbers: Sequence[int], first: int, count: int) -> int:
    """How many of these are in a range."""
    return bisect_left(numbers, first + count) - bisect_left(numbers, first)


def _pass(left: Counter[Outcome], count: int) -> None:
    """Count as erased what a row of a pull has."""
    left[Outcome.PULLED] -= count
    left[Outcome.ERASED] += count


def _count_problems(row: Backlog, left: Counter[Outcome]) -> Iterator[str]:
    stored = {
        Outcome.PULLED: row.handed_out,
        Outcome.EXPIRED: row.expired,
        Outcome.ERASED: row.erased,
        Outcome.QUARANTINED: row.quarantined,
        Outcome.PUT_BACK: row.put_back,
        Outcome.ROUTED: row.routed,
    }
    if min(*stored.values(), row.waiting) < 0 or row.accepted != row.waiting + sum(stored.values()):
        yield (
            f"accepted {row.accepted} is not waiting {row.waiting} + handed out {row.handed_out}"
            f" + expired {row.expired} + erased {row.erased} + quarantined {row.quarantined}"
            f" + put back {row.put_back} + routed {row.routed}"
        )
    for outcome, count in stored.items():
        # What was purged is counted, but no longer in the journal.
        if left[outcome] > count or (row.purged == 0 and left[outcome] != count):
            yield f"{count} entries are counted as {outcome.name}, the journal has {left[outcome]}"


def _copy_problems(kept: Kept, row: Backlog, back: list[int]) -> Iterator[str]:
    """Of what is parked only what was put back has a copy."""
    copied = [
        seq
        for first_seq, count, source_seq in kept.copies()
        if first_seq != source_seq  # as those that a restore brought back
        for seq in range(source_seq, source_seq + count)
        if seq > row.purged  # of what was removed the journal tells no more
    ]
    if sorted(copied) != back:
        yield f"{len(back)} items were put back, and {len(copied)} have a copy"


def _chunk_problems(kept: Kept, row: Backlog, aside: list[range]) -> Iterator[str]:
    expected = row.purged + 1
    begun = False
    for first, count, checksum, bounds, body in kept.chunks():
        # The oldest chunk may begin before what was purged: it goes when all of it may.
        if first > expected or (begun and first < expected):
            kind = "missing" if first > expected else "stored twice"
            yield f"entries are {kind} at {min(first, expected)}"
        begun = True
        if (
            chunk.checksum(kept.key + first, bounds, body) != checksum
            or chunk.entry_count(bounds) != count
            or chunk.readable(bounds, body) is None
        ):
            damaged = [
                first + place
                for place in chunk.damaged(count, bounds, body)
                if not any(first + place in taken for taken in aside)
            ]
            if damaged:
                yield f"{len(damaged)} stored entries are damaged, the first is {damaged[0]}"
        expected = first + count
    if expected - 1 != row.accepted:
        yield f"stored entries end at {expected - 1}, the tail stands at {row.accepted}"


def _reader_problems(
    kept: Kept, purged: int, hands: Mapping[int, tuple[int, str]]
) -> Iterator[str]:
    """Readers and the journal must tell one story.

    Args:
        hands: by the first number of a page that the journal says is in a hand: how many entries it
            has, and whose hand.
    """
    in_hand = dict[int, str]()
    kept_through = 0
    for name, row, page in kept.readers():
        if not row.first_seq:
            continue
        if row.acked_seq >= row.first_seq:
            yield f"reader {name} has acknowledged what lies behind the page in its hand"
        if page is None:
            in_hand[row.first_seq] = name
            if hands.get(row.first_seq) != (row.count, name):
                yield (
                    f"the journal does not say that reader {name} has entry {row.first_seq} in hand"
                )
            continue
        if row.first_seq <= kept_through:
            yield f"the page kept for reader {name} overlaps another at entry {row.first_seq}"
        kept_through = row.first_seq + row.count - 1
        rest = kept_through - purged
        if row.first_seq <= purged and hands.get(purged + 1) == (rest, name):
            in_hand[purged + 1] = name  # retention is going over it, and has cut its journal row
        elif rest > 0:
            yield f"the page kept for reader {name} at entry {row.first_seq} is in the journal, too"
        if unsealed(kept.key + row.first_seq, page) is None:
            yield f"the page kept for reader {name} at entry {row.first_seq} is damaged"
    for first_seq, (_, reader) in hands.items():
        if in_hand.get(first_seq) != reader:
            yield f"entry {first_seq} is in the hand of a reader, but of none that there is"
