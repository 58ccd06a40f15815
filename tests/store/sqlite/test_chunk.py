"""Chunks, as bytes: what is packed comes out again, whole or cut, and no damage goes unseen."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.store import NO_TICKET, TICKET_BYTES
from pullstatus.store.sqlite import chunk

keys = st.integers(0, 2**63 - 1)
# None is like the place of an erased one.
entries_lists = st.lists(st.binary(min_size=2, max_size=40), min_size=1, max_size=20)


@given(keys, entries_lists)
def test_entries_come_out_as_they_went_in(key: int, entries: list[bytes]) -> None:
    checksum, bounds, body = chunk.pack(key, entries)
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
    assert chunk.tickets(label, len(tickets)) == tickets
    assert len(label) == (TICKET_BYTES + 1) * sum(1 for _ in itertools.groupby(tickets))


@pytest.mark.parametrize(
    "label", [None, b"", b"1" * 16, b"1" * 16 + b"\x02", b"1" * 16 + b"\3" * 9]
)
def test_a_label_that_does_not_fit_its_chunk_tells_nothing(label: bytes | None) -> None:
    assert chunk.tickets(label, 3) == [NO_TICKET] * 3


@given(keys, entries_lists)
def test_the_checksum_fits_a_signed_column(key: int, entries: list[bytes]) -> None:
    assert 0 <= chunk.pack(key, entries)[0] < 2**63


@given(entries_lists, st.data())
def test_a_cut_is_the_join_of_its_entries(entries: list[bytes], data: st.DataObject) -> None:
    _, bounds, body = chunk.pack(1, entries)
    start = data.draw(st.integers(0, len(entries) - 1))
    stop = data.draw(st.integers(start + 1, len(entries) + 3))
    assert chunk.cut(bounds, body, start, stop) == b",".join(entries[start:stop])


def test_a_whole_chunk_is_cut_without_a_copy() -> None:
    """A full page is a chunk's body, the object itself: the hot path copies nothing."""
    _, bounds, body = chunk.pack(1, [b"a", b"b"])
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
    checksum, bounds, body = chunk.pack(key, entries)
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
    checksum, bounds, body = chunk.pack(key, entries)
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
    checksum, bounds, body = chunk.pack(key, entries)
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
    checksum, bounds, body = chunk.pack(key, entries)
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
    checksum, bounds, body = chunk.pack(key, entries)
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
    _, bounds, body = chunk.pack(1, [b"a", b"b"])
    assert chunk.damaged(count, bounds, body) == list(range(count))
