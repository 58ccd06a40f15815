"""What every engine that follows must do: what is derived of entries, and the mark up to which.

What the words and counts stand for is nothing to a store; here they are made up.
"""

import itertools
from collections.abc import Sequence

import pytest

from pullstatus.errors import KeyReused, SettingChanged
from pullstatus.store import (
    Backlog,
    Change,
    Count,
    Discard,
    Follow,
    Followed,
    Index,
    Mailbox,
    Outcome,
    Run,
    Segment,
    Span,
    Store,
    Tally,
    Unfollow,
    While,
    audit_store,
)
from pullstatus.store.segments import build, word
from tests.store.build import (
    NOW_MS,
    OTHERS,
    PARKED,
    REPEAT_MS,
    REPLIES,
    STATUSES,
    append,
    backlog_of,
    data_of,
    entries_of,
    follow_all,
    parked,
    pull,
    records,
    redeliver,
    repeat_key,
)
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio

HOUR = 2_026_010_203


def segment(first_seq: int, numbers: Sequence[int], sids: Sequence[int] = ()) -> Segment:
    """Entries from a number on, by their hashes."""
    return build(
        first_seq,
        len(numbers),
        [word(hashed, offset) for offset, hashed in enumerate(numbers)],
        [word(hashed, offset) for offset, hashed in enumerate(sids)],
    )


def follow(row: Backlog, through: int, segment: Segment | None = None, *tallies: Tally) -> Follow:
    return Follow(row.mailbox, row.followed, through, segment, list(tallies))


async def standing(store: Store, mailbox: Mailbox = STATUSES) -> Backlog:
    row = await backlog_of(store, mailbox)
    assert row is not None
    return row


async def mark(store: Store, mailbox: Mailbox = STATUSES) -> Followed:
    return (await standing(store, mailbox)).followed


async def behind(store: Store) -> list[Mailbox]:
    return sorted(row.mailbox for row in await store.behind(100))


async def followed(store: Store) -> Backlog:
    """Ten entries, of which five are followed, in a segment and a tally."""
    await store.append(append(STATUSES, records(10)))
    found = segment(1, [7, 8, 7, 9, 7], [1, 2, 3, 4, 5])
    assert await store.follow(follow(await standing(store), 5, found, Tally(0, HOUR, (5, 1))))
    return await standing(store)


async def test_nothing_is_followed_at_first(store: Store) -> None:
    assert await store.behind(100) == []
    await store.append(append(STATUSES, records(3)))
    await store.append(append(REPLIES, records(2)))
    await store.park(parked(append(OTHERS, records(1)), records(1)))
    assert await mark(store) == Followed()
    assert await behind(store) == [STATUSES, REPLIES, OTHERS]  # what is parked never is
    assert await store.behind(1) != []
    assert await store.spans(STATUSES) == []
    assert await store.segment(STATUSES, 1) is None
    assert await store.sought(STATUSES, Index.NUMBER, 7) == []
    assert await store.tallies(STATUSES.sdkappid, 0, 1 << 40) == []
    assert (await store.totals()).of[STATUSES.kind].followed == 0


async def test_mark_segment_and_tallies_move_as_one(store: Store, opener: Opener) -> None:
    """They are there through another door, too."""
    row = await followed(store)
    assert row.followed == Followed(5, 5, 0)
    for door in (store, await opener()):
        assert await mark(door) == Followed(5, 5, 0)
        assert await behind(door) == [STATUSES]
        assert await door.behind(9) == [row]
        assert await door.spans(STATUSES) == [Span(1, 5)]
        assert await door.segment(STATUSES, 1) == segment(1, [7, 8, 7, 9, 7], [1, 2, 3, 4, 5])
        assert await door.sought(STATUSES, Index.NUMBER, 7) == [1, 3, 5]
        assert await door.sought(STATUSES, Index.NUMBER, 9) == [4]
        assert await door.sought(STATUSES, Index.NUMBER, 5) == []
        assert await door.sought(STATUSES, Index.SID, 5) == [5]
        assert await door.sought(REPLIES, Index.SID, 5) == []
        assert await door.tallies(STATUSES.sdkappid, HOUR, HOUR) == [Tally(0, HOUR, (5, 1))]
        assert await door.tallies(OTHERS.sdkappid, HOUR, HOUR) == []
        assert (await door.totals()).of[STATUSES.kind].followed == 5
    assert await store.follow(follow(row, 10))
    assert await behind(store) == []
    assert await store.follow(follow(row, 10)) is False


async def test_nothing_of_it_is_kept_unless_the_mark_is_as_expected(store: Store) -> None:
    row = await followed(store)
    before = await store.backlog()
    for stale in (Followed(), Followed(4, 4, 0), Followed(5, 4, 0), Followed(5, 5, 1)):
        late = Follow(STATUSES, stale, 10, segment(6, [7] * 5), [Tally(0, HOUR, (5,))])
        assert await store.follow(late) is False
        assert await store.unfollow(Unfollow(STATUSES, stale, 0, None)) is False
    assert await store.follow(follow(row, 11, segment(6, [7] * 6))) is False  # not there yet
    assert await store.follow(follow(row, 5, None)) is False
    assert await store.follow(Follow(REPLIES, Followed(), 1, None, [])) is False  # no such mailbox
    assert await store.backlog() == before
    assert await store.sought(STATUSES, Index.NUMBER, 7) == [1, 3, 5]
    assert await store.tallies(STATUSES.sdkappid, HOUR, HOUR) == [Tally(0, HOUR, (5, 1))]


async def test_segment_takes_the_place_of_those_within_it(store: Store) -> None:
    await store.append(append(STATUSES, records(12)))
    for first_seq in (1, 4, 7):
        found = segment(first_seq, [first_seq, 7, 8])
        assert await store.follow(follow(await standing(store), first_seq + 2, found))
    assert await store.spans(STATUSES) == [Span(1, 3), Span(4, 3), Span(7, 3)]
    assert await store.spans(STATUSES, 5) == [Span(4, 3), Span(7, 3)]
    assert await store.spans(STATUSES, 7) == [Span(7, 3)]
    assert await store.spans(STATUSES, 10) == []
    merged = segment(4, [4, 7, 8, 7, 7, 8, 7, 7])
    assert await store.follow(follow(await standing(store), 11, merged))
    assert await store.spans(STATUSES) == [Span(1, 3), Span(4, 8)]
    assert await store.segment(STATUSES, 4) == merged
    assert await store.segment(STATUSES, 7) is None
    assert await store.sought(STATUSES, Index.NUMBER, 7) == [2, 5, 7, 8, 10, 11]
    assert await store.sought(STATUSES, Index.NUMBER, 1) == [1]


async def test_many_segments_are_searched_and_large_ones_too(store: Store) -> None:
    count = 1500
    await store.append(append(STATUSES, records(count + 150)))
    large = segment(1, [hashed << 37 | 1 for hashed in range(count)], [5] * count)
    assert await store.follow(follow(await standing(store), count, large))
    for seq in range(count + 1, count + 151):
        assert await store.follow(follow(await standing(store), seq, segment(seq, [1])))
    assert await store.sought(STATUSES, Index.NUMBER, 1) == [1, *range(count + 1, count + 151)]
    assert await store.sought(STATUSES, Index.NUMBER, 700 << 37 | 1) == [701]
    assert await store.sought(STATUSES, Index.NUMBER, 700 << 37) == []
    assert await store.sought(STATUSES, Index.SID, 5) == list(range(1, count + 1))


async def test_tallies_add_up(store: Store) -> None:
    """Whatever they are of, each by itself; a later one may have more counts."""
    row = await followed(store)
    more = (Tally(0, HOUR, (1, 1, 1)), Tally(0, HOUR, (1,)), Tally(0, HOUR + 1, (2,)))
    assert await store.follow(follow(row, 8, None, *more))
    await store.append(append(REPLIES, records(1)))
    late = Tally(1, HOUR, (1, 1 << 40))
    assert await store.follow(follow(await standing(store, REPLIES), 1, None, late))
    await store.append(append(OTHERS, records(1)))
    theirs = Tally(0, HOUR, (9,))
    assert await store.follow(follow(await standing(store, OTHERS), 1, None, theirs))
    assert await store.tallies(STATUSES.sdkappid, HOUR, HOUR + 1) == [
        Tally(0, HOUR, (7, 2, 1)),
        Tally(0, HOUR + 1, (2,)),
        late,
    ]
    assert await store.tallies(STATUSES.sdkappid, HOUR + 1, HOUR + 9) == [Tally(0, HOUR + 1, (2,))]
    assert await store.tallies(OTHERS.sdkappid, HOUR, HOUR) == [theirs]


async def test_old_hours_are_forgotten(store: Store) -> None:
    """Where those of a day are kept together, with the last of them: so this is of two days."""
    row = await followed(store)
    assert await store.follow(
        follow(row, 6, None, Tally(0, HOUR + 100, (1,)), Tally(3, HOUR, (1,)))
    )
    times = {"accepted_before_ms": 0, "now_ms": 0}
    assert await store.forget(**times) == 0
    assert await store.forget(**times, hours_before=HOUR) == 0
    assert await store.forget(**times, hours_before=HOUR + 100) == 2
    assert await store.tallies(STATUSES.sdkappid, 0, 1 << 40) == [Tally(0, HOUR + 100, (1,))]


async def test_what_was_counted_elsewhere_is_added_once_under_its_key(store: Store) -> None:
    sdkappid = STATUSES.sdkappid
    sends = Count(sdkappid, [Tally(3, HOUR, (3, 2))], NOW_MS, repeat_key("k"))
    assert await store.count(sends)
    assert await store.count(sends) is False
    with pytest.raises(KeyReused):
        await store.count(Count(sdkappid, [], NOW_MS, repeat_key("k", b"another")))
    assert await store.count(Count(sdkappid, [Tally(3, HOUR, (1,))], NOW_MS))
    assert await store.tallies(sdkappid, HOUR, HOUR) == [Tally(3, HOUR, (4, 2))]
    late = Count(sdkappid, [Tally(3, HOUR, (1,))], NOW_MS + REPEAT_MS + 1, repeat_key("k"))
    assert await store.count(late)
    name = f"application/{sdkappid}"
    await store.change(Change(name, b"{}", None))
    with pytest.raises(SettingChanged):
        await store.count(Count(sdkappid, [Tally(3, HOUR, (1,))], NOW_MS, None, While(name, 0)))
    assert await store.tallies(sdkappid, HOUR, HOUR) == [Tally(3, HOUR, (5, 2))]
    assert await store.backlog() == []


async def test_what_is_counted_anew_changes_nothing_that_can_be_read(store: Store) -> None:
    sdkappid = STATUSES.sdkappid
    kept, missing = Tally(3, HOUR, (3, 2)), Tally(3, HOUR + 1, (1,))
    await store.count(Count(sdkappid, [kept], NOW_MS))
    for _ in range(2):
        anew = [Tally(3, HOUR, (9,)), missing]
        assert await store.count(Count(sdkappid, anew, NOW_MS, anew=True))
        assert await store.tallies(sdkappid, HOUR, HOUR + 1) == [kept, missing]


async def test_what_is_counted_at_marks_is_not_added_once_one_has_moved(store: Store) -> None:
    """Of none, too, that there was not: it has no mark before something of it is followed."""
    sdkappid, there_was_none = STATUSES.sdkappid, Followed()
    stood = (await followed(store)).followed

    def count(mark: Followed, none: Followed = there_was_none) -> Count:
        marks = [(STATUSES, mark), (REPLIES, none)]
        tallies = [Tally(3, HOUR, (1,))]
        return Count(sdkappid, tallies, NOW_MS, repeat_key("k"), while_followed=marks)

    for moved in (Followed(4, 5, 0), Followed(5, 4, 0), Followed(5, 5, 1)):
        assert await store.count(count(moved)) is False
    assert await store.count(count(stood, Followed(1, 1, 0))) is False
    assert await store.tallies(sdkappid, HOUR, HOUR) == [Tally(0, HOUR, (5, 1))]
    assert await store.count(count(stood))  # a key of what was not added is new
    assert await store.count(count(stood)) is False
    await store.append(append(REPLIES, records(1)))
    marks = [(REPLIES, there_was_none)]
    other = Count(sdkappid, [Tally(3, HOUR, (2,))], NOW_MS, while_followed=marks)
    assert await store.count(other)
    await follow_all(store)
    assert await store.count(other) is False
    [counted] = [each for each in await store.tallies(sdkappid, HOUR, HOUR) if each.series == 3]
    assert counted.counts == (3,)


async def test_erased_entries_are_found_no_more(store: Store) -> None:
    """And what was read before is not followed: it may be of what is erased."""
    row = await followed(store)
    data = await data_of(store, STATUSES)
    await store.erase(STATUSES, at_ms=NOW_MS, holding=[[data[2]], [data[7]]])
    assert await store.sought(STATUSES, Index.NUMBER, 7) == [1, 5]
    assert await store.sought(STATUSES, Index.SID, 3) == []
    assert await store.spans(STATUSES) == [Span(1, 5)]
    found = await mark(store)
    assert (found.through, found.tallied) == (5, 5)
    assert found.turn > 0
    assert await store.follow(follow(row, 10, segment(6, [7] * 5))) is False
    assert await store.follow(follow(await standing(store), 10))
    await store.erase(STATUSES, at_ms=NOW_MS, holding=[[data[2]]])  # nothing is left of it
    assert (await mark(store)).turn == found.turn


async def test_no_entry_is_erased_behind_a_number(store: Store) -> None:
    await store.append(append(STATUSES, [b'{"a":1}'] * 6))
    erased = await store.erase(STATUSES, at_ms=NOW_MS, holding=[[b'"a"']], through=4)
    assert (erased.waiting, erased.left) == (4, 0)
    assert [entry.seq for entry in await entries_of(store, STATUSES)] == [5, 6]


async def test_removal_ends_at_the_mark(store: Store) -> None:
    """What it removes whole is found no more. What is parked has no mark to wait for."""
    await store.append(append(STATUSES, records(10)))
    await store.park(parked(append(STATUSES, []), records(2)))
    await store.discard(Discard(PARKED, Outcome.EXPIRED, NOW_MS))
    for _ in range(5):
        await store.pull(pull(STATUSES, 2))
    assert await store.purge(left_before_ms=NOW_MS + 1) == 2
    for first_seq in (1, 4):
        found = segment(first_seq, [7, 7, 7])
        assert await store.follow(follow(await standing(store), first_seq + 2, found))
    assert await store.purge(left_before_ms=NOW_MS + 1) == 6
    row = await standing(store)
    assert (row.purged, row.followed) == (6, Followed(6, 6, 0))
    assert await store.spans(STATUSES) == []
    assert await store.follow(follow(row, 9, segment(7, [7, 7, 7])))
    assert await store.purge(left_before_ms=NOW_MS + 1) == 2
    assert await store.spans(STATUSES) == [Span(7, 3)]
    await follow_all(store)
    assert await store.purge(left_before_ms=NOW_MS + 1) == 2
    assert (await standing(store)).purged == 10


async def test_what_is_derived_can_be_made_anew(store: Store) -> None:
    row = await followed(store)
    assert await store.follow(follow(row, 8, segment(6, [7, 7, 7]), Tally(0, HOUR + 1, (3,))))
    await store.count(Count(STATUSES.sdkappid, [Tally(3, HOUR + 1, (1,))], NOW_MS))
    row = await standing(store)
    assert await store.unfollow(Unfollow(STATUSES, row.followed, 5, HOUR + 1))
    assert await mark(store) == Followed(0, 5, 1)
    assert await store.spans(STATUSES) == []
    assert await store.sought(STATUSES, Index.NUMBER, 7) == []
    kept = [Tally(0, HOUR, (5, 1)), Tally(3, HOUR + 1, (1,))]
    assert await store.tallies(STATUSES.sdkappid, HOUR, HOUR + 1) == kept
    assert await store.follow(follow(row, 10)) is False
    assert await store.follow(follow(await standing(store), 4, segment(1, [7, 8, 7, 9])))
    assert await mark(store) == Followed(4, 5, 1)
    assert await store.follow(follow(await standing(store), 9))
    assert await mark(store) == Followed(9, 9, 1)
    assert await store.follow(follow(await standing(store), 10))
    assert await behind(store) == []
    assert await store.unfollow(Unfollow(STATUSES, await mark(store), 10, None))
    assert await behind(store) == [STATUSES]
    assert (await store.totals()).of[STATUSES.kind].followed == 0
    assert await store.tallies(STATUSES.sdkappid, HOUR, HOUR + 1) == kept


async def test_entries_are_had_by_their_numbers(store: Store) -> None:
    for _ in range(3):
        await store.append(append(STATUSES, records(120)))
    await store.append(append(OTHERS, records(5)))
    await store.pull(pull(STATUSES, 50))
    await store.erase(STATUSES, at_ms=NOW_MS, seqs=[101])
    entries = {entry.seq: entry for entry in await entries_of(store, STATUSES)}
    seqs = [1, 2, 99, 100, 101, 102, 119, 120, 121, 240, 241, 360, 361, 4000]
    found = await store.entries_at(STATUSES, seqs)
    assert found == [entries[seq] for seq in seqs if seq in entries]
    assert [entry.seq for entry in found] == [seq for seq in seqs if seq not in (101, 361, 4000)]
    assert await store.entries_at(STATUSES, []) == []
    assert await store.entries_at(STATUSES, list(range(1, 361))) == list(entries.values())
    assert await store.entries_at(REPLIES, [1]) == []


async def test_runs_are_the_entries_as_they_lie_together(store: Store) -> None:
    for place in range(3):
        await store.append(append(STATUSES, records(120), NOW_MS + place))
    await store.append(append(OTHERS, records(5)))
    await store.erase(STATUSES, at_ms=NOW_MS, seqs=[101, 200])
    for first_seq, count_max in itertools.product((1, 50, 101, 200, 360), (1, 100, 1000)):
        runs: list[Run] = []
        while True:
            seq = runs[-1].first_seq + runs[-1].count if runs else first_seq
            some = await store.runs(STATUSES, seq, count_max)
            if not some:
                break
            assert sum(run.count for run in some[:-1]) < count_max
            runs += some
        seq = first_seq
        entries = iter(await entries_of(store, STATUSES, first_seq))
        for run in runs:
            assert run.first_seq == seq
            seq += run.count
            some_entries = list(itertools.islice(entries, len(run.seqs)))
            assert run.data == b",".join(entry.data for entry in some_entries)
            assert list(run.seqs) == [entry.seq for entry in some_entries]
            assert list(run.times) == [entry.accepted_ms for entry in some_entries]
            assert run.newest_ms == max(run.times, default=run.newest_ms)
            assert set(run.seqs) <= set(range(run.first_seq, seq))
        assert next(entries, None) is None
        assert seq == 361
    assert await store.runs(STATUSES, 361, 10) == []
    assert await store.runs(REPLIES, 1, 10) == []


async def test_copies_are_followed_as_what_they_are(store: Store) -> None:
    """Entries of their own, with numbers of their own."""
    await followed(store)
    await store.pull(pull(STATUSES))
    await store.redeliver(redeliver(STATUSES, (1, 2)))
    row = await standing(store)
    assert await store.follow(follow(row, 12, segment(6, [0, 0, 0, 0, 0, 7, 8])))
    assert await store.sought(STATUSES, Index.NUMBER, 7) == [1, 3, 5, 11]


async def test_what_is_followed_is_sound(store: Store, url: str) -> None:
    await followed(store)
    await store.close()
    assert (await audit_store(url, lambda _done, _all: None)).findings == []
