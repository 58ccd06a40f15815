"""Pushing batches: keys, retries, and bad records set apart."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, NamedTuple

import httpx
import pytest

from pullstatus import (
    GatewayFailed,
    InvalidArgument,
    Kind,
    NotConnected,
    WrongAddress,
    limits,
)
from pullstatus.client.drivers import drive, drive_async
from pullstatus.client.errors import BatchRefused
from pullstatus.client.feed import Cut, Feeder

BAD = b'{"bad":true}'


def problem(http_status: int, detail: str = "no", **members: object) -> httpx.Response:
    value = {"title": "Refused", "status": http_status, "detail": detail, **members}
    return httpx.Response(http_status, json=value)


class Mailbox:
    """A service that refuses what is bad; it names the first one, or not."""

    def __init__(self, *script: httpx.Response | Exception, names: bool = True) -> None:
        self.script = list(script)
        self.names = names
        self.requests: list[httpx.Request] = []
        self.stored: list[bytes] = []
        self._keys: dict[str, bytes] = {}
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        said = self.script.pop(0) if self.script else None
        if isinstance(said, httpx.Response):
            return said
        if isinstance(said, httpx.ConnectError):
            raise said
        lines = request.content.splitlines()
        if BAD in lines:
            index = lines.index(BAD)
            members = {"index": index} if self.names else {}
            return problem(400, f"record {index}: is bad", **members)
        key = request.headers["Idempotency-Key"]
        if key not in self._keys:
            self.stored += lines
        assert self._keys.setdefault(key, request.content) == request.content
        if said is not None:
            raise said  # stored, but the answer is lost
        return httpx.Response(200, json={"accepted": len(lines)})

    def feed(self, lines: list[bytes], first: int = 0, **options: Any) -> Fed:  # noqa: ANN401
        return feed(self, lines, first, **options)


class SetApart(NamedTuple):
    place: int
    reason: str


class Fed(NamedTuple):
    accepted: int
    refused: list[SetApart]


def feed(service: Mailbox, lines: list[bytes], first: int = 0, *, run: str = "run") -> Fed:
    """As the flow says how to go on."""
    feeder = make(run=run)
    accepted, refused = 0, []
    count = len(lines)
    with httpx.Client(transport=httpx.MockTransport(service)) as http:
        while lines:
            cut = drive(feeder.feed(lines[:count], first), lambda: http, service.pauses.append)
            if cut is None:
                accepted += count
            elif cut.count:
                count = cut.count
                continue
            else:
                assert cut.reason is not None
                refused.append(SetApart(first, cut.reason))
                count = 1
            lines, first = lines[count:], first + count
            count = len(lines)
    return Fed(accepted, refused)


def make(token: str = "pst_1", run: str = "run") -> Feeder:
    return Feeder("http://a.test/", 7, Kind.REPLY, token, run=run, attempts_max=3, random=Random(1))


def lines_of(*numbers: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in numbers]


def test_batch_is_one_request() -> None:
    service = Mailbox()
    assert service.feed(lines_of(1, 2)) == Fed(2, [])
    [request] = service.requests
    assert str(request.url) == "http://a.test/ingest/7/replies"
    assert request.headers["Authorization"] == "Bearer pst_1"
    assert request.headers["Content-Type"] == "application/x-ndjson"
    assert request.content == b'{"n":1}\n{"n":2}\n'


def test_key_is_of_run_place_and_content() -> None:
    """The same lines sent again by the same run are known again; by another they are others."""
    service = Mailbox()
    for first, run in ((0, "a"), (0, "a"), (2, "a"), (0, "b")):
        service.feed(lines_of(1, 2), first, run=run)
    keys = [request.headers["Idempotency-Key"] for request in service.requests]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ReadTimeout("late"),
        httpx.ConnectError("refused"),
        httpx.Response(503, headers={"Retry-After": "5"}),
        httpx.Response(502, content=b"<html>"),
        httpx.Response(429),
        httpx.Response(200, content=b"hello"),
    ],
)
def test_trouble_is_repeated_with_the_same_key(failure: httpx.Response | Exception) -> None:
    service = Mailbox(failure)
    assert service.feed(lines_of(1)) == Fed(1, [])
    assert len({request.headers["Idempotency-Key"] for request in service.requests}) == 1
    assert service.stored == lines_of(1)
    assert len(service.pauses) == 1
    if isinstance(failure, httpx.Response) and failure.status_code == 503:
        assert service.pauses == [5]


def test_trouble_that_stays_is_raised() -> None:
    with pytest.raises(GatewayFailed, match="503") as caught:
        Mailbox(*[httpx.Response(503)] * 3).feed(lines_of(1))
    assert not caught.value.may_have_consumed
    with pytest.raises(NotConnected):
        Mailbox(*[httpx.ConnectError("refused")] * 3).feed(lines_of(1))


@pytest.mark.parametrize("names", [True, False], ids=["named", "not named"])
@pytest.mark.parametrize(
    "bad", [[0], [9], [4], [0, 9], [3, 4, 5], list(range(10)), [0, 2, 4, 6, 8]], ids=str
)
def test_bad_records_are_set_apart(bad: list[int], *, names: bool) -> None:
    """Exactly they, each with its place in the whole push; the others are stored in their order."""
    service = Mailbox(names=names)
    lines = lines_of(*range(10))
    for place in bad:
        lines[place] = BAD
    fed = service.feed(lines, 100)
    assert fed.accepted == 10 - len(bad)
    assert [one.place for one in fed.refused] == [100 + place for place in bad]
    assert {one.reason for one in fed.refused} <= {"is bad", "record 0: is bad"}
    assert service.stored == [line for line in lines if line != BAD]


def test_too_large_a_batch_is_halved() -> None:
    service = Mailbox(problem(413, "too large"))
    assert service.feed(lines_of(1, 2, 3)).accepted == 3
    assert [len(request.content.splitlines()) for request in service.requests] == [3, 1, 2]
    assert service.stored == lines_of(1, 2, 3)


@pytest.mark.parametrize("http_status", [401, 403, 404, 415, 422])
def test_refusal_that_is_not_about_records_ends_the_push(http_status: int) -> None:
    service = Mailbox(problem(http_status, "use another token"))
    with pytest.raises(BatchRefused, match="use another token") as caught:
        service.feed(lines_of(1, 2))
    assert caught.value.http_status == http_status
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"<html>The plain HTTP request was sent to HTTPS port</html>",
        b'{"message":"no"}',
        b'{"title":"","status":400,"detail":"no"}',
        b'{"title":"Bad Request","status":400,"detail":"","index":0}',
        b'{"title":"Bad Request","status":500,"detail":"no"}',
        b"[]",
        b"",
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "http_status", [204, 301, 307, 400, 401, 403, 404, 405, 411, 413, 414, 431]
)
def test_somebody_elses_refusal_is_none_of_records(http_status: int, content: bytes) -> None:
    """Nothing is known of them, and another try is told the same."""
    if b'"status":400' in content:
        content = content.replace(b"400", str(http_status).encode())
    service = Mailbox(*[httpx.Response(http_status, content=content)] * 3)
    with pytest.raises(WrongAddress, match="no answer of the service: ") as caught:
        service.feed(lines_of(1))
    assert len(service.requests) == 1
    assert not caught.value.retry_can_help
    assert not caught.value.may_have_consumed
    if http_status != 413:
        with pytest.raises(WrongAddress, match=f"HTTP {http_status}"):
            service.feed(lines_of(1, 2))


def test_address_that_has_moved_is_told() -> None:
    moved = httpx.Response(301, headers={"Location": "https://b.test/"}, content=b"<html>")
    with pytest.raises(WrongAddress, match=r"moved to https://b\.test/"):
        Mailbox(moved).feed(lines_of(1))


def test_a_proxy_that_takes_no_large_bodies_gets_small_ones() -> None:
    """And none that is too large for it alone is taken for refused: its bound can be raised."""
    nginx = httpx.Response(413, content=b"<html>")
    service = Mailbox(nginx, nginx)
    assert service.feed(lines_of(1, 2, 3, 4)) == Fed(4, [])
    assert [len(request.content.splitlines()) for request in service.requests] == [4, 2, 1, 3]
    with pytest.raises(WrongAddress, match="raise the bound for bodies"):
        Mailbox(nginx, nginx).feed(lines_of(1, 2))
    [refused] = Mailbox(problem(413, "too large")).feed(lines_of(1)).refused  # the service's word
    assert refused == SetApart(0, "too large")


@pytest.mark.parametrize("token", ["", "pst 1", "pst_1\n"])
def test_token_with_a_blank_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="token"):
        make(token)


def test_same_flow_with_await() -> None:
    async def scenario() -> Cut | None:
        service = Mailbox()
        async with httpx.AsyncClient(transport=httpx.MockTransport(service)) as http:
            return await drive_async(
                make().feed([BAD, *lines_of(1)], 0), lambda: http, asyncio.sleep
            )

    assert asyncio.run(scenario()) == Cut(0, "is bad")


@pytest.mark.parametrize(
    "content",
    [
        b'{"accepted":0}',
        b'{"accepted":1}',
        b'{"accepted":-2}',
        b'{"accepted":3}',
        b'{"accepted":"2"}',
        b"\xff",
        b"[" * 100_000,
    ],
    ids=lambda content: str(content[:20]),
)
def test_answer_that_acknowledges_other_records_than_were_sent_is_none(content: bytes) -> None:
    """Who says that has not read the batch: it is none of the service's answers."""
    wrong = [httpx.Response(200, content=content)] * 3
    service = Mailbox(*wrong)
    with pytest.raises(GatewayFailed, match="an answer that is not the service's"):
        service.feed(lines_of(1, 2))
    assert Mailbox(*wrong[:2]).feed(lines_of(1, 2)) == Fed(2, [])


@pytest.mark.parametrize("index", [-1, 2, 10**12])
def test_place_that_no_record_has_names_none(index: int) -> None:
    service = Mailbox(problem(400, index=index))
    assert service.feed(lines_of(1, 2)) == Fed(2, [])
    assert service.stored == lines_of(1, 2)


@pytest.mark.parametrize("names", [True, False], ids=["named", "not named"])
def test_reason_of_a_refused_record_is_one_line(*, names: bool) -> None:
    """Whatever the service says, on a terminal it is no line of ours, nor a million of them."""
    said = f"record 0: \x1b[2Jno\n3 accepted, 0 refused\r\u202e{'x' * 100_000}"
    members = {"index": 0} if names else {}
    service = Mailbox(problem(400, said, **members))
    [refused] = service.feed(lines_of(1)).refused
    assert refused.reason.isprintable()
    assert "no\\n3 accepted" in refused.reason
    assert len(refused.reason) <= limits.REASON_CHARS_MAX
