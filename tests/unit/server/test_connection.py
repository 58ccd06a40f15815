"""A connection over a transport of memory: bytes in, answers given when a test likes, bytes out."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import StoreUnavailable
from pullstatus.server.arrival import LARGE_BYTES
from pullstatus.server.at_once import BEGUN, Begun, Later, Said
from pullstatus.server.budget import Over, Share
from pullstatus.server.connection import LARGE_BODY_BYTES, Connection, Connections
from pullstatus.server.connection_state import Phase
from pullstatus.server.figures import Figures
from pullstatus.server.http import PEER, SAYS_NO_MORE_S, share_of
from pullstatus.server.schedule import Client, Schedule
from pullstatus.server.whole import Whole
from pullstatus.store import Gone

APPLICATION = 1400006666


class Loop(asyncio.SelectorEventLoop):
    """One whose time stands still, and is put forward by a test."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._began_s = time.monotonic()
        super().__init__()

    def time(self) -> float:
        return self._began_s + self.ahead_s


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self, end: socket.socket) -> None:
        self.about = {"socket": end, "peername": ("192.0.2.7", 4), "sockname": ("192.0.2.1", 8)}
        super().__init__(self.about)
        self.written = b""
        self.paused = False
        self.unread = 0
        self.on_write: Callable[[], None] = lambda: None
        self.high: int | None = None  # bytes that lie unread where writing pauses
        self.closed: str | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.closed is None:
            self.written += data
            self.on_write()

    def is_closing(self) -> bool:
        return self.closed is not None

    def close(self) -> None:
        self.closed = self.closed or "in order"

    def abort(self) -> None:
        self.closed = "cut"

    def get_write_buffer_size(self) -> int:
        return self.unread

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert low is None
        self.high = high

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Crowd(Schedule):
    """One in which others wait, and are not done yet, for as long as a test says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.is_there = False
        self._off: list[Callable[[], None]] = []

    def busy(self) -> bool:
        return self.is_there or super().busy()

    def put_off(self, read: Callable[[], None], before: object, client: Client) -> None:
        self._off.append(read)

    def leave(self) -> None:
        self.is_there = False
        while self._off:
            super().put_off(self._off.pop(0), None, None)


class Peer:
    """Who is at the other end, with an application that answers when it is told to."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.asked: list[str] = []  # the path of each request that the application has got
        self.said: list[tuple[str, bytes]] = []  # messages that it has read
        self.headers: list[tuple[bytes, bytes]] = []  # of the last request
        self.bodies: list[bytes] = []  # of each request that was whole when it was begun
        self._answers: list[asyncio.Future[None]] = []
        self.figures = Figures()
        config = uvicorn.Config(
            self._application,
            interface="asgi3",
            proxy_headers=False,
            http=Connection,
            lifespan="off",
            log_config=None,
        )
        config.load()
        state = Connections(self.figures)
        state.default_headers = [(b"date", b"now")]
        self.near, self.far = self._ends = socket.socketpair()
        self.transport = Transport(self.near)
        self.crowd = Crowd(loop)
        self.later: set[str] = set()  # paths of requests that are answered without a scope
        self.failing: set[str] = set()  # and of those of them that go the careful way in the end
        self.gone: Gone | None = None  # as the newest of them may ask
        self.connection = Connection(
            config, state, {}, loop, schedule=self.crowd, at_once=self._at_once
        )
        self.connection.connection_made(self.transport)
        self.connection.client = ("192.0.2.7", 4)  # which uvicorn asks the socket for

    def _at_once(self, whole: Whole, _client: object, gone: Gone) -> Later | None:
        path = whole.path.decode()
        if path not in self.later:
            return None
        self.gone = gone
        self.asked.append(path)
        return Later(self._say_later(path), Begun(began_s=0.0), APPLICATION)

    async def _say_later(self, path: str) -> Said:
        answer = self.loop.create_future()
        self._answers.append(answer)
        await answer
        if path in self.failing:
            raise StoreUnavailable("as a test has it")
        return b"", path.encode()

    async def _application(self, scope: Any, receive: Any, _send: object) -> None:  # noqa: ANN401
        if BEGUN in scope:
            assert isinstance(scope[BEGUN].failed, StoreUnavailable)
            await scope[PEER].respond(200, b"", scope["path"].encode())
            return
        answer = self.loop.create_future()
        self.asked.append(scope["path"])
        more = scope["path"] == "/read"
        while more:
            message = await receive()
            self.said.append((message["type"], message.get("body", b"")))
            more = message.get("more_body", False)
        self.headers = scope["headers"]
        self._answers.append(answer)
        await answer
        self.bodies.append(bytes(scope[PEER].body or b""))
        await scope[PEER].respond(200, b"", scope["path"].encode())

    def say(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.connection.data_received(data)
        self.turn()

    def answer(self) -> bool:
        """Let the application answer the oldest request; whether there was one."""
        if not self._answers:
            return False
        self._answers.pop(0).set_result(None)
        self.turn()
        return True

    def turn(self) -> None:
        """Let the loop do what is to be done now."""
        for _ in range(5):
            self.loop.run_until_complete(asyncio.sleep(0))

    def wait(self, time_s: float) -> None:
        """Let time pass, and the server look at its deadlines."""
        self.loop.ahead_s += time_s
        self.connection.sweep(self.loop.time())

    @property
    def state(self) -> Phase:
        return self.connection.state.phase

    def read(self) -> list[str]:
        """The bodies of the answers, or the status of a refusal."""
        answers = self.transport.written.split(b"HTTP/1.1 ")[1:]
        return [
            (text[:3] if b"problem+json" in text else text.partition(b"\r\n\r\n")[2]).decode()
            for text in answers
            if not text.startswith(b"100")
        ]

    def leave(self) -> None:
        self.connection.connection_lost(None)
        for answer in self._answers:
            answer.cancel()
        self.turn()
        for end in self._ends:
            end.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    loop = Loop()
    made = Peer(loop)
    yield made
    made.leave()
    loop.close()


def request(path: str, body: bytes = b"", *headers: bytes) -> bytes:
    lines = [
        b"POST %b HTTP/1.1" % path.encode(),
        b"Host: a",
        *headers,
        b"Content-Length: %d" % len(body),
    ]
    return b"\r\n".join([*lines, b"", body])


def test_answers_leave_in_the_order_of_requests(peer: Peer) -> None:
    peer.say(request("/1") + request("/2") + request("/3"))
    while peer.answer():
        pass
    assert peer.read() == ["/1", "/2", "/3"]


def test_refused_request_with_a_large_body_in_the_same_read_is_told_why(peer: Peer) -> None:
    head = b"POST /1 HTTP/1.1\r\nContent-Length: 100000\r\n\r\n"  # names no host
    peer.say(head + b"x" * (LARGE_BODY_BYTES + 1))
    assert (peer.read(), peer.transport.closed) == (["400"], "in order")


def test_body_that_ends_after_its_answer_leaves_a_deadline(peer: Peer) -> None:
    """Nothing is owed then, and nobody may hold such a connection for ever."""
    whole = request("/1", b"x" * 100)
    peer.say(whole[:-50])
    assert peer.answer()
    peer.say(whole[-50:])
    assert (peer.read(), peer.state) == (["/1"], Phase.IDLE)
    peer.wait(limits.IDLE_S - 1)
    assert not peer.transport.is_closing()
    peer.wait(2)
    assert peer.transport.closed == "cut"


@pytest.mark.parametrize(
    ("cut", "phase", "deadline_s"),
    [
        (10, Phase.HEAD, limits.HEADER_DEADLINE_S),
        (-5, Phase.BODY, limits.BODY_DEADLINE_S),
    ],
)
def test_request_behind_one_that_is_not_answered_has_its_time_after_that(
    peer: Peer, cut: int, phase: Phase, deadline_s: float
) -> None:
    """Nothing may be read of it before; to cut it would take the answer that is owed, too."""
    peer.say(request("/1") + request("/2", b"x" * 10)[:cut])
    assert peer.state is phase
    peer.wait(3600)
    assert not peer.transport.is_closing()
    assert peer.answer()
    assert peer.read() == ["/1"]
    peer.wait(deadline_s - 1)
    assert not peer.transport.is_closing()
    peer.wait(2)
    assert peer.transport.closed == "cut"


def test_connection_closed_by_whomever_has_an_end(peer: Peer) -> None:
    """The end of TLS may wait for a peer that is asleep."""
    peer.say(request("/1"))
    peer.transport.close()
    peer.wait(0)
    assert peer.state is Phase.CLOSED
    peer.transport.closed = None
    peer.wait(limits.ANSWER_DEADLINE_S + 1)
    assert peer.transport.closed == "cut"


def test_stop_makes_the_newest_request_the_last(peer: Peer) -> None:
    peer.say(request("/1") + request("/2"))
    peer.connection.drain(peer.loop.time(), 0.5)
    assert peer.answer()
    assert b"connection: close" not in peer.transport.written
    assert peer.answer()
    assert peer.transport.written.endswith(b"connection: close\r\n\r\n/2")
    assert peer.transport.closed == "in order"


def test_stop_closes_a_quiet_connection_after_the_grace(peer: Peer) -> None:
    peer.connection.drain(peer.loop.time(), 0.5)
    assert not peer.transport.is_closing()
    peer.loop.ahead_s += 1
    peer.connection.drain(peer.loop.time(), 0.5)
    assert peer.transport.closed == "in order"


@pytest.mark.parametrize(
    ("stream", "read"),
    [
        (b"\0\r\n\r\n", ["400"]),
        (request("/1") + b"\0\r\n\r\n", ["/1", "400"]),
        (request("/" + "x" * limits.QUERY_BYTES_MAX), ["414"]),
        (request("/1", b"body", *[b"X: 1"] * limits.HEADERS_MAX), ["431"]),
        (request("/1", b"", b"X: " + b"x" * limits.HEADER_BYTES_MAX), ["431"]),
        (request("http://192.0.2.1/1"), ["404"]),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", ["404"]),
        (b"CONNECT /1 HTTP/1.1\r\nHost: a\r\n\r\n", ["405"]),
        (b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ["400"]),
    ],
)
def test_refusal_is_the_last_word_behind_what_is_owed(
    peer: Peer, stream: bytes, read: list[str]
) -> None:
    peer.say(stream + request("/never"))
    while peer.answer():
        pass
    assert peer.read() == read
    assert (peer.state, peer.transport.closed) == (Phase.CLOSED, "in order")


def test_fault_of_ours_in_what_the_parser_calls_is_told(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What kind it is and where, and nothing of what was sent."""

    def broken(*_: object) -> None:
        raise ValueError("13800138000")

    monkeypatch.setattr("pullstatus.server.connection._Peer", broken)
    with structlog.testing.capture_logs() as told:
        peer.say(request("/1")[:-1])
        peer.say(request("/1")[-1:])
    assert peer.read() == ["400"]
    line, refused = told
    assert refused["event"] == "request refused"
    assert (line["log_level"], line["event"]) == ("error", "request not read")
    assert line["error"] == "ValueError"
    assert line["at"].startswith("test_connection.py:")
    assert "13800138000" not in str(told)


@pytest.mark.parametrize("stream", [b"GET /\xe9 HTTP/1.1\r\n\r\n", b"GET //[ HTTP/1.1\r\n\r\n"])
def test_request_that_is_none_is_nothing_to_tell(peer: Peer, stream: bytes) -> None:
    """Beyond that it was refused: no fault of ours."""
    with structlog.testing.capture_logs() as told:
        peer.say(stream)
    assert [line["event"] for line in told] == ["request refused"]


def test_refusal_says_why_is_counted_and_logged(peer: Peer) -> None:
    """With a name, by which whoever was refused and whoever reads the log can talk about it."""
    with structlog.testing.capture_logs() as logged:
        peer.say(request("/1", b"", b"Content-Type: canary", b"Content-Type: canary"))
        peer.say(request("/2"))
    head, _, body = peer.transport.written.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert problem == {
        "type": "about:blank",
        "title": "Bad request",
        "status": 400,
        "detail": "send Content-Type once",
    }
    headers = head.decode().split("\r\n")
    assert headers[0] == "HTTP/1.1 400 Bad Request"
    assert {"content-type: application/problem+json", "connection: close"} < set(headers)
    assert f"content-length: {len(body)}" in headers
    [line] = logged
    assert f"pullstatus-request-id: {line.pop('request')}" in headers
    assert line == {
        "event": "request refused",
        "log_level": "info",
        "status": 400,
        "reason": "send Content-Type once",
        "address": "192.0.2.7",
    }
    assert peer.figures.refused[400] == 1
    assert peer.asked == []


def test_refusal_of_a_head_request_has_no_body(peer: Peer) -> None:
    peer.say(b"HEAD /1 HTTP/1.1\r\n\r\n")
    assert peer.transport.written.startswith(b"HTTP/1.1 400 ")
    assert peer.transport.written.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "reads",
    [
        [b"HEAD /1 HTTP/1.1\r\nHost: a\r\nnot a header\r\n\r\n"],
        [b"HEAD /1 HTTP/1.1\r\n", b"\x01\r\n\r\n"],
        [b"HEAD /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"no chunk\r\n"],
    ],
)
def test_refusal_of_what_began_as_a_head_request_has_no_body(
    peer: Peer, reads: list[bytes]
) -> None:
    for data in reads:
        peer.say(data)
    assert peer.transport.written.startswith(b"HTTP/1.1 400 ")
    assert peer.transport.written.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x01\x02\r\n\r\n",
        b"\r\n\r\n!",
        b"NO /1 HTTP/1.1\r\n\r\n",
        b"GET\x01/1 HTTP/1.1\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nnot a header\r\n\r\n",
        b"GET /1 HTTP/1.1\r\n\r\n",
    ],
)
@pytest.mark.parametrize("between", [b"", request("/2")])
@pytest.mark.parametrize("answered", [True, False])
def test_refusal_behind_a_head_request_has_its_body(
    peer: Peer, rubbish: bytes, between: bytes, answered: bool
) -> None:
    """As long as it says: what was asked before it has nothing to do with it."""
    peer.say(b"HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\n")
    for data in filter(None, [between, rubbish]):
        if answered:
            peer.answer()
        peer.say(data)
    while peer.answer():
        pass
    head, _, body = peer.transport.written.rpartition(b"HTTP/1.1 400 ")[2].partition(b"\r\n\r\n")
    assert json.loads(body)["status"] == 400
    assert b"content-length: %d" % len(body) in head.split(b"\r\n")


def test_cut_is_counted_by_its_deadline_and_logged_if_something_was_begun(peer: Peer) -> None:
    with structlog.testing.capture_logs() as logged:
        peer.say(request("/1", b"x" * 9)[:-5])
        peer.wait(limits.BODY_DEADLINE_S + 2)
    assert peer.figures.cut["BODY_DEADLINE_S"] == 1
    [line] = logged
    assert line["event"] == "connection cut"
    assert (line["deadline"], line["address"]) == ("BODY_DEADLINE_S", "192.0.2.7")


def test_requests_without_an_answer_have_a_bound_and_are_answered(peer: Peer) -> None:
    """Of one read no more are begun to be read, however small they are."""
    most = limits.REQUESTS_BEHIND_MAX
    peer.say(request("/1") * (most + 5))
    assert peer.connection.state.owed == most
    assert peer.state is Phase.ENDED
    assert peer.figures.refused[503] == 1
    for _ in range(most):
        assert peer.answer()
    assert peer.read() == ["/1"] * most + ["503"]
    assert peer.transport.is_closing()


def test_too_many_chunks_are_refused_and_no_fault_of_ours(peer: Peer) -> None:
    """The parser is stopped by an error of ours, which is no news."""
    many = b"1\r\nx\r\n" * (2 * limits.CHUNKS_FREE)
    with structlog.testing.capture_logs() as logged:
        peer.say(b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + many)
    assert [(line["event"], line["log_level"]) for line in logged] == [("request refused", "info")]
    assert peer.read() == ["431"]


def test_body_that_trickles_is_cut_and_one_that_goes_on_is_not(peer: Peer) -> None:
    """Long before its deadline, by what has come of it in all."""
    size = 10 * limits.BODY_BYTES_PER_S_MIN * limits.BODY_PATIENCE_S
    peer.say(request("/1", b"x" * size)[:-size])
    peer.wait(limits.BODY_PATIENCE_S - 1)
    peer.say(b"x" * limits.BODY_BYTES_PER_S_MIN * (limits.BODY_PATIENCE_S + 2))
    peer.wait(2)
    assert peer.figures.cut["BODY_BYTES_PER_S_MIN"] == 0
    for _ in range(2):
        peer.say(b"x")
        peer.wait(1)
    assert peer.figures.cut["BODY_BYTES_PER_S_MIN"] == 1
    assert peer.figures.cut["BODY_DEADLINE_S"] == 0


@pytest.mark.parametrize(
    ("said", "deadline"), [(b"", "HEADER_DEADLINE_S"), (request("/1"), "IDLE_S")]
)
def test_end_of_a_quiet_connection_is_counted_and_no_news(
    peer: Peer, said: bytes, deadline: str
) -> None:
    with structlog.testing.capture_logs() as logged:
        if said:
            peer.say(said)
            peer.answer()
        peer.wait(getattr(limits, deadline) + 2)
    assert (peer.transport.closed, peer.figures.cut[deadline], logged) == ("cut", 1, [])


def test_request_that_will_never_be_whole_is_forgotten(peer: Peer) -> None:
    """Whoever reads its body learns of it."""
    peer.say(b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    assert peer.said == [("http.request", b"x")]
    peer.say(b"zz\r\n")
    assert peer.said[1:] == [("http.disconnect", b"")]
    assert peer.read() == ["400"]


def test_request_behind_another_that_will_never_be_whole_is_not_begun(peer: Peer) -> None:
    peer.say(request("/1"))
    peer.say(b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nzz\r\n")
    assert peer.answer()
    assert (peer.read(), peer.asked) == (["/1", "400"], ["/1"])


def test_body_of_a_request_that_is_refused_is_not_that_of_the_one_before(peer: Peer) -> None:
    many = [b"X: 1"] * limits.HEADERS_MAX
    peer.say(request("/1", b"mine") + request("/2", b"other", *many))
    assert peer.answer()
    assert (peer.read(), peer.bodies) == (["/1", "431"], [b"mine"])


def test_head_that_never_ends_is_refused(peer: Peer) -> None:
    peer.say(b"POST /1 HTTP/1.1\r\nHost: a\r\n")
    for _ in range(100):
        peer.say(b"X: 1\r\n" * 100)
    assert (peer.read(), peer.asked) == (["431"], [])


def test_trailers_are_no_headers(peer: Peer) -> None:
    peer.say(b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n")
    peer.say(b"1\r\nx\r\n0\r\nB: 2\r\n\r\n")
    assert peer.answer()
    peer.turn()
    assert peer.headers == [(b"host", b"a"), (b"transfer-encoding", b"chunked"), (b"a", b"1")]


@pytest.mark.parametrize(("part", "phase"), [(b"", Phase.CLOSED), (b"x", Phase.REST)])
def test_answer_ends_a_connection_that_waited_to_be_asked_for_its_body(
    peer: Peer, part: bytes, phase: Phase
) -> None:
    """Unless some of it has come: then the rest will."""
    head = request("/1", b"x" * 10, b"Expect: 100-continue")[:-10]
    peer.say(head + part)
    assert peer.answer()
    assert (peer.read(), peer.state) == (["/1"], phase)


def test_nothing_more_is_read_while_a_request_waits_behind_another(peer: Peer) -> None:
    peer.say(request("/1") + request("/2"))
    assert peer.transport.paused
    assert peer.answer()
    assert not peer.transport.paused


@pytest.mark.parametrize("tls", [False, True])
def test_peer_that_says_no_more_still_gets_its_answer(peer: Peer, tls: bool) -> None:
    """TLS can't be half closed: then the transport closes, and nothing is to be done here."""
    peer.say(request("/1"))
    if tls:
        peer.transport.about["sslcontext"] = object()
    assert peer.connection.eof_received() is (None if tls else True)
    assert peer.state is (Phase.IDLE if tls else Phase.ENDED)
    assert peer.answer()
    assert peer.read() == ["/1"]
    assert peer.transport.closed == (None if tls else "in order")


def test_request_that_comes_while_the_server_stops_is_the_last(peer: Peer) -> None:
    peer.connection.drain(peer.loop.time(), 0.5)
    peer.say(request("/1") + request("/2"))
    assert peer.answer()
    assert peer.transport.written.endswith(b"connection: close\r\n\r\n/1")
    assert (peer.transport.closed, peer.state) == ("in order", Phase.CLOSED)
    assert not peer.answer()


def test_request_answered_before_its_end_gets_no_second_answer(peer: Peer) -> None:
    peer.say(b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    assert peer.answer()
    peer.say(b"zz\r\n")
    assert (peer.read(), peer.transport.closed) == (["/1"], "in order")


def test_offer_of_another_protocol_is_passed_over(peer: Peer) -> None:
    offer = [b"Connection: Upgrade", b"Upgrade: h2c"]
    peer.say(request("/1", b"body", *offer) + request("/2"))
    while peer.answer():
        pass
    assert peer.read() == ["/1", "/2"]


# --- any stream, cut and answered in any way ------------------------------------------------------

REQUESTS = st.lists(
    st.tuples(
        st.sampled_from([b"", b"x", b"x" * 70_000]),
        st.sampled_from([b"", b"Connection: Upgrade\r\nUpgrade: h2c", b"Expect: 100-continue"]),
    ),
    min_size=1,
    max_size=5,
)
DEEDS = st.lists(
    st.sampled_from(
        ["say", "say one", "say one", "answer", "wait", "drain", "others come", "others go"]
    ),
    max_size=25,
)


@given(
    requests=REQUESTS,
    deeds=DEEDS,
    sizes=st.lists(st.integers(1, 300) | st.integers(60_000, 80_000), min_size=3, max_size=10),
    ends=st.sampled_from(["", "eof", "\0\r\n\r\n"]),
    later=st.sets(st.sampled_from(["/0", "/1", "/2", "/3", "/4"])),
    failing=st.sets(st.sampled_from(["/0", "/1", "/2", "/3", "/4"])),
)
def test_any_course_of_a_connection(
    requests: list[tuple[bytes, bytes]],
    deeds: list[str],
    sizes: list[int],
    ends: str,
    later: set[str],
    failing: set[str],
) -> None:
    """Each request that was taken is answered once, in its turn, or the connection has ended."""
    each = [
        request(f"/{number}", body, *([header] if header else []))
        for number, (body, header) in enumerate(requests)
    ]
    stream = b"".join(each) + (ends.encode() if ends != "eof" else b"")
    loop = Loop()
    peer = Peer(loop)
    peer.later, peer.failing = later, failing
    drained = False
    try:
        for deed, size in zip(deeds, sizes * 10, strict=False):
            match deed:
                case "say":
                    peer.say(stream[:size])
                    stream = stream[size:]
                case "say one":
                    whole = next((one for one in each if stream.startswith(one)), b"")
                    peer.say(whole)
                    stream = stream[len(whole) :]
                case "answer":
                    peer.answer()
                case "wait":
                    peer.wait(1)
                case "drain":
                    peer.connection.drain(loop.time(), 0.5)
                    drained = True
                case "others come":
                    peer.crowd.is_there = True
                case "others go":
                    peer.crowd.leave()
                    peer.turn()
            _holds(peer)
        peer.say(stream)
        if ends == "eof" and not peer.transport.is_closing():
            peer.connection.eof_received()
        peer.crowd.leave()
        peer.turn()
        while peer.answer():
            _holds(peer)
        ended = peer.transport.is_closing()
        assert ended or not ends
        refused = [each for each in peer.read() if not each.startswith("/")]
        assert refused in ([], ["400"] if ends.startswith("\0") else [])
        assert ended or len(peer.read()) == len(requests)
        assert ended or not drained or peer.state is Phase.IDLE
        peer.wait(limits.IDLE_S + 1)
        assert peer.transport.is_closing()
    finally:
        peer.leave()
        loop.close()


def _holds(peer: Peer) -> None:
    """What is true whatever has happened so far."""
    given = [each for each in peer.read() if each.startswith("/")]
    assert given == peer.asked[: len(given)]
    assert peer.asked == [f"/{number}" for number in range(len(peer.asked))]
    if not peer.transport.is_closing():
        assert (peer.connection.state.deadline == float("inf")) == (peer.connection.state.owed > 0)


# --- what comes while others wait -----------------------------------------------------------------


def test_a_small_request_is_not_read_before_its_turn(peer: Peer) -> None:
    peer.crowd.is_there = True
    peer.say(request("/1"))
    assert (peer.asked, peer.state) == ([], Phase.NEW)
    assert peer.connection.budget.bytes == len(request("/1"))
    peer.wait(limits.HEADER_DEADLINE_S + 1)  # and the wait is ours
    peer.crowd.leave()
    peer.turn()
    assert peer.asked == ["/1"]
    assert peer.answer()
    assert peer.connection.budget.bytes == 0


def test_a_usual_batch_is_not_read_before_its_turn(peer: Peer) -> None:
    """Its turn is where it may be answered at once; and it is in hand while it waits."""
    peer.crowd.is_there = True
    whole = request("/1", b"x" * limits.USUAL_BODY_BYTES)
    peer.say(whole)
    assert (peer.asked, peer.state) == ([], Phase.NEW)
    assert peer.connection.budget.bytes == len(whole)
    peer.crowd.leave()
    peer.turn()
    assert peer.answer()
    assert (peer.read(), peer.connection.budget.bytes) == (["/1"], 0)


@pytest.mark.parametrize("over", ["total", "address"])
def test_a_batch_for_which_there_is_no_room_does_not_wait(peer: Peer, over: str) -> None:
    """It is refused, and its body is not kept. What is small may wait: it counts for no less."""
    peer.crowd.is_there = True
    peer.connection._network = "192.0.2.7"
    share = 1 if over == "total" else limits.SHARE_OF_ONE
    owner = None if over == "total" else "192.0.2.7"
    peer.connection.budget.take(limits.IN_HAND_BYTES_MAX // share + 1, owner)
    before = peer.connection.budget.bytes
    peer.say(request("/1", b"x" * limits.USUAL_BODY_BYTES))
    assert peer.state is not Phase.NEW
    assert peer.connection.budget.bytes - before <= limits.REQUEST_BYTES


@pytest.mark.parametrize("body", [b"x" * (limits.USUAL_BODY_BYTES + limits.USUAL_HEAD_BYTES), b""])
def test_no_more_than_a_usual_request_is_kept_unread(peer: Peer, body: bytes) -> None:
    peer.crowd.is_there = True
    peer.say(request("/1") if not body else request("/1", body))
    if not body:
        peer.say(request("/2"))
    assert peer.state is Phase.IDLE
    peer.crowd.leave()
    while peer.answer():
        pass
    assert peer.read() == (["/1"] if body else ["/1", "/2"])


@pytest.mark.parametrize("end", ["eof", "drain", "lost"])
def test_what_was_put_off_is_not_forgotten_at_an_end(peer: Peer, end: str) -> None:
    peer.crowd.is_there = True
    peer.say(request("/1"))
    match end:
        case "eof":
            peer.connection.eof_received()
        case "drain":
            peer.connection.drain(peer.loop.time() + 60, 0.5)
        case "lost":
            peer.connection.connection_lost(None)
    peer.crowd.leave()
    peer.turn()
    peer.answer()
    assert peer.read() == ([] if end == "lost" else ["/1"])
    assert peer.connection.budget.bytes == 0


def test_a_large_body_is_read_on_in_turn(peer: Peer) -> None:
    whole = request("/read", b"x" * 300_000)
    peer.connection.data_received(whole[:200_000])
    waits = peer.transport.paused
    peer.wait(limits.BODY_DEADLINE_S + 1)  # the wait is ours
    peer.turn()
    assert (waits, peer.transport.paused) == (True, False)
    peer.say(whole[200_000:])
    assert peer.answer()
    assert peer.read() == ["/read"]
    assert sum(len(body) for _, body in peer.said) == 300_000


def test_a_large_body_that_goes_nowhere_is_read_on_in_turn(peer: Peer) -> None:
    whole = request("/1", b"x" * 300_000)
    peer.say(whole[:1000])
    assert peer.answer()
    peer.connection.data_received(whole[1000:200_000])
    assert peer.transport.paused
    peer.turn()
    peer.say(whole[200_000:])
    assert (peer.read(), peer.state, peer.transport.paused) == (["/1"], Phase.IDLE, False)


def test_a_connection_that_is_lost_is_not_read_on(peer: Peer) -> None:
    peer.connection.data_received(request("/read", b"x" * 300_000)[:200_000])
    peer.transport.close()
    peer.connection.connection_lost(None)
    peer.turn()
    assert peer.transport.paused


# --- what waits for the store without a scope -----------------------------------------------------


@pytest.mark.parametrize("failing", [False, True])
def test_what_comes_behind_one_at_the_store_is_read_when_that_is_answered(
    peer: Peer, failing: bool
) -> None:
    peer.later = {"/1", "/2"}
    peer.failing = {"/1"} if failing else set()
    for path in ("/1", "/2", "/3"):
        peer.say(request(path))
    assert (peer.asked, peer.transport.paused) == (["/1"], True)
    while peer.answer():
        pass
    assert (peer.read(), peer.transport.paused) == (["/1", "/2", "/3"], False)
    assert (peer.state, peer.connection.budget.bytes) == (Phase.IDLE, 0)


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("behind", [b"", request("/2"), request("/2", b"x" * 10)[:-5]])
def test_who_says_no_more_behind_one_at_the_store_gets_all_answers(
    peer: Peer, behind: bytes, failing: bool
) -> None:
    peer.later = {"/1"}
    peer.failing = {"/1"} if failing else set()
    peer.say(request("/1"))
    if behind:
        peer.say(behind)
    peer.connection.eof_received()
    assert peer.gone is not None
    assert (peer.gone(0.0), peer.gone(SAYS_NO_MORE_S)) == (False, True)
    while peer.answer():
        pass
    assert peer.read() == (["/1", "/2"] if behind == request("/2") else ["/1"])
    assert peer.transport.closed == "in order"


@pytest.mark.parametrize("failing", [False, True])
def test_stop_makes_the_one_at_the_store_the_last(peer: Peer, failing: bool) -> None:
    peer.later = {"/1"}
    peer.failing = {"/1"} if failing else set()
    peer.say(request("/1"))
    peer.connection.drain(peer.loop.time(), 0.5)
    assert peer.answer()
    assert peer.transport.written.endswith(b"connection: close\r\n\r\n/1")
    assert (peer.transport.closed, peer.state) == ("in order", Phase.CLOSED)


@pytest.mark.parametrize("failing", [False, True])
def test_who_is_lost_meanwhile_is_gone_and_told_nothing(peer: Peer, failing: bool) -> None:
    peer.later = {"/1"}
    peer.failing = {"/1"} if failing else set()
    peer.say(request("/1"))
    peer.say(request("/2"))
    assert peer.gone is not None
    assert not peer.gone(0.0)
    peer.transport.abort()
    assert peer.gone(0.0)
    peer.connection.connection_lost(None)
    assert peer.answer()
    assert (peer.read(), peer.asked, peer.connection.budget.bytes) == ([], ["/1"], 0)


def test_a_reset_is_known_to_the_kernel_while_one_is_at_the_store(peer: Peer) -> None:
    peer.later = {"/1"}
    peer.say(request("/1"))
    assert peer.gone is not None
    assert not peer.gone(0.0)
    peer.far.close()
    assert peer.gone(0.0)
    assert peer.transport.closed == "cut"


# --- a request that is refused, and answered late -------------------------------------------------


def test_of_a_request_that_is_let_go_little_is_counted(peer: Peer) -> None:
    peer.say(request("/1", b"x" * 50_000))
    scope: dict[str, Any] = peer.connection.cycle.scope  # type: ignore[assignment]
    assert peer.connection.budget.bytes == 50_000
    scope[PEER].let_go()
    assert peer.connection.budget.bytes == limits.REQUEST_BYTES
    peer.answer()
    assert (peer.read(), peer.bodies, peer.connection.budget.bytes) == (["/1"], [b""], 0)


def test_of_a_body_for_which_there_is_no_room_nothing_is_kept(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IN_HAND_BYTES_MAX", 40_000)
    whole = request("/1", b"x" * 100_000)
    for start in range(0, len(whole) - 1000, 10_000):
        peer.say(whole[start : start + 10_000])
        assert peer.connection.budget.bytes <= 40_000
    assert peer.connection.budget.bytes == limits.REQUEST_BYTES
    assert not peer.connection.cycle.body
    peer.answer()
    assert peer.connection.budget.bytes == 0


def test_nothing_is_counted_of_a_request_that_is_let_go_when_its_peer_has_left(peer: Peer) -> None:
    peer.say(request("/1", b"x" * 50_000))
    scope: dict[str, Any] = peer.connection.cycle.scope  # type: ignore[assignment]
    peer.connection.connection_lost(None)
    scope[PEER].let_go()
    assert peer.connection.budget.bytes == 0


# --- what counts as an application's --------------------------------------------------------------

SAYS_LENGTH = [b"Content-Length: 100000", b"Content-Length: 000000000000100000"]
IN_CHUNKS = b"Transfer-Encoding: chunked"


def head(path: str, says: bytes) -> bytes:
    """Of a request with a body of 100,000 bytes."""
    chunk = b"186a0\r\n" if says is IN_CHUNKS else b""
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (path.encode(), says, chunk)


def share(peer: Peer) -> Share:
    """That of the request at hand, as who answers it enters it."""
    scope: dict[str, Any] = peer.connection.cycle.scope  # type: ignore[assignment]
    return share_of(scope, peer.connection.budget, APPLICATION)


@pytest.mark.parametrize("says", [*SAYS_LENGTH, IN_CHUNKS])
@pytest.mark.parametrize("before", [0, 30_000])
def test_what_has_come_counts_as_its_owners_whatever_was_announced(
    peer: Peer, says: bytes, before: int
) -> None:
    budget = peer.connection.budget
    peer.say(head("/1", says) + b"x" * before)
    with share(peer):
        assert budget.of == {APPLICATION: max(before, limits.REQUEST_BYTES)}
        peer.say(b"x" * 30_000)
        assert budget.of == {APPLICATION: before + 30_000}
        assert budget.bytes == before + 30_000
    assert not budget.of


@pytest.mark.parametrize("says", [*SAYS_LENGTH, IN_CHUNKS])
def test_a_body_is_let_go_where_its_owners_part_is_used_up(
    peer: Peer, says: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IN_HAND_BYTES_MAX", 160_000)
    budget = peer.connection.budget
    peer.say(head("/1", says))
    scope: dict[str, Any] = peer.connection.cycle.scope  # type: ignore[assignment]
    with share(peer):
        peer.say(b"x" * 30_000)
        assert scope[PEER].over is None
        peer.say(b"x" * 30_000)
        assert scope[PEER].over is Over.APPLICATION
        assert budget.of == {APPLICATION: limits.REQUEST_BYTES}
        assert budget.refused[Over.APPLICATION] == 1
        assert not peer.connection.cycle.body


def test_what_is_behind_a_request_counts_as_its_owners_until_it_is_answered(peer: Peer) -> None:
    budget = peer.connection.budget
    peer.say(request("/1"))
    with share(peer):
        peer.say(request("/2", b"x" * 50_000))
        assert budget.of == {APPLICATION: 50_000 + limits.REQUEST_BYTES}
        peer.answer()
        assert budget.of == {APPLICATION: limits.REQUEST_BYTES}
    peer.answer()
    assert (peer.read(), budget.bytes, budget.of) == (["/1", "/2"], 0, {})


@pytest.mark.parametrize("lost_before", [False, True])
def test_a_request_is_its_owners_until_it_is_done_though_its_peer_has_left(
    peer: Peer, lost_before: bool
) -> None:
    budget = peer.connection.budget
    peer.say(request("/1", b"x" * 50_000))
    if lost_before:
        peer.connection.connection_lost(None)
    with share(peer):
        peer.say(request("/2", b"x" * 50_000))
        peer.connection.connection_lost(None)
        assert (budget.of, budget.bytes) == ({APPLICATION: 50_000}, 0)
    assert not budget.of


def test_what_is_behind_one_at_the_store_counts_as_its_owners(peer: Peer) -> None:
    peer.later = {"/1"}
    peer.say(request("/1", b"x" * 30_000))
    assert peer.connection.budget.of == {APPLICATION: 30_000}
    behind = request("/2", b"x" * 50_000)
    peer.say(behind)
    assert peer.connection.budget.of == {APPLICATION: 30_000 + len(behind)}
    peer.answer()
    assert not peer.connection.budget.of
    peer.answer()
    assert (peer.read(), peer.connection.budget.bytes) == (["/1", "/2"], 0)


def test_what_lies_unread_is_of_whom_the_store_was_asked_for(peer: Peer) -> None:
    """The address does not say it of every call: of one of API 3.0 only what is signed does."""
    peer.later = {"/1"}
    peer.say(request("/1"))
    peer.transport.unread = 70_000
    peer.connection.pause_writing()
    peer.answer()
    assert peer.connection.budget.of == {APPLICATION: 70_000}
    peer.connection.resume_writing()
    assert not peer.connection.budget.of


def test_one_that_waits_counts_as_little_as_any(peer: Peer) -> None:
    """Its body has been read, and is kept no longer."""
    peer.say(request("/1", b"x" * 50_000))
    with share(peer):
        leaving(peer, [])
        assert peer.connection.budget.of == {APPLICATION: limits.REQUEST_BYTES}
        assert peer.connection.budget.bytes == limits.REQUEST_BYTES


# --- what lies unread of what is said to nobody known ---------------------------------------------

ADDRESS = "192.0.2.7"


def leave_unread(peer: Peer, size: int) -> None:
    """Have so much lie unread of what is written next; writing pauses there if it is much."""
    peer.connection._network = ADDRESS

    def write() -> None:
        peer.transport.unread = size
        if size > LARGE_BODY_BYTES:
            peer.connection.pause_writing()

    peer.transport.on_write = write


@pytest.mark.parametrize("end", ["read", "lost"])
def test_what_lies_unread_is_the_addresss_where_nobody_is_known(peer: Peer, end: str) -> None:
    """As a refusal is, and an answer of which only the careful way knows whose it is."""
    leave_unread(peer, 70_000)
    peer.say(request("/1"))
    peer.answer()
    assert peer.connection.budget.of == {ADDRESS: 70_000}
    if end == "read":
        peer.connection.resume_writing()
    else:
        peer.connection.connection_lost(None)
    assert (peer.connection.budget.of, peer.connection.budget.bytes) == ({}, 0)


def test_what_lies_unread_is_of_whose_part_the_request_was_in(peer: Peer) -> None:
    leave_unread(peer, 70_000)
    peer.say(request("/1"))
    with share(peer):
        peer.answer()
    assert peer.connection.budget.of == {APPLICATION: 70_000}


@pytest.mark.parametrize("size", [300, 600_000])
@pytest.mark.parametrize("end", ["read", "lost"])
def test_what_lies_unread_counts_however_it_was_answered(peer: Peer, size: int, end: str) -> None:
    """In messages, or where it is too little for writing to pause, of which nobody is told."""

    async def say(_scope: object, _receive: object, send: Any) -> None:  # noqa: ANN401
        await send({"type": "http.response.start", "status": 200, "headers": []})
        leave_unread(peer, size)
        await send({"type": "http.response.body", "body": b"x"})

    peer.connection.app = say
    peer.connection._network = ADDRESS
    peer.say(request("/1"))
    large = size > LARGE_BODY_BYTES
    assert peer.connection.budget.of == ({ADDRESS: size} if large else {})
    for lies in (size, size // 2):  # as it is read
        peer.transport.unread = lies
        peer.wait(1)
        assert peer.connection.budget.of == {ADDRESS: lies}
        assert peer.connection.budget.bytes == lies
    if end == "read":
        peer.transport.unread = 0
        peer.wait(1)
    else:
        peer.connection.connection_lost(None)
    assert (peer.connection.budget.of, peer.connection.budget.bytes) == ({}, 0)


def test_what_lies_unread_of_an_application_stays_its_own(peer: Peer) -> None:
    leave_unread(peer, 70_000)
    peer.say(request("/1"))
    with share(peer):
        peer.answer()
    peer.transport.unread = 50_000
    peer.wait(1)
    assert peer.connection.budget.of == {APPLICATION: 50_000}


def test_a_large_answer_to_nobody_known_counts_before_it_is_given(peer: Peer) -> None:
    """So that no more of them are than one address may have, however quickly they are asked for."""
    peer.connection._network = ADDRESS
    peer.say(request("/1"))
    scope: dict[str, Any] = peer.connection.cycle.scope  # type: ignore[assignment]
    most = limits.IN_HAND_BYTES_MAX // limits.SHARE_OF_ONE
    assert scope[PEER].room_for(most)
    assert not scope[PEER].room_for(1)
    peer.answer()
    assert peer.connection.budget.of == {ADDRESS: most}
    peer.wait(1)
    assert (peer.connection.budget.of, peer.connection.budget.bytes) == ({}, 0)


@pytest.mark.parametrize("network", [ADDRESS, None])
def test_a_large_answer_to_who_has_gone_is_not_in_hand(peer: Peer, network: str | None) -> None:
    """While it was made: nobody would look at the connection any more, and give it back."""
    peer.connection._network = network
    peer.say(request("/1"))
    scope: dict[str, Any] = peer.connection.cycle.scope  # type: ignore[assignment]
    peer.transport.abort()
    peer.connection.connection_lost(None)
    assert scope[PEER].room_for(50_000)
    assert (peer.connection.budget.of, peer.connection.budget.bytes) == ({}, 0)


def test_an_unread_page_is_its_applications_though_nothing_pauses(peer: Peer) -> None:
    leave_unread(peer, 50_000)
    peer.say(request("/1"))
    scope: dict[str, Any] = peer.connection.cycle.scope  # type: ignore[assignment]
    scope[PEER].application = APPLICATION
    peer.answer()
    peer.wait(1)
    assert peer.connection.budget.of == {APPLICATION: 50_000}


def test_who_speaks_for_many_has_room(peer: Peer) -> None:
    peer.connection.budget.take(limits.IN_HAND_BYTES_MAX + 1)
    assert peer.connection.room_for(1)


@pytest.mark.parametrize("tls", [True, False])
def test_writing_pauses_over_tls_where_it_does_without(peer: Peer, tls: bool) -> None:
    peer.transport.about["sslcontext"] = object() if tls else None
    peer.connection.connection_made(peer.transport)
    assert peer.transport.high == (LARGE_BYTES if tls else None)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("unread", "over", "last"),
    [
        (limits.REQUEST_BYTES + 1, True, True),
        (limits.REQUEST_BYTES, True, False),
        (0, True, False),
        (limits.REQUEST_BYTES + 1, False, False),
    ],
)
def test_who_is_over_his_part_and_leaves_answers_unread_gets_one_more(
    peer: Peer, unread: int, over: bool, last: bool, whole: bool
) -> None:
    """Else refusals would lie unread without end. Whoever reads keeps his connection."""
    leave_unread(peer, 70_000)
    peer.say(request("/1"))
    peer.answer()
    peer.connection.flow.resume_writing()
    leave_unread(peer, unread)
    peer.transport.unread = unread
    if over:
        peer.connection.budget.take(limits.IN_HAND_BYTES_MAX // limits.SHARE_OF_ONE, ADDRESS)
    sent = request("/2", b"x" * 10)
    for piece in [sent] if whole else [sent[:-5], sent[-5:]]:
        peer.say(piece)
    peer.answer()
    assert peer.read() == ["/1", "/2"]
    assert (b"connection: close" in peer.transport.written) is last
    assert peer.transport.closed == ("in order" if last else None)


# --- a request that waits for long ----------------------------------------------------------------


def leaving(peer: Peer, told: list[str]) -> bool:
    """Ask whether the peer of the request at hand leaves, now or from now on."""
    scope: dict[str, Any] = peer.connection.cycle.scope  # type: ignore[assignment]
    return bool(scope[PEER].leaving(lambda: told.append("left")))


@pytest.mark.parametrize("how", ["says no more", "is lost", "talks rubbish"])
def test_whoever_waits_is_told_once_that_the_peer_leaves(peer: Peer, how: str) -> None:
    told: list[str] = []
    peer.say(request("/1"))
    assert not leaving(peer, told)
    assert told == []
    if how == "says no more":
        peer.connection.eof_received()
    elif how == "is lost":
        peer.transport.close()
        peer.near.close()
        peer.connection.connection_lost(None)
    else:
        peer.say(b"\0\r\n\r\n")
    assert told == ["left"]
    assert leaving(peer, told)
    peer.connection.connection_lost(None)


def test_a_peer_that_has_left_unheard_is_known_to_the_kernel(peer: Peer) -> None:
    """The loop may have been busy, or not have read on behind a next request."""
    told: list[str] = []
    peer.say(request("/1") + request("/2"))
    assert not leaving(peer, told)
    peer.far.send(b"more")
    peer.far.shutdown(socket.SHUT_WR)
    assert leaving(peer, told)
    assert told == []


def test_who_waits_no_more_is_not_told(peer: Peer) -> None:
    told: list[str] = []
    peer.say(request("/1"))
    assert not leaving(peer, told)
    scope: dict[str, Any] = peer.connection.cycle.scope  # type: ignore[assignment]
    scope[PEER].leaving(None)
    peer.connection.connection_lost(None)
    assert told == []


def test_a_request_that_waited_is_answered_like_any_other(peer: Peer) -> None:
    peer.say(request("/1"))
    leaving(peer, [])
    peer.say(request("/2"))
    while peer.answer():
        pass
    assert peer.read() == ["/1", "/2"]


# --- what is kept of a request that is answered ---------------------------------------------------


@pytest.mark.parametrize("path", ["/1", "/read"])
@pytest.mark.parametrize("reads", [1, 2, 20])
@pytest.mark.parametrize("early", [False, True])
def test_no_body_is_kept_of_what_is_answered(
    peer: Peer, path: str, reads: int, early: bool
) -> None:
    """A connection may be quiet for long then, beside many others."""
    whole = request(path, b"x" * 250_000)
    sent = whole[:-50] if early else whole
    for place in range(reads):
        peer.say(sent[len(sent) * place // reads : len(sent) * (place + 1) // reads])
    if path == "/read" and early:
        peer.say(whole[-50:])  # it answers when it has read all
    peer.answer()
    scope: dict[str, Any] = peer.connection.cycle.scope  # type: ignore[assignment]
    assert (len(peer.connection.cycle.body), len(scope[PEER].body or b"")) == (0, 0)
    assert peer.connection.budget.bytes == 0
    if early and path == "/1":
        assert peer.state is Phase.REST
        peer.say(whole[-50:])
    assert (peer.state, len(peer.connection.cycle.body)) == (Phase.IDLE, 0)


def test_each_of_many_behind_one_another_has_its_body(peer: Peer) -> None:
    bodies = [bytes([letter]) * 50_000 for letter in b"abc"]
    peer.say(b"".join(request("/read", body) for body in bodies))
    while peer.answer():
        pass
    assert [body for _, body in peer.said] == bodies
    assert peer.read() == ["/read"] * 3
    assert not peer.connection.cycle.body


# --- what is left of a request --------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", ["answered", "in messages", "hung up", "hung up twice", "gone", "nothing said"]
)
@pytest.mark.parametrize("reads", [1, 2])
def test_nothing_of_a_request_is_left_to_the_garbage_collector(
    peer: Peer, how: str, reads: int
) -> None:
    cycles: list[weakref.ref[object]] = []

    async def end(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        cycles.append(weakref.ref(peer.connection.cycle))
        while (await receive()).get("more_body"):
            pass
        if how == "answered":
            await scope[PEER].respond(200, b"", b"")
        elif how == "in messages":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})
        elif how == "gone":
            peer.far.close()
            assert scope[PEER].gone()
        else:
            for _ in range(how.count("hung") + how.count("twice")):
                scope[PEER].hang_up()

    peer.connection.app = end
    gc.collect()
    gc.disable()
    try:
        whole = request("/1", b"x" * 10)
        for piece in [whole] if reads == 1 else [whole[:-5], whole[-5:]]:
            peer.say(piece)
        peer.connection.cycle = None  # type: ignore[assignment] # as a next request would have it
        peer.turn()
        assert [cycle() for cycle in cycles] == [None]
    finally:
        gc.enable()
