"""Entries packed together: how a chunk is written, checked and cut. Pure: bytes in, bytes out.

Every engine stores these, so that what is packed at one end of a channel is cut at the other. There
are two forms, which `bounds` tells apart by being of even or of odd length:

         plain                                   packed
bounds   count sizes, then count checksums,      a byte that names the form, then count sizes,
         each a little-endian 32-bit number      each a little-endian 16-bit number
body     the entries joined by commas            the same, as a block of LZ4
checksum one number over what is stored, bounds and body, and the key, so that one look at a chunk
         proves all of it before anything is done with it

The checksums inside a plain chunk tell which entry is damaged when that number does not hold. Of a
packed one that is damaged nothing can be told, so none of it is believed. How large its body is,
once opened, is known before: it has `COUNT_MAX` entries at most, each below 64 KiB.

A chunk is packed where that makes it a good deal smaller: one of a few short entries is not. By
LZ4, since every page pays for what saves room: of a hundred realistic records it leaves 5.8 of
19.8 kB, in 9 us, and opens them in 2; Zstandard leaves 3.1, in 19 and 7.

A *label* says where the entries come from: by which operation each came, and when. It is no part of
what the checksum proves, and has two forms, which its first byte names: those of entries that came
together, and those of entries that came one by one and were joined later.

An entry that was erased leaves its place empty: `ERASED_WAITING` if it had not left its mailbox,
`ERASED_LATER` if it had. No entry that is stored is one of these. A chunk with such places is
plain, or its bounds would not tell which were erased when.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import lz4.block
import msgspec
from xxhash import xxh3_64_intdigest

from pullstatus import limits
from pullstatus.errors import StoreCorrupt
from pullstatus.store.values import NO_TICKET, TICKET_BYTES, Chunk

COUNT_MAX = limits.PULL_COUNT_MAX  # a full page is then one read
ERASED_WAITING = b""
ERASED_LATER = b" "

PACKED_BYTES_MIN = 1024  # of entries: below, packing saves little of what a row and its page take
ENTRY_BYTES_MAX = (1 << 16) - 1  # in a packed chunk
AT_MS_MAX = (1 << 48) - 1  # that a label can tell
_PACKED = b"\x01"
_TOGETHER = b"\x00"  # the form of a label
APART = b"\x01"
_PART_BYTES = TICKET_BYTES + 1  # of the first form
_PART = struct.Struct(f">{TICKET_BYTES}sBHI")  # of the second
_COUNTS = [bytes((count,)) for count in range(256)]
_SIGNED = (1 << 63) - 1  # SQLite integers are signed
_HALF = (1 << 32) - 1
_WAITING, _LATER = [
    (len(entry), xxh3_64_intdigest(entry) & _HALF) for entry in (ERASED_WAITING, ERASED_LATER)
]


class Piece(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Entries that lie together in a packed chunk.

    Attributes:
        body: the chunk's.
        size: of that, opened.
        begin, end: where in the opened body they lie.
    """

    body: bytes
    size: int
    begin: int
    end: int


def pack(entries: Sequence[bytes]) -> Chunk:
    """A chunk of at most `COUNT_MAX` entries, packed if that makes it a good deal smaller."""
    body = b",".join(entries)
    if (
        len(body) >= PACKED_BYTES_MIN
        and (len(body) <= ENTRY_BYTES_MAX or max(map(len, entries)) <= ENTRY_BYTES_MAX)
        and min(map(len, entries)) > len(ERASED_LATER)
    ):
        block: bytes = lz4.block.compress(body, store_size=False)
        if 4 * len(block) <= 3 * len(body):
            count = len(entries)
            return Chunk(count, _PACKED + struct.pack(f"<{count}H", *map(len, entries)), block)
    return plain(entries)


def plain(entries: Sequence[bytes]) -> Chunk:
    """A chunk that is not packed."""
    sums = [xxh3_64_intdigest(entry) & _HALF for entry in entries]
    bounds = struct.pack(f"<{2 * len(sums)}I", *map(len, entries), *sums)
    return Chunk(len(sums), bounds, b",".join(entries))


def placed(key: int, chunk: Chunk) -> tuple[int, bytes, bytes]:
    """Checksum, bounds and body of a chunk at its place."""
    return checksum(key, chunk.bounds, chunk.body), chunk.bounds, chunk.body


class Origin(NamedTuple):
    """By which operation an entry came, and when."""

    ticket: bytes
    at_ms: int


def label(tickets: Sequence[bytes]) -> bytes:
    """The label of entries that came together, given the ticket of each.

    For each append that has a part in it: its ticket, and how many entries that part has.
    """
    parts: list[bytes] = [_TOGETHER]
    own, count = tickets[0], 0
    for ticket in tickets:
        if ticket != own:
            parts += (own, _COUNTS[count])
            own, count = ticket, 0
        count += 1
    return b"".join((*parts, own, _COUNTS[count]))


def label_of_one(ticket: bytes, count: int) -> bytes:
    """The same of entries that came by one append."""
    return b"".join((_TOGETHER, ticket, _COUNTS[count]))


def label_of(origins: Sequence[Origin], accepted_ms: int) -> bytes:
    """The label of a chunk, given where each entry comes from, and when the newest of them came.

    Of entries that came apart a part has its time, too. Tickets and times count up, so it is packed
    by columns: first bytes, second bytes, and so on.
    """
    if all(origin.at_ms == accepted_ms for origin in origins):
        return label([origin.ticket for origin in origins])
    rows = b"".join(
        _PART.pack(origin.ticket, len(list(part)), *divmod(origin.at_ms, 1 << 32))
        for origin, part in groupby(origins)
    )
    columns = b"".join(rows[column :: _PART.size] for column in range(_PART.size))
    block: bytes = lz4.block.compress(columns, store_size=False)
    return APART + _COUNTS[len(rows) // _PART.size] + block


def origins(label: bytes | None, count: int, accepted_ms: int) -> list[Origin]:
    """Where each of `count` entries comes from; if the label does not tell, one for all of them.

    Args:
        accepted_ms: when the newest of them came.
    """
    found = [] if label is None else _origins(label, accepted_ms)
    return found if len(found) == count else [Origin(NO_TICKET, accepted_ms)] * count


def _origins(label: bytes, accepted_ms: int) -> list[Origin]:
    form, told = label[:1], label[1:]
    if form == _TOGETHER:
        if len(told) == _PART_BYTES:
            return [Origin(told[:TICKET_BYTES], accepted_ms)] * told[-1]
        parts = [told[start : start + _PART_BYTES] for start in range(0, len(told), _PART_BYTES)]
        return [
            origin
            for part in parts
            for origin in [Origin(part[:TICKET_BYTES], accepted_ms)] * part[-1]
        ]
    if form != APART or not told:
        return []
    size = _PART.size * told[0]
    try:
        columns = _open(told[1:], size)
    except StoreCorrupt:
        return []
    rows = b"".join(columns[row :: told[0]] for row in range(told[0]))
    return [
        origin
        for ticket, part, high, low in _PART.iter_unpack(rows)
        for origin in [Origin(ticket, high << 32 | low)] * part
    ]


def checksum(key: int, bounds: bytes, body: bytes) -> int:
    """The number that proves a chunk is whole and in its place."""
    return xxh3_64_intdigest(body, xxh3_64_intdigest(bounds, key)) & _SIGNED


def is_packed(bounds: bytes) -> bool:
    """Whether the body must be opened to be read."""
    return len(bounds) % 2 == 1


def entry_count(bounds: bytes) -> int:
    """How many entries a chunk has, as far as its bounds tell."""
    return len(bounds) // 2 if is_packed(bounds) else len(bounds) // 8


def sizes(bounds: bytes) -> tuple[int, ...]:
    """Bytes of each entry, in order."""
    if is_packed(bounds):
        return struct.unpack_from(f"<{len(bounds) // 2}H", bounds, 1)
    return struct.unpack_from(f"<{len(bounds) // 8}I", bounds)


def opened(bounds: bytes, body: bytes) -> bytes:
    """The entries of a chunk joined by commas, whatever its form.

    Raises:
        StoreCorrupt: it is none that was ever packed.
    """
    if not is_packed(bounds):
        return body
    lengths = sizes(bounds)
    if bounds[:1] != _PACKED or not 0 < len(lengths) <= COUNT_MAX:
        raise StoreCorrupt(_NO_CHUNK)
    return _open(body, sum(lengths) + len(lengths) - 1)


def taken(piece: Piece) -> bytes:
    """The entries of a piece, joined by commas.

    Raises:
        StoreCorrupt: its chunk is none that was ever packed.
    """
    joined = _open(piece.body, piece.size)
    return joined if piece.end - piece.begin == piece.size else joined[piece.begin : piece.end]


_SIZE_MAX = COUNT_MAX * (ENTRY_BYTES_MAX + 1)
_NO_CHUNK = "a chunk is damaged: keep a copy of the store, then restore a backup"


def _open(block: bytes, size: int) -> bytes:
    """What a block holds, for which as much memory is taken as is known to be due, and no more."""
    if not 0 < size <= _SIZE_MAX:
        raise StoreCorrupt(_NO_CHUNK)
    try:
        joined: bytes = lz4.block.decompress(block, uncompressed_size=size)
    except lz4.block.LZ4BlockError as error:
        raise StoreCorrupt(_NO_CHUNK) from error
    if len(joined) != size:
        raise StoreCorrupt(_NO_CHUNK)
    return joined


def empty_places(bounds: bytes, *, waiting: bool = False) -> list[int]:
    """Positions of the entries that were erased, or of those that were while they waited."""
    lengths = sizes(bounds)
    if min(lengths, default=2) > len(ERASED_LATER):
        return []
    if is_packed(bounds):  # as a redelivery of what was erased once was
        longest = len(ERASED_WAITING if waiting else ERASED_LATER)
        return [place for place, size in enumerate(lengths) if size <= longest]
    sums = struct.unpack_from(f"<{len(lengths)}I", bounds, 4 * len(lengths))
    return [
        place
        for place, (size, told) in enumerate(zip(lengths, sums, strict=True))
        if (size, told) == _WAITING or (not waiting and (size, told) == _LATER)
    ]


def erase(
    key: int,
    row: tuple[int, int, bytes, bytes],
    cursor: int,
    is_meant: Callable[[int, bytes], bool],
) -> tuple[int, bytes, bytes, list[int]] | None:
    """A chunk without the entries that are meant: its checksum, bounds, body, and their positions.

    What is damaged in it stays damaged, unless it is meant. None: nothing is.

    Args:
        row: its count, checksum, bounds and body.
        cursor: position of the last entry that has left its mailbox; below 0: none has.
        is_meant: told a position and the bytes there; or -1, and all the bytes there are, or none
            of them, where it is not known what lies where. That goes as a whole.
    """
    count, expected, bounds, body = row
    sound = checksum(key, bounds, body) == expected
    if is_packed(bounds):
        if not sound or (joined := readable(bounds, body)) is None or entry_count(bounds) != count:
            # What it held is not known, so it is meant if anything there may be.
            return (expected, bounds, b"", []) if body and is_meant(-1, b"") else None
        _, bounds, body = msgspec.structs.astuple(plain(list(parts(bounds, joined))))
    aside = [] if sound else damaged(count, bounds, body)
    if len(aside) == count and (
        len(bounds) != 8 * count or sum(sizes(bounds)) + count - 1 != len(body)
    ):
        # Where its entries begin and end is not known, and none of them is ever handed out.
        return (expected, bounds, b"", []) if is_meant(-1, body) else None
    entries = list(unpack(bounds, body))
    meant = [
        place
        for place, entry in enumerate(entries)
        if entry not in (ERASED_WAITING, ERASED_LATER) and is_meant(place, entry)
    ]
    if not meant:
        return None
    sums = list(struct.unpack_from(f"<{count}I", bounds, 4 * count))
    for place in meant:
        entries[place] = ERASED_LATER if place <= cursor else ERASED_WAITING
        sums[place] = xxh3_64_intdigest(entries[place]) & _HALF
    body = b",".join(entries)
    bounds = struct.pack(f"<{2 * count}I", *map(len, entries), *sums)
    proof = checksum(key, bounds, body)
    return (proof if set(aside) <= set(meant) else proof ^ 1), bounds, body, meant


def readable(bounds: bytes, body: bytes) -> bytes | None:
    """As `opened`; None for what can't be."""
    try:
        return opened(bounds, body)
    except StoreCorrupt:
        return None


def cut(bounds: bytes, body: bytes, start: int, stop: int) -> bytes | Piece:
    """The entries `start` up to but not including `stop`, counted from 0.

    Joined by commas, or still packed: who answers with them opens them, by `taken`.
    """
    lengths = sizes(bounds)
    size = sum(lengths) + len(lengths) - 1
    begin, end = 0, size
    if start or stop < len(lengths):
        inside = lengths[start:stop]
        begin = sum(lengths[:start]) + start
        end = begin + sum(inside) + len(inside) - 1
    return Piece(body, size, begin, end) if is_packed(bounds) else body[begin:end]


def unpack(bounds: bytes, body: bytes) -> Iterator[bytes]:
    """Each entry, in order.

    Raises:
        StoreCorrupt: as of `opened`.
    """
    return parts(bounds, opened(bounds, body))


def parts(bounds: bytes, joined: bytes) -> Iterator[bytes]:
    """Each entry of what was opened, in order."""
    begin = 0
    for size in sizes(bounds):
        yield joined[begin : begin + size]
        begin += size + 1


def proven(
    key: int, count: int, expected: int, bounds: bytes, body: bytes
) -> Iterator[tuple[int, bytes]]:
    """Each entry that is what was stored, with its position; `expected` is the chunk's checksum.

    Without those that were erased.
    """
    aside: list[int] = []
    if checksum(key, bounds, body) != expected:
        aside = damaged(count, bounds, body)
        if len(aside) == count:
            return
    joined = readable(bounds, body)
    if joined is None:
        return
    for position, entry in enumerate(parts(bounds, joined)):
        if position not in aside and entry not in (ERASED_WAITING, ERASED_LATER):
            yield position, entry


def whole(key: int, count: int, expected: int, bounds: bytes, body: bytes) -> bytes | None:
    """All entries joined by commas, of a chunk that is what was stored, with nothing erased.

    None: it is not, or something is.
    """
    if checksum(key, bounds, body) != expected or entry_count(bounds) != count:
        return None
    return None if empty_places(bounds) else readable(bounds, body)


def damaged(count: int, bounds: bytes, body: bytes) -> list[int]:
    """Positions of the entries that nothing proves, where the chunk's checksum does not hold.

    In a plain chunk those that do not match their own; all, if bounds are off.
    """
    if is_packed(bounds) or len(bounds) != 8 * count or sum(sizes(bounds)) + count - 1 != len(body):
        return list(range(count))
    sums = struct.unpack_from(f"<{count}I", bounds, 4 * count)
    return [
        position
        for position, (entry, expected) in enumerate(zip(parts(bounds, body), sums, strict=True))
        if xxh3_64_intdigest(entry) & _HALF != expected
    ]
