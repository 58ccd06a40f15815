import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from bench import ceiling, paced
from bench.paced import Stream, cut_answer, percentile
from pullstatus.cli.load import Answer, LoadFailed, Request, look

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
JSON = ("content-type", "application/json")


def answer(body: bytes, status: int = 200) -> Answer:
    return Answer(status, [JSON, ("content-length", str(len(body)))], body)


def test_cut_answer_waits_for_the_last_byte() -> None:
    whole = HEAD + b"body"
    for end in range(len(whole)):
        assert cut_answer(whole[:end]) is None
    assert cut_answer(whole) == (HEAD, b"body")


def test_cut_answer_needs_a_length() -> None:
    with pytest.raises(LoadFailed, match="without a length"):
        cut_answer(b"HTTP/1.1 200 OK\r\n\r\n")


def test_percentile() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.5) == 7
    assert percentile([], 0.5) == 0


def test_run_sends_at_its_rate_and_counts_records(tmp_path: Path) -> None:
    request = Request("/", b"{}").encode()
    with ceiling.start(answer(b'{"result":0,"count":3,"data":[]}'), tmp_path) as server:
        one, two = paced.run(
            server.port, [Stream(lambda: request, 200, 4), Stream(lambda: request, 50, 1)], 0.5
        )
    assert (one.measured.requests, two.measured.requests) == (100, 25)
    assert (one.records, two.records) == (300, 75)
    assert 0 < one.measured.p50_ms <= one.measured.p99_ms <= one.measured.max_ms


@pytest.mark.parametrize(
    "given", [answer(b'{"result":1001,"errmsg":""}'), answer(b"{}", status=503)]
)
def test_run_fails_on_a_refusal(tmp_path: Path, given: Answer) -> None:
    request = Request("/", b"{}").encode()
    with (
        ceiling.start(given, tmp_path) as server,
        pytest.raises(LoadFailed, match="answered"),
    ):
        paced.run(server.port, [Stream(lambda: request, 100, 2)], 0.1)


def test_ceiling_repeats_the_answer_to_whatever_is_asked(tmp_path: Path) -> None:
    given = answer(b'{"accepted":1}')
    with ceiling.start(given, tmp_path) as server:
        found = look(f"http://127.0.0.1:{server.port}", Request("/any", b"x" * 100_000))
    assert (found.status, found.body) == (200, given.body)
    assert JSON in found.headers


class Written:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.closed = False

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.answers.append(b"".join(parts))

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("size", [1, 7, 30, 10_000])
def test_ceiling_answers_once_when_the_last_byte_is_there(size: int) -> None:
    """However the request is cut: else it would be ahead of a server that reads what it answers."""
    given, written = answer(b"{}"), Written()
    raw = ceiling.Raw(given)
    raw.connection_made(cast("asyncio.BaseTransport", written))
    for request in (Request("/", b"x" * 500).encode(), Request("/", b"").encode()):
        pieces = [request[begin : begin + size] for begin in range(0, len(request), size)]
        for piece in pieces[:-1]:
            raw.data_received(piece)
        assert written.answers == []
        raw.data_received(pieces[-1])
        assert written.answers == [ceiling.head_of(given) + b"{}"]
        written.answers.clear()
    assert not written.closed


def test_ceiling_closes_where_the_product_does() -> None:
    written = Written()
    raw = ceiling.Raw(Answer(200, [("Connection", "close"), ("content-length", "0")], b""))
    raw.connection_made(cast("asyncio.BaseTransport", written))
    raw.data_received(Request("/", b"").encode())
    assert written.closed


def test_look_refuses_a_refusal(tmp_path: Path) -> None:
    """v5 errors are HTTP 200 and fast: they must not be taken for answers."""
    with (
        ceiling.start(answer(b'{"result":1019,"errmsg":""}'), tmp_path) as server,
        pytest.raises(LoadFailed, match="1019"),
    ):
        look(f"http://127.0.0.1:{server.port}", Request("/", b""))
