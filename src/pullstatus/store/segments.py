"""Segments: by what entries are found, sorted, for a run of them. Pure: integers in, bytes out.

A segment has two arrays: one to find entries by the number that they tell of, one by their sid.
Each holds a word for every entry that has such a thing:

    word    48 bits of a keyed hash of it, then 16 bits: the entry's offset in the run
    block   8 bytes that prove it and name its form, then up to 511 words

A telephone number's plain hash would be found out by trying all numbers; so the hash has a key. Two
things may have one hash: whoever finds an entry here looks at the entry. Words are in order, and a
hash is as good as a random number, so it tells in which block it is, or next to which. Who looks
for it reads that block alone, from wherever the array lies.

Runs lie in *frames*, of `COUNT_MAX` numbers each, so that adjacent segments can be merged until one
of them fills its frame. A block's proof is of its place, too: in which array, of which run, and how
long that is.
"""

from __future__ import annotations

import struct
import sys
from array import array as integers
from bisect import bisect_left
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

_FORM: Final = 1
_OFFSET_BITS: Final = 16
_OFFSET: Final = (1 << _OFFSET_BITS) - 1
_HASH_BYTES: Final = 6
_HASH_BITS: Final = 8 * _HASH_BYTES
_WORD_BYTES: Final = 8
_BLOCK_BYTES: Final = 4096
_BLOCK_WORDS: Final = _BLOCK_BYTES // _WORD_BYTES - 1  # the first word's place is the proof's
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
        found += _opened(array, block, data[block * _BLOCK_BYTES : (block + 1) * _BLOCK_BYTES])
    return found


def found(segment: Segment, index: Index, hashed: int) -> list[int]:
    """The numbers of the entries that may have something of this hash, in order.

    Raises:
        StoreCorrupt: where it looked the segment is damaged.
    """
    data = segment.array(index)
    array = Array(segment.first_seq, segment.count, index, len(data))
    return search(array, hashed, lambda part: data[part.at : part.at + part.size])


def search(array: Array, hashed: int, read: Callable[[Part], bytes]) -> list[int]:
    """The same, by no more than parts of the array."""
    seeking = seek(array, hashed)
    try:
        part = next(seeking)
        while True:
            part = seeking.send(read(part))
    except StopIteration as end:
        answer: list[int] = end.value
        return answer


def seek(array: Array, hashed: int) -> Generator[Part, bytes, list[int]]:
    """The same, for who reads parts of many arrays at once: yields each part that it needs next."""
    low, high = 0, _blocks(array.size) - 1
    at = hashed * (high + 1) >> _HASH_BITS
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
    return -(-size // _BLOCK_BYTES)


def _part(array: Array, block: int) -> Part:
    at = block * _BLOCK_BYTES
    return Part(at, min(_BLOCK_BYTES, array.size - at))


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
    from xxhash import xxh3_64_intdigest  # noqa: PLC0415 - a client's commands have none of it

    return _FORM << 56 | xxh3_64_intdigest(place + body) & _PROVEN


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
