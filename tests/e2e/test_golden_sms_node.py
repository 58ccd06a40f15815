"""The official Node SDK of API 3.0, unchanged, against a running server.

It signs what it calls in a way of its own: the first label of the endpoint is the service, and the
host lacks its port. How it gets here is said in conftest.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import pytest

from tests.harness import PATIENCE_S, REPLY, STATUS, App, Program, hours_around, reply, status

GOLDEN: Final = Path(__file__).with_name("golden")

Answers = list[dict[str, Any]]
Asking = Callable[..., list[Answers]]
"""What the SDK hands its caller, by client and call: `response`, or the `error` that it throws."""

UTC8: Final = timezone(timedelta(hours=8))
NAMES_2021: Final = {"number": "SmsSdkAppId", "begin": "BeginTime"}
NAMES_2019: Final = {"number": "SmsSdkAppid", "begin": "SendDateTime"}
PULLS: Final = {STATUS: "PullSmsSendStatus", REPLY: "PullSmsReplyStatus"}


@pytest.fixture
def pair(shared: Program, app: App) -> dict[str, str]:
    """A secret key pair that may sign in every way."""
    made = shared.cli("secret", "create", "--app", str(app.sdkappid), "--v1", "--unsigned-payload")
    return {"secretId": made["secret_id"], "secretKey": made["secret_key"]}


@pytest.fixture
def ask(shared: Program, node: list[str], node_modules: Path) -> Asking:
    def run(*clients: dict[str, object]) -> list[Answers]:
        done = subprocess.run(
            [node[0], str(GOLDEN / "sms.cjs")],
            env=os.environ | {"NODE_PATH": str(node_modules)},
            input=json.dumps(clients),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers: list[Answers] = json.loads(done.stdout)
        return answers

    return run


def client(pair: dict[str, str], shared: Program, *calls: object, **how: str) -> dict[str, object]:
    """What one client of the SDK is told: by default TC3, POST, 2021, and the server's address."""
    usual = {"version": "v20210111", "reqMethod": "POST", "signMethod": "TC3-HMAC-SHA256"}
    usual |= {"endpoint": f"{shared.host}:{shared.port}", "region": "ap-guangzhou"}
    return usual | pair | how | {"calls": calls}


def pull(app: App, limit: int = 100, *, key: str | None = None, **headers: str) -> object:
    """A call for a page, with headers by names with underscores for dashes."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        headers["Idempotency-Key"] = key
    return [PULLS[STATUS], {"SmsSdkAppId": str(app.sdkappid), "Limit": limit}, headers]


def test_it_is_understood_whatever_it_signs(
    shared: Program, app: App, pair: dict[str, str], ask: Asking
) -> None:
    """By address, by localhost and by name; POST, GET, and the two older signatures."""
    port = shared.port
    ways = [
        {"endpoint": endpoint, "reqMethod": method}
        for endpoint in (f"127.0.0.1:{port}", f"localhost:{port}", f"mailbox.example.com:{port}")
        for method in ("POST", "GET")
    ]
    ways += [
        {"signMethod": sign, "reqMethod": method}
        for sign in ("HmacSHA1", "HmacSHA256")
        for method in ("POST", "GET")
    ]
    shared.feed(app, [status(number) for number in range(len(ways))])
    found = ask(*(client(pair, shared, pull(app, 1), **way) for way in ways))
    assert [answer for [answer] in found if "error" in answer] == []
    serials = [answer["response"]["PullSmsSendStatusSet"][0]["SerialNo"] for [answer] in found]
    assert serials == [f"8:{number}" for number in range(len(ways))]
    assert len({answer["response"]["RequestId"] for [answer] in found}) == len(ways)


def test_each_version_hands_over_its_members(
    shared: Program, app: App, pair: dict[str, str], ask: Asking
) -> None:
    """By pulls, and by what asks of a number; an array even where there is nothing."""
    now_s = int(time.time())
    received = datetime.fromtimestamp(now_s, UTC8).strftime("%Y-%m-%d %H:%M:%S")
    shared.feed(app, [status(1, user_receive_time=received, ext="session")] * 2)
    shared.feed(app, [reply(1, time=now_s, text="😀 ё", extend="42")] * 2)
    found = {}
    for version, names in (("v20210111", NAMES_2021), ("v20190711", NAMES_2019)):
        number, begin = names["number"], names["begin"]
        asked = {number: str(app.sdkappid)}
        of_one = asked | {"PhoneNumber": "+8613800000001", begin: now_s - 60, "Offset": 0}
        calls = [[action, asked | {"Limit": 1}, {}] for action in PULLS.values()]
        calls += [[f"{PULLS[STATUS]}ByPhoneNumber", of_one | {"Limit": 10}, {}]]
        calls += [[f"{PULLS[STATUS]}ByPhoneNumber", of_one | {"Limit": 10, "Offset": 1}, {}]]
        calls += [[f"{PULLS[REPLY]}ByPhoneNumber", of_one | {"Limit": 10}, {}]]
        [answers] = ask(client(pair, shared, *calls, version=version))
        assert [answer for answer in answers if "error" in answer] == []
        found[version] = [
            next(value for name, value in answer["response"].items() if name.endswith("Set"))
            for answer in answers
        ]
    e164 = "+8613800000001"
    ours = {"SerialNo": "8:1", "ReportStatus": "SUCCESS", "Description": "DELIVRD"}
    new_status = ours | {
        "UserReceiveTime": now_s,
        "CountryCode": "86",
        "SubscriberNumber": e164[3:],
        "PhoneNumber": e164,
        "SessionContext": "session",
    }
    old_status = ours | {
        "UserReceiveTime": received,
        "UserReceiveUnixTime": now_s,
        "NationCode": "86",
        "PurePhoneNumber": e164,
        "PhoneNumber": e164[3:],
    }
    e164 = "+8613900000001"
    ours = {"ExtendCode": "42", "ReplyContent": "😀 ё", "PhoneNumber": e164}
    new_reply = ours | {
        "CountryCode": "86",
        "SubscriberNumber": e164[3:],
        "SignName": "Example",
        "ReplyTime": now_s,
    }
    old_reply = ours | {
        "NationCode": "86",
        "Sign": "Example",
        "ReplyTime": received,
        "ReplyUnixTime": now_s,
    }
    assert found["v20210111"] == [[new_status], [new_reply], [new_status] * 2, [new_status], []]
    assert found["v20190711"] == [[old_status], [old_reply], [old_status] * 2, [old_status], []]


def test_counts_of_hours(shared: Program, app: App, pair: dict[str, str], ask: Asking) -> None:
    """As texts in one version, as numbers in the other; sends only once somebody has told them."""
    shared.feed(app, [status(1), status(2, report_status="FAIL", errmsg="MK:0001")])
    begin, end = hours_around()
    new = {"SmsSdkAppId": str(app.sdkappid), "Limit": 0, "Offset": 0}
    new |= {"BeginTime": str(begin), "EndTime": str(end)}
    old = {"SmsSdkAppid": str(app.sdkappid), "Limit": 0, "Offset": 0}
    old |= {"StartDateTime": begin, "EndDataTime": end}
    actions = ("CallbackStatusStatistics", "SendStatusStatistics")
    both = ask(
        client(pair, shared, *([action, new, {}] for action in actions)),
        client(pair, shared, *([action, old, {}] for action in actions), version="v20190711"),
    )
    for counted, untold in both:
        counts = counted["response"]["CallbackStatusStatistics"]
        told = {name: count for name, count in counts.items() if count}
        assert told.pop("InternalErrorCount", 0) + told.pop("InvalidNumberCount", 0) == 1
        assert told == {
            "CallbackCount": 2,
            "RequestSuccessCount": 2,
            "CallbackFailCount": 1,
            "CallbackSuccessCount": 1,
        }
        assert untold["error"]["code"] == "UnsupportedOperation"


def test_a_key_in_its_headers_brings_the_same_page(
    shared: Program, app: App, pair: dict[str, str], ask: Asking
) -> None:
    """So that a call which is repeated loses nothing, whatever else the SDK makes anew for it."""
    shared.feed(app, [status(number) for number in range(6)])
    [answers, by_get] = ask(
        client(pair, shared, pull(app, 2, key="page-1"), pull(app, 2, key="page-1"), pull(app, 2)),
        client(pair, shared, pull(app, 2, key="page-1"), pull(app, 2), reqMethod="GET"),
    )
    pages = [serials(answer) for answer in (*answers, *by_get)]
    first, second, third = (["8:0", "8:1"], ["8:2", "8:3"], ["8:4", "8:5"])
    assert pages == [first, first, second, first, third]
    request_id = answers[2]["response"]["RequestId"]
    [row] = shared.cli("pulls", "list", "--request-id", request_id)
    assert (row["sdkappid"], row["first"], row["records"]) == (app.sdkappid, 3, 2)
    shown = shared.cli("pulls", "show", row["pull_id"])
    assert shown["request_id"] == request_id


def test_a_reader_in_its_headers_has_a_page_until_it_is_acknowledged(
    shared: Program, app: App, pair: dict[str, str], ask: Asking
) -> None:
    """The SDK hides the pull's id; the operator finds that by the RequestId, which it shows."""
    shared.feed(app, [status(number) for number in range(6)])
    mine, other = {"Pullstatus_Reader": "billing"}, {"Pullstatus_Reader": "other"}
    again = [pull(app, 2, **mine), pull(app, 2, **mine), pull(app, 2, **other)]
    [answers, by_get] = ask(
        client(pair, shared, *again), client(pair, shared, pull(app, 2, **mine), reqMethod="GET")
    )
    first, second, third = (["8:0", "8:1"], ["8:2", "8:3"], ["8:4", "8:5"])
    pages = [serials(answer) for answer in (*answers, *by_get)]
    assert pages == [first, first, second, first]
    request_id = answers[0]["response"]["RequestId"]
    [row] = shared.cli("pulls", "list", "--request-id", request_id)
    done = {"Pullstatus_Ack": row["pull_id"]}
    calls = [pull(app, 2, **mine, **done, Pullstatus_Take="0"), pull(app, 2, **mine, **done)]
    calls += [pull(app, 2, **other, **done), pull(app, 2, Pullstatus_Wait="x")]
    [[nothing, next_page, *refused]] = ask(client(pair, shared, *calls))
    assert [serials(answer) for answer in (nothing, next_page)] == [[], third]
    for answer, name in zip(refused, ("Pullstatus-Ack", "Pullstatus-Wait"), strict=True):
        assert answer["error"]["code"] == "InvalidParameterValue"
        assert name in answer["error"]["message"]


def test_its_errors_say_what_is_wrong(
    shared: Program, app: App, pair: dict[str, str], ask: Asking
) -> None:
    """With a code to act on, the request's id, and the trace that it was sent with."""
    other = shared.spare_app()
    found = ask(
        client(pair | {"secretKey": "0" * 32}, shared, pull(app)),
        client(pair | {"secretId": f"AKID{'0' * 32}"}, shared, pull(app)),
        client(pair, shared, pull(other), pull(App(1_300_000_000, "")), pull(app, 101)),
        client(pair, shared, ["SendStatusStatistics", {"SmsSdkAppId": str(app.sdkappid)}, {}]),
    )
    errors = [answer["error"] for answers in found for answer in answers]
    assert [error["code"] for error in errors] == [
        "AuthFailure.SignatureFailure",
        "AuthFailure.SecretIdNotFound",
        "UnauthorizedOperation.SmsSdkAppIdVerifyFail",
        "UnauthorizedOperation.SmsSdkAppIdVerifyFail",
        "InvalidParameterValue",
        "MissingParameter",
    ]
    for error in errors:
        assert error["name"] == "TencentCloudSDKHttpException"
        assert error["message"]
        assert error["requestId"]
        assert error["traceId"]


def serials(answer: dict[str, Any]) -> list[str]:
    return [record["SerialNo"] for record in answer["response"]["PullSmsSendStatusSet"]]
