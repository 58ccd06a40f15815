"""Entries packed together: how a chunk is written, checked and cut. Pure: bytes in, bytes out.

bounds   count sizes, then count checksums, each a little-endian 32-bit number
body     the entries joined by commas: a page that takes a whole chunk takes it as it is
checksum one number over both and the key, so that one look at a chunk proves all of it;
         the checksums inside tell which entry is damaged when it does not hold

An entry that was erased leaves its place empty: `ERASED_WAITING` if it had not left its mailbox,
`ERASED_LATER` if it had. No entry that is stored is one of these.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

from xxhash import xxh3_64_intdigest

from pullstatus.store.values import NO_TICKET, TICKET_BYTES

ERASED_WAITING = b""
ERASED_LATER = b" "

_PART_BYTES = TICKET_BYTES + 1  # of a label
_COUNTS = [bytes((count,)) for count in range(256)]
_SIGNED = (1 << 63) - 1  # SQLite integers are signed
_HALF = (1 << 32) - 1
_WAITING, _LATER = [
    (len(entry), xxh3_64_intdigest(entry) & _HALF) for entry in (ERASED_WAITING, ERASED_LATER)
]


def pack(key: int, entries: Sequence[bytes]) -> tuple[int, bytes, bytes]:
    """Checksum, bounds and body of a chunk that holds `entries`."""
    body = b",".join(entries)
    sizes = map(len, entries)
    sums = [xxh3_64_intdigest(entry) & _HALF for entry in entries]
    bounds = struct.pack(f"<{2 * len(sums)}I", *sizes, *sums)
    return checksum(key, bounds, body), bounds, body


def label(tickets: Sequence[bytes]) -> bytes:
    """By what the entries of a chunk came, given the ticket of each.

    For each append that has a part in it: its ticket, and how many entries that part has.
    """
    parts: list[bytes] = []
    own, count = tickets[0], 0
    for ticket in tickets:
        if ticket != own:
            parts += (own, _COUNTS[count])
            own, count = ticket, 0
        count += 1
    return b"".join((*parts, own, _COUNTS[count]))


def tickets(label: bytes | None, count: int) -> list[bytes]:
    """The ticket of each of `count` entries; `NO_TICKET` if the label does not tell."""
    told = label or b""
    parts = [told[start : start + _PART_BYTES] for start in range(0, len(told), _PART_BYTES)]
    found = [part[:TICKET_BYTES] for part in parts for _ in range(part[-1])]
    return found if len(found) == count else [NO_TICKET] * count


def checksum(key: int, bounds: bytes, body: bytes) -> int:
    """The number that proves a chunk is whole and in its place."""
    return xxh3_64_intdigest(body, xxh3_64_intdigest(bounds, key)) & _SIGNED


def sizes(bounds: bytes) -> tuple[int, ...]:
    """Bytes of each entry, in order."""
    return struct.unpack_from(f"<{len(bounds) // 8}I", bounds)


def empty_places(bounds: bytes, *, waiting: bool = False) -> list[int]:
    """Positions of the entries that were erased, or of those that were while they waited."""
    lengths = sizes(bounds)
    if min(lengths, default=2) > len(ERASED_LATER):
        return []
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
        is_meant: told a position and the bytes there.
    """
    count, expected, bounds, body = row
    sound = checksum(key, bounds, body) == expected
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


def cut(bounds: bytes, body: bytes, start: int, stop: int) -> bytes:
    """The entries `start` up to but not including `stop` (counted from 0), joined by commas."""
    lengths = sizes(bounds)
    if start == 0 and stop >= len(lengths):
        return body
    begin = sum(lengths[:start]) + start
    end = begin + sum(lengths[start:stop]) + stop - start - 1
    return body[begin:end]


def unpack(bounds: bytes, body: bytes) -> Iterator[bytes]:
    """Each entry, in order."""
    begin = 0
    for size in sizes(bounds):
        yield body[begin : begin + size]
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
    for position, entry in enumerate(unpack(bounds, body)):
        if position not in aside and entry not in (ERASED_WAITING, ERASED_LATER):
            yield position, entry


def damaged(count: int, bounds: bytes, body: bytes) -> list[int]:
    """Positions of the entries that do not match their own checksums; all, if bounds are off."""
    if len(bounds) != 8 * count or sum(sizes(bounds)) + count - 1 != len(body):
        return list(range(count))
    sums = struct.unpack_from(f"<{count}I", bounds, 4 * count)
    return [
        position
        for position, (entry, expected) in enumerate(zip(unpack(bounds, body), sums, strict=True))
        if xxh3_64_intdigest(entry) & _HALF != expected
    ]
