"""The emulator's calls on a store that fails, and what is counted of what it feeds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from pullstatus import limits
from pullstatus.emulator.application import EmulatedRoutes
from pullstatus.emulator.applications import Applications
from pullstatus.emulator.calls import action_of
from pullstatus.emulator.emulation import Emulation
from pullstatus.emulator.scenario import Scenario
from pullstatus.emulator.send import SENDMULTISMS2_PATH, SENDSMS_PATH
from pullstatus.errors import StoreFull, StoreUnavailable
from pullstatus.store import Append, Gone, Page, Setting, Store
from tests.unit.server.asgi import APP, Served


def emulated() -> Served:
    served = Served()
    store, applications = cast("Store", served.store), cast("Applications", None)
    served.routes = EmulatedRoutes(store, served.registry, Scenario(), applications)
    return served


def emulation_of(served: Served) -> Emulation:
    assert isinstance(served.routes, EmulatedRoutes)
    return served.routes.emulation


@pytest.mark.parametrize("path", [SENDSMS_PATH, SENDMULTISMS2_PATH])
@pytest.mark.parametrize("error", [StoreUnavailable, StoreFull])
def test_a_send_whose_store_fails_is_answered_as_a_pull_is(
    path: str, error: type[StoreUnavailable], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1007: trying again can help. The session text comes back as in every answer."""
    served = emulated()

    def fail(_since: int) -> AsyncIterator[Setting]:
        raise error("the store cannot be read now")

    monkeypatch.setattr(served.store, "settings", fail)
    one = {"nationcode": "86", "mobile": "13800000000"}
    members: dict[str, Any] = {
        "tel": one if path == SENDSMS_PATH else [one],
        "type": 0,
        "msg": "hello",
        "time": int(time.time()),
        "sig": "0" * 64,  # of a key that may be new: the store is asked
        "ext": "back",
    }
    answer = asyncio.run(served.post(f"{path}?sdkappid={APP.sdkappid}&random=1", members))
    assert answer is not None
    assert answer.http_status == 200
    assert answer.json == {"result": 1007, "errmsg": "the store cannot be read now", "ext": "back"}


def test_a_feed_whose_store_fails_may_be_tried_again() -> None:
    served = emulated()
    served.store.append_answer = StoreFull("the disk is nearly full")
    answer = asyncio.run(served.post("/emulator/feed", {"type": 0, "count": 1}))
    assert answer is not None
    assert answer.http_status == 503
    assert answer.header("content-type") == "application/problem+json"
    assert answer.json == {
        "type": "about:blank",
        "title": "Cannot store now",
        "status": 503,
        "detail": "the disk is nearly full",
    }
    assert not any(served.routes.figures.records_in.values())


@pytest.mark.parametrize(
    ("query", "body", "due"),
    [
        (b"Action=SendSms", b"", "SendSms"),
        (b"Version=2021-01-11&%41ction=SendSms", b"", "SendSms"),
        (b"", b"A%63tion=Send%53ms&Limit=1", "SendSms"),
        (b"Action=PullSmsSendStatus", b"Action=SendSms", "SendSms"),
        (b"NoAction=SendSms", b'{"Limit":1}', None),
    ],
)
def test_an_action_is_known_however_it_is_written(
    query: bytes, body: bytes, due: str | None
) -> None:
    """As the server reads it, or a fault would not strike it."""
    assert action_of(None, query, body) == due


def test_what_a_fault_does_is_done_before_it_waits() -> None:
    """Or a reset meanwhile would let records of before come to the next test."""
    served = emulated()
    served.store.pull_answer = Page(1, 1, b"{}", 0)

    async def pull() -> None:
        await served.post("/emulator/faults", {"fault": "duplicate", "delay_s": 3600})
        waiting = asyncio.create_task(served.pull())
        for _ in range(50):
            await asyncio.sleep(0)
        assert [one.entries for one in served.store.appended] == [[b"{}"]]
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(pull())


def begun_anew_meanwhile(monkeypatch: pytest.MonkeyPatch) -> Served:
    """One whose scenario begins anew while records are put in."""
    served = emulated()
    append = served.store.append

    async def begin_anew(operation: Append, _gone: Gone | None = None) -> int:
        emulation_of(served)._begin()
        return await append(operation)

    monkeypatch.setattr(served.store, "append", begin_anew)
    return served


def test_what_is_fed_while_the_scenario_begins_anew_does_not_come_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = begun_anew_meanwhile(monkeypatch)
    many = {"type": 0, "count": limits.INGEST_RECORDS_MAX + 1}
    asyncio.run(served.post("/emulator/feed", many))
    [first] = served.store.appended
    assert first.count == limits.INGEST_RECORDS_MAX


def test_traffic_ends_where_the_scenario_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    served = begun_anew_meanwhile(monkeypatch)
    asyncio.run(emulation_of(served)._traffic(1, 1))
    assert len(served.store.appended) == 1


def test_what_is_fed_is_counted() -> None:
    """By kind, in batches of what an ingest may carry at most."""
    served = emulated()
    statuses = limits.INGEST_RECORDS_MAX + 1

    async def feed() -> dict[str, float]:
        await served.post("/emulator/feed", {"type": 0, "count": statuses})
        await served.post("/emulator/feed", {"type": 1, "count": 2})
        return await served.figures()

    figures = asyncio.run(feed())
    assert [len(one.entries) for one in served.store.appended] == [statuses - 1, 1, 2]
    assert figures['pullstatus_records_in_total{kind="delivery-statuses"}'] == statuses
    assert figures['pullstatus_records_in_total{kind="replies"}'] == 2
