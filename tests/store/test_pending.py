"""What is pending leaves once over each engine, wherever whoever sees to it is cut off."""

from __future__ import annotations

import json

import msgspec
import pytest

from pullstatus.apps import Application
from pullstatus.apps.values import NOBODY, application_setting
from pullstatus.errors import OutcomeUnknown
from pullstatus.mailbox import parking
from pullstatus.mailbox.pending import Item, Pending, pending_mailbox, wait
from pullstatus.receipts.parts import Part
from pullstatus.receipts.reports import Report, State
from pullstatus.receipts.sends import Registered
from pullstatus.records import Kind
from pullstatus.store import Change, Mailbox, Store, Tickets, Unpark
from tests.names import NamesInMemory
from tests.store.build import NOW_MS, STATUSES, data_of

pytestmark = pytest.mark.anyio

NUMBER = STATUSES.sdkappid
new_ticket = Tickets(bytes)


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
    application = msgspec.json.encode(Application(NUMBER, (), 0))
    await store.change(Change(application_setting(NUMBER), application, None))
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
