"""Nothing stays of an application that is erased, whatever is done with it meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

import pytest

from pullstatus import apps, limits
from pullstatus.apps import Operator
from pullstatus.apps.erasure import Erased
from pullstatus.errors import EntriesLeft, InvalidSetting, SettingChanged
from pullstatus.mailbox.following import Follower
from pullstatus.mailbox.proving import problems
from pullstatus.mailbox.statistics import counted
from pullstatus.mailbox.tallies import LAST_HOUR
from pullstatus.records import Kind
from pullstatus.store import (
    Aside,
    Backlog,
    Mailbox,
    Outcome,
    Park,
    Pull,
    Reader,
    Redeliver,
    Store,
    Unfollow,
    Unpark,
    audit_store,
)
from tests.harness import status
from tests.store.build import NOW_MS, append, entries_of, journal_of, new_act
from tests.store.test_statistics import encoded
from tests.unit.apps.test_administration import Meanwhile

pytestmark = pytest.mark.anyio

FORMER, LATER = "13899991234", "13755501235"
BEFORE_MS = NOW_MS - 5
BY = Operator("me", NOW_MS, secrets.token_hex, "why")

Work = Callable[[Store, Mailbox], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what servers may need of a cluster's commits: none waits for any here."""
    monkeypatch.setattr("pullstatus.store.jetstream.engine.AGE_S", 0.0)


async def erase(store: Store, mailbox: Mailbox) -> Erased:
    follow = partial(Follower(store, secrets.token_hex).follow, mailbox.sdkappid)
    return await apps.erase_application(store, mailbox.sdkappid, by=BY, follow=follow)


async def fill(store: Store, mailbox: Mailbox, mobile: str, count: int = 8) -> None:
    entries = encoded(*[status(number, mobile=mobile) for number in range(1, count + 1)])
    await store.append(append(mailbox, entries, BEFORE_MS))


def read(mailbox: Mailbox, name: str, count: int = 2, ack: int | None = None) -> Pull:
    return Pull(mailbox, count, NOW_MS + 5, reader=Reader(name, ack))


async def row_of(store: Store, mailbox: Mailbox) -> Backlog:
    [row] = [row for row in await store.backlog(mailbox.sdkappid) if row.mailbox == mailbox]
    return row


async def take(store: Store, mailbox: Mailbox) -> None:
    await store.pull(Pull(mailbox, 3, NOW_MS + 5))


async def take_as_reader(store: Store, mailbox: Mailbox) -> None:
    """One that has a page in hand, and a new one."""
    await store.pull(read(mailbox, "r", ack=1))
    await store.pull(read(mailbox, "s"))


async def take_with_later_ones(store: Store, mailbox: Mailbox) -> None:
    """In a page of a reader, and in one of nobody."""
    await fill(store, mailbox, LATER)
    await store.pull(read(mailbox, "r", ack=1))
    await store.pull(read(mailbox, "s", 7))
    await store.pull(Pull(mailbox, 3, NOW_MS + 5))


async def unfollow(store: Store, mailbox: Mailbox) -> None:
    row = await row_of(store, mailbox)
    assert await store.unfollow(Unfollow(mailbox, row.followed, row.followed.tallied, None))


async def redeliver(store: Store, mailbox: Mailbox) -> None:
    """What is in the hand of a reader or not, and then is handed out to another one."""
    await store.pull(Pull(mailbox, 1, NOW_MS))
    with contextlib.suppress(InvalidSetting):  # what is removed is not copied
        due = Redeliver(mailbox, [(1, 3)], NOW_MS, new_act("redeliver"))
        assert await store.redeliver(due) == 3
        await store.pull(read(mailbox, "s", 7))


@pytest.mark.parametrize("work", [take, take_as_reader, take_with_later_ones, unfollow, redeliver])
async def test_nothing_stays_of_what_is_erased_whatever_is_done_meanwhile(
    store: Store, url: str, work: Work
) -> None:
    """Whenever it is done; a page that came later stays, without what was erased of it."""
    for at in itertools.count(1):
        mailbox = Mailbox(1000 + at, Kind.DELIVERY_STATUS)
        await fill(store, mailbox, FORMER)
        await store.pull(read(mailbox, "r"))
        watched = Meanwhile(store, at, partial(work, store, mailbox))
        erased = await erase(cast("Store", watched), mailbox)
        assert (await row_of(store, mailbox)).purged >= 8, at
        assert erased.removed >= 8
        found = await counted(store, mailbox.sdkappid, 0, LAST_HOUR)
        records = 8 if work is redeliver else (await row_of(store, mailbox)).accepted
        assert sum(each.success for each in found.hourly().values()) == records, at
        for entry in await entries_of(store, mailbox):
            assert FORMER.encode() not in entry.data, at
        for name in ("r", "s"):
            assert FORMER.encode() not in (await store.pull(read(mailbox, name, 100))).data, at
        if watched.left > 0:
            break
    assert at > 8
    assert await problems(store) == []
    assert (await audit_store(url, lambda *_: None)).findings == []


async def test_nothing_stays_of_what_is_aside_and_moves_meanwhile(store: Store, url: str) -> None:
    """What is put back to the tail, and what becomes a record, whenever that is."""
    item = FORMER.encode()

    async def move(mailbox: Mailbox) -> None:
        record = encoded(status(9, mobile=FORMER))
        for kind in Aside:
            aside = Mailbox(mailbox.sdkappid, kind)
            row = await row_of(store, aside)
            seq = row.accepted - row.waiting + 1
            outcomes = [Outcome.PUT_BACK, Outcome.PULLED]
            due = Unpark(aside, seq, outcomes, [append(mailbox, record)], [item], NOW_MS, None)
            with contextlib.suppress(SettingChanged):  # it is gone
                assert await store.unpark(due) == 1

    for at in itertools.count(1):
        mailbox = Mailbox(1000 + at, Kind.DELIVERY_STATUS)
        for kind in Aside:
            aside = Mailbox(mailbox.sdkappid, kind)
            await store.park(Park(append(mailbox, []), aside, [item] * 3, None, 9, 9000))
        watched = Meanwhile(store, at, partial(move, mailbox))
        await erase(cast("Store", watched), mailbox)
        for row in await store.backlog(mailbox.sdkappid):
            for entry in await entries_of(store, row.mailbox):
                assert FORMER.encode() not in entry.data, (at, row)
        if watched.left > 0:
            break
    assert at > 8
    assert (await audit_store(url, lambda *_: None)).findings == []


async def test_what_comes_meanwhile_stays(store: Store) -> None:
    """Once it is noted what is to go."""
    mailbox = Mailbox(7, Kind.DELIVERY_STATUS)
    await fill(store, mailbox, FORMER)
    discard = store.discard

    async def overtaken(operation: object) -> int:
        if getattr(operation, "through", None) == 8:
            await fill(store, mailbox, LATER)
        return await discard(operation)  # type: ignore[arg-type]

    store.discard = overtaken  # type: ignore[method-assign]
    assert await erase(store, mailbox) == Erased(8, 8)
    page = await store.pull(Pull(mailbox, 100, NOW_MS))
    assert (page.first_seq, page.count) == (9, 8)
    assert LATER.encode() in page.data


async def test_a_clock_that_was_ahead_keeps_nothing(store: Store) -> None:
    mailbox = Mailbox(7, Kind.DELIVERY_STATUS)
    await fill(store, mailbox, FORMER)
    await store.pull(Pull(mailbox, 3, NOW_MS + 3_600_000))
    await store.pull(Pull(mailbox, 3, NOW_MS))
    assert await erase(store, mailbox) == Erased(2, 8)
    assert await journal_of(store, mailbox) == []
    assert await entries_of(store, mailbox) == []


async def test_what_cannot_be_removed_is_told(store: Store) -> None:
    """As where everything is unfollowed each time; once that ends, it can be."""
    mailbox = Mailbox(7, Kind.DELIVERY_STATUS)
    await fill(store, mailbox, FORMER)
    times = 0
    removing = store.remove

    async def overtaken(mailbox: Mailbox, through: int) -> int:
        nonlocal times
        times += 1
        await unfollow(store, mailbox)
        return await removing(mailbox, through)

    store.remove = overtaken  # type: ignore[method-assign]
    with pytest.raises(EntriesLeft, match=r"application 7 .* stored still: 8; .*erase again"):
        await erase(store, mailbox)
    assert times == limits.OVERTAKEN_MAX
    store.remove = removing  # type: ignore[method-assign]
    assert await erase(store, mailbox) == Erased(0, 8)


async def test_copies_of_copies_that_are_made_meanwhile_are_erased(store: Store) -> None:
    """Whose sources were removed by then, so that only who has erased those knows what they are."""
    mailbox = Mailbox(7, Kind.DELIVERY_STATUS)
    await fill(store, mailbox, FORMER, 2)
    await store.pull(Pull(mailbox, 2, NOW_MS))
    await fill(store, mailbox, LATER, 1)
    await store.pull(Pull(mailbox, 1, NOW_MS))
    follower = Follower(store, secrets.token_hex)
    turns = iter(range(6))

    async def follow() -> None:
        """At each of the first calls, what is newest is handed out once more."""
        if next(turns, None) is not None:
            newest = (await row_of(store, mailbox)).accepted
            due = Redeliver(mailbox, [(newest, 1)], NOW_MS, new_act("redeliver"))
            assert await store.redeliver(due) == 1
            await store.pull(Pull(mailbox, 9, NOW_MS + 5))
        await follower.follow(mailbox.sdkappid)

    await apps.erase_application(store, mailbox.sdkappid, by=BY, follow=follow)
    assert await entries_of(store, mailbox) == []
    assert (await row_of(store, mailbox)).accepted == 3 + 6
