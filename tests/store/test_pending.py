"""What is pending leaves once over each engine, wherever whoever sees to it is cut off."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from pullstatus import limits
from pullstatus.apps import Application, Operator
from pullstatus.apps.erasure import let_go
from pullstatus.apps.values import NOBODY, application_setting
from pullstatus.errors import OutcomeUnknown, SettingChanged, StoreDamaged, StoreUnavailable
from pullstatus.mailbox import erasing, finding, leaving, parking
from pullstatus.mailbox.names import Told, names_of
from pullstatus.mailbox.pending import Item, pending_mailbox, wait
from pullstatus.mailbox.releasing import Pending
from pullstatus.receipts.parts import Part
from pullstatus.receipts.reports import Report, State
from pullstatus.receipts.sends import Registered
from pullstatus.records import Kind
from pullstatus.store import (
    Aside,
    Backlog,
    Change,
    Discard,
    Mailbox,
    Setting,
    Store,
    Tickets,
    Unpark,
    audit_store,
    open_store,
)
from pullstatus.store.jetstream.subjects import Layout
from tests.names import NamesInMemory
from tests.store.build import NOW_MS, OTHERS, STATUSES, data_of
from tests.store.jetstream import scheme

pytestmark = pytest.mark.anyio

NUMBER = STATUSES.sdkappid
PARTS_MS = limits.PENDING_PARTS_S * 1000
new_ticket = Tickets(bytes)
BY = Operator("me", NOW_MS, secrets.token_hex)


async def create(store: Store, sdkappid: int, owner: str = "") -> None:
    name = application_setting(sdkappid)
    before = await store.setting(name)
    application = msgspec.json.encode(Application(sdkappid, (), 0, owner=owner))
    await store.change(Change(name, application, None if before is None else before.value))


async def come(store: Store, *items: Item) -> None:
    live = None if items[0].unowned else await parking.live_application(store, NUMBER)
    await wait(store, live, items, sender="t", now_ms=NOW_MS, ticket=new_ticket())


def part(number: int, reference: str) -> Item:
    raw = f"{reference}{number}".encode()
    of = Part(reference, 2, number)
    said = Report(Kind.REPLY, raw, number="138", to="1069", text=f"<{raw.decode()}>", part=of)
    return Item("kannel", "t", NOW_MS, said)


def receipt(gateway_id: str) -> Item:
    raw = gateway_id.encode()
    of = {"number": "138", "id": gateway_id, "at_s": NOW_MS // 1000, "errmsg": "DELIVRD"}
    said = Report(Kind.DELIVERY_STATUS, raw, state=State.SUCCESS, **of)  # type: ignore[arg-type]
    unowned = parking.Item("kannel", "t", NOW_MS, "", "is nobody's", raw)
    return Item("kannel", "t", NOW_MS, said, unowned=unowned)


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
async def test_what_leaves_is_there_once_though_each_commit_of_it_is_cut_off(
    store: Store, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """An application's parts become one reply, and what was nobody's is whose its name says."""
    await create(store, NUMBER)
    names = NamesInMemory()
    for _ in range(2):
        await come(store, part(2, "a"), part(1, "b"))
        await come(store, part(1, "a"))
        await come(store, receipt("g1"), receipt("g2"))
    names.register(NUMBER, Registered("sid", ("g2",)))
    unpark = store.unpark
    cuts = 0

    async def cut_off(operation: Unpark) -> int:
        nonlocal cuts
        cuts += 1
        if done:
            await unpark(operation)
        raise OutcomeUnknown("cut off")

    monkeypatch.setattr(store, "unpark", cut_off)
    for _ in range(2):  # of the application, and of number 0, once each if it is done
        with pytest.raises(OutcomeUnknown):
            await Pending(store, names, new_ticket).release(NOW_MS)
    monkeypatch.setattr(store, "unpark", unpark)
    assert cuts == 2
    await Pending(store, names, new_ticket).release(NOW_MS)
    replies = await data_of(store, Mailbox(NUMBER, Kind.REPLY))
    assert [json.loads(each)["text"] for each in replies] == ["<a1><a2>"]
    assert [json.loads(each)["sid"] for each in await data_of(store, STATUSES)] == ["sid"]
    waiting = {row.mailbox: row.waiting for row in await store.backlog()}
    assert (waiting[pending_mailbox(NUMBER)], waiting[pending_mailbox(NOBODY)]) == (1, 1)


# --- parts of one message that wait in two mailboxes ----------------------------------------------


async def come_named(store: Store, names: NamesInMemory, gateway_id: str, at_ms: int) -> None:
    """A platform's receipt whose name is known: it waits for the other parts with its owner."""
    item = msgspec.structs.replace(receipt(gateway_id), at_ms=at_ms, unowned=None)
    [name] = await names_of(names, [Told(gateway_id, item.report.number)])
    assert name is not None
    live = await parking.live_application(store, name.sdkappid)
    item = msgspec.structs.replace(item, name=name, owner=live.application.owner)
    await wait(store, live, [item], sender="t", now_ms=at_ms, ticket=new_ticket())


async def told(store: Store) -> list[tuple[str, str]]:
    """What records say."""
    rows = [json.loads(each) for each in await data_of(store, STATUSES)]
    return [(row["sid"], row["report_status"]) for row in rows]


async def waiting(store: Store) -> int:
    rows = await store.backlog()
    return sum(row.waiting for row in rows if row.mailbox == pending_mailbox(row.mailbox.sdkappid))


@pytest.mark.parametrize("cut", [None, "before", "behind"])
async def test_parts_before_and_behind_their_registration_meet(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, cut: str | None
) -> None:
    """Each commit cut off, by other processes in turn, and all parts told again at each step."""
    await create(store, NUMBER)
    names = NamesInMemory()
    unpark = store.unpark

    async def cut_off(operation: Unpark) -> int:
        monkeypatch.setattr(store, "unpark", unpark)
        if cut == "behind":
            await unpark(operation)
        raise OutcomeUnknown("cut off")

    async def release(now_ms: int) -> None:
        if cut:
            monkeypatch.setattr(store, "unpark", cut_off)
        for _ in range(4):
            with contextlib.suppress(OutcomeUnknown):
                await Pending(store, names, new_ticket).release(now_ms)
        monkeypatch.setattr(store, "unpark", unpark)

    for _ in range(2):
        await come(store, receipt("a"), receipt("b"))
    names.register(NUMBER, Registered("sid", ("a", "b", "c", "d")))
    await come_named(store, names, "c", NOW_MS + 1)
    await release(NOW_MS + 1)
    for _ in range(2):
        await come_named(store, names, "a", NOW_MS + 2)
    await come_named(store, names, "d", NOW_MS + 3)
    await release(NOW_MS + 3)
    assert await told(store) == [("sid", "SUCCESS")]
    await come_named(store, names, "b", NOW_MS + 4)
    await come(store, receipt("a"), receipt("d"))  # who knew of no name, and was late
    await release(NOW_MS + 2 * PARTS_MS)
    assert await waiting(store) == 0
    assert await told(store) == [("sid", "SUCCESS")]
    assert (await audit_store(url, lambda *_: None)).findings == []


@pytest.mark.parametrize("far", [False, True])
async def test_parts_that_are_overdue_when_a_server_is_back_meet_before_they_leave(
    store: Store, monkeypatch: pytest.MonkeyPatch, far: bool
) -> None:
    """Wherever with number 0 the one is, and whichever process sees to that first."""
    if far:
        monkeypatch.setattr(leaving, "STEP_ITEMS", 2)
    await create(store, NUMBER)
    names = NamesInMemory()
    await come(store, *map(receipt, "123456" if far else ""), receipt("a"))
    names.register(NUMBER, Registered("sid", ("a", "b")))
    await come_named(store, names, "b", NOW_MS)
    unpark = store.unpark

    async def late(operation: Unpark) -> int:
        monkeypatch.setattr(store, "unpark", unpark)
        await Pending(store, names, new_ticket).release(NOW_MS + PARTS_MS)
        return await unpark(operation)

    monkeypatch.setattr(store, "unpark", late)
    server = Pending(store, names, new_ticket)
    for turn in range(8):
        await server.release(NOW_MS + PARTS_MS + turn)
    assert await told(store) == [("sid", "SUCCESS")]
    assert await waiting(store) == 0


async def test_what_number_0_has_of_one_holds_up_the_overdue_of_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "STEP_ITEMS", 2)
    names = NamesInMemory()
    for sdkappid in (NUMBER, OTHERS.sdkappid):
        await create(store, sdkappid)
        names.register(sdkappid, Registered("sid", (f"b{sdkappid}", f"a{sdkappid}")))
        await come_named(store, names, f"b{sdkappid}", NOW_MS)
    await come(store, *map(receipt, "1234"), receipt(f"a{NUMBER}"))
    server = Pending(store, names, new_ticket)
    await server.release(NOW_MS + PARTS_MS)
    assert (len(await told(store)), len(await data_of(store, OTHERS))) == (0, 1)
    for turn in range(4):
        await server.release(NOW_MS + PARTS_MS + turn)
    assert await told(store) == [("sid", "SUCCESS")]


async def test_a_part_whose_others_never_come_is_one_record_an_hour_behind_the_first(
    store: Store,
) -> None:
    """The hour counts from when it came, wherever that was."""
    await create(store, NUMBER)
    names = NamesInMemory()
    await come(store, receipt("a"))
    names.register(NUMBER, Registered("sid", ("a", "b", "c")))
    await come_named(store, names, "b", NOW_MS + 5_000)
    server = Pending(store, names, new_ticket)
    for now_ms in (NOW_MS + 6_000, NOW_MS + 7_000, NOW_MS + PARTS_MS - 1):
        await server.release(now_ms)
    assert await told(store) == []
    await server.release(NOW_MS + PARTS_MS)
    assert await told(store) == [("sid", "FAIL")]
    assert await waiting(store) == 0


@pytest.mark.parametrize("restarts", [False, True])
async def test_no_part_is_left_behind_by_what_goes_ahead(
    store: Store, monkeypatch: pytest.MonkeyPatch, restarts: bool
) -> None:
    """One part at the head, something that leaves behind it, and the other part far from both."""
    monkeypatch.setattr(leaving, "STEP_ITEMS", 3)
    await create(store, NUMBER)
    names = NamesInMemory()
    await come(store, receipt("a"), receipt("x"), *map(receipt, "123456789"), receipt("b"))
    names.register(NUMBER, Registered("sid", ("a", "b")), Registered("other", ("x",)))
    server = Pending(store, names, new_ticket)
    for turn in range(6):
        if restarts:
            server = Pending(store, names, new_ticket)
        await server.release(NOW_MS + turn)
    assert sorted(await told(store)) == [("other", "SUCCESS"), ("sid", "SUCCESS")]
    for turn in range(12):
        await Pending(store, names, new_ticket).release(NOW_MS + 2 * PARTS_MS + turn)
    assert sorted(await told(store)) == [("other", "SUCCESS"), ("sid", "SUCCESS")]
    assert await waiting(store) == 0


@pytest.mark.parametrize("over", [False, True])
async def test_a_part_finds_room_with_its_owner(
    store: Store, monkeypatch: pytest.MonkeyPatch, over: bool
) -> None:
    """For as many as come by the door, and as many again; others are records as they are."""
    monkeypatch.setattr(limits, "PENDING_ITEMS_MAX", 2)
    await create(store, NUMBER)
    names = NamesInMemory()
    await come(store, receipt("a"), *map(receipt, "123" if over else ""))
    names.register(NUMBER, *(Registered(f"s{each}", (each, f"{each}+")) for each in "123456"))
    for each in "456":
        await come_named(store, names, each, NOW_MS)
    names.register(NUMBER, Registered("sid", ("a", "b")))
    await Pending(store, names, new_ticket).release(NOW_MS)
    assert sorted(await told(store)) == (
        [(f"s{each}", "SUCCESS") for each in "123"] if over else []
    )
    await come_named(store, names, "b", NOW_MS)
    await Pending(store, names, new_ticket).release(NOW_MS)
    assert ("sid", "SUCCESS") in await told(store)
    assert await waiting(store) == 3


@pytest.mark.parametrize("gone", ["owner", "application"])
async def test_a_part_is_not_for_who_has_its_owners_number_next(
    store: Store, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Whether that is seen before it is handed over, or in the middle."""
    await create(store, NUMBER, "one")
    names = NamesInMemory()
    await come(store, receipt("a"))
    names.register(NUMBER, Registered("sid", ("a", "b")), owner="one")
    unpark = store.unpark

    async def late(operation: Unpark) -> int:
        monkeypatch.setattr(store, "unpark", unpark)
        if gone == "owner":
            await create(store, NUMBER, "next")
        else:
            before = await store.setting(application_setting(NUMBER))
            assert before is not None
            await store.change(Change(before.name, None, before.value))
        return await unpark(operation)

    monkeypatch.setattr(store, "unpark", late)
    server = Pending(store, names, new_ticket)
    for turn in range(3):
        await server.release(NOW_MS + turn)
    await server.release(NOW_MS + PARTS_MS)
    assert await told(store) == []
    assert await waiting(store) == 0
    assert len(await parking.parked(store, NOBODY)) == 1


# --- much of it at once ---------------------------------------------------------------------------


@pytest.fixture
async def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """A cluster of one partition: it writes all of a commit at once, and that has its bound."""
    monkeypatch.setattr(scheme, "LAYOUT", Layout("s", 1))
    with scheme.cluster(tmp_path) as url:
        store = await open_store(url)
        yield store
        await store.close()


async def test_however_many_applications_have_something_there_each_gets_it(
    narrow: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps, each application asked for once in one; behind others, too."""
    monkeypatch.setattr(leaving, "STEP_ITEMS", 300)
    apps, names = range(NUMBER, NUMBER + 350), NamesInMemory()
    for sdkappid in apps:
        await create(narrow, sdkappid)
    ids = [f"{sdkappid}-{each}" for each in range(2) for sdkappid in apps]
    for start in range(0, len(ids), 100):
        await come(narrow, *map(receipt, ids[start : start + 100]))
    for sdkappid in apps:
        names.register(
            sdkappid, *(Registered(f"s{each}", (f"{sdkappid}-{each}",)) for each in "01")
        )
    asked = Counter[str]()
    setting, unpark, sizes = narrow.setting, narrow.unpark, []

    async def asking(name: str) -> Setting | None:
        asked[name] += 1
        return await setting(name)

    async def sized(operation: Unpark) -> int:
        sizes.append(len(operation.records))
        asked.clear()
        return await unpark(operation)

    monkeypatch.setattr(narrow, "setting", asking)
    monkeypatch.setattr(narrow, "unpark", sized)
    server = Pending(narrow, names, new_ticket)
    for turn in range(40):
        await server.release(NOW_MS + turn)
        assert max(asked.values(), default=1) == 1
    for sdkappid in apps:
        rows = await data_of(narrow, Mailbox(sdkappid, Kind.DELIVERY_STATUS))
        assert sorted(json.loads(each)["sid"] for each in rows) == ["s0", "s1"]
    assert await waiting(narrow) == 0
    assert max(sizes) <= 100


async def test_however_much_nobody_registers_it_is_parked(narrow: Store) -> None:
    """All of a step at once."""
    for start in range(0, 2_400, 100):
        await come(narrow, *(receipt(f"{start + each}") for each in range(100)))
    server = Pending(narrow, NamesInMemory(), new_ticket)
    late_ms = NOW_MS + limits.PENDING_NAME_S * 1000
    assert [await server.release(late_ms) for _ in range(3)] == [1_000, 1_000, 400]
    assert len(await parking.parked(narrow, NOBODY)) == 2_400


@pytest.mark.parametrize("error", [StoreUnavailable, StoreDamaged, SettingChanged])
async def test_what_is_not_taken_of_one_holds_up_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: type[StoreUnavailable]
) -> None:
    """Its damage and a change are told to others, or seen in the next turn; all else at the end.

    A part that is overdue is held up if number 0 is known to have others of its message.
    """
    names = NamesInMemory()
    for sdkappid in (NUMBER, OTHERS.sdkappid):
        await create(store, sdkappid)
        names.register(sdkappid, Registered("sid", (f"b{sdkappid}", f"a{sdkappid}")))
        await come_named(store, names, f"b{sdkappid}", NOW_MS)
    await come(store, receipt(f"a{NUMBER}"))
    await come(store, part(1, "a"), part(2, "a"))
    unpark = store.unpark

    async def refused(operation: Unpark) -> int:
        if operation.mailbox == pending_mailbox(NOBODY):
            raise error("not now")
        return await unpark(operation)

    monkeypatch.setattr(store, "unpark", refused)
    server = Pending(store, names, new_ticket)
    for _ in range(2):
        told_of = pytest.raises(error) if error is StoreUnavailable else contextlib.nullcontext()
        with told_of:
            await server.release(NOW_MS + PARTS_MS)
    assert len(await data_of(store, Mailbox(NUMBER, Kind.REPLY))) == 1
    assert (len(await told(store)), len(await data_of(store, OTHERS))) == (0, 1)
    monkeypatch.setattr(store, "unpark", unpark)
    for _ in range(2):
        await server.release(NOW_MS + PARTS_MS)
    assert await told(store) == [("sid", "SUCCESS")]
    assert await waiting(store) == 0


# --- what goes from the parked items to those that wait -------------------------------------------


HERS = "13800138000"


def her_part(number: int) -> Item:
    raw = f"{HERS}, {number}".encode()
    said = Report(Kind.REPLY, raw, number=HERS, to="1069", text="t", part=Part("a", 2, number))
    return Item("kannel", "t", NOW_MS, said)


@pytest.fixture
async def looked_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a look at what is pending, and before one at what is parked, parts go to wait."""
    await create(store, NUMBER)
    in_turn = parking.in_turn
    moved = False

    async def late(*given: object) -> AsyncIterator[tuple[int, Backlog]]:
        nonlocal moved
        if not moved:
            moved = True
            await come(store, her_part(1), her_part(2))
        async for each in in_turn(*given):  # type: ignore[arg-type]
            yield each

    monkeypatch.setattr(parking, "in_turn", late)


@pytest.mark.usefixtures("looked_at")
async def test_parts_that_are_no_longer_parked_are_found(store: Store) -> None:
    found = await finding.by_number(store, f"+86{HERS}", by=BY)
    assert [each.mailbox for each in found.pending] == [pending_mailbox(NUMBER)] * 2


async def test_what_gets_its_name_as_it_is_looked_for_is_found_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(store, NUMBER)
    names = NamesInMemory()
    hers = receipt("a")
    hers = msgspec.structs.replace(
        hers, report=msgspec.structs.replace(hers.report, number=HERS, raw=HERS.encode())
    )
    await come(store, hers)
    in_turn = parking.in_turn

    async def late(*given: object) -> AsyncIterator[tuple[int, Backlog]]:
        names.register(NUMBER, Registered("sid", ("a", "b")))  # whose other part is to come
        await Pending(store, names, new_ticket).release(NOW_MS)
        async for each in in_turn(*given):  # type: ignore[arg-type]
            yield each

    monkeypatch.setattr(parking, "in_turn", late)
    found = await finding.by_number(store, f"+86{HERS}", by=BY)
    assert [each.mailbox for each in found.pending] == [pending_mailbox(NUMBER)]


@pytest.mark.usefixtures("looked_at")
async def test_parts_that_are_no_longer_parked_are_erased_before_they_are_a_record(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlog = store.backlog

    async def late(sdkappid: int | None = None) -> list[Backlog]:
        rows = await backlog(sdkappid)
        if sdkappid is None:  # the server has its turn behind the list of what is looked through
            monkeypatch.setattr(store, "backlog", backlog)
            await Pending(store, NamesInMemory(), new_ticket).release(NOW_MS + PARTS_MS)
        return rows

    number = erasing.parse_number(f"+86{HERS}")
    erase_all_parked = erasing._erase_all_parked

    async def then(*given: object) -> int:
        count = await erase_all_parked(*given)  # type: ignore[arg-type]
        monkeypatch.setattr(store, "backlog", late)
        return count

    monkeypatch.setattr(erasing, "_erase_all_parked", then)
    await erasing.erase_number(store, number, by=BY, progress=lambda *_: None)
    assert await data_of(store, Mailbox(NUMBER, Kind.REPLY)) == []
    assert await erasing.count_number(store, number) == erasing.ErasedNumber()


async def test_parts_that_are_no_longer_parked_go_with_their_application(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(store, NUMBER)
    await come(store, part(1, "a"))
    discard = store.discard

    async def late(operation: Discard) -> int:
        count = await discard(operation)
        if operation.mailbox.kind is Aside.PENDING:
            monkeypatch.setattr(store, "discard", discard)
            await come(store, part(2, "b"))
        return count

    monkeypatch.setattr(store, "discard", late)
    await let_go(store, NUMBER, by=BY, act=BY.act("erase"))
    assert {row.waiting for row in await store.backlog()} == {0}
