"""One pull: what is sent, what is understood, what is repeated."""

from __future__ import annotations

import json
import pickle
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime, timedelta
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import pullstatus
from pullstatus import (
    AnswerLost,
    AnswerMalformed,
    AttemptLate,
    CallInvalid,
    CallRefused,
    ClientError,
    ClockSkewed,
    DeliveryStatus,
    GatewayFailed,
    InvalidArgument,
    Kind,
    NotConnected,
    NotPermitted,
    Reply,
    ServiceFailed,
    SignatureRefused,
    TooFrequent,
    UnknownSdkappid,
    WrongAddress,
)
from pullstatus.client import bodies
from pullstatus.client.errors import BatchRefused
from pullstatus.wire.v5.codes import Result
from tests.harness import verify
from tests.unit.client.conftest import APPKEY, BASE_URL, NOW_S, SDKAPPID, Hands, page, refusal

Failure = Exception | httpx.Response

LOST: list[Failure] = [
    httpx.ReadTimeout("no answer in time"),
    httpx.ReadError("connection reset"),
    httpx.RemoteProtocolError("peer closed in the middle of the body"),
    httpx.WriteError("broken pipe"),
    httpx.DecodingError("not gzip"),
]
NOT_SENT: list[Failure] = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("no route"),
    httpx.PoolTimeout(""),
]
AMBIGUOUS: list[Failure] = [
    *LOST,
    httpx.Response(500),
    httpx.Response(502, content=b"<html>Bad Gateway</html>"),
    httpx.Response(503, headers={"Retry-After": "1"}),
    httpx.Response(408),
    httpx.Response(200, content=b'{"result":0,"errmsg":"ok","data":[{"sid'),
    httpx.Response(200, content=b""),
    httpx.Response(200, content=b"[]"),
    httpx.Response(200, content=b"<html>Welcome</html>"),
    httpx.Response(200, content=b'{"ok":true}'),
    httpx.Response(200, content=b'{"result":0,"errmsg":"ok","count":1,"data":"none"}'),
    httpx.Response(200, content=b'{"result":0,"errmsg":"ok","count":1,"data":[1]}'),
    httpx.Response(204),
    refusal(1007),
    refusal(1008),
    refusal(60008),
    refusal(60013),
    httpx.Response(200, json={"ActionStatus": "FAIL", "ErrorInfo": "timeout", "ErrorCode": 60008}),
]


def each(examples: list[Failure]) -> list[Any]:
    """Names of examples, for the ids of tests."""
    return [
        f"{type(one).__name__} {one}"[:40]
        if isinstance(one, Exception)
        else f"{one.status_code} {one.content[:40]!r}"
        for one in examples
    ]


# --- what is sent ---------------------------------------------------------------------------------


def test_request_is_the_documented_one(client: Hands) -> None:
    client.over(page(1))
    client.pull(max=7)
    [request], [body] = client.requests, client.bodies
    assert request.method == "POST"
    assert request.url.copy_with(query=None) == f"{BASE_URL}/v5/tlssmssvr/pullstatus"
    query = dict(request.url.params)
    assert query["sdkappid"] == str(SDKAPPID)
    assert query["random"].isdigit()
    assert verify(body["sig"], [APPKEY], query["random"], body["time"])
    assert body["time"] == int(NOW_S)
    assert (body["type"], body["max"]) == (0, 7)
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v5/tlssmssvr/pullstatus"),
        ("https://sms.test/", "https://sms.test/v5/tlssmssvr/pullstatus"),
        ("https://sms.test/inner/", "https://sms.test/inner/v5/tlssmssvr/pullstatus"),
        (
            "https://yun.tim.qq.com/v5/tlssmssvr/pullstatus",
            "https://yun.tim.qq.com/v5/tlssmssvr/pullstatus",
        ),
    ],
)
def test_base_url_may_be_any_http_address(client: Hands, base_url: str, address: str) -> None:
    """With or without a slash, with a proxy's path, or the whole address that old SDKs had."""
    client.over(page(), base_url=base_url)
    client.pull()
    assert str(client.requests[0].url.copy_with(query=None)) == address


@pytest.mark.parametrize("base_url", ["", "yun.tim.qq.com", "ftp://a", "http://", "http://a?b=c"])
def test_base_url_that_is_none_is_refused(client: Hands, base_url: str) -> None:
    with pytest.raises(InvalidArgument, match="base_url"):
        client.over(base_url=base_url)


@pytest.mark.parametrize(
    ("base_url", "told"),
    [
        ("http://a:99999", "a port that is no number up to 65535"),
        ("http://a:port", "a port that is no number up to 65535"),
        ("http://a\r", r"U\+000D"),
        ("\ufeffhttp://a", r"U\+FEFF"),
        ("http://", "no host"),
        ("http://me:secret@\u2100.com", "a host that is none"),
        ("http://a?", "a query"),
    ],
)
def test_what_is_wrong_with_a_base_url_is_said(client: Hands, base_url: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match=f"base_url must be like .*{told}") as caught:
        client.over(base_url=base_url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("sdkappid", [0, -1, 2**31])
def test_sdkappid_that_is_none_is_refused(sdkappid: int) -> None:
    for kind in (pullstatus.Client, pullstatus.AsyncClient):
        with pytest.raises(InvalidArgument, match="sdkappid"):
            kind(BASE_URL, sdkappid, APPKEY)


@pytest.mark.parametrize("sdkappid", [str(SDKAPPID), f" {SDKAPPID}\n"])
def test_sdkappid_may_be_its_digits(sdkappid: str) -> None:
    for colour in (pullstatus.Client, pullstatus.AsyncClient):
        assert f"sdkappid={SDKAPPID}" in repr(colour(BASE_URL, sdkappid, APPKEY))


@pytest.mark.parametrize("appkey", ["", APPKEY + "\n", " " + APPKEY])
def test_appkey_with_a_blank_is_refused_and_not_told(appkey: str) -> None:
    """A copied line end makes every signature wrong; it is found before anything is sent."""
    for kind in (pullstatus.Client, pullstatus.AsyncClient):
        with pytest.raises(InvalidArgument, match="appkey") as caught:
            kind(BASE_URL, SDKAPPID, appkey)
        assert APPKEY not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"max": 0}, {"max": 101}, {"max": -1}, {"key": ""}, {"key": "a b"}, {"key": "é"}]
)
def test_arguments_that_would_be_refused_are_not_sent(
    client: Hands, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument):
        client.pull(**options)
    with pytest.raises(InvalidArgument):
        client.batches(**options)
    assert not client.requests


def test_every_pull_has_a_key_of_its_own(client: Hands) -> None:
    client.over(page(1, waiting=1), page(2, waiting=0))
    first, second = client.pull(), client.pull()
    assert client.keys == [first.key, second.key]
    assert first.key != second.key
    assert all(len(key) == 32 for key in client.keys)


def test_key_of_the_caller_is_the_one_sent(client: Hands) -> None:
    client.over(page(1))
    assert client.pull(key="mine").key == "mine"
    assert client.keys == ["mine"]


def test_appkey_is_not_in_the_repr(client: Hands) -> None:
    assert APPKEY not in repr(client.client)
    assert "1400006666" in repr(client.client)


# --- what is understood ---------------------------------------------------------------------------


def test_page_says_what_the_service_says(client: Hands) -> None:
    client.over(page(1, 2, waiting=5, pull_id="1400006666-0-1"))
    found = client.pull()
    assert [record.sid for record in found if isinstance(record, DeliveryStatus)] == ["8:1", "8:2"]
    assert len(found) == 2
    assert (found.kind, found.waiting, found.pull_id) == (Kind.DELIVERY_STATUS, 5, "1400006666-0-1")
    assert found.keyed
    assert client.client.keyed


def test_service_that_says_nothing_of_waiting_knows_no_keys(client: Hands) -> None:
    client.over(page())
    assert client.client.keyed is None
    found = client.pull()
    assert not found
    assert (found.waiting, found.pull_id, found.keyed) == (None, None, False)
    assert client.client.keyed is False


def test_delivery_status_is_typed_and_complete(client: Hands) -> None:
    client.over(page(1))
    [record] = client.pull()
    assert isinstance(record, DeliveryStatus)
    assert record.received_at == datetime.fromisoformat("2015-10-17T08:03:04+08:00")
    assert record.delivered
    assert (record.mobile, record.errmsg, record.ext) == ("13800000001", "DELIVRD", "")
    assert record.members["sid"] == record.sid == "8:1"


def test_reply_is_typed_and_complete(client: Hands) -> None:
    text = "好的 👍"
    record = {"nationcode": "86", "mobile": "1", "text": text, "sign": "S", "time": 1457336869}
    client.over(page(data=[record | {"extend": "", "new": [1]}], count=1))
    [reply] = client.pull(Kind.REPLY)
    assert isinstance(reply, Reply)
    assert reply.replied_at is not None
    assert reply.replied_at.timestamp() == 1457336869
    assert reply.replied_at.utcoffset() == timedelta(hours=8)
    assert (reply.text, reply.sign, reply.extend) == (text, "S", "")
    assert reply.members["new"] == [1]
    assert client.bodies[0]["type"] == 1


def test_odd_records_are_kept_not_refused(client: Hands) -> None:
    """The page is gone from the service: whatever is in it must reach the caller."""
    odd = {"user_receive_time": "2015-10-17T08:03:04", "nationcode": 86, "sid": None, "x": 1e300}
    client.over(page(data=[odd, {}], count=2), page(data=[{"time": "7"}, {"time": 1e300}]))
    first, second = client.pull()
    assert isinstance(first, DeliveryStatus)
    assert (first.nationcode, first.sid, first.received_at) == ("86", "", None)
    assert first.members == odd
    assert second.json == b"{}"
    assert not first.delivered
    seven, far = client.pull(Kind.REPLY)
    assert isinstance(seven, Reply)
    assert isinstance(far, Reply)
    assert seven.time == 7
    assert far.replied_at is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (rb'"\ud83d"', "�"),
        (rb'"a\uDE00b"', "a�b"),
        (rb'"\uD83D\uDE00"', "\U0001f600"),
        (rb'"\\ud83d \ud83d"', "\\ud83d �"),
        (b'"\xff"', "�"),
    ],
)
def test_broken_characters_do_not_cost_a_page(client: Hands, content: bytes, text: str) -> None:
    """Half a surrogate pair, or bytes that are no UTF-8: each bad character becomes U+FFFD."""
    data = b'{"result":0,"errmsg":"ok","count":1,"data":[{"text":' + content + b"}]}"
    client.over(httpx.Response(200, content=data))
    [record] = client.pull(Kind.REPLY)
    assert isinstance(record, Reply)
    assert record.text == text
    assert record.members == {"text": text}


def test_record_json_is_what_was_sent(client: Hands) -> None:
    raw = b'{ "sid" : "\\u0041", "n": 12345678901234567890123, "f": 1.10 }'
    content = b'{"result":0,"errmsg":"ok","count":1,"data":[' + raw + b"]}"
    client.over(httpx.Response(200, content=content))
    [record] = client.pull()
    assert record.json == raw


@pytest.mark.parametrize(
    "members",
    [
        {"result": "0"},
        {"errmsg": "OK", "type": None},
        {"count": 5},
        {"count": 0, "data": None},
        {"data": [], "count": None},
    ],
)
def test_success_in_other_words(client: Hands, members: dict[str, Any]) -> None:
    """Numbers as text, a count that is wrong, no data when there is none: still a success."""
    client.over(page(**members))
    assert len(client.pull()) == 0


CODES = [
    (1001, SignatureRefused),
    (1003, SignatureRefused),
    (1004, CallInvalid),
    (1006, NotPermitted),
    (1009, NotPermitted),
    (1011, CallInvalid),
    (1016, CallInvalid),
    (1019, UnknownSdkappid),
    (1020, NotPermitted),
    (1021, ClockSkewed),
    (1030, NotPermitted),
    (1033, NotPermitted),
    (60002, CallInvalid),
    (60003, CallInvalid),
    (60006, UnknownSdkappid),
    (60009, CallInvalid),
    (60012, UnknownSdkappid),
    (1014, CallRefused),
    (99999, CallRefused),
]
ENVELOPES: dict[str, Callable[[int], dict[str, object]]] = {
    "service": lambda code: {"result": code, "errmsg": "because"},
    "text code": lambda code: {"result": str(code), "errmsg": "because"},
    "msg": lambda code: {"result": code, "msg": "because"},
    "gateway": lambda code: {"ActionStatus": "FAIL", "ErrorInfo": "because", "ErrorCode": code},
}


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize(("code", "error"), CODES)
@pytest.mark.parametrize("http_status", [200, 403, 500])
def test_refusals_are_told_apart_in_every_form(
    client: Hands, envelope: str, code: int, error: type[CallRefused], http_status: int
) -> None:
    """Each code is its class, has a fix, and is final, whatever the HTTP status."""
    client.over(httpx.Response(http_status, json=ENVELOPES[envelope](code)))
    with pytest.raises(CallRefused) as caught:
        client.pull()
    assert type(caught.value) is error
    assert (caught.value.result, caught.value.errmsg) == (code, "because")
    assert str(code) in str(caught.value)
    assert caught.value.fix
    assert caught.value.fix in str(caught.value)
    assert not caught.value.may_have_consumed
    assert not client.pauses


@pytest.mark.parametrize("code", [{}, {"ErrorCode": 0}, {"ErrorCode": None}, {"ErrorCode": "x"}])
@pytest.mark.parametrize("http_status", [200, 500])
def test_refusal_of_the_gateway_without_a_code_is_one(
    client: Hands, code: dict[str, object], http_status: int
) -> None:
    """A refusal like any other whose code is not known, not an answer that cannot be read."""
    said = {"ActionStatus": "FAIL", "ErrorInfo": "because", **code}
    client.over(httpx.Response(http_status, json=said))
    with pytest.raises(CallRefused, match="because") as caught:
        client.pull()
    assert type(caught.value) is CallRefused
    assert caught.value.result is None
    assert not caught.value.may_have_consumed
    assert not client.pauses


def test_every_code_of_the_wire_has_a_class() -> None:
    from pullstatus.client.reading import _MEANINGS

    assert set(_MEANINGS) == set(Result) - {Result.OK}


@pytest.mark.parametrize(
    ("code", "result", "error"),
    [
        ("InternalError.SigVerificationFail", 1001, SignatureRefused),
        ("AuthFailure.SignatureFailure", 1001, SignatureRefused),
        ("UnauthorizedOperation.SerivceSuspendDueToArrears", 1033, NotPermitted),
        ("InvalidParameterValue.SdkAppIdNotExist", 1019, UnknownSdkappid),
        ("InvalidParameterValue.NewOne", 1004, CallInvalid),
        ("InternalError.RequestTimeException", 1021, ClockSkewed),
        ("NoSuchVersion", 1011, CallInvalid),
        ("DryRunOperation", None, CallRefused),
    ],
)
def test_refusals_of_api_3_are_understood(
    client: Hands, code: str, result: int | None, error: type[CallRefused]
) -> None:
    """Somebody may aim at the newer service's address: its codes have twins."""
    answer = {"Response": {"Error": {"Code": code, "Message": "because"}, "RequestId": "r"}}
    client.over(httpx.Response(200, json=answer))
    with pytest.raises(CallRefused) as caught:
        client.pull()
    assert type(caught.value) is error
    assert caught.value.result == result
    assert f"{code} because" in str(caught.value)


@pytest.mark.parametrize(
    ("http_status", "said"),
    [(301, "moved to https://b.test"), (307, "moved"), (404, "HTTP 404"), (401, "HTTP 401")],
)
def test_somebody_else_at_the_address(client: Hands, http_status: int, said: str) -> None:
    """Redirects are not followed: the request would be repeated elsewhere, key and all."""
    answer = httpx.Response(http_status, headers={"Location": "https://b.test"}, content=b"<html>")
    client.over(answer)
    with pytest.raises(WrongAddress, match=said) as caught:
        client.pull()
    assert (caught.value.http_status, caught.value.content) == (http_status, b"<html>")
    assert not caught.value.may_have_consumed
    assert "base_url" in caught.value.fix


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead_s", "said"), [(734, "734 s ahead of"), (-734, "734 s behind"), (28800, "28800 s ahead")]
)
def test_skewed_clock_is_measured_by_the_date(client: Hands, ahead_s: int, said: str) -> None:
    client.over(refusal(1021, Date=formatdate(NOW_S - ahead_s, usegmt=True)))
    with pytest.raises(ClockSkewed, match=said) as caught:
        client.pull()
    assert caught.value.skew_s == ahead_s
    assert client.client.clock_skew_s == ahead_s


@pytest.mark.parametrize("ahead_s", [-9, 0, 9])
def test_an_attempt_that_was_long_on_its_way_is_signed_anew(client: Hands, ahead_s: int) -> None:
    """The clocks agree: it waited for a connection, or the machine was asleep."""
    late = refusal(1021, Date=formatdate(NOW_S - ahead_s, usegmt=True))
    client.over(late, page(1, waiting=0), keyed=True)
    assert len(client.pull()) == 1
    assert len({body["sig"] for body in client.bodies}) == 2
    client.over(late, keyed=True, attempts_max=1)
    with pytest.raises(AttemptLate, match="long on its way") as caught:
        client.pull()
    assert caught.value.skew_s == ahead_s


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Foo 2016 99:99:99 GMT"])
def test_date_that_is_none_hurts_nobody(client: Hands, date: str) -> None:
    client.over(refusal(1021, Date=date))
    with pytest.raises(ClockSkewed) as caught:
        client.pull()
    assert caught.value.skew_s is None
    assert "clock" in caught.value.fix


# --- what is repeated -----------------------------------------------------------------------------


@pytest.mark.parametrize("failure", AMBIGUOUS, ids=each(AMBIGUOUS))
def test_ambiguous_failure_is_repeated_with_the_same_key(client: Hands, failure: Failure) -> None:
    """The service knows keys, so the repeat brings the very page; each attempt is signed anew."""
    client.over(failure, failure, page(1, waiting=0), keyed=True)
    found = client.pull(max=9)
    assert len(found) == 1
    assert len(client.keys) == 3
    assert set(client.keys) == {found.key}
    assert {body["max"] for body in client.bodies} == {9}
    assert len({str(request.url) for request in client.requests}) == 3
    assert len(client.pauses) == 2


@pytest.mark.parametrize("keyed", [None, False])
@pytest.mark.parametrize("failure", AMBIGUOUS, ids=each(AMBIGUOUS))
def test_ambiguous_failure_is_raised_when_a_repeat_could_lose_a_page(
    client: Hands, failure: Failure, keyed: bool | None
) -> None:
    client.over(failure, keyed=keyed)
    with pytest.raises(ClientError) as caught:
        client.pull()
    assert caught.value.may_have_consumed
    assert caught.value.key == client.keys[0]
    assert "may be lost" in str(caught.value)
    assert not client.pauses


@pytest.mark.parametrize("keyed", [None, False, True])
@pytest.mark.parametrize("failure", NOT_SENT, ids=each(NOT_SENT))
def test_what_was_never_sent_is_repeated_anywhere(
    client: Hands, failure: Failure, keyed: bool | None
) -> None:
    client.over(failure, failure, page(1), keyed=keyed)
    assert len(client.pull()) == 1
    assert len(client.pauses) == 2


@pytest.mark.parametrize("failure", [refusal(60007), httpx.Response(429)], ids=["60007", "429"])
def test_too_frequent_is_repeated_anywhere(client: Hands, failure: httpx.Response) -> None:
    client.over(failure, page(1), keyed=False)
    assert len(client.pull()) == 1
    client.also(*[failure] * 5)
    with pytest.raises(TooFrequent) as caught:
        client.pull()
    assert not caught.value.may_have_consumed


def test_attempts_end(client: Hands) -> None:
    client.over(*[httpx.ConnectError("refused")] * 3, attempts_max=3)
    with pytest.raises(NotConnected, match="refused") as caught:
        client.pull()
    assert not caught.value.may_have_consumed
    assert len(client.pauses) == 2


def test_doubt_outlives_later_certainty(client: Hands) -> None:
    """The first attempt may have taken a page; that later ones did not changes nothing."""
    client.over(httpx.ReadTimeout("late"), refusal(1020), keyed=True)
    with pytest.raises(NotPermitted) as caught:
        client.pull()
    assert caught.value.may_have_consumed
    assert "with this exception's key" in str(caught.value)


def test_lost_page_comes_with_the_exceptions_key(client: Hands) -> None:
    client.over(*[httpx.ReadTimeout("late")] * 2, keyed=True, attempts_max=2)
    with pytest.raises(AnswerLost) as caught:
        client.pull()
    client.also(page(1, waiting=0))
    assert client.pull(key=caught.value.key).key == caught.value.key
    assert len(set(client.keys)) == 1


def test_capability_is_learnt_from_answers(client: Hands) -> None:
    """After one answer of a service that knows keys, ambiguous failures are repeated."""
    client.over(page(1, waiting=3), httpx.ReadTimeout("late"), page(2, waiting=2))
    client.pull()
    assert len(client.pull()) == 1
    client.also(page(3), httpx.ReadTimeout("late"))
    client.pull()
    with pytest.raises(AnswerLost):
        client.pull()


def test_our_own_service_consumes_nothing_when_it_fails(client: Hands) -> None:
    client.over(*[refusal(1007)] * 2, keyed=True, attempts_max=2)
    with pytest.raises(ServiceFailed) as caught:
        client.pull()
    assert not caught.value.may_have_consumed


def test_malformed_answer_is_handed_over(client: Hands) -> None:
    """If records were in it, they are still somewhere."""
    content = b'{"result":0,"data":[{"sid":"8:1"}'
    client.over(httpx.Response(200, content=content))
    with pytest.raises(AnswerMalformed) as caught:
        client.pull()
    assert caught.value.content == content


def test_pauses_double_with_jitter_up_to_a_ceiling(client: Hands) -> None:
    client.over(*[httpx.ConnectError("refused")] * 11, attempts_max=11)
    with pytest.raises(NotConnected):
        client.pull()
    due = [min(0.5 * 2**n, 30.0) for n in range(10)]
    assert all(d / 2 <= s <= d for s, d in zip(client.pauses, due, strict=True))
    assert client.pauses != due


def test_retry_after_is_obeyed_within_reason(client: Hands) -> None:
    busy = [httpx.Response(503, headers={"Retry-After": s}) for s in ("7", "86400", "soon")]
    client.over(*busy, page(), keyed=True)
    client.pull()
    assert client.pauses[:2] == [7, 120]
    assert client.pauses[2] <= 2


@pytest.mark.parametrize("result", [Result.TOO_FREQUENT, Result.OTHER])
def test_retry_after_of_a_refusal_is_obeyed(client: Hands, result: int) -> None:
    """The body says what is wrong, and the head for how long."""
    refusal = httpx.Response(429, json={"result": result}, headers={"Retry-After": "7"})
    client.over(refusal, page(), keyed=True)
    client.pull()
    assert client.pauses == [7]


def test_words_of_the_library_go_on_in_ours(client: Hands) -> None:
    client.over(httpx.RemoteProtocolError("Server disconnected."), keyed=False)
    with pytest.raises(
        AnswerLost, match="no whole answer: Server disconnected: a page may be lost"
    ):
        client.pull()


def test_gateway_failure_says_so(client: Hands) -> None:
    client.over(httpx.Response(502))
    with pytest.raises(GatewayFailed, match="HTTP 502"):
        client.pull()


# --- the tree -------------------------------------------------------------------------------------


def test_tree_is_drawn_and_codes_are_unique() -> None:
    from pullstatus import errors as fundamental
    from pullstatus.client import errors

    assert errors.__doc__
    tree = [getattr(errors, name) for name in errors.__all__]
    assert all(name in errors.__doc__ for name in errors.__all__)
    assert all(issubclass(error, ClientError) for error in tree)
    others = [getattr(fundamental, name) for name in fundamental.__all__]
    codes = [error.code for error in [*tree, *others]]
    assert len(set(codes)) == len(codes)
    assert issubclass(InvalidArgument, ValueError)
    assert issubclass(BatchRefused, ClientError)
    assert json.dumps(codes)


# --- answers without an end -----------------------------------------------------------------------


class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Parts of a body, one after the other; `between` is called before each."""

    def __init__(self, parts: Iterable[bytes], between: Callable[[], object]) -> None:
        self.parts = iter(parts)
        self.between = between

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            self.between()
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part


@pytest.mark.parametrize("unpacked", [True, False], ids=["plain", "gzip"])
def test_endless_answer_is_given_up(client: Hands, *, unpacked: bool) -> None:
    """Neither the service nor who speaks in its place can fill this process's memory."""
    part = b" " * 1024 * 1024
    headers = {} if unpacked else {"Content-Encoding": "gzip"}
    came: list[int] = []

    def answer(_request: httpx.Request) -> httpx.Response:
        packer = zlib.compressobj(wbits=31)
        parts = (
            part if unpacked else packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)
            for _ in range(1000)
        )
        stream = Stream(parts, lambda: came.append(1))
        return httpx.Response(200, headers=headers, stream=stream)

    client.over(answer, attempts_max=1)
    with pytest.raises(AnswerLost, match="over 64 MiB came") as caught:
        client.pull()
    assert caught.value.may_have_consumed
    assert len(came) == 65


def test_answer_that_trickles_is_given_up(client: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part comes within the timeout, and the whole never: a follower would stand still."""
    now_s = [0.0]
    monkeypatch.setattr(bodies, "time", SimpleNamespace(monotonic=lambda: now_s[0]))

    def later(s: int = 1) -> None:
        now_s[0] += s

    trickles = httpx.Response(200, stream=Stream([b" "] * 100_000, later))
    client.over(lambda _request: trickles, attempts_max=1, timeout_s=20)
    with pytest.raises(AnswerLost, match="less than 1024 bytes a second came for 21 s"):
        client.pull()
    body = page(1, waiting=0).content
    parts = [body[:10], body[10:], b" " * 50_000]
    slow = httpx.Response(200, stream=Stream(parts, lambda: later(7)))
    client.over(lambda _request: slow, attempts_max=1, timeout_s=20)
    assert len(client.pull()) == 1


ATTACK = "\x1b[2Jno\u202e\n2026-01-01 ERROR forged"


@pytest.mark.parametrize(
    "answer",
    [
        refusal(1004, ATTACK),
        refusal(1001, ATTACK + "x" * 1_000_000),
        httpx.Response(200, json={"Response": {"Error": {"Code": ATTACK, "Message": ATTACK}}}),
        httpx.RemoteProtocolError(f"illegal header line: {ATTACK}{'x' * 100_000}"),
        ZeroDivisionError(ATTACK),
    ],
    ids=range(5),
)
def test_no_text_of_an_error_steers_a_terminal_or_a_log(
    client: Hands,
    answer: Failure,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client.over(keyed=True, attempts_max=2)
    client.service = answer
    with pytest.raises(ClientError) as caught:
        client.pull()
    said = [str(caught.value), repr(caught.value), *map(str, caught.value.args)]
    said += [record.getMessage() for record in caplog.records]
    for text in said:
        assert text.isprintable()
        assert len(text) < 1500
    if isinstance(caught.value, CallRefused):
        assert ATTACK in caught.value.errmsg
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
