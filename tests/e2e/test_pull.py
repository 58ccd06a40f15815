"""`POST /v5/tlssmssvr/pullstatus` on a running server, as clients of every age send it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pullstatus.records import Kind
from pullstatus.wire.v5.pull import PULL_PATH
from pullstatus.wire.v5.signature import sign
from tests.harness import (
    REPLY,
    STATUS,
    Answer,
    App,
    Program,
    chunked,
    http_request,
    replies,
    reply,
    status,
    statuses,
)

pytestmark = pytest.mark.usefixtures("each_way")

# --- the answer -----------------------------------------------------------------------------------


def test_answer_to_the_byte(shared: Program, app: App) -> None:
    shared.feed(app, statuses(3))
    answer = shared.pull(app, max=2)
    assert answer.http_status == 200
    assert answer.content == (
        b'{"result":0,"errmsg":"ok","type":0,"count":2,"data":['
        b'{"user_receive_time":"2026-01-02 03:04:05","nationcode":"86","mobile":"13800000001",'
        b'"report_status":"SUCCESS","errmsg":"DELIVRD","description":"delivered","sid":"8:1"},'
        b'{"user_receive_time":"2026-01-02 03:04:05","nationcode":"86","mobile":"13800000002",'
        b'"report_status":"SUCCESS","errmsg":"DELIVRD","description":"delivered","sid":"8:2"}]}'
    )
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-length") == str(len(answer.content))
    assert answer.header("transfer-encoding") is None
    assert answer.header("cache-control") == "no-store"
    assert answer.header("pullstatus-waiting") == "1"
    assert answer.header("pullstatus-pull-id") == f"{app.sdkappid}-0-1"


def test_answer_holds_replies_to_the_byte(shared: Program, app: App) -> None:
    shared.feed(app, [reply(1, text="TD")])
    assert shared.pull(app, REPLY).content == (
        b'{"result":0,"errmsg":"ok","type":1,"count":1,"data":[{"nationcode":"86",'
        b'"mobile":"13900000001","text":"TD","sign":"Example","time":1767000001,"extend":""}]}'
    )


@pytest.mark.parametrize("kind", [STATUS, REPLY])
def test_answer_of_an_empty_mailbox_is_a_success(shared: Program, app: App, kind: Kind) -> None:
    answer = shared.pull(app, kind)
    assert answer.content == (
        b'{"result":0,"errmsg":"ok","type":%d,"count":0,"data":[]}' % int(kind)
    )
    assert answer.header("pullstatus-waiting") == "0"
    assert answer.header("pullstatus-pull-id") is None


def test_answer_is_ascii_and_exact_for_any_text(shared: Program, app: App) -> None:
    texts = [
        "emoji 😀 中文 ё",
        "\x00\x01\x1f\x7f",
        '"\\/\b\f\n\r\t',
        "</script>\u2028",
        "",
        "a" * 4000,
    ]
    sent = [reply(number, text=text, sign=text) for number, text in enumerate(texts)]
    shared.feed(app, sent)
    answer = shared.pull(app, REPLY)
    assert answer.content.isascii()
    assert b"\\uD83D\\uDE00 \\u4E2D\\u6587" in answer.content
    assert answer.data == sent


def test_answer_holds_no_null(shared: Program, app: App) -> None:
    """Optional members that came as null leave as clients can take them: "" or not at all."""
    assert shared.ingest(app, STATUS, [status(1, ext=None)]).http_status == 200
    assert shared.ingest(app, REPLY, [reply(1, extend=None)]).http_status == 200
    assert shared.pull(app, STATUS).data == [status(1)]
    assert shared.pull(app, REPLY).data == [reply(1)]


def test_refusal_holds_result_and_errmsg_only(shared: Program, app: App) -> None:
    answer = shared.post(*app.request(max=0))
    assert answer.http_status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-length") == str(len(answer.content))
    assert answer.header("pullstatus-waiting") is None
    assert answer.json.keys() == {"result", "errmsg"}
    assert answer.content.isascii()


# --- how the request may look ---------------------------------------------------------------------


def as_pretty(body: bytes) -> bytes:
    return json.dumps(json.loads(body), indent=4).replace("\n", "\r\n").encode()


def as_talkative(body: bytes) -> bytes:
    extra = {"tel": None, "msg": "", "extend": "", "begin_time": 0, "deep": {"a": [1.5, None]}}
    return json.dumps(extra | json.loads(body)).encode()


@pytest.mark.parametrize(
    ("headers", "change"),
    [
        (["Content-Type: application/json"], bytes),
        (["Content-Type: application/json; charset=utf-8"], bytes),
        (["Content-Type: application/x-www-form-urlencoded"], bytes),
        (["Content-Type: text/plain; charset=utf-8"], as_pretty),
        (["Conetent-Type: application/json"], bytes),
        ([], bytes),
        ([], as_talkative),
        (["Content-Encoding: identity"], bytes),
        (["Connection: keep-alive", "Accept-Encoding: gzip, deflate"], bytes),
    ],
)
def test_request_headers_and_form_are_free(
    shared: Program, app: App, headers: list[str], change: Callable[[bytes], bytes]
) -> None:
    shared.feed(app, statuses(1))
    target, body = app.request()
    answer = shared.exchange(http_request("POST", target, change(body), headers))
    assert answer.header("content-type") == "application/json"
    assert answer.data == statuses(1)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_request_body_may_be_chunked(shared: Program, app: App, size: int) -> None:
    shared.feed(app, statuses(1))
    target, body = app.request()
    request = http_request(
        "POST", target, chunked(body, size), ["Transfer-Encoding: chunked"], sized=False
    )
    assert shared.exchange(request).data == statuses(1)


def test_request_may_expect_100_continue(shared: Program, app: App) -> None:
    """The body is asked for before anything is decided, and only then sent."""
    shared.feed(app, statuses(1))
    target, body = app.request()
    with shared.connect() as wire:
        wire.send(
            http_request("POST", target, body, ["Expect: 100-continue"])[: -len(body)],
        )
        assert wire.read().http_status == 100
        wire.send(body)
        assert wire.read().data == statuses(1)


def test_request_may_come_byte_by_byte(shared: Program, app: App) -> None:
    shared.feed(app, statuses(1))
    request = http_request("POST", *app.request())
    with shared.connect() as wire:
        wire.send(*(request[place : place + 1] for place in range(len(request))))
        assert wire.read().data == statuses(1)


def test_request_http_1_0_is_answered_and_closed(shared: Program, app: App) -> None:
    shared.feed(app, statuses(1))
    request = http_request("POST", *app.request()).replace(b"HTTP/1.1", b"HTTP/1.0")
    with shared.connect() as wire:
        wire.send(request)
        assert wire.read().data == statuses(1)
        assert wire.ended()


def test_request_offering_an_upgrade_is_served_as_it_is(shared: Program, app: App) -> None:
    """A client that offers HTTP/2 with each request keeps its connection, and its answers."""
    shared.feed(app, statuses(3))
    offer = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA"]
    with shared.connect() as wire:
        for number in (1, 2, 3):
            wire.send(http_request("POST", *app.request(max=1), offer))
            assert wire.read().data == [status(number)]


@pytest.mark.parametrize(
    "query",
    [
        "sdkappid={id}&random=7",
        "random=7&sdkappid={id}",
        "a=1&random=7&b&sdkappid={id}&",
        "sdkappid={id}&random=7&random=8&sdkappid=1",
        "%73dkappid={id}&random=%37",
        "sdkappid=00{id}&random=7",
    ],
)
def test_request_query_order_is_free_and_the_first_of_a_name_counts(
    shared: Program, app: App, query: str
) -> None:
    shared.feed(app, statuses(1))
    target = f"{PULL_PATH}?{query.format(id=app.sdkappid)}"
    assert shared.exchange(
        http_request("POST", target, json.dumps(app.body("7")).encode())
    ).data == statuses(1)


@pytest.mark.parametrize(
    "random",
    ["0", "000000", "012345", "12345", "9223372036854775807", "7" * 64, "a b+c/é=&?", "-1.5e3"],
)
def test_random_is_text_signed_as_sent(shared: Program, app: App, random: str) -> None:
    shared.feed(app, statuses(1))
    answer = shared.post(app.target(quote(random, safe="")), app.body(random))
    assert answer.data == statuses(1)


@pytest.mark.parametrize(
    ("sent", "signed"),
    [("012345", "12345"), ("12345", "012345"), ("0", "000000"), ("1", "1.0"), ("1+2", "1 2")],
)
def test_random_is_never_taken_for_a_number(
    shared: Program, app: App, sent: str, signed: str
) -> None:
    assert shared.post(app.target(sent), app.body(signed)).result == 1001


@pytest.mark.parametrize("query", ["", "&random=", f"&random={'1' * 65}", "&random=%ff"])
def test_random_missing_or_out_of_bounds(shared: Program, app: App, query: str) -> None:
    answer = shared.post(f"{PULL_PATH}?sdkappid={app.sdkappid}{query}", app.body(""))
    assert answer.result == 1004
    assert "random" in answer.json["errmsg"]


@pytest.mark.parametrize("query", ["", "sdkappid=", "sdkappid=abc", "sdkappid=-1", "sdkappid=1.0"])
def test_sdkappid_missing_or_not_decimal(shared: Program, app: App, query: str) -> None:
    assert shared.post(f"{PULL_PATH}?random=1&{query}", app.body("1")).result == 60012


@pytest.mark.parametrize("sdkappid", ["1", "2147483648", "9" * 1900])
def test_sdkappid_unknown(shared: Program, app: App, sdkappid: str) -> None:
    target = f"{PULL_PATH}?random=1&sdkappid={sdkappid}"
    assert shared.post(target, app.body("1")).result == 1019


@pytest.mark.parametrize("change", [str.upper, str.title, str.lower])
def test_sig_may_be_of_either_case(shared: Program, app: App, change: Callable[[str], str]) -> None:
    shared.feed(app, statuses(1))
    body = app.body("1")
    assert shared.post(app.target("1"), body | {"sig": change(body["sig"])}).data == statuses(1)


@pytest.mark.parametrize("sig", [..., "", None, 5, ["a"], {"a": 1}, True])
def test_sig_missing(shared: Program, app: App, sig: object) -> None:
    assert shared.post(app.target("1"), app.body("1", sig=sig)).result == 1003


def test_sig_wrong(shared: Program, app: App) -> None:
    at = int(time.time())
    right = app.body("1", time=at)["sig"]
    wrong = [
        sign(app.appkey + " ", "1", at),
        sign(app.appkey.upper(), "1", at),
        sign("0" * 32, "1", at),
        sign(app.appkey, "1", f"{at}&mobile="),
        sign(app.appkey, "1", at + 1),
        right[:-1],
        right + "0",
        f" {right[1:]}",
        "g" * 64,
        "é" * 64,
        "0" * 10_000,
    ]
    for sig in wrong:
        body = app.body("1", time=at, sig=sig)
        assert shared.post(app.target("1"), body).result == 1001, sig
    assert shared.post(app.target("1"), app.body("1", time=at)).result == 0


@pytest.mark.parametrize("max_", ["10", 10, 100, 10.0, "100"])
def test_max_may_be_a_string_of_digits_or_integral(shared: Program, app: App, max_: object) -> None:
    shared.feed(app, statuses(11))
    answer = shared.post(app.target("1"), app.body("1", max=max_))
    assert len(answer.data) == min(11, int(float(str(max_))))


def test_members_need_not_be_plain_json_integers(shared: Program, app: App) -> None:
    shared.feed(app, statuses(1))
    at = int(time.time())
    body = b'{"sig":"%b","time":%d.0,"type":0e0,"max":1E1}' % (
        sign(app.appkey, "1", at).encode(),
        at,
    )
    assert shared.post(app.target("1"), body).data == statuses(1)


@pytest.mark.parametrize(
    "max_",
    [
        101,
        1000,
        2**31,
        2**64,
        10**300,
        0,
        -1,
        ...,
        True,
        False,
        None,
        1.5,
        "",
        "ten",
        "1.0",
        [],
        {},
    ],
)
def test_max_out_of_range_is_refused_not_clamped(shared: Program, app: App, max_: object) -> None:
    shared.feed(app, statuses(1))
    answer = shared.post(app.target("1"), app.body("1", max=max_))
    assert answer.result == 1004
    assert "max" in answer.json["errmsg"]
    assert "100" in answer.json["errmsg"]
    assert shared.pull(app).data == statuses(1)


@pytest.mark.parametrize(("type_", "kind"), [(0, STATUS), (1, REPLY), ("0", STATUS), ("1", REPLY)])
def test_type_names_the_mailbox(shared: Program, app: App, type_: object, kind: Kind) -> None:
    shared.feed(app, statuses(1))
    shared.feed(app, replies(1))
    answer = shared.post(app.target("1"), app.body("1", type=type_))
    assert answer.data == [statuses(1), replies(1)][kind]
    assert answer.json["type"] == int(kind)


@pytest.mark.parametrize("type_", [2, -1, ..., None, True, False, 0.5, "", "x", [0]])
def test_type_out_of_range(shared: Program, app: App, type_: object) -> None:
    answer = shared.post(app.target("1"), app.body("1", type=type_))
    assert answer.result == 1004
    assert "type" in answer.json["errmsg"]


@pytest.mark.parametrize(
    ("skew_s", "result"), [(-601, 1021), (-600, 0), (0, 0), (600, 0), (601, 1021)]
)
def test_time_may_be_ten_minutes_off_either_way(
    shared: Program, app: App, skew_s: int, result: int
) -> None:
    while True:
        at = int(time.time())
        answer = shared.post(*app.request(at=at + skew_s))
        if int(time.time()) == at:  # only then was it the server's second too
            break
    assert answer.result == result
    if result:
        assert f"{abs(skew_s)} s {'behind' if skew_s < 0 else 'ahead'}" in answer.json["errmsg"]


def test_time_in_milliseconds_is_said_to_be(shared: Program, app: App) -> None:
    answer = shared.post(*app.request(at=int(time.time() * 1000)))
    assert answer.result == 1021
    assert "milliseconds" in answer.json["errmsg"]


def test_time_may_be_a_string_of_digits(shared: Program, app: App) -> None:
    assert shared.post(app.target("1"), app.body("1", time=str(int(time.time())))).result == 0


@pytest.mark.parametrize(
    "time_", [..., None, True, 1.5, "", " 1", "1 ", "+1", "-1", -1, "1e9", [], 2**64, "9" * 5000]
)
def test_time_that_is_none(shared: Program, app: App, time_: object) -> None:
    answer = (
        shared.post(app.target("1"), app.body("1") | {"time": time_})
        if time_ is not ...
        else (shared.post(app.target("1"), {k: v for k, v in app.body("1").items() if k != "time"}))
    )
    assert answer.result == 1004
    assert "time" in answer.json["errmsg"]


BODIES = {
    "empty": b"",
    "array": b"[]",
    "null": b"null",
    "string": b'"text"',
    "number": b"5",
    "blank": b" \n",
    "truncated": b'{"sig":"',
    "trailing bytes": b'{"sig":"a","time":1} x',
    "two objects": b'{"sig":"a"}{"sig":"a"}',
    "comment": b'{"sig":"a" /* b */}',
    "single quotes": b"{'sig':'a'}",
    "NaN": b'{"sig":"a","time":NaN}',
    "Infinity": b'{"sig":"a","time":Infinity}',
    "leading zero": b'{"sig":"a","time":01}',
    "invalid UTF-8": b'{"sig":"\xff\xfe"}',
    "overlong UTF-8": b'{"sig":"\xc0\xaf"}',
    "byte order mark": b'\xef\xbb\xbf{"sig":"a"}',
    "UTF-16": '{"sig":"a"}'.encode("utf-16"),
    "half a surrogate pair": b'{"sig":"\\ud800"}',
    "hidden half pair": b'{"sig":"a","other":"\\udc00"}',
    "too deep": b'{"a":' + b"[" * 16 + b"]" * 16 + b"}",
    "much too deep": b"[" * 30_000,
    "form": b"sig=a&time=1&type=0&max=1",
}


@pytest.mark.parametrize("name", BODIES)
def test_body_that_is_no_json_object(shared: Program, app: App, name: str) -> None:
    answer = shared.exchange(http_request("POST", app.target("1"), BODIES[name]))
    assert answer.result == 1004


def test_body_members_given_twice_count_as_the_last(shared: Program, app: App) -> None:
    shared.feed(app, statuses(2))
    body = json.dumps(app.body("1", max=1))
    answer = shared.post(app.target("1"), ('{"max":7,"sig":"x",' + body[1:]).encode())
    assert answer.data == statuses(1)


def test_body_too_large_is_unreadable(shared: Program, app: App) -> None:
    target, body = app.request()
    fits, over = (body.ljust(size) for size in (64 * 1024, 64 * 1024 + 1))
    assert shared.post(target, fits).result == 0
    assert shared.post(target, over).result == 60008
    endless = http_request(
        "POST", target, chunked(over, 4096), ["Transfer-Encoding: chunked"], sized=False
    )
    assert shared.exchange(endless).result == 60008


def test_body_may_not_be_encoded(shared: Program, app: App) -> None:
    assert shared.post(*app.request(), {"Content-Encoding": "gzip"}).result == 60008


# --- methods and paths ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_method_other_than_post(shared: Program, app: App, method: str) -> None:
    answer = shared.exchange(http_request(method, *app.request()))
    assert answer.result == 60008


def test_method_head_is_answered_without_body(shared: Program, app: App) -> None:
    with shared.connect() as wire:
        wire.send(http_request("HEAD", app.target("1")))
        answer = wire.read(bodiless=True)
        assert answer.http_status == 200
        assert answer.header("content-type") == "application/json"
        wire.send(http_request("POST", *app.request()))
        assert wire.read().result == 0


@pytest.mark.parametrize("path", [PULL_PATH, "/", "/metrics", "/ingest/1/replies", "/v5/x"])
def test_method_trace_is_refused_everywhere(shared: Program, path: str) -> None:
    answer = shared.exchange(http_request("TRACE", path))
    assert answer.http_status == 405
    assert answer.header("allow") == ("GET, HEAD" if path in ("/", "/metrics") else "POST")


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "path",
    [
        "/v5/",
        "/v5/tlssmssvr/sendsms",
        "/v5/tlssmssvr/pullstatus/",
        "/v5/tlssmssvr/PULLSTATUS",
        "/v5/tlssmssvr/pullstatus%00",
    ],
)
def test_path_unknown(shared: Program, app: App, path: str, method: str) -> None:
    target, body = app.request()
    answer = shared.exchange(http_request(method, target.replace(PULL_PATH, path), body))
    assert answer.result == 1011
    assert answer.header("content-type") == "application/json"


# --- the order of checks --------------------------------------------------------------------------


def test_checks_come_in_their_order(shared: Program) -> None:
    """A request that is wrong in every way is told the first fault; each fix shows the next."""
    app = shared.create_app("--no-pull")
    number = str(app.sdkappid)
    shared.feed(app, statuses(1))
    shared.cli("app", "set", number, "--allow", "192.0.2.0/24", "--arrears", "on", "--rate", "1")
    shared.cli("app", "disable", number)
    stale = int(time.time()) - 1000
    good = sign(app.appkey, "1", stale)

    def ask(query: str, **members: object) -> int:
        body = {"type": 9, "max": 0} | members
        return shared.post(f"{PULL_PATH}?{query}", body).result

    def wait(result: int, **members: object) -> None:
        shared.until(lambda: ask(f"sdkappid={number}&random=1", **members) == result)

    assert answer_of_method(shared, "PUT", PULL_PATH, b"") == 60008
    assert ask("") == 60012
    assert ask("sdkappid=1") == 1004
    assert ask("sdkappid=1&random=1") == 1003
    assert ask("sdkappid=1&random=1", sig="x") == 1004
    assert ask("sdkappid=1&random=1", sig="x", time=1) == 1019
    wait(1009, sig="x", time=stale)
    shared.cli("app", "set", number, "--allow", "127.0.0.0/8")
    wait(1001, sig="x", time=stale)
    assert ask(f"sdkappid={number}&random=1", sig=good, time=stale) == 1021
    fresh: dict[str, Any] = {"sig": sign(app.appkey, "1", stale + 1000), "time": stale + 1000}
    assert ask(f"sdkappid={number}&random=1", **fresh) == 1020
    shared.cli("app", "enable", number)
    wait(1033, **fresh)
    shared.cli("app", "set", number, "--arrears", "off")
    wait(1006, **fresh)
    shared.cli("app", "set", number, "--pull", "on")
    wait(1004, **fresh)
    wait(60007, **fresh)  # not the next one, on a machine on which they are a second apart
    shared.cli("app", "set", number, "--rate", "0")
    wait(1004, **fresh)
    assert shared.pull(app).data == statuses(1)


def test_errors_consume_nothing(shared: Program, app: App) -> None:
    shared.feed(app, statuses(3))
    target, body = app.request()
    now = int(time.time())
    for bad in (
        app.body("1", sig="0" * 64),
        app.body("1", sig=""),
        app.body("1", time=now - 601),
        app.body("1", type=2),
        app.body("1", max=101),
        app.body("1", max=0),
        b"{",
    ):
        assert shared.post(app.target("1"), bad).result != 0
    assert shared.post(target, body, {"Content-Encoding": "br"}).result == 60008
    assert shared.post(target, body, {"Idempotency-Key": "a b"}).result == 1004
    assert answer_of_method(shared, "PUT", target, body) == 60008
    assert shared.waiting(app) == 3
    assert shared.pull(app).data == statuses(3)


def answer_of_method(program: Program, method: str, target: str, body: bytes) -> int:
    return program.exchange(http_request(method, target, body)).result


# --- the queue ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "records"), [(STATUS, statuses(250)), (REPLY, replies(250))])
def test_queue_of_250_comes_as_100_100_50_0(
    shared: Program, app: App, kind: Kind, records: list[dict[str, Any]]
) -> None:
    shared.feed(app, records)
    pages = [shared.pull(app, kind) for _ in range(4)]
    assert [page.json["count"] for page in pages] == [100, 100, 50, 0]
    assert [page.waiting for page in pages] == [150, 50, 0, 0]
    assert [record for page in pages for record in page.data] == records


def test_queues_of_kinds_and_applications_are_apart(shared: Program) -> None:
    one, other = shared.spare_app(), shared.spare_app()
    shared.feed(one, statuses(2))
    shared.feed(one, replies(1))
    shared.feed(other, statuses(1, first=7))
    assert shared.pull(other, REPLY).data == []
    assert shared.pull(one, REPLY).data == replies(1)
    assert shared.pull(other).data == [status(7)]
    assert shared.pull(one).data == statuses(2)


def test_queue_of_another_application_is_not_opened_by_ones_own_key(shared: Program) -> None:
    one, other = shared.spare_app(), shared.spare_app()
    shared.feed(one, statuses(1))
    thief = App(one.sdkappid, other.appkey)
    assert shared.pull(thief).result == 1001
    assert shared.waiting(one) == 1


def test_identical_requests_get_different_batches(shared: Program, app: App) -> None:
    """Official clients repeat their signature within a second, and mean the next batch."""
    shared.feed(app, statuses(4))
    request = http_request("POST", *app.request(max=2))
    assert shared.exchange(request).data == statuses(2)
    assert shared.exchange(request).data == statuses(2, first=3)
    assert shared.exchange(request).data == []


def test_strict_application_takes_a_signature_once(shared: Program) -> None:
    app = shared.create_app()
    shared.feed(app, statuses(4))
    shared.cli("app", "set", str(app.sdkappid), "--strict", "on")
    used = app.request(max=1)

    def refused() -> Answer | None:
        answer = shared.post(*used)
        return answer if answer.result == 1001 else None

    shared.until(refused)
    before = shared.waiting(app)
    assert shared.post(*used).result == 1001
    assert shared.waiting(app) == before
    assert len(shared.pull(app).data) == before


# --- Idempotency-Key ------------------------------------------------------------------------------


def test_key_brings_the_same_bytes_again(shared: Program, app: App) -> None:
    shared.feed(app, statuses(5))
    first = shared.pull(app, max=2, key="k-1")
    assert first.data == statuses(2)
    assert shared.pull(app, max=2, key="k-2").data == statuses(2, first=3)
    again = shared.pull(app, max=2, key="k-1")
    assert again.content == first.content
    assert again.header("pullstatus-pull-id") == first.header("pullstatus-pull-id")
    assert again.waiting == 1
    assert shared.pull(app).data == [status(5)]


def test_key_with_another_type_or_max_is_refused(shared: Program, app: App) -> None:
    shared.feed(app, statuses(5))
    shared.feed(app, replies(5))
    first = shared.pull(app, max=2, key="k")
    assert shared.pull(app, max=3, key="k").result == 1004
    assert shared.pull(app, REPLY, max=2, key="k").result == 1004
    assert shared.waiting(app) == 3
    assert shared.waiting(app, REPLY) == 5
    assert shared.pull(app, max=2, key="k").content == first.content


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 65, "é", "tab\there"])
def test_key_invalid_is_refused(shared: Program, app: App, key: str) -> None:
    shared.feed(app, statuses(1))
    request = http_request("POST", *app.request(), [f"Idempotency-Key: {key}"])
    answer = shared.exchange(request)
    assert answer.result == 1004
    assert "Idempotency-Key" in answer.json["errmsg"]
    assert shared.waiting(app) == 1


def test_key_may_be_any_64_visible_characters(shared: Program, app: App) -> None:
    shared.feed(app, statuses(2))
    key = "!~" + "x" * 62
    first = shared.pull(app, max=1, key=key)
    assert shared.pull(app, max=1, key=key).content == first.content


def test_key_of_an_empty_pull_leaves_no_trace(shared: Program, app: App) -> None:
    assert shared.pull(app, max=2, key="k").data == []
    assert shared.pull(app, max=5, key="k").data == []
    shared.feed(app, statuses(3))
    assert shared.pull(app, max=2, key="k").data == statuses(2)
    assert shared.pull(app, max=2, key="k").data == statuses(2)


def test_key_belongs_to_its_application(shared: Program) -> None:
    one, other = shared.spare_app(), shared.spare_app()
    shared.feed(one, statuses(1))
    shared.feed(other, statuses(1, first=9))
    assert shared.pull(one, key="k").data == statuses(1)
    assert shared.pull(other, key="k").data == [status(9)]


def test_key_of_a_refused_pull_is_free(shared: Program, app: App) -> None:
    shared.feed(app, statuses(1))
    key = {"Idempotency-Key": "k"}
    assert shared.post(app.target("1"), app.body("1", sig="0" * 64), key).result == 1001
    assert shared.pull(app, max=7, key="k").data == statuses(1)


def test_key_sent_twice_at_once_gets_one_batch(shared: Program, app: App) -> None:
    shared.feed(app, statuses(500))
    answers: list[Answer] = []
    twins = [
        threading.Thread(target=lambda: answers.append(shared.pull(app, max=50, key="k")))
        for _ in range(8)
    ]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].data == statuses(50)
    assert shared.waiting(app) == 450


def test_key_is_good_across_a_restart_and_a_kill(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, statuses(5))
        first = program.pull(app, max=2, key="k")
        program.restart()
        assert program.pull(app, max=2, key="k").content == first.content
        program.kill()
        program.start()
        assert program.pull(app, max=2, key="k").content == first.content
        assert program.pull(app, max=3, key="k").result == 1004
        assert program.pull(app).data == statuses(3, first=3)


# --- the application's settings -------------------------------------------------------------------


def test_address_outside_the_allow_list_is_refused(shared: Program) -> None:
    app = shared.create_app()
    number = str(app.sdkappid)
    shared.cli("app", "set", number, "--allow", "192.0.2.0/24", "--allow", "2001:db8::/32")
    shared.until(lambda: shared.pull(app).result == 1009)
    forged = {"X-Forwarded-For": "192.0.2.7"}
    assert shared.post(*app.request(), forged).result == 1009
    shared.cli("app", "set", number, "--allow", "192.0.2.0/24", "--allow", "127.0.0.1")
    shared.until(lambda: shared.pull(app).result == 0)
    shared.cli("app", "set", number, "--allow-any")


def test_address_is_told_by_a_trusted_proxy(tmp_path: Path) -> None:
    """Right-most first: what stands left of the first stranger is that stranger's own claim."""
    with Program(tmp_path, "--trusted-proxies", "127.0.0.1,10.0.0.0/8") as program:
        app = program.create_app()
        program.cli("app", "set", str(app.sdkappid), "--allow", "192.0.2.0/24")
        program.until(lambda: program.pull(app).result == 1009)
        for forwarded, result in (
            ("192.0.2.7", 0),
            ("198.51.100.1", 1009),
            ("192.0.2.7, 198.51.100.1", 1009),
            ("198.51.100.1, 192.0.2.7, 10.1.1.1", 0),
        ):
            answer = program.post(*app.request(), {"X-Forwarded-For": forwarded})
            assert answer.result == result, forwarded


def test_keys_old_and_new_are_good_until_the_next_rotation(shared: Program) -> None:
    app = shared.create_app()
    number = str(app.sdkappid)
    first = app
    second = App(app.sdkappid, shared.cli("app", "rotate-key", number)["appkey"])
    shared.until(lambda: shared.pull(second).result == 0)
    assert shared.pull(first).result == 0
    third = App(app.sdkappid, shared.cli("app", "rotate-key", number)["appkey"])
    shared.until(lambda: shared.pull(third).result == 0)
    assert shared.pull(second).result == 0
    assert shared.pull(first).result == 1001
    shared.cli("app", "rotate-key", number, "--drop-old")
    shared.until(lambda: shared.pull(second).result == 1001)
    assert shared.pull(third).result == 0


def test_rate_over_the_limit_is_refused(shared: Program) -> None:
    app = shared.create_app()
    shared.cli("app", "set", str(app.sdkappid), "--rate", "5")
    refusals: list[Answer] = []

    def refused() -> list[Answer]:
        refusals.extend(a for _ in range(8) if (a := shared.pull(app)).result == 60007)
        return refusals

    assert "5 pulls a second" in shared.until(refused)[0].json["errmsg"]
    shared.feed(app, statuses(3))
    taken: list[object] = []

    def pull_one() -> bool:
        answer = shared.pull(app, max=1)
        taken.extend(answer.json.get("data", []))
        return len(taken) == 3

    shared.until(pull_one)
    assert taken == statuses(3)
