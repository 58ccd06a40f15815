"""What a lane remembers from one group to the next; all of it may be old, and conditions tell."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeVar

import msgspec

from pullstatus.store.jetstream.messages import Box, Chunk, Commit, opened
from pullstatus.store.jetstream.subjects import Place
from pullstatus.store.jetstream.wire import Message

T = TypeVar("T")

APPLICATIONS_MAX: Final = 10_000
CHUNK_BYTES_MAX: Final = 16 << 20
PRINTS_MAX: Final = 1 << 18


class Hour(msgspec.Struct, gc=False):
    """Fingerprints of an hour: when each was accepted, as of a message; 0: of none."""

    last: int = 0
    seen: dict[bytes, int] = {}


class Known(msgspec.Struct, gc=False):
    """An application as of its commit `newest`; 0: it has none.

    Attributes:
        fence, gate: see `Commit`.
        revisions: of settings of its own, as the leader told behind that commit. Who changes one
            commits here before, with a fence, and behind; so what was beyond the fence when it was
            told holds as long as the commit is the newest.
        hours: fingerprints, as of that commit; of older ones than this in `former`.
        previous: the commit before, if somebody else has made the newest.
    """

    sdkappid: int
    place: Place
    newest: int = 0
    fence: int = 0
    boxes: dict[int, Box] = {}
    revisions: dict[str, int] = {}
    hours: dict[int, Hour] = {}
    former: dict[int, Hour] = {}
    gate: int = 0
    previous: int = 0

    def holds(self, commit: int) -> bool:
        """Whether this goes on from a commit, as far as it tells; 0: from none."""
        return commit == self.newest or commit <= self.previous

    def renewed(self, commit: Message | None) -> Known:
        """The same as of another commit, of which nothing else is known."""
        former = {**self.former, **self.hours}
        if commit is None:
            return Known(self.sdkappid, self.place, former=former)
        told = opened(commit, Commit)
        boxes = {box.kind: box for box in told.boxes}
        sequence = commit.sequence
        return Known(
            *(self.sdkappid, self.place, sequence, told.fence, boxes),
            former=former,
            gate=told.gate,
            previous=told.previous,
        )


def _put(held: OrderedDict[int, T], sdkappid: int, value: T) -> None:
    """Hold that, and not too many."""
    held[sdkappid] = value
    held.move_to_end(sdkappid)
    while len(held) > APPLICATIONS_MAX:
        held.popitem(last=False)


def _prints(hours: dict[int, Hour]) -> int:
    return sum(len(hour.seen) for hour in hours.values())


class Cache:
    """Applications, and chunks."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, Known] = OrderedDict()
        self._newest: OrderedDict[int, int] = OrderedDict()
        self._chunks: OrderedDict[tuple[int, int], Chunk] = OrderedDict()
        self._bytes = 0

    def get(self, sdkappid: int) -> Known | None:
        """What is remembered of an application."""
        found = self._known.get(sdkappid)
        if found is not None:
            self._known.move_to_end(sdkappid)
        return found

    def put(self, known: Known) -> None:
        """Remember that."""
        while sum(map(_prints, (known.hours, known.former))) > PRINTS_MAX:
            hours = known.former or known.hours
            del hours[min(hours)]
        _put(self._known, known.sdkappid, known)
        _put(self._newest, known.sdkappid, known.newest)

    def newest(self, sdkappid: int) -> int:
        """The newest commit of an application that was known, though all else is forgotten."""
        return self._newest.get(sdkappid, 0)

    def forget(self, sdkappid: int) -> None:
        """Remember nothing of an application, but what must be there still: its newest commit."""
        self._known.pop(sdkappid, None)

    def forget_prints(self) -> None:
        """Remember no fingerprints: some are forgotten. What a group has in hand stays as it is."""
        for sdkappid, known in self._known.items():
            self._known[sdkappid] = msgspec.structs.replace(known, hours={}, former={})

    def chunk(self, box: int, first_seq: int) -> Chunk | None:
        """A chunk as it was read or written."""
        found = self._chunks.get((box, first_seq))
        if found is not None:
            self._chunks.move_to_end((box, first_seq))
        return found

    def put_chunk(self, box: int, chunk: Chunk) -> None:
        """Remember a chunk."""
        self.drop_chunk(box, chunk.row.first_seq)
        self._chunks[box, chunk.row.first_seq] = chunk
        self._bytes += chunk.weight
        while self._bytes > CHUNK_BYTES_MAX:
            _, oldest = self._chunks.popitem(last=False)
            self._bytes -= oldest.weight

    def drop_chunk(self, box: int, first_seq: int) -> None:
        """Remember it no more."""
        former = self._chunks.pop((box, first_seq), None)
        if former is not None:
            self._bytes -= former.weight
