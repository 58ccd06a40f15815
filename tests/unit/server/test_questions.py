"""Questions to a store that fails, and what is told, counted and logged of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
import structlog

from pullstatus import limits
from pullstatus.errors import StoreCorrupt, StoreUnavailable
from pullstatus.records import Kind
from pullstatus.store import Backlog
from pullstatus.wire.v5.query import query_request
from pullstatus.wire.v5.statistics import RECEIPTS_PATH, statistics_request
from tests.harness import Answer
from tests.unit.server.asgi import APP, Served

NUMBER = "13812345678"


def ask(served: Served, count: int = 10) -> tuple[Answer | None, Sequence[Any]]:
    """What became of one number; and what was logged."""
    now_s = int(time.time())
    target, body = query_request(
        APP.sdkappid, APP.appkey, Kind.DELIVERY_STATUS, "86", NUMBER, 0, now_s, count, "1", now_s
    )
    with structlog.testing.capture_logs() as logged:
        return asyncio.run(served.post(target, body)), logged


def failing(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> Served:
    served = Served()

    async def backlog(_sdkappid: int | None = None) -> list[Backlog]:
        raise failure

    monkeypatch.setattr(served.store, "backlog", backlog, raising=False)
    return served


def test_log_tells_a_refusal_and_no_number() -> None:
    answer, logged = ask(Served(), count=0)
    assert answer is not None
    assert answer.result == 1004
    [line] = logged
    assert (line["event"], line["log_level"]) == ("question refused", "info")
    assert (line["call"], line["result"]) == ("pullstatus4mobile", 1004)
    assert line["sdkappid"] == APP.sdkappid
    assert line["request"] == answer.header("pullstatus-request-id")
    assert NUMBER not in str(logged)


@pytest.mark.parametrize(
    ("failure", "said", "traced"),
    [
        (StoreUnavailable("the store is closed"), "the store is closed", False),
        (StoreCorrupt("of 13812345678"), "the store is damaged", True),
        (ZeroDivisionError("canary"), "internal error", True),
    ],
)
def test_store_that_fails_is_1007(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, said: str, traced: bool
) -> None:
    served = failing(monkeypatch, failure)
    answer, logged = ask(served)
    assert answer is not None
    assert answer.json == {"result": 1007, "errmsg": said}
    assert [bool(line.get("exc_info")) for line in logged] == [traced]
    figures = asyncio.run(served.figures())
    assert figures['pullstatus_questions_total{call="pullstatus4mobile",result="1007"}'] == 1


def test_failure_of_a_call_for_counts_has_a_msg(monkeypatch: pytest.MonkeyPatch) -> None:
    served = failing(monkeypatch, ZeroDivisionError("canary"))
    now_s = int(time.time())
    target, body = statistics_request(
        RECEIPTS_PATH, APP.sdkappid, APP.appkey, 2026112800, 2026112823, "1", now_s
    )
    answer = asyncio.run(served.post(target, body))
    assert answer is not None
    assert answer.json == {"result": 1007, "errmsg": "internal error", "msg": "internal error"}


def test_question_whose_peer_has_gone_is_not_answered() -> None:
    served = Served()
    served.gone = True
    answer, logged = ask(served)
    assert answer is None
    assert served.hung_up
    assert not logged


def test_question_for_which_there_is_no_room_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHED_PAUSE_S", 0.001)
    served = Served()
    served.routes.asking._count_max = 0
    answer, _ = ask(served)
    assert answer is not None
    assert answer.result == 1007
    assert "the server has too much in hand" in answer.json["errmsg"]
    assert served.let_go, "its body is forgotten, while the answer waits"
