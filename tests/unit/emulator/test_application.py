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
from pullstatus.emulator.scenario import Scenario
from pullstatus.emulator.send import SENDMULTISMS2_PATH, SENDSMS_PATH
from pullstatus.errors import StoreFull, StoreUnavailable
from pullstatus.store import Setting, Store
from tests.unit.server.asgi import APP, Served


def emulated() -> Served:
    served = Served()
    store, applications = cast("Store", served.store), cast("Applications", None)
    served.routes = EmulatedRoutes(store, served.registry, Scenario(), applications)
    return served


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
