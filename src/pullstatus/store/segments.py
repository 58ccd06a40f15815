"""Segments: by what entries are found, sorted, for a run of them. Pure: integers in, bytes out.

A segment has two arrays: one to find entries by the number that they tell of, one by their sid.
Each holds a word for every entry that has such a thing:

    word    48 bits of a keyed hash of it, then 16 bits: the entry's offset in the run
    block   8 bytes that prove it and name its form, then up to 506 words

A telephone number's plain hash would be found out by trying all numbers; so the hash has a key. Two
things may have one hash: whoever finds an entry here looks at the entry. Words are in order, and a
hash is as good as a random number, so it tells in which block it is, or next to which. Who looks
for it reads that block alone, from wherever the array lies.

Runs lie in *frames*, of `COUNT_MAX` numbers each, so that adjacent segments can be merged until one
of them fills its frame. A block's proof is of its place, too: in which array, of which run, and how
long that is.
"""

from __future__ import annotations

import functools
import struct
import sys
from array import array as integers
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from enum import IntEnum
from hashlib import blake2b
from itertools import pairwise
from operator import or_
from typing import Final, NamedTuple

import msgspec

from pullstatus.errors import StoreCorrupt

COUNT_MAX: Final = 65_500  # entries of a run: an offset has 16 bits
KEY_BYTES: Final = 32

BLOCK_BYTES: Final = 4056
"""Of a block but the last one. As a row of a file it fills a page of 4 KiB; a word more would have
most of it in a second one."""

FENCE_BYTES: Final = 2
_FORM: Final = 2
_OFFSET_BITS: Final = 16
_OFFSET: Final = (1 << _OFFSET_BITS) - 1
_HASH_BYTES: Final = 6
_HASH_BITS: Final = 8 * _HASH_BYTES
_WORD_BYTES: Final = 8
_BLOCK_WORDS: Final = BLOCK_BYTES // _WORD_BYTES - 1  # the first word's place is the proof's
_PROOF: Final = struct.Struct(">Q")
_PROVEN: Final = (1 << 56) - 1  # of a proof, behind the number of the form
_PLACE: Final = struct.Struct(">QIBII")


class Index(IntEnum):
    """By what entries are found."""

    NUMBER = 0
    SID = 1


class Segment(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """By which numbers and sids the entries of a run are found.

    Attributes:
        first_seq, count: the run; it lies within one frame.
        numbers, sids: the arrays.
    """

    first_seq: int
    count: int
    numbers: bytes
    sids: bytes

    @property
    def last_seq(self) -> int:
        """Number of the last entry of the run."""
        return self.first_seq + self.count - 1

    def array(self, index: Index) -> bytes:
        """The array of one index."""
        return self.sids if index is Index.SID else self.numbers


class Array(msgspec.Struct, frozen=True, gc=False):
    """Which array it is, of which run, and how many bytes it has: all that its blocks prove."""

    first_seq: int
    count: int
    index: Index
    size: int


class Part(NamedTuple):
    """Bytes of an array."""

    at: int
    size: int


def frame_of(seq: int) -> int:
    """The number of the frame that an entry lies in."""
    return (seq - 1) // COUNT_MAX


def hasher(key: bytes) -> Callable[[bytes], int]:
    """What makes the hashes of one store, with its key of `KEY_BYTES`."""
    begun = blake2b(key=key, digest_size=_HASH_BYTES)

    def hashed(data: bytes) -> int:
        state = begun.copy()
        state.update(data)
        return int.from_bytes(state.digest(), "big")

    return hashed


WordsOf = Callable[[Sequence[bytes], Sequence[int]], list[int]]


def worder(key: bytes) -> WordsOf:
    """What makes the words of one store: those of many texts, of entries at these offsets."""
    begin = blake2b(key=key, digest_size=_HASH_BYTES).copy

    def words_of(texts: Sequence[bytes], offsets: Sequence[int]) -> list[int]:
        digests = []
        for text in texts:
            state = begin()
            state.update(text)
            digests.append(state.digest())
        digests.append(b"")  # so that there is room for an offset behind each
        hashes = struct.unpack(f">{len(texts)}Q", bytes(_OFFSET_BITS // 8).join(digests))
        return list(map(or_, hashes, offsets))

    return words_of


def word(hashed: int, offset: int) -> int:
    """The word that says: the entry of this offset has something of this hash."""
    return hashed << _OFFSET_BITS | offset


def build(first_seq: int, count: int, numbers: Sequence[int], sids: Sequence[int]) -> Segment:
    """A segment of words, which may come in any order. It is some tens of ms of work, if full."""
    assert count > 0
    assert frame_of(first_seq) == frame_of(first_seq + count - 1)
    return Segment(
        first_seq,
        count,
        _sealed(first_seq, count, Index.NUMBER, sorted(numbers)),
        _sealed(first_seq, count, Index.SID, sorted(sids)),
    )


def merge(segments: Sequence[Segment]) -> Segment:
    """One segment in place of adjacent ones, in order, that lie in one frame.

    Raises:
        StoreCorrupt: one of them is damaged.
    """
    first_seq = segments[0].first_seq
    for left, right in pairwise(segments):
        assert left.last_seq + 1 == right.first_seq
    numbers, sids = (
        [
            word + segment.first_seq - first_seq
            for segment in segments
            for word in words(segment, index)
        ]
        for index in Index
    )
    return build(first_seq, segments[-1].last_seq + 1 - first_seq, numbers, sids)


def without(segment: Segment, seqs: Collection[int]) -> Segment:
    """The segment, by which these entries are found no more; itself if they never were.

    Raises:
        StoreCorrupt: it is damaged.
    """
    gone = {seq - segment.first_seq for seq in seqs}
    numbers, sids = (
        [word for word in words(segment, index) if word & _OFFSET not in gone] for index in Index
    )
    left = build(segment.first_seq, segment.count, numbers, sids)
    return segment if left == segment else left


def words(segment: Segment, index: Index) -> list[int]:
    """All words of one array, proven, in order.

    Raises:
        StoreCorrupt: it is damaged.
    """
    data = segment.array(index)
    array = Array(segment.first_seq, segment.count, index, len(data))
    found: list[int] = []
    for block in range(_blocks(array.size)):
        found += _opened(array, block, data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES])
    return found


class Search:
    """One of an array, for whoever reads parts of many arrays at once.

    Attributes:
        array: which one.
        part: what it needs next; None: it has ended, with what it `found`.
        found: the numbers of the entries that may have something of the hash, in order.
    """

    def __init__(self, array: Array, hashed: int, fences: bytes = b"") -> None:
        """Begin one.

        Args:
            fences: those of the array, if they are at hand: where it begins to look. What is found
                does not rest on them.
        """
        self.array = array
        self.part: Part | None = None
        self.found: list[int] = []
        self._seeking = _seek(array, hashed, fences)
        self._step(None)

    def go_on(self, data: bytes) -> None:
        """Take in the part, or what is there of it.

        Raises:
            StoreCorrupt: it is damaged.
        """
        self._step(data)

    def _step(self, data: bytes | None) -> None:
        try:
            self.part = next(self._seeking) if data is None else self._seeking.send(data)
        except StopIteration as end:
            self.part, self.found = None, end.value


def fences(array: bytes) -> bytes:
    """The first `FENCE_BYTES` of the first hash of each block of an array.

    Who has them at hand knows which block has a hash, mostly, and reads no other.
    """
    behind_proofs = range(_WORD_BYTES, len(array), BLOCK_BYTES)
    return b"".join([array[at : at + FENCE_BYTES] for at in behind_proofs])


def _guess(hashed: int, last: int, fences: bytes) -> int:
    """In which block it is, or next to it; `last` is the last one."""
    if len(fences) != (last + 1) * FENCE_BYTES:
        return hashed * (last + 1) >> _HASH_BITS
    firsts = integers("H", fences)
    if sys.byteorder == "little":
        firsts.byteswap()
    return max(0, bisect_right(firsts, hashed >> _HASH_BITS - 8 * FENCE_BYTES) - 1)


def _seek(array: Array, hashed: int, fences: bytes) -> Generator[Part, bytes, list[int]]:
    """Yields each part that it needs next."""
    low, high = 0, _blocks(array.size) - 1
    at = _guess(hashed, high, fences)
    near = True
    while low <= high:
        block = _opened(array, at, (yield _part(array, at)))
        begin, end = _range(block, hashed)
        if begin < end:
            return (yield from _spread(array, hashed, at, block))
        if begin == 0:
            high = at - 1
        elif begin == len(block):
            low = at + 1
        else:
            break
        at = (high if begin == 0 else low) if near else (low + high) // 2
        near = False
    return []


def _spread(
    array: Array, hashed: int, at: int, block: Sequence[int]
) -> Generator[Part, bytes, list[int]]:
    """What is found in a block, and in those beside it if it begins or ends with that."""
    begin, end = _range(block, hashed)
    found = list(block[begin:end])
    left = at
    while begin == 0 and left > 0:
        left -= 1
        before = _opened(array, left, (yield _part(array, left)))
        begin, _ = _range(before, hashed)
        found[:0] = before[begin:]
    size = len(block)
    while end == size and at < _blocks(array.size) - 1:
        at += 1
        behind = _opened(array, at, (yield _part(array, at)))
        _, end = _range(behind, hashed)
        size = len(behind)
        found += behind[:end]
    return [array.first_seq + (word & _OFFSET) for word in found]


def _range(block: Sequence[int], hashed: int) -> tuple[int, int]:
    """Where in a block the words of a hash begin and end."""
    return bisect_left(block, word(hashed, 0)), bisect_left(block, word(hashed + 1, 0))


def _blocks(size: int) -> int:
    """How many blocks an array of so many bytes has."""
    return -(-size // BLOCK_BYTES)


def _part(array: Array, block: int) -> Part:
    at = block * BLOCK_BYTES
    return Part(at, min(BLOCK_BYTES, array.size - at))


def _sealed(first_seq: int, count: int, index: Index, words: Sequence[int]) -> bytes:
    """An array of words that are in order."""
    blocks = -(-len(words) // _BLOCK_WORDS)
    array = Array(first_seq, count, index, _WORD_BYTES * (len(words) + blocks))
    return b"".join(_sealed_blocks(array, words))


def _sealed_blocks(array: Array, words: Sequence[int]) -> Iterator[bytes]:
    for block, begin in enumerate(range(0, len(words), _BLOCK_WORDS)):
        some = words[begin : begin + _BLOCK_WORDS]
        body = struct.pack(f">{len(some)}Q", *some)
        yield _PROOF.pack(_proof(array, block, body))
        yield body


def _proof(array: Array, block: int, body: bytes) -> int:
    """What a block begins with: the number of its form, and 56 bits that prove the rest."""
    place = _PLACE.pack(array.first_seq, array.count, array.index, array.size, block)
    return _FORM << 56 | _digest()(place + body) & _PROVEN


@functools.cache
def _digest() -> Callable[[bytes], int]:
    from xxhash import xxh3_64_intdigest  # noqa: PLC0415 - a client's commands have none of it

    return xxh3_64_intdigest


def _opened(array: Array, block: int, data: bytes) -> Sequence[int]:
    """The words of a block, proven."""
    body = data[_PROOF.size :]
    is_whole = body and len(body) % _WORD_BYTES == 0
    if not is_whole or data[: _PROOF.size] != _PROOF.pack(_proof(array, block, body)):
        raise StoreCorrupt(
            f"the store is damaged: what finds the entries from {array.first_seq} on is not what"
            " was stored; `pullstatus reindex` makes it anew"
        )
    # No integers are made but of those words that are looked at.
    opened = integers("Q", body)
    if sys.byteorder == "little":
        opened.byteswap()
    return opened
