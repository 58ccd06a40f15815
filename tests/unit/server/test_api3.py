"""API 3.0 at the server: which check answers, what is told, counted and logged, and what is not."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
from collections import Counter
from typing import Any

import msgspec
import pytest
import structlog

from pullstatus import limits
from pullstatus.apps import LiveApplication
from pullstatus.apps.rate import RateLimiter
from pullstatus.apps.values import Purpose
from pullstatus.errors import (
    AcknowledgementRefused,
    KeyReused,
    OutcomeUnknown,
    ReplayRefused,
    StoreCorrupt,
    StoreUnavailable,
    TooManyReaders,
)
from pullstatus.records import Kind
from pullstatus.store import Page, Reader
from pullstatus.wire.api3 import signing
from tests.harness import status
from tests.unit.server.api3 import (
    BODY,
    FORM,
    HOST,
    ID,
    KEY,
    NOW_S,
    PULL,
    call,
    code,
    form,
    response,
    say,
    served,
    signed,
)
from tests.unit.server.asgi import APP, Served

RECORD = msgspec.json.encode(status(1))

# In the order of the checks; of two that fail the one that stands first answers.
CHECKS = {
    "method": "UnsupportedProtocol",
    "large": "RequestSizeLimitExceeded",
    "no version": "MissingParameter",
    "version": "NoSuchVersion",
    "action": "InvalidAction",
    "authorization": "AuthFailure.InvalidAuthorization",
    "token": "AuthFailure.TokenFailure",
    "timestamp": "InvalidParameterValue",
    "secret id": "AuthFailure.SecretIdNotFound",
    "off": "AuthFailure.SecretIdNotFound",
    "signature": "AuthFailure.SignatureFailure",
    "expired": "AuthFailure.SignatureExpire",
    "body": "InvalidParameter",
    "no number": "MissingParameter",
    "granted": "UnauthorizedOperation.SmsSdkAppIdVerifyFail",
    "address": "UnauthorizedOperation.RequestIpNotInWhitelist",
    "disabled": "UnauthorizedOperation.SdkAppIdIsDisabled",
    "arrears": "UnauthorizedOperation.ServiceSuspendDueToArrears",
    "permitted": "UnauthorizedOperation.RequestPermissionDeny",
    "rate": "RequestLimitExceeded",
    "limit": "InvalidParameterValue",
    "key": "InvalidParameterValue",
}
SAME = (
    {"no version", "version"},
    {"body", "no number", "granted", "limit"},
    {"large", "body"},
)
"""Of these one request cannot have two, or they are one check."""


def make(to: Served, faults: tuple[str, ...]) -> Any:  # noqa: ANN401
    """A pull with these faults; and the server set up so that it has them."""
    live = to.registry.applications[APP.sdkappid]
    application = msgspec.structs.replace(
        live.application,
        allow=("198.51.100.0/24",) if "address" in faults else (),
        enabled="disabled" not in faults,
        arrears="arrears" in faults,
        pull="permitted" not in faults,
        pull_rate_max=1 if "rate" in faults else None,
        owner="other" if "granted" in faults else "",
    )
    opened = dict(zip(live.application.appkeys, live.appkeys, strict=True))
    to.registry.applications[APP.sdkappid] = LiveApplication(application, 1, opened)
    if "rate" in faults:
        assert to.routes.admission._rate.admit(APP.sdkappid, Purpose.PULL, 1)
    known = to.registry.pairs[ID]
    pair = msgspec.structs.replace(known.pair, enabled="off" not in faults)
    to.registry.pairs[ID] = msgspec.structs.replace(known, pair=pair)
    members = PULL | ({"Limit": 101} if "limit" in faults else {})
    if "no number" in faults:
        del members["SmsSdkAppId"]
    body = b"[]" if "body" in faults else json.dumps(members).encode()
    if "large" in faults:
        body += b" " * limits.PULL_BODY_BYTES_MAX
    headers = signed(
        "SendSmsByPigeon" if "action" in faults else "PullSmsSendStatus",
        body,
        key="w" * 32 if "signature" in faults else KEY,
        secret_id=ID.lower() if "secret id" in faults else ID,
        at_s=NOW_S - 301 if "expired" in faults else NOW_S,
        version="2017-01-01" if "version" in faults else "2021-01-11",
    )
    for fault, name, value in (
        ("no version", "x-tc-version", ""),
        ("authorization", "authorization", "SKIP"),
        ("token", "x-tc-token", "t"),
        ("timestamp", "x-tc-timestamp", "now"),
        ("key", "idempotency-key", "a b"),
    ):
        if fault in faults:
            headers[name] = value
    return say(to, headers, body, "PUT" if "method" in faults else "POST")


@pytest.mark.parametrize("first", CHECKS)
def test_of_what_is_wrong_the_first_check_answers(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing was asked of the store."""

    async def run() -> None:
        known = to.registry.applications[APP.sdkappid], to.registry.pairs[ID]
        for second in names[names.index(first) :]:
            if second != first and any({first, second} <= same for same in SAME):
                continue
            to.registry.applications[APP.sdkappid], to.registry.pairs[ID] = known
            to.routes.admission._rate = RateLimiter(lambda: 0.0)
            assert code(await make(to, (first, second))) == CHECKS[first], second

    names = [*CHECKS]
    monkeypatch.setattr(limits, "LOOKS_PER_S_MAX", 1_000_000)
    to = served()
    asyncio.run(run())
    assert not to.store.pulled
    figures = asyncio.run(to.figures())
    assert figures[f'pullstatus_api3_calls_total{{code="{CHECKS[first]}"}}'] >= 1


def test_a_page_is_told_named_and_on_record() -> None:
    to = served()
    to.store.pull_answer = Page(201, 1, RECORD, 4)
    answer, logged = call(to, idempotency_key="k", x_tc_traceid="a-trace")
    told = response(answer)
    [record] = told["PullSmsSendStatusSet"]
    assert record["PhoneNumber"] == "+8613800000001"
    assert answer is not None
    assert answer.header("pullstatus-waiting") == "4"
    assert answer.header("pullstatus-pull-id") == f"{APP.sdkappid}-0-201"
    assert answer.header("x-tc-traceid") == "a-trace"
    [pulled] = to.store.pulled
    assert (pulled.mailbox.kind, pulled.count_max) == (Kind.DELIVERY_STATUS, 10)
    assert (pulled.key, pulled.once, pulled.at_ms) == ("k", None, NOW_S * 1000)
    assert pulled.proof == f"request={told['RequestId']} time={NOW_S}"
    assert not logged
    figures = asyncio.run(to.figures())
    assert figures['pullstatus_api3_calls_total{code=""}'] == 1
    assert figures['pullstatus_records_out_total{kind="delivery-statuses"}'] == 1


def test_a_reader_is_heard() -> None:
    to = served()
    to.store.pull_answer = Page(201, 1, RECORD, 0)
    answer, _ = call(to, pullstatus_reader="billing")
    assert answer is not None
    assert answer.header("pullstatus-reader") == "billing"
    assert to.store.pulled[0].reader == Reader("billing")


def strict() -> Served:
    """A server whose application takes each signature once."""
    to = served()
    live = to.registry.applications[APP.sdkappid]
    changed = msgspec.structs.replace(live.application, strict=True)
    opened = dict(zip(live.application.appkeys, live.appkeys, strict=True))
    to.registry.applications[APP.sdkappid] = LiveApplication(changed, 1, opened)
    return to


def test_a_strict_application_takes_a_signature_once() -> None:
    to = strict()
    call(to)
    once = to.store.pulled[0].once
    assert once is not None
    assert re.fullmatch(f"PullSmsSendStatus {NOW_S} [0-9a-f]{{64}}", once.nonce)
    assert once.until_ms >= (NOW_S + limits.API3_SKEW_S_MAX) * 1000
    to.store.pull_answer = ReplayRefused("came")
    answer, _ = call(to)
    assert code(answer) == "AuthFailure.SignatureFailure"
    assert "before" in response(answer)["Error"]["Message"]


def test_two_actions_of_one_signature_are_two_calls() -> None:
    """SDKs do not sign the action, so statuses and replies of one second have one signature."""
    to = strict()
    for action in ("PullSmsSendStatus", "PullSmsReplyStatus"):
        call(to, action)
    first, second = [pulled.once for pulled in to.store.pulled]
    assert first is not None
    assert second is not None
    assert first.nonce != second.nonce
    assert first.nonce.split()[1:] == second.nonce.split()[1:]
    figures = asyncio.run(to.figures())
    assert figures["pullstatus_pulls_signed_again_total"] == 0


@pytest.mark.parametrize(
    ("failure", "expected", "said"),
    [
        (
            StoreUnavailable("the disk is full"),
            "InternalError",
            "disk is full; nothing was consumed",
        ),
        (StoreCorrupt("of 13812345678"), "InternalError", "the store is damaged; nothing was"),
        (KeyReused("k"), "InvalidParameterValue", "Idempotency-Key"),
        (AcknowledgementRefused("k"), "InvalidParameterValue", "Pullstatus-Ack"),
        (TooManyReaders("64 are"), "InvalidParameterValue", "64 are"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_store_refuses_is_said(failure: Exception, expected: str, said: str) -> None:
    to = served()
    to.store.pull_answer = failure
    answer, logged = call(to)
    assert code(answer) == expected
    assert said in response(answer)["Error"]["Message"]
    assert "13812345678" not in (answer.content.decode() if answer else "")
    assert logged


@pytest.mark.parametrize("failure", [OutcomeUnknown("lost"), ZeroDivisionError("unforeseen")])
def test_where_nobody_knows_what_was_taken_nothing_is_said(failure: Exception) -> None:
    to = served()
    to.store.pull_answer = failure
    answer, logged = call(to)
    assert answer is None
    assert to.hung_up
    assert [line["event"] for line in logged] == ["call not answered"]
    figures = asyncio.run(to.figures())
    assert figures['pullstatus_unanswered_total{call="api3"}'] == 1


def test_a_page_that_cannot_be_told_is_not_an_error_that_consumed_nothing() -> None:
    to = served()
    to.store.pull_answer = Page(201, 1, b'{"mobile":5}', 0)
    answer, logged = call(to)
    assert answer is None
    assert to.hung_up
    assert "13800000001" not in str(logged)


def test_a_peer_that_has_gone_takes_nothing() -> None:
    to = served()
    to.gone = True
    answer, logged = call(to)
    assert answer is None
    assert not to.store.pulled
    assert not logged
    assert asyncio.run(to.figures())["pullstatus_pulls_dropped_total"] == 1


def test_a_question_whose_peer_has_gone_is_no_dropped_pull() -> None:
    to = served()
    to.gone = True
    asked = {"PhoneNumber": "+8613800000001", "BeginTime": NOW_S - 9, "Limit": 1, "Offset": 0}
    answer, _ = call(to, "PullSmsSendStatusByPhoneNumber", PULL | asked)
    assert answer is None
    assert asyncio.run(to.figures())["pullstatus_pulls_dropped_total"] == 0


def test_log_and_answer_of_a_refusal_tell_one_name_and_nothing_that_was_sent() -> None:
    to = served()
    members = PULL | {"PhoneNumber": "+8613812345678", "BeginTime": 1, "Limit": 1, "Offset": 0}
    answer, logged = call(to, "PullSmsSendStatusByPhoneNumber", members)
    told = response(answer)
    assert told["Error"]["Code"] == "InvalidParameterValue.BeginTimeVerifyFail"
    [line] = logged
    assert (line["event"], line["code"]) == ("call refused", told["Error"]["Code"])
    assert line["request"] == told["RequestId"]
    assert answer is not None
    for canary in ("13812345678", KEY, ID):
        assert canary not in str(logged) + answer.content.decode()


@pytest.mark.parametrize("allowed", [False, True])
def test_a_pair_is_signed_with_in_the_ways_that_it_allows(*, allowed: bool) -> None:
    """Neither the older signature nor an unsigned payload, unless its operator says so."""
    expected = "" if allowed else "AuthFailure.SignatureFailure"

    async def run() -> None:
        older = form(f"SmsSdkAppId={APP.sdkappid}&Limit=1", "PullSmsSendStatus")
        assert code(await say(to, FORM, older)) == expected
        unsigned = {"x-tc-content-sha256": "UNSIGNED-PAYLOAD"}
        headers = signed("PullSmsSendStatus", b"not this", more=unsigned)
        assert code(await say(to, headers, BODY)) == expected

    to = served(unsigned_payload=allowed, v1=allowed)
    asyncio.run(run())
    assert len(to.store.pulled) == 2 * allowed


# --- guessing -------------------------------------------------------------------------------------


def work(
    monkeypatch: pytest.MonkeyPatch,
    to: Served,
    key: str = KEY,
    secret_id: str = ID,
    *,
    v1: str = "",
) -> Counter[str]:
    """How many digests a refused call costs, by what they are of, and comparisons.

    Args:
        v1: the method of the older signature that it has; "": it is signed by TC3.
    """
    done: Counter[str] = Counter()
    digest = hmac.digest

    def counted(key: bytes, text: bytes, name: str) -> bytes:
        done[name] += 1
        return digest(key, text, name)

    def hashed(data: bytes) -> Any:  # noqa: ANN401 - a hash
        done["hash"] += 1
        return hashlib.sha256(data)

    def compared(one: bytes, other: bytes) -> bool:
        done["comparison"] += 1
        return compare(one, other)

    compare = hmac.compare_digest
    body = json.dumps(PULL).encode()
    headers = signed("PullSmsSendStatus", body, key=key, secret_id=secret_id)
    if v1:
        text = f"SmsSdkAppId={APP.sdkappid}&Limit=1&Region="  # one that is empty may be unsigned
        headers, body = FORM, form(text, "PullSmsSendStatus", v1, key=key, secret_id=secret_id)
    signing._key_of_day.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(hmac, "digest", counted)
        patch.setattr(hmac, "compare_digest", compared)
        patch.setattr(signing, "sha256", hashed)
        assert code(asyncio.run(say(to, headers, body)))
    return done


def test_an_unknown_secret_id_costs_what_a_wrong_signature_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where what is asked for is remembered: by whom is no part of that."""
    work(monkeypatch, served(), key="w" * 32)
    known = work(monkeypatch, served(), key="w" * 32)
    off = served()
    pair = off.registry.pairs[ID]
    disabled = msgspec.structs.replace(pair.pair, enabled=False)
    off.registry.pairs[ID] = msgspec.structs.replace(pair, pair=disabled)
    assert known["sha256"] > 3
    assert work(monkeypatch, served(), secret_id=ID[:-1] + "0") == known
    assert work(monkeypatch, off) == known


@pytest.mark.parametrize("allowed", [False, True], ids=["not allowed", "allowed"])
@pytest.mark.parametrize(("method", "digest"), [("HmacSHA1", "sha1"), ("HmacSHA256", "sha256")])
def test_and_so_it_does_by_the_older_signature(
    monkeypatch: pytest.MonkeyPatch, method: str, digest: str, *, allowed: bool
) -> None:
    """Whether the pair may be signed with so or not."""
    known = work(monkeypatch, served(v1=allowed), key="w" * 32, v1=method)
    assert known.keys() == {digest, "comparison"}
    off = served(v1=allowed)
    pair = off.registry.pairs[ID]
    disabled = msgspec.structs.replace(pair.pair, enabled=False)
    off.registry.pairs[ID] = msgspec.structs.replace(pair, pair=disabled)
    assert work(monkeypatch, served(v1=allowed), secret_id=ID[:-1] + "0", v1=method) == known
    assert work(monkeypatch, off, v1=method) == known


def test_failed_tries_are_counted_by_what_is_wrong() -> None:
    async def run() -> None:
        body = json.dumps(PULL).encode()
        for key, secret_id in (("w" * 32, ID), (KEY, ID[:-1] + "0")):
            headers = signed("PullSmsSendStatus", body, key=key, secret_id=secret_id)
            assert code(await say(to, headers, body))
        late = signed("PullSmsSendStatus", body, at_s=NOW_S + 301)
        assert code(await say(to, late, body))

    to = served()
    asyncio.run(run())
    figures = asyncio.run(to.figures())
    told = {
        what: figures[f'pullstatus_failed_tries_total{{wrong="{what}"}}']
        for what in ("signature", "secret", "application", "token")
    }
    assert told == {"signature": 1, "secret": 1, "application": 0, "token": 0}


# --- which request it is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "query", "headers", "http_status", "ours"),
    [
        ("GET", "", {}, 200, False),
        ("POST", "", {}, 405, False),
        ("POST", "", {"content-type": "application/json"}, 405, False),
        ("GET", "Action=PullSmsSendStatus", {}, 200, True),
        ("GET", "", {"x-tc-action": ""}, 200, True),
        ("DELETE", "", {"x-tc-action": "a"}, 200, True),
        (
            "POST",
            "",
            {"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
            200,
            True,
        ),
    ],
)
def test_an_address_is_both(
    method: str, query: str, headers: dict[str, str], http_status: int, *, ours: bool
) -> None:
    """What it was before, unless the request says an action, or is a form."""
    answer = asyncio.run(say(served(), {"host": HOST} | headers, b"", method, query))
    assert answer is not None
    assert answer.http_status == http_status
    assert (b'"Response"' in answer.content) == ours


@pytest.mark.parametrize(
    ("trace", "echoed"),
    [("a" * 64, True), ("a" * 65, False), ("a b", False), ("", False), ("é", False)],
)
def test_a_trace_comes_back_if_it_can(trace: str, *, echoed: bool) -> None:
    answer, _ = call(served(), x_tc_traceid=trace)
    assert answer is not None
    assert answer.header("x-tc-traceid") == (trace if echoed else None)


def test_each_answer_has_a_name_of_its_own() -> None:
    to = served()
    with structlog.testing.capture_logs():
        names = {response(call(to)[0])["RequestId"] for _ in range(5)}
    assert len(names) == 5
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f-]+", one) for one in names
    )
