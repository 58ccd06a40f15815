"""What is derived of records, by a follower over every engine that follows."""

import json
import secrets

import pytest

from pullstatus.mailbox import following
from pullstatus.mailbox.following import Follower
from pullstatus.mailbox.index import key_of
from pullstatus.mailbox.tallies import Column
from pullstatus.records.numbers import ending
from pullstatus.store import (
    Follow,
    Followed,
    Index,
    Mailbox,
    Span,
    Store,
    segments,
)
from pullstatus.store.sqlite.engine import SqliteStore
from tests.harness import reply, status
from tests.store.build import (
    NOW_MS,
    OTHERS,
    PARKED,
    REPLIES,
    STATUSES,
    append,
    backlog_of,
    parked,
    pull,
    records,
    redeliver,
)
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000


async def test_of_several_processes_one_follows(opener: Opener) -> None:
    """Of an embedded store there is one that serves it, so nobody asks there."""
    store, other = await opener(), await opener()
    await store.append(append(STATUSES, records(3)))
    embedded = isinstance(store, SqliteStore)
    async with store.following() as ours:
        assert ours
        follower = Follower(other, secrets.token_hex)
        await follower.work()
        [row] = await store.backlog()
        assert row.followed.through == (3 if embedded else 0)
        assert follower.behind_s() < 60
    await follower.work()
    [row] = await store.backlog()
    assert row.followed.through == 3


@pytest.fixture
def follower(store: Store) -> Follower:
    return Follower(store, secrets.token_hex)


def encoded(*found: dict[str, object]) -> list[bytes]:
    return [json.dumps(record, separators=(",", ":")).encode() for record in found]


async def mark(store: Store, mailbox: Mailbox = STATUSES) -> Followed:
    row = await backlog_of(store, mailbox)
    assert row is not None
    return row.followed


async def sought(store: Store, text: str, index: Index = Index.NUMBER) -> list[int]:
    key = await key_of(store)
    assert key is not None
    return await store.sought(STATUSES, index, segments.hasher(key)(text.encode()))


async def tallied(store: Store, mailbox: Mailbox = STATUSES) -> dict[int, dict[int, int]]:
    """By hour and column, what is not 0."""
    return {
        tally.hour: {column: count for column, count in enumerate(tally.counts) if count}
        for tally in await store.tallies(mailbox.sdkappid, 0, 1 << 40)
        if tally.series == mailbox.holds
    }


async def test_records_are_found_by_their_number_and_sid(store: Store, follower: Follower) -> None:
    numbers = [7, 8, 7, 9]
    entries = encoded(*(status(number, sid=f"8:{place}") for place, number in enumerate(numbers)))
    await store.append(append(STATUSES, entries))
    await store.append(append(REPLIES, encoded(reply(7))))
    await follower.work()
    assert await sought(store, ending("86", "13800000007")) == [1, 3]
    assert await sought(store, ending("86", "13800000010")) == []
    assert await sought(store, "8:3", Index.SID) == [4]
    assert await mark(store) == Followed(4, 4, 0)
    assert await mark(store, REPLIES) == Followed(1, 1, 0)
    assert await store.behind(9) == []


async def test_hours_are_those_of_acceptance(store: Store, follower: Follower) -> None:
    kinds = [
        status(1),
        status(2, report_status="FAIL", errmsg="MK:0001"),
        status(3, report_status="FAIL", errmsg="UNDELIV"),
    ]
    await store.append(append(STATUSES, encoded(*kinds), NOW_MS))
    await store.append(append(STATUSES, encoded(*kinds[:2], kinds[0]), NOW_MS + HOUR_MS))
    await store.append(append(REPLIES, encoded(reply(1), reply(2)), NOW_MS))
    await follower.work()
    first, second = 2_027_011_516, 2_027_011_517  # of NOW_MS, eight hours ahead of Greenwich
    assert await tallied(store) == {
        first: {Column.SUCCESS: 1, 1: 1, 2: 1},
        second: {Column.SUCCESS: 2, 1: 1},
    }
    assert await tallied(store, REPLIES) == {first: {Column.REPLIES: 2}}
    assert await tallied(store, OTHERS) == {}


async def test_copies_are_found_and_not_counted_again(store: Store, follower: Follower) -> None:
    await store.append(append(STATUSES, encoded(*(status(number) for number in range(6)))))
    await store.pull(pull(STATUSES))
    await store.redeliver(redeliver(STATUSES, (2, 3)))
    await follower.work()
    await store.append(append(STATUSES, encoded(status(2))))
    await store.redeliver(redeliver(STATUSES, (1, 1), (3, 1)))
    await follower.work()
    assert await sought(store, ending("86", "13800000002")) == [3, 8, 10, 12]
    [counts] = (await tallied(store)).values()
    assert counts == {Column.SUCCESS: 7}


async def test_what_is_no_record_counts_and_is_not_found(store: Store, follower: Follower) -> None:
    """Nor is what was erased before anybody has followed it; and a whole run may hold nothing."""
    strange = [b"[]", b'{"errmsg":7}', b"1,2", b'{"mobile":8,"errmsg":"MK:0001"}']
    await store.append(append(STATUSES, [*strange, *encoded(status(7), status(8))]))
    await store.append(append(STATUSES, encoded(status(9))))
    await store.append(append(REPLIES, [b"[]"]))
    await store.erase(STATUSES, at_ms=NOW_MS, seqs=[6, 7])
    await follower.work()
    assert (await mark(store)).through == 7
    assert await sought(store, ending("86", "13800000007")) == [5]
    assert await sought(store, ending("86", "13800000008")) == []
    [counts] = (await tallied(store)).values()
    assert counts[Column.SUCCESS] == 1
    assert sum(counts[failure] for failure in range(5) if failure in counts) == 6
    [counts] = (await tallied(store, REPLIES)).values()
    assert counts == {Column.REPLIES: 1}


async def test_what_is_parked_is_let_alone(store: Store, follower: Follower) -> None:
    await store.park(parked(append(STATUSES, records(1)), records(2)))
    await follower.work()
    assert await store.spans(PARKED) == []
    assert await mark(store, PARKED) == Followed()


async def test_segments_are_merged_and_fill_their_frames(
    store: Store, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few come at a time there are few, and every entry is in one."""
    monkeypatch.setattr(segments, "COUNT_MAX", 64)
    count = 0
    for size in [1] * 20 + [3] * 20 + [50, 1, 200, 7]:
        batch = encoded(*(status(number) for number in range(count + 1, count + size + 1)))
        await store.append(append(STATUSES, batch))
        count += size
        await follower.work()
        spans = await store.spans(STATUSES)
        ends = [span.first_seq + span.count for span in spans]
        assert [span.first_seq for span in spans] == [1, *ends[:-1]]
        assert ends[-1] == count + 1
        full = count // 64
        assert spans[:full] == [Span(64 * frame + 1, 64) for frame in range(full)]
        assert len(spans) - full <= 7
    for seq in (1, 64, 65, 128, 200, count):
        assert await sought(store, ending("86", f"138{seq:08d}")) == [seq]
    [counts] = (await tallied(store)).values()
    assert counts == {Column.SUCCESS: count}


async def test_what_was_erased_while_it_was_read_is_not_followed(
    store: Store, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read again, without that."""
    await store.append(append(STATUSES, encoded(status(7), status(8))))
    follow, refused = store.follow, 0

    async def erased_before(operation: Follow) -> bool:
        nonlocal refused
        if not refused:
            await store.erase(STATUSES, at_ms=NOW_MS, seqs=[1])
        done = await follow(operation)
        refused += not done
        return done

    monkeypatch.setattr(store, "follow", erased_before)
    await follower.work()
    assert refused == 1
    assert await sought(store, ending("86", "13800000007")) == []
    assert await sought(store, ending("86", "13800000008")) == [2]


async def test_what_others_have_followed_and_removed_is_not_missing(
    store: Store, follower: Follower
) -> None:
    await store.append(append(STATUSES, encoded(status(7), status(8))))
    stood = await backlog_of(store, STATUSES)
    assert stood is not None
    await store.pull(pull(STATUSES))
    await Follower(store, secrets.token_hex).work()
    assert await store.purge(left_before_ms=NOW_MS + 1) == 2
    await follower.follow_mailbox(stood)


async def test_two_followers_count_once(store: Store, follower: Follower) -> None:
    import asyncio

    other = Follower(store, secrets.token_hex)
    for start in range(0, 300, 100):
        batch = encoded(*(status(number) for number in range(start, start + 100)))
        await store.append(append(STATUSES, batch))
        await asyncio.gather(follower.work(), other.work())
    [counts] = (await tallied(store)).values()
    assert counts == {Column.SUCCESS: 300}
    assert await sought(store, ending("86", "13800000250")) == [251]


async def test_segment_that_is_damaged_is_not_merged(store: Store, follower: Follower) -> None:
    await store.append(append(STATUSES, encoded(status(7), status(8))))
    row = await backlog_of(store, STATUSES)
    assert row is not None
    damaged = segments.Segment(1, 1, b"damaged", b"")
    assert await store.follow(Follow(STATUSES, row.followed, 1, damaged, []))
    await follower.work()
    assert await store.spans(STATUSES) == [Span(1, 1), Span(2, 1)]


async def test_what_is_thrown_away_needs_nothing_derived(store: Store) -> None:
    await store.append(append(STATUSES, encoded(status(7))))
    await store.pull(pull(STATUSES))
    await following.pass_over(store)
    assert await store.purge(left_before_ms=NOW_MS + 1) == 1
    assert await tallied(store) == {}
