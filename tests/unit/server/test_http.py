"""Small pieces of HTTP, each by itself."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.apps import Token
from pullstatus.errors import BodyTooLarge, Refused
from pullstatus.server import http
from pullstatus.server.http import Disconnected, Scope
from pullstatus.wire.v5.pull import PULL_PATH
from pullstatus.wire.v5.signed import UNKNOWN_SDKAPPID, read_query

LEFT = {"type": "http.disconnect"}


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def scope(*headers: tuple[bytes, bytes], method: str = "POST", **of_peer: object) -> Scope:
    known = (
        {http.PEER: SimpleNamespace(**{"body": None, "over": None} | of_peer)} if of_peer else {}
    )
    return {
        "method": method,
        "path": "/",
        "query_string": b"",
        "headers": list(headers),
        "client": ("192.0.2.7", 4),
        **known,
    }


def read(of: Scope, *messages: dict[str, Any], bytes_max: int = 5) -> tuple[bytes, int]:
    """The body, and how many of the messages were left unread."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        return left.pop(0)

    return asyncio.run(http.read_body(of, receive, bytes_max)), len(left)


# --- headers and bodies ---------------------------------------------------------------------------


def test_first_header_of_a_name_counts() -> None:
    asked = scope((b"a", b"1"), (b"b", b"2"), (b"b", b"3"))
    assert http.header(asked, b"b") == b"2"
    assert http.header(asked, b"c") is None


@pytest.mark.parametrize(
    "messages",
    [
        [part(b"12345")],
        [part(b"123", more=True), part(b"45")],
        [part(b"", more=True), part(b"12345", more=True), part(b"")],
    ],
)
def test_body_is_read_to_its_end(messages: list[dict[str, Any]]) -> None:
    assert read(scope(), *messages) == (b"12345", 0)


def test_body_that_is_there_is_taken_without_a_message() -> None:
    assert read(scope(body=bytearray(b"12345"))) == (b"12345", 0)


def test_body_that_is_there_and_too_large_is_refused() -> None:
    with pytest.raises(BodyTooLarge, match="over 5 bytes"):
        read(scope(body=bytearray(b"123456")))


@pytest.mark.parametrize("announced", [b"6", b"1000000000000", b"9" * 5000])
def test_body_that_says_it_is_too_large_is_not_read(announced: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        read(scope((b"content-length", announced)))  # there is no message to read


def test_body_as_large_as_its_bound_is_read() -> None:
    assert read(scope((b"content-length", b"5")), part(b"12345")) == (b"12345", 0)


def test_body_without_a_length_is_read_no_further_than_its_bound() -> None:
    with pytest.raises(BodyTooLarge):
        read(scope(), part(b"123", more=True), part(b"456", more=True))  # and no third one


@pytest.mark.parametrize("messages", [[LEFT], [part(b"123", more=True), LEFT]])
def test_body_of_a_peer_that_left_is_none(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(Disconnected):
        read(scope(), *messages)


# --- answers --------------------------------------------------------------------------------------


def said(of: Scope, **told: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """The messages of an answer."""
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:  # noqa: ANN401
        messages.append(message)

    asyncio.run(http.respond_problem(of, send, 404, "No such", "do that", **told))
    return messages


def test_answer_through_messages_has_its_length() -> None:
    start, end = said(scope(), headers=[(b"allow", b"GET")])
    assert start["status"] == 404
    assert start["headers"] == [
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
        (b"allow", b"GET"),
        (b"content-length", b"%d" % len(end["body"])),
    ]


@pytest.mark.parametrize(("method", "at_once"), [("POST", True), ("GET", True), ("HEAD", False)])
def test_answer_is_written_at_once_where_the_server_can(method: str, at_once: bool) -> None:
    """But for HEAD, whose answer has the length of a body that is not there."""
    written: list[tuple[int, bytes, bytes]] = []

    async def respond(http_status: int, lines: bytes, body: bytes) -> None:
        written.append((http_status, lines, body))

    messages = said(scope(method=method, respond=respond))
    assert (len(written), len(messages)) == ((1, 0) if at_once else (0, 2))
    if at_once:
        [(http_status, lines, _)] = written
        assert http_status == 404
        assert lines == (b"content-type: application/problem+json\r\ncache-control: no-store\r\n")


def test_problem_says_what_its_members_say() -> None:
    [_, end] = said(scope(), index=3)
    assert json.loads(end["body"]) == {
        "type": "about:blank",
        "title": "No such",
        "status": 404,
        "detail": "do that",
        "index": 3,
    }


# --- who asks -------------------------------------------------------------------------------------


def test_request_has_one_name_and_no_other_has_it() -> None:
    one, other = scope(), scope()
    name = http.request_id(one)
    assert http.request_id(one) == name
    assert http.request_id(other) != name
    assert http.request_id_header(one) == (b"pullstatus-request-id", name.encode())


@pytest.mark.parametrize("text", ["x" * 10_000, "fe80::1%" + "x" * 10_000])
def test_nothing_is_remembered_of_what_is_too_long_for_an_address(text: str) -> None:
    """A proxy may pass on whatever a stranger wrote."""
    before = http._is_address.cache_info()
    assert http.address_of((text, 4)) == ""
    assert http._is_address.cache_info() == before


PARTS = st.sampled_from([b"sdkappid", b"%73dkappid", b"Sdkappid", b""])
TOKEN = Token("gateway", "digest", 0, 1400006666)


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ({}, {"address": "192.0.2.7"}),
        ({"client": None}, {}),
        ({"client": ("2001:db8::1%eth0", 4)}, {"address": "2001:db8::1%eth0"}),
        ({"client": ("a\nb", 4)}, {"address": "(no address)"}),
        ({"client": ("a" * 65, 4)}, {"address": "(no address)"}),
        (
            {"path": PULL_PATH, "query_string": b"sdkappid=12&random=1"},
            {"address": "192.0.2.7", "sdkappid": 12},
        ),
        ({"path": "/", "query_string": b"sdkappid=12"}, {"address": "192.0.2.7"}),
        ({"path": "/nothing", "query_string": b"sdkappid=12"}, {"address": "192.0.2.7"}),
        ({"path": "/ingest/12/replies"}, {"address": "192.0.2.7", "sdkappid": 12}),
        ({"path": "/x/ingest/12/replies"}, {"address": "192.0.2.7"}),
        ({"path": "/ingest/9999999999/replies"}, {"address": "192.0.2.7"}),
        (
            {"pullstatus.token": TOKEN},
            {"address": "192.0.2.7", "sdkappid": 1400006666, "token": "gateway"},
        ),
        (
            {"pullstatus.token": TOKEN, "path": "/ingest/12/replies"},
            {"address": "192.0.2.7", "sdkappid": 12, "token": "gateway"},
        ),
        (
            {"pullstatus.token": Token("all", "digest", 0, None)},
            {"address": "192.0.2.7", "token": "all"},
        ),
    ],
)
def test_log_says_whose_request_it_is(asked: dict[str, Any], known: dict[str, object]) -> None:
    of = {**scope(), **asked}
    assert http.whose(of) == {"request": http.request_id(of), **known}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (b"a=1&sdkappid=12", 12),
        (b"xsdkappid=12", None),
        (b"sdkappid=00000000000000012&random=1", 12),
        (b"%73dkappid=12&sdkappid=13", 12),
        (b"sdkappid=12&%73dkappid=13", 12),
        (b"sdkappid=%31%32", 12),
        (b"sdkappid=x&sdkappid=12", None),
        (b"sdkappid=12345678901", None),
        (b"sdkappid=9999999999", None),
        (b"sdkappid=12&random=%ff", 12),
        (b"", None),
    ],
)
def test_application_is_the_one_that_the_call_is_read_for(query: bytes, named: int | None) -> None:
    """Else a stranger tries one application and has it put down to another, or to none."""
    assert http.named_application({**scope(), "path": PULL_PATH, "query_string": query}) == named


@given(st.lists(st.tuples(PARTS, st.sampled_from([b"12", b"%31", b"0" * 20 + b"7", b"x", b""]))))
def test_no_query_is_read_for_another_application(parts: list[tuple[bytes, bytes]]) -> None:
    query = b"&".join(name + b"=" + value for name, value in parts)
    try:
        read, _ = read_query(query + b"&random=1")
    except Refused:
        read = UNKNOWN_SDKAPPID
    named = http.named_application({**scope(), "path": PULL_PATH, "query_string": query})
    assert named == (None if read == UNKNOWN_SDKAPPID else read)


@pytest.mark.parametrize(("answers", "gone"), [(True, True), (False, False)])
def test_peer_has_gone_if_its_connection_says_so(answers: bool, gone: bool) -> None:
    assert http.gone(scope(gone=lambda: answers)) is gone


def test_peer_of_a_server_that_cannot_know_is_there() -> None:
    assert not http.gone(scope())


def test_hanging_up_is_left_to_the_connection() -> None:
    called: list[bool] = []
    http.hang_up(scope(hang_up=lambda: called.append(True)))
    assert called == [True]
