"""What is nobody's, over every engine: parked under number 0, until it is somebody's, once."""

from __future__ import annotations

import json
import secrets
from importlib.resources import files

import msgspec
import pytest

from pullstatus import apps, limits
from pullstatus.apps import Application, LiveApplication, Operator
from pullstatus.apps.routing import Rule
from pullstatus.apps.values import NOBODY, application_setting
from pullstatus.errors import InvalidSetting
from pullstatus.mailbox import append, parking, unparking
from pullstatus.mailbox.owning import NO_RULE, Stored, owned
from pullstatus.mailbox.parking import NOBODYS
from pullstatus.mailbox.unparking import Told
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.reading import read
from pullstatus.receipts.reports import receipts_of
from pullstatus.receipts.request import Request
from pullstatus.receipts.source import builtin
from pullstatus.records import Kind
from pullstatus.steps import done
from pullstatus.store import Change, Mailbox, Store, Unpark
from tests.store.build import NOW_MS, data_of

pytestmark = pytest.mark.anyio

SOURCE = builtin()["native"]
SHOP, HOTLINE = 7, 8  # in a cluster these lie in partitions of their own
TOKEN = "smsc"


def by() -> Operator:
    return Operator("op", NOW_MS, secrets.token_hex)


async def create(store: Store, sdkappid: int, owner: str = "one") -> None:
    name = application_setting(sdkappid)
    before = await store.setting(name)
    value = msgspec.json.encode(Application(sdkappid, (), 0, owner=owner))
    change = Change(name, value, None if before is None else before.value)
    assert await store.change(change, act=by().act("app create"), ticket=by().ticket())


async def rule(store: Store, name: str, sdkappid: int, to: str) -> None:
    await apps.add_rule(store, Rule(name=name, sdkappid=sdkappid, to=to), by=by())


def reply(to: str, text: str) -> dict[str, object]:
    return {"mobile": "13800138000", "nationcode": "86", "to": to, "text": text, "id": text}


def request(*replies: dict[str, object]) -> Request:
    body = json.dumps(replies, separators=(",", ":")).encode()
    return Request("POST", b"", "application/json", body, NOW_MS // 1000)


async def park(
    store: Store, *replies: dict[str, object], whole: bool = False, form: str = SOURCE.name
) -> None:
    """What a door does with what is nobody's; `whole`: what it could not read."""
    asked = request(*replies)
    reports = done(read(SOURCE, asked)).reports
    unread = [Unread(each.raw, NO_RULE, None, each.kind, each.index) for each in reports]
    if whole:
        unread = [Unread(asked.body, "must be JSON")]
    receipts = Receipts(Kind.REPLY, [], unread=tuple(unread))
    await parking.park(
        store,
        NOBODYS,
        receipts,
        form=form,
        request=asked,
        address="192.0.2.1",
        sender=TOKEN,
        now_ms=NOW_MS,
        ticket=by().ticket(),
    )


async def texts(store: Store, sdkappid: int) -> list[str]:
    found = await data_of(store, Mailbox(sdkappid, Kind.REPLY))
    return [json.loads(each)["text"] for each in found]


async def left(store: Store) -> list[str]:
    found = await parking.parked(store, NOBODY)
    return [json.loads(each.item.raw)["text"] for each in found if each.item]


async def retry(store: Store, *numbers: int) -> Told:
    return await unparking.retry(store, NOBODY, by=by(), numbers=numbers or None)


async def test_it_waits_until_a_rule_takes_it_and_is_stored_once(store: Store) -> None:
    """The same push parks it once; one that comes behind the rule is no second record."""
    await create(store, SHOP)
    await create(store, HOTLINE)
    for _ in range(2):
        await park(store, reply("1", "a"), reply("2", "b"), reply("1", "c"), reply("3", "d"))
    assert await retry(store) == Told(0, 0, 4)
    await rule(store, "shop", SHOP, "1")
    await rule(store, "hotline", HOTLINE, "2")
    assert await retry(store) == Told(3, 3, 1)
    assert (await texts(store, SHOP), await texts(store, HOTLINE)) == (["a", "c"], ["b"])
    assert await left(store) == ["d"]
    await door(store, reply("1", "a"), reply("1", "e"))
    assert await texts(store, SHOP) == ["a", "c", "e"]
    assert await retry(store) == Told(0, 0, 1)


async def door(store: Store, *replies: dict[str, object]) -> None:
    """The same gateway pushes again, and it is known whose that is."""
    reports = done(read(SOURCE, request(*replies))).reports
    known = Stored(store, await apps.rules(store))
    found = await owned(store, known, reports, token=TOKEN, source=SOURCE, own=None)
    [live] = {each.live for each in found}
    assert live is not None
    told = [(report, each.whose) for report, each in zip(reports, found, strict=True)]
    receipts = receipts_of(Kind.REPLY, SOURCE.name, told, NOW_MS // 1000)
    await append(store, live, receipts, sender=TOKEN, now_ms=NOW_MS, ticket=by().ticket())


async def test_a_record_that_came_meanwhile_is_not_stored_again(store: Store) -> None:
    await create(store, SHOP)
    await park(store, reply("1", "a"))
    await rule(store, "shop", SHOP, "1")
    await door(store, reply("1", "a"))
    assert await retry(store) == Told(1, 0, 0)
    assert await texts(store, SHOP) == ["a"]


async def test_an_item_of_several_applications_goes_to_each(store: Store) -> None:
    """And what of it is nobody's stays under its number."""
    await create(store, SHOP)
    await create(store, HOTLINE)
    replies = (reply("1", "a"), reply("2", "b"), reply("1", "c"), reply("3", "d"))
    await park(store, *replies, whole=True)
    await rule(store, "shop", SHOP, "1")
    await rule(store, "hotline", HOTLINE, "2")
    assert await retry(store, 1) == Told(0, 3, 1)
    assert (await texts(store, SHOP), await texts(store, HOTLINE)) == (["a", "c"], ["b"])
    assert [each.number for each in await parking.parked(store, NOBODY)] == [1]
    assert await left(store) == ["d"]


async def test_what_came_in_an_operators_own_form_is_read_by_that(store: Store) -> None:
    """And stays where nobody knows the form any more."""
    text = (files("pullstatus.receipts") / "gateways" / "native.toml").read_text()
    await create(store, SHOP)
    await rule(store, "shop", SHOP, "1")
    await park(store, reply("1", "a"), form="mine")
    assert await retry(store) == Told(0, 0, 1)
    mine = text.replace('name = "native"', 'name = "mine"')
    await apps.add_source(store, mine, by=by())
    assert await retry(store) == Told(1, 1, 0)
    assert await texts(store, SHOP) == ["a"]


async def test_no_commit_is_for_two_applications(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one whose owner changes in the middle a cluster would learn only where it comes first."""
    for sdkappid, to in ((SHOP, "1"), (HOTLINE, "2")):
        await create(store, sdkappid)
        await rule(store, f"r{to}", sdkappid, to)
    await park(store, *(reply(to, f"{place}") for place, to in enumerate("1132212")))
    commits: list[list[int]] = []
    unpark = store.unpark

    async def noted(operation: Unpark) -> int:
        commits.append(sorted({each.mailbox.sdkappid for each in operation.records}))
        return await unpark(operation)

    monkeypatch.setattr(store, "unpark", noted)
    assert await retry(store) == Told(6, 6, 1)
    assert commits == [[SHOP], [HOTLINE], [SHOP], [HOTLINE]]
    assert await left(store) == ["2"]


async def test_who_has_the_number_next_gets_nothing_of_it(store: Store) -> None:
    await create(store, SHOP)
    await rule(store, "shop", SHOP, "1")
    await park(store, reply("1", "a"))
    await create(store, SHOP, owner="next")
    assert await retry(store) == Told(0, 0, 1)
    assert await texts(store, SHOP) == []
    [shown] = await apps.rule_standings(store)
    assert "another owner" in shown.wrong


async def test_it_is_dropped_or_given_away_by_hand(store: Store) -> None:
    await create(store, SHOP)
    await park(store, reply("1", "a"), reply("1", "b"), {"text": "c", "mobile": "x", "to": "1"})
    assert await unparking.drop(store, NOBODY, by=by(), numbers=[1]) == Told(1, 0, 2)
    told = await unparking.route(store, NOBODY, SHOP, by=by())
    assert (told.items, told.left) == (2, 0)
    assert await texts(store, SHOP) == ["b"]
    assert told.parked == len(await parking.parked(store, SHOP)) == 1
    with pytest.raises(InvalidSetting):
        await unparking.drop(store, NOBODY, by=by(), numbers=[1])


async def test_it_is_bounded_as_an_applications_items_are(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PARKED_ITEMS_MAX", 2)
    await park(store, reply("1", "a"), reply("1", "b"), reply("1", "c"))
    assert await left(store) == ["b", "c"]


async def test_an_owner_that_changes_in_the_middle_stores_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the application and the commit that gives it the record."""
    await create(store, SHOP)
    await rule(store, "shop", SHOP, "1")
    await park(store, reply("1", "a"))
    read_one = Stored.application

    async def changed(self: Stored, sdkappid: int) -> LiveApplication | None:
        found = await read_one(self, sdkappid)
        if not changes:
            changes.append(sdkappid)
            await create(store, SHOP, owner="next")
        return found

    changes: list[int] = []
    monkeypatch.setattr(Stored, "application", changed)
    assert await retry(store) == Told(0, 0, 1)
    assert (changes, await texts(store, SHOP), await left(store)) == ([SHOP], [], ["a"])
