"""The emulator over HTTP: sends and what comes of them, faults, the door for tests, the command.

Most tests share one emulator in a thread and begin it anew; those of the command start a process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from qcloudsms_py import SmsMultiSender, SmsSingleSender, SmsStatusPuller

from pullstatus import limits
from pullstatus.emulator.calls import Call
from pullstatus.emulator.carriers import description_of
from pullstatus.emulator.faults import FaultName
from pullstatus.emulator.scenario import APPKEY, SDKAPPID
from pullstatus.emulator.send import SENDMULTISMS2_PATH, SENDSMS_PATH
from pullstatus.emulator.thread import EmulatorThread
from pullstatus.errors import InvalidSetting
from pullstatus.records import Kind
from pullstatus.records.hours import hour_of
from pullstatus.wire.v5.pull import PULL_PATH
from pullstatus.wire.v5.query import query_request
from pullstatus.wire.v5.signature import sign
from pullstatus.wire.v5.statistics import RECEIPTS_PATH, SENDS_PATH, statistics_request
from tests.harness import (
    COMMAND,
    PATIENCE_S,
    PLAIN,
    REPLY,
    STATUS,
    App,
    Program,
    clean_environment,
)

GOLDEN = Path(__file__).with_name("golden")
APP = App(SDKAPPID, APPKEY)
SCENARIO = {
    "seed": 7,
    "sends": {"delay_s": 0},
    "templates": [{"id": 7839, "text": "{1} is your code", "code": True}],
    "rules": [
        {"mobile": "13800000001", "code": "MK:0001"},
        {"mobile": "13800000002", "result": 1015, "errmsg": "unsubscribed"},
        {"mobile": "1390000*", "reply": "TD"},
        {"mobile": "13800000003", "delay_s": 3600},
    ],
    "replies": {"delay_s": 0},
}


def signed(appkey: str, random: str, time: int, numbers: Sequence[str]) -> str:
    """The signature of a send: a pull's, with the numbers at the end of its text."""
    return sign(appkey, random, f"{time}&mobile={','.join(numbers)}")


class Peer:
    """A client of the emulator's HTTP interface, with nothing between it and the wire."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.http = httpx.Client(
            base_url=base_url, verify=PLAIN, trust_env=False, timeout=PATIENCE_S
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.http.close()

    def post(self, path: str, body: object) -> httpx.Response:
        return self.http.post(path, json=body)

    def pull_raw(self, kind: Kind = STATUS, count_max: int = 100, **headers: str) -> httpx.Response:
        target, body = APP.request(kind, count_max)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(target, content=body, headers=named)

    def pull(self, kind: Kind = STATUS, count_max: int = 100, **headers: str) -> list[Any]:
        answer = self.pull_raw(kind, count_max, **headers).json()
        assert answer["result"] == 0, answer
        return list(answer["data"])

    def look_raw(self, mobile: str = "13800000000") -> httpx.Response:
        now_s = int(time.time())
        numbered = ("86", mobile, 0, now_s + 60, 100, "1", now_s)
        target, body = query_request(SDKAPPID, APPKEY, STATUS, *numbered)
        return self.http.post(target, content=body)

    def look(self, mobile: str) -> dict[str, Any]:
        answer = self.look_raw(mobile).json()
        assert answer["result"] == 0, answer
        found: dict[str, Any] = answer
        return found

    def counts_raw(self, path: str) -> httpx.Response:
        now_s = int(time.time())
        hours = (hour_of((now_s - 3600) * 1000), hour_of((now_s + 3600) * 1000))
        target, body = statistics_request(path, SDKAPPID, APPKEY, *hours, "1", now_s)
        return self.http.post(target, content=body)

    def counts(self, path: str) -> dict[str, Any]:
        answer = self.counts_raw(path).json()
        assert answer["result"] == 0, answer
        found: dict[str, Any] = answer
        return found

    def send(self, *numbers: str, many: bool = False, **changes: object) -> dict[str, Any]:
        """A send to numbers of nationcode 86; members are replaced, or left out as `...`."""
        tel = [{"nationcode": "86", "mobile": number} for number in numbers]
        now = int(time.time())
        members: dict[str, object] = {
            "tel": tel if many else tel[0],
            "type": 0,
            "msg": "hello",
            "time": now,
            "sig": signed(APPKEY, "12345", now, numbers),
            "extend": "",
            "ext": "",
        } | changes
        answer = self.post(
            f"{SENDMULTISMS2_PATH if many else SENDSMS_PATH}?sdkappid={SDKAPPID}&random=12345",
            {name: value for name, value in members.items() if value is not ...},
        )
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def shared_emulator() -> Iterator[EmulatorThread]:
    with EmulatorThread(SCENARIO) as running:
        yield running


@pytest.fixture
def emulator(shared_emulator: EmulatorThread) -> EmulatorThread:
    shared_emulator.reset()
    return shared_emulator


@pytest.fixture
def peer(emulator: EmulatorThread) -> Iterator[Peer]:
    with Peer(emulator.base_url) as made:
        yield made


# --- sends ----------------------------------------------------------------------------------------


def test_send_is_answered_remembered_and_delivered(emulator: EmulatorThread, peer: Peer) -> None:
    """Without a delay the status is there before the send is answered."""
    answer = peer.send("13800000000", msg="【Acme】你好", ext="session 7", extend="42")
    assert set(answer) == {"result", "errmsg", "ext", "sid", "fee"}
    assert (answer["result"], answer["errmsg"], answer["ext"], answer["fee"]) == (
        0,
        "OK",
        "session 7",
        1,
    )
    assert re.fullmatch(r"8:[0-9A-Za-z]{19}20\d{6}", answer["sid"])
    [status] = peer.pull()
    assert status | {"user_receive_time": ""} == {
        "user_receive_time": "",
        "nationcode": "86",
        "mobile": "13800000000",
        "report_status": "SUCCESS",
        "errmsg": "DELIVRD",
        "description": "delivered",
        "sid": answer["sid"],
        "ext": "session 7",
    }
    [sent] = emulator.sent
    assert (sent.call, sent.mobile, sent.text, sent.sid) == (
        "sendsms",
        "13800000000",
        "【Acme】你好",
        answer["sid"],
    )
    assert peer.pull(REPLY) == []


def test_rules_decide_what_becomes_of_a_number(emulator: EmulatorThread, peer: Peer) -> None:
    numbers = ["13800000001", "13800000002", "13900001234", "13800000003", "1"]
    answer = peer.send(*numbers, many=True, ext="e", extend="42")
    assert (answer["result"], answer["ext"]) == (0, "e")
    detail = answer["detail"]
    assert [one["mobile"] for one in detail] == numbers
    assert [one["result"] for one in detail] == [0, 1015, 0, 0, 1016]
    assert [sorted(one) for one in (detail[0], detail[1])] == [
        ["errmsg", "fee", "mobile", "nationcode", "result", "sid"],
        ["errmsg", "mobile", "nationcode", "result"],
    ]
    outcomes = [(one["mobile"], one["errmsg"], one["description"]) for one in peer.pull()]
    assert outcomes == [
        ("13800000001", "MK:0001", "number does not exist"),
        ("13900001234", "DELIVRD", "delivered"),
    ]
    [reply] = peer.pull(REPLY)
    assert (reply["mobile"], reply["text"], reply["extend"], reply["sign"]) == (
        "13900001234",
        "TD",
        "42",
        "Example",
    )
    assert [sent.result for sent in emulator.sent] == [0, 1015, 0, 0, 1016]


def test_template_is_filled_and_its_parts_are_the_fee(emulator: EmulatorThread, peer: Peer) -> None:
    answer = peer.send("13800000000", msg=..., tpl_id=7839, params=["123456"], sign="Acme")
    assert answer["fee"] == 1
    assert emulator.sent[0].text == "【Acme】123456 is your code"
    assert peer.send("13800000000", msg="x" * 63)["fee"] == 2


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"sig": "0" * 64}, 1001),
        ({"sig": ...}, 1003),
        ({"time": int(time.time()) - 3600}, 1001),
        ({"tel": ...}, 1004),
        ({"type": 3}, 1004),
        ({"msg": "【A】x"}, 1012),
        ({"tpl_id": 1, "params": []}, 1014),
        ({"tpl_id": 7839, "params": ["x"]}, 1038),
        ({"msg": "x" * 501}, 1017),
    ],
)
def test_refused_send_says_why_and_delivers_nothing(
    peer: Peer, changes: dict[str, Any], result: int
) -> None:
    answer = peer.send("13800000000", ext="mine", **changes)
    assert (answer["result"], set(answer)) == (result, {"result", "errmsg", "ext"})
    assert answer["ext"] == "mine"
    assert peer.pull() == []


def test_stale_time_of_a_good_signature_is_1021_and_a_bad_number_1016(peer: Peer) -> None:
    then = int(time.time()) - 700
    sig = signed(APPKEY, "12345", then, ["13800000000"])
    assert peer.send("13800000000", time=then, sig=sig)["result"] == 1021
    assert peer.send("+8613800000000")["result"] == 1016
    numbers = ["13800000000"] * 201
    assert peer.send(*numbers, many=True)["result"] == 1046
    assert peer.http.get(SENDSMS_PATH).json()["result"] == 60008
    assert peer.post("/v5/tlssmssvr/sendisms?sdkappid=1&random=1", {}).json()["result"] == 1011


def test_seed_makes_sids_repeat_themselves(emulator: EmulatorThread, peer: Peer) -> None:
    runs = []
    for _ in range(2):
        emulator.reset()
        runs.append([peer.send("13800000000")["sid"] for _ in range(3)])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 3


def test_status_and_reply_come_after_their_delays() -> None:
    """The reply counts from the status on, and neither comes early."""
    scenario = {"sends": {"delay_s": 0.2}, "replies": {"share": 1, "delay_s": 0.2}}
    with EmulatorThread(scenario) as emulator, Peer(emulator.base_url) as peer:
        began = time.monotonic()
        peer.send("13800000000")
        for kind, least_s in ((STATUS, 0.2), (REPLY, 0.4)):
            while not peer.pull(kind):
                assert time.monotonic() - began < PATIENCE_S
            assert time.monotonic() - began >= least_s


def test_traffic_flows_at_its_rates() -> None:
    traffic = {"statuses_per_s": 40, "replies_per_s": 20, "statuses_at_start": 7}
    with EmulatorThread({"traffic": traffic, "outcomes": {"delivered": 0.5}}) as emulator:
        assert emulator.waiting() >= 7
        deadline = time.monotonic() + PATIENCE_S
        while emulator.waiting() < 27 or emulator.waiting(type=1) < 10:
            assert time.monotonic() < deadline
            time.sleep(0.02)


# --- what is asked --------------------------------------------------------------------------------


def test_questions_are_answered_and_a_reset_forgets_what_was_counted(
    emulator: EmulatorThread, peer: Peer
) -> None:
    for _ in range(2):
        assert set(peer.counts(RECEIPTS_PATH)["data"].values()) == {0}
        assert set(peer.counts(SENDS_PATH)["data"].values()) == {0}
        assert peer.look("13800000001")["data"] == []
        sid = peer.send("13800000001")["sid"]
        peer.send("13900001234")
        assert [record["sid"] for record in peer.look("13800000001")["data"]] == [sid]
        assert len(peer.pull(count_max=1)) == 1
        counted = peer.counts(RECEIPTS_PATH)["data"]
        assert (counted["status"], counted["status_success"], counted["status_fail_1"]) == (2, 1, 1)
        assert counted["success"] == 2
        peer.send("13800000000", "13800000002", "1", many=True, msg="x" * 63)
        peer.send("13800000000", msg="x" * 501)
        sent = {"request": 6, "success": 3, "bill_number": 4}
        assert peer.counts(SENDS_PATH)["data"] == sent
        emulator.reset()


@pytest.mark.parametrize("call", ["pullstatus4mobile", "pullsendstatus", "pullcallbackstatus"])
def test_questions_fail_on_demand_as_they_do_else(
    emulator: EmulatorThread, peer: Peer, call: Call
) -> None:
    emulator.faults.add("result", call=call, result=60007, errmsg="slow down")
    emulator.faults.add("http", call=call)
    asks: dict[str, Callable[[], httpx.Response]] = {
        "pullstatus4mobile": peer.look_raw,
        "pullsendstatus": lambda: peer.counts_raw(SENDS_PATH),
        "pullcallbackstatus": lambda: peer.counts_raw(RECEIPTS_PATH),
    }
    said = {"result": 60007, "errmsg": "slow down"}
    if call != "pullstatus4mobile":
        said["msg"] = "slow down"
    for name, ask in asks.items():
        answer = ask()
        if name != call:
            assert answer.json()["result"] == 0
            continue
        assert answer.json() == said
        assert ask().status_code == 502
    assert emulator.faults.hits == 2


# --- faults ---------------------------------------------------------------------------------------


def test_cut_answer_takes_the_page_and_a_keyed_retry_gets_it(
    emulator: EmulatorThread, peer: Peer
) -> None:
    for said in (None, 10):
        fed = emulator.feed(3)
        emulator.faults.add("cut", call="pullstatus", bytes=said)
        with pytest.raises(httpx.RemoteProtocolError):
            peer.pull(idempotency_key=f"page-{said}")
        assert emulator.waiting() == 0
        assert peer.pull(idempotency_key=f"page-{said}") == fed
    assert emulator.faults.hits == 2


def test_cut_before_the_commit_takes_nothing(emulator: EmulatorThread, peer: Peer) -> None:
    fed = emulator.feed(3)
    emulator.faults.add("cut", after_commit=False)
    with pytest.raises(httpx.RemoteProtocolError):
        peer.pull()
    assert peer.pull() == fed


def test_nonempty_waits_for_a_page_with_records(emulator: EmulatorThread, peer: Peer) -> None:
    emulator.faults.add("cut", nonempty=True)
    assert peer.pull() == []
    emulator.feed(1)
    with pytest.raises(httpx.RemoteProtocolError):
        peer.pull()


@pytest.mark.parametrize("late", [False, True])
def test_http_and_result_take_the_page_only_if_told_so(
    emulator: EmulatorThread, peer: Peer, late: bool
) -> None:
    for armed in ({"fault": "http", "http_status": 503}, {"fault": "result", "result": 1033}):
        fed = emulator.feed(2)
        peer.post("/emulator/faults", armed | {"after_commit": late})
        answer = peer.pull_raw()
        if armed["fault"] == "http":
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "text/html"
        else:
            assert answer.json() == {"result": 1033, "errmsg": "a fault of the emulator"}
        assert peer.pull() == ([] if late else fed)


def test_malformed_answer_is_half_of_it(emulator: EmulatorThread, peer: Peer) -> None:
    emulator.feed(2)
    emulator.faults.add("malformed")
    answer = peer.pull_raw()
    assert answer.status_code == 200
    assert answer.text.startswith('{"result":0,')
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert emulator.waiting() == 0


def test_delay_holds_the_answer_back_but_not_other_calls(
    emulator: EmulatorThread, peer: Peer
) -> None:
    fed = emulator.feed(1, type=1)
    emulator.faults.add("delay", delay_s=2, type=0)
    with ThreadPoolExecutor() as pool, Peer(emulator.base_url) as other:
        began = time.monotonic()
        slow = pool.submit(other.pull_raw)
        while not emulator.faults.hits:
            assert time.monotonic() - began < PATIENCE_S
        assert peer.pull(REPLY) == fed
        assert not slow.done()
        assert slow.result().json()["result"] == 0
        assert time.monotonic() - began >= 2


def test_reorder_turns_a_page_round(emulator: EmulatorThread, peer: Peer) -> None:
    """A page of one has no order, so it does not use the fault up."""
    emulator.faults.add("reorder")
    fed = emulator.feed(1)
    assert peer.pull() == fed
    fed = emulator.feed(3)
    assert peer.pull() == fed[::-1]
    fed = emulator.feed(3)
    assert peer.pull() == fed


def test_duplicate_hands_the_same_records_out_again(emulator: EmulatorThread, peer: Peer) -> None:
    emulator.faults.add("duplicate")
    assert peer.pull() == []
    fed = emulator.feed(2)
    assert [peer.pull(), peer.pull(), peer.pull()] == [fed, fed, []]


@pytest.mark.parametrize("fault", ["reorder", "duplicate"])
def test_a_fault_of_pages_leaves_a_refused_pull_alone(
    emulator: EmulatorThread, peer: Peer, fault: FaultName
) -> None:
    """Whose application nobody can read; it is listed, and the fault is there for the next."""
    emulator.faults.add(fault)
    assert peer.post(PULL_PATH, {}).json()["result"] == 60012
    [request] = emulator.requests
    assert (request.result, request.fault) == (60012, None)
    [armed] = emulator.faults
    assert (armed.left, armed.hits) == (1, 0)


def test_faults_strike_sends_too(emulator: EmulatorThread, peer: Peer) -> None:
    """A refusal by a fault sends nothing, a cut answer does; both are the call's own."""
    emulator.faults.add("result", call="sendsms", result=1013, errmsg="slow down")
    assert peer.send("13800000000", ext="mine") == {
        "result": 1013,
        "errmsg": "slow down",
        "ext": "mine",
    }
    assert emulator.sent == []
    emulator.faults.add("cut", call="sendsms")
    with pytest.raises(httpx.RemoteProtocolError):
        peer.send("13800000000")
    assert len(emulator.sent) == 1
    emulator.faults.add("result", call="sendmultisms2", result=1007, after_commit=True)
    answer = peer.send("13800000000", many=True, ext="mine")
    assert (answer["result"], answer["ext"]) == (1007, "mine")
    assert len(emulator.sent) == 2


def test_unstruck_call_is_the_servers_own(emulator: EmulatorThread, peer: Peer) -> None:
    """With a fault armed for something else, the answer is the same to the byte."""
    emulator.feed(1)
    emulator.faults.add("cut", type=1)
    answer = peer.pull_raw()
    assert answer.headers["pullstatus-waiting"] == "0"
    assert "pullstatus-pull-id" in answer.headers
    assert peer.http.post(f"{PULL_PATH}?random=1", content=b"[").json()["result"] == 60012
    oversized = peer.http.post(
        f"{PULL_PATH}?sdkappid=1&random=1", content=iter([b"x" * 40_000] * 3)
    )
    assert oversized.json()["result"] == 60008


# --- the door for tests ---------------------------------------------------------------------------


def test_faults_are_armed_listed_and_cleared_over_http(peer: Peer) -> None:
    made = peer.post("/emulator/faults", [{"fault": "cut", "count": 2}, {"fault": "http"}])
    assert made.status_code == 201
    listed = peer.http.get("/emulator/faults").json()
    assert listed == made.json()
    assert listed["faults"][0] == {"fault": "cut", "count": 2, "left": 2, "hits": 0}
    assert peer.http.delete("/emulator/faults").status_code == 204
    assert peer.http.get("/emulator/faults").json() == {"faults": []}


def test_feed_takes_the_shape_of_an_answer_and_makes_up_the_rest(peer: Peer) -> None:
    fed = peer.post("/emulator/feed", {"type": 0, "data": [{"sid": "8:a", "extra": 1}, {}]}).json()
    assert fed["count"] == 2
    assert (fed["data"][0]["sid"], fed["data"][0]["extra"]) == ("8:a", 1)
    assert peer.pull() == fed["data"]
    fed = peer.post("/emulator/feed", {"type": 1, "count": 2500}).json()
    pulled = [record for _ in range(26) for record in peer.pull(REPLY)]
    assert pulled == fed["data"]


@pytest.mark.parametrize(
    ("given", "status", "errmsg", "description"),
    [
        ({"errmsg": "MK:0001"}, "FAIL", "MK:0001", description_of("MK:0001")),
        ({"errmsg": "XX:9999"}, "FAIL", "XX:9999", ""),
        ({"errmsg": "DELIVRD"}, "SUCCESS", "DELIVRD", "delivered"),
        ({"report_status": "SUCCESS"}, "SUCCESS", "DELIVRD", "delivered"),
        ({"report_status": "FAIL", "errmsg": "XX", "description": "x"}, "FAIL", "XX", "x"),
    ],
)
@pytest.mark.parametrize("delivered", [0, 1])
def test_what_is_made_up_of_a_status_fits_what_is_given(
    given: dict[str, str], status: str, errmsg: str, description: str, delivered: int
) -> None:
    with EmulatorThread({"outcomes": {"delivered": delivered}}) as emulator:
        [fed] = emulator.feed([given])
    assert (fed["report_status"], fed["errmsg"], fed["description"]) == (
        status,
        errmsg,
        description,
    )


def test_a_status_that_shall_have_failed_has_a_reason(emulator: EmulatorThread) -> None:
    """Though none fails by this scenario."""
    for fed in emulator.feed([{"report_status": "FAIL"}] * 20):
        assert fed["errmsg"] != "DELIVRD"
        assert fed["description"] == description_of(fed["errmsg"]) != ""


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("faults", {"fault": "explode"}, "fault: fault: "),
        ("faults", [{"fault": "cut"}, {"fault": "cut", "count": 0}], "[1].count: "),
        ("faults", "cut", "expected"),
        ("feed", {"type": 0}, "either data or count"),
        ("feed", {"type": 2, "count": 1}, "feed: type: "),
        ("feed", {"type": 0, "data": [{}, {"mobile": "x"}]}, "record 1: mobile"),
        ("feed", {"type": 1, "data": [{"time": "x"}]}, "record 0: time"),
        ("feed", {"type": 0, "data": [5]}, "feed: data[0]"),
    ],
)
def test_mistake_is_a_problem_that_names_the_member(
    emulator: EmulatorThread, peer: Peer, path: str, body: object, said: str
) -> None:
    answer = peer.post(f"/emulator/{path}", body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]
    assert len(emulator.faults) == emulator.waiting() == emulator.waiting(type=1) == 0


def test_door_says_where_to_aim_and_begins_anew(emulator: EmulatorThread, peer: Peer) -> None:
    emulator.feed(1)
    assert len(peer.pull(idempotency_key="page-1")) == 1
    emulator.feed(3)
    emulator.faults.add("cut", type=1)
    peer.send("13800000000", many=True)
    about = peer.http.get("/emulator").json()
    assert (about["sdkappid"], about["appkey"]) == (SDKAPPID, APPKEY)
    assert about["pullstatus"] == f"{emulator.base_url}{PULL_PATH}"
    assert about["pullcallbackstatus"] == f"{emulator.base_url}{RECEIPTS_PATH}"
    assert about["waiting"]["delivery-statuses"] == 4
    assert peer.post("/emulator/reset", {}).status_code == 204
    assert peer.http.get("/emulator").json()["waiting"] == {"delivery-statuses": 0, "replies": 0}
    assert peer.http.get("/emulator/sent").json() == {"count": 0, "data": []}
    assert peer.http.get("/emulator/faults").json() == {"faults": []}
    assert peer.pull(idempotency_key="page-1") == []


def test_resets_at_once_begin_anew_one_after_the_other(emulator: EmulatorThread) -> None:
    emulator.feed(3)
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(emulator.reset) for _ in range(8)]:
            done.result()
    assert emulator.waiting() == 0
    with Peer(emulator.base_url) as peer:
        fed = emulator.feed(2)
        assert peer.pull() == fed
        assert peer.send("13800000000")["result"] == 0


def test_sent_is_listed_and_forgotten(peer: Peer) -> None:
    sid = peer.send("13800000000", msg="你好")["sid"]
    listed = peer.http.get("/emulator/sent").json()
    assert listed["count"] == 1
    assert listed["data"][0]["text"] == "【Example】你好"
    assert listed["data"][0]["sid"] == sid
    assert peer.http.delete("/emulator/sent").status_code == 204
    assert peer.http.get("/emulator/sent").json()["count"] == 0


def test_what_is_remembered_of_a_send_is_bounded(emulator: EmulatorThread, peer: Peer) -> None:
    """What was accepted fits in whole; what was refused may be as long as its body."""
    long, kept = "x" * 20_000, limits.SENT_CHARS_KEPT
    assert peer.send("13800000000", msg=long)["result"] == 1017
    for given, result in ((["1", long], 1036), ([""] * 10_000, 1014)):
        told = peer.send("13800000000", msg=..., tpl_id=7839, params=given, sign=long)
        assert told["result"] == result
    assert peer.send(long)["result"] == 1016
    text, params, empty, number = emulator.sent
    assert text.text == long[:kept]
    assert params.sign == long[:kept]
    assert params.params == ("1", long[: kept - 2])
    assert empty.params == ("",) * kept
    assert number.mobile == long[:kept]


def test_unknown_door_and_method_are_refused(peer: Peer) -> None:
    assert peer.http.get("/emulator/none").status_code == 404
    assert peer.http.put("/emulator/faults").status_code == 405
    assert peer.http.post("/emulator/feed", content=b"{").status_code == 400
    assert peer.http.post("/emulator/feed", content=b"x" * 2_000_000).status_code == 413
    assert peer.http.get("/readyz").status_code == 200
    assert b"pullstatus_waiting" in peer.http.get("/metrics").content


# --- official clients -----------------------------------------------------------------------------

Sdk = Callable[..., dict[str, Any]]
"""Calls a method of an SDK's class with the same arguments in either language."""


@pytest.fixture
def python_sdk(emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> Sdk:
    # Since Python 3.9 json.loads refuses the argument that this SDK passes, after the answer came.
    monkeypatch.setattr(
        "qcloudsms_py.httpclient.json",
        SimpleNamespace(loads=lambda text, encoding: json.loads(text.decode(encoding))),
    )
    calls = {
        "SmsSingleSender": (SmsSingleSender, SENDSMS_PATH),
        "SmsMultiSender": (SmsMultiSender, SENDMULTISMS2_PATH),
        "SmsStatusPuller": (SmsStatusPuller, PULL_PATH),
    }

    def call(name: str, method: str, *arguments: object) -> dict[str, Any]:
        sdk, path = calls[name]
        snake = re.sub("([A-Z])", r"_\1", method).lower()
        made = getattr(sdk(SDKAPPID, APPKEY), snake)
        answer: dict[str, Any] = made(*arguments, url=f"{emulator.base_url}{path}")
        return answer

    return call


@pytest.fixture
def node_sdk(emulator: EmulatorThread, node: list[str], node_modules: Path) -> Sdk:
    host, _, port = emulator.base_url.removeprefix("http://").partition(":")

    def call(name: str, method: str, *arguments: object) -> dict[str, Any]:
        preload = ["--require", str(GOLDEN / "elsewhere.cjs"), str(GOLDEN / "send.cjs")]
        done = subprocess.run(
            [*node[:1], *preload, str(SDKAPPID), APPKEY, name, method, json.dumps(arguments)],
            env=os.environ | {"NODE_PATH": str(node_modules), "HOST": host, "PORT": port},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)["data"]
        return answer

    return call


@pytest.mark.parametrize("sdk_name", ["python_sdk", "node_sdk"])
def test_official_sdk_sends_and_pulls_what_became_of_it(
    emulator: EmulatorThread, request: pytest.FixtureRequest, sdk_name: str
) -> None:
    """An application's whole path, offline: text and template, one and many, status and reply."""
    sdk: Sdk = request.getfixturevalue(sdk_name)
    one = sdk("SmsSingleSender", "send", 0, "86", "13800000000", "【Acme】你好 👍", "", "one")
    filled = sdk(
        "SmsSingleSender", "sendWithParam", "86", "13800000001", 7839, ["5678"], "Acme", "", ""
    )
    wrong = sdk("SmsSingleSender", "sendWithParam", "86", "13800000001", 1, [], "Acme", "", "")
    many = sdk(
        "SmsMultiSender", "send", 1, "86", ["13900000000", "13800000002"], "hi", "42", "many"
    )
    assert (one["result"], one["ext"], one["fee"]) == (0, "one", 1)
    assert (wrong["result"], wrong["ext"]) == (1014, "")
    assert (many["result"], many["ext"]) == (0, "many")
    assert [detail["result"] for detail in many["detail"]] == [0, 1015]

    page = sdk("SmsStatusPuller", "pullCallback", 100)
    assert [(record["sid"], record["errmsg"]) for record in page["data"]] == [
        (one["sid"], "DELIVRD"),
        (filled["sid"], "MK:0001"),
        (many["detail"][0]["sid"], "DELIVRD"),
    ]
    page = sdk("SmsStatusPuller", "pullReply", 100)
    assert [(record["mobile"], record["text"], record["extend"]) for record in page["data"]] == [
        ("13900000000", "TD", "42")
    ]
    assert [sent.text for sent in emulator.sent] == [
        "【Acme】你好 👍",
        "【Acme】5678 is your code",
        "",
        "【Example】hi",
        "【Example】hi",
    ]


# --- the command ----------------------------------------------------------------------------------


@contextlib.contextmanager
def emulating(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], Peer]]:
    """A running `pullstatus emulate`, its temporary files in `folder`."""
    with subprocess.Popen(
        [COMMAND, "emulate", "--port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment() | {"TMPDIR": str(folder)},
    ) as process:
        try:
            assert process.stdout is not None
            readable, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
            line = process.stdout.readline() if readable else ""
            assert line.startswith("pullstatus emulator listens on http://127.0.0.1:"), line
            with Peer(line.split()[-1]) as peer:
                yield process, peer
        finally:
            process.kill()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "emulate", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env=clean_environment(),
    )


def test_command_emulates_its_scenario_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(run("--example").stdout, encoding="utf-8")
    with emulating(folder, "--scenario", str(scenario)) as (process, peer):
        peer.http.delete("/emulator/faults")
        pages = [peer.pull() for _ in range(3)]
        assert [len(page) for page in pages[:2]] == [100, 100]
        assert len(pages[2]) >= 50
        assert {record["report_status"] for page in pages for record in page} == {"SUCCESS", "FAIL"}
        assert len(peer.pull(REPLY)) >= 20
        assert list(folder.iterdir()) != []
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output[0]) == (0, "")
    lines = [json.loads(line) for line in output[1].splitlines()]
    told = [line for line in lines if line["event"] == "request"]
    assert [line["count"] for line in told][:2] == [100, 100]
    assert {line["path"] for line in told} == {PULL_PATH}
    assert {line["sdkappid"] for line in told} == {SDKAPPID}
    assert "mobile" not in output[1]
    assert list(folder.iterdir()) == []


def test_command_without_a_scenario_waits_to_be_told(tmp_path: Path) -> None:
    with emulating(tmp_path) as (process, peer):
        assert peer.pull() == peer.pull(REPLY) == []
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0


def refusals(tmp_path: Path) -> Sequence[tuple[list[str], str]]:
    bad = tmp_path / "bad.toml"
    bad.write_text("[traffic]\nstatuses_per_s = 'many'\n", encoding="utf-8")
    missing = tmp_path / "missing.toml"
    return [
        (["--scenario", str(bad)], f"{bad}: traffic.statuses_per_s: expected `float`, got `str`"),
        (["--scenario", str(missing)], f"{missing} cannot be read: No such file or directory"),
    ]


def test_command_says_in_a_line_why_it_does_not_start(tmp_path: Path) -> None:
    for arguments, said in refusals(tmp_path):
        done = run(*arguments)
        assert (done.returncode, done.stderr) == (1, f"Error: {said}\n")


def test_serve_knows_neither_sends_nor_the_door(shared: Program) -> None:
    """What the emulator adds is reachable nowhere else."""
    for path in (SENDSMS_PATH, SENDMULTISMS2_PATH):
        assert shared.post(f"{path}?sdkappid=1&random=1", {}).result == 1011
    assert shared.http.get("/emulator").status_code == 404
    assert shared.http.post("/emulator/faults", json={"fault": "cut"}).status_code == 404


# --- several applications, and what came in -------------------------------------------------------

OTHER = App(1400007777, "0123456789abcdef0123456789abcdef")
TWO = {"applications": [{"sdkappid": OTHER.sdkappid, "appkey": OTHER.appkey}]}


def test_applications_have_mailboxes_of_their_own() -> None:
    scenario = SCENARIO | TWO | {"traffic": {"statuses_at_start": 2}}
    with EmulatorThread(scenario) as emulator, Peer(emulator.base_url) as peer:
        assert emulator.appkeys == {APP.sdkappid: APP.appkey, OTHER.sdkappid: OTHER.appkey}
        assert emulator.waiting() == emulator.waiting(sdkappid=OTHER.sdkappid) == 2
        fed = emulator.feed(3, type=1, sdkappid=OTHER.sdkappid)
        also = peer.post(
            "/emulator/feed", {"type": 1, "count": 1, "sdkappid": OTHER.sdkappid}
        ).json()["data"]
        assert emulator.waiting(type=1) == 0

        target, body = OTHER.request(REPLY)
        assert peer.http.post(target, content=body).json()["data"] == fed + also
        assert peer.pull(REPLY) == []

        now = int(time.time())
        sent = peer.post(
            f"{SENDSMS_PATH}?sdkappid={OTHER.sdkappid}&random=1",
            {
                "tel": {"nationcode": "86", "mobile": "13900000001"},
                "type": 0,
                "msg": "hello",
                "time": now,
                "sig": signed(OTHER.appkey, "1", now, ["13900000001"]),
            },
        ).json()
        assert sent["result"] == 0, sent
        assert [one.sdkappid for one in emulator.sent] == [OTHER.sdkappid]
        assert emulator.waiting() == 2
        assert emulator.waiting(sdkappid=OTHER.sdkappid) == 3
        assert emulator.waiting(type=1, sdkappid=OTHER.sdkappid) == 1

        about = peer.http.get("/emulator").json()
        assert about["sdkappid"] == APP.sdkappid
        assert [one["waiting"]["delivery-statuses"] for one in about["applications"]] == [2, 3]
        emulator.reset()
        assert emulator.waiting(sdkappid=OTHER.sdkappid) == 2
        assert emulator.waiting(type=1, sdkappid=OTHER.sdkappid) == 0


def test_a_key_is_its_own_applications_only() -> None:
    with EmulatorThread(SCENARIO | TWO) as emulator, Peer(emulator.base_url) as peer:
        target, body = App(OTHER.sdkappid, APP.appkey).request()
        assert peer.http.post(target, content=body).json()["result"] == 1001
        with pytest.raises(InvalidSetting, match="no application 7"):
            emulator.feed(1, sdkappid=7)
        refused = peer.post("/emulator/feed", {"type": 0, "count": 1, "sdkappid": 7})
        assert refused.status_code == 400
        assert "no application 7" in refused.json()["detail"]


def test_a_duplicate_comes_to_the_application_that_pulled() -> None:
    with EmulatorThread(SCENARIO | TWO) as emulator, Peer(emulator.base_url) as peer:
        emulator.feed(2, sdkappid=OTHER.sdkappid)
        emulator.faults.add("duplicate")
        for _ in range(2):
            target, body = OTHER.request()
            assert len(peer.http.post(target, content=body).json()["data"]) == 2
        assert emulator.waiting() == 0


@pytest.mark.parametrize("bad", ["value", "missing", "type", "object", "json"])
def test_half_bad_push_is_stored_parked_and_a_success(shared: Program, bad: str) -> None:
    """Pushed to the real server: what is good can be pulled, the item that was spoilt is parked."""
    app = shared.spare_app()
    token = shared.create_token(f"carrier-{app.sdkappid}", app=app)
    shared.until(lambda: shared.post(f"/callbacks/{token}", b"").http_status == 200)
    sends = {"delay_s": 0, "callback": f"http://{shared.host}:{shared.port}/callbacks/{token}"}
    numbers = [f"1380000{number:04d}" for number in range(10)]
    others = [f"1390000{number:04d}" for number in range(10)]
    found: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []

    def pulled(statuses: int, replies: int) -> bool:
        found.extend(shared.pull(app).data)
        texts.extend(shared.pull(app, REPLY).data)
        return len(found) >= statuses and len(texts) >= replies

    scenario = {"sends": sends, "replies": {"share": 1, "delay_s": 0}}
    with EmulatorThread(scenario) as emulator, Peer(emulator.base_url) as peer:
        emulator.faults.add("half-bad", bad=bad)
        sent = {one["sid"] for one in peer.send(*numbers, many=True)["detail"]}
        shared.until(lambda: pulled(9, 10))
        assert len({one["sid"] for one in found} & sent) == 9
        assert emulator.faults.hits == 1
        [item] = shared.cli("parked", "list", "--sdkappid", str(app.sdkappid))
        assert item["kind"] == "delivery-statuses"
        peer.send(*others, many=True)  # the fault is spent
        shared.until(lambda: pulled(19, 20))
        assert emulator.waiting() == 0
    assert (len(found), len(texts)) == (19, 20)
    assert len(shared.cli("parked", "list", "--sdkappid", str(app.sdkappid))) == 1


def test_push_without_success_is_repeated_then_dropped() -> None:
    """The ones behind it are pushed all the same; sends are answered meanwhile."""
    with EmulatorThread() as receiver:
        refusing = f"{receiver.base_url}/callbacks/unknown"
        scenario = {"sends": {"delay_s": 0, "callback": refusing}}
        with EmulatorThread(scenario) as emulator, Peer(emulator.base_url) as peer:
            for number in ("13800000010", "13800000011"):
                assert peer.send(number)["result"] == 0
            deadline = time.monotonic() + PATIENCE_S
            while len(receiver.requests) < 6 and time.monotonic() < deadline:
                time.sleep(0.05)
            # Three of each. Their bodies don't tell: a wrong token is refused before they are read.
            assert [one.http_status for one in receiver.requests] == [401] * 6
            assert emulator.waiting() == 0


def test_callback_that_is_no_address_is_refused() -> None:
    for wrong in ("", "callbacks/x", "http://", "ftp://127.0.0.1/x"):
        with pytest.raises(InvalidSetting, match=r"sends\.callback"):
            EmulatorThread({"sends": {"callback": wrong}})


def test_two_applications_of_one_number_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="different sdkappids"):
        EmulatorThread({"applications": [{"sdkappid": SDKAPPID, "appkey": APPKEY}]})


@pytest.mark.parametrize("path", ["/callbacks//{}", "//callbacks/{}/x", "/in//{}/x", "//in/{}/x"])
def test_a_token_behind_a_slash_too_many_is_not_listed(emulator: EmulatorThread, path: str) -> None:
    """As where an address ends with one, and the way in is put behind it."""
    address = urlsplit(emulator.base_url)
    with contextlib.closing(HTTPConnection(address.hostname or "", address.port)) as http:
        http.request("POST", path.format("pst_secret"), b"{}")
        http.getresponse().read()
    [request] = emulator.requests
    assert request.path == path.format("...")


def test_what_came_in_is_listed_with_what_became_of_it(
    emulator: EmulatorThread, peer: Peer
) -> None:
    emulator.feed(2)
    assert len(peer.pull(Idempotency_Key="mine")) == 2
    target, body = APP.request(STATUS, 0)
    assert peer.http.post(target, content=body).json()["result"] != 0
    peer.send("13900000001")
    peer.http.get("/nowhere")
    peer.http.post("/callbacks/pst_secret", content=b"\xff{")
    peer.http.post("/in/pst_secret/kannel", content=b"x")
    emulator.faults.add("cut", call="pullstatus")
    with pytest.raises(httpx.TransportError):
        peer.pull()
    emulator.faults.add("http", http_status=503, call="pullstatus")
    assert peer.pull_raw().status_code == 503

    pulled, refused, sent, nowhere, callback, gateway, cut, failed = emulator.requests
    assert json.loads(failed.body)["type"] == 0  # once, also while a fault is armed
    assert (pulled.method, pulled.path, pulled.sdkappid) == ("POST", PULL_PATH, SDKAPPID)
    assert (pulled.http_status, pulled.result, pulled.count) == (200, 0, 2)
    assert (pulled.key, pulled.fault) == ("mine", None)
    assert f"sdkappid={SDKAPPID}" in pulled.query
    assert json.loads(pulled.body)["type"] == 0
    assert refused.result not in (0, None)
    assert (sent.path, sent.result) == (SENDSMS_PATH, 0)
    assert json.loads(sent.body)["tel"]["mobile"] == "13900000001"
    assert (nowhere.path, nowhere.http_status, nowhere.result) == ("/nowhere", 404, None)
    assert (callback.path, callback.http_status) == ("/callbacks/...", 401)
    assert (gateway.path, gateway.http_status) == ("/in/.../kannel", 401)
    assert (cut.fault, cut.http_status) == ("cut", None)
    assert (failed.fault, failed.http_status) == ("http", 503)

    listed = peer.http.get("/emulator/requests").json()
    assert listed["count"] == 8
    assert listed["data"][0] == msgspec.to_builtins(pulled)
    assert peer.http.delete("/emulator/requests").status_code == 204
    assert emulator.requests == []


def test_a_request_that_waits_keeps_its_key(emulator: EmulatorThread, peer: Peer) -> None:
    assert peer.pull(idempotency_key="mine", pullstatus_wait="1") == []
    [request] = emulator.requests
    assert request.key == "mine"


def test_requests_are_bounded(emulator: EmulatorThread, peer: Peer) -> None:
    """In number and in what is kept of each."""
    size = limits.REQUEST_BODY_BYTES_KEPT
    peer.http.post(SENDSMS_PATH, content=b"x" * min(3 * size, limits.PULL_BODY_BYTES_MAX))
    assert len(emulator.requests[0].body) == limits.REQUEST_BODY_BYTES_KEPT
    held = emulator._do(lambda emulation: emulation.requests.maxlen)
    assert held == limits.REQUESTS_MAX


def test_a_played_gateway_calls_again_until_it_is_taken(
    emulator: EmulatorThread, peer: Peer
) -> None:
    """As its own rules are: Kannel after a 503, and Jasmin no more after a 404."""
    with Refusing(503, 503, 200, 404) as refusing:
        url = f"http://127.0.0.1:{refusing.server_port}/in/x/kannel"
        play = {"gateway": "kannel", "url": url, "replies": 0, "pace": 1000}
        made = peer.http.post("/emulator/gateways", json=play)
        assert made.status_code == 201
        [call] = _played(peer)
        assert (call["tries"], call["http_status"], call["state"]) == (3, 200, "taken")
        assert len(set(refusing.asked)) == 1
        peer.http.post("/emulator/gateways", json=play | {"gateway": "jasmin"})
        call = _played(peer)[-1]
        assert (call["tries"], call["http_status"], call["state"]) == (1, 404, "given up")
    for wrong, said in (
        ({"gateway": "karix"}, "gateway must be one of"),
        ({"url": "ftp://a"}, "url must begin"),
        ({"url": "http://[x"}, "url is no address"),
        ({"url": "http://a:99999999"}, "url is no address"),
        ({"pace": 0}, "pace"),
    ):
        refused = peer.http.post("/emulator/gateways", json=play | wrong)
        assert refused.status_code == 400
        assert said in refused.json()["detail"]
    assert peer.http.delete("/emulator/gateways").status_code == 204
    assert peer.http.get("/emulator/gateways").json()["calls"] == []


def _played(peer: Peer) -> list[dict[str, Any]]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        calls: list[dict[str, Any]] = peer.http.get("/emulator/gateways").json()["calls"]
        if all(call["state"] != "waits" for call in calls):
            return calls
        assert time.monotonic() < deadline, calls
        time.sleep(0.02)


class Refusing(ThreadingHTTPServer):
    """Answers with one HTTP status after the other; in a thread within its `with` block."""

    def __init__(self, *answers: int) -> None:
        super().__init__(("127.0.0.1", 0), _Refuses)
        self.answers = list(answers)
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self.server_close()


class _Refuses(BaseHTTPRequestHandler):
    server: Refusing

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        self.send_response(self.server.answers.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""
