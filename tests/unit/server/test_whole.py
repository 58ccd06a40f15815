"""A usual request is read without the parser, and means what the parser would say, to the byte."""

from __future__ import annotations

import re
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.server.http import PEER
from pullstatus.server.whole import read_whole
from tests.unit.server.test_connection import Loop, Peer, request

PULL = "/v5/tlssmssvr/pullstatus?sdkappid=1400000001&random=7226249334"
BODY = b'{"sig":"00","time":1457336869,"type":0,"max":10}'

# What clients say, as it was read from the wire.
HEADS = {
    "curl": (
        b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
        b"Content-Length: %d\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n"
    ),
    "requests": (
        b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: python-requests/2.32.3\r\n"
        b"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n"
        b"Content-Length: %d\r\nContent-Type: application/json\r\n\r\n"
    ),
    "Go": (
        b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: Go-http-client/1.1\r\n"
        b"Content-Length: %d\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n"
    ),
    "ours": (
        b"POST %b HTTP/1.1\r\nhost: 127.0.0.1:8080\r\naccept: application/json\r\n"
        b"pullstatus-reader: orders-1\r\npullstatus-ack: 1400000001/0/4177\r\n"
        b"content-length: %d\r\ncontent-type: application/json\r\n\r\n"
    ),
    "nginx": (
        b"POST %b HTTP/1.1\r\nHost: mailbox.test\r\nX-Forwarded-For: 198.51.100.7, 10.0.0.1\r\n"
        b"X-Forwarded-Proto: https\r\nContent-Length: %d\r\nAuthorization: Bearer pst_0123\r\n\r\n"
    ),
}
USUAL = {name: head % (PULL.encode(), len(BODY)) + BODY for name, head in HEADS.items()}


class Watched(Peer):
    """One whose application notes all that it is told of a request."""

    def __init__(self) -> None:
        super().__init__(Loop())
        self.scopes: list[dict[str, Any]] = []

    async def _application(self, scope: Any, receive: Any, send: object) -> None:  # noqa: ANN401
        told = {name: scope[name] for name in scope if name != PEER}
        self.scopes.append({**told, "headers": list(told["headers"])})
        await super()._application(scope, receive, send)

    def saw(self) -> dict[str, object]:
        """All that anybody can see of it."""
        state = self.connection.state
        return {
            "scopes": self.scopes,
            "bodies": self.bodies,
            "said": self.said,
            "written": re.sub(rb"request-id: \S+", b"request-id: ", self.transport.written),
            "closed": self.transport.closed,
            "state": (state.phase, state.owed, self.connection.budget.bytes),
        }

    def leave(self) -> None:
        super().leave()
        self.loop.close()


def play(reads: list[bytes], *, answers_late: bool) -> list[dict[str, object]]:
    peer = Watched()
    try:
        seen = []
        for data in reads:
            peer.say(data)
            seen.append(peer.saw())
            if not answers_late:
                peer.answer()
        while peer.answer():
            pass
        return [*seen, peer.saw()]
    finally:
        peer.leave()


def check_alike(reads: list[bytes], *, answers_late: bool = False) -> None:
    fast = play(reads, answers_late=answers_late)
    with mock.patch("pullstatus.server.connection.read_whole", return_value=None):
        careful = play(reads, answers_late=answers_late)
    assert fast == careful


@pytest.mark.parametrize("name", USUAL)
def test_what_clients_send_is_usual_and_means_the_same(name: str) -> None:
    data = USUAL[name]
    found = read_whole(data)
    assert found is not None
    assert (found.path, b"?" + found.query) == tuple(
        re.fullmatch(rb"([^?]+)(.+)", PULL.encode()).groups()  # type: ignore[union-attr]
    )
    assert found.body == BODY
    check_alike([data])
    check_alike([data, data, request("/read", b"x"), data], answers_late=False)
    check_alike([data, data, data], answers_late=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST", b"PUT"),
        (b"POST", b"post"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1", b"HTTP/1.1 "),
        (b"/v5/", b"//v5/"),
        (b"/v5/", b"http://a/v5/"),
        (b"/v5/", b"/v%35/"),
        (b"&random", b"#random"),
        (b"&random", b" random"),
        (b"&random", b"\x80random"),
        (b"Host: 127.0.0.1:8080\r\n", b""),
        (b"Host:", b"Host :"),
        (b"Host:", b"Host: 127.0.0.1\r\nHost:"),
        (b"Host: 127.0.0.1:8080", b"Host: a b"),
        (b"Accept: */*", b"Accept: */*\r\n more"),
        (b"Accept: */*", b"Accept: \xff"),
        (b"Accept: */*", b"Accept: a\x00b"),
        (b"Accept: */*", b"Accept: a\rb"),
        (b"Accept: */*", b"Accept: a\nb"),
        (b"Accept: */*", b"Accept:"),
        (b"Accept: */*", b"Accept: a \t"),
        (b"Accept: */*", b"Connection: close"),
        (b"Accept: */*", b"Connection: upgrade\r\nUpgrade: websocket"),
        (b"Accept: */*", b"Expect: 100-continue"),
        (b"Accept: */*", b"Transfer-Encoding: chunked"),
        (b"Accept: */*", b"Pullstatus-Reader: a\r\nPullstatus-Reader: b"),
        (b"Accept: */*", b"X-TC-Action: a\r\nX-TC-Action: b"),
        (b"Content-Length: 48", b"Content-Length: 48\r\nContent-Length: 48"),
        (b"Content-Length: 48", b"Content-Length: +48"),
        (b"Content-Length: 48", b"Content-Length: 47"),
        (b"Content-Length: 48", b"Content-Length: 49"),
        (b"Content-Length: 48", b"Content-Length: 9999999999"),
        (b"Content-Length: 48\r\n", b""),
        (b"Accept: */*", b"Accept: %b" % (b"a" * limits.USUAL_HEAD_BYTES)),
        (b"Accept: */*", b"\r\n".join([b"A: b"] * limits.HEADERS_MAX)),
        (b"&random", b"&a=%b&random" % (b"a" * limits.USUAL_HEAD_BYTES)),
        (b"\r\n", b"\n"),
        (b"POST", b"\r\nPOST"),
        (BODY, BODY + b"\r\n"),
    ],
)
def test_what_is_not_usual_is_left_to_the_parser(old: bytes, new: bytes) -> None:
    data = USUAL["curl"].replace(old, new)
    assert data != USUAL["curl"]
    assert read_whole(data) is None
    check_alike([data, USUAL["curl"]])


def test_header_lines_are_remembered_by_their_bytes_alone() -> None:
    """Names and values are theirs, whatever was read before of nearly the same bytes."""
    one = request("/1", b"", b"Authorization: Bearer a", b"X-A: 1")
    other = request("/1", b"", b"Authorization: Bearer b", b"X-A: 1")
    for data in (one, other, one):
        check_alike([data])
    first, second = read_whole(one), read_whole(other)
    assert first is not None
    assert second is not None
    assert dict(first.headers)[b"authorization"] == b"Bearer a"
    assert dict(second.headers)[b"authorization"] == b"Bearer b"


def test_headers_that_an_application_lets_go_are_there_for_the_next() -> None:
    peer = Watched()
    peer.say(USUAL["ours"])
    peer.headers.clear()
    peer.answer()
    peer.say(USUAL["ours"])
    peer.answer()
    assert len(peer.headers) == 6
    peer.leave()


@pytest.mark.parametrize("size", [limits.REQUEST_BYTES, limits.REQUEST_BYTES + 1, 200_000])
def test_body_counts_as_it_does_in_pieces(size: int) -> None:
    data = request("/1", b"x" * size)
    assert read_whole(data) is not None
    check_alike([data, data], answers_late=True)


PARTS = st.sampled_from(
    [
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"/",
        b"?",
        b"#",
        b"%41",
        b"%",
        b"\xff",
        b"HTTP/1.1",
        b"Connection: close\r\n",
        b"Connection: Keep-Alive\r\n",
        b"Proxy-Connection: close\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 0\r\n",
        b"Upgrade: h2c\r\n",
        b"Host: b\r\n",
        b"X: y\r\n",
        b"Expect: 100-continue\r\n",
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A usual request, with some of its bytes taken out, put in or replaced."""
    data = draw(st.sampled_from(list(USUAL.values())))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 3))
        part = draw(PARTS | st.binary(max_size=2))
        data = data[:at] + part + data[at + size :]
    return data


@given(reads=st.lists(mutated(), min_size=1, max_size=3), answers_late=st.booleans())
def test_whatever_comes_means_the_same_with_and_without(
    reads: list[bytes],
    answers_late: bool,
) -> None:
    check_alike(reads, answers_late=answers_late)
