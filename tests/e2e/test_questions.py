"""The v5 calls that ask and take nothing, on a running server: of one number, and of some hours."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from pullstatus.wire.v5.query import QUERY_PATH
from pullstatus.wire.v5.signature import sign
from pullstatus.wire.v5.statistics import RECEIPTS_PATH, SENDS_PATH
from tests.harness import (
    Answer,
    App,
    Program,
    Record,
    chunked,
    hours_around,
    http_request,
    reply,
    status,
    statuses,
)

pytestmark = pytest.mark.usefixtures("each_way")

CALLS = (QUERY_PATH, SENDS_PATH, RECEIPTS_PATH)
MINE = {"nationcode": "86", "mobile": "13800000001"}
EVER = {"begin_time": 0, "end_time": 4_000_000_000, "type": 0, "max": 100}

_randoms = itertools.count(1)


def members_of(path: str) -> Record:
    """What one of the calls takes beside its signature."""
    if path == QUERY_PATH:
        return MINE | EVER
    begin, end = hours_around()
    return {"begin_date": begin, "end_date": end}


def request(app: App, path: str, **changes: object) -> tuple[str, Record]:
    """A signed question: its target and its body, of which members given as `...` are left out."""
    random = f"{next(_randoms)}"
    members = {"time": int(time.time())} | members_of(path) | changes
    signed = {"sig": sign(app.appkey, random, str(members["time"]))} | members
    body = {name: value for name, value in signed.items() if value is not ...}
    return f"{path}?sdkappid={app.sdkappid}&random={random}", body


def ask(program: Program, app: App, path: str = QUERY_PATH, **changes: object) -> Answer:
    return program.post(*request(app, path, **changes))


def counts(program: Program, app: App, **changes: object) -> dict[str, int]:
    answer = ask(program, app, RECEIPTS_PATH, **changes)
    assert answer.result == 0, answer
    found: dict[str, int] = answer.json["data"]
    return found


# --- one number -----------------------------------------------------------------------------------


def test_answer_is_that_of_a_pull_to_the_byte(shared: Program, app: App) -> None:
    shared.feed(app, statuses(3))
    answer = ask(shared, app)
    assert answer.content == (
        b'{"result":0,"errmsg":"ok","type":0,"count":1,"data":['
        b'{"user_receive_time":"2026-01-02 03:04:05","nationcode":"86","mobile":"13800000001",'
        b'"report_status":"SUCCESS","errmsg":"DELIVRD","description":"delivered","sid":"8:1"}]}'
    )
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-length") == str(len(answer.content))
    assert answer.header("cache-control") == "no-store"
    assert ask(shared, app, type=1).content == (
        b'{"result":0,"errmsg":"ok","type":1,"count":0,"data":[]}'
    )


def test_question_takes_nothing_and_finds_what_was_pulled(shared: Program, app: App) -> None:
    shared.feed(app, statuses(3))
    for _ in range(2):
        assert ask(shared, app).data == [status(1)]
    pulled = shared.pull(app)
    assert pulled.header("pullstatus-pull-id") == f"{app.sdkappid}-0-1"
    assert pulled.data == statuses(3)
    assert ask(shared, app).data == [status(1)]
    assert len(shared.cli("pulls", "list", "--sdkappid", str(app.sdkappid), "--json")) == 1


def test_question_is_of_one_application_and_one_kind(shared: Program, app: App) -> None:
    other = shared.spare_app()
    shared.feed(app, statuses(1))
    shared.feed(app, [reply(1, mobile=MINE["mobile"])])
    assert ask(shared, other).data == []
    assert ask(shared, app, type=1).data == [reply(1, mobile=MINE["mobile"])]


@pytest.mark.parametrize(
    ("nationcode", "mobile"),
    [
        ("86", "+8613800000001"),
        ("86", "008613800000001"),
        ("+86", 13800000001),
        (86, "13800000001"),
    ],
)
def test_number_may_be_written_in_any_way(
    shared: Program, app: App, nationcode: object, mobile: object
) -> None:
    shared.feed(app, statuses(1))
    assert ask(shared, app, nationcode=nationcode, mobile=mobile).data == statuses(1)


def test_records_come_by_their_own_times_whose_bounds_count(shared: Program, app: App) -> None:
    own_s = 1_767_380_645
    times = [f"2026-01-03 03:04:0{second}" for second in (7, 5, 6, 5)]
    sent = [status(1, user_receive_time=at, sid=f"8:{place}") for place, at in enumerate(times)]
    shared.feed(app, sent)
    in_order = [sent[1], sent[3], sent[2], sent[0]]
    assert ask(shared, app).data == in_order
    assert ask(shared, app, max=3).data == in_order[:3]
    assert ask(shared, app, begin_time=own_s, end_time=own_s).data == in_order[:2]
    assert ask(shared, app, begin_time=own_s + 1, end_time=own_s + 1).data == in_order[2:3]
    assert ask(shared, app, begin_time=own_s + 3).data == []
    assert ask(shared, app, end_time=own_s - 1).data == []
    assert ask(shared, app, begin_time=MINE["mobile"]).data == in_order
    assert ask(shared, app, sid="8:3").data == [sent[3]]


def test_copy_by_redelivery_comes_once(shared: Program, app: App) -> None:
    shared.feed(app, statuses(2))
    taken = shared.pull(app).header("pullstatus-pull-id")
    assert taken is not None
    shared.cli("redeliver", "--pull", taken, "--reason", "lost", "--json")
    shared.until(lambda: shared.waiting(app) == 2)
    assert ask(shared, app).data == [status(1)]


# --- some hours -----------------------------------------------------------------------------------


def test_receipts_are_counted_by_what_they_say(shared: Program, app: App) -> None:
    codes = ["MK:0001", "MK:0001", "MN:0001", "MX:0012", "MX:0003", "REJECTD", "new"]
    shared.feed(app, statuses(3))
    shared.feed(
        app,
        [
            status(number, report_status="FAIL", errmsg=code)
            for number, code in enumerate(codes, start=10)
        ],
    )
    shared.feed(app, [reply(1)])
    expected = {
        "success": 10,  # nobody has told how many were sent
        "status": 10,
        "status_success": 3,
        "status_fail": 7,
        "status_fail_0": 2,
        "status_fail_1": 2,
        "status_fail_2": 1,
        "status_fail_3": 1,
        "status_fail_4": 1,
    }
    assert counts(shared, app) == expected
    shared.pull(app)
    hours = {name: str(hour) for name, hour in members_of(RECEIPTS_PATH).items()}
    answer = ask(shared, app, RECEIPTS_PATH, **hours)
    assert answer.json == {"result": 0, "errmsg": "OK", "msg": "OK", "data": expected}
    before = counts(shared, app, begin_date=2016090800, end_date=2016090823)
    assert set(before.values()) == {0}


def test_sends_that_nobody_reported_are_not_said_to_be_none(shared: Program, app: App) -> None:
    shared.feed(app, statuses(1))
    answer = ask(shared, app, SENDS_PATH)
    assert answer.result == 1030
    assert answer.json["errmsg"] == answer.json["msg"]
    assert "/ingest/{sdkappid}/sends" in answer.json["errmsg"]


def test_sends_that_were_reported_are_counted(shared: Program, app: App) -> None:
    shared.feed(app, statuses(2))
    hour = members_of(SENDS_PATH)["begin_date"]
    reported = [
        {"hour": hour, "request": 30, "success": 9, "bill_number": 7},
        {"hour": hour, "result": 0, "fee": 2},
    ]
    headers = {"Authorization": f"Bearer {shared.token}", "Content-Type": "application/json"}
    answer = shared.post(f"/ingest/{app.sdkappid}/sends", reported, headers)
    assert answer.http_status == 200, answer
    assert ask(shared, app, SENDS_PATH).json == {
        "result": 0,
        "errmsg": "OK",
        "msg": "OK",
        "data": {"request": 31, "success": 10, "bill_number": 9},
    }
    counted = counts(shared, app)
    assert (counted["success"], counted["status"]) == (10, 2)
    before = ask(shared, app, SENDS_PATH, begin_date=2016090800, end_date=2016090823)
    assert set(before.json["data"].values()) == {0}, "none in those hours, and they are told of"


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CALLS)
def test_request_may_come_in_any_framing(shared: Program, app: App, path: str) -> None:
    target, members = request(app, path)
    body = json.dumps(members, indent=2).encode()
    due = 1030 if path == SENDS_PATH else 0
    in_chunks = http_request(
        "POST", target, chunked(body), ["Transfer-Encoding: chunked"], sized=False
    )
    assert shared.exchange(in_chunks).result == due
    assert shared.exchange(http_request("POST", target, body)).result == due
    for method in ("GET", "PUT"):
        assert shared.exchange(http_request(method, target, body)).result == 60008
    assert shared.post(target, body, {"Content-Encoding": "gzip"}).result == 60008
    assert shared.post(target, body.ljust(64 * 1024 + 1)).result == 60008
    assert shared.post(target, b"[]").result == 1004


def as_text(members: Record) -> bytes:
    """As PHP does it, whose callers write numbers as texts."""
    return json.dumps({name: str(value) for name, value in members.items()}).encode()


def as_pretty(members: Record) -> bytes:
    """As C# does it."""
    return json.dumps(members, indent=2).replace("\n", "\r\n").encode()


def as_talkative(members: Record) -> bytes:
    """As one in Go does it, which sends the members of all its calls."""
    every = {"tel": None, "msg": "", "extend": "", "ext": "", "sid": "", "type": 0, "max": 0}
    return json.dumps(every | members).encode()


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("Content-Type: application/x-www-form-urlencoded", as_text),
        ("Content-Type: text/plain; charset=utf-8", as_pretty),
        ("Conetent-Type: application/json", as_pretty),
        ("Content-Type: application/json", as_talkative),
    ],
)
def test_request_has_the_form_of_any_published_client(
    shared: Program, app: App, path: str, content_type: str, form: Callable[[Record], bytes]
) -> None:
    target, members = request(app, path)
    answer = shared.exchange(http_request("POST", target, form(members), [content_type]))
    assert answer.result == (1030 if path == SENDS_PATH else 0)


FAULTS: dict[str, list[tuple[Record, int, str]]] = {
    QUERY_PATH: [
        ({"mobile": ...}, 1016, "mobile"),
        ({"mobile": "1380000000x"}, 1016, "mobile"),
        ({"nationcode": "CN"}, 1016, "nationcode"),
        ({"begin_time": ...}, 1004, "begin_time"),
        ({"begin_time": 1_767_000_000_000}, 1004, "milliseconds"),
        ({"end_time": "x"}, 1004, "end_time"),
        ({"end_time": 1_767_000_000_000}, 1004, "milliseconds"),
        ({"begin_time": 8, "end_time": 7}, 1004, "begin_time"),
        ({"type": 2}, 1004, "type"),
        ({"max": 101}, 1004, "max"),
        ({"max": 0}, 1004, "max"),
        ({"sid": 7}, 1004, "sid"),
    ],
    SENDS_PATH: [
        ({"begin_date": ...}, 1004, "begin_date"),
        ({"end_date": 2016090824}, 1004, "end_date"),
        ({"begin_date": 2016023000}, 1004, "begin_date"),
        ({"begin_date": 2016090801, "end_date": 2016090800}, 1004, "end_date"),
        ({"begin_date": 2016090800, "end_date": 2016101001}, 1004, "32 days"),
    ],
}
FAULTS[RECEIPTS_PATH] = FAULTS[SENDS_PATH]


@pytest.mark.parametrize("path", CALLS)
def test_member_that_is_wrong_is_named(shared: Program, app: App, path: str) -> None:
    for changes, result, word in FAULTS[path]:
        answer = ask(shared, app, path, **changes)
        assert answer.result == result, changes
        assert word in answer.json["errmsg"]
        assert answer.json.get("msg", answer.json["errmsg"]) == answer.json["errmsg"]
        assert answer.header("pullstatus-request-id") is not None


@pytest.mark.parametrize("path", CALLS)
def test_checks_come_in_their_order(shared: Program, path: str) -> None:
    """A question that is wrong in every way is told the first fault; each fix shows the next."""
    rate = "--query-rate" if path == QUERY_PATH else "--statistics-rate"
    app = shared.create_app("--no-pull")  # which a question does not need
    number = str(app.sdkappid)
    commands = iter(
        [
            ("set", "--allow", "192.0.2.0/24", "--arrears", "on", "--query", "off", rate, "1"),
            ("disable",),
            ("set", "--allow-any"),
            ("enable",),
            ("set", "--arrears", "off"),
            ("set", "--query", "on"),
            ("set", rate, "0"),
        ]
    )

    def do() -> None:
        verb, *flags = next(commands)
        shared.cli("app", verb, number, *flags)

    stale = int(time.time()) - 1000
    wrong: Record = {"begin_date": 1, "end_date": 1, "mobile": "x"}

    def result(query: str, **members: object) -> int:
        return shared.post(f"{path}?{query}", wrong | members).result

    do()
    do()
    assert shared.exchange(http_request("PUT", path, b"")).result == 60008
    assert result("") == 60012
    assert result("sdkappid=1") == 1004
    assert result("sdkappid=1&random=1") == 1003
    assert result("sdkappid=1&random=1", sig="x") == 1004
    assert result("sdkappid=1&random=1", sig="x", time=1) == 1019
    known = f"sdkappid={number}&random=1"
    assert result(known, sig="x", time=stale) == 1009
    do()
    assert result(known, sig="x", time=stale) == 1001
    assert result(known, sig=sign(app.appkey, "1", stale), time=stale) == 1021
    now = int(time.time())
    fresh: dict[str, Any] = {"sig": sign(app.appkey, "1", now), "time": now}
    for due in (1020, 1033, 1006):
        # What was switched off is off within a second; what was switched on is on at once.
        shared.until(lambda due=due: result(known, **fresh) == due)  # type: ignore[misc]
        do()
    bad = 1016 if path == QUERY_PATH else 1004
    assert result(known, **fresh) == bad
    # Not the next one, on a machine on which they are a second apart.
    shared.until(lambda: result(known, **fresh) == 60007)
    do()
    shared.until(lambda: result(known, **fresh) == bad)
    assert ask(shared, app, path).result == (1030 if path == SENDS_PATH else 0)


@pytest.fixture
def before(shared: Program) -> dict[str, float]:
    return shared.metrics()


def test_questions_are_counted_and_are_no_pulls(
    shared: Program, app: App, before: dict[str, float]
) -> None:
    ask(shared, app)
    ask(shared, app, mobile="x")
    ask(shared, app, RECEIPTS_PATH)
    ask(shared, app, SENDS_PATH)
    after = shared.metrics()

    def more(name: str) -> float:
        return after[name] - before[name]

    name = 'pullstatus_questions_total{call="%s",result="%d"}'
    for call, result in (
        ("pullstatus4mobile", 0),
        ("pullstatus4mobile", 1016),
        ("pullcallbackstatus", 0),
        ("pullsendstatus", 1030),
    ):
        assert more(name % (call, result)) == 1
    assert more('pullstatus_request_seconds_count{call="question"}') == 4
    assert more('pullstatus_pulls_total{result="0"}') == 0
    assert more('pullstatus_request_seconds_count{call="pull"}') == 0


def test_unknown_call_says_which_there_are(shared: Program) -> None:
    answer = shared.post("/v5/tlssmssvr/pullstatus4mobil", b"{}")
    assert answer.result == 1011
    assert answer.json["errmsg"] == (
        "no such call; there is pullstatus, pullcallbackstatus, pullsendstatus, pullstatus4mobile"
    )


def test_wrong_signature_of_a_question_is_a_failed_try(
    shared: Program, app: App, before: dict[str, float]
) -> None:
    assert ask(shared, App(app.sdkappid, "0" * 32)).result == 1001
    after = shared.metrics()
    tries = 'pullstatus_failed_tries_total{wrong="signature"}'
    assert after[tries] == before[tries] + 1
