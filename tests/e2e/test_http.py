"""HTTP itself: bounds, deadlines and manners of a connection, and what stays true through them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pullstatus import limits
from pullstatus.errors import OutcomeUnknown
from pullstatus.records import Kind
from pullstatus.server import uvicorn_server
from pullstatus.wire.v5.pull import PULL_PATH
from tests.harness import PATIENCE_S, App, Program, chunked, http_request, status, statuses

# --- bounds ---------------------------------------------------------------------------------------


def test_target_over_its_bound_is_414(shared: Program, app: App) -> None:
    fits = app.target("1").ljust(limits.QUERY_BYTES_MAX, "&")
    assert shared.exchange(http_request("POST", fits)).result == 1004
    with shared.connect() as wire:
        wire.send(http_request("POST", fits + "&"))
        assert wire.read().http_status == 414
        assert wire.ended()


def test_headers_over_their_number_are_431(shared: Program, app: App) -> None:
    target, body = app.request()
    headers = [f"X-{number}: 1" for number in range(limits.HEADERS_MAX - 2)]
    assert shared.exchange(http_request("POST", target, body, headers)).result == 0
    with shared.connect() as wire:
        wire.send(http_request("POST", target, body, [*headers, "X: 1"]))
        assert wire.read().http_status == 431
        assert wire.ended()


def test_headers_over_their_size_are_431(shared: Program, app: App) -> None:
    target, body = app.request()
    fits = "X: " + "x" * (limits.HEADER_BYTES_MAX - 100)
    assert shared.exchange(http_request("POST", target, body, [fits])).result == 0
    with shared.connect() as wire:
        wire.send(http_request("POST", target, body, [fits + "x" * 100]))
        assert wire.read().http_status == 431
        assert wire.ended()


@pytest.mark.parametrize("start", [b"POST /", b"POST / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nX"])
def test_head_without_end_is_431(shared: Program, start: bytes) -> None:
    with shared.connect() as wire:
        longest = limits.HEADER_BYTES_MAX + limits.CALLBACK_QUERY_BYTES_MAX
        wire.send(start, *[b"x" * 4096] * (longest // 4096 + 1))
        assert wire.read().http_status == 431
        assert wire.ended()


@pytest.mark.parametrize(
    "framing",
    [
        b"1;" + b"x" * 40_000,
        b"1\r\nx\r\n0\r\nTrailer: " + b"x" * 40_000,
        b"1\r\nx\r\n0\r\n" + b"Trailer: x\r\n" * 4_000,
        b"0" * 40_000,
    ],
)
def test_framing_of_a_chunked_body_is_bounded(shared: Program, app: App, framing: bytes) -> None:
    """Chunk extensions and trailers are nobody's content, so they can't be endless either."""
    head = http_request(
        "POST", app.target("1"), headers=["Transfer-Encoding: chunked"], sized=False
    )
    with shared.connect() as wire:
        with contextlib.suppress(ConnectionError):
            wire.send(head, *(framing[start : start + 4096] for start in range(0, 40_000, 4096)))
        with contextlib.suppress(ConnectionError):
            assert wire.read().http_status in (400, 431)
        assert wire.ended()


def test_trailers_are_no_headers(shared: Program, app: App) -> None:
    shared.feed(app, statuses(2))
    target, body = app.request(max=1)
    request = http_request(
        "POST", target, chunked(body)[:-2], ["Transfer-Encoding: chunked"], sized=False
    )
    trailer = b"Idempotency-Key: k\r\n\r\n"
    assert shared.exchange(request + trailer).data == statuses(1)
    assert shared.exchange(request + trailer).data == [status(2)]


# --- what is no request ---------------------------------------------------------------------------

TARGET = PULL_PATH.encode()
BAD_REQUESTS = {
    "both lengths": b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
    b"Content-Length: 2\r\n\r\nab",
    "negative length": b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "length of words": b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: ten\r\n\r\n",
    "endless length": b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n",
    "bad chunk size": b"POST %b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad chunk end": b"POST %b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "bare LF": b"POST %b HTTP/1.1\nHost: a\n\n",
    "folded header": b"POST %b HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "NUL in a header": b"POST %b HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    "CR in a header": b"POST %b HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "blank before the colon": b"POST %b HTTP/1.1\r\nHost : a\r\n\r\n",
    "no method": b"%b HTTP/1.1\r\n\r\n",
    "bytes in the target": b"POST %b?\xff\xfe HTTP/1.1\r\n\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"%b",
    "nothing at all": b"\r\n\r\n\x00\x00%b",
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bytes_that_are_no_request_are_400(shared: Program, name: str) -> None:
    with shared.connect() as wire:
        wire.send(BAD_REQUESTS[name].replace(b"%b", TARGET))
        assert wire.read().http_status == 400
        assert wire.ended()
    assert shared.http.get("/healthz").status_code == 200


def _spoilt(request: bytes) -> dict[str, tuple[bytes, str]]:
    """A good request made one that two programs could read in two ways; and what is said of it."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, host, *others = head.split(b"\r\n")
    kept = [one for one in others if not one.startswith(b"Content-Length")]
    length = b"Content-Length: %d" % len(body)
    coding = b"Transfer-Encoding: "

    def said(*headers: bytes, first: bytes = line) -> bytes:
        return b"\r\n".join([first, *headers, *kept, length, b"", body])

    def in_chunks(*headers: bytes, first: bytes = line) -> bytes:
        return b"\r\n".join([first, host, *headers, *kept, b"", chunked(body)])

    cases = {
        "no Host": (said(), "send Host"),
        "two Hosts": (said(host, host), "send Host once"),
        "Host of a path": (said(b"Host: a/b"), "Host must be"),
        "1.0": (in_chunks(coding + b"chunked", first=line[:-1] + b"0"), "needs HTTP/1.1"),
        "another": (in_chunks(coding + b"gzip, chunked"), "must be chunked"),
        "several": (in_chunks(coding + b"gzip", coding + b"chunked"), "once"),
        "the same": (in_chunks(coding + b"chunked", coding + b"chunked"), "no request"),
        "both": (in_chunks(coding + b"chunked", length), "no request"),
        "fragment": (said(host, first=line.replace(b" HTTP", b"#a HTTP")), "leave out #"),
        "no version": (said(host, first=line.replace(b" HTTP/1.1", b"")), "HTTP/1.1"),
        "an old version": (said(host, first=line.replace(b"1.1", b"0.9")), "HTTP/1.1"),
    }
    for name in (
        b"Authorization",
        b"Content-Encoding",
        b"Content-Type",
        b"Idempotency-Key",
        b"Pullstatus-Reader",
        b"Pullstatus-Ack",
        b"Pullstatus-Wait",
    ):
        value = b"identity" if name == b"Content-Encoding" else b"1"
        cases[f"two {name.decode()}"] = (said(host, *[b"%b: %b" % (name, value)] * 2), "once")
    return cases


def test_head_that_two_programs_could_read_in_two_ways_takes_nothing(
    shared: Program, app: App
) -> None:
    """Refused with its reason and a name, counted; nothing is pulled, and nothing stored."""
    shared.feed(app, statuses(1))
    pull = http_request("POST", *app.request())
    post = http_request(
        "POST",
        f"/ingest/{app.sdkappid}/delivery-statuses",
        json.dumps(statuses(1)).encode(),
        [f"Authorization: Bearer {shared.token}", "Content-Type: application/json"],
    )
    cases = {**_spoilt(pull), **{f"{name}, posted": case for name, case in _spoilt(post).items()}}
    before = shared.metrics()['pullstatus_requests_refused_total{status="400"}']
    for name, (request, why) in cases.items():
        with shared.connect() as wire:
            wire.send(request)
            answer = wire.read()
            assert (answer.http_status, answer.header("connection")) == (400, "close"), name
            assert why in answer.json["detail"], (name, answer.json)
            assert answer.header("pullstatus-request-id"), name
            assert wire.ended(), name
    refused = shared.metrics()['pullstatus_requests_refused_total{status="400"}'] - before
    assert refused == len(cases)
    assert shared.drain(app) == statuses(1)


def test_heads_of_real_programs_pass(shared: Program, app: App) -> None:
    shared.feed(app, statuses(2))
    request = http_request("POST", *app.request(max=1))
    balancer = b"OPTIONS /healthz HTTP/1.0\r\n\r\n"  # the default of a well-known one
    assert shared.exchange(balancer).http_status == 405
    assert shared.exchange(request.replace(b"Host: mailbox.test", b"Host: [::1]:8080")).data
    old = request.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: mailbox.test\r\n", b"")
    assert shared.exchange(old).data


@pytest.mark.parametrize(
    "target",
    ["http://mailbox.test/healthz", "http://mailbox.test" + PULL_PATH, "*"],
)
def test_target_for_a_proxy_is_404(shared: Program, target: str) -> None:
    with shared.connect() as wire:
        wire.send(http_request("GET", target))
        assert wire.read().http_status == 404
        assert wire.ended()


@pytest.mark.parametrize(
    "path", ["/%00", "/..", "/../../etc/passwd", "/healthz%2f..", "/nothing", "/HEALTHZ"]
)
def test_path_unknown_is_404(shared: Program, path: str) -> None:
    answer = shared.exchange(http_request("GET", path))
    assert answer.http_status == 404
    assert "passwd" not in answer.content.decode()


def test_path_unknown_is_a_problem_and_never_a_redirection(shared: Program) -> None:
    for path in ("/nothing", "/healthz/"):
        answer = shared.exchange(http_request("GET", path))
        assert answer.http_status == 404
        assert answer.header("content-type") == "application/problem+json"
        assert answer.header("location") is None


def test_connect_is_refused(shared: Program) -> None:
    with shared.connect() as wire:
        wire.send(http_request("CONNECT", "example.com:443"))
        assert wire.read().http_status in (400, 404, 405)
        assert wire.ended()


# --- several requests on a connection -------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(shared: Program, app: App) -> None:
    shared.feed(app, statuses(300))
    with shared.connect() as wire:
        wire.send(b"".join(http_request("POST", *app.request(max=1)) for _ in range(300)))
        assert [wire.read().data for _ in range(300)] == [[one] for one in statuses(300)]


def test_request_behind_the_last_one_of_a_connection_takes_nothing(
    shared: Program, app: App
) -> None:
    """Its answer would have nowhere to go."""
    shared.feed(app, statuses(1))
    last = http_request("POST", *app.request(Kind.REPLY), headers=["Connection: close"])
    with shared.connect() as wire:
        wire.send(last + http_request("POST", *app.request()))
        assert wire.read().data == []
        assert wire.ended()
    assert shared.waiting(app) == 1


def test_pipelined_requests_cut_anywhere_are_answered(shared: Program, app: App) -> None:
    """However the stream falls into reads, heads that are small are never taken for large ones."""
    shared.feed(app, statuses(400))
    stream = b"".join(
        http_request("POST", *app.request(max=1), [f"X: {'x' * 500}"]) for _ in range(400)
    )
    with shared.connect() as wire:
        for size in (33_333, 100_001):
            wire.send(stream[:size])
            stream = stream[size:]
        wire.send(stream)
        assert [wire.read().data for _ in range(400)] == [[one] for one in statuses(400)]


@pytest.mark.parametrize(
    ("rubbish", "http_status"),
    [
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"POST /x?" + b"x" * 3000 + b" HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 414),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    ],
)
def test_rubbish_behind_a_request_does_not_cost_its_answer(
    shared: Program, app: App, rubbish: bytes, http_status: int
) -> None:
    shared.feed(app, statuses(3))
    good = http_request("POST", *app.request(max=1))
    with shared.connect() as wire:
        wire.send(good + good + rubbish + good)
        assert wire.read().data == [status(1)]
        assert wire.read().data == [status(2)]
        assert wire.read().http_status == http_status
        assert wire.ended()
    assert shared.waiting(app) == 1


def test_half_closed_connection_still_gets_its_answers(shared: Program, app: App) -> None:
    shared.feed(app, statuses(2))
    good = http_request("POST", *app.request(max=1))
    with shared.connect() as wire:
        wire.send(good + good)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.read().data == [status(1)]
        assert wire.read().data == [status(2)]
        assert wire.ended()


@pytest.mark.parametrize("count", [1, 3])
def test_pull_whose_peer_has_gone_takes_nothing(shared: Program, app: App, count: int) -> None:
    """Reset before the server, which was busy elsewhere, has read it: dropped, and counted."""
    shared.feed(app, statuses(1))
    process = shared.process
    assert process is not None
    before = shared.metrics()["pullstatus_pulls_dropped_total"]
    logged = len(shared.log())
    with shared.connect() as wire:
        wire.send(http_request("POST", *app.request(max=0)))
        assert wire.read().result == 1004  # from here on the connection is known
        process.send_signal(signal.SIGSTOP)
        try:
            wire.send(http_request("POST", *app.request()) * count)
            reset = struct.pack("ii", 1, 0)
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            wire.close()
        finally:
            process.send_signal(signal.SIGCONT)
    shared.until(lambda: shared.metrics()["pullstatus_pulls_dropped_total"] > before)
    assert "ASGI" not in shared.log()[logged:]
    assert shared.waiting(app) == 1


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_half_a_request_is_no_request(shared: Program, app: App, cut: int) -> None:
    shared.feed(app, statuses(1))
    with shared.connect() as wire:
        wire.send(http_request("POST", *app.request())[:cut])
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.ended()
    assert shared.waiting(app) == 1


def test_answer_before_the_body_ends_a_connection_that_waited_for_100(
    shared: Program, app: App
) -> None:
    """Whether the body still comes is unknown then, so no byte may be taken for a next request."""
    head = http_request("POST", app.target("1"), headers=["Expect: 100-continue"], sized=False)
    with shared.connect() as wire:
        wire.send(head[:-2] + b"Content-Length: 1000000\r\n\r\n")
        assert wire.read().result == 60008
        assert wire.ended()


def test_answer_before_the_body_leaves_a_sender_its_connection(shared: Program, app: App) -> None:
    shared.feed(app, statuses(1))
    with shared.connect() as wire:
        wire.send(http_request("POST", app.target("1"), b"x" * 200_000))
        assert wire.read().result == 60008
        wire.send(http_request("POST", *app.request()))
        assert wire.read().data == statuses(1)


# --- deadlines, in a server of this process so that they can be short -----------------------------


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not happened():  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(0.01)


async def read_answer(reader: asyncio.StreamReader) -> None:
    """Take the next answer off a connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))


@pytest.mark.parametrize(
    ("start", "drip", "deadline"),
    [
        (b"", b"", "HEADER_DEADLINE_S"),
        (b"POST / HTTP/1.1\r\n", b"", "HEADER_DEADLINE_S"),
        (b"POST / HTTP/1.1\r\n", b"X: 1\r\n", "HEADER_DEADLINE_S"),
        (b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n", b"", "BODY_DEADLINE_S"),
        (b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n", b"x", "BODY_DEADLINE_S"),
        (
            b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n",
            "BODY_DEADLINE_S",
        ),
    ],
)
def test_request_that_is_never_whole_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes, drip: bytes, deadline: str
) -> None:
    """Also when it keeps trickling: the deadline is for the whole, not for each byte.

    Only the deadline that is due is short: another one would never come.
    """
    for each in ("HEADER_DEADLINE_S", "BODY_DEADLINE_S", "ANSWER_DEADLINE_S"):
        monkeypatch.setattr(limits, each, 0.3 if each == deadline else 3600.0)
    monkeypatch.setattr(uvicorn_server, "SWEEP_S", 0.05)
    program = Program(tmp_path)

    async def hold() -> float:
        async with program.inside():
            began = time.monotonic()  # before the server's clock for this connection starts
            reader, writer = await asyncio.open_connection(program.host, program.port)
            writer.write(start.replace(b"%b", TARGET))
            ended = asyncio.create_task(reader.read())
            while not ended.done():
                writer.write(drip)
                await asyncio.wait([ended], timeout=0.02)
                assert time.monotonic() - began < PATIENCE_S, "still open"
            with contextlib.suppress(ConnectionError):
                assert await ended == b""
            writer.close()
            return time.monotonic() - began

    assert asyncio.run(hold()) >= 0.3


def test_connection_without_a_next_request_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_server, "SWEEP_S", 0.05)
    program = Program(tmp_path)
    app = program.create_app()

    async def play() -> None:
        async with program.inside() as server:
            reader, writer = await asyncio.open_connection(program.host, program.port)
            deadlines: list[float] = []
            for idle_s in (3600.0, 3600.0, 0.1):
                monkeypatch.setattr(limits, "IDLE_S", idle_s)
                writer.write(http_request("POST", *app.request()))
                await read_answer(reader)
                (connection,) = server._uvicorn._connections()  # type: ignore[union-attr]
                deadlines.append(connection.state.deadline)
            assert deadlines[0] < deadlines[1], "an answer must give the next request its time"
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
            writer.close()

    asyncio.run(play())


def test_request_behind_the_last_answer_of_a_stopping_server_takes_nothing(tmp_path: Path) -> None:
    """Its page would leave with a connection that is closed already."""
    program = Program(tmp_path)
    app = program.create_app()

    async def play() -> None:
        async with program.inside() as server, program.client() as http:
            ingest = f"/ingest/{app.sdkappid}/delivery-statuses"
            bearer = {"Authorization": f"Bearer {program.token}"}
            await http.post(ingest, json=statuses(1), headers=bearer)
            reader, writer = await asyncio.open_connection(program.host, program.port)
            connections = server._uvicorn._connections  # type: ignore[union-attr]
            await until(lambda: len(connections()) == 2)
            for connection in connections():
                connection.state.draining = True
            empty = http_request("POST", *app.request(Kind.REPLY))
            writer.write(empty + http_request("POST", *app.request()))
            assert (await asyncio.wait_for(reader.read(), PATIENCE_S)).count(b"HTTP/1.1") == 1
            writer.close()

    asyncio.run(play())
    assert program.waiting(app) == 1


def test_requests_leave_nothing_for_the_garbage_collector(tmp_path: Path) -> None:
    """Rings of objects would have it run all the time, over everything that lives."""
    program = Program(tmp_path)
    app = program.create_app()

    async def play() -> int:
        async with program.inside(), program.client() as http:
            await http.get("/healthz")
            reader, writer = await asyncio.open_connection(program.host, program.port)
            gc.collect()
            gc.disable()
            try:
                for _ in range(50):
                    writer.write(http_request("POST", *app.request()))
                    await read_answer(reader)
                return gc.collect()
            finally:
                gc.enable()
                writer.close()

    assert asyncio.run(play()) < 50


def test_answer_that_nobody_reads_is_cut_and_can_be_had_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_server, "SWEEP_S", 0.05)
    program = Program(tmp_path)
    app = program.create_app()
    records = [status(number, description="x" * 15_000) for number in range(1, 101)]

    async def play() -> None:
        async with program.inside() as server, program.client() as http:
            for half in (records[:50], records[50:]):
                answer = await http.post(
                    f"/ingest/{app.sdkappid}/delivery-statuses",
                    json=half,
                    headers={"Authorization": f"Bearer {program.token}"},
                )
                assert answer.json() == {"accepted": 50}
            in_time_s = limits.ANSWER_DEADLINE_S
            monkeypatch.setattr(limits, "ANSWER_DEADLINE_S", 0.3)
            connections = server._uvicorn.server_state.connections  # type: ignore[union-attr]
            with socket.socket() as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                deaf.connect((program.host, program.port))
                for _ in range(8):  # more than the kernel holds for us
                    deaf.sendall(http_request("POST", *app.request(), ["Idempotency-Key: k"]))
                await until(lambda: len(connections) == 2)
                await until(lambda: len(connections) == 1)
            monkeypatch.setattr(limits, "ANSWER_DEADLINE_S", in_time_s)
            target, body = app.request()
            again = await http.post(target, content=body, headers={"Idempotency-Key": "k"})
            assert again.json()["data"] == records
            assert again.headers["pullstatus-waiting"] == "0"

    asyncio.run(play())


def test_other_clients_are_served_beside_silent_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_server, "SWEEP_S", 0.05)
    program = Program(tmp_path)
    app = program.create_app()

    async def play() -> None:
        async with program.inside(), program.client() as http:
            target, body = app.request()
            # The connection that this leaves has had its first head, and another deadline.
            assert (await http.post(target, content=body)).json()["result"] == 0
            monkeypatch.setattr(limits, "HEADER_DEADLINE_S", 0.3)
            silent = [await asyncio.open_connection(program.host, program.port) for _ in range(200)]
            assert (await http.post(target, content=body)).json()["result"] == 0
            for reader, writer in silent:
                assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
                writer.close()

    asyncio.run(play())


# --- when the store can't -------------------------------------------------------------------------


def test_refused_by_the_store_is_told_and_consumes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More waits for the writer than may: ingest is told to come back, a pull that nothing left."""
    program = Program(tmp_path)
    app = program.create_app()

    async def play() -> None:
        async with program.inside(), program.client() as http:
            ingest = f"/ingest/{app.sdkappid}/delivery-statuses"
            bearer = {"Authorization": f"Bearer {program.token}"}
            assert (await http.post(ingest, json=statuses(2), headers=bearer)).status_code == 200
            with monkeypatch.context() as full:
                full.setattr(limits, "STORE_PENDING_MAX", 0)
                answer = await http.post(ingest, json=statuses(2), headers=bearer)
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == str(limits.RETRY_AFTER_S)
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["detail"].endswith("nothing was stored")
                target, body = app.request()
                refused = (await http.post(target, content=body)).json()
                assert refused["result"] == 1007
                assert refused["errmsg"].endswith("nothing was consumed")
            target, body = app.request()
            assert (await http.post(target, content=body)).json()["data"] == statuses(2)

    asyncio.run(play())


def test_unknown_outcome_is_never_answered(tmp_path: Path) -> None:
    """The commit may have happened: no answer would be true, so the connection is closed."""
    program = Program(tmp_path)
    app = program.create_app()

    async def lose(_operation: object, _gone: object) -> None:
        raise OutcomeUnknown("the disk did not say")

    async def play() -> None:
        async with program.inside() as server:
            server.store.append = server.store.pull = lose  # type: ignore[method-assign,assignment]
            # Or it would not even be asked, since nothing waits.
            server.store.surely_empty = lambda _mailbox: False  # type: ignore[method-assign,assignment]
            ingest = http_request(
                "POST",
                f"/ingest/{app.sdkappid}/delivery-statuses",
                json.dumps(statuses(1)).encode(),
                [f"Authorization: Bearer {program.token}", "Content-Type: application/json"],
            )
            for request in (ingest, http_request("POST", *app.request())):
                reader, writer = await asyncio.open_connection(program.host, program.port)
                writer.write(request)
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
                writer.close()

    asyncio.run(play())


# --- stopping -------------------------------------------------------------------------------------


def test_stop_does_not_wait_for_connections_that_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for those that never spoke nor for those that were answered."""
    for deadline in ("HEADER_DEADLINE_S", "IDLE_S", "DRAIN_DEADLINE_S"):
        monkeypatch.setattr(limits, deadline, 3600)
    program = Program(tmp_path)
    app = program.create_app()

    async def play() -> None:
        async with asyncio.timeout(PATIENCE_S), program.inside():
            _, silent = await asyncio.open_connection(program.host, program.port)
            reader, answered = await asyncio.open_connection(program.host, program.port)
            answered.write(http_request("POST", *app.request()))
            await read_answer(reader)
        silent.close()
        answered.close()

    asyncio.run(play())
