"""Segments, against dictionaries: all that is there is found, by few reads, and damage is told."""

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.errors import StoreCorrupt
from pullstatus.store import segments
from pullstatus.store.segments import (
    BLOCK_BYTES,
    COUNT_MAX,
    KEY_BYTES,
    Array,
    Index,
    Search,
    Segment,
    word,
)

HASH_MAX = (1 << 48) - 1

# Few are drawn of many, so that some are alike and some are at either end.
hashes = st.one_of(st.integers(0, 3), st.integers(0, HASH_MAX), st.just(HASH_MAX))
firsts = st.one_of(st.just(1), st.just(COUNT_MAX + 1), st.integers(1, COUNT_MAX - 200))
entries = st.lists(st.tuples(st.none() | hashes, st.none() | hashes), min_size=1, max_size=60)

Things = list[tuple[int | None, int | None]]


def built(first_seq: int, things: Things) -> Segment:
    """The segment of entries that have these, each a number and a sid."""
    arrays = [
        [
            word(hashed, offset)
            for offset, each in enumerate(things)
            if (hashed := each[index]) is not None
        ]
        for index in Index
    ]
    return segments.build(first_seq, len(things), *arrays)


def expected(first_seq: int, things: Things, index: Index) -> dict[int, list[int]]:
    """Which entries have what."""
    found: dict[int, list[int]] = {}
    for seq, each in enumerate(things, first_seq):
        hashed = each[index]
        if hashed is not None:
            found.setdefault(hashed, []).append(seq)
    return found


def found(
    segment: Segment, index: Index, hashed: int, fences: bytes = b""
) -> tuple[list[int], int]:
    """What a search finds, and how many parts it read."""
    data, reads = segment.array(index), 0
    array = Array(segment.first_seq, segment.count, index, len(data))
    search = Search(array, hashed, fences)
    while search.part is not None:
        at, size = search.part
        reads += 1
        search.go_on(data[at : at + size])
    return search.found, reads


def check(segment: Segment, first_seq: int, things: Things) -> None:
    """All that is there is found, and nothing else."""
    for index in Index:
        known = expected(first_seq, things, index)
        for hashed in {0, HASH_MAX}.union(*({hashed - 1, hashed, hashed + 1} for hashed in known)):
            if 0 <= hashed <= HASH_MAX:
                assert found(segment, index, hashed)[0] == known.get(hashed, [])


@given(firsts, entries)
def test_every_entry_is_found_by_what_it_has(first_seq: int, things: Things) -> None:
    segment = built(first_seq, things)
    assert (segment.first_seq, segment.count) == (first_seq, len(things))
    check(segment, first_seq, things)


@given(firsts, st.lists(entries, min_size=1, max_size=5))
def test_merged_segments_are_the_segment_of_all_their_entries(
    first_seq: int, runs: list[Things]
) -> None:
    parts, seq = [], first_seq
    for run in runs:
        parts.append(built(seq, run))
        seq += len(run)
    assert segments.merge(parts) == built(first_seq, [each for run in runs for each in run])


@given(firsts, entries, st.sets(st.integers(-1, 60)))
def test_what_is_dropped_is_found_no_more(
    first_seq: int, things: Things, dropped: set[int]
) -> None:
    segment = built(first_seq, things)
    left = segments.without(segment, [first_seq + offset for offset in dropped])
    rest = [(None, None) if at in dropped else each for at, each in enumerate(things)]
    assert left == built(first_seq, rest)
    check(left, first_seq, rest)


def full(chance: random.Random, alike: int) -> tuple[list[int], Things]:
    """Hashes by chance, and entries for a whole segment, so many of which have one number."""
    hashed = [chance.randrange(HASH_MAX + 1) for _ in range(COUNT_MAX // alike + 1)]
    return hashed, [(hashed[at // alike], None) for at in range(COUNT_MAX)]


@pytest.mark.parametrize("alike", [1, 400, 600, 30_000])
def test_a_full_segment_is_searched_by_a_few_parts_of_it(alike: int) -> None:
    """Also one in which one thing has many blocks, so that none is where its hash tells."""
    chance = random.Random(alike)
    hashed, things = full(chance, alike)
    segment = built(1, things)
    known = expected(1, things, Index.NUMBER)
    sought = [*hashed[:200], *(chance.randrange(HASH_MAX + 1) for _ in range(200))]
    read = 0
    for each in sought:
        its, reads = found(segment, Index.NUMBER, each)
        assert its == known.get(each, [])
        assert reads <= len(its) // 506 + 9
        read += reads
    if alike == 1:
        assert read < 1.6 * len(sought)
    assert found(segment, Index.SID, hashed[0]) == ([], 0)


@pytest.mark.parametrize("alike", [1, 400, 600, 30_000])
def test_fences_tell_in_which_block_it_is(alike: int) -> None:
    """And if they tell something else, it is found all the same."""
    chance = random.Random(alike)
    hashed, things = full(chance, alike)
    segment = built(1, things)
    known = expected(1, things, Index.NUMBER)
    fences = segments.fences(segment.numbers)
    wrong = chance.randbytes(len(fences)), bytes(len(fences)), fences[:-1], fences + b"00"
    sought = [*hashed[:200], *(chance.randrange(HASH_MAX + 1) for _ in range(200)), 0, HASH_MAX]
    read = 0
    for each in sought:
        due = known.get(each, [])
        its, reads = found(segment, Index.NUMBER, each, fences)
        assert its == due
        read += reads
        assert [found(segment, Index.NUMBER, each, of_none)[0] for of_none in wrong] == [due] * 4
    if alike == 1:
        assert read < 1.05 * len(sought)


@given(entries, st.data())
def test_no_damage_goes_unseen(things: Things, data: st.DataObject) -> None:
    segment = built(1, [*things, (7, 7)])
    whole = segment.numbers
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    cut = whole[: -data.draw(st.integers(1, len(whole) - 1))]
    for damaged in (
        Segment(1, segment.count, flipped, segment.sids),
        Segment(1, segment.count, cut, segment.sids),
        Segment(2, segment.count, whole, segment.sids),
        Segment(1, segment.count + 1, whole, segment.sids),
        Segment(1, segment.count, b"", whole),
    ):
        index = Index.NUMBER if damaged.numbers else Index.SID
        for attempt in (
            lambda damaged=damaged, index=index: found(damaged, index, 7),
            lambda damaged=damaged: segments.without(damaged, []),
            lambda damaged=damaged: segments.merge([damaged]),
        ):
            with pytest.raises(StoreCorrupt, match="pullstatus reindex"):
                attempt()


def test_blocks_that_changed_places_are_no_longer_proven() -> None:
    segment = built(1, [(at << 32, None) for at in range(3 * 506)])
    first, second, third = (
        segment.numbers[at : at + BLOCK_BYTES] for at in range(0, 3 * BLOCK_BYTES, BLOCK_BYTES)
    )
    for moved in (second + first + third, first + second, first + second + second):
        with pytest.raises(StoreCorrupt):
            segments.words(Segment(1, 3 * 506, moved, b""), Index.NUMBER)


def test_a_hash_has_48_bits_and_is_made_by_a_key() -> None:
    key = os.urandom(KEY_BYTES)
    hashed = segments.hasher(key)
    assert hashed(b"8613711112222") == hashed(b"8613711112222") <= HASH_MAX
    assert hashed(b"8613711112222") != hashed(b"8613711112223")
    assert segments.hasher(os.urandom(KEY_BYTES))(b"8613711112222") != hashed(b"8613711112222")


def test_words_of_many_are_those_of_each() -> None:
    """Whoever finds something hashes it alone."""
    key = os.urandom(KEY_BYTES)
    hashed, words_of = segments.hasher(key), segments.worder(key)
    texts = [b"%d" % number for number in range(1000)]
    offsets = [65_499, *range(7, 7 + 999)]
    each = [word(hashed(text), offset) for text, offset in zip(texts, offsets, strict=True)]
    assert words_of(texts, offsets) == each
    assert words_of([], []) == []
    assert max(hashed(b"%d" % each) for each in range(50)) > HASH_MAX >> 8


def test_runs_lie_in_frames() -> None:
    assert [segments.frame_of(seq) for seq in (1, COUNT_MAX, COUNT_MAX + 1, 2 * COUNT_MAX)] == [
        0, 0, 1, 1,
    ]  # fmt: skip
