"""Answers that do not end, or not in time: each caller is let go, and all others are served."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from click.testing import CliRunner

from pullstatus import AnswerLost, AsyncClient, Client, Kind
from pullstatus.cli import main
from pullstatus.cli.push import command as push
from pullstatus.client import deadline, drivers
from pullstatus.client.deadline import AsyncTransport, Transport
from pullstatus.client.drivers import drive, drive_async
from pullstatus.client.exchange import Answer, Look, Send, Unanswered, send
from pullstatus.client.route import open_async_http, open_http
from tests.endless import (
    BODY,
    CALM,
    CHUNKED,
    ENDLESS,
    PLAIN,
    TIMEOUT_S,
    Script,
    Service,
    chunk,
    later,
    patient,
    request,
    services,
    whole,
)
from tests.harness import PATIENCE_S
from tests.unit.client.conftest import APPKEY, SDKAPPID


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Service]]:
    with services() as start:
        yield start


Ask = Callable[..., Answer | Unanswered]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Does one step over a client of either colour."""

    def blocking(url: str, step: Send | Look, timeout_s: float) -> Answer | Unanswered:
        with open_http(url, timeout_s) as http:
            return drive(send(step), lambda: http, time.sleep)

    def awaiting(url: str, step: Send | Look, timeout_s: float) -> Answer | Unanswered:
        async def run() -> Answer | Unanswered:
            async with open_async_http(url, timeout_s) as http:
                return await drive_async(send(step), lambda: http, asyncio.sleep)

        return asyncio.run(run())

    chosen = blocking if request.param == "sync" else awaiting

    def do(
        url: str, *, look: bool = False, held_s: int = 0, timeout_s: float = TIMEOUT_S
    ) -> Answer | Unanswered:
        step: Send | Look = Send(url, b"{}", {}, held_s)
        if look:
            step = Look(url, {}, timeout_s, 4096)
        return chosen(url, step, timeout_s)

    return do


@pytest.mark.parametrize("name", ENDLESS)
def test_no_answer_holds_a_call_or_fills_the_memory(
    serve: Callable[[Script], Service], ask: Ask, name: str
) -> None:
    service = serve(ENDLESS[name])
    found = ask(service.url)
    assert isinstance(found, Unanswered)
    assert found.begun
    assert isinstance(found.cause, httpx.TransportError)
    if isinstance(ENDLESS[name](), chain):  # not as soon as it can be told
        assert not service.came_to_its_end


@pytest.mark.parametrize("name", ENDLESS)
def test_no_answer_holds_a_look(serve: Callable[[Script], Service], ask: Ask, name: str) -> None:
    """It asks for nothing packed, so it takes nothing packed."""
    service = serve(ENDLESS[name])
    assert isinstance(ask(service.url, look=True), Unanswered)


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (b"", BODY),
        (b"identity", BODY),
        (b"gzip", gzip.compress(BODY)),
        (b"GZip", gzip.compress(BODY)),
        (b"x-gzip", gzip.compress(BODY)),
        (b"deflate", zlib.compress(BODY)),
        (b"gzip", b""),
    ],
)
def test_what_is_packed_once_is_read(
    serve: Callable[[Script], Service], ask: Ask, encoding: bytes, packed: bytes
) -> None:
    service = serve(lambda: [whole(packed, encoding)])
    found = ask(service.url, timeout_s=PATIENCE_S)
    assert isinstance(found, Answer)
    assert found.content == (BODY if packed else b"")


class Clock:
    """The client's own; it goes on when it is looked at, and whenever it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, look_s: float = 0.0) -> None:
        self.now_s = 0.0
        self._look_s = look_s
        for module in (deadline, drivers):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        self.now_s += self._look_s
        return self.now_s


def test_a_long_answer_comes_whole(
    serve: Callable[[Script], Service], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes longer than the timeout, at more than the slowest pace."""
    clock = Clock(monkeypatch, look_s=1.0)  # at least once for each read, which are of 64 KiB
    pieces = 2 * int(PATIENCE_S)
    service = serve(
        lambda: chain([CHUNKED + PLAIN], [chunk(b" " * 65536)] * pieces, [b"0\r\n\r\n"])
    )
    found = ask(service.url, timeout_s=PATIENCE_S)
    assert isinstance(found, Answer), found
    assert len(found.content) == pieces * 65536
    assert clock.now_s > PATIENCE_S


HELD: dict[str, Script] = {
    "head at once": lambda: chain(
        [CALM + b"Content-Length: %d\r\n\r\n" % len(BODY)], later([b""] * 40), [BODY]
    ),
    "blanks": lambda: chain(
        [CHUNKED, PLAIN], later([chunk(b" ")] * 40), [chunk(BODY), b"0\r\n\r\n"]
    ),
    "continue": lambda: chain(later([b"HTTP/1.1 102 Processing\r\n\r\n"] * 40), [whole(BODY)]),
    "in pieces": lambda: chain(
        later([b""] * 20), [whole(BODY)[:-400]], later([b""] * 15), [whole(BODY)[-400:]]
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_an_answer_that_is_held_is_waited_for(
    serve: Callable[[Script], Service], ask: Ask, name: str
) -> None:
    """It takes twice the timeout, which begins when it is due."""
    found = ask(serve(HELD[name]).url, held_s=int(PATIENCE_S))
    assert isinstance(found, Answer)
    assert found.content.strip() == BODY


def test_a_connection_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of one answer is not that of the next."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    clock = Clock(monkeypatch)

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            for _ in range(3):
                request(connection)
                connection.sendall(whole(BODY))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with listener, open_http(url, PATIENCE_S) as http:
        for _ in range(3):
            clock.now_s += 2 * PATIENCE_S
            found = drive(send(Send(url, b"{}", {})), lambda: http, time.sleep)
            assert isinstance(found, Answer)
    thread.join()


@pytest.mark.parametrize("name", ["continue", "body", "nothing"])
def test_a_pull_fails_within_our_own_tree(serve: Callable[[Script], Service], name: str) -> None:
    service = serve(ENDLESS[name])
    options: dict[str, Any] = {"keyed": True, "attempts_max": 1, "timeout_s": TIMEOUT_S}

    async def pull() -> None:
        async with AsyncClient(service.url, SDKAPPID, APPKEY, **options) as client:
            await client.pull(Kind.REPLY)

    with pytest.raises(AnswerLost), Client(service.url, SDKAPPID, APPKEY, **options) as client:
        client.pull(Kind.REPLY)
    with pytest.raises(AnswerLost):
        asyncio.run(pull())
    assert not service.came_to_its_end
    assert b"\r\nAccept-Encoding: gzip\r\n" in service.asked


def test_a_proxy_holds_nobody_either(
    serve: Callable[[Script], Service], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(ENDLESS["continue"])
    monkeypatch.setenv("https_proxy", proxy.url)
    assert isinstance(ask("https://sms.example"), Unanswered)
    assert proxy.asked.startswith(b"CONNECT sms.example:443 ")
    assert not proxy.came_to_its_end


def test_a_greeting_without_a_timeout_has_that_of_the_connection() -> None:
    """httpcore gives none to what a SOCKS proxy is asked first."""
    blocking: Any = Transport(verify=False)._pool._network_backend
    awaiting: Any = AsyncTransport(verify=False)._pool._network_backend

    async def greet(place: dict[str, Any]) -> None:
        line = await awaiting.connect_tcp(**place)
        try:
            await line.read(max_bytes=2)
        finally:
            await line.aclose()

    with patient(), socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        place = {"host": host, "port": port, "timeout": 0.1}
        line = blocking.connect_tcp(**place)
        with contextlib.closing(line), pytest.raises(httpcore.ReadTimeout):
            line.read(max_bytes=2)
        with pytest.raises(httpcore.ReadTimeout):
            asyncio.run(greet(place))


@pytest.mark.parametrize("name", ["continue", "body", "nothing"])
def test_a_push_fails_in_a_line(
    serve: Callable[[Script], Service],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(push, "TIMEOUT_S", TIMEOUT_S)
    monkeypatch.setattr(push, "ATTEMPTS_MAX", 1)
    service = serve(ENDLESS[name])
    file = tmp_path / "in.ndjson"
    file.write_text(json.dumps({"mobile": "13800000001"}) + "\n")
    arguments = ["push", str(file), "--type", "reply", "--url", service.url, "--sdkappid", "1"]
    done = CliRunner(env={"PULLSTATUS_TOKEN": "x"}).invoke(main, arguments)
    assert done.exit_code == push.UNREACHED
    assert not service.came_to_its_end
