"""How the chunks of a mailbox are read: in order, as they lie in its log or were written anew.

Their numbers show what is missing. What one replica lacks is asked of all; what nobody has any
more, or not as it was written, comes as a chunk that says how many entries it had, and proves none
of them but those that prove themselves. So it is damage like any other: see `verbs.pulls`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from pullstatus.store.jetstream import snapshots
from pullstatus.store.jetstream.messages import (
    Box,
    Chunk,
    ChunkPart,
    chunk_in,
    chunks_of,
    left_of,
    opened,
)
from pullstatus.store.jetstream.proven import of_anybody
from pullstatus.store.jetstream.subjects import Place
from pullstatus.store.jetstream.wire import Bus, Message

# Read at once: as many as a page of single entries is, or what some pages of hundreds are. Where
# many mailboxes are pulled from in turn, more would be thrown away unread.
CHUNKS_MAX: Final = 100
BYTES_MAX: Final = 64 << 10
BYTES_MIN: Final = 16 << 10
NEAR: Final = 2000  # entries that are rather read over than looked for
TOGETHER_BYTES: Final = 256 << 10
_LARGE: Final = 16 << 20  # as large as a chunk of several messages may be


def ahead(mailboxes: int) -> int:
    """How many bytes of each are read where so many are read from at once."""
    return min(BYTES_MAX, max(BYTES_MIN, TOGETHER_BYTES // mailboxes))


def chunk_place(bus: Bus, place: Place, box: Box, seq: int, newest: int) -> int:
    """Place of the chunk that holds an entry, or of one before it.

    It is where the one before ends, so that it is found where it is damaged, too.
    """
    return 1 if seq <= box.purged + 1 else _place(bus, place, box.kind, seq, newest)


def _place(
    bus: Bus, place: Place, kind: int, seq: int, newest: int, *, anybody: bool = False
) -> int:
    """The same of an entry that is there; `anybody`: as all nodes together have it."""
    parts: dict[int, ChunkPart] = {}

    def reaches(message: Message) -> bool:
        part = parts[message.sequence] = opened(message, ChunkPart)
        return part.last_seq >= seq - 1

    stream, log = place.stream, place.log(kind)
    found = snapshots.place_of(bus, stream, log, reaches, newest + 1, anybody=anybody)
    if found is None:
        return 1
    part = parts[found]
    return found if part.last_seq >= seq else found + part.parts - part.part


def chunks_from(
    bus: Bus, place: Place, kind: int, at: int, through_seq: int
) -> Iterator[Sequence[Chunk]]:
    """Chunks of a mailbox from a place on, as they lie in its log; many at once, but for damaged.

    Args:
        through_seq: there are entries up to this number: what a replica has not yet the leader has.
    """
    subject = place.log(kind)
    reached = 0
    while reached < through_seq:
        chunks = whole(
            bus.following(place.stream, subject, at, count=CHUNKS_MAX, bytes_max=BYTES_MAX)
        )
        if not chunks:
            messages = bus.following(
                place.stream, subject, at, count=CHUNKS_MAX, bytes_max=_LARGE, leader=True
            )
            chunks = whole(messages)
            if not chunks:
                return
        yield chunks
        reached = chunks[-1].next_seq - 1
        at = chunks[-1].sequences[-1] + 1


def whole(messages: Sequence[Message]) -> list[Chunk]:
    """The chunks in messages that are as they were written, with all their parts."""
    return [chunk for chunk in chunks_of(messages) if chunk.whole]


def missing(
    bus: Bus, place: Place, kind: int, at: int, seq: int, next_seq: int, accepted_ms: int
) -> Iterator[Chunk]:
    """The chunks of a mailbox between two entries, which a replica did not have, or what is left.

    Args:
        at: place of the first of them, or of one before it.
        next_seq: number of the entry behind them.
        accepted_ms: when entries came that lie beside them.
    """
    while seq < next_seq:
        chunks = _of_anybody(bus, place, kind, at, seq)
        if not any(chunk.whole and chunk.row.first_seq <= seq for chunk in chunks):
            # Who told the place may have lost what is looked for, and told of one behind it.
            at = min(at, _place(bus, place, kind, seq, bus.newest(place.stream), anybody=True))
            chunks = _of_anybody(bus, place, kind, at, seq)
        behind: Chunk | None = None
        for chunk in chunks:
            if chunk.whole and chunk.next_seq > seq:
                behind = chunk
                break
        if behind is not None and behind.row.first_seq <= seq:
            yield behind
            seq, at = behind.next_seq, behind.sequences[-1] + 1
            continue
        end = next_seq if behind is None else min(next_seq, behind.row.first_seq)
        torn = [
            chunk for chunk in chunks if not chunk.whole and (not behind or chunk.at < behind.at)
        ]
        yield left_of(seq, end - seq, behind.accepted_ms if behind else accepted_ms, torn)
        seq = end


def _of_anybody(bus: Bus, place: Place, kind: int, at: int, seq: int) -> Sequence[Chunk]:
    """Chunks from a place on, the one with an entry among them if anybody has it."""

    def enough(messages: Sequence[Message]) -> bool:
        return any(chunk.row.first_seq <= seq < chunk.next_seq for chunk in whole(messages))

    subject = place.log(kind)
    return chunks_of(
        of_anybody(bus, place.stream, subject, at, enough, count=CHUNKS_MAX, bytes_max=_LARGE)
    )


def chunk_anew(bus: Bus, place: Place, kind: int, first_seq: int) -> Chunk | None:
    """A chunk that was written anew. No replica is asked: it might know what is gone.

    Of one that is damaged no number but its first is known.
    """
    subject = place.anew(kind, first_seq)
    message = bus.last(place.stream, subject, leader=True)
    if message is None:
        return None
    found = chunk_in([message])
    if found.whole:
        parts = opened(message, ChunkPart).parts
        names = [f"{subject}.{part}" for part in range(1, parts)]
        more = list(snapshots.latest(bus, place.stream, names)) if names else []
        found = chunk_in([message, *more])
    row = found.row._replace(first_seq=first_seq)
    return msgspec.structs.replace(found, row=row, at=1, sequences=())


def anew_firsts(bus: Bus, place: Place, kind: int) -> list[int]:
    """First numbers of the chunks that were written anew, in order."""
    begin = place.anew(kind, "")
    return sorted(int(name.removeprefix(begin)) for name in bus.subjects(place.stream, f"{begin}*"))


def chunks_of_box(
    bus: Bus, place: Place, box: Box, first_seq: int, newest: int, at: int | None = None
) -> Iterator[Chunk]:
    """The chunks of a mailbox from the one on that holds an entry, as they stand.

    Args:
        at: place of the first of them, or of one before it, where that is known.
    """
    firsts = anew_firsts(bus, place, box.kind) if box.anew_from else []
    if at is None and 0 <= first_seq - box.read_from < NEAR and not firsts:
        at = box.log_at
    if at is None or firsts:
        at = chunk_place(bus, place, box, first_seq, newest)
    reached, accepted_ms = first_seq, 0
    torn: Chunk | None = None  # written anew, and damaged: it ends where the next one begins
    for chunk in _known(bus, place, box, at, first_seq, firsts):
        begin = chunk.row.first_seq
        if torn is not None:
            if begin > first_seq:
                yield left_of(reached, begin - reached, chunk.accepted_ms, [torn])
            torn = None
        elif begin > reached:
            yield from missing(bus, place, box.kind, at, reached, begin, chunk.accepted_ms)
        if chunk.whole:
            yield chunk
            reached, accepted_ms = chunk.next_seq, chunk.accepted_ms
        else:
            torn, reached = chunk, begin
        if chunk.sequences:
            at = chunk.sequences[-1] + 1
    if torn is not None:
        yield left_of(reached, box.tail + 1 - reached, accepted_ms, [torn])
    elif reached <= box.tail:
        yield from missing(bus, place, box.kind, at, reached, box.tail + 1, accepted_ms)


def _known(
    bus: Bus, place: Place, box: Box, at: int, first_seq: int, firsts: Sequence[int]
) -> Iterator[Chunk]:
    """What a replica has of these chunks, in order: of its log, and in place of it what is anew."""
    due = [first for first in firsts if first > first_seq]
    if before := [first for first in firsts if first <= first_seq]:
        due.insert(0, before[-1])
    reached = first_seq
    for chunks in chunks_from(bus, place, box.kind, at, box.tail):
        for chunk in chunks:
            while due and due[0] <= chunk.row.first_seq:
                anew = chunk_anew(bus, place, box.kind, due.pop(0))
                if anew is not None and (anew.next_seq > reached or not anew.whole):
                    yield anew
                    reached = max(reached, anew.next_seq if anew.whole else anew.row.first_seq + 1)
            former = chunk.row.first_seq in firsts
            if not former and chunk.next_seq > reached and chunk.row.first_seq <= box.tail:
                yield chunk
                reached = chunk.next_seq
    for first in due:
        anew = chunk_anew(bus, place, box.kind, first)
        if anew is not None and (anew.next_seq > reached or not anew.whole):
            yield anew
            reached = max(reached, anew.next_seq)
