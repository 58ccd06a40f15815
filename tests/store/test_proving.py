"""What an audit says of what is derived: nothing while it is what entries say."""

import secrets
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest

from pullstatus.apps import Operator
from pullstatus.mailbox.following import Follower
from pullstatus.mailbox.index import key_of
from pullstatus.mailbox.proving import problems
from pullstatus.mailbox.reindexing import reindex
from pullstatus.mailbox.statistics import statistics
from pullstatus.mailbox.tallies import LAST_HOUR
from pullstatus.mailbox.upkeep import clean_up
from pullstatus.records.numbers import ending
from pullstatus.store import (
    Count,
    Follow,
    Followed,
    Index,
    Mailbox,
    Setting,
    Span,
    Store,
    Tally,
    Unfollow,
    segments,
)
from tests.harness import reply, status
from tests.store.build import (
    NOW_MS,
    PARKED,
    REPLIES,
    STATUSES,
    append,
    backlog_of,
    parked,
    pull,
    redeliver,
)
from tests.store.test_follower import encoded

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
BY = Operator("me", NOW_MS, secrets.token_hex, "a test")
FIRST, SECOND = 2_027_011_516, 2_027_011_517  # the hours of NOW_MS, and of an hour later


@pytest.fixture
async def store(store: Store) -> Store:
    """With records of two hours, some handed out, some copies; followed in two segments."""
    follower = Follower(store, secrets.token_hex)
    fails = {"report_status": "FAIL", "errmsg": "MK:0001"}
    first = [status(1), status(2), status(3, **fails), status(4), status(5)]
    await store.append(append(STATUSES, encoded(*first)))
    await store.append(append(REPLIES, encoded(reply(1), reply(2))))
    await store.pull(pull(STATUSES, 2))
    await follower.work()
    await store.append(append(STATUSES, encoded(status(6), status(1)), NOW_MS + HOUR_MS))
    await store.redeliver(redeliver(STATUSES, (1, 2)))
    await follower.work()
    return store


async def found(store: Store) -> list[str]:
    return [finding.problem for finding in await problems(store)]


async def mark(store: Store, mailbox: Mailbox = STATUSES) -> Followed:
    row = await backlog_of(store, mailbox)
    assert row is not None
    return row.followed


async def test_what_a_follower_made_is_sound(store: Store) -> None:
    """Whatever has left, came since, was erased or removed; counts of sends have nothing to do."""
    assert await found(store) == []
    await store.append(append(STATUSES, encoded(status(9))))
    await store.count(Count(STATUSES.sdkappid, [Tally(3, FIRST, (1, 2, 3))], NOW_MS))
    assert await found(store) == []
    await store.erase(STATUSES, at_ms=NOW_MS, seqs=[4])
    assert await found(store) == []
    await Follower(store, secrets.token_hex).work()
    assert await store.purge(left_before_ms=NOW_MS + 1) == 2
    assert await found(store) == []


async def test_what_is_being_made_anew_is_sound(store: Store) -> None:
    await store.unfollow(Unfollow(STATUSES, await mark(store), 5, SECOND))
    assert await found(store) == []
    await Follower(store, secrets.token_hex).work()
    assert await found(store) == []


async def rewritten(store: Store, *tallies: Tally, drop: int | None = None) -> None:
    """All that is derived of the mailbox once more, with one word less, or other tallies."""
    before = await mark(store)
    [span, *more] = await store.spans(STATUSES)
    whole = [await store.segment(STATUSES, each.first_seq) for each in (span, *more)]
    merged = segments.merge([each for each in whole if each is not None])
    if drop is not None:
        numbers = [w for w in segments.words(merged, Index.NUMBER) if w & 0xFFFF != drop - 1]
        sids = segments.words(merged, Index.SID)
        merged = segments.build(1, merged.count, numbers, sids)
    await store.unfollow(Unfollow(STATUSES, before, before.tallied, None))
    row = await backlog_of(store, STATUSES)
    assert row is not None
    assert await store.follow(Follow(STATUSES, row.followed, before.through, merged, list(tallies)))


class Bend(NamedTuple):
    """Something that nobody does, and what is said of it."""

    work: Callable[[Store], Awaitable[object]]
    said: str


async def _key_changed(store: Store) -> None:
    key = await key_of(store)
    other = segments.hasher(bytes(segments.KEY_BYTES))
    assert key is not None
    words = [segments.word(other(ending("86", "13800000001").encode()), 0)]
    before = await mark(store)
    await store.unfollow(Unfollow(STATUSES, before, before.tallied, None))
    row = await backlog_of(store, STATUSES)
    assert row is not None
    segment = segments.build(1, before.through, words, [])
    await store.follow(Follow(STATUSES, row.followed, before.through, segment, []))


async def _mark_back(store: Store) -> None:
    """As a mark that was moved in another commit than its segment."""
    before = await mark(store)
    await store.unfollow(Unfollow(STATUSES, before, before.tallied, None))
    row = await backlog_of(store, STATUSES)
    assert row is not None
    segment = segments.build(1, before.through - 1, [], [])
    segment = segments.Segment(1, before.through - 1, segment.numbers, segment.sids)
    assert await store.follow(Follow(STATUSES, row.followed, before.through - 1, segment, []))
    row = await backlog_of(store, STATUSES)
    assert row is not None
    assert await store.follow(Follow(STATUSES, row.followed, before.through, None, []))


BENT = {
    "no segment for the last entry": Bend(_mark_back, "segments end at entry 8"),
    "a word dropped": Bend(
        lambda store: rewritten(store, drop=4), "by their number, the first is 4"
    ),
    "words of another": Bend(_key_changed, "by a number that is another's"),
    "a tally too high": Bend(
        lambda store: rewritten(store, Tally(0, FIRST, (1,))), f"the tally of hour {FIRST}"
    ),
    "a tally too low": Bend(
        lambda store: store.unfollow(Unfollow(REPLIES, Followed(2, 2, 0), 2, FIRST)),
        f"the tally of hour {FIRST}",
    ),
    "a tally of no entry": Bend(
        lambda store: rewritten(store, Tally(0, SECOND + 1, (0, 0, 1))), f"hour {SECOND + 1}"
    ),
}


@pytest.mark.parametrize("bent", BENT)
async def test_what_is_bent_is_found(store: Store, bent: str) -> None:
    assert await found(store) == []
    await BENT[bent].work(store)
    said = await found(store)
    assert any(BENT[bent].said in problem for problem in said), said


@pytest.mark.parametrize("apart", [False, True], ids=["followed at once", "followed apart"])
async def test_an_hour_that_came_twice_is_not_missed(store: Store, apart: bool) -> None:
    """A clock went ahead, came back, and went there again; what it took first is removed."""
    mailbox = Mailbox(STATUSES.sdkappid + 1, STATUSES.holds)
    follower = Follower(store, secrets.token_hex)
    ahead_ms = NOW_MS + 23 * 365 * 24 * HOUR_MS
    for number, at_ms in enumerate([ahead_ms, NOW_MS, ahead_ms, NOW_MS + HOUR_MS], start=1):
        await store.append(append(mailbox, encoded(status(number)), at_ms))
        if apart:
            await follower.work()
    await store.pull(pull(mailbox, 1))
    await follower.work()
    assert await store.purge(left_before_ms=NOW_MS + 1) == 2 + 1
    assert await found(store) == []
    counted = [
        tally
        for tally in await store.tallies(mailbox.sdkappid, 0, LAST_HOUR)
        if tally.series == mailbox.holds
    ]
    await reindex(store, mailbox.sdkappid, by=BY, progress=lambda *_: None)
    again = await store.tallies(mailbox.sdkappid, 0, LAST_HOUR)
    assert [tally for tally in again if tally.series == mailbox.holds] == counted
    assert await found(store) == []


async def test_a_follower_that_begins_meanwhile_is_no_problem(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes the key of the index, and then what is found by that."""
    setting, spans = store.setting, store.spans
    begun = False

    async def before(name: str) -> Setting | None:
        return await setting(name) if begun else None

    async def begins(mailbox: Mailbox) -> list[Span]:
        nonlocal begun
        begun = True
        return await spans(mailbox)

    monkeypatch.setattr(store, "setting", before)
    monkeypatch.setattr(store, "spans", begins)
    assert await found(store) == []
    assert begun


NO_TIME = "entries have a time that is none: restore a backup"


@pytest.mark.parametrize("at_ms", [253_402_300_800_000, NOW_MS | 1 << 48, 1 << 62, -5, -(1 << 62)])
@pytest.mark.parametrize("followed", [False, True], ids=["scanned", "followed"])
async def test_a_time_that_is_none_is_found_and_holds_up_nobody(
    store: Store, at_ms: int, followed: bool
) -> None:
    """As a bit that flipped makes one. What has it counts in the nearest hour that there is."""
    try:
        await store.append(append(STATUSES, encoded(status(7)), at_ms))
    except OverflowError:
        assert at_ms >= 1 << 48, "where this engine keeps a time there is no room for it"
        return
    await store.append(append(STATUSES, encoded(status(8))))
    await store.park(parked(append(STATUSES, [], at_ms), [b"{}"]))
    if followed:
        await Follower(store, secrets.token_hex).work()
        assert (await mark(store)).through == 11
    said = {(finding.mailbox, finding.problem) for finding in await problems(store)}
    assert said == {(mailbox, NO_TIME) for mailbox in (STATUSES, PARKED)}
    assert (await statistics(store, STATUSES.sdkappid, 0, LAST_HOUR)).receipts == 7 + 2
    await reindex(store, by=BY, progress=lambda *_: None)
    assert (await mark(store)).through == 11
    assert {finding.problem for finding in await problems(store)} == {NO_TIME}


async def test_hours_that_are_forgotten_are_not_missed(store: Store) -> None:
    """Of records that wait for ever. A clock that went ahead and came back is no matter."""
    ahead_ms = NOW_MS + 900 * 86_400_000
    await clean_up(store, [], now_ms=ahead_ms, retention_days=10_000)
    assert await store.tallies(STATUSES.sdkappid, FIRST, SECOND) == []
    assert await found(store) == []
    await clean_up(store, [], now_ms=NOW_MS, retention_days=10_000)
    assert await found(store) == []
    bent = Tally(0, 2_040_010_100, (1,))  # of an hour that is still to come
    await rewritten(store, bent)
    assert any(f"hour {bent.hour}" in problem for problem in await found(store))
