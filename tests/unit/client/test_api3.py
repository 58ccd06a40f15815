"""The same client with a secret key: API 3.0 in place of the old call."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from pullstatus import (
    AnswerMalformed,
    CallInvalid,
    CallRefused,
    ClientError,
    ClockSkewed,
    DeliveryStatus,
    InvalidArgument,
    Kind,
    NotPermitted,
    Reply,
    ServiceFailed,
    SignatureRefused,
    TooFrequent,
    UnknownSdkappid,
)
from pullstatus.wire.about import about
from pullstatus.wire.api3.signing import Request, fits, read_authorization
from tests.unit.client.conftest import APPKEY, KEYED, NOW_S, SDKAPPID, Hands

ID = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE"
KEY = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
PAIR: dict[str, Any] = {"appkey": None, "secret_id": ID, "secret_key": KEY}
LOCAL = "http://127.0.0.1:8080"

STATUS = {
    "UserReceiveTime": 1620734188,
    "CountryCode": "86",
    "SubscriberNumber": "13800000001",
    "PhoneNumber": "+8613800000001",
    "SerialNo": "8:1",
    "ReportStatus": "SUCCESS",
    "Description": "DELIVRD",
    "SessionContext": "",
}
REPLY = {
    "ExtendCode": "",
    "CountryCode": "86",
    "SubscriberNumber": "13800000001",
    "PhoneNumber": "+8613800000001",
    "SignName": "Example",
    "ReplyContent": "TD \U0001f44d",
    "ReplyTime": 1620734188,
}


def answer(headers: dict[str, str] | None = None, **members: object) -> httpx.Response:
    body = {"Response": {**members, "RequestId": "eac6b301-a322-493a-8e36-83b295459397"}}
    return httpx.Response(200, headers=headers, content=json.dumps(body).encode())


def statuses(*records: object, headers: dict[str, str] | None = None) -> httpx.Response:
    return answer(headers, PullSmsSendStatusSet=list(records))


def refusal(code: str) -> httpx.Response:
    return answer(Error={"Code": code, "Message": "no"})


def is_signed(request: httpx.Request, key: str = KEY) -> bool:
    """Whether the service that got it would believe it, by what it sees of it."""
    headers = dict(request.headers.raw)
    named = {name.lower(): value for name, value in headers.items()}
    seen = Request(request.method, request.url.query, named, request.content)
    given = read_authorization(named[b"authorization"])
    return given.secret_id == ID and fits(seen, given, key)


# --- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        (LOCAL, "127.0.0.1:8080"),
        ("https://sms.tencentcloudapi.com", "sms.tencentcloudapi.com"),
        ("https://Mailbox.Example:443/behind/", "mailbox.example"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://b\u00fccher.example", "xn--bcher-kva.example"),
        ("http://stra\u00dfe.example:80", "xn--strae-oqa.example"),  # IDNA 2003 has "strasse"
    ],
)
def test_pull_is_the_documented_one(client: Hands, base_url: str, host: str) -> None:
    client.over(statuses(STATUS), base_url=base_url, **PAIR)
    client.pull(max=7)
    [request], [body] = client.requests, client.bodies
    assert body == {"SmsSdkAppId": str(SDKAPPID), "Limit": 7}
    assert request.url.path == ("/behind/" if "behind" in base_url else "/")
    assert [request.headers[name] for name in ("Host", "Content-Type", "X-TC-Action")] == [
        host,
        "application/json",
        "PullSmsSendStatus",
    ]
    assert request.headers["X-TC-Version"] == "2021-01-11"
    assert request.headers["X-TC-Region"] == "ap-guangzhou"
    assert request.headers["X-TC-Timestamp"] == str(int(NOW_S))
    assert request.headers["Idempotency-Key"]
    assert request.url.netloc.decode() == host
    assert is_signed(request)
    assert not is_signed(request, KEY + "0")


def test_each_attempt_is_signed_anew_and_has_the_same_key(client: Hands) -> None:
    times = iter(range(100))
    client.over(
        httpx.ReadError("reset"),
        statuses(STATUS, headers=KEYED),
        keyed=True,
        clock=lambda: NOW_S + next(times),
        **PAIR,
    )
    assert len(client.pull()) == 1
    first, second = client.requests
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.headers["Authorization"] != second.headers["Authorization"]
    assert is_signed(first)
    assert is_signed(second)


def test_no_two_calls_have_one_signature(client: Hands) -> None:
    """Not those of one second either: TC3 has no nonce, and a strict service takes each once."""
    kinds = (Kind.DELIVERY_STATUS, Kind.DELIVERY_STATUS, Kind.REPLY)
    client.over(*(answer(PullSmsSendStatusSet=[], PullSmsReplyStatusSet=[]) for _ in kinds), **PAIR)
    for kind in kinds:
        client.pull(kind)
    assert all(is_signed(request) for request in client.requests)
    assert len({request.headers["X-TC-Timestamp"] for request in client.requests}) == 1
    assert len({request.headers["Authorization"] for request in client.requests}) == len(kinds)


def test_reader_says_its_name_and_acknowledges(client: Hands) -> None:
    client.about = [httpx.Response(200, content=about("0.2.0"))]
    words = {"Pullstatus-Reader": "r", "Pullstatus-Pull-Id": "1-0-1", "Pullstatus-Waiting": "0"}
    client.over(
        statuses(STATUS, headers=words),
        statuses(headers={**words, "Pullstatus-Pull-Id": ""}),
        reader="r",
        **PAIR,
    )
    assert list(client.batches(follow=False).drain()) == [["8:1"]]
    assert [request.headers.get("Pullstatus-Ack") for request in client.requests] == [None, "1-0-1"]
    assert all(is_signed(request) for request in client.requests)


# --- what is understood ---------------------------------------------------------------------------


def test_statuses_are_those_of_the_old_call(client: Hands) -> None:
    sent = STATUS | {"SessionContext": "mine", "New": [1]}
    client.over(statuses(STATUS, sent), **PAIR)
    one, other = client.pull()
    assert isinstance(one, DeliveryStatus)
    assert one.members == {
        "user_receive_time": "2021-05-11 19:56:28",
        "nationcode": "86",
        "mobile": "13800000001",
        "report_status": "SUCCESS",
        "errmsg": "DELIVRD",
        "description": "",
        "sid": "8:1",
    }
    assert one.delivered
    assert one.received_at is not None
    assert one.received_at.timestamp() == 1620734188
    assert isinstance(other, DeliveryStatus)
    assert (other.ext, other.members["New"]) == ("mine", [1])


def test_replies_are_those_of_the_old_call(client: Hands) -> None:
    client.over(answer(PullSmsReplyStatusSet=[REPLY]), **PAIR)
    [one] = client.pull(Kind.REPLY)
    assert isinstance(one, Reply)
    assert one.members == {
        "nationcode": "86",
        "mobile": "13800000001",
        "text": "TD \U0001f44d",
        "sign": "Example",
        "time": 1620734188,
        "extend": "",
    }
    assert one.json.isascii()
    assert client.requests[0].headers["X-TC-Action"] == "PullSmsReplyStatus"


@pytest.mark.parametrize("member", ["CountryCode", "SubscriberNumber"])
@pytest.mark.parametrize("odd", [86, None, [], {}])
@pytest.mark.parametrize("whole", [{}, {"PhoneNumber": None}, {"PhoneNumber": "+86138"}])
def test_a_number_that_is_no_text_is_kept(
    client: Hands, member: str, odd: object, whole: dict[str, object]
) -> None:
    parts = {"CountryCode": "86", "SubscriberNumber": "13800000001", member: odd}
    client.over(statuses({**parts, **whole}), **PAIR)
    (one,) = client.pull()
    kept = {"nationcode": parts["CountryCode"], "mobile": parts["SubscriberNumber"], **whole}
    assert kept.items() <= one.members.items()
    assert ("PhoneNumber" in one.members) is bool(whole)


@pytest.mark.parametrize("odd", ["2021-05-11 19:56:28", None, 1e300, 10**18, True, {"a": 1}])
def test_what_is_odd_is_kept(client: Hands, odd: object) -> None:
    """Records are gone from the service: none is refused for what is in it."""
    client.over(statuses({**STATUS, "UserReceiveTime": odd, "PhoneNumber": "+1"}, {}), **PAIR)
    one, empty = client.pull()
    assert isinstance(one, DeliveryStatus)
    assert one.members["user_receive_time"] == odd
    assert one.members["PhoneNumber"] == "+1"
    assert isinstance(empty, DeliveryStatus)
    assert empty.sid == ""


@pytest.mark.parametrize("sent", [statuses(), answer(PullSmsSendStatusSet=None), answer()])
def test_no_set_is_an_empty_page(client: Hands, sent: httpx.Response) -> None:
    client.over(sent, **PAIR)
    assert not client.pull()


@pytest.mark.parametrize(
    "content",
    [
        b'{"result":0,"errmsg":"ok","type":0,"count":0,"data":[]}',
        b'{"Response":[]}',
        b'{"Response":{"PullSmsSendStatusSet":{}}}',
        b'{"Response":{"PullSmsSendStatusSet":[1]}}',
    ],
)
def test_what_is_no_answer_of_it_is_malformed(client: Hands, content: bytes) -> None:
    client.over(httpx.Response(200, content=content), attempts_max=1, **PAIR)
    with pytest.raises(AnswerMalformed) as raised:
        client.pull()
    assert raised.value.content == content
    assert raised.value.may_have_consumed


@pytest.mark.parametrize(
    ("code", "error", "result", "fix"),
    [
        ("AuthFailure.SecretIdNotFound", SignatureRefused, 1001, "secret_id"),
        ("AuthFailure.SignatureFailure", SignatureRefused, 1001, "secret_key"),
        ("AuthFailure.SignatureExpire", ClockSkewed, 1021, "clock"),
        ("UnauthorizedOperation.SmsSdkAppIdVerifyFail", UnknownSdkappid, 1019, "read it"),
        ("UnauthorizedOperation.RequestIpNotInWhitelist", NotPermitted, 1009, "allow-list"),
        ("UnauthorizedOperation.RequestPermissionDeny", NotPermitted, 1006, "pull feature"),
        ("UnauthorizedOperation.SdkAppIdIsDisabled", NotPermitted, 1020, "switched off"),
        ("UnauthorizedOperation.ServiceSuspendDueToArrears", NotPermitted, 1033, "arrears"),
        ("InvalidParameterValue", CallInvalid, 1004, "which part"),
        ("MissingParameter", CallInvalid, 1004, "which part"),
        ("InvalidAction", CallInvalid, 1011, "base_url"),
        ("NoSuchVersion", CallInvalid, 1011, "base_url"),
        ("SomethingNew.Of2031", CallRefused, None, "not documented"),
    ],
)
def test_refusals_are_those_of_the_old_call(
    client: Hands, code: str, error: type[CallRefused], result: int | None, fix: str
) -> None:
    client.over(refusal(code), **PAIR)
    with pytest.raises(CallRefused) as raised:
        client.pull()
    assert type(raised.value) is error
    assert (raised.value.result, raised.value.errmsg) == (result, f"{code} no")
    assert fix in raised.value.fix
    assert not raised.value.may_have_consumed


def test_too_frequent_is_waited_out(client: Hands) -> None:
    client.over(refusal("RequestLimitExceeded"), statuses(STATUS), **PAIR)
    assert len(client.pull()) == 1
    client.over(refusal("RequestLimitExceeded"), attempts_max=1, **PAIR)
    with pytest.raises(TooFrequent):
        client.pull()


def test_trouble_of_a_service_that_is_not_ours_leaves_a_doubt(client: Hands) -> None:
    client.over(refusal("InternalError"), **PAIR)
    with pytest.raises(ServiceFailed) as raised:
        client.pull()
    assert raised.value.may_have_consumed


# --- what is given --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"secret_id": ID}, "secret_key must be a str"),
        ({"secret_key": KEY}, "secret_id must be"),
        ({"secret_id": ID, "secret_key": KEY, "appkey": APPKEY}, "appkey is for the old call"),
        ({"secret_id": "", "secret_key": KEY}, "secret_id must be"),
        ({"secret_id": "a/b", "secret_key": KEY}, "secret_id must be"),
        ({"secret_id": "a,b", "secret_key": KEY}, "secret_id must be"),
        ({"secret_id": ID + "\n", "secret_key": KEY}, "secret_id must be"),
        ({"secret_id": "A" * 65, "secret_key": KEY}, "secret_id must be"),
        ({"secret_id": ID, "secret_key": KEY + "\n"}, "secret_key has a blank or line end"),
        ({"secret_id": ID, "secret_key": ""}, "secret_key is empty"),
    ],
)
def test_wrong_pairs_are_named_and_not_repeated(
    client: Hands, wrong: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidArgument, match=text) as raised:
        client.over(**(PAIR | {"secret_id": None, "secret_key": None} | wrong))
    assert ID not in str(raised.value)
    assert KEY not in str(raised.value)


def test_no_text_holds_a_key(client: Hands) -> None:
    client.over(refusal("AuthFailure.SignatureFailure"), **PAIR)
    with pytest.raises(ClientError) as raised:
        client.pull()
    for text in (repr(client.client), str(raised.value), repr(raised.value)):
        assert KEY not in text
        assert ID not in text
