"""What waits leaves by itself, as one record each, wherever whoever sees to it is cut off."""

from __future__ import annotations

import itertools
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from pullstatus import limits
from pullstatus.apps import Application, LiveApplication, Operator, add_rule, delete_application
from pullstatus.apps.routing import Action, Rule
from pullstatus.apps.values import application_setting
from pullstatus.errors import InvalidSetting, OutcomeUnknown
from pullstatus.mailbox import leaving, parking, pending
from pullstatus.mailbox.erasing import Number, erase_number
from pullstatus.mailbox.names import Told, names_of
from pullstatus.mailbox.pending import CameWith, Item, pending_mailbox, wait, waits_for
from pullstatus.mailbox.releasing import Pending
from pullstatus.mailbox.room import Room
from pullstatus.receipts.joining import MISSING, UNKNOWN
from pullstatus.receipts.parts import Part
from pullstatus.receipts.reports import Report, State, Whose
from pullstatus.receipts.sends import Registered
from pullstatus.records import Kind
from pullstatus.store import Change, Erased, Store, Tickets, Unpark, audit_store, open_store
from tests.names import NamesInMemory

pytestmark = pytest.mark.anyio

NUMBER = 1_400_006_666
_numbers = itertools.count(1)
NOW_MS = 1_800_000_000_000
NAME_MS = limits.PENDING_NAME_S * 1000
PARTS_MS = limits.PENDING_PARTS_S * 1000


@dataclass
class World:
    """A store with an application, names, and what sees to what is pending."""

    store: Store
    names: NamesInMemory = field(default_factory=NamesInMemory)
    new_ticket: Tickets = field(default_factory=lambda: Tickets(bytes))

    def __post_init__(self) -> None:
        self.pending = Pending(self.store, self.names, self.new_ticket)

    async def live(self) -> LiveApplication:
        return await parking.live_application(self.store, NUMBER)

    async def come(
        self, report: Report, at_ms: int = NOW_MS, *, owned: bool = True, token: str = "t"
    ) -> None:
        """A report comes, and waits if it has to, as it is made to here."""
        told = Told(report.id, report.number)
        [name] = await names_of(self.names, [told], sdkappid=NUMBER if owned else None)
        assert waits_for(report, name, named=True)
        unowned = None if owned else parking.Item("kannel", "p", at_ms, "", "whose?", report.raw)
        item = Item("kannel", token, at_ms, report, Whose("86"), name=name, unowned=unowned)
        live = await self.live() if owned else None
        more: dict[str, Any] = {"now_ms": at_ms, "ticket": self.new_ticket()}
        await wait(self.store, live, [item], sender=token, **more)

    async def records(self, kind: Kind = Kind.DELIVERY_STATUS) -> list[dict[str, Any]]:
        mailbox = (await self.live()).application.mailbox(kind)
        return [json.loads(entry.data) async for entry in self.store.entries(mailbox)]

    async def sids(self) -> list[tuple[str, str]]:
        return [(row["sid"], row["report_status"]) for row in await self.records()]

    async def waiting(self, sdkappid: int = NUMBER) -> int:
        rows = await self.store.backlog(sdkappid)
        return sum(row.waiting for row in rows if row.mailbox == pending_mailbox(sdkappid))


@pytest.fixture
async def world(url: str) -> AsyncIterator[World]:
    store = await open_store(url)
    application = msgspec.json.encode(Application(NUMBER, (), 0))
    await store.change(Change(application_setting(NUMBER), application, None))
    yield World(store)
    await store.close()
    report = await audit_store(url, lambda *_: None)
    assert report.findings == []


def receipt(gateway_id: str, state: State = State.SUCCESS, at_s: int = 1_800_000_000) -> Report:
    return Report(
        Kind.DELIVERY_STATUS,
        f"id={gateway_id}&state={state}".encode(),
        number="13800138000",
        id=gateway_id,
        at_s=at_s,
        state=state,
        errmsg=state.value,
    )


def reply(number: int, count: int = 3, reference: str = "42", said: str = "") -> Report:
    text = said or f"<{number}>"
    part = Part(reference, count, number)
    raw = f"{reference}/{count}/{number}/{text}".encode()
    return Report(Kind.REPLY, raw, number="13800138000", to="1069", text=text, part=part)


async def test_a_receipt_that_overtook_its_registration_leaves_with_its_name(world: World) -> None:
    await world.come(receipt("g1"))
    await world.come(receipt("g2"))
    assert await world.pending.release(NOW_MS + 500) == 0
    world.names.register(NUMBER, Registered("sid-2", ("g2",), "ext-2"))
    assert await world.pending.release(NOW_MS + 1500) == 1
    assert await world.sids() == [("sid-2", "SUCCESS")]
    assert [row["ext"] for row in await world.records()] == ["ext-2"]
    assert await world.pending.release(NOW_MS + NAME_MS - 1) == 0
    assert await world.pending.release(NOW_MS + NAME_MS) == 1  # it is late: the raw id will do
    assert await world.sids() == [("sid-2", "SUCCESS"), ("g1", "SUCCESS")]
    assert await world.waiting() == 0


async def test_what_has_waited_is_known_when_it_comes_again(world: World) -> None:
    """Before it has left, and after that; and straight at the door, where its name is known."""
    for _ in range(2):
        await world.come(receipt("g1"))
    assert await world.waiting() == 1
    await world.pending.release(NOW_MS + NAME_MS)
    await world.come(receipt("g1"), NOW_MS + 20_000)
    assert await world.waiting() == 0
    assert await world.sids() == [("g1", "SUCCESS")]


async def test_parts_of_a_message_are_one_record(world: World) -> None:
    world.names.register(NUMBER, Registered("sid", ("g1", "g2", "g3")))
    await world.come(receipt("g3"))
    await world.come(receipt("g1", State.FAIL))
    assert await world.pending.release(NOW_MS) == 0
    await world.come(receipt("g2"), NOW_MS + 1)
    assert await world.pending.release(NOW_MS + 1) == 3
    assert await world.sids() == [("sid", "FAIL")]


async def test_a_part_that_came_before_its_name_waits_on_for_the_others(world: World) -> None:
    await world.come(receipt("g1"))
    world.names.register(NUMBER, Registered("sid", ("g1", "g2")))
    assert await world.pending.release(NOW_MS + 1000) == 0
    assert await world.pending.release(NOW_MS + NAME_MS) == 0
    await world.come(receipt("g2"), NOW_MS + NAME_MS)
    assert await world.pending.release(NOW_MS + NAME_MS) == 2
    assert await world.sids() == [("sid", "SUCCESS")]


async def test_a_message_of_which_parts_were_never_reported_has_not_arrived(world: World) -> None:
    world.names.register(NUMBER, Registered("sid", ("g1", "g2", "g3")))
    await world.come(receipt("g3"))
    assert await world.pending.release(NOW_MS + PARTS_MS - 1) == 0
    assert await world.pending.release(NOW_MS + PARTS_MS) == 1
    [record] = await world.records()
    assert (record["report_status"], record["errmsg"]) == ("FAIL", UNKNOWN)
    assert "1 of 3 parts" in record["description"]


def numbered(number: int, count: int = 2, *, sid: str = "", said: str = "DELIVRD") -> Report:
    """The receipt of a part that its gateway numbers itself, under one id for all."""
    state = State.SUCCESS if said == "DELIVRD" else State.FAIL
    of: dict[str, Any] = {"sid": sid, "part": Part("m", count, number), "errmsg": said}
    return msgspec.structs.replace(receipt("m", state), **of)


async def test_parts_that_a_gateway_numbers_are_one_record(world: World) -> None:
    """In whatever order, and however often they come; the first that failed decides."""
    for said, result in (("DELIVRD", "SUCCESS"), ("UNDELIV", "FAIL")):
        reports = [numbered(2, sid=said, said=said), numbered(1, sid=said)]
        reports = [msgspec.structs.replace(each, id=said) for each in reports]
        for _ in range(2):
            await world.come(reports[0])
        assert await world.pending.release(NOW_MS) == 0
        for _ in range(2):
            await world.come(reports[1], NOW_MS + 1)
        assert await world.pending.release(NOW_MS + 1) == 2
        for report in reports:
            await world.come(report, NOW_MS + 2)
        assert await world.waiting() == 0
        assert (await world.sids())[-1] == (said, result)
    assert len(await world.sids()) == 2


async def test_parts_that_a_gateway_numbers_are_not_all_there_when_they_are_overdue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And until then nothing is read for them."""
    await world.come(numbered(1, 3))
    await world.come(numbered(3, 3))
    assert await world.pending.release(NOW_MS + NAME_MS) == 0
    with monkeypatch.context() as patched:
        patched.setattr(world.store, "entries", None)
        assert await world.pending.release(NOW_MS + PARTS_MS - 1) == 0
    assert await world.pending.release(NOW_MS + PARTS_MS) == 2
    [record] = await world.records()
    assert (record["sid"], record["errmsg"]) == ("m", UNKNOWN)
    assert "2 of 3 parts" in record["description"]


async def test_parts_that_a_gateway_numbers_wait_for_their_name_too(world: World) -> None:
    await world.come(numbered(1))
    await world.come(numbered(2))
    assert await world.pending.release(NOW_MS + NAME_MS - 1) == 0
    world.names.register(NUMBER, Registered("sid", ("m",)))
    assert await world.pending.release(NOW_MS + NAME_MS - 1) == 2
    assert await world.sids() == [("sid", "SUCCESS")]
    await world.come(msgspec.structs.replace(numbered(1), id="n"))
    await world.come(msgspec.structs.replace(numbered(2), id="n"))
    assert await world.pending.release(NOW_MS + NAME_MS) == 2
    assert await world.sids() == [("sid", "SUCCESS"), ("n", "SUCCESS")]


@pytest.mark.parametrize("ruled", [False, True])
async def test_parts_that_a_gateway_numbers_meet_with_whose_they_are(
    world: World, ruled: bool
) -> None:
    """The first was nobody's when it came."""
    await world.come(numbered(1), owned=False)
    if ruled:
        by = Operator("me", NOW_MS, secrets.token_hex)
        rule = Rule(name="mine", id_prefix="m", sdkappid=NUMBER)
        await add_rule(world.store, rule, by=by)
    else:
        world.names.register(NUMBER, Registered("sid", ("m",)))
    await world.pending.release(NOW_MS + NAME_MS)
    assert await world.waiting(0) == 0
    await world.come(numbered(2, said="UNDELIV"), NOW_MS + NAME_MS)
    assert await world.pending.release(NOW_MS + NAME_MS) == 2
    assert await world.sids() == [("m" if ruled else "sid", "FAIL")]


async def test_parts_that_can_be_no_record_are_parked_each_with_its_request(world: World) -> None:
    asked = [CameWith("192.0.2.1", "POST", b"part=%d" % number, "text/plain") for number in (1, 2)]
    for number, one in enumerate(asked, 1):
        report = msgspec.structs.replace(numbered(number, sid="echo"), number="")
        item = Item("kannel", "t", NOW_MS, report, asked=one)
        await wait(
            world.store,
            await world.live(),
            [item],
            sender="t",
            now_ms=NOW_MS,
            ticket=world.new_ticket(),
        )
    assert await world.pending.release(NOW_MS) == 2
    found = [each.item for each in await parking.parked(world.store, NUMBER)]
    assert [
        CameWith(one.address, one.method, one.query, one.content_type) for one in found if one
    ] == (asked)


def test_what_nobody_owns_waits_for_its_name_alone() -> None:
    def wait_s(report: Report, *, named: bool) -> int:
        return waits_for(report, None, named=named, is_owned=False)

    assert wait_s(numbered(1), named=True) == limits.PENDING_NAME_S
    assert wait_s(numbered(1), named=False) == 0
    assert wait_s(numbered(1, sid="echo"), named=True) == 0
    assert waits_for(numbered(1), None, named=False) == limits.PENDING_PARTS_S


async def test_a_long_reply_is_one_record_and_overdue_it_is_marked(world: World) -> None:
    for number in (3, 1):
        await world.come(reply(number))
    await world.come(reply(2, reference="7"))
    await world.come(reply(2), NOW_MS + 5)
    assert await world.pending.release(NOW_MS + 5) == 3
    assert [row["text"] for row in await world.records(Kind.REPLY)] == ["<1><2><3>"]
    assert await world.pending.release(NOW_MS + PARTS_MS) == 1
    texts = [row["text"] for row in await world.records(Kind.REPLY)]
    assert texts == ["<1><2><3>", f"{MISSING}<2>{MISSING}"]


async def test_joined_text_that_is_too_long_for_a_record_leaves_part_by_part(world: World) -> None:
    size = limits.PENDING_ITEM_BYTES_MAX // 2
    parts = limits.RECORD_BYTES_MAX // size + 2
    for number in range(1, parts + 1):
        await world.come(reply(number, parts, said=f"{number:02}" * (size // 2)))
    assert await world.pending.release(NOW_MS) == parts
    texts = [row["text"][:2] for row in await world.records(Kind.REPLY)]
    assert texts == [f"{number:02}" for number in range(1, parts + 1)]


async def test_an_item_of_nobody_is_its_owners_once_it_has_a_name_and_else_parked(
    world: World,
) -> None:
    await world.come(receipt("g1"), owned=False)
    await world.come(receipt("g2"), owned=False)
    world.names.register(NUMBER, Registered("sid", ("g2",)))
    assert await world.pending.release(NOW_MS + 1) == 1
    assert await world.sids() == [("sid", "SUCCESS")]
    assert await world.pending.release(NOW_MS + NAME_MS) == 1
    [each] = await parking.parked(world.store, 0)
    assert each.item is not None
    assert each.item.raw == receipt("g1").raw
    assert await world.waiting(0) == 0


async def test_an_item_that_no_name_has_come_for_is_whose_a_rule_says_by_then(
    world: World,
) -> None:
    """A rule that was made while it waited; one that drops it has it nowhere."""
    by = Operator("me", NOW_MS, secrets.token_hex)
    for name in ("g1", "d2", "x3"):
        await world.come(receipt(name), owned=False)
    await add_rule(
        world.store, Rule(name="mine", id_prefix="g", sdkappid=NUMBER, nationcode="1"), by=by
    )
    await add_rule(world.store, Rule(name="none", id_prefix="d", action=Action.DROP), by=by)
    assert await world.pending.release(NOW_MS + NAME_MS - 1) == 0
    assert await world.pending.release(NOW_MS + NAME_MS) == 3
    [record] = await world.records()
    assert (record["sid"], record["nationcode"]) == ("g1", "1")
    assert [each.item and each.item.raw for each in await parking.parked(world.store, 0)] == [
        receipt("x3").raw
    ]
    assert await world.waiting(0) == 0


async def test_an_application_for_which_something_is_pending_is_deleted_only_with_it(
    world: World,
) -> None:
    await world.come(reply(1))
    by = Operator("me", NOW_MS, secrets.token_hex)
    with pytest.raises(InvalidSetting, match="1 items of application"):
        await delete_application(world.store, NUMBER, by=by)
    assert await world.waiting() == 1
    assert await delete_application(world.store, NUMBER, by=by, erase=True) == 1
    assert await world.waiting() == 0


@pytest.mark.parametrize("done", [False, True])
async def test_a_release_that_is_cut_off_is_done_once(
    world: World, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    for number in (1, 2, 3):
        await world.come(reply(number))
    unpark = world.store.unpark

    async def cut_off(operation: Unpark) -> int:
        if done:
            await unpark(operation)
        raise OutcomeUnknown("cut off")

    monkeypatch.setattr(world.store, "unpark", cut_off)
    with pytest.raises(OutcomeUnknown):
        await world.pending.release(NOW_MS)
    monkeypatch.setattr(world.store, "unpark", unpark)
    await Pending(world.store, world.names, world.new_ticket).release(NOW_MS + 1)
    assert [row["text"] for row in await world.records(Kind.REPLY)] == ["<1><2><3>"]
    assert await world.waiting() == 0


async def test_nothing_is_read_while_nothing_is_due(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.come(reply(1))
    await world.pending.release(NOW_MS)
    monkeypatch.setattr(world.store, "entries", None)
    assert await world.pending.release(NOW_MS + PARTS_MS - 1) == 0


async def test_what_lies_far_apart_leaves_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "STEP_ITEMS", 2)
    world.names.register(NUMBER, Registered("sid", ("a", "b")))
    await world.come(receipt("a"))
    for number in range(5):
        await world.come(receipt(f"g{number}"))
    await world.come(receipt("b"))
    while await world.pending.release(NOW_MS + 1):
        pass
    assert await world.sids() == [("sid", "SUCCESS")]
    while await world.pending.release(NOW_MS + NAME_MS):
        pass
    assert [sid for sid, _ in await world.sids()] == ["sid", *(f"g{each}" for each in range(5))]


async def test_a_part_that_is_overdue_behind_others_still_meets_its_message(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is whole does not wait for its turn with number 0."""
    monkeypatch.setattr(leaving, "STEP_ITEMS", 1)
    for name in ("g1", "g2"):
        await world.come(receipt(name), owned=False)
    await world.come(receipt("a"), owned=False)
    world.names.register(NUMBER, Registered("sid", ("a", "b")))
    assert await world.pending.release(NOW_MS + PARTS_MS) == 1
    assert await world.sids() == []
    await world.come(receipt("b"), NOW_MS + PARTS_MS, owned=False)
    while await world.pending.release(NOW_MS + PARTS_MS):
        pass
    assert await world.sids() == [("sid", "SUCCESS")]


async def test_room_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_ITEMS_MAX", 2)
    room = Room(world.store)
    assert await room.of(NUMBER, "t", 3, NOW_MS) == 2
    for number in (1, 2):
        await world.come(reply(number))
    assert await room.of(NUMBER, "t", 3, NOW_MS) == 0
    large = Item("kannel", "t", NOW_MS, reply(1, said="x" * limits.PENDING_ITEM_BYTES_MAX))
    assert not pending.fits(large)


async def test_no_token_takes_the_room_of_others_with_number_0(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that flood have equally much, whatever they bring and however often they ask."""
    monkeypatch.setattr(limits, "PENDING_SHARED_ITEMS", 60)
    room, numbers = Room(world.store), itertools.count()
    waits: Counter[str] = Counter()

    async def bring(token: str, wanted: int, now_ms: int) -> int:
        most = await room.of(0, token, wanted, now_ms)
        for number in itertools.islice(numbers, most):
            await world.come(receipt(f"g{number}"), owned=False, token=token)
        waits[token] += most
        return most

    now_ms = NOW_MS
    for turn in range(40):
        await bring("flood", (1, 7, 100)[turn % 3], now_ms)
        now_ms += 100
    assert (waits["flood"], await world.waiting(0)) == (30, 30)
    assert await bring("calm", 5, now_ms) == 5
    for _ in range(40):
        await bring("other flood", 9, now_ms)
        await bring("flood", 9, now_ms)
        now_ms += 100
    assert (waits["flood"], waits["other flood"]) == (30, (60 - 5) // 3)
    assert await bring("calm", 20, now_ms) == 60 // 4 - 5
    await world.pending.release(NOW_MS + NAME_MS)
    assert await bring("flood", 100, now_ms + 1_000) == 30


def test_only_what_may_be_named_waits_for_a_name() -> None:
    plain = receipt("g")
    waits = msgspec.structs.replace
    assert waits_for(plain, None, named=True) == limits.PENDING_NAME_S
    assert waits_for(plain, None, named=False) == 0
    assert waits_for(waits(plain, sid="echoed"), None, named=True) == 0
    assert waits_for(waits(plain, state=State.INTERMEDIATE), None, named=True) == 0
    assert waits_for(waits(plain, id=""), None, named=True) == 0
    assert waits_for(reply(1), None, named=False) == limits.PENDING_PARTS_S
    assert waits_for(reply(1, 1), None, named=False) == 0


async def test_only_who_registers_sends_has_receipts_wait_for_it(world: World) -> None:
    used, other = pending.Used(world.store), pending.Used(world.store)
    assert not await used.by(NUMBER, NOW_MS)
    await other.note(NUMBER, NOW_MS)
    assert not await used.by(NUMBER, NOW_MS + 1)  # as of a moment ago
    assert await used.by(NUMBER, NOW_MS + 5_000)
    assert await used.by(None, NOW_MS)
    assert not await used.by(NUMBER // 10, NOW_MS)  # whose name its own begins with
    assert not await used.by(NUMBER, NOW_MS + (limits.NAMES_HOURS + 1) * 3_600_000)


async def test_what_is_of_a_number_is_erased_while_it_waits_and_after(world: World) -> None:
    """The rest waits on."""
    operator = Operator("me", NOW_MS, lambda count: f"{next(_numbers):0{2 * count}x}", "asked")
    for report in (receipt("g1"), msgspec.structs.replace(receipt("g2"), number="13900139000")):
        await world.come(report, NOW_MS - NAME_MS)
    assert await world.pending.release(NOW_MS) == 2
    await world.come(msgspec.structs.replace(reply(1), number="13900139000"))
    await world.come(reply(2))
    erased = await erase_number(
        world.store, Number("8613800138000", 2), by=operator, progress=lambda *_: None
    )
    assert (erased.waiting, erased.handed_out) == (2, 0)
    entries = [entry.data async for entry in world.store.entries(pending_mailbox(NUMBER))]
    assert all(b"13800138000" not in data for data in entries)
    assert await world.waiting() == 1


async def test_what_leaves_while_its_number_is_erased_is_erased_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was looked through before it was a record."""
    await world.come(receipt("g1"))
    await world.pending.release(NOW_MS + NAME_MS)  # so that there is a mailbox to look through
    await world.come(receipt("g2"))
    await world.come(receipt("g3"), owned=False)
    world.names.register(NUMBER, Registered("sid", ("g3", "g4")))
    erase = world.store.erase

    async def late(*arguments: object, **named: object) -> Erased:
        erased = await erase(*arguments, **named)  # type: ignore[arg-type]
        for now_ms in (NOW_MS + NAME_MS, NOW_MS + PARTS_MS):
            await world.pending.release(now_ms)
        return erased

    monkeypatch.setattr(world.store, "erase", late)
    operator = Operator("me", NOW_MS, lambda count: f"{next(_numbers):0{2 * count}x}", "asked")
    number = Number("8613800138000", 2)
    erased = await erase_number(world.store, number, by=operator, progress=lambda *_: None)
    assert (erased.waiting, erased.handed_out) == (3, 0)
    assert await world.records() == []
    assert await world.waiting() == 0


async def test_an_item_of_nobody_is_not_given_to_who_has_the_number_since(world: World) -> None:
    await world.come(receipt("g1"), owned=False)
    world.names.register(NUMBER, Registered("sid", ("g1",)), owner="before")
    assert await world.pending.release(NOW_MS + 1) == 1
    assert await world.sids() == []
    assert len(await parking.parked(world.store, 0)) == 1


async def test_a_name_that_was_found_is_kept_with_what_waits(world: World) -> None:
    await world.come(receipt("g1"))
    world.names.register(NUMBER, Registered("sid", ("g1", "g2")))
    await world.pending.release(NOW_MS + 1)
    asked = world.names.asked
    await world.pending.release(NOW_MS + 2)
    assert world.names.asked == asked
