"""What a client asks before its first pull, by a request that takes nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pullstatus import AnswerLost, ClientError, GatewayFailed, NotConnected
from pullstatus.version import VERSION
from pullstatus.wire.about import about
from tests.unit.client.conftest import BASE_URL, Hands, page, refusal
from tests.unit.client.service import Service

Said = httpx.Response | Exception

OURS = httpx.Response(200, content=about(VERSION))
LOST = httpx.ReadTimeout("late")
UNSENT = httpx.ConnectError("refused")
FOREIGN: list[Said] = [
    httpx.Response(404, content=b"<html>Not Found</html>"),
    httpx.Response(200, content=b"<html>Welcome</html>"),
    refusal(1011),
    httpx.Response(200, json={"ActionStatus": "FAIL", "ErrorInfo": "no", "ErrorCode": 60009}),
    httpx.Response(301, headers={"Location": "https://elsewhere.test/"}),
    httpx.Response(405),
    httpx.Response(204),
    httpx.Response(200, content=b"x" * 10_000_000),
    httpx.Response(200, content=b"[" * 10_000),
    httpx.Response(200, json={"name": "another", "features": ["idempotency-key"]}),
    httpx.Response(503, headers={"Retry-After": "3600"}),
    httpx.Response(500),
    httpx.Response(429),
    LOST,
    httpx.RemoteProtocolError("closed"),
    httpx.DecodingError("not gzip"),
    ZeroDivisionError("a transport that knows no GET"),
]


@pytest.mark.parametrize("failure", [LOST, httpx.Response(502), httpx.Response(200)], ids=repr)
def test_first_answer_may_be_lost(client: Hands, failure: Said) -> None:
    """The service has said that it knows keys: the very first pull is repeated with its own."""
    client.about = [OURS]
    client.over(failure, failure, page(1, waiting=0))
    found = client.pull()
    assert len(found) == 1
    assert client.keys == [found.key] * 3
    [look] = client.looks
    assert (look.method, str(look.url), look.content) == ("GET", f"{BASE_URL}/", b"")
    assert look.headers["User-Agent"].startswith(f"pullstatus/{VERSION}")
    assert "Idempotency-Key" not in look.headers


@pytest.mark.parametrize("options", [{}, {"keyed": True}, {"reader": "billing"}], ids=repr)
def test_what_it_says_can_be_had_and_is_asked_once(client: Hands, options: dict[str, Any]) -> None:
    client.about = [LOST, httpx.Response(503), OURS]
    client.over(**options)
    assert client.features() is None
    assert client.features() is None
    for _ in range(2):
        assert client.features() == frozenset({"idempotency-key", "reader", "wait"})
    client.service = Service(1) if "reader" in options else page(1, waiting=0)
    assert client.pull()
    assert len(client.looks) == 3


def test_what_others_say_is_nothing(client: Hands) -> None:
    client.about = [httpx.Response(404)]
    client.over(page(1))
    assert client.features() == frozenset()
    assert client.pull()
    assert len(client.looks) == 1


def test_whoever_is_not_there_says_nothing(client: Hands) -> None:
    client.about = [UNSENT]
    client.over()
    with pytest.raises(NotConnected):
        client.features()


def test_it_is_asked_before_anything_is_taken(client: Hands) -> None:
    order: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        order.append(request.method)
        return OURS if request.method == "GET" else page(1, waiting=0)

    client.about = [note]
    client.over(note, note)
    client.pull()
    client.pull()
    assert order == ["GET", "POST", "POST"]


def test_it_is_asked_where_the_service_is(client: Hands) -> None:
    client.over(page(), base_url="https://sms.test/inner/")
    client.pull()
    assert str(client.looks[0].url) == "https://sms.test/inner/"


@pytest.mark.parametrize("keyed", [True, False])
def test_who_knows_does_not_ask(client: Hands, keyed: bool) -> None:
    client.over(page(waiting=0), keyed=keyed)
    client.pull()
    assert not client.looks


@pytest.mark.parametrize("said", FOREIGN, ids=lambda said: repr(said)[:40])
def test_another_service_costs_one_request_and_no_error(client: Hands, said: Said) -> None:
    client.about = [said]
    client.over(page(1), refusal(1020), page(2))
    assert len(client.pull()) == 1
    with pytest.raises(ClientError, match="1020"):
        client.pull()
    assert len(client.pull()) == 1
    assert len(client.looks) == 1
    assert client.looks[0].headers["Connection"] == "close"
    assert not client.pauses
    assert client.client.keyed is False


@pytest.mark.parametrize("said", FOREIGN, ids=lambda said: repr(said)[:40])
def test_another_service_that_refuses_is_not_asked_again(client: Hands, said: Said) -> None:
    """Nothing of its refusals tells about keys: the next pull does not begin anew."""
    client.about = [said]
    client.over(refusal(1020), refusal(1020))
    for _ in range(2):
        with pytest.raises(ClientError, match="1020"):
            client.pull()
    assert len(client.looks) == 1


@pytest.mark.parametrize("said", FOREIGN, ids=lambda said: repr(said)[:40])
def test_another_service_whose_answer_is_lost_is_never_pulled_twice(
    client: Hands, said: Said
) -> None:
    client.about = [said]
    client.over(LOST)
    with pytest.raises(AnswerLost) as caught:
        client.batches(give_up_after_s=60).next()
    assert caught.value.may_have_consumed
    assert len(client.requests) == 1


def test_no_answer_is_waited_for_long(client: Hands) -> None:
    waits: list[Any] = []

    def note(request: httpx.Request) -> httpx.Response:
        waits.append(request.extensions["timeout"])
        return httpx.Response(404)

    client.about = [note]
    client.over(page(), timeout_s=60)
    client.pull()
    assert waits == [{"connect": 60, "pool": 60, "read": 3, "write": 3}]
    client.over(page(), timeout_s=0.5)
    client.pull()
    assert waits[1]["read"] == 0.5


def test_who_is_away_is_asked_before_the_pull_again(client: Hands) -> None:
    """There is no connection for it: so there is none for the pull, which is not tried."""
    client.about = [UNSENT, UNSENT, OURS]
    client.over(LOST, page(1, waiting=0))
    assert len(client.pull()) == 1
    assert len(client.looks) == len(client.pauses) == 3
    client.about = [UNSENT]
    client.over(attempts_max=2)
    with pytest.raises(NotConnected) as caught:
        client.pull()
    assert not caught.value.may_have_consumed


@pytest.mark.parametrize(
    "says", [[LOST, OURS], [httpx.Response(502)] * 3 + [OURS], [LOST, UNSENT, UNSENT, OURS]]
)
def test_doubt_is_settled_by_asking_again(client: Hands, says: list[Said]) -> None:
    """Both answers were lost: it may be ours, and what takes nothing may be repeated."""
    client.about = list(says)
    client.over(LOST, page(1, waiting=0))
    found = client.pull()
    assert client.keys == [found.key] * 2
    assert len(client.looks) == len(says)


def test_doubt_that_cannot_be_settled_is_raised(client: Hands) -> None:
    client.about = [LOST]
    client.over(LOST, attempts_max=3)
    with pytest.raises(AnswerLost) as caught:
        client.batches().next()
    assert caught.value.key == client.keys[0]
    assert "may be lost" in str(caught.value)
    assert len(client.requests) == 1
    assert len(client.looks) == 3


def test_doubt_is_kept_while_nobody_is_there(client: Hands) -> None:
    """A gateway without a service behind it: a follower waits, and does not pull blindly."""
    client.about = [httpx.Response(502)]
    client.over(httpx.Response(502), attempts_max=3)
    with pytest.raises(GatewayFailed) as caught:
        client.batches(give_up_after_s=3600).next()
    assert caught.value.may_have_consumed
    assert len(client.requests) == 1
    assert len(client.looks) > 100
