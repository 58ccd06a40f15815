"""Redelivery in steps: whatever it is cut off by, who goes on with it copies each record once."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import apsw
import pytest
from msgspec.structs import replace

from pullstatus import apps, limits
from pullstatus.apps import Operator
from pullstatus.errors import InvalidSetting, SettingChanged, StoreUnavailable
from pullstatus.mailbox import redelivery, search
from pullstatus.mailbox.redelivery import Plan, Redelivered
from pullstatus.mailbox.search import Found
from pullstatus.records import Kind
from pullstatus.store import (
    NO_TICKET,
    Append,
    Discard,
    Mailbox,
    Outcome,
    Pull,
    Reader,
    Release,
    Store,
    open_store,
)
from tests.sealing import keyring_of
from tests.store.build import acts_of, data_of

NOW_MS = 1_800_000_000_000
MAILBOXES = [Mailbox(7, Kind.DELIVERY_STATUS), Mailbox(7, Kind.REPLY), Mailbox(8, Kind.REPLY)]
COUNT = 25  # in each mailbox

_numbers = itertools.count(1)


def random_hex(size: int) -> str:
    return f"{next(_numbers):x}".zfill(2 * size)


BY = Operator("me", NOW_MS, random_hex, "lost")


def with_open(url: str, work: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        store = await open_store(url)
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(run())


def on_a_store(work: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = await open_store(f"sqlite:///{folder}/mailboxes.db")
            try:
                for sdkappid in (7, 8):
                    await apps.create_application(
                        store, sdkappid, by=BY, keyring=await keyring_of(store)
                    )
                for mailbox in MAILBOXES:
                    entries = [b'"%d"' % next(_numbers) for _ in range(COUNT)]
                    await store.append(Append(mailbox, entries, NOW_MS))
                    for size in (10, 3, 100):
                        await store.pull(Pull(mailbox, size, NOW_MS))
                await work(store)
            finally:
                await store.close()

    asyncio.run(run())


async def find(store: Store) -> list[Found]:
    return await search.by_time(store, NOW_MS, NOW_MS + 1)


async def copies(store: Store, mailbox: Mailbox) -> Counter[bytes]:
    """How often each record was copied."""
    data = await data_of(store, mailbox)
    return Counter(data[COUNT:])


async def all_once(store: Store) -> bool:
    for mailbox in MAILBOXES:
        originals = (await data_of(store, mailbox))[:COUNT]
        assert set((await copies(store, mailbox)).values()) <= {1}
        if set(await copies(store, mailbox)) != set(originals):
            return False
    return True


class Cut:
    """A store whose nth redelivery fails, before it is done or behind it."""

    def __init__(self, store: Store, at: int, *, done: bool) -> None:
        self._store, self._left, self._done = store, at, done
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def redeliver(self, operation: Any) -> int:  # noqa: ANN401
        self._left -= 1
        if not self._left and not self._done:
            raise StoreUnavailable("cut")
        copied = await self._store.redeliver(operation)
        self.sizes.append(copied)
        if not self._left:
            raise StoreUnavailable("cut")
        return copied


def test_an_act_names_so_many_mailboxes_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(store: Store) -> None:
        found = await find(store)
        monkeypatch.setattr(limits, "ACT_MAILBOXES_MAX", 3)
        redelivery.begin(found, by=BY, how="time")
        monkeypatch.setattr(limits, "ACT_MAILBOXES_MAX", 2)
        with pytest.raises(InvalidSetting, match=r"of 3 mailboxes.*at most 2: .* --sdkappid"):
            redelivery.begin(found, by=BY, how="time")

    on_a_store(work)


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("at", range(1, 10))
def test_what_was_cut_off_is_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, at: int, done: bool
) -> None:
    """Nine steps, three of each mailbox; the rest is copied, and nothing twice."""
    monkeypatch.setattr(limits, "REDELIVER_COUNT_MAX", 10)

    async def work(store: Store) -> None:
        before = len(await acts_of(store))
        plan = redelivery.begin(await find(store), by=BY, how="time")
        cut = Cut(store, at, done=done)
        with pytest.raises(StoreUnavailable):
            await redelivery.redeliver(cast("Store", cut), plan, by=BY)
        assert cut.sizes == [10, 10, 5, 10, 10, 5, 10, 10, 5][: at - (not done)]
        assert await all_once(store) is (done and at == 9)
        rows = (await acts_of(store))[before:]
        if not cut.sizes:
            assert rows == []  # it had not begun
            return
        [row] = rows
        found = await find(store)
        with pytest.raises(InvalidSetting, match="was by time"):
            await redelivery.resume(store, row.act_id, found, how="sid")
        resumed = await redelivery.resume(store, row.act_id, found, how="time")
        assert resumed.act == plan.act
        left = 3 * COUNT - sum(cut.sizes)
        assert await redelivery.redeliver(store, resumed, by=BY) == Redelivered(left, [])
        assert await all_once(store)
        assert await redelivery.redeliver(store, resumed, by=BY) == Redelivered(0, [])
        assert len(await acts_of(store)) == before + 1

    on_a_store(work)


def test_what_was_handed_out_since_is_no_part_of_what_is_gone_on_with() -> None:
    async def work(store: Store) -> None:
        found = await search.by_time(store, NOW_MS, NOW_MS + 10)
        plan = redelivery.begin(found, by=BY, how="time")
        await redelivery.redeliver(store, plan, by=BY)
        await store.append(Append(MAILBOXES[0], [b'"new"'], NOW_MS))
        await store.pull(Pull(MAILBOXES[0], 100, NOW_MS + 5))
        again = await search.by_time(store, NOW_MS, NOW_MS + 10)
        assert sum(one.count for one in again) == 3 * COUNT + 1
        act_id = await redelivery.number(store, plan.act)
        assert act_id is not None
        resumed = await redelivery.resume(store, act_id, again, how="time")
        assert resumed == plan

    on_a_store(work)


@pytest.mark.parametrize("ahead_ms", [-1, 0, 60_000])
def test_what_was_handed_out_by_another_clock_is_gone_on_with(ahead_ms: int) -> None:
    """A server's clock may be ahead of the operator's, or have been, and the act is about all."""

    async def work(store: Store) -> None:
        await store.append(Append(MAILBOXES[0], [b'"ahead"'], NOW_MS))
        await store.pull(Pull(MAILBOXES[0], 100, NOW_MS + ahead_ms))
        found = await search.by_time(store, NOW_MS - 10, NOW_MS + 60_001)
        plan = redelivery.begin(found, by=BY, how="time")
        assert sum(size for _, _, size in plan.due) == 3 * COUNT + 1
        await redelivery.redeliver(store, plan, by=BY)
        act_id = await redelivery.number(store, plan.act)
        assert act_id is not None
        assert await redelivery.resume(store, act_id, found, how="time") == plan

    on_a_store(work)


def test_an_act_of_an_older_version_is_gone_on_with_by_its_own_time() -> None:
    async def work(store: Store) -> None:
        found = await find(store)
        plan = redelivery.begin(found, by=BY, how="time")
        told = json.loads(plan.act.detail)
        del told["newest_ms"]
        old = Plan(replace(plan.act, detail=json.dumps(told)), plan.due)
        await redelivery.redeliver(store, old, by=BY)
        act_id = await redelivery.number(store, old.act)
        assert act_id is not None
        assert await redelivery.resume(store, act_id, found, how="time") == old

    on_a_store(work)


@pytest.mark.parametrize("released", [False, True])
def test_a_page_that_was_in_hand_at_its_beginning_is_no_part_of_it(released: bool) -> None:
    """Nor does it stand in the way of going on once its reader has acknowledged it."""
    replies = MAILBOXES[1]

    async def work(store: Store) -> None:
        await store.append(Append(replies, [b'"held"', b'"next"'], NOW_MS))
        await store.pull(Pull(replies, 1, NOW_MS, reader=Reader("billing")))
        plan = redelivery.begin(await find(store), by=BY, how="time")
        await redelivery.redeliver(store, plan, by=BY)
        if released:
            act = BY.act("readers release")
            assert await store.release(Release(replies, "billing", COUNT + 1, NOW_MS + 1, act))
        else:
            await store.pull(Pull(replies, 0, NOW_MS + 1, reader=Reader("billing", COUNT + 1)))
        again = await find(store)
        assert sum(one.count for one in again if one.redeliverable) == 3 * COUNT + 1
        act_id = await redelivery.number(store, plan.act)
        assert act_id is not None
        assert await redelivery.resume(store, act_id, again, how="time") == plan

    on_a_store(work)


def test_an_act_from_before_tickets_is_not_gone_on_with() -> None:
    """Nobody knows what it has copied: all of it would be copied again."""

    async def work(store: Store) -> None:
        found = await find(store)
        plan = redelivery.begin(found, by=BY, how="time")
        old = Plan(replace(plan.act, ticket=NO_TICKET), plan.due)
        await redelivery.redeliver(store, old, by=BY)
        [*_, row] = await acts_of(store)
        assert row.act.ticket == NO_TICKET
        with pytest.raises(InvalidSetting, match="of an older version"):
            await redelivery.resume(store, row.act_id, found, how="time")

    on_a_store(work)


def test_another_redelivery_or_act_is_not_gone_on_with() -> None:
    """Nor one that was about less: whoever names a wrong number would have that copied, too."""

    async def work(store: Store) -> None:
        found = await find(store)
        few = [one for one in found if one.mailbox == MAILBOXES[1]]
        act = redelivery.begin(few, by=BY, how="number").act
        await redelivery.redeliver(store, redelivery.begin(few, by=BY, how="number"), by=BY)
        [*_, row] = await acts_of(store)
        with pytest.raises(InvalidSetting, match="not those 25"):
            await redelivery.resume(store, row.act_id, found, how="number")
        other = [one for one in found if one.mailbox == MAILBOXES[2]]
        with pytest.raises(InvalidSetting, match="not those 25"):
            await redelivery.resume(store, row.act_id, other, how="number")
        for strange in (1, row.act_id + 1):  # the first is of another kind
            with pytest.raises(InvalidSetting, match="is no redelivery"):
                await redelivery.resume(store, strange, few, how="number")
        assert await redelivery.number(store, act) is None

    on_a_store(work)


def test_a_change_of_the_application_between_two_steps_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes on with the same owner, and ends where another one has the number."""
    monkeypatch.setattr(limits, "REDELIVER_COUNT_MAX", 10)

    class Changing(Cut):
        def __init__(self, store: Store, change: Callable[[], Coroutine[Any, Any, None]]) -> None:
            super().__init__(store, 0, done=False)
            self._change = change

        async def redeliver(self, operation: Any) -> int:  # noqa: ANN401
            if len(self.sizes) == 1:
                await self._change()
            return await super().redeliver(operation)

    async def work(store: Store) -> None:
        async def rename() -> None:
            name = f"{next(_numbers)}"
            await apps.change_application(
                store, 7, lambda app: replace(app, name=name), by=BY, action="app set"
            )

        async def delete() -> None:
            await apps.delete_application(store, 7, by=BY, erase=True)
            await apps.create_application(store, 7, by=BY, keyring=await keyring_of(store))

        few = [one for one in await find(store) if one.mailbox.sdkappid == 7]
        changing = Changing(store, rename)
        plan = redelivery.begin(few, by=BY, how="time")
        with pytest.raises(SettingChanged):  # as it is changed before every try
            await redelivery.redeliver(cast("Store", changing), plan, by=BY)
        assert (await redelivery.redeliver(store, plan, by=BY)).copied == 2 * COUNT - 10

        changing = Changing(store, delete)
        plan = redelivery.begin(few, by=BY, how="time")
        with pytest.raises(InvalidSetting, match="former owner"):
            await redelivery.redeliver(cast("Store", changing), plan, by=BY)
        assert changing.sizes == [10]

    on_a_store(work)


DAMAGES = {
    "entries": (
        """UPDATE chunk SET body =
            CAST(replace(replace(CAST(body AS TEXT), '"4"', '"#"'), '"33"', '"##"') AS BLOB)""",
        {5, 34},
    ),
    "a page": (
        "UPDATE chunk SET bounds = x'' WHERE key = (SELECT min(key) FROM chunk)",
        set(range(1, 11)),
    ),
    "a hole": (
        "DELETE FROM chunk WHERE key = (SELECT min(key) + 10 FROM chunk)",
        set(range(11, 21)),
    ),
    "all": ("UPDATE chunk SET body = zeroblob(length(body))", set(range(1, 41))),
    "nothing": ("UPDATE chunk SET count = count", set()),
}


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("damage", DAMAGES)
def test_all_is_copied_but_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, step: int
) -> None:
    """Which is told, also by whoever goes on with it."""
    monkeypatch.setattr(limits, "REDELIVER_COUNT_MAX", step)
    monkeypatch.setattr(redelivery, "PAUSE_S", 0)
    statement, lost = DAMAGES[damage]
    [mailbox, *_] = MAILBOXES
    file = tmp_path / "store.db"
    given = [b'"%d"' % number for number in range(40)]

    async def hand_out(store: Store) -> None:
        await apps.create_application(store, 7, by=BY, keyring=await keyring_of(store))
        for start in range(0, 40, 10):
            await store.append(Append(mailbox, given[start : start + 10], NOW_MS))
        await store.pull(Pull(mailbox, 100, NOW_MS))

    async def copy(store: Store) -> None:
        before = len(await acts_of(store))
        plan = redelivery.begin(await find(store), by=BY, how="time")
        told = await redelivery.redeliver(store, plan, by=BY)
        assert {
            seq for _, first, size in told.damaged for seq in range(first, first + size)
        } == lost
        assert told.copied == 40 - len(lost)
        again = await redelivery.redeliver(store, plan, by=BY)
        assert again == Redelivered(0, told.damaged)
        kept = [entry for seq, entry in enumerate(given, start=1) if seq not in lost]
        assert (await store.pull(Pull(mailbox, 100, NOW_MS + 1))).data == b",".join(kept)
        assert len(await acts_of(store)) == before + bool(kept)

    url = f"sqlite:///{file}?file-system=any&commits=thread"
    with_open(url, hand_out)
    connection = apsw.Connection(str(file))
    connection.execute(statement)
    connection.close()
    with_open(url, copy)


def test_nothing_to_redeliver_is_said() -> None:
    async def work(store: Store) -> None:
        await store.append(Append(MAILBOXES[0], [b'"x"'], NOW_MS + 1))
        await store.discard(Discard(MAILBOXES[0], Outcome.ERASED, NOW_MS + 1))
        found = await search.by_time(store, NOW_MS + 1, NOW_MS + 2)
        with pytest.raises(InvalidSetting, match="nothing that was handed out matches"):
            redelivery.begin(found, by=BY, how="time")

    on_a_store(work)
