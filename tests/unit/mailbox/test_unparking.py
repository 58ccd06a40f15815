"""Parked items: what a retry makes of them, and that it may be cut off anywhere and repeated."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pullstatus import limits
from pullstatus.apps import Application, LiveApplication, Operator
from pullstatus.apps.values import application_setting
from pullstatus.errors import InvalidSetting, OutcomeUnknown, SettingChanged, UnknownApplication
from pullstatus.mailbox import append, parking, rereading, unparking
from pullstatus.mailbox.unparking import Unparked
from pullstatus.mailbox.upkeep import clean_up
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.reading import read, read_records
from pullstatus.receipts.reports import Whose, receipts_of
from pullstatus.receipts.request import Request
from pullstatus.receipts.source import builtin
from pullstatus.records import Kind
from pullstatus.records.hours import DAY_MS
from pullstatus.steps import done
from pullstatus.store import Change, Store, Unpark, audit_store, open_store
from tests.harness import status
from tests.store.places import beside_in_file

pytestmark = pytest.mark.anyio

NUMBER = 1_400_006_666
OTHER = 1_400_006_667
NOW_MS = 1_800_000_000_000
BAD = {"sid": "13800138000"}


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = await open_store(url)
    for number in (NUMBER, OTHER):
        application = msgspec.json.encode(Application(number, (), 0))
        await store.change(Change(application_setting(number), application, None))
    yield store
    await store.close()


def operator(now_ms: int = NOW_MS) -> Operator:
    return Operator("me", now_ms, lambda count: f"{next(_tickets):0{2 * count}x}", "mended")


_tickets = itertools.count(1)


async def live(store: Store, number: int = NUMBER) -> LiveApplication:
    setting = await store.setting(application_setting(number))
    assert setting is not None
    assert setting.value is not None
    return LiveApplication(msgspec.json.decode(setting.value, type=Application), setting.revision)


async def push(
    store: Store, parts: list[Any], now_ms: int = NOW_MS, *, gathered: bool = False
) -> int:
    """What the door does with a push; returns how many of the oldest items left."""
    request = Request("POST", b"", "", json.dumps(parts).encode(), now_ms // 1000)
    receipts = done(read_records(request))
    if gathered:
        receipts = msgspec.structs.replace(receipts, unread=parking.gathered(receipts.unread))
    known = await live(store)
    sent: dict[str, Any] = {"sender": "carrier", "now_ms": now_ms, "ticket": bytes(16)}
    if not receipts.unread:
        await append(store, known, receipts, **sent)
        return 0
    came = await parking.park(
        store, known, receipts, form="tencent", request=request, address="192.0.2.1", **sent
    )
    return came.expired


async def sids(store: Store, number: int = NUMBER) -> list[str]:
    mailbox = (await live(store, number)).application.mailbox(Kind.DELIVERY_STATUS)
    return [json.loads(entry.data)["sid"] async for entry in store.entries(mailbox)]


async def numbers(store: Store, number: int = NUMBER) -> list[int]:
    return [each.number for each in await parking.parked(store, number)]


async def raws(store: Store, number: int) -> list[bytes]:
    return [each.item.raw for each in await parking.parked(store, number) if each.item]


def mend(monkeypatch: pytest.MonkeyPatch, *bad: object) -> None:
    """From now on these parts are read as delivery statuses of their `sid`."""
    unmended = read_records

    def read(request: Request) -> Any:  # noqa: ANN401
        parts = [
            part | status(1, sid=part["sid"]) if part in bad else part
            for part in json.loads(request.body)
        ]
        body = json.dumps(parts).encode()
        return unmended(msgspec.structs.replace(request, body=body))

    monkeypatch.setattr(rereading, "read_records", read)
    monkeypatch.setitem(globals(), "read_records", read)  # of `push`


def bad(*sids: str) -> list[dict[str, str]]:
    return [{"sid": sid} for sid in sids]


async def test_retry_after_a_mend_moves_what_it_can(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands before it; the rest keeps its numbers, for people."""
    await push(store, [status(1, sid="good"), *bad("a", "b", "c", "d", "e")])
    assert await unparking.retry(store, NUMBER, by=operator()) == Unparked(0, 0, 5)
    assert await numbers(store) == [1, 2, 3, 4, 5]
    mend(monkeypatch, *bad("b", "d"))
    assert await unparking.retry(store, NUMBER, by=operator()) == Unparked(2, 2, 3)
    assert await sids(store) == ["good", "b", "d"]
    assert sorted(await numbers(store)) == [1, 3, 5]
    mend(monkeypatch, *bad("a"))
    assert await unparking.retry(store, NUMBER, by=operator()) == Unparked(1, 1, 2)
    assert sorted(await numbers(store)) == [3, 5]
    assert await unparking.retry(store, NUMBER, by=operator()) == Unparked(0, 0, 2)
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_delivery_status_that_comes_again_after_hours_is_parked_once(store: Store) -> None:
    await push(store, bad("a"))
    await push(store, bad("a"), NOW_MS + 7_200_000)
    assert await numbers(store) == [1]


@pytest.mark.parametrize(("apart_s", "count"), [(30, 1), (1800, 2)])
async def test_reply_that_is_parked_again_after_minutes_is_another_one(
    store: Store, apart_s: int, count: int
) -> None:
    """It tells neither an id nor a time; parked or stored it is known alike."""
    reply = {"mobile": "13800000001", "nationcode": "86", "text": "TD"}
    known, source = await live(store), builtin()["native"]
    receipts = Receipts(Kind.REPLY, [])
    for at_ms in (NOW_MS, NOW_MS + apart_s * 1000):
        request = Request("POST", b"", "", json.dumps([reply]).encode(), at_ms // 1000)
        [report] = done(read(source, request)).reports
        unread = Unread(report.raw, "nobody's", None, report.kind, report.index)
        sent: dict[str, Any] = {"sender": "carrier", "now_ms": at_ms, "ticket": bytes(16)}
        await parking.park(
            store,
            known,
            msgspec.structs.replace(receipts, unread=(unread,)),
            form="native",
            request=request,
            address="192.0.2.1",
            **sent,
        )
        told = receipts_of(Kind.REPLY, "native", [(report, Whose("86"))], at_ms // 1000)
        if at_ms > NOW_MS:  # the first of them is in a parked item alone
            await append(store, known, told, **sent)
    assert len(await parking.parked(store, NUMBER)) == count
    await unparking.retry(store, NUMBER, by=operator(NOW_MS + 100_000_000))
    mailbox = known.application.mailbox(Kind.REPLY)
    assert len([entry async for entry in store.entries(mailbox)]) == count


async def test_retry_reads_parts_that_were_gathered(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more than one item, with some that stay unread."""
    monkeypatch.setattr(limits, "INGEST_RECORDS_MAX", 3)
    parts = bad("a", "b", "c", "d", "e", "f", "g")
    await push(store, parts, gathered=True)
    assert await numbers(store) == [1, 2, 3]
    mend(monkeypatch, *bad("a", "c", "e", "g"))
    assert await unparking.retry(store, NUMBER, by=operator()) == Unparked(1, 4, 2)
    assert sorted(await sids(store)) == ["a", "c", "e", "g"]
    mend(monkeypatch, *bad("b", "d", "f"))
    assert await unparking.retry(store, NUMBER, by=operator()) == Unparked(2, 3, 0)
    assert sorted(await sids(store)) == ["a", "b", "c", "d", "e", "f", "g"]
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_all_of_a_request_is_an_item_of_its_own_beside_parts_that_were_gathered() -> None:
    unread = [Unread(b"a=1", "no"), *(Unread(b"%d" % at, "no", index=at) for at in range(2))]
    assert [each.raw for each in parking.gathered(unread)] == [b"a=1", b"0,1"]


async def test_retry_of_some_leaves_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push(store, bad("a", "b", "c"))
    mend(monkeypatch, *bad("a", "b", "c"))
    assert await unparking.retry(store, NUMBER, by=operator(), numbers=[2]) == Unparked(1, 1, 2)
    assert await sids(store) == ["b"]
    assert sorted(await numbers(store)) == [1, 3]
    with pytest.raises(InvalidSetting, match="item 2 of 1400006666 is not parked"):
        await unparking.retry(store, NUMBER, by=operator(), numbers=[1, 2])
    assert await unparking.retry(store, NUMBER, by=operator(), numbers=[1]) == Unparked(1, 1, 1)


async def test_record_that_came_again_after_the_mend_is_stored_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender repeats the push, which reads by now; then the operator retries."""
    await push(store, bad("a"))
    mend(monkeypatch, *bad("a"))
    await push(store, bad("a"))
    assert await unparking.retry(store, NUMBER, by=operator()) == Unparked(1, 0, 0)
    assert await sids(store) == ["a"]


async def test_retried_record_that_comes_again_is_stored_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push(store, bad("a"))
    mend(monkeypatch, *bad("a"))
    await unparking.retry(store, NUMBER, by=operator())
    await push(store, bad("a"))
    assert await sids(store) == ["a"]


@pytest.mark.parametrize("happened", [False, True])
async def test_retry_that_was_cut_off_at_any_step_can_be_repeated(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    """Before a commit or right behind it: each record is stored once, whatever was done."""
    monkeypatch.setattr(unparking, "_STEP_ITEMS", 3)
    names = [f"n{number}" for number in range(20)]
    await push(store, bad(*names))
    mended = names[1::2]
    mend(monkeypatch, *bad(*mended))
    unpark, cuts = store.unpark, 0

    async def cut_off(operation: Unpark) -> int:
        nonlocal cuts
        cuts += 1
        if happened:
            await unpark(operation)
        raise OutcomeUnknown("killed")

    for allowed in range(8):
        steps = allowed

        async def some_steps(operation: Unpark) -> int:
            nonlocal steps
            if not steps:
                return await cut_off(operation)
            steps -= 1
            return await unpark(operation)

        monkeypatch.setattr(store, "unpark", some_steps)
        try:
            await unparking.retry(store, NUMBER, by=operator(NOW_MS + allowed))
        except OutcomeUnknown:
            continue
        break
    assert cuts
    assert sorted(await sids(store)) == sorted(mended)
    assert len(await numbers(store)) == 10
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_retry_beside_another_is_done_by_either(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds the head moved looks again, and goes on with what is left."""
    await push(store, bad("a", "b", "c"))
    mend(monkeypatch, *bad("b"))
    unpark = store.unpark

    async def overtaken(operation: Unpark) -> int:
        monkeypatch.setattr(store, "unpark", unpark)
        await unparking.retry(store, NUMBER, by=operator(NOW_MS + 1))
        return await unpark(operation)

    monkeypatch.setattr(store, "unpark", overtaken)
    told = await unparking.retry(store, NUMBER, by=operator())
    assert told == Unparked(0, 0, 2)
    assert await sids(store) == ["b"]


async def drop(store: Store, numbers: list[int] | None) -> Unparked:
    return await unparking.drop(store, NUMBER, by=operator(), numbers=numbers)


async def retry(store: Store, numbers: list[int] | None) -> Unparked:
    return await unparking.retry(store, NUMBER, by=operator(), numbers=numbers)


async def route(store: Store, numbers: list[int] | None) -> Unparked:
    return await unparking.route(store, NUMBER, OTHER, by=operator(), numbers=numbers)


@pytest.mark.parametrize("times", [1, 2, limits.OVERTAKEN_MAX - 1])
@pytest.mark.parametrize("numbers_meant", [[1], [1, 2], [2, 5], None])
@pytest.mark.parametrize("way", [drop, retry, route])
async def test_what_another_puts_back_meanwhile_is_seen_to_as_well(
    store: Store,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[Store, list[int] | None], Awaitable[Unparked]],
    numbers_meant: list[int] | None,
    times: int,
) -> None:
    """However often it lies behind all that was there at first; what came meanwhile stays."""
    await push(store, bad("a", "b", "c", "d", "e", *"uvwxyz"[: times - 1]))
    mend(monkeypatch, *bad("a", "b", "c", "d", "e"))
    unpark, others = store.unpark, iter([3, *range(6, 5 + times)])

    async def overtaken(operation: Unpark) -> int:
        number = next(others, None)
        if number is not None:
            monkeypatch.setattr(store, "unpark", unpark)
            await push(store, bad(f"new{number}"))
            await unparking.drop(store, NUMBER, by=operator(), numbers=[number])
            monkeypatch.setattr(store, "unpark", overtaken)
        return await unpark(operation)

    standing = await numbers(store)
    monkeypatch.setattr(store, "unpark", overtaken)
    await way(store, numbers_meant)
    left = await numbers(store)
    assert not set(left) & {1, 2, 4, 5} & set(numbers_meant or standing)
    assert len(set(left) - set(standing)) == times
    if numbers_meant:
        assert {1, 2, 4, 5} - set(left) == set(numbers_meant)
    if way is retry:
        assert set(await sids(store)) == {"_abcde"[each] for each in numbers_meant or (1, 2, 4, 5)}
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_retry_that_is_always_overtaken_gives_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push(store, bad("a"))

    async def changed(_operation: Unpark) -> int:
        raise SettingChanged("again")

    monkeypatch.setattr(store, "unpark", changed)
    with pytest.raises(SettingChanged):
        await unparking.drop(store, NUMBER, by=operator())


async def test_dropped_items_are_erased_on_record(store: Store) -> None:
    await push(store, bad("a", "b", "c"))
    assert await unparking.drop(store, NUMBER, by=operator(), numbers=[3]) == Unparked(1, 0, 2)
    assert await unparking.drop(store, NUMBER, by=operator()) == Unparked(2, 0, 0)
    [row] = [row for row in await store.backlog() if row.mailbox.parked]
    assert (row.accepted, row.erased, row.put_back, row.waiting) == (5, 3, 2, 0)
    acts = [row.act async for row in store.acts()]
    assert [(act.action, act.reason) for act in acts] == [("parked drop", "mended")] * 2
    assert json.loads(acts[0].detail) == {"sdkappid": NUMBER, "items": [3]}
    await push(store, bad("a"))
    assert await numbers(store) == [], "a repeat of what was dropped is known"


async def test_retry_of_an_item_of_several_parts_makes_records_of_those_that_read(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others stay as they are, under its number; once that is old, the records still leave."""
    monkeypatch.setattr("pullstatus.receipts.sifting._ALONE_MAX", 0)
    await push(store, bad("a", "b", "c"))
    assert await numbers(store) == [1]
    monkeypatch.undo()
    mend(monkeypatch, *bad("b"))
    assert await unparking.retry(store, NUMBER, by=operator()) == Unparked(0, 1, 1)
    assert await sids(store) == ["b"]
    assert await numbers(store) == [1]
    assert await raws(store, NUMBER) == [b'{"sid": "a"},{"sid": "c"}']
    assert await unparking.retry(store, NUMBER, by=operator()) == Unparked(0, 0, 1)
    mend(monkeypatch, *bad("a"))
    old = operator(NOW_MS + limits.PARKED_DAYS * DAY_MS + 1)
    assert await unparking.retry(store, NUMBER, by=old) == Unparked(1, 1, 0)
    assert await sids(store) == ["b", "a"]
    [row] = [row for row in await store.backlog() if row.mailbox.parked]
    assert (row.put_back, row.expired) == (1, 1)
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_routed_items_are_those_of_the_other_application(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads by now is a record there, the rest is parked there, and none of it here."""
    await push(store, bad("a", "b", "c", "d"))
    mend(monkeypatch, *bad("b"))
    told = await unparking.route(store, NUMBER, OTHER, by=operator(), numbers=[2, 3])
    assert told == Unparked(2, 1, 2, 1)
    assert sorted(await numbers(store)) == [1, 4]
    assert (await sids(store), await sids(store, OTHER)) == ([], ["b"])
    assert await numbers(store, OTHER) == [1]
    assert await raws(store, OTHER) == [b'{"sid": "c"}']
    assert await unparking.route(store, NUMBER, OTHER, by=operator()) == Unparked(2, 0, 0, 2)
    assert await raws(store, OTHER) == [b'{"sid": "%s"}' % sid for sid in (b"c", b"d", b"a")]
    mend(monkeypatch, *bad("c"))
    assert await unparking.retry(store, OTHER, by=operator()) == Unparked(1, 1, 2)
    assert await sids(store, OTHER) == ["b", "c"]
    [row] = [row for row in await store.backlog(NUMBER) if row.mailbox.parked]
    assert (row.accepted, row.waiting, row.routed, row.put_back) == (5, 0, 4, 1)
    acts = [row.act async for row in store.acts()]
    assert [act.action for act in acts] == ["parked route", "parked route", "parked retry"]
    assert json.loads(acts[0].detail) == {"sdkappid": NUMBER, "items": [2, 3], "to": OTHER}
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


@pytest.mark.parametrize("happened", [False, True])
async def test_route_that_was_cut_off_at_any_step_can_be_repeated(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    """Before a commit or right behind it: each item is of one application, and once."""
    monkeypatch.setattr(unparking, "_STEP_ITEMS", 3)
    names = [f"n{number}" for number in range(20)]
    await push(store, bad(*names))
    mend(monkeypatch, *bad(*names[1::2]))
    unpark = store.unpark
    cut = False

    async def every_other(operation: Unpark) -> int:
        nonlocal cut
        cut = not cut
        if cut and not happened:
            raise OutcomeUnknown("killed")
        answer = await unpark(operation)
        if cut:
            raise OutcomeUnknown("killed")
        return answer

    monkeypatch.setattr(store, "unpark", every_other)
    for attempt in range(20):
        with contextlib.suppress(OutcomeUnknown):
            await unparking.route(store, NUMBER, OTHER, by=operator(NOW_MS + attempt))
            break
    assert await numbers(store) == []
    assert sorted(await sids(store, OTHER)) == sorted(names[1::2])
    assert sorted(json.loads(raw)["sid"] for raw in await raws(store, OTHER)) == sorted(names[::2])
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_route_to_an_application_that_changes_or_is_none(store: Store) -> None:
    """It rests on both; nothing leaves before there is somebody to have it."""
    await push(store, bad("a"))
    with pytest.raises(UnknownApplication):
        await unparking.route(store, NUMBER, 1, by=operator())
    with pytest.raises(InvalidSetting, match="parked retry"):
        await unparking.route(store, NUMBER, NUMBER, by=operator())
    unpark = store.unpark

    async def overtaken(operation: Unpark) -> int:
        store.unpark = unpark  # type: ignore[method-assign]
        name = application_setting(OTHER)
        setting = await store.setting(name)
        assert setting is not None
        value = msgspec.json.encode(Application(OTHER, (), 0, name="new"))
        assert await store.change(Change(name, value, setting.value))
        with pytest.raises(SettingChanged):
            await unpark(operation)
        raise SettingChanged("as it said")

    store.unpark = overtaken  # type: ignore[method-assign]
    assert await unparking.route(store, NUMBER, OTHER, by=operator()) == Unparked(1, 0, 0, 1)
    assert len(await raws(store, OTHER)) == 1


async def test_route_to_and_fro_keeps_nothing_for_ever(store: Store) -> None:
    """With another application, too, an item has its days anew once at most."""
    await push(store, bad("a"))
    days = limits.PARKED_DAYS
    later = operator(NOW_MS + days * DAY_MS)
    assert await unparking.route(store, NUMBER, OTHER, by=later) == Unparked(1, 0, 0, 1)
    last = operator(NOW_MS + days * DAY_MS + 1)
    assert await unparking.route(store, OTHER, NUMBER, by=last) == Unparked(1, 0, 0, 0)
    assert await raws(store, NUMBER) == []


async def test_nothing_of_an_application_that_is_not(store: Store) -> None:
    with pytest.raises(UnknownApplication):
        await unparking.retry(store, 1, by=operator())
    assert await unparking.retry(store, NUMBER, by=operator()) == Unparked(0, 0, 0)


async def test_bounds_of_an_application(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items, bytes, days: the oldest leave, and it is told how many."""
    monkeypatch.setattr(limits, "PARKED_ITEMS_MAX", 3)
    assert await push(store, bad("a", "b", "c", "d")) == 1
    assert await numbers(store) == [2, 3, 4]
    monkeypatch.setattr(limits, "PARKED_BYTES_MAX", 500)
    assert await push(store, bad("e", "f"), NOW_MS + DAY_MS) > 2
    left = await numbers(store)
    assert left[-1] == 6
    later_ms = NOW_MS + limits.PARKED_DAYS * DAY_MS
    assert await clean_up(store, [], now_ms=later_ms + DAY_MS, retention_days=7) == 0
    assert await clean_up(store, [], now_ms=later_ms + DAY_MS + 1, retention_days=7) == len(left)
    assert await numbers(store) == []


async def test_retries_now_and_then_keep_nothing_for_ever(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put back has its days anew, but not once it came that long ago."""
    await push(store, bad("a", "b"))
    days = limits.PARKED_DAYS
    for day in range(1, days):
        await push(store, bad(f"new{day}"), NOW_MS + day * DAY_MS)
        mend(monkeypatch, *bad(f"new{day}"))
        told = await unparking.retry(store, NUMBER, by=operator(NOW_MS + day * DAY_MS))
        assert told == Unparked(1, 1, 2)
    at_ms = NOW_MS + days * DAY_MS
    await push(store, bad("young"), at_ms)
    young = max(await numbers(store))
    assert await unparking.retry(store, NUMBER, by=operator(at_ms)) == Unparked(0, 0, 3)
    mend(monkeypatch, *bad("b"))
    told = await unparking.retry(store, NUMBER, by=operator(at_ms + 1))
    assert told == Unparked(2, 1, 1), "what reads by now is a record, however old"
    assert await numbers(store) == [young]
    assert (await sids(store))[-1] == "b"
    [row] = [row for row in await store.backlog() if row.mailbox.parked]
    assert (row.expired, row.waiting) == (1, 1)
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


@pytest.mark.parametrize("verb", [unparking.drop, unparking.retry])
async def test_damaged_item_is_set_aside(
    tmp_path: Path, store: Store, url: str, verb: Callable[..., Awaitable[Unparked]]
) -> None:
    """It can't be read to be erased, and would stand in everybody's way for its days."""
    await push(store, bad("a"))
    await push(store, bad("b"))
    with beside_in_file(url) as connection:
        connection.execute(
            "UPDATE chunk SET body = zeroblob(length(body)) WHERE key & 255 = 1 AND key >> 40 ="
            " (SELECT id FROM mailbox WHERE kind = 2)"
        )
    assert [each.item is None for each in await parking.parked(store, NUMBER)] == [True, False]
    assert await verb(store, NUMBER, by=operator(), numbers=[1]) == Unparked(1, 0, 1)
    assert await numbers(store) == [2]
    [row] = [row for row in await store.backlog() if row.mailbox.parked]
    assert (row.quarantined, row.erased, row.put_back) == (1, 0, 0)
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_undated_record_has_the_time_of_its_arrival(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of the retry, which may be weeks later."""
    await push(store, bad("a"))

    def read(request: Request) -> Any:  # noqa: ANN401
        assert request.arrived_s == NOW_MS // 1000
        body = json.dumps([status(1, user_receive_time=None)]).encode()
        return read_records(msgspec.structs.replace(request, body=body))

    monkeypatch.setattr(rereading, "read_records", read)
    assert (await unparking.retry(store, NUMBER, by=operator(NOW_MS + DAY_MS))).records == 1


@pytest.mark.parametrize(("codec", "index"), [("utf-8", 0), ("gbk", None)])
async def test_what_came_in_another_charset_is_read_again_as_it_was(
    store: Store, codec: str, index: int | None
) -> None:
    """A part was read to be told apart, and is kept in UTF-8; the whole is kept as it came."""
    part = json.dumps(status(1, description="你好"), ensure_ascii=False)
    raw = (part if index is not None else f"[{part}]").encode(codec)
    known = await live(store)
    unread = Unread(raw, "must be something else", index=index)
    receipts = Receipts(Kind.DELIVERY_STATUS, [], [], unread=(unread,))
    request = Request("POST", b"", "application/json; charset=GBK", b"", NOW_MS // 1000)
    sent: dict[str, Any] = {"sender": "carrier", "now_ms": NOW_MS, "ticket": bytes(16)}
    await parking.park(
        store, known, receipts, form="tencent", request=request, address="192.0.2.1", **sent
    )
    assert await unparking.retry(store, NUMBER, by=operator()) == Unparked(1, 1, 0)
    mailbox = known.application.mailbox(Kind.DELIVERY_STATUS)
    texts = [json.loads(entry.data)["description"] async for entry in store.entries(mailbox)]
    assert texts == ["你好"]
