"""What is asked without taking anything out, over either face."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import pytest

from pullstatus import (
    AnswerLost,
    AnswerMalformed,
    CallInvalid,
    ClientError,
    GatewayFailed,
    InvalidArgument,
    Kind,
    NotPermitted,
    Reply,
    ServiceFailed,
    Statistics,
)
from pullstatus.records import UTC8
from pullstatus.wire.v5.query import parse_query
from tests.harness import verify
from tests.unit.client.conftest import APPKEY, NOW_S, SDKAPPID, Hands, page, refusal
from tests.unit.client.test_api3 import PAIR, REPLY, STATUS, answer, is_signed, statuses
from tests.unit.client.test_api3 import refusal as refusal3

WEEK_S = 7 * 86_400
COUNTS = {
    "CallbackCount": 21,
    "CallbackSuccessCount": 6,
    "InternalErrorCount": 1,
    "InvalidNumberCount": 2,
    "ShutdownErrorCount": 3,
    "BlackListCount": 4,
    "FrequencyLimitCount": 5,
    "CallbackFailCount": 15,
    "RequestSuccessCount": 21,
}
COUNTS_V5 = {"status": 21, "status_success": 6, "status_fail": 15, "success": 21} | {
    f"status_fail_{number}": number + 1 for number in range(5)
}
COUNTED = Statistics(
    receipts=21,
    delivered=6,
    failed_carrier=1,
    failed_number=2,
    failed_handset=3,
    failed_blacklist=4,
    failed_frequency=5,
)


def ok(data: object) -> httpx.Response:
    return httpx.Response(200, json={"result": 0, "msg": "OK", "data": data})


class Spoken(NamedTuple):
    """One face: what a client is given for it, and what its service says."""

    options: dict[str, Any]
    records: httpx.Response
    receipts: httpx.Response
    sends: httpx.Response
    none_told: httpx.Response
    trouble: httpx.Response
    invalid: httpx.Response


FACES = {
    "v5": Spoken(
        {},
        page(1, 2),
        ok(COUNTS_V5),
        ok({"request": 30, "success": 9, "bill_number": 7}),
        refusal(1030),
        refusal(1007),
        refusal(1016),
    ),
    "api3": Spoken(
        PAIR,
        statuses(STATUS, STATUS | {"SerialNo": "8:2"}),
        answer(CallbackStatusStatistics=COUNTS),
        answer(SendStatusStatistics={"RequestCount": 30, "RequestSuccessCount": 9, "FeeCount": 7}),
        refusal3("UnsupportedOperation"),
        refusal3("InternalError"),
        refusal3("InvalidParameterValue.IncorrectPhoneNumber"),
    ),
}


@pytest.fixture(params=list(FACES))
def face(request: pytest.FixtureRequest) -> Spoken:
    return FACES[request.param]


# --- the records of one number --------------------------------------------------------------------


def test_finding_takes_nothing_and_has_no_key(client: Hands, face: Spoken) -> None:
    client.over(face.records, **face.options)
    found = client.find()
    assert [one.sid for one in found if not isinstance(one, Reply)] == ["8:1", "8:2"]
    [request] = client.requests
    assert not {"idempotency-key", "pullstatus-reader", "pullstatus-wait"} & {*request.headers}
    assert client.looks == []  # what a service can do does not matter


def test_find_is_the_documented_call(client: Hands) -> None:
    client.over(page())
    since = datetime(2016, 3, 7, 8, 0, tzinfo=UTC8)
    assert client.find(nationcode="+86", since=since, until=NOW_S, max=7, sid="8:1") == ()
    [request], [body] = client.requests, client.bodies
    query = dict(request.url.params)
    assert request.url.path == "/v5/tlssmssvr/pullstatus4mobile"
    assert query["sdkappid"] == str(SDKAPPID)
    assert verify(body.pop("sig"), [APPKEY], query["random"], body["time"])
    assert body == {
        "time": int(NOW_S),
        "nationcode": "86",
        "mobile": "13800000001",
        "begin_time": int(since.timestamp()),
        "end_time": int(NOW_S),
        "type": 0,
        "max": 7,
        "sid": "8:1",
    }


@pytest.mark.parametrize(
    ("kind", "action", "sent"),
    [
        (Kind.DELIVERY_STATUS, "PullSmsSendStatusByPhoneNumber", statuses(STATUS)),
        (Kind.REPLY, "PullSmsReplyStatusByPhoneNumber", answer(PullSmsReplyStatusSet=[REPLY])),
    ],
)
def test_find_is_the_documented_action(
    client: Hands, kind: Kind, action: str, sent: httpx.Response
) -> None:
    client.over(sent, **PAIR)
    [one] = client.find(kind, max=7)
    assert one.mobile == "13800000001"
    [request], [body] = client.requests, client.bodies
    assert request.headers["X-TC-Action"] == action
    assert is_signed(request)
    assert body == {
        "SmsSdkAppId": str(SDKAPPID),
        "PhoneNumber": "+8613800000001",
        "BeginTime": int(NOW_S) - WEEK_S,
        "EndTime": int(NOW_S),
        "Offset": 0,
        "Limit": 7,
    }


@pytest.mark.parametrize("mobile", ["13800000001", "008613800000001", "0013800000001"])
def test_a_number_is_the_same_over_either_face(client: Hands, mobile: str) -> None:
    client.over(page())
    client.find(mobile=mobile)
    [request] = client.requests
    asked = parse_query(request.url.query, request.content).question()
    client.over(statuses(), **PAIR)
    client.find(mobile=mobile)
    assert client.bodies[-1]["PhoneNumber"] == f"+{asked.digits}" == "+8613800000001"


def test_sid_is_looked_for_whether_or_not_the_service_does(client: Hands, face: Spoken) -> None:
    client.over(face.records, **face.options)
    [one] = client.find(sid="8:2")
    assert not isinstance(one, Reply)
    assert one.sid == "8:2"
    assert "8:2" in client.bodies[0].values()


def test_failures_are_repeated_wherever_that_can_help(client: Hands, face: Spoken) -> None:
    """Even where the service knows no keys: there is nothing to lose."""
    client.over(
        httpx.ReadError("reset"),
        httpx.Response(503),
        face.trouble,
        httpx.Response(200, content=b"{"),
        face.records,
        keyed=False,
        **face.options,
    )
    assert len(client.find()) == 2
    assert len(client.pauses) == 4


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (httpx.ReadError("reset"), AnswerLost),
        (httpx.Response(503), GatewayFailed),
        (httpx.Response(200, content=b"[]"), AnswerMalformed),
    ],
)
def test_what_fails_in_the_end_has_consumed_nothing(
    client: Hands, face: Spoken, last: httpx.Response | Exception, error: type[ClientError]
) -> None:
    heard: list[int] = []
    client.over(
        face.trouble,
        last,
        attempts_max=2,
        on_retry=lambda _error, attempt, _pause_s: heard.append(attempt),
        **face.options,
    )
    with pytest.raises(error) as raised:
        client.find()
    assert (raised.value.may_have_consumed, raised.value.key) == (False, None)
    assert heard == [1]
    client.over(face.trouble, attempts_max=1, **face.options)
    with pytest.raises(ServiceFailed) as raised:
        client.find()
    assert not raised.value.may_have_consumed


def test_refusals_are_not_repeated(client: Hands, face: Spoken) -> None:
    client.over(face.invalid, **face.options)
    with pytest.raises(CallInvalid) as raised:
        client.find()
    assert raised.value.result == 1016


def test_a_client_that_owes_a_page_still_does_after_a_question(client: Hands) -> None:
    client.over(httpx.ReadError("reset"), page(1), page(2, waiting=0), attempts_max=1, keyed=True)
    with pytest.raises(AnswerLost) as raised:
        client.pull()
    client.find()
    assert client.pull().key == raised.value.key


@pytest.mark.parametrize(
    ("since", "until", "asked"),
    [
        (NOW_S - 9.3, NOW_S - 2.3, (NOW_S - 9, NOW_S - 3)),
        (NOW_S - 9, NOW_S - 9, (NOW_S - 9, NOW_S - 9)),
        (NOW_S - 9.5, NOW_S - 9, (NOW_S - 9, NOW_S - 9)),
        (NOW_S - 9.5, NOW_S - 9.2, None),  # no second begins there
    ],
)
def test_nothing_is_found_that_is_of_before_or_after(
    client: Hands, face: Spoken, since: float, until: float, asked: tuple[float, float] | None
) -> None:
    client.over(*[face.records] * (asked is not None), **face.options)
    found = client.find(since=since, until=datetime.fromtimestamp(until, UTC))
    assert len(found) == len(client.bodies) * 2
    for body in client.bodies:
        names = ("BeginTime", "EndTime") if face.options else ("begin_time", "end_time")
        assert tuple(body[name] for name in names) == asked


NAIVE = datetime(2016, 3, 7, 8, 0)  # noqa: DTZ001 - which is what is refused


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"mobile": "+8613800000001"}, "mobile must be"),
        ({"mobile": ""}, "mobile must be"),
        ({"mobile": 13800000001}, "mobile must be"),
        ({"mobile": "\u0661"}, "mobile must be"),
        ({"nationcode": ""}, "nationcode must be"),
        ({"nationcode": "0086000"}, "nationcode must be"),
        ({"nationcode": 86}, "nationcode must be"),
        ({"since": NAIVE}, "since has no time zone"),
        ({"until": "now"}, "until must be a datetime"),
        ({"until": True}, "until must be a datetime"),
        ({"since": float("nan")}, "since must be a time"),
        ({"since": -1}, "since must be a time"),
        ({"since": NOW_S * 1000}, "since must be a time"),
        ({"since": NOW_S + 1}, "since must not be after until"),
        ({"max": 0}, "max must be"),
        ({"max": 101}, "max must be"),
        ({"sid": ""}, "sid must be"),
        ({"sid": "8" * 65}, "sid must be"),
        ({"sid": "\ud800"}, "sid must be"),
        ({"kind": 2}, "kind must be"),
    ],
)
def test_wrong_questions_are_not_asked(client: Hands, wrong: dict[str, Any], text: str) -> None:
    client.over()
    with pytest.raises(InvalidArgument, match=text):
        client.find(**wrong)
    assert client.requests == []


# --- counts ---------------------------------------------------------------------------------------


def test_statistics_are_receipts_and_sends(client: Hands, face: Spoken) -> None:
    client.over(face.receipts, face.sends, **face.options)
    found = client.statistics(since=NOW_S - 1)
    assert (found.requests, found.accepted, found.billed) == (30, 9, 7)
    assert (found.receipts, found.delivered, found.failed) == (21, 6, 15)


def test_of_sends_nobody_told_nothing_is_said(client: Hands, face: Spoken) -> None:
    """The answer about receipts then says that as many were taken: that is a guess."""
    client.over(face.receipts, face.none_told, **face.options)
    assert client.statistics(since=NOW_S - 1) == COUNTED


def test_other_refusals_are_raised(client: Hands) -> None:
    client.over(ok(COUNTS_V5), refusal(1006))
    with pytest.raises(NotPermitted):
        client.statistics(since=NOW_S - 1)


@pytest.mark.parametrize(
    ("since", "until", "hours"),
    [
        # A day in Beijing, and one second of it more.
        ("2016-03-07 00:00:00+08:00", "2016-03-08 00:00:00+08:00", (2016030700, 2016030723)),
        ("2016-03-07 00:00:00+08:00", "2016-03-08 00:00:01+08:00", (2016030700, 2016030800)),
        ("2016-03-06 16:59:59+00:00", "2016-03-06 17:00:00+00:00", (2016030700, 2016030700)),
        # Less than what a clock tells apart, within an hour and around the beginning of one.
        (
            "2016-03-07 00:00:00+08:00",
            "2016-03-07 00:00:00.000500+08:00",
            (2016030700, 2016030700),
        ),
        (
            "2016-03-06 23:59:59.999900+08:00",
            "2016-03-07 00:00:00.000100+08:00",
            (2016030623, 2016030700),
        ),
        ("2016-02-28 23:30:00+08:00", "2016-02-29 00:30:00+08:00", (2016022823, 2016022900)),
        # The last that can be written, of which UTC+8 has no more than its last hour.
        ("9999-12-31 14:30:00+00:00", "9999-12-31 23:59:59+00:00", (9999123122, 9999123123)),
    ],
)
def test_hours_are_those_that_the_time_touches(
    client: Hands, since: str, until: str, hours: tuple[int, int]
) -> None:
    begins, ends = datetime.fromisoformat(since), datetime.fromisoformat(until)
    client.over(FACES["v5"].receipts, FACES["v5"].sends)
    client.statistics(since=begins, until=ends)
    paths = [request.url.path.rpartition("/")[2] for request in client.requests]
    assert paths == ["pullcallbackstatus", "pullsendstatus"]
    for request, body in zip(client.requests, client.bodies, strict=True):
        assert (body["begin_date"], body["end_date"]) == hours
        assert verify(body["sig"], [APPKEY], request.url.params["random"], body["time"])
    client.over(FACES["api3"].receipts, FACES["api3"].sends, **PAIR)
    client.statistics(since=begins.timestamp(), until=ends.astimezone(UTC))
    for request, action in zip(
        client.requests[2:], ("CallbackStatusStatistics", "SendStatusStatistics"), strict=True
    ):
        assert request.headers["X-TC-Action"] == action
        assert is_signed(request)
        assert json.loads(request.content) == {
            "SmsSdkAppId": str(SDKAPPID),
            "BeginTime": str(hours[0]),
            "EndTime": str(hours[1]),
            "Limit": 0,
            "Offset": 0,
        }


def test_until_is_now(client: Hands) -> None:
    client.over(FACES["v5"].receipts, FACES["v5"].sends)
    client.statistics(since=datetime.fromtimestamp(NOW_S, UTC) - timedelta(hours=2))
    assert [client.bodies[0][name] for name in ("begin_date", "end_date")] == [
        2016030713,
        2016030715,
    ]


@pytest.mark.parametrize("said", [ok(None), ok([]), ok({}), ok({**COUNTS_V5, "status": True})])
def test_counts_that_are_not_there_are_not_made_up(client: Hands, said: httpx.Response) -> None:
    client.over(said, attempts_max=1)
    with pytest.raises(AnswerMalformed):
        client.statistics(since=NOW_S - 1)


@pytest.mark.parametrize("since", [NOW_S, NOW_S + 1, NAIVE, None])
def test_wrong_hours_are_not_asked_for(client: Hands, since: Any) -> None:  # noqa: ANN401 - what is wrong
    client.over()
    with pytest.raises(InvalidArgument, match="since"):
        client.statistics(since=since)
