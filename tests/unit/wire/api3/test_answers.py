"""Answers of API 3.0: what the SDKs need, and every member by its name in either version."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.client.faces import Sent
from pullstatus.client.faces.api3 import Api3
from pullstatus.records import DeliveryStatus, Kind, Reply, encode
from pullstatus.records.values import utc8
from pullstatus.wire.api3 import answers
from pullstatus.wire.api3.answers import page
from pullstatus.wire.api3.requests import Version
from tests.harness import reply, status

NAME = "eac6b301-a322-493a-8e36-83b295459397"
STATUS = {
    "user_receive_time": "2021-05-11 19:56:28",
    "nationcode": "86",
    "mobile": "13800000000",
    "report_status": "FAIL",
    "errmsg": "MK:0001",
    "description": "number does not exist",
    "sid": "5000:1",
    "unknown": [1],
}
REPLY = {
    "nationcode": "86",
    "mobile": "13800000000",
    "text": "TD \U0001f44d",
    "sign": "Example",
    "time": 1620734188,
    "extend": "12",
}


def response(answer: bytes) -> dict[str, Any]:
    assert answer.isascii()
    decoded = json.loads(answer)
    assert list(decoded) == ["Response"]
    found: dict[str, Any] = decoded["Response"]
    assert found.pop("RequestId") == NAME
    return found


@pytest.mark.parametrize(
    ("version", "due"),
    [
        (
            Version.V2021,
            {
                "UserReceiveTime": 1620734188,
                "CountryCode": "86",
                "SubscriberNumber": "13800000000",
                "PhoneNumber": "+8613800000000",
                "SerialNo": "5000:1",
                "ReportStatus": "FAIL",
                "Description": "MK:0001",
                "SessionContext": "",
            },
        ),
        (
            Version.V2019,
            {
                "UserReceiveTime": "2021-05-11 19:56:28",
                "UserReceiveUnixTime": 1620734188,
                "NationCode": "86",
                "PurePhoneNumber": "+8613800000000",
                "PhoneNumber": "13800000000",
                "SerialNo": "5000:1",
                "ReportStatus": "FAIL",
                "Description": "MK:0001",
            },
        ),
    ],
)
def test_statuses_have_the_names_of_their_version(version: Version, due: dict[str, object]) -> None:
    entries = json.dumps(STATUS).encode()
    answer = page(version, Kind.DELIVERY_STATUS, b"%b,%b" % (entries, entries), NAME)
    assert response(answer) == {"PullSmsSendStatusSet": [due, due]}


@pytest.mark.parametrize(
    ("version", "due"),
    [
        (
            Version.V2021,
            {
                "ExtendCode": "12",
                "CountryCode": "86",
                "SubscriberNumber": "13800000000",
                "PhoneNumber": "+8613800000000",
                "SignName": "Example",
                "ReplyContent": "TD \U0001f44d",
                "ReplyTime": 1620734188,
            },
        ),
        (
            Version.V2019,
            {
                "ExtendCode": "12",
                "NationCode": "86",
                "PhoneNumber": "+8613800000000",
                "Sign": "Example",
                "ReplyContent": "TD \U0001f44d",
                "ReplyTime": "2021-05-11 19:56:28",
                "ReplyUnixTime": 1620734188,
            },
        ),
    ],
)
def test_replies_have_the_names_of_their_version(version: Version, due: dict[str, object]) -> None:
    answer = page(version, Kind.REPLY, json.dumps(REPLY).encode(), NAME)
    assert response(answer) == {"PullSmsReplyStatusSet": [due]}


def test_session_text_comes_back_in_2021() -> None:
    answer = page(Version.V2021, Kind.DELIVERY_STATUS, json.dumps({"ext": "mine"}).encode(), NAME)
    assert response(answer)["PullSmsSendStatusSet"][0]["SessionContext"] == "mine"


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("kind", Kind)
def test_no_records_are_an_empty_array(version: Version, kind: Kind) -> None:
    [found] = response(page(version, kind, b"", NAME).replace(b"\0", b"")).values()
    assert found == []


@pytest.mark.parametrize("time_s", [0, 253_402_300_799])
def test_times_at_the_edges_are_told(time_s: int) -> None:
    answer = page(Version.V2019, Kind.REPLY, json.dumps({"time": time_s}).encode(), NAME)
    [found] = response(answer)["PullSmsReplyStatusSet"]
    assert found["ReplyUnixTime"] == time_s
    assert found["ReplyTime"] in ("1970-01-01 08:00:00", "9999-12-31 23:59:59")


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("time", ["0001-01-01 00:00:00", "1970-01-01 00:00:00", "a wrong one"])
def test_no_time_is_negative(version: Version, time: str) -> None:
    """The SDKs of Go, .NET and C++ read unsigned ones, and lose the page with one below 0."""
    record = json.dumps({**STATUS, "user_receive_time": time}).encode()
    [found] = response(page(version, Kind.DELIVERY_STATUS, record, NAME))["PullSmsSendStatusSet"]
    at_s = "UserReceiveTime" if version is Version.V2021 else "UserReceiveUnixTime"
    assert found[at_s] == 0
    if version is Version.V2019:
        assert found["UserReceiveTime"] == time


def test_counts_have_their_names() -> None:
    assert response(answers.sends(30, 9, 7, NAME)) == {
        "SendStatusStatistics": {"FeeCount": 7, "RequestCount": 30, "RequestSuccessCount": 9}
    }
    due = {
        "CallbackCount": 21,
        "RequestSuccessCount": 40,
        "CallbackFailCount": 15,
        "CallbackSuccessCount": 6,
        "InternalErrorCount": 1,
        "InvalidNumberCount": 2,
        "ShutdownErrorCount": 3,
        "BlackListCount": 4,
        "FrequencyLimitCount": 5,
    }
    told = answers.receipts(40, 6, (1, 2, 3, 4, 5), NAME)
    assert response(told) == {"CallbackStatusStatistics": due}
    told = answers.receipts(None, 6, (1, 2, 3, 4, 5), NAME)
    assert response(told) == {"CallbackStatusStatistics": due | {"RequestSuccessCount": 21}}


def test_failures_have_code_text_and_name() -> None:
    answer = answers.failure("InvalidAction", "caf\xe9 \ud800", NAME)
    assert response(answer) == {"Error": {"Code": "InvalidAction", "Message": "caf\xe9 ?"}}


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DIGITS = st.text("0123456789", min_size=1, max_size=6)
STATUSES = st.builds(
    DeliveryStatus,
    user_receive_time=st.integers(0, 253_402_271_999).map(utc8),
    nationcode=DIGITS,
    mobile=DIGITS,
    report_status=st.sampled_from(["SUCCESS", "FAIL"]),
    errmsg=TEXTS,
    description=TEXTS,
    sid=TEXTS.filter(bool),
    ext=TEXTS,
)
REPLIES = st.builds(
    Reply,
    nationcode=DIGITS,
    mobile=DIGITS,
    text=TEXTS,
    sign=TEXTS,
    time=st.integers(0, 253_402_300_799),
    extend=TEXTS,
)


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("nationcode", ["86", "0086"])
@pytest.mark.parametrize(
    "written",
    [
        "13800000000",
        "+8613800000000",
        "008613800000000",
        "+13800000000",
        "0013800000000",
    ],
)
def test_a_number_that_came_with_its_calling_code_has_it_once(
    version: Version, kind: Kind, written: str, nationcode: str
) -> None:
    """Some senders put it in front of the number, too, or itself behind 00."""
    other = reply(1) if kind is Kind.REPLY else status(1)
    sent = json.dumps(other | {"nationcode": nationcode, "mobile": written}).encode()
    [[found]] = response(page(version, kind, sent, NAME)).values()
    whole = version is Version.V2019 and kind is Kind.DELIVERY_STATUS
    assert found["PurePhoneNumber" if whole else "PhoneNumber"] == "+8613800000000"


@given(STATUSES)
def test_a_client_reads_what_was_stored_of_a_status(stored: DeliveryStatus) -> None:
    """All but what API 3.0 has no place for."""
    answer = page(Version.V2021, Kind.DELIVERY_STATUS, encode(stored), NAME)
    call = Api3("http://a", 1, "A", "k").pull(Kind.DELIVERY_STATUS, 1, Sent(1, "1"))
    [found] = call.read(answer, json.loads(answer))
    members = json.loads(encode(stored)) | {"description": ""}
    assert found.members == members


@given(REPLIES)
def test_a_client_reads_what_was_stored_of_a_reply(stored: Reply) -> None:
    answer = page(Version.V2021, Kind.REPLY, encode(stored), NAME)
    call = Api3("http://a", 1, "A", "k").pull(Kind.REPLY, 1, Sent(1, "1"))
    [found] = call.read(answer, json.loads(answer))
    assert found.members == json.loads(encode(stored))
