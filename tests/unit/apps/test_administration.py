"""Owners of a number, one after the other: none gets what was another's, whatever is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullstatus import apps, mailbox
from pullstatus.apps import LiveApplication, Operator, Registry
from pullstatus.apps.routing import Rules
from pullstatus.apps.values import key_mark
from pullstatus.errors import (
    AcknowledgementRefused,
    AlreadyExists,
    InvalidSetting,
    SettingChanged,
    StoreUnavailable,
    UnknownApplication,
)
from pullstatus.mailbox import parking, redelivery, search
from pullstatus.mailbox.owners import read_owners
from pullstatus.mailbox.owning import Stored
from pullstatus.mailbox.repeats import NEVER, Repeat
from pullstatus.receipts import Receipts, tencent
from pullstatus.receipts.batch import read_in_steps
from pullstatus.records import Kind
from pullstatus.steps import done
from pullstatus.store import (
    Change,
    Mailbox,
    Noted,
    Outcome,
    Page,
    Pull,
    Reader,
    Store,
    Tickets,
    open_store,
)
from tests.harness import statuses
from tests.sealing import keyring_of, masters_of

T = TypeVar("T")

NUMBER = 7
NOW_MS = 1_800_000_000_000
STATUS = Kind.DELIVERY_STATUS

_hex = (f"{number:x}" for number in itertools.count(1))


def random_hex(size: int) -> str:
    return next(_hex).zfill(2 * size)


ticket = Tickets(bytes)
BY = Operator("me", NOW_MS, random_hex, "why")


async def create(store: Store) -> None:
    await apps.create_application(store, NUMBER, by=BY, keyring=await keyring_of(store))


async def delete(store: Store, *, erase: bool = True) -> int:
    return await apps.delete_application(store, NUMBER, by=BY, erase=erase)


async def known(store: Store) -> LiveApplication:
    """The application as a server that looks now knows it."""
    registry = Registry(store, masters_of(store))
    await registry.refresh()
    return registry.applications[NUMBER]


def batch(count: int = 2, first: int = 1) -> tuple[Receipts, bytes]:
    body = "\n".join(map(_line, statuses(count, first))).encode()
    return done(read_in_steps(body, STATUS, ndjson=True)), body


def _line(record: dict[str, Any]) -> str:
    return str(record).replace("'", '"')


async def feed(
    store: Store, live: LiveApplication, *, key: str | None = None, callback: bool = False
) -> int:
    receipts, body = batch()
    if callback:
        receipts = done(
            tencent.read_in_steps(f"[{_line(statuses(1)[0])}]".encode(), NOW_MS // 1000)
        )
    return await mailbox.append(
        store,
        live,
        receipts,
        sender="gateway",
        now_ms=NOW_MS,
        ticket=ticket(),
        key=key,
        body=body,
    )


async def take(
    store: Store, live: LiveApplication, *, key: str | None = None, repeat: Repeat = NEVER
) -> Page:
    return await mailbox.pull(
        store,
        live,
        STATUS,
        100,
        address="192.0.2.1",
        proof="",
        once=None,
        repeat=repeat if key is None else Repeat(key),
        now_ms=NOW_MS,
        ticket=ticket(),
    )


async def waiting(store: Store) -> int:
    return sum(row.waiting for row in await store.backlog(NUMBER))


def on_a_store(work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        with tempfile.TemporaryDirectory() as folder:
            store = await open_store(f"sqlite:///{folder}/mailboxes.db")
            try:
                return await work(store)
            finally:
                await store.close()

    return asyncio.run(run())


class Cut:
    """A store that fails at its nth call, before it is done or behind it."""

    def __init__(self, store: Store, at: int, *, done: bool) -> None:
        self._store, self.left, self._done = store, at, done

    def __getattr__(self, name: str) -> Callable[..., object]:
        verb = getattr(self._store, name)

        async def each(*arguments: object, **named: object) -> AsyncIterator[object]:
            self.left -= 1
            if self.left == 0:
                raise StoreUnavailable("another process holds the store; try again")
            async for found in verb(*arguments, **named):
                yield found

        async def call(*arguments: object, **named: object) -> object:
            self.left -= 1
            if self.left == 0 and not self._done:
                raise StoreUnavailable("another process holds the store; try again")
            answer = await verb(*arguments, **named)
            if self.left == 0:
                raise StoreUnavailable("cut")
            return answer

        return each if inspect.isasyncgenfunction(verb) else call


class Meanwhile:
    """A store at whose nth call somebody else does something first."""

    def __init__(self, store: Store, at: int, work: Callable[[], Awaitable[object]]) -> None:
        self._store, self.left, self._work = store, at, work

    def __getattr__(self, name: str) -> object:
        verb = getattr(self._store, name)

        async def call(*arguments: object, **named: object) -> object:
            self.left -= 1
            if self.left == 0:
                await self._work()
            return await verb(*arguments, **named)

        return call if inspect.iscoroutinefunction(verb) else verb


def everywhere(cut_at: Callable[[Store, int], Coroutine[Any, Any, bool]]) -> int:
    """Cut off at each call until one comes through whole; returns how many calls that takes."""

    async def run(store: Store) -> int:
        step = 1
        while not await cut_at(store, step):
            step += 1
        return step

    return on_a_store(run)


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("again", [False, True], ids=["created", "deleted-again"])
def test_deletion_cut_off_anywhere_leaves_nothing_for_the_next_owner(
    done: bool, again: bool
) -> None:
    async def cut_at(store: Store, step: int) -> bool:
        await create(store)
        former = await known(store)
        assert await feed(store, former, key="k", callback=False) == 2
        held = await take(store, former, repeat=Repeat(reader=Reader("r")))
        assert await feed(store, former, key="l", callback=False) == 2
        cut = Cut(store, step, done=done)
        whole = True
        try:
            await delete(cast("Store", cut))
        except StoreUnavailable:
            whole = False
        gone = await store.setting(f"application/{NUMBER}")
        assert gone is not None
        if again or gone.value is not None:
            await delete(store)
        await create(store)
        assert await waiting(store) == 0
        assert (await store.totals()).in_hand.pages == 0
        mine = Repeat(reader=Reader("r"))
        assert not (await take(store, await known(store), repeat=mine)).count
        mine = Repeat(reader=Reader("r", held.first_seq))
        with pytest.raises(AcknowledgementRefused):
            await take(store, await known(store), repeat=mine)
        with pytest.raises(SettingChanged):
            await feed(store, former)
        assert await feed(store, await known(store), key="k") == 2
        assert await waiting(store) == 2
        await delete(store)
        return whole

    assert everywhere(cut_at) > 4


def test_a_reader_that_pulls_during_a_deletion_keeps_no_page() -> None:
    """Whenever it does, even where nothing refuses its pull."""

    async def pulled_at(store: Store, step: int) -> bool:
        await create(store)
        assert await feed(store, await known(store), key=f"{step}") == 2

        async def pull() -> None:
            box = Mailbox(NUMBER, STATUS)
            await store.pull(Pull(box, 1, NOW_MS + 5, reader=Reader("r"), ticket=ticket()))

        watched = Meanwhile(store, step, pull)
        await delete(cast("Store", watched))
        assert await waiting(store) == 0
        assert (await store.totals()).in_hand.pages == 0
        return watched.left > 0

    assert everywhere(pulled_at) > 4


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
def test_creation_cut_off_anywhere_can_be_repeated_or_is_done(done: bool) -> None:
    async def cut_at(store: Store, step: int) -> bool:
        await create(store)
        await feed(store, await known(store))
        there = [setting.value async for setting in store.settings()][-1]
        # as a removal that was cut off leaves it
        await store.change(Change(f"application/{NUMBER}", None, there))
        whole = True
        try:
            await create(cast("Store", Cut(store, step, done=done)))
        except StoreUnavailable:
            whole = False
        setting = await store.setting(f"application/{NUMBER}")
        assert setting is not None
        if setting.value is None:
            await create(store)
        assert await waiting(store) == 0
        await delete(store)
        return whole

    assert everywhere(cut_at) > 4


def test_deletion_can_be_repeated_but_not_of_what_never_was() -> None:
    async def work(store: Store) -> None:
        with pytest.raises(UnknownApplication):
            await delete(store)
        await create(store)
        await feed(store, await known(store))
        assert await delete(store) == 2
        assert await delete(store) == 0
        assert await delete(store, erase=False) == 0

    on_a_store(work)


def test_deletion_erases_nothing_that_nobody_said_to_erase() -> None:
    """Records that come between its look and its commit stay, and so does the application."""

    async def work(store: Store) -> None:
        await create(store)
        live = await known(store)
        change = store.change

        async def late(*arguments: Any, **named: Any) -> bool:  # noqa: ANN401
            store.change = change  # type: ignore[method-assign]
            await feed(store, live)
            return await change(*arguments, **named)

        store.change = late  # type: ignore[method-assign]
        with pytest.raises(InvalidSetting, match="2 records wait"):
            await delete(store, erase=False)
        assert (await take(store, await known(store))).count == 2

    on_a_store(work)


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("fed_at", range(1, 8))
def test_deletion_cut_off_anywhere_erases_nothing_that_nobody_said_to_erase(
    fed_at: int, done: bool
) -> None:
    """Records that come at any of its calls are there when it is cut off at any other one."""

    async def cut_at(store: Store, step: int) -> bool:
        await create(store)
        live = await known(store)
        fed = 0

        async def feed_it() -> None:
            nonlocal fed
            with contextlib.suppress(SettingChanged, KeyError):
                fed = await feed(store, live)

        fails = Cut(cast("Store", Meanwhile(store, fed_at, feed_it)), step, done=done)
        whole, told = True, ""
        try:
            await delete(cast("Store", fails), erase=False)
        except StoreUnavailable as error:
            whole = False
            told = "".join(getattr(error, "__notes__", ()))
        except InvalidSetting:
            pass
        assert await waiting(store) == fed
        if any(each.leaving for each in await apps.applications(store)):
            assert f"app delete {NUMBER}" in told
        try:
            await create(store)
        except AlreadyExists:
            with contextlib.suppress(InvalidSetting):
                await delete(store, erase=False)
        if fed:
            assert (await take(store, await known(store))).count == fed
        with contextlib.suppress(InvalidSetting):
            await delete(store, erase=False)
        return whole

    assert everywhere(cut_at) > 3


def test_nothing_gets_into_an_application_that_is_leaving() -> None:
    """It is as if it were gone, to the gateway, its customer and commands, until it is deleted."""

    async def work(store: Store) -> None:
        await create(store)
        live = await known(store)
        await apps.change_application(
            store,
            NUMBER,
            lambda made: msgspec.structs.replace(made, leaving=True),
            by=BY,
            action="app delete",
        )
        with pytest.raises(SettingChanged):
            await feed(store, live)
        with pytest.raises(KeyError):
            await known(store)
        registry = Registry(store, masters_of(store))
        await registry.begin()
        assert await registry.application(NUMBER) is None
        assert await Stored(store, Rules()).application(NUMBER) is None
        assert (await read_owners(store)).of(NUMBER) is None
        with pytest.raises(UnknownApplication):
            await parking.live_application(store, NUMBER)
        with pytest.raises(UnknownApplication):
            await apps.create_token(store, "gateway", sdkappid=NUMBER, by=BY)
        with pytest.raises(AlreadyExists, match="app delete 7"):
            await create(store)
        assert "app delete 7" in (await apps.existing(store, [NUMBER, 8]))[NUMBER]
        with pytest.raises(UnknownApplication, match="app delete 7"):
            await apps.change_application(store, NUMBER, lambda made: made, by=BY, action="app set")
        with pytest.raises(UnknownApplication, match="app delete 7"):
            await rotate(store)
        assert await delete(store, erase=False) == 0
        await create(store)

    on_a_store(work)


def test_an_application_that_stays_is_under_the_master_key_of_then() -> None:
    """Whenever that is changed, and the one before is dropped, while a deletion looks."""

    async def rewrapped_at(store: Store, step: int) -> bool:
        await create(store)
        live = await known(store)

        async def rewrap() -> None:
            with contextlib.suppress(SettingChanged):
                await feed(store, live)
            await apps.rewrap(store, masters_of(store), by=BY)
            await apps.rewrap(store, masters_of(store), by=BY, drop_old=True)

        watched = Meanwhile(store, step, rewrap)
        with contextlib.suppress(InvalidSetting):
            await delete(cast("Store", watched), erase=False)
        for state in await apps.master_keys(store, masters_of(store)):
            assert state.at_hand
        if await waiting(store):
            with contextlib.suppress(InvalidSetting):
                await delete(store, erase=False)
            assert (await known(store)).appkeys
            assert (await take(store, await known(store))).count == 2
        await delete(store)
        return watched.left > 0

    assert everywhere(rewrapped_at) > 4


def test_deletion_leaves_an_application_alone_that_was_made_meanwhile() -> None:
    async def work(store: Store) -> None:
        await create(store)
        await feed(store, await known(store))
        discard = store.discard

        async def late(operation: Any) -> int:  # noqa: ANN401
            store.discard = discard  # type: ignore[method-assign]
            await create(store)
            await feed(store, await known(store))
            return await discard(operation)

        store.discard = late  # type: ignore[method-assign]
        with pytest.raises(SettingChanged):
            await delete(store)
        assert await waiting(store) == 2
        assert (await take(store, await known(store))).count == 2

    on_a_store(work)


def test_keys_and_repeats_of_a_former_owner_are_not_the_next_ones() -> None:
    async def work(store: Store) -> None:
        await create(store)
        former = await known(store)
        assert await feed(store, former, key="batch") == 2
        assert await feed(store, former, callback=True) == 1
        page = await take(store, former, key="page")
        assert page.count == 3
        await delete(store)
        await create(store)
        owner = await known(store)
        assert (await take(store, owner, key="page")).count == 0
        with pytest.raises(SettingChanged):
            await take(store, former, key="page")
        assert await feed(store, owner, key="batch") == 2
        assert await feed(store, owner, callback=True) == 1
        taken = await take(store, owner, key="page")
        assert (taken.first_seq, taken.count, taken.repeated) == (4, 3, False)
        assert (await take(store, owner, key="page")).repeated

    on_a_store(work)


def test_redelivery_hands_out_no_former_owners_records() -> None:
    async def work(store: Store) -> None:
        await create(store)
        page = await take_all(store)
        pull = f"{NUMBER}-0-{page.first_seq}"
        assert await search.by_pull(store, pull)
        number = "+86" + statuses(1)[0]["mobile"]
        for step in (delete, create):
            await step(store)
            with pytest.raises(InvalidSetting, match="former owner"):
                await search.by_pull(store, pull)
            for found in (
                search.by_sid(store, statuses(1)[0]["sid"]),
                search.by_number(store, number, NUMBER),
                search.by_time(store, NOW_MS - 1, NOW_MS + 1),
            ):
                assert redelivery.ranges(await found) == []
        page = await take_all(store)
        found_now = await search.by_time(store, NOW_MS - 1, NOW_MS + 1)
        [(_, first_seq, count)] = redelivery.ranges(found_now)
        assert (first_seq, count) == (page.first_seq, page.count)

    on_a_store(work)


def test_redelivery_of_what_was_found_before_a_deletion_is_refused() -> None:
    async def work(store: Store) -> None:
        await create(store)
        await take_all(store)
        found = await search.by_time(store, NOW_MS - 1, NOW_MS + 1)
        plan = redelivery.begin(found, by=BY, how="time")
        for step in (delete, create):
            await step(store)
            with pytest.raises(InvalidSetting, match="former owner"):
                await redelivery.redeliver(store, plan, by=BY)
        assert await waiting(store) == 0

    on_a_store(work)


async def take_all(store: Store) -> Page:
    live = await known(store)
    await feed(store, live)
    return await take(store, live)


steps = st.lists(
    st.sampled_from(["create", "delete", "feed", "feed-stale", "pull", "pull-stale", "key"]),
    max_size=25,
)


@settings(deadline=None, max_examples=40)
@given(steps)
def test_every_page_is_its_owners(taken: list[str]) -> None:
    """Whoever puts in and pulls, knowing the newest owner or one before."""

    async def work(store: Store) -> None:
        lives: list[LiveApplication] = []
        sent: dict[int, str] = {}  # number of an entry: its owner
        for step in taken:
            setting = await store.setting(f"application/{NUMBER}")
            exists = setting is not None and setting.value is not None
            if step == "create" and not exists:
                await create(store)
                lives.append(await known(store))
                assert await waiting(store) == 0
            elif step == "delete" and lives:
                await delete(store)
            elif lives and step not in ("create", "delete"):
                live = lives[0 if "stale" in step else -1]
                good = exists and live is lives[-1]
                try:
                    if "feed" in step:
                        await feed(store, live, key="batch")
                        rows = await store.backlog(NUMBER)
                        for seq in range(len(sent) + 1, rows[0].accepted + 1):
                            sent[seq] = live.application.owner
                    else:
                        page = await take(store, live, key="page" if step == "key" else None)
                        seqs = range(page.first_seq, page.first_seq + page.count)
                        assert {sent[seq] for seq in seqs} <= {live.application.owner}
                        good = good or not page.count
                except SettingChanged:
                    assert not good
                else:
                    assert good
        for row in await store.backlog(NUMBER):
            async for journal in store.journal(row.mailbox):
                assert journal.outcome in (Outcome.PULLED, Outcome.ERASED)

    on_a_store(work)


def test_a_batch_for_a_former_owner_does_not_reach_the_next() -> None:
    """Nor when the number has an owner again by the time it commits."""

    async def work(store: Store) -> None:
        await create(store)
        former = await known(store)
        await delete(store)
        with pytest.raises(SettingChanged):
            await feed(store, former)
        await create(store)
        with pytest.raises(SettingChanged):
            await feed(store, former)
        assert await waiting(store) == 0

    on_a_store(work)


# --- keys that are changed ------------------------------------------------------------------------


async def rotate(
    store: Store,
    now_ms: int = NOW_MS,
    **more: Any,  # noqa: ANN401 - as they are
) -> apps.Application:
    by = Operator("me", now_ms, random_hex)
    keyring = await keyring_of(store)
    rotation = await apps.rotate_key(store, NUMBER, by=by, keyring=keyring, **more)
    return rotation.application


async def drop(store: Store, key: apps.AppKey, now_ms: int) -> apps.Application:
    by, keyring = Operator("me", now_ms, random_hex), await keyring_of(store)
    digits = keyring.open(NUMBER, key)
    return await apps.drop_key(store, NUMBER, digits, by=by, keyring=keyring)


def good(application: apps.Application, at_ms: int) -> bool:
    return any(key.good(at_ms) for key in application.appkeys)


@pytest.mark.parametrize("last", [{"drop_old": True}, {"old_until_ms": NOW_MS + 5}])
def test_no_rotation_ends_the_only_key_that_is_good_now(last: dict[str, Any]) -> None:
    """Though it has a newer one beside it, which begins later."""

    async def work(store: Store) -> None:
        await create(store)
        await rotate(store, not_before_ms=NOW_MS + 9)
        with contextlib.suppress(InvalidSetting):
            await rotate(store, not_before_ms=NOW_MS + 9)
        with pytest.raises(InvalidSetting, match="before the new one begins"):
            await rotate(store, not_before_ms=NOW_MS + 9, **last)
        [application] = await apps.applications(store)
        assert all(good(application, NOW_MS + each) for each in range(12))

    on_a_store(work)


@pytest.mark.parametrize("done", [True, False])
def test_a_rotation_that_is_cut_off_and_repeated_leaves_the_key_that_is_used(done: bool) -> None:
    """Nobody has seen the key of the one that was cut off, so nobody uses it."""

    async def work(store: Store) -> None:
        await create(store)
        [application] = await apps.applications(store)
        [first] = application.appkeys
        await store.mark({key_mark(NUMBER, first): Noted(NOW_MS)})
        for at in itertools.count(1):
            cut = Cut(store, at, done=done)
            with contextlib.suppress(StoreUnavailable):
                await rotate(cast("Store", cut))
            rotated = await rotate(store)
            assert [first.id] == [key.id for key in rotated.appkeys[1:]]
            if cut.left > 0:
                break
        [application] = await apps.applications(store)
        newest = application.appkeys[0]
        await store.mark({key_mark(NUMBER, newest): Noted(NOW_MS)})
        rotated = await rotate(store)  # both are used: the older one ends
        assert rotated.appkeys[1].id == newest.id

    on_a_store(work)


def test_a_rotation_says_that_it_ended_the_newer_key() -> None:
    """Which it does where only the older one was used, as far as is known."""

    async def work(store: Store) -> None:
        await create(store)
        [application] = await apps.applications(store)
        await store.mark({key_mark(NUMBER, application.appkeys[0]): Noted(NOW_MS)})
        keyring = await keyring_of(store)
        second = await apps.rotate_key(store, NUMBER, by=BY, keyring=keyring)
        assert second.ended is None
        third = await apps.rotate_key(store, NUMBER, by=BY, keyring=keyring)
        assert third.ended is not None
        assert third.ended.id == second.application.appkeys[0].id
        newest = third.application.appkeys[0]
        await store.mark({key_mark(NUMBER, newest): Noted(NOW_MS)})
        assert (await apps.rotate_key(store, NUMBER, by=BY, keyring=keyring)).ended is None

    on_a_store(work)


CHANGES = st.one_of(
    st.fixed_dictionaries(
        {
            "not_before_ms": st.sampled_from([0, 2, 4, 9]),
            "old_until_ms": st.sampled_from([None, 1, 3, 5, 9]),
            "drop_old": st.booleans(),
        }
    ),
    st.integers(0, 1),  # which key to drop
)


@given(st.lists(st.tuples(st.integers(0, 3), CHANGES), max_size=6))
@settings(max_examples=40)
def test_no_change_of_keys_leaves_a_time_without_one(
    changes: list[tuple[int, dict[str, Any] | int]],
) -> None:
    """If one was good, one is at each moment until all have begun; and else nothing was changed."""

    async def work(store: Store) -> None:
        await create(store)
        [before] = await apps.applications(store)
        now_ms = NOW_MS
        for later_ms, change in changes:
            now_ms += later_ms
            with contextlib.suppress(InvalidSetting):
                if isinstance(change, int):
                    await drop(store, before.appkeys[change % len(before.appkeys)], now_ms)
                else:
                    times = {name: each and now_ms + each for name, each in change.items()}
                    await rotate(store, now_ms, **times | {"drop_old": change["drop_old"]})
            [after] = await apps.applications(store)
            last_ms = max(key.not_before_ms for key in after.appkeys)
            if after != before and good(before, now_ms):
                assert all(good(after, at_ms) for at_ms in range(now_ms, max(now_ms, last_ms) + 1))
            before = after

    on_a_store(work)
