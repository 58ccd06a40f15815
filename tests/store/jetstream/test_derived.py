"""Segments and tallies as messages: in parts that nodes take, of which a search reads some."""

from __future__ import annotations

import itertools
import secrets

import pytest

from pullstatus.apps import Operator
from pullstatus.errors import StoreCorrupt, StoreDamaged, StoreUnavailable
from pullstatus.mailbox.following import Follower
from pullstatus.mailbox.proving import problems
from pullstatus.mailbox.reindexing import reindex
from pullstatus.mailbox.statistics import counted
from pullstatus.mailbox.tallies import EVER, LAST_HOUR
from pullstatus.store import Count, Follow, Index, Segment, Store, Tally, Unfollow, open_store
from pullstatus.store.jetstream import derived
from pullstatus.store.jetstream.wire import Message
from pullstatus.store.jetstream.writing import MESSAGE_BYTES_MAX
from pullstatus.store.segments import BLOCK_BYTES, COUNT_MAX, build, word
from tests.harness import status
from tests.store.build import NOW_MS, STATUSES, append, records
from tests.store.jetstream.memory import MemoryBus
from tests.store.jetstream.scheme import LAYOUT, bus_of
from tests.store.jetstream.scheme import _clusters as clusters
from tests.store.jetstream.scheme import cluster as urls
from tests.store.test_follower import encoded

pytestmark = pytest.mark.anyio

PLACE = LAYOUT.application(STATUSES.sdkappid)
ALL = f"{PLACE.prefix}.0.array.>"
HASH_MAX = (1 << 48) - 1
HOUR = 2_027_011_516  # of NOW_MS


def segment(first_seq: int, count: int) -> Segment:
    """Of entries whose hashes lie as far from each other as they can."""
    words = [word(place * HASH_MAX // count, place) for place in range(count)]
    return build(first_seq, count, words, words[::2])


def spoil(bus: MemoryBus, subject: str) -> None:
    """Flip a bit of the newest message of a subject on all nodes."""
    message = bus.last(PLACE.stream, subject, leader=True)
    assert message is not None
    *rest, last = message.data
    bus.damage(PLACE.stream, message._replace(data=bytes([*rest, last ^ 1])))


async def follow(store: Store, through: int, segment: Segment, *tallies: Tally) -> None:
    [row] = await store.backlog()
    assert await store.follow(Follow(STATUSES, row.followed, through, segment, list(tallies)))


def test_a_full_segment_lies_in_messages_that_nodes_take() -> None:
    parts = list(derived.parts_of(PLACE, 0, segment(1, COUNT_MAX)))
    assert len({subject for subject, _ in parts}) == len(parts) == 26
    assert max(len(part.data) for _, part in parts) < MESSAGE_BYTES_MAX // 2


async def test_a_search_reads_no_more_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an array of several parts: the one that it looks into, or those beside it, too."""
    monkeypatch.setattr(derived, "PART_BYTES", BLOCK_BYTES)
    with urls(None) as url:  # type: ignore[arg-type]
        store = await open_store(url)
        await store.append(append(STATUSES, records(3000)))
        await follow(store, 3000, segment(1, 3000))
        asked: list[str] = []
        lasts = MemoryBus.lasts

        def noted(bus: MemoryBus, stream: str, subjects: list[str], **rest: int) -> object:
            asked.extend(subject for subject in subjects if ".array." in subject)
            return lasts(bus, stream, subjects, **rest)

        monkeypatch.setattr(MemoryBus, "lasts", noted)
        for seq in (1, 506, 507, 1700, 3000):
            hashed = (seq - 1) * HASH_MAX // 3000
            assert await store.sought(STATUSES, Index.NUMBER, hashed) == [seq]
        assert len(asked) <= 10
        assert await store.segment(STATUSES, 1) == segment(1, 3000)
        await store.close()


async def test_nothing_stays_of_what_something_else_has_taken_the_place_of() -> None:
    with urls(None) as url:  # type: ignore[arg-type]
        store, bus = await open_store(url), bus_of(url)
        await store.append(append(STATUSES, records(60)))
        for first_seq in (1, 11, 21):
            tally = Tally(0, 2_026_010_203, (10,))
            await follow(store, first_seq + 9, segment(first_seq, 10), tally)
        assert len(bus.subjects(PLACE.stream, ALL)) == 6
        await follow(store, 50, segment(11, 40))
        kept = [f"{PLACE.prefix}.0.array.{place}" for place in ("1.0.0", "1.1.0")]
        kept += [f"{PLACE.prefix}.0.array.{place}" for place in ("11.0.0", "11.1.0")]
        assert sorted(bus.subjects(PLACE.stream, ALL)) == kept
        await store.count(Count(STATUSES.sdkappid, [Tally(3, 2_026_010_204, (1,))], NOW_MS))
        for pattern in (ALL, PLACE.segments(0), PLACE.tallies()):
            subjects = bus.subjects(PLACE.stream, pattern)
            found = bus.following(PLACE.stream, pattern, 1, count=100, leader=True)
            assert len(found) == len(subjects) > 0  # one message each
        await store.close()


async def test_what_waits_is_not_read_over_to_what_is_behind_it() -> None:
    """Neither by who asks for an entry, nor by who reads on where he ended."""
    with urls(None) as url:  # type: ignore[arg-type]
        store = await open_store(url)
        for _ in range(300):
            await store.append(append(STATUSES, records(100)))
        bus = clusters[url]
        bus.asked.clear()
        [entry] = await store.entries_at(STATUSES, [29_000])
        assert entry.seq == 29_000
        assert len(bus.asked) < 30  # by halves, of some 600 messages
        [run] = await store.runs(STATUSES, 25_001, 100)
        bus.asked.clear()
        [run] = await store.runs(STATUSES, 25_101, 100)
        assert (run.first_seq, run.count) == (25_101, 100)
        assert len(bus.asked) <= 3
        await store.close()


async def test_what_one_node_has_lost_of_a_segment_another_has() -> None:
    with urls(None) as url:  # type: ignore[arg-type]
        store, bus = await open_store(url), clusters[url]
        await store.append(append(STATUSES, records(50)))
        await follow(store, 50, segment(1, 50))
        part, asked = PLACE.array(0, 1, 0, 0), itertools.count()

        def has(_stream: str, message: Message, _leader: bool) -> Message | None:
            return None if message.subject == part and next(asked) % 3 else message

        bus.has = has
        for _ in range(3):
            assert await store.sought(STATUSES, Index.NUMBER, 0) == [1]
        await store.close()


@pytest.mark.parametrize("subject", [PLACE.array(0, 1, 0, 0), PLACE.segments(0)])
async def test_what_no_node_has_as_it_was_is_made_anew(subject: str) -> None:
    """And stops nobody: who looks there is told that it is damaged, and scans."""
    with urls(None) as url:  # type: ignore[arg-type]
        store, bus = await open_store(url), clusters[url]
        await store.append(append(STATUSES, records(50)))
        await follow(store, 50, segment(1, 50))
        spoil(bus, subject)
        with pytest.raises(StoreCorrupt, match="pullstatus reindex"):
            await store.sought(STATUSES, Index.NUMBER, 0)
        if ".array." in subject:
            await store.erase(STATUSES, at_ms=NOW_MS, seqs=[3])
        [row] = await store.backlog()
        assert await store.unfollow(Unfollow(STATUSES, row.followed, 50, None))
        assert await store.spans(STATUSES) == []
        assert bus.subjects(PLACE.stream, ALL) == []
        await follow(store, 50, segment(1, 50))
        assert await store.sought(STATUSES, Index.NUMBER, 0) == [1]
        await store.close()


async def test_a_day_whose_counts_no_node_has_as_they_were_is_counted_again() -> None:
    """Who follows goes on meanwhile, an audit names it, and who asks for it is told."""
    with urls(None) as url:  # type: ignore[arg-type]
        store, bus = await open_store(url), clusters[url]
        follower, number = Follower(store, secrets.token_hex), STATUSES.sdkappid
        before = Tally(17, HOUR - 100, (7,))
        await store.count(Count(number, [before], NOW_MS))
        for report in (1, 2):
            await store.append(append(STATUSES, encoded(status(report))))
            await follower.work()
            if report == 1:
                spoil(bus, PLACE.tally(STATUSES.holds, HOUR))
        assert any(f"of hour {HOUR} is damaged" in found.problem for found in await problems(store))
        with pytest.raises(StoreDamaged):
            await counted(store, number, HOUR, HOUR)
        bus.silent = lambda _stream: True  # a node that may have it as it was
        with pytest.raises(StoreUnavailable, match="cannot be asked now"):
            await store.tallies(number, 0, LAST_HOUR, whole=False)
        bus.silent = lambda _stream: False
        by = Operator("me", NOW_MS, secrets.token_hex, "a test")
        await reindex(store, number, by=by, progress=lambda _done, _total: None)
        assert await problems(store) == []
        found = await counted(store, number, HOUR - 100, HOUR + 100)
        assert {hour: each.success for hour, each in found.hourly().items()} == {HOUR: 2}
        assert await store.tallies(number, HOUR - 100, HOUR - 100) == [before]
        await store.close()


async def test_which_hours_a_day_may_have_that_no_node_has_as_it_was() -> None:
    with urls(None) as url:  # type: ignore[arg-type]
        store, number = await open_store(url), STATUSES.sdkappid
        tallies = [Tally(17, hour, (1,)) for hour in (HOUR, EVER)]
        await store.count(Count(number, tallies, NOW_MS))
        for tally in tallies:
            spoil(clusters[url], PLACE.tally(17, tally.hour))
        told = await store.tallies(number, 0, LAST_HOUR, whole=False)
        assert {tally.hour for tally in told} == {*range(HOUR - 16, HOUR + 8), EVER}
        assert not any(tally.counts for tally in told)
        more = [Tally(17, hour, (5,)) for hour in (HOUR, HOUR + 100, EVER)]
        await store.count(Count(number, more, NOW_MS))
        now = await store.tallies(number, 0, LAST_HOUR, whole=False)
        assert [tally for tally in now if tally not in told] == [more[1]]
        assert len(now) == len(told) + 1
        await store.close()
