"""What is nobody's, over every engine: parked under number 0, until it is somebody's, once."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import msgspec
import pytest

from pullstatus import apps, limits
from pullstatus.apps import Application, LiveApplication, Operator
from pullstatus.apps.operator import SERVER
from pullstatus.apps.routing import Rule
from pullstatus.apps.values import NOBODY, application_setting
from pullstatus.errors import InvalidSetting, OutcomeUnknown
from pullstatus.mailbox import append, finding, leaving, parking, pending, rereading, unparking
from pullstatus.mailbox import bounds as mailbox_bounds
from pullstatus.mailbox.bounds import Bounds
from pullstatus.mailbox.erasing import ErasedNumber, count_number, erase_number, parse_number
from pullstatus.mailbox.owning import NO_RULE, Stored, owned
from pullstatus.mailbox.parking import NOBODYS
from pullstatus.mailbox.pending import Item, wait
from pullstatus.mailbox.releasing import Pending
from pullstatus.mailbox.room import Room
from pullstatus.mailbox.unparking import Unparked
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.reading import read
from pullstatus.receipts.reports import Report, State, Whose, receipts_of
from pullstatus.receipts.request import Request
from pullstatus.receipts.sends import Registered
from pullstatus.receipts.source import builtin
from pullstatus.records import Kind
from pullstatus.records.hours import DAY_MS
from pullstatus.steps import done
from pullstatus.store import Backlog, Change, Mailbox, Store, Tickets, Unpark, audit_store
from tests.names import NamesInMemory
from tests.store.build import NOW_MS, acts_of, data_of

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
    store: Store,
    *replies: dict[str, object],
    whole: bool = False,
    form: str = SOURCE.name,
    token: str = TOKEN,
    now_ms: int = NOW_MS,
    live: LiveApplication = NOBODYS,
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
        live,
        receipts,
        form=form,
        request=asked,
        address="192.0.2.1",
        sender=token,
        now_ms=now_ms,
        ticket=by().ticket(),
    )


async def texts(store: Store, sdkappid: int) -> list[str]:
    found = await data_of(store, Mailbox(sdkappid, Kind.REPLY))
    return [json.loads(each)["text"] for each in found]


async def left(store: Store) -> list[str]:
    found = await parking.parked(store, NOBODY)
    return [json.loads(each.item.raw)["text"] for each in found if each.item]


async def retry(store: Store, *numbers: int) -> Unparked:
    return await unparking.retry(store, NOBODY, by=by(), numbers=numbers or None)


async def test_it_waits_until_a_rule_takes_it_and_is_stored_once(store: Store) -> None:
    """The same push parks it once; one that comes behind the rule is no second record."""
    await create(store, SHOP)
    await create(store, HOTLINE)
    for _ in range(2):
        await park(store, reply("1", "a"), reply("2", "b"), reply("1", "c"), reply("3", "d"))
    assert await retry(store) == Unparked(0, 0, 4)
    await rule(store, "shop", SHOP, "1")
    await rule(store, "hotline", HOTLINE, "2")
    assert await retry(store) == Unparked(3, 3, 1)
    assert (await texts(store, SHOP), await texts(store, HOTLINE)) == (["a", "c"], ["b"])
    assert await left(store) == ["d"]
    await door(store, reply("1", "a"), reply("1", "e"))
    assert await texts(store, SHOP) == ["a", "c", "e"]
    assert await retry(store) == Unparked(0, 0, 1)


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
    assert await retry(store) == Unparked(1, 0, 0)
    assert await texts(store, SHOP) == ["a"]


async def test_an_item_of_several_applications_goes_to_each(store: Store) -> None:
    """And what of it is nobody's stays under its number."""
    await create(store, SHOP)
    await create(store, HOTLINE)
    replies = (reply("1", "a"), reply("2", "b"), reply("1", "c"), reply("3", "d"))
    await park(store, *replies, whole=True)
    await rule(store, "shop", SHOP, "1")
    await rule(store, "hotline", HOTLINE, "2")
    assert await retry(store, 1) == Unparked(0, 3, 1)
    assert (await texts(store, SHOP), await texts(store, HOTLINE)) == (["a", "c"], ["b"])
    assert [each.number for each in await parking.parked(store, NOBODY)] == [1]
    assert await left(store) == ["d"]


async def test_an_old_item_of_several_applications_goes_to_each_before_it_expires(
    store: Store,
) -> None:
    """What reads by now is a record, however old it is; what does not leaves."""
    await create(store, SHOP)
    await create(store, HOTLINE)
    old_ms = NOW_MS - limits.PARKED_DAYS * DAY_MS - 1
    replies = (reply("1", "a"), reply("2", "b"), reply("3", "c"))
    await park(store, *replies, whole=True, now_ms=old_ms)
    await rule(store, "shop", SHOP, "1")
    await rule(store, "hotline", HOTLINE, "2")
    assert await retry(store) == Unparked(1, 2, 0)
    assert (await texts(store, SHOP), await texts(store, HOTLINE)) == (["a"], ["b"])
    [row] = [row for row in await store.backlog(NOBODY) if row.mailbox.parked]
    assert row.expired == 1


@pytest.mark.parametrize("states", [["queued"], ["queued", "delivered"]], ids=" and ".join)
async def test_an_intermediate_state_of_nobody_leaves_once_it_reads(
    store: Store, states: list[str]
) -> None:
    """As it would have at the door, whether a rule matches it or none."""
    await create(store, SHOP)
    shop = Rule(name="shop", sdkappid=SHOP, id_prefix="delivered")
    await apps.add_rule(store, shop, by=by())
    number = "8613800138000"
    parts: list[dict[str, object]] = [
        {"id": state, "number": number, "state": state} for state in states
    ]
    await park(store, *parts, whole=True, form="acme")
    assert await retry(store) == Unparked(0, 0, 1)
    await apps.add_source(store, ACME, by=by())
    assert await retry(store) == Unparked(1, len(states) - 1, 0)


ACME = """
name = "acme"
items = "body"
[status]
number = "number"
id = "id"
state = "state"
states = { queued = "INTERMEDIATE", delivered = "SUCCESS" }
"""


async def test_what_came_in_an_operators_own_form_is_read_by_that(store: Store) -> None:
    """And stays where nobody knows the form any more."""
    text = (files("pullstatus.receipts") / "gateways" / "native.toml").read_text()
    await create(store, SHOP)
    await rule(store, "shop", SHOP, "1")
    await park(store, reply("1", "a"), form="mine")
    assert await retry(store) == Unparked(0, 0, 1)
    mine = text.replace('name = "native"', 'name = "mine"')
    await apps.add_source(store, mine, by=by())
    assert await retry(store) == Unparked(1, 1, 0)
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
    assert await retry(store) == Unparked(6, 6, 1)
    assert commits == [[SHOP], [HOTLINE], [SHOP], [HOTLINE]]
    assert await left(store) == ["2"]


async def test_who_has_the_number_next_gets_nothing_of_it(store: Store) -> None:
    await create(store, SHOP)
    await rule(store, "shop", SHOP, "1")
    await park(store, reply("1", "a"))
    await create(store, SHOP, owner="next")
    assert await retry(store) == Unparked(0, 0, 1)
    assert await texts(store, SHOP) == []
    [shown] = await apps.rule_standings(store)
    assert "another owner" in shown.wrong


async def test_it_is_dropped_or_given_away_by_hand(store: Store) -> None:
    await create(store, SHOP)
    await park(store, reply("1", "a"), reply("1", "b"), {"text": "c", "mobile": "x", "to": "1"})
    assert await unparking.drop(store, NOBODY, by=by(), numbers=[1]) == Unparked(1, 0, 2)
    told = await unparking.route(store, NOBODY, SHOP, by=by())
    assert (told.items, told.left) == (2, 0)
    assert await texts(store, SHOP) == ["b"]
    assert told.parked == len(await parking.parked(store, SHOP)) == 1
    with pytest.raises(InvalidSetting):
        await unparking.drop(store, NOBODY, by=by(), numbers=[1])


RECORDS = builtin()["tencent"]


def raw(**members: object) -> dict[str, object]:
    return {"mobile": "13800138000", "nationcode": "86", **members}


STATUS = raw(
    report_status="SUCCESS", errmsg="OK", user_receive_time="2026-01-05 08:00:00", sid="8:1"
)
REPLY = raw(text="yes", time=1_767_571_200, sign="", extend="")


async def of_records(store: Store, *parts: dict[str, object], live: LiveApplication) -> int:
    """What a door does with a platform's push of records; how many of them are new."""
    body = json.dumps(parts[0] if parts == (REPLY,) else parts).encode()
    asked = Request("POST", b"", "application/json", body, NOW_MS // 1000)
    reports = done(read(RECORDS, asked)).reports
    kind = reports[0].kind
    sent: dict[str, Any] = {"sender": TOKEN, "now_ms": NOW_MS, "ticket": by().ticket()}
    if live is not NOBODYS:
        receipts = receipts_of(
            kind, RECORDS.name, [(each, Whose("86")) for each in reports], NOW_MS // 1000
        )
        return await append(store, live, receipts, **sent)
    unread = tuple(Unread(each.raw, NO_RULE, None, each.kind, each.index) for each in reports)
    receipts = Receipts(kind, [], unread=unread)
    form, address = RECORDS.name, "192.0.2.1"
    await parking.park(store, live, receipts, form=form, request=asked, address=address, **sent)
    return 0


@pytest.mark.parametrize("part", [STATUS, REPLY], ids=["status", "reply"])
async def test_records_given_away_by_hand_are_what_they_would_have_been_at_the_door(
    store: Store, part: dict[str, object]
) -> None:
    """So the same push again, once it is known whose it is, is a repeat."""
    await create(store, SHOP)
    await of_records(store, part, live=NOBODYS)
    assert await unparking.route(store, NOBODY, SHOP, by=by()) == Unparked(1, 1, 0)
    shop = await parking.live_application(store, SHOP)
    assert await of_records(store, part, live=shop) == 0


async def test_reply_of_records_that_was_given_away_unread_is_read_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a reply, though it has a place: that is of an array alone where keys do not tell them."""
    await create(store, SHOP)
    await of_records(store, REPLY, live=NOBODYS)
    with monkeypatch.context() as unknown:
        unknown.setattr(rereading, "builtin", dict)
        told = await unparking.route(store, NOBODY, SHOP, by=by())
        assert (told.records, told.parked) == (0, 1)
    assert await unparking.retry(store, SHOP, by=by()) == Unparked(1, 1, 0)
    assert await texts(store, SHOP) == ["yes"]


async def test_a_token_that_floods_lets_no_items_of_another_leave(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are they refused; of its own the oldest leave. All keep the numbers they had first."""
    monkeypatch.setattr(limits, "PARKED_ITEMS_MAX", 2)
    bounds = Bounds(store, secrets.token_hex)
    await park(store, reply("1", "a"), reply("1", "b"), token="other")
    for turn in range(4):
        await park(store, *(reply("1", f"{turn}.{each}") for each in range(3)), token="flood")
        assert await bounds.keep(NOW_MS) == (3 if turn else 1)
        assert await bounds.keep(NOW_MS) == 0
    found = {each.number: each.item for each in await parking.parked(store, NOBODY)}
    assert {item.token for item in found.values() if item} == {"flood", "other"}
    assert sorted(await left(store)) == ["3.1", "3.2", "a", "b"]
    assert {1, 2} <= found.keys()
    await park(store, reply("1", "c"), token="other")
    assert await bounds.keep(NOW_MS) == 1
    assert sorted(await left(store)) == ["3.1", "3.2", "b", "c"]
    acts = [row.act for row in await acts_of(store) if row.act.action == "parked put back"]
    assert [act.actor for act in acts] == [SERVER]
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_a_process_that_begins_keeps_the_same_bounds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside another one, which has done it before it could."""
    monkeypatch.setattr(limits, "PARKED_ITEMS_MAX", 3)
    one, other = Bounds(store, secrets.token_hex), Bounds(store, secrets.token_hex)
    assert await other.keep(NOW_MS) == 0
    for each in "abcde":
        await park(store, reply("1", each))
        await park(store, reply("1", each.upper()), token="other")
    assert await one.keep(NOW_MS) == 4
    assert await other.keep(NOW_MS) == 0
    assert sorted(await left(store)) == sorted("cdeCDE")


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
async def test_a_turn_that_is_cut_off_is_made_up_for_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    monkeypatch.setattr(limits, "PARKED_ITEMS_MAX", 2)
    monkeypatch.setattr(mailbox_bounds, "_STEP_ITEMS", 3)  # of which each is cut off
    bounds = Bounds(store, secrets.token_hex)
    for each in "abcdef":
        await park(store, reply("1", each))
        if each < "c":
            await park(store, reply("1", each.upper()), token="other")
    unpark = store.unpark
    cuts = 0

    async def cut_off(operation: Unpark) -> int:
        nonlocal cuts
        cuts += 1
        if done or cuts % 2 == 0:
            await unpark(operation)
        if done or cuts % 2:
            raise OutcomeUnknown("cut off")
        return 0

    monkeypatch.setattr(store, "unpark", cut_off)
    for _ in range(4):
        with contextlib.suppress(OutcomeUnknown):
            await bounds.keep(NOW_MS)
    assert cuts > 1
    monkeypatch.setattr(store, "unpark", unpark)
    await bounds.keep(NOW_MS)
    assert sorted(await left(store)) == ["A", "B", "e", "f"]


async def test_what_an_operator_moves_meanwhile_is_seen_to_in_the_next_turn(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PARKED_ITEMS_MAX", 1)
    bounds = Bounds(store, secrets.token_hex)
    await park(store, reply("1", "a"), reply("1", "b"), reply("1", "c"))
    unpark = store.unpark

    async def late(operation: Unpark) -> int:
        monkeypatch.setattr(store, "unpark", unpark)
        await unparking.drop(store, NOBODY, by=by(), numbers=[1])
        return await unpark(operation)

    monkeypatch.setattr(store, "unpark", late)
    assert await bounds.keep(NOW_MS) == 0
    assert await left(store) == ["b", "c"]
    assert await bounds.keep(NOW_MS) == 1
    assert await left(store) == ["c"]


@pytest.mark.parametrize("way", ["drop", "erase"])
async def test_what_a_servers_turn_puts_back_meanwhile_is_dropped_and_erased(
    store: Store, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """It lets the oldest of a token that floods leave, and puts back what stands before them."""
    monkeypatch.setattr(limits, "PARKED_ITEMS_MAX", 1)
    bounds = Bounds(store, secrets.token_hex)
    await park(store, reply("1", "hers") | {"mobile": "13900139000"}, token="quiet")
    await park(store, *(reply("1", text) for text in "abc"), token="flood")
    unpark = store.unpark

    async def late(operation: Unpark) -> int:
        monkeypatch.setattr(store, "unpark", unpark)
        await bounds.keep(NOW_MS)
        assert await left(store) == ["c", "hers"]
        return await unpark(operation)

    monkeypatch.setattr(store, "unpark", late)
    if way == "drop":
        await unparking.drop(store, NOBODY, by=by(), numbers=[1])
    else:
        number = parse_number("+8613900139000")
        await erase_number(store, number, by=by(), progress=lambda *_: None)
        assert await count_number(store, number) == ErasedNumber()
    assert await left(store) == ["c"]


async def test_an_item_that_leaves_as_it_is_looked_for_is_erased(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever let it leave, the erasing goes on."""
    await park(store, reply("1", "hers") | {"mobile": "13900139000"}, token="quiet")
    await park(store, reply("1", "a"))
    unpark = store.unpark

    async def late(operation: Unpark) -> int:
        monkeypatch.setattr(store, "unpark", unpark)
        await unparking.drop(store, NOBODY, by=by(), numbers=[1])
        return await unpark(operation)

    monkeypatch.setattr(store, "unpark", late)
    number = parse_number("+8613900139000")
    await erase_number(store, number, by=by(), progress=lambda *_: None)
    assert await count_number(store, number) == ErasedNumber()
    assert await left(store) == ["a"]


async def route(store: Store) -> None:
    await unparking.route(store, HOTLINE, SHOP, by=by())


async def read_again(store: Store) -> None:
    await unparking.retry(store, HOTLINE, by=by())


@pytest.mark.parametrize("way", [route, read_again])
async def test_an_item_that_goes_elsewhere_as_it_is_looked_for_is_erased(
    store: Store, monkeypatch: pytest.MonkeyPatch, way: Callable[[Store], Awaitable[None]]
) -> None:
    """Behind what is looked through already: to another application, or among the records."""
    await create(store, SHOP)
    await create(store, HOTLINE)
    number = parse_number("+8613900139000")
    hers = reply("1", "13900139000") | {"mobile": "x" if way is route else "13900139000"}
    live = await parking.live_application(store, HOTLINE)
    await park(store, reply("1", "a"), hers, reply("1", "b"), live=live)
    assert await count_number(store, number) == ErasedNumber(parked=1)
    backlog, left_parked = store.backlog, [HOTLINE]

    async def late(sdkappid: int | None = None) -> list[Backlog]:
        if sdkappid in left_parked:
            left_parked.remove(sdkappid)
            await way(store)
        return await backlog(sdkappid)

    monkeypatch.setattr(store, "backlog", late)
    await erase_number(store, number, by=by(), progress=lambda *_: None)
    assert left_parked == []
    assert await count_number(store, number) == ErasedNumber()
    assert await texts(store, SHOP if way is route else HOTLINE) == ["a", "b"]


async def test_an_item_that_goes_elsewhere_as_it_is_looked_for_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(store, SHOP)
    await create(store, HOTLINE)
    live = await parking.live_application(store, HOTLINE)
    await park(store, reply("1", "13900139000") | {"mobile": "x"}, live=live)
    backlog, left_parked = store.backlog, [HOTLINE]

    async def late(sdkappid: int | None = None) -> list[Backlog]:
        if sdkappid in left_parked:
            left_parked.remove(sdkappid)
            await route(store)
        return await backlog(sdkappid)

    monkeypatch.setattr(store, "backlog", late)
    found = await finding.by_number(store, "+8613900139000", by=by())
    assert left_parked == []
    assert [number for number, _ in found.parked] == [SHOP]


async def test_an_application_that_is_gone_is_nothing_to_an_erasing(store: Store) -> None:
    await create(store, SHOP)
    live = await parking.live_application(store, SHOP)
    await park(store, reply("1", "13900139000") | {"mobile": "x"}, live=live)
    await unparking.drop(store, SHOP, by=by())
    await apps.delete_application(store, SHOP, by=by())
    number = parse_number("+8613900139000")
    erased = await erase_number(store, number, by=by(), progress=lambda *_: None)
    assert erased == ErasedNumber(parked=1)


async def test_bytes_and_days_are_each_tokens_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest stays, however long; what came too long ago leaves instead of being put back."""
    monkeypatch.setattr(limits, "PARKED_BYTES_MAX", 1000)
    bounds = Bounds(store, secrets.token_hex)
    later_ms = NOW_MS + limits.PARKED_DAYS * DAY_MS
    await park(store, reply("1", "a"), token="old")
    await park(store, reply("1", "b"), token="other", now_ms=NOW_MS + 1)
    for each in "cd":
        await park(store, reply("1", each * 1000), now_ms=NOW_MS + 1)
    assert await bounds.keep(later_ms + 1) == 2
    assert [text[0] for text in await left(store)] == ["d", "b"]


def nameless(text: str, token: str = TOKEN) -> Item:
    """A receipt that nobody has registered."""
    raw = json.dumps({"text": text}).encode()
    unowned = parking.Item(SOURCE.name, token, NOW_MS, "", NO_RULE, raw)
    said = Report(Kind.DELIVERY_STATUS, raw, state=State.SUCCESS, number="138", id=text)
    return Item(SOURCE.name, token, NOW_MS, said, unowned=unowned)


async def test_what_waited_too_long_for_its_name_lets_nothing_of_others_leave(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is parked by the server, and not by a push."""
    monkeypatch.setattr(limits, "PARKED_ITEMS_MAX", 1)
    await park(store, reply("1", "a"), token="other")
    tickets = Tickets(secrets.token_bytes)
    said = [nameless(each) for each in "bcd"]
    await wait(store, None, said, sender=TOKEN, now_ms=NOW_MS, ticket=tickets())
    late_ms = NOW_MS + limits.PENDING_NAME_S * 1000
    assert await Pending(store, NamesInMemory(), tickets).release(late_ms) == 3
    assert await left(store) == ["a", "b", "c", "d"]
    assert await Bounds(store, secrets.token_hex).keep(late_ms) == 2
    assert sorted(await left(store)) == ["a", "d"]


async def test_tokens_that_flood_leave_room_for_another_however_many_they_are(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as much as each has where all have equally much; and there is an end to all of it."""
    monkeypatch.setattr(limits, "PENDING_SHARED_ITEMS", 16)
    await create(store, SHOP)
    room, names, tickets = Room(store), NamesInMemory(), Tickets(secrets.token_bytes)

    async def bring(token: str, count: int, now_ms: int = NOW_MS) -> int:
        most = await room.of(NOBODY, token, count, now_ms)
        said = [nameless(f"{token} {each} {now_ms}", token) for each in range(most)]
        if said:
            await wait(store, None, said, sender=token, now_ms=now_ms, ticket=tickets())
        return most

    floods = [await bring(f"flood {each}", 20) for each in range(7)]
    assert floods == [8, 5, 4, 3, 2, 2, 2]
    assert await bring("other", 3) == 16 // 9
    assert await bring("other", 3, NOW_MS + 1_000) == 0
    names.register(SHOP, Registered("mine", (f"other 0 {NOW_MS}",)), owner="one")
    assert await Pending(store, names, tickets).release(NOW_MS + 1_000) == 1
    [record] = await data_of(store, Mailbox(SHOP, Kind.DELIVERY_STATUS))
    assert json.loads(record)["sid"] == "mine"
    assert await bring("other", 3, NOW_MS + 2_000) == 16 // 9
    late = [await bring(f"late {each}", 9, NOW_MS + 2_000) for each in range(6)]
    assert (sum(floods) + 1 + sum(late), late) == (32, [1, 1, 1, 1, 1, 0])
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_a_token_has_places_of_its_own_when_others_have_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few of each, and there is an end to these, too."""
    monkeypatch.setattr(limits, "PENDING_SHARED_ITEMS", 240)
    room, tickets = Room(store), Tickets(secrets.token_bytes)

    async def bring(token: str, count: int) -> int:
        most = await room.of(NOBODY, token, count, NOW_MS)
        said = [nameless(f"{token} {each}", token) for each in range(most)]
        if said:
            await wait(store, None, said, sender=token, now_ms=NOW_MS, ticket=tickets())
        return most

    floods = [await bring(f"flood {each}", 240) for each in range(40)]
    assert sum(floods[:16]) > 2 * 240 - 16
    assert floods[-1] == 2
    assert await bring("flood 39", 3) == 0
    others = [await bring(f"other {each}", 3) for each in range(80)]
    assert (sum(floods) + sum(others), others[0], others[-1]) == (2 * 240 + 120, 2, 0)


@pytest.mark.parametrize("cut", [None, "before", "behind"])
async def test_what_is_whole_is_a_record_though_much_of_others_stands_before_it(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, cut: str | None
) -> None:
    """In one turn, and once, whichever process has the others; what it can't be is parked once."""
    monkeypatch.setattr(leaving, "STEP_ITEMS", 2)
    await create(store, SHOP)
    names, tickets = NamesInMemory(), Tickets(secrets.token_bytes)

    async def come(token: str, *said: Item) -> None:
        await wait(store, None, said, sender=token, now_ms=NOW_MS, ticket=tickets())

    async def sids() -> list[str]:
        found = await data_of(store, Mailbox(SHOP, Kind.DELIVERY_STATUS))
        return sorted(json.loads(each)["sid"] for each in found)

    for place in range(4):
        await come("flood", *(nameless(f"{place}.{each}", "flood") for each in range(3)))
    odd = nameless("odd")
    odd = msgspec.structs.replace(odd, report=msgspec.structs.replace(odd.report, number="x"))
    await come(TOKEN, nameless("one"), nameless("first"), nameless("second"), odd)
    names.register(SHOP, Registered("plain", ("one",)), owner="one")
    names.register(SHOP, Registered("long", ("first", "second")), owner="one")
    names.register(SHOP, Registered("none", ("odd",)), owner="one")
    unpark = store.unpark

    async def cut_off(operation: Unpark) -> int:
        if cut == "behind":
            await unpark(operation)
        raise OutcomeUnknown("cut off")

    late_ms = NOW_MS + limits.PENDING_NAME_S * 1000
    one, other = (Pending(store, names, tickets) for _ in range(2))
    if cut:
        monkeypatch.setattr(store, "unpark", cut_off)
        with pytest.raises(OutcomeUnknown):
            await one.release(late_ms)
        monkeypatch.setattr(store, "unpark", unpark)
    else:
        assert await one.release(late_ms) == 2
        assert await sids() == ["plain"]  # and of the other one a part is where the next comes
        await one.release(late_ms)
        assert await sids() == ["long", "plain"]
    for turn in range(20):
        await (one, other)[turn % 2].release(late_ms + turn)
    assert await sids() == ["long", "plain"]
    assert len(await left(store)) == 12
    assert len(await parking.parked(store, SHOP)) == 1
    waiting = {row.mailbox: row.waiting for row in await store.backlog()}
    assert waiting[pending.pending_mailbox(NOBODY)] == 0
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


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
    assert await retry(store) == Unparked(0, 0, 1)
    assert (changes, await texts(store, SHOP), await left(store)) == ([SHOP], [], ["a"])
