"""Chunks, as bytes: what is packed comes out again, whole or cut, and no damage goes unseen."""

import itertools
import json
import os
import random
import struct
import tracemalloc

import lz4.block
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.errors import StoreCorrupt
from pullstatus.store import NO_TICKET, TICKET_BYTES, Tickets, chunk
from pullstatus.store.chunk import AT_MS_MAX, Origin
from tests.store.build import NOW_MS, packed_chunk

keys = st.integers(0, 2**63 - 1)
# None is like the place of an erased one.
entries_lists = st.lists(st.binary(min_size=2, max_size=40), min_size=1, max_size=20)


@given(keys, entries_lists)
def test_entries_come_out_as_they_went_in(key: int, entries: list[bytes]) -> None:
    checksum, bounds, body = chunk.placed(key, chunk.plain(entries))
    assert body == b",".join(entries)
    assert list(chunk.unpack(bounds, body)) == entries
    assert list(chunk.sizes(bounds)) == [len(entry) for entry in entries]
    assert chunk.checksum(key, bounds, body) == checksum
    assert chunk.damaged(len(entries), bounds, body) == []
    assert list(chunk.proven(key, len(entries), checksum, bounds, body)) == list(enumerate(entries))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=100))
def test_the_ticket_of_each_entry_comes_out_as_it_went_in(numbers: list[int]) -> None:
    """Also where two that are alike do not lie together, as those that are none."""
    tickets = [number.to_bytes(TICKET_BYTES) for number in numbers]
    label = chunk.label(tickets)
    assert chunk.origins(label, len(tickets), 7) == [Origin(each, 7) for each in tickets]
    assert len(label) == 1 + (TICKET_BYTES + 1) * sum(1 for _ in itertools.groupby(tickets))


@given(st.integers(1, chunk.COUNT_MAX))
def test_the_label_of_one_append_is_that_of_its_ticket_for_each_entry(count: int) -> None:
    ticket = b"t" * TICKET_BYTES
    assert chunk.label_of_one(ticket, count) == chunk.label([ticket] * count)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.one_of(st.integers(0, 2), st.integers(0, AT_MS_MAX))),
        min_size=1,
        max_size=100,
    )
)
def test_the_origin_of_each_entry_comes_out_as_it_went_in(numbers: list[tuple[int, int]]) -> None:
    origins = [Origin(number.to_bytes(TICKET_BYTES), at_ms) for number, at_ms in numbers]
    newest_ms = max(at_ms for _, at_ms in numbers)
    label = chunk.label_of(origins, newest_ms)
    assert chunk.origins(label, len(origins), newest_ms) == origins


def test_the_label_of_a_hundred_that_came_one_by_one_takes_little_room() -> None:
    """A ticket and a time are 22 bytes; they count up, and so go into some 4."""
    tickets = Tickets(os.urandom)
    origins = [Origin(tickets(), NOW_MS + 37 * number) for number in range(100)]
    assert len(chunk.label_of(origins, origins[-1].at_ms)) < 600


@pytest.mark.parametrize(
    "label",
    [
        *(None, b"", b"\0", b"\0" + b"1" * 16, b"\0" + b"1" * 16 + b"\2"),
        *(b"\0" + b"1" * 16 + b"\3" * 9, b"\1", b"\1\0", b"\1\3", b"\1\3" + b"1" * 30, b"\2\3"),
    ],
)
def test_a_label_that_does_not_fit_its_chunk_tells_nothing(label: bytes | None) -> None:
    assert chunk.origins(label, 3, 7) == [Origin(NO_TICKET, 7)] * 3


@given(st.binary(max_size=60), st.integers(1, 100))
def test_no_label_does_harm(label: bytes, count: int) -> None:
    assert len(chunk.origins(label, count, 7)) == count


@given(keys, entries_lists)
def test_the_checksum_fits_a_signed_column(key: int, entries: list[bytes]) -> None:
    assert 0 <= chunk.placed(key, chunk.plain(entries))[0] < 2**63


@given(entries_lists, st.data())
def test_a_cut_is_the_join_of_its_entries(entries: list[bytes], data: st.DataObject) -> None:
    _, bounds, body = chunk.placed(1, chunk.plain(entries))
    start = data.draw(st.integers(0, len(entries) - 1))
    stop = data.draw(st.integers(start + 1, len(entries) + 3))
    assert chunk.cut(bounds, body, start, stop) == b",".join(entries[start:stop])


def test_a_whole_chunk_is_cut_without_a_copy() -> None:
    """A full page is a chunk's body, the object itself: the hot path copies nothing."""
    _, bounds, body = chunk.placed(1, chunk.plain([b"a", b"b"]))
    assert chunk.cut(bounds, body, 0, 2) is body


def flip(value: bytes, bit: int) -> bytes:
    flipped = bytearray(value)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


@given(keys, entries_lists, st.data())
def test_a_flipped_bit_breaks_the_checksum(
    key: int, entries: list[bytes], data: st.DataObject
) -> None:
    """In the body, the bounds or the key; so a chunk that moved elsewhere is noticed too."""
    checksum, bounds, body = chunk.placed(key, chunk.plain(entries))
    assert chunk.checksum(key ^ 1 << data.draw(st.integers(0, 62)), bounds, body) != checksum
    bit = data.draw(st.integers(0, 8 * len(bounds) - 1))
    assert chunk.checksum(key, flip(bounds, bit), body) != checksum
    if body:
        bit = data.draw(st.integers(0, 8 * len(body) - 1))
        assert chunk.checksum(key, bounds, flip(body, bit)) != checksum


@given(keys, entries_lists, st.data())
def test_damage_is_found_in_its_entry_alone(
    key: int, entries: list[bytes], data: st.DataObject
) -> None:
    """The others can still be proven; a damaged comma between two is no entry's fault."""
    checksum, bounds, body = chunk.placed(key, chunk.plain(entries))
    if not body:
        return
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    owners = [position for position, entry in enumerate(entries) for _ in range(len(entry) + 1)]
    begins = sum(len(entry) + 1 for entry in entries[: owners[bit // 8]])
    hit_comma = bit // 8 - begins == len(entries[owners[bit // 8]])
    expected = [] if hit_comma else [owners[bit // 8]]
    damaged = flip(body, bit)
    assert chunk.damaged(len(entries), bounds, damaged) == expected
    assert list(chunk.proven(key, len(entries), checksum, bounds, damaged)) == [
        (position, entry) for position, entry in enumerate(entries) if position not in expected
    ]


@given(keys, entries_lists, st.data())
def test_nothing_unproven_comes_out_of_damaged_bounds(
    key: int, entries: list[bytes], data: st.DataObject
) -> None:
    """Whatever the sizes, the sums, the count or the length have become."""
    checksum, bounds, body = chunk.placed(key, chunk.plain(entries))
    count = len(entries) + data.draw(st.integers(-1, 1))
    bounds = data.draw(
        st.one_of(
            st.integers(0, 8 * len(bounds) - 1).map(lambda bit: flip(bounds, bit)),
            st.integers(0, len(bounds) - 1).map(lambda size: bounds[:size]),
            st.binary(max_size=200),
        )
    )
    for position, entry in chunk.proven(key, count, checksum, bounds, body):
        assert entry == entries[position]


@given(keys, entries_lists, st.data())
def test_erased_entries_are_gone_and_the_others_as_they_were(
    key: int, entries: list[bytes], data: st.DataObject
) -> None:
    """Twice changes nothing; what has left its mailbox is told from what waits."""
    checksum, bounds, body = chunk.placed(key, chunk.plain(entries))
    places = data.draw(st.sets(st.integers(0, len(entries) - 1), min_size=1))
    cursor = data.draw(st.integers(-3, len(entries)))
    row = (len(entries), checksum, bounds, body)
    erased = chunk.erase(key, row, cursor, lambda place, _entry: place in places)
    assert erased is not None
    checksum, bounds, body, told = erased
    assert told == sorted(places)
    left = [(place, entry) for place, entry in enumerate(entries) if place not in places]
    assert list(chunk.proven(key, len(entries), checksum, bounds, body)) == left
    assert chunk.checksum(key, bounds, body) == checksum
    assert chunk.empty_places(bounds) == told
    assert chunk.empty_places(bounds, waiting=True) == [place for place in told if place > cursor]
    row = (len(entries), checksum, bounds, body)
    assert chunk.erase(key, row, cursor, lambda place, _entry: place in places) is None


@given(keys, entries_lists, st.data())
def test_damaged_entries_stay_so_when_others_are_erased(
    key: int, entries: list[bytes], data: st.DataObject
) -> None:
    checksum, bounds, body = chunk.placed(key, chunk.plain(entries))
    broken = data.draw(st.integers(0, len(entries) - 1))
    place = data.draw(st.integers(0, len(entries) - 1))
    begin = sum(len(entry) + 1 for entry in entries[:broken])
    body = flip(body, 8 * begin)
    row = (len(entries), checksum, bounds, body)
    erased = chunk.erase(key, row, -1, lambda at, _entry: at == place)
    assert erased is not None
    checksum, bounds, body, _ = erased
    assert chunk.damaged(len(entries), bounds, body) == [broken] * (broken != place)
    assert (chunk.checksum(key, bounds, body) == checksum) == (broken == place)


@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_bounds_of_another_count_prove_nothing(count: int) -> None:
    _, bounds, body = chunk.placed(1, chunk.plain([b"a", b"b"]))
    assert chunk.damaged(count, bounds, body) == list(range(count))


# -- packed ----------------------------------------------------------------------------------------

RANDOM = random.Random(1)
RECORDS = [
    json.dumps(
        {
            "mobile": f"138{RANDOM.randrange(10**8):08}",
            "report_status": "SUCCESS",
            "description": "DELIVERED",
            "sid": f"{RANDOM.getrandbits(128):032x}",
        }
    ).encode()
    for _ in range(chunk.COUNT_MAX)
]
counts = st.integers(10, len(RECORDS))


@given(keys, counts)
def test_records_are_packed_and_come_out_as_they_went_in(key: int, count: int) -> None:
    entries = RECORDS[:count]
    checksum, bounds, body = chunk.placed(key, chunk.pack(entries))
    assert chunk.is_packed(bounds)
    assert len(body) < len(b",".join(entries)) * 3 // 4
    assert list(chunk.unpack(bounds, body)) == entries
    assert list(chunk.sizes(bounds)) == [len(entry) for entry in entries]
    assert chunk.entry_count(bounds) == count
    assert chunk.empty_places(bounds) == []
    assert list(chunk.proven(key, count, checksum, bounds, body)) == list(enumerate(entries))


@pytest.mark.parametrize(
    "entries",
    [
        [b"a"],
        RECORDS[:3],
        [RANDOM.randbytes(100) for _ in range(100)],
        [b"a" * (chunk.ENTRY_BYTES_MAX + 1)],
    ],
    ids=["tiny", "few", "random", "large"],
)
def test_what_packing_does_not_make_smaller_stays_plain(entries: list[bytes]) -> None:
    assert chunk.pack(entries) == chunk.plain(entries)


@pytest.mark.parametrize("erased", [chunk.ERASED_WAITING, chunk.ERASED_LATER])
@pytest.mark.parametrize("place", [0, 50, 99])
def test_what_has_an_empty_place_stays_plain(erased: bytes, place: int) -> None:
    entries = [*RECORDS[:place], erased, *RECORDS[place + 1 :]]
    packed = chunk.pack(entries)
    assert packed == chunk.plain(entries)
    assert chunk.empty_places(packed.bounds) == [place]


@given(st.sets(st.integers(0, len(RECORDS) - 1), max_size=5), st.booleans())
def test_an_empty_place_of_a_chunk_that_was_packed_is_seen(places: set[int], waiting: bool) -> None:
    """As a redelivery of what was erased once wrote them."""
    entries = [b"" if place in places else entry for place, entry in enumerate(RECORDS)]
    assert chunk.empty_places(packed_chunk(entries).bounds, waiting=waiting) == sorted(places)


def test_the_largest_entry_is_packed() -> None:
    entries = [b"a" * chunk.ENTRY_BYTES_MAX] * chunk.COUNT_MAX
    packed = chunk.pack(entries)
    assert chunk.is_packed(packed.bounds)
    assert list(chunk.unpack(packed.bounds, packed.body)) == entries


@given(counts, st.data())
def test_a_piece_of_a_packed_chunk_is_the_join_of_its_entries(
    count: int, data: st.DataObject
) -> None:
    """It is cut without being opened: its body is the chunk's, the object itself."""
    packed = chunk.pack(RECORDS[:count])
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count + 3))
    piece = chunk.cut(packed.bounds, packed.body, start, stop)
    assert isinstance(piece, chunk.Piece)
    assert piece.body is packed.body
    assert chunk.taken(piece) == b",".join(RECORDS[:count][start:stop])


@given(keys, st.data())
def test_no_flipped_bit_of_a_packed_chunk_goes_unseen(key: int, data: st.DataObject) -> None:
    """Then none of it is believed, and nothing but `StoreCorrupt` comes of reading it."""
    checksum, bounds, body = chunk.placed(key, chunk.pack(RECORDS))
    bit = data.draw(st.integers(0, 8 * (len(bounds) + len(body)) - 1))
    both = flip(bounds + body, bit)
    bounds, body = both[: len(bounds)], both[len(bounds) :]
    assert chunk.checksum(key, bounds, body) != checksum
    assert list(chunk.proven(key, len(RECORDS), checksum, bounds, body)) == []
    assert chunk.damaged(len(RECORDS), bounds, body) == list(range(len(RECORDS)))
    chunk.readable(bounds, body)


ODD = st.binary(max_size=300).filter(lambda value: len(value) % 2 == 1)


@given(st.one_of(ODD, ODD.map(lambda value: b"\1" + value[1:])), st.binary(max_size=300))
def test_bytes_that_were_never_packed_are_damage_and_nothing_else(
    bounds: bytes, body: bytes
) -> None:
    """Whatever somebody writes there, with a checksum that holds."""
    assert chunk.readable(bounds, body) is None
    with pytest.raises(StoreCorrupt):
        chunk.opened(bounds, body)
    checksum = chunk.checksum(1, bounds, body)
    assert list(chunk.proven(1, chunk.entry_count(bounds), checksum, bounds, body)) == []


def block(data: bytes, *, told: bool = False) -> bytes:
    packed: bytes = lz4.block.compress(data, store_size=told)
    return packed


PACKED = chunk.pack([b"a" * 100, b"b" * 10_000])
JOINED = b"a" * 100 + b"," + b"b" * 10_000
BOMB = bytes(1 << 25)


@pytest.mark.parametrize(
    ("bounds", "body"),
    [
        (PACKED.bounds, block(BOMB)),
        (PACKED.bounds, block(JOINED, told=True)),
        (PACKED.bounds, block(JOINED[:-1])),
        (PACKED.bounds, block(JOINED) + b"a"),
        (PACKED.bounds, block(JOINED) * 2),
        (PACKED.bounds, block(JOINED)[:-1]),
        (PACKED.bounds, b""),
        (b"\2" + PACKED.bounds[1:], PACKED.body),
        (b"\1", block(b"")),
        (b"\1\0\0", block(b"")),
        (b"\1" + struct.pack("<512H", *[65_535] * 512), block(BOMB[: 512 * 65_536 - 1])),
    ],
    ids=[
        *("larger", "says how large", "shorter", "more behind", "twice", "cut", "nothing"),
        *("another form", "no entries", "an empty entry", "too many entries"),
    ],
)
def test_a_planted_chunk_takes_no_more_memory_than_it_may(bounds: bytes, body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(StoreCorrupt):
            chunk.opened(bounds, body)
        if bounds == PACKED.bounds:
            with pytest.raises(StoreCorrupt):
                chunk.taken(chunk.Piece(body, len(JOINED), 0, len(JOINED)))
        with pytest.raises(StoreCorrupt):
            chunk.taken(chunk.Piece(body, 1 << 40, 0, 1))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_chunk_that_was_packed_before_is_read() -> None:
    """As this form was written first: it stays readable."""
    bounds = bytes.fromhex("01070007000700")
    body = bytes.fromhex("86616263646566672c0800506364656667")
    assert list(chunk.unpack(bounds, body)) == [b"abcdefg"] * 3


@given(keys, st.data())
def test_erased_entries_of_a_packed_chunk_are_gone(key: int, data: st.DataObject) -> None:
    """What is left of it is plain: empty places show without its being opened."""
    checksum, bounds, body = chunk.placed(key, chunk.pack(RECORDS))
    places = data.draw(st.sets(st.integers(0, len(RECORDS) - 1), min_size=1, max_size=5))
    cursor = data.draw(st.integers(-3, len(RECORDS)))
    row = (len(RECORDS), checksum, bounds, body)
    assert chunk.erase(key, row, cursor, lambda _place, _entry: False) is None
    erased = chunk.erase(key, row, cursor, lambda place, _entry: place in places)
    assert erased is not None
    checksum, bounds, body, told = erased
    assert not chunk.is_packed(bounds)
    assert told == chunk.empty_places(bounds) == sorted(places)
    assert list(chunk.proven(key, len(RECORDS), checksum, bounds, body)) == [
        (place, entry) for place, entry in enumerate(RECORDS) if place not in places
    ]


@given(keys, st.booleans())
def test_a_packed_chunk_that_cannot_be_read_is_erased_as_a_whole(key: int, meant: bool) -> None:
    """Who is asked is told that nobody knows what is in it; once it is gone there is no more."""
    checksum, bounds, body = chunk.placed(key, chunk.pack(RECORDS))
    row = (len(RECORDS), checksum, bounds, flip(body, 8 * 20))
    erased = chunk.erase(key, row, -1, lambda place, entry: (place, entry) == (-1, b"") and meant)
    assert erased == ((checksum, bounds, b"", []) if meant else None)
    row = (len(RECORDS), checksum, bounds, b"")
    assert chunk.erase(key, row, -1, lambda _place, _entry: True) is None
