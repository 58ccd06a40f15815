"""Calls of API 3.0, read: each check in its order, of either version and signature."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import ActionRefused, InvalidAuthorization, PeerError, SignatureWrong
from pullstatus.records import Kind
from pullstatus.wire.api3 import requests
from pullstatus.wire.api3.codes import Code
from pullstatus.wire.api3.requests import (
    ACTIONS,
    UNKNOWN_SDKAPPID,
    Action,
    ByNumber,
    Request,
    Subject,
    Version,
    is_call,
    read_proof,
    read_request,
    trace_id,
)
from pullstatus.wire.api3.signing import Request as Signed
from pullstatus.wire.api3.signing import sign, sign_v1

ID, KEY = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
NOW_S = 1_620_734_188
FORM = b"application/x-www-form-urlencoded"
APP = {"SmsSdkAppId": "1400006666"}
PULL, FIND, COUNT = "PullSmsSendStatus", "PullSmsSendStatusByPhoneNumber", "SendStatusStatistics"
BY_NUMBER = {
    "PhoneNumber": "+8613800000000",
    "BeginTime": NOW_S - 60,
    "EndTime": NOW_S,
    "Offset": 0,
    "Limit": 100,
}
HOURS = {"BeginTime": "2021051100", "EndTime": "2021051123", "Limit": 0, "Offset": 0}
V2019 = "2019-07-11"


def call(
    action: str = PULL,
    parameters: object = None,
    *,
    body: bytes | None = None,
    method: str = "POST",
    query: bytes = b"",
    **headers: str | None,
) -> Request:
    """A call by TC3, read; None takes a header away."""
    content = json.dumps(APP | {"Limit": 100} if parameters is None else parameters).encode()
    content = b"" if method == "GET" else content if body is None else body
    named = {
        "host": "127.0.0.1:8080",
        "content-type": "application/json",
        "x-tc-action": action,
        "x-tc-version": "2021-01-11",
        "x-tc-timestamp": str(NOW_S),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    sent = {name.encode(): value.encode() for name, value in named.items() if value is not None}
    if "authorization" not in headers:
        usual = {**sent, b"x-tc-timestamp": str(NOW_S).encode()}
        sent[b"authorization"] = sign(Signed(method, query, usual, content), ID, KEY)
    return read_request(method, query, sent, content)


def v1(method: str = "POST", *, key: str = KEY, **parameters: str | None) -> Request:
    """A call by version 1, read; None takes a parameter away."""
    usual = {
        "Action": PULL,
        "Version": "2021-01-11",
        "Timestamp": str(NOW_S),
        "Nonce": "11886",
        "SecretId": ID,
        "SignatureMethod": "HmacSHA256",
        "SmsSdkAppId": "1400006666",
        "Limit": "100",
        **parameters,
    }
    sent = {name: value for name, value in usual.items() if value is not None}
    if "Signature" not in sent and sent.get("SignatureMethod") in ("HmacSHA1", "HmacSHA256"):
        sent["Signature"] = sign_v1(method, b"a:1", sent, key)
    told = urlencode(sent).encode()
    headers = {b"host": b"a:1", b"content-type": FORM}
    query, body = (told, b"") if method == "GET" else (b"", told)
    return read_request(method, query, headers, body)


def code_of(error: BaseException) -> str:
    assert isinstance(error, ActionRefused)
    assert str(error.message).isascii()
    return error.error_code


# --- which requests are calls ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "query", "headers", "due"),
    [
        ("GET", b"", {}, False),
        ("GET", b"", {b"x-tc-action": b""}, True),
        ("POST", b"", {b"x-tc-action": b"x"}, True),
        ("GET", b"Action=a", {}, True),
        ("GET", b"a=1&Action=", {}, True),
        ("GET", b"%41ctio%6e=a", {}, True),
        ("GET", b"TransAction=1", {}, False),
        ("GET", b"a=Action=1", {}, False),
        ("GET", b"Action", {}, False),
        ("GET", b"action=a", {}, False),
        ("POST", b"", {b"content-type": FORM + b"; charset=utf-8"}, True),
        ("GET", b"", {b"content-type": FORM}, False),
        ("POST", b"", {b"content-type": b"application/json"}, False),
    ],
)
def test_calls_are_told_from_what_else_goes_to_the_root(
    method: str, query: bytes, headers: dict[bytes, bytes], due: bool
) -> None:
    assert is_call(method, query, headers) == due


@pytest.mark.parametrize(
    ("sent", "due"),
    [(b"ffe0c072-8a5d", b"ffe0c072-8a5d"), (b"", None), (b"a b", None), (b"a" * 65, None)],
)
def test_trace_ids_are_visible_ascii(sent: bytes, due: bytes | None) -> None:
    assert trace_id({b"x-tc-traceid": sent}) == due
    assert trace_id({}) is None


# --- checks 1 to 7 --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"method": "PUT"}, Code.UNSUPPORTED_PROTOCOL),
        ({"query": b"a" * (limits.API3_QUERY_BYTES_MAX + 1)}, Code.TOO_LARGE),
        ({"action": ""}, Code.MISSING),
        ({"x_tc_version": None}, Code.MISSING),
        ({"x_tc_version": "2021-01-12"}, Code.NO_SUCH_VERSION),
        ({"action": "SendSms"}, Code.INVALID_ACTION),
        ({"action": "pullsmssendstatus"}, Code.INVALID_ACTION),
        ({"x_tc_token": "t"}, Code.TOKEN_REFUSED),
        ({"x_tc_timestamp": None}, Code.INVALID_VALUE),
        ({"x_tc_timestamp": "-1"}, Code.INVALID_VALUE),
        ({"x_tc_timestamp": "1.5"}, Code.INVALID_VALUE),
        ({"x_tc_timestamp": "9" * 20}, Code.INVALID_VALUE),
    ],
)
def test_what_cannot_be_read_is_refused(changes: dict[str, Any], code: Code) -> None:
    with pytest.raises(ActionRefused) as raised:
        call(**changes)
    assert code_of(raised.value) == code


@pytest.mark.parametrize("sent", ["SKIP", "", "Bearer x", None])
def test_authorization_that_is_none_is_refused(sent: str | None) -> None:
    with pytest.raises(InvalidAuthorization):
        call(authorization=sent)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Action": None}, Code.MISSING),
        ({"Version": ""}, Code.MISSING),
        ({"Version": "1"}, Code.NO_SUCH_VERSION),
        ({"Action": "a"}, Code.INVALID_ACTION),
        ({"Token": "t"}, Code.TOKEN_REFUSED),
        ({"Timestamp": None}, Code.INVALID_VALUE),
        ({"Timestamp": "now"}, Code.INVALID_VALUE),
    ],
)
def test_what_cannot_be_read_of_version_1_is_refused(changes: dict[str, Any], code: Code) -> None:
    for method in ("POST", "GET"):
        with pytest.raises(ActionRefused) as raised:
            v1(method, **changes)
        assert code_of(raised.value) == code


def test_the_first_check_that_fails_is_the_answer() -> None:
    """Each fault beside all that come after it."""
    faults: list[tuple[str, str, type[PeerError]]] = [
        ("x_tc_version", "1", ActionRefused),
        ("action", "a", ActionRefused),
        ("authorization", "SKIP", InvalidAuthorization),
        ("x_tc_token", "t", ActionRefused),
        ("x_tc_timestamp", "now", ActionRefused),
    ]
    codes = [Code.NO_SUCH_VERSION, Code.INVALID_ACTION, "", Code.TOKEN_REFUSED, Code.INVALID_VALUE]
    for place, code in enumerate(codes):
        changes: dict[str, Any] = {name: value for name, value, _ in faults[place:]}
        with pytest.raises(faults[place][2]) as raised:
            call(**changes)
        assert not code or code_of(raised.value) == code


def test_actions_may_be_more() -> None:
    more = Action("SendSms", Subject.SENDS, None)
    sent = {b"x-tc-action": b"SendSms", b"x-tc-version": b"2021-01-11", b"x-tc-timestamp": b"1"}
    sent |= {b"host": b"a", b"content-type": b""}
    sent[b"authorization"] = sign(Signed("POST", b"", sent, b"{}"), ID, KEY)
    with pytest.raises(ActionRefused):
        read_request("POST", b"", sent, b"{}")
    found = read_request("POST", b"", sent, b"{}", actions={**ACTIONS, "SendSms": more})
    assert found.action is more
    assert found.parameters() == {}


# --- checks 9 and 10 ------------------------------------------------------------------------------


def test_what_is_signed_is_proven() -> None:
    for one in (call(), call(method="GET", query=b"Limit=1&SmsSdkAppId=1"), v1(), v1("GET")):
        assert one.secret_id == ID
        one.prove(KEY, unsigned_payload=False, v1=True)
        with pytest.raises(SignatureWrong):
            one.prove(KEY + "0", unsigned_payload=True, v1=True)


def test_version_1_is_taken_where_the_pair_allows_it() -> None:
    with pytest.raises(SignatureWrong, match="not allowed"):
        v1().prove(KEY, unsigned_payload=True, v1=False)
    with pytest.raises(SignatureWrong, match="not that of"):
        v1(key="other").prove(KEY, unsigned_payload=True, v1=False)


def test_an_unsigned_payload_is_taken_where_the_pair_allows_it() -> None:
    one = call(x_tc_content_sha256="UNSIGNED-PAYLOAD")
    one.prove(KEY, unsigned_payload=True, v1=False)
    with pytest.raises(SignatureWrong, match="unsigned payload is not allowed"):
        one.prove(KEY, unsigned_payload=False, v1=True)


@pytest.mark.parametrize("off_s", [-300, 0, 300])
def test_five_minutes_either_way_are_fresh(off_s: int) -> None:
    call().check_time(NOW_S + off_s)


@pytest.mark.parametrize(
    ("now_s", "text"),
    [
        (NOW_S + 301, "301 s behind"),
        (NOW_S - 301, "301 s ahead"),
        (NOW_S // 1000, "in milliseconds" if NOW_S > 10**12 else "ahead"),
    ],
)
def test_what_is_not_fresh_is_told_the_time(now_s: int, text: str) -> None:
    with pytest.raises(ActionRefused, match=text) as raised:
        call().check_time(now_s)
    assert code_of(raised.value) == Code.SIGNATURE_EXPIRED
    assert str(now_s) in raised.value.message


def test_milliseconds_are_named() -> None:
    with pytest.raises(ActionRefused, match="in milliseconds"):
        v1(Timestamp=f"{NOW_S}000").check_time(NOW_S)
    with pytest.raises(SignatureWrong, match="in milliseconds"):  # of no day that TC3 can sign
        call(x_tc_timestamp=f"{NOW_S}000").prove(KEY, unsigned_payload=False, v1=False)


def test_the_journal_has_the_answers_name_and_the_time() -> None:
    proof = call().proof("eac6b301-a322-493a-8e36-83b295459397")
    assert read_proof(proof) == ("eac6b301-a322-493a-8e36-83b295459397", NOW_S)
    assert read_proof("random=1 time=2") == ("", 0)
    assert call().nonce != call(parameters=APP).nonce
    assert call().nonce.split()[:2] == ["PullSmsSendStatus", str(NOW_S)]


def test_a_pull_is_known_by_hexadecimal_digits() -> None:
    """Of which workers make a number; and the two that have one signature are two."""
    marks = [call(name).mark for name in ("PullSmsSendStatus", "PullSmsReplyStatus")]
    assert len({*marks}) == 2
    assert all(re.fullmatch("[0-9a-f]{32,}", mark) for mark in [*marks, v1().mark])


# --- checks 11 and 12 -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "sdkappid"),
    [
        ("1400006666", 1400006666),
        (1400006666, 1400006666),
        ("0", 0),
        (2**31 - 1, 2**31 - 1),
        (2**31, UNKNOWN_SDKAPPID),
        ("9" * 18, UNKNOWN_SDKAPPID),
    ],
)
def test_applications_are_named_by_text_or_number(sent: object, sdkappid: int) -> None:
    assert call(parameters={"SmsSdkAppId": sent}).sdkappid() == sdkappid
    parameters = {"SmsSdkAppid": sent}
    assert call(parameters=parameters, x_tc_version=V2019).sdkappid() == sdkappid


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({}, Code.MISSING),
        ({"SmsSdkAppId": None}, Code.MISSING),
        ({"SmsSdkAppId": ""}, Code.MISSING),
        ({"SmsSdkAppid": "1"}, Code.MISSING),
        ({"SmsSdkAppId": "x"}, Code.INVALID_VALUE),
        ({"SmsSdkAppId": "-1"}, Code.INVALID_VALUE),
        ({"SmsSdkAppId": -1}, Code.INVALID_VALUE),
        ({"SmsSdkAppId": True}, Code.INVALID_VALUE),
        ({"SmsSdkAppId": 1.5}, Code.INVALID_VALUE),
        ({"SmsSdkAppId": [1]}, Code.INVALID_VALUE),
        ({"SmsSdkAppId": "9" * 100}, Code.INVALID_VALUE),
        ({"SmsSdkAppId": "\u0661"}, Code.INVALID_VALUE),
        ([], Code.UNREADABLE),
        ("x", Code.UNREADABLE),
    ],
)
def test_applications_that_are_none_are_refused(sent: object, code: Code) -> None:
    with pytest.raises(ActionRefused) as raised:
        call(parameters=sent).sdkappid()
    assert code_of(raised.value) == code


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100, b'{"a":' * 100, b'{"SmsSdkAppId":"\\ud800"}' + b"x"]
)
def test_bodies_that_are_no_json_are_read_when_it_is_their_turn(body: bytes) -> None:
    one = call(body=body)
    one.prove(KEY, unsigned_payload=False, v1=False)
    with pytest.raises(ActionRefused) as raised:
        one.sdkappid()
    assert code_of(raised.value) == Code.UNREADABLE


def test_the_media_type_says_how_a_body_is_read() -> None:
    for content_type in ("application/json; charset=utf-8", "text/plain", "APPLICATION/JSON"):
        assert call(content_type=content_type).limit() == 100
    form = call(body=b"Limit=7&Limit=8", content_type="application/X-www-form-urlencoded; a=b")
    assert form.limit() == 7


@pytest.mark.parametrize(
    "query",
    [b"Limit=%ff", b"\xff", b"&".join([b"a=1"] * (limits.API3_PARAMETERS_MAX + 1))],
)
def test_queries_that_cannot_be_decoded_are_refused(query: bytes) -> None:
    one = call(method="GET", query=query)
    with pytest.raises(ActionRefused) as raised:
        one.limit()
    assert code_of(raised.value) == Code.UNREADABLE


# --- what is asked again --------------------------------------------------------------------------


def outcome(sent: Mapping[str, Any], actions: Mapping[str, Action]) -> list[object]:
    """All that a call is read as, until a check fails, and that failure."""
    headers = {
        name.encode(): value for name, value in sent.items() if name.islower() and value is not None
    }
    told: list[object] = []
    try:
        request = read_request(
            sent["METHOD"], sent["QUERY"], headers, sent["BODY"], actions=actions
        )
        told += [request.action, request.version, request.secret_id, request.nonce, request.mark]
        for unsigned_payload in (False, True):
            with contextlib.suppress(SignatureWrong):
                request.prove(KEY, unsigned_payload=unsigned_payload, v1=False)
                told.append("proven")
        told += [request.sdkappid(), sorted(request.parameters()), request.limit()]
    except PeerError as error:
        told += [type(error), str(error), getattr(error, "error_code", "")]
    return told


USUAL: dict[str, Any] = {
    "METHOD": "POST",
    "QUERY": b"",
    "BODY": b'{"Limit":5,"SmsSdkAppId":"1400006666"}',
    "host": b"127.0.0.1:8080",
    "content-type": b"application/json",
    "accept": b"*/*",
    "x-tc-action": PULL.encode(),
    "x-tc-version": b"2021-01-11",
    "x-tc-timestamp": b"%d" % NOW_S,
}
OTHERWISE: dict[str, tuple[Any, ...]] = {
    "METHOD": ("GET", "PUT"),
    "QUERY": (b"Limit=1", b"Limit=1&SmsSdkAppId=1400006666"),
    "BODY": (b"", b"[]", b'{"Limit":0}', b'{"SmsSdkAppId":1,"Limit":"7"}', b"{}".ljust(2000)),
    "host": (b"", b"127.0.0.1", b"LOCALHOST:8080", None),
    "content-type": (b"", FORM, b"application/json; charset=utf-8", None),
    "x-tc-action": (b"PullSmsReplyStatus", b"CallbackStatusStatistics", b"SendSms", b"", b"\xff"),
    "x-tc-version": (b"2019-07-11", b"2021", b"", None),
    "x-tc-token": (b"t", b""),
    "x-tc-timestamp": (b"%d" % (NOW_S + 1), b"0", b"1e9", b"", b"9" * 20, b"\xb2", None),
    "x-tc-content-sha256": (b"UNSIGNED-PAYLOAD", b"x"),
}
CHANGES = st.dictionaries(st.sampled_from(sorted(OTHERWISE)), st.integers(0, 6), max_size=2).map(
    lambda chosen: {name: OTHERWISE[name][at % len(OTHERWISE[name])] for name, at in chosen.items()}
)
NAMES = st.sampled_from(
    (
        *("content-type;host", "content-type;host;x-tc-action", "host;content-type"),
        *("content-type;host;x-tc-timestamp", "accept;content-type;host"),
    )
)
ENDS = st.sampled_from((b"%b", b"%b ", b" %b", b"SKIP%.0b", b"%.99b"))


EACH = [{name: value} for name, values in OTHERWISE.items() for value in values]


@pytest.mark.parametrize("changes", EACH, ids=str)
def test_what_is_asked_a_little_differently_is_read_as_with_care(changes: dict[str, Any]) -> None:
    headers = {name.encode(): value for name, value in USUAL.items() if name.islower()}
    whole = Signed(USUAL["METHOD"], USUAL["QUERY"], headers, USUAL["BODY"])
    usual = USUAL | {"authorization": sign(whole, ID, KEY)}
    assert "proven" in outcome(usual, ACTIONS)
    assert outcome(usual | changes, ACTIONS) == outcome(usual | changes, dict(ACTIONS))


@given(CHANGES, CHANGES, NAMES, ENDS)
def test_what_is_asked_again_is_read_as_with_care(
    before: dict[str, Any], after: dict[str, Any], names: str, written: bytes
) -> None:
    """A call that was changed before it was signed, or behind that, or both."""
    sent = USUAL | before
    headers = {name.encode(): value for name, value in sent.items() if isinstance(value, bytes)}
    signed = tuple(map(str.encode, names.split(";")))
    try:
        whole = Signed(sent["METHOD"], sent["QUERY"], headers, sent["BODY"])
        authorization = sign(whole, ID, KEY, signed=signed)
    except ValueError:  # nothing to sign it by
        authorization = b""
    for call_ in (sent, sent | after, sent):
        asked = call_ | {"authorization": written % authorization}
        assert outcome(asked, ACTIONS) == outcome(asked, dict(ACTIONS))


def test_large_calls_are_not_remembered() -> None:
    requests._asked.cache_clear()
    for size, due in ((0, 1), (limits.API3_ASKED_BYTES, 1)):
        request = call(body=b'{"Limit":5,"SmsSdkAppId":"1"}' + b" " * size)
        request.prove(KEY, unsigned_payload=False, v1=False)
        assert request.limit() == 5
        assert requests._asked.cache_info().currsize == due
    assert requests._asked.cache_info().maxsize == limits.API3_ASKED_KNOWN


# --- check 16 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [1, 100, "1", "100", 1.0, 1e2])
def test_limits_are_integers_however_written(sent: object) -> None:
    assert call(parameters={"Limit": sent}).limit() == int(float(str(sent)))


@pytest.mark.parametrize("sent", [0, 101, -1, "0", "1.0", "+1", " 1", True, 1.5, [], {}, 10**30])
def test_limits_that_are_none_are_refused(sent: object) -> None:
    with pytest.raises(ActionRefused) as raised:
        call(parameters={"Limit": sent}).limit()
    assert code_of(raised.value) == Code.INVALID_VALUE


def test_parameters_of_a_query_and_a_form_are_texts() -> None:
    query = urlencode({**APP, **BY_NUMBER}).encode()
    expected = ByNumber("8613800000000", NOW_S - 60, NOW_S, 0, 100, None)
    assert call(FIND, method="GET", query=query).by_number(NOW_S) == expected
    texts = {name: str(value) for name, value in BY_NUMBER.items()}
    for method in ("GET", "POST"):
        assert v1(method, Action=FIND, **texts).by_number(NOW_S) == expected


def test_by_number_of_2019_has_other_names() -> None:
    sent = {
        **APP,
        "PhoneNumber": "+8613800000000",
        "SendDateTime": NOW_S - 60,
        "EndDateTime": NOW_S,
        "Offset": 3,
        "Limit": 1,
        "SerialNo": "8:1",
    }
    found = call(FIND, sent, x_tc_version=V2019)
    assert found.by_number(NOW_S) == ("8613800000000", NOW_S - 60, NOW_S, 3, 1, "8:1")
    with pytest.raises(ActionRefused, match="SendDateTime"):
        call(FIND, BY_NUMBER, x_tc_version=V2019).by_number(NOW_S)


def test_the_end_is_now_if_it_is_left_out() -> None:
    sent = {name: value for name, value in BY_NUMBER.items() if name != "EndTime"}
    assert call(FIND, sent).by_number(NOW_S + 5).to_s == NOW_S + 5


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"PhoneNumber": None}, Code.MISSING),
        ({"PhoneNumber": "8613800000000"}, Code.BAD_NUMBER),
        ({"PhoneNumber": "+1234"}, Code.BAD_NUMBER),
        ({"PhoneNumber": "+" + "1" * 21}, Code.BAD_NUMBER),
        ({"PhoneNumber": "+86 1380000"}, Code.BAD_NUMBER),
        ({"PhoneNumber": 8613800000000}, Code.BAD_NUMBER),
        ({"BeginTime": None}, Code.MISSING),
        ({"BeginTime": "now"}, Code.BAD_BEGIN),
        ({"BeginTime": -1}, Code.BAD_BEGIN),
        ({"BeginTime": NOW_S * 1000}, Code.BAD_BEGIN),
        ({"BeginTime": NOW_S - 7 * 86_400 - 601}, Code.BAD_BEGIN),
        ({"EndTime": True}, Code.BAD_END),
        ({"EndTime": NOW_S * 1000}, Code.BAD_END),
        ({"BeginTime": NOW_S, "EndTime": NOW_S - 1}, Code.BEGINS_AFTER_END),
        ({"Offset": None}, Code.MISSING),
        ({"Offset": -1}, Code.INVALID_VALUE),
        ({"Offset": 10_001}, Code.INVALID_VALUE),
        ({"Limit": None}, Code.MISSING),
        ({"Limit": 101}, Code.INVALID_VALUE),
        ({"SerialNo": 1}, Code.INVALID_VALUE),
        ({"SerialNo": "8" * 65}, Code.INVALID_VALUE),
    ],
)
def test_questions_by_number_that_are_none_are_refused(
    changes: dict[str, object], code: Code
) -> None:
    with pytest.raises(ActionRefused) as raised:
        call(FIND, BY_NUMBER | changes).by_number(NOW_S)
    assert code_of(raised.value) == code
    assert next(iter(changes)) in raised.value.message


def test_the_edges_of_by_number_are_taken() -> None:
    edges = {"BeginTime": NOW_S - 7 * 86_400 - 600, "Offset": 10_000, "PhoneNumber": "+12345"}
    assert call(FIND, BY_NUMBER | edges).by_number(NOW_S).offset == 10_000
    assert call(FIND, BY_NUMBER | {"BeginTime": NOW_S}).by_number(NOW_S).from_s == NOW_S


def test_hours_are_texts_or_numbers_in_both_versions() -> None:
    assert call(COUNT, HOURS).hours() == (2021051100, 2021051123)
    assert call(COUNT, HOURS | {"EndTime": 2021051100}).hours() == (2021051100, 2021051100)
    sent = {"StartDateTime": 2021051100, "EndDataTime": "2021061200", "Limit": "0", "Offset": 0}
    assert call(COUNT, sent, x_tc_version=V2019).hours() == (2021051100, 2021061200)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"BeginTime": ""}, Code.MISSING),
        ({"BeginTime": "2021022900"}, Code.BAD_BEGIN),
        ({"BeginTime": 20210511}, Code.BAD_BEGIN),
        ({"EndTime": None}, Code.MISSING),
        ({"EndTime": "2021051124"}, Code.BAD_END),
        ({"EndTime": "2021051023"}, Code.BAD_END),
        ({"EndTime": "2021061201"}, Code.BAD_END),
        ({"Limit": None}, Code.MISSING),
        ({"Limit": 1}, Code.BAD_LIMIT),
        ({"Offset": None}, Code.MISSING),
        ({"Offset": "x"}, Code.BAD_OFFSET),
    ],
)
def test_hours_that_are_none_are_refused(changes: dict[str, object], code: Code) -> None:
    with pytest.raises(ActionRefused) as raised:
        call(COUNT, HOURS | changes).hours()
    assert code_of(raised.value) == code


def test_2019_has_no_code_of_its_own_for_limit_and_offset() -> None:
    sent: Mapping[str, object] = {
        "StartDateTime": 2021051100,
        "EndDataTime": 2021051100,
        "Limit": 0,
        "Offset": 0,
    }
    for name in ("Limit", "Offset"):
        with pytest.raises(ActionRefused) as raised:
            call(COUNT, {**sent, name: 1}, x_tc_version=V2019).hours()
        assert code_of(raised.value) == Code.INVALID_VALUE


# --- altogether -----------------------------------------------------------------------------------


def test_actions_are_the_six() -> None:
    assert {(name, one.kind) for name, one in ACTIONS.items() if one.subject is Subject.PULL} == {
        ("PullSmsSendStatus", Kind.DELIVERY_STATUS),
        ("PullSmsReplyStatus", Kind.REPLY),
    }
    assert len(ACTIONS) == 6
    assert call().version is Version.V2021


def refused(read: Callable[[], object]) -> str:
    try:
        read()
    except ActionRefused as error:
        return error.message
    return ""


@given(st.dictionaries(st.sampled_from([*BY_NUMBER, *APP, "New"]), st.text() | st.integers()))
def test_no_refusal_repeats_what_was_sent(sent: dict[str, object]) -> None:
    one = call(FIND, sent)
    for read in (one.sdkappid, one.limit, one.hours, lambda: one.by_number(NOW_S)):
        told = refused(read)
        for value in sent.values():
            assert len(str(value)) < 6 or str(value) not in told


def test_protocol_lists_the_checks_and_no_others() -> None:
    """Every code that there is stands in the reference's table, and every one there is real."""
    page = (Path(__file__).parents[4] / "docs" / "reference" / "protocol.md").read_text("utf-8")
    section = page.partition("### 11.7 Order of checks")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| ")]
    codes = {row[3].strip().strip("`") for row in rows[1:]}
    assert [int(row[1]) for row in rows[1:]] == list(range(1, len(rows)))
    assert codes == {code.value for code in Code}
