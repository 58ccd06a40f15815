"""What is removed leaves all that stays as it was: pages in hand, copies, counts, the index."""

import secrets
from random import Random

import pytest

from pullstatus.apps import Operator
from pullstatus.mailbox import reindexing
from pullstatus.mailbox.following import Follower
from pullstatus.mailbox.proving import problems
from pullstatus.mailbox.search import by_number, copies_of
from pullstatus.mailbox.statistics import counted
from pullstatus.mailbox.tallies import LAST_HOUR
from pullstatus.store import (
    Finding,
    Page,
    Pull,
    Reader,
    Redeliver,
    Release,
    Store,
    Unfollow,
    audit_store,
)
from pullstatus.store.gathering.store import GatheredStore
from tests.harness import status
from tests.store.build import (
    NOW_MS,
    STATUSES,
    append,
    derive_all,
    new_act,
    purge,
    records,
    ticket,
)
from tests.store.engines import Opener
from tests.store.test_statistics import encoded

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
SDKAPPID = STATUSES.sdkappid
STEP = 3_200  # entries that retention removes in one commit, at most


async def fill(store: Store, count: int, at_ms: int = NOW_MS, *, left: int | None = None) -> None:
    """Records, of which the first so many have left; all, if it is not said."""
    await store.append(append(STATUSES, encoded(*map(status, range(1, count + 1))), at_ms))
    left = count if left is None else left
    while left > 0:
        taken = await store.pull(Pull(STATUSES, min(100, left), at_ms))
        left -= taken.count


async def by_hour(store: Store) -> dict[int, int]:
    found = await counted(store, SDKAPPID, 0, LAST_HOUR)
    return {hour: each.success for hour, each in found.hourly().items()}


async def take_around(store: Store, before: int, erased: int, mine: Pull) -> Page:
    """Take a page behind so many entries and around so many erased ones."""
    await store.append(append(STATUSES, records(before)))
    for _ in range(0, before, 100):
        await store.pull(Pull(STATUSES, 100, NOW_MS))
    await store.append(append(STATUSES, records(101 + erased)))
    seqs = [before + 2 + place for place in range(erased)]
    await store.erase(STATUSES, at_ms=NOW_MS, seqs=seqs)
    taken = await store.pull(mine)
    assert taken.count == 100
    return taken


@pytest.mark.parametrize("erased", [1, 150])
@pytest.mark.parametrize("before", [STEP - 100, STEP - 1])
async def test_a_page_in_hand_around_what_was_erased_comes_again_beyond_retention(
    store: Store, before: int, erased: int
) -> None:
    """It reaches over more numbers than a page has, and may lie over the end of a step."""
    mine = Pull(STATUSES, 100, NOW_MS, reader=Reader("r"))
    taken = await take_around(store, before, erased, mine)
    await purge(store, left_before_ms=NOW_MS + 1)
    for _ in range(2):
        again = await store.pull(mine)
        assert (again.first_seq, again.count, again.data) == (taken.first_seq, 100, taken.data)
        assert again.repeated


@pytest.mark.parametrize("then", ["nothing", "acknowledged", "released", "erased"])
async def test_a_store_is_sound_while_retention_goes_over_a_page_in_hand(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Between two steps, the first of which ends within the page; also if it is let go there."""
    mine = Pull(STATUSES, 100, NOW_MS, reader=Reader("r"))
    page = await take_around(store, STEP - 100, 1, mine)
    found: list[Finding] = []
    steps = 0

    async def look(*_: object) -> None:
        nonlocal steps
        steps += 1
        if then == "acknowledged":
            await store.pull(Pull(STATUSES, 0, NOW_MS, reader=Reader("r", page.first_seq)))
        elif then == "released":
            release = Release(STATUSES, "r", page.first_seq, NOW_MS, new_act("release"))
            assert await store.release(release) == 101
        elif then == "erased":
            erased = await store.erase(STATUSES, at_ms=NOW_MS + 9, holding=[[b"{"]])
            assert erased.left >= 100
        found.extend((await audit_store(url, lambda *_: None)).findings)

    monkeypatch.setattr(GatheredStore, "_pause", look)
    assert await purge(store, left_before_ms=NOW_MS + 1) == STEP + 1
    assert (steps, found) == (1, [])
    assert (await audit_store(url, lambda *_: None)).findings == []


async def test_what_was_removed_while_reindex_read_keeps_its_counts(opener: Opener) -> None:
    """Nobody could count it again: so it reads anew."""
    server, command = await opener(server=True), await opener()
    for hour in range(3):
        await fill(server, 100, NOW_MS + hour * HOUR_MS)
    await derive_all(server)
    before = await by_hour(server)
    assert len(before) == 3
    unfollow = command.unfollow

    async def overtaken(operation: Unfollow) -> bool:
        command.unfollow = unfollow  # type: ignore[method-assign]
        if operation.mailbox == STATUSES:
            assert await server.purge(left_before_ms=NOW_MS + 2 * HOUR_MS) == 200
        return await unfollow(operation)

    command.unfollow = overtaken  # type: ignore[method-assign]
    by = Operator("me", NOW_MS + 3 * HOUR_MS, secrets.token_hex)
    await reindexing.reindex(command, by=by, progress=lambda *_: None)
    assert await by_hour(server) == before
    assert await problems(server) == []


@pytest.mark.parametrize("gone", [1, 30, 99, 100])
async def test_copies_stay_copies_when_some_of_a_range_are_removed(
    opener: Opener, gone: int
) -> None:
    store = await opener(server=True)
    await fill(store, 150)
    copying = Redeliver(STATUSES, [(1, 150)], NOW_MS + HOUR_MS, new_act(), None, ticket())
    await store.redeliver(copying)
    await store.pull(Pull(STATUSES, gone, NOW_MS + 2 * HOUR_MS))
    await derive_all(store)
    before = await by_hour(store)
    assert await problems(store) == []
    assert await store.purge(left_before_ms=NOW_MS + 3 * HOUR_MS) == 150 + gone
    [left] = await copies_of(store, STATUSES)
    assert (left.first_seq, left.count, left.source_seq) == (151 + gone, 150 - gone, 1 + gone)
    [one] = await by_number(store, "+8613800000140", SDKAPPID)
    assert (one.copy_of, one.redeliverable) == (140, False)
    assert await problems(store) == []
    by = Operator("me", NOW_MS + 4 * HOUR_MS, secrets.token_hex)
    await reindexing.reindex(store, by=by, progress=lambda *_: None)
    assert await problems(store) == []
    assert await by_hour(store) == before


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_erased_of_hours_that_lie_together_makes_no_hour_wrong(
    store: Store, seed: int
) -> None:
    """As where a file has joined what came one by one, each in an hour of its own."""
    rng = Random(seed)
    count = 20
    for hour in range(count):
        await store.append(append(STATUSES, encoded(status(hour + 1)), NOW_MS + hour * HOUR_MS))
    follower = Follower(store, secrets.token_hex)
    await follower.follow(SDKAPPID)
    before = await by_hour(store)
    for seq in rng.sample(range(1, count + 1), 4):
        await store.erase(STATUSES, at_ms=NOW_MS, seqs=[seq])
        assert await problems(store) == []
        await follower.follow(SDKAPPID)
        assert await by_hour(store) == before
