"""`POST /ingest/{sdkappid}/sends`: what was sent is counted once, and told by statistics."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest

from pullstatus.records.hours import hour_of
from tests.e2e.test_ingest import problem
from tests.harness import Answer, App, Program

pytestmark = pytest.mark.usefixtures("each_way")


def hour_now(more_ms: int = 0) -> int:
    return hour_of(time.time_ns() // 1_000_000 + more_ms)


def counts() -> dict[str, int]:
    return {"hour": hour_now(), "request": 100, "success": 98, "bill_number": 120}


def send() -> dict[str, object]:
    return {"hour": hour_now(), "result": 0, "fee": 2, "sid": "8:1", "errmsg": "OK"}


def report(program: Program, app: App, body: object, **headers: str) -> Answer:
    """POST a report; header names with underscores for dashes."""
    sent = {"Authorization": f"Bearer {program.token}", "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return program.post(f"/ingest/{app.sdkappid}/sends", body, sent)


def counted(program: Program, app: App) -> dict[str, Any]:
    told = program.cli("stats", str(app.sdkappid), "--from", "2h", "--json")
    return {name: told["all"][name] for name in ("requests", "accepted", "billed")}


_numbers = itertools.count(1400555001)
UNKNOWN = {"requests": None, "accepted": None, "billed": None}


def test_sends_are_unknown_until_they_are_reported(shared: Program, app: App) -> None:
    assert counted(shared, app) == UNKNOWN
    nothing = {"hour": hour_now(), "request": 0, "success": 0, "bill_number": 0}
    assert report(shared, app, [nothing]).content == b'{"accepted":1}'
    assert counted(shared, app) == {"requests": 0, "accepted": 0, "billed": 0}
    answer = report(shared, app, [counts(), send(), {"hour": hour_now(), "result": 1014}])
    assert (answer.http_status, answer.content) == (200, b'{"accepted":3}')
    assert counted(shared, app) == {"requests": 102, "accepted": 99, "billed": 122}
    assert counted(shared, shared.spare_app()) == UNKNOWN


def test_calls_for_counts_tell_them(shared: Program, app: App) -> None:
    """And, before anything was reported, that nobody knows."""

    def asked() -> dict[str, Any]:
        random = "77"
        hours = {"begin_date": hour_now(-3_600_000), "end_date": hour_now()}
        target = f"/v5/tlssmssvr/pullsendstatus?sdkappid={app.sdkappid}&random={random}"
        body = app.body(random, **hours)
        return shared.post(target, {name: body[name] for name in ("sig", "time", *hours)}).json

    assert asked()["result"] == 1030
    report(shared, app, [counts()])
    assert asked()["data"] == {"request": 100, "success": 98, "bill_number": 120}


def test_lines_are_a_report_too(shared: Program, app: App) -> None:
    body = "\r\n".join(map(json.dumps, (counts(), send()))).encode()
    answer = report(shared, app, body, Content_Type="application/x-ndjson")
    assert answer.content == b'{"accepted":2}'
    assert counted(shared, app) == {"requests": 101, "accepted": 99, "billed": 122}


def test_report_with_a_key_counts_once(shared: Program, app: App) -> None:
    """Each application's keys are its own."""
    other, sent = shared.spare_app(), counts()
    for _ in range(2):
        assert report(shared, app, [sent], Idempotency_Key="k").content == b'{"accepted":1}'
    problem(report(shared, app, [send()], Idempotency_Key="k"), 422)
    assert report(shared, other, [counts()], Idempotency_Key="k").http_status == 200
    once = {"requests": 100, "accepted": 98, "billed": 120}
    assert counted(shared, app) == counted(shared, other) == once
    report(shared, app, [counts()])
    assert counted(shared, app)["requests"] == 200


def test_key_of_sends_is_none_of_a_batch(shared: Program, app: App) -> None:
    assert report(shared, app, [counts()], Idempotency_Key="k").http_status == 200
    records = f"/ingest/{app.sdkappid}/delivery-statuses"
    headers = {"Authorization": f"Bearer {shared.token}", "Content-Type": "application/json"}
    told = problem(shared.post(records, [counts()], headers | {"Idempotency-Key": "k"}), 400)
    assert told["title"] == "Invalid record"


def test_wrong_item_refuses_its_report_and_is_named(shared: Program, app: App) -> None:
    told = problem(report(shared, app, [send(), {**counts(), "hour": hour_now() + 10**6}]), 400)
    assert (told["title"], told["index"]) == ("Invalid record", 1)
    assert told["detail"] == "record 1: hour must not be one that is yet to come"
    told = problem(report(shared, app, {"hour": 1}), 400)
    assert told["title"] == "Invalid body"
    problem(report(shared, app, [counts()], Idempotency_Key="k k"), 400)
    problem(report(shared, app, [counts()], Authorization="Bearer no"), 401)
    problem(report(shared, app, [counts()], Content_Type="text/csv"), 415)
    problem(report(shared, app, [send()] * 1001), 413)
    assert counted(shared, app) == UNKNOWN


def test_names_are_taken_beside_counts_and_without(shared: Program, app: App) -> None:
    named = {"sid": "8:1", "ids": ["7f3a", 9]}
    answer = report(shared, app, [named, counts(), {**send(), "id": "173", "ext": "session"}])
    assert answer.content == b'{"accepted":3}'
    assert counted(shared, app) == {"requests": 101, "accepted": 99, "billed": 122}
    told = problem(report(shared, app, [counts(), {"id": "174"}]), 400)
    assert told["detail"] == "record 1: sid is missing: what the sender knows the SMS by"
    other = shared.spare_app()
    assert report(shared, other, [named]).content == b'{"accepted":1}'
    assert counted(shared, other) == UNKNOWN


def test_former_owners_sends_are_told_to_nobody(shared: Program) -> None:
    number = str(next(_numbers))
    shared.cli("app", "create", number)
    app = App(int(number), "")
    assert report(shared, app, [counts()]).http_status == 200
    shared.cli("app", "delete", number)
    shared.cli("app", "create", number)
    assert counted(shared, app) == UNKNOWN
    assert shared.until(lambda: report(shared, app, [send()]).http_status == 200)
    assert counted(shared, app) == {"requests": 1, "accepted": 1, "billed": 2}
