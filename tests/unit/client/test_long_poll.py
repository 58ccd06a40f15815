"""Following a mailbox of a service that holds a pull until there is a record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from pullstatus import InvalidArgument
from pullstatus.client.flow import LONG_POLL_S
from pullstatus.wire.about import about
from tests.unit.client.conftest import NOW_S, Hands, page
from tests.unit.client.service import Service

OURS = httpx.Response(200, content=about("0.2.0"))
OLDER = httpx.Response(
    200,
    json={"name": "pullstatus", "version": "0.2.0", "features": ["idempotency-key", "reader"]},
)
WAIT = "Pullstatus-Wait"
EMPTY = page(waiting=0)
Say = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Clock:
    """A wall clock that goes on while the service holds a pull."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s

    def after(self, s: float, said: httpx.Response | Exception) -> Say:
        def say(_request: httpx.Request) -> httpx.Response:
            self.now_s += s
            if isinstance(said, Exception):
                raise said
            return httpx.Response(said.status_code, headers=said.headers, content=said.content)

        return say


def waits(client: Hands) -> list[str | None]:
    """For how long each pull lets the service hold it."""
    return [request.headers.get(WAIT) for request in client.requests]


def following(client: Hands, *script: Say, **options: Any) -> Clock:  # noqa: ANN401 - the client's own
    """The client before a service that says it can hold pulls."""
    clock = Clock()
    client.about = [OURS]
    client.over(*script, clock=clock, **options)
    return clock


def test_a_follower_is_held_instead_of_pausing(client: Hands) -> None:
    """Also behind a page of which the service has said that nothing is left."""
    clock = following(client)
    held = clock.after(LONG_POLL_S, EMPTY)
    client.also(held, held, page(1, waiting=0), held, clock.after(7, page(2, waiting=0)))
    follower = client.batches()
    follower.one().ack()
    follower.one().ack()
    assert waits(client) == [str(LONG_POLL_S)] * 5
    assert not client.pauses


@pytest.mark.parametrize("fails", [1, 9])
def test_a_service_that_could_not_say_at_first_what_it_can_do_is_asked_again(
    client: Hands, fails: int
) -> None:
    """It is known to be ours by its pages; each of them brings one more question, up to a bound."""
    clock = following(client)
    client.about = [*[httpx.Response(503)] * fails, OURS]
    client.also(*[clock.after(1, EMPTY)] * 8, page(1, waiting=0))
    client.batches().one()
    asked = 2 if fails == 1 else 5
    assert len(client.looks) == asked
    held = 8 if fails == 1 else 0
    assert waits(client) == [None] + ["0"] * (8 - held) + [str(LONG_POLL_S)] * held


@pytest.mark.parametrize(
    ("said", "long_poll_s"),
    [(EMPTY, 0), (page(), LONG_POLL_S)],
    ids=["by whoever is not to be held", "if it is not known to be ours"],
)
def test_a_service_that_could_not_say_what_it_can_do_is_asked_once(
    client: Hands, said: httpx.Response, long_poll_s: int
) -> None:
    clock = following(client)
    client.about = [httpx.Response(503)]
    client.also(*[clock.after(1, said)] * 3, page(1, waiting=0))
    client.batches(long_poll_s=long_poll_s).one()
    assert len(client.looks) == 1


@pytest.mark.parametrize("options", [{}, {"reader": "billing"}], ids=["keys", "reader"])
def test_an_answer_is_waited_for_longer_than_the_service_holds_it(
    client: Hands, options: dict[str, Any]
) -> None:
    following(client, timeout_s=3, **options)
    client.service = Service(1) if options else page(1, waiting=0)
    client.batches(long_poll_s=50).next()
    client.batches(long_poll_s=0, max=1) if options else client.pull()
    timeouts = [request.extensions["timeout"] for request in client.requests]
    assert timeouts[0] == {"connect": 3, "pool": 3, "read": 53, "write": 3}
    assert all(other["read"] == 3 for other in timeouts[1:])


def test_an_empty_page_that_comes_early_is_paused_behind(client: Hands) -> None:
    """Longer and longer; and at first again when one was held in full."""
    clock = following(client)
    early, late = clock.after(1, EMPTY), clock.after(LONG_POLL_S, EMPTY)
    client.also(*[early] * 7, late, early, page(1, waiting=0))
    client.batches().one()
    due = [min(0.5 * 2**n, 10.0) for n in range(7)] + [0.5]
    assert all(d / 2 <= s <= d for s, d in zip(client.pauses, due, strict=True))
    assert waits(client) == [str(LONG_POLL_S)] * 10


def test_a_clock_that_is_being_set_makes_no_busy_loop(client: Hands) -> None:
    clock = following(client)
    backwards = clock.after(-3600, EMPTY)
    client.also(*[backwards] * 3, page(1, waiting=0))
    client.batches().one()
    assert len(client.pauses) == 3


@pytest.mark.parametrize("failure", [httpx.ReadTimeout("late"), httpx.Response(502)], ids=repr)
def test_a_held_pull_that_fails_is_asked_again_for_the_same_page(
    client: Hands, failure: httpx.Response | Exception
) -> None:
    """The time of the failed one counts for nothing: the early page behind it is paused behind."""
    clock = following(client)
    client.also(clock.after(50, failure), clock.after(0.1, EMPTY), page(1, waiting=0))
    batch = client.batches().one()
    assert client.keys == [batch.page.key] * 3
    assert len(client.pauses) == 2


def test_a_reader_is_held_and_acknowledges_at_once(client: Hands) -> None:
    clock = following(client, reader="billing")
    service = Service(1)
    follower = client.batches()
    client.service = service
    follower.one().ack()

    def come(request: httpx.Request) -> httpx.Response:
        empty = service(request)
        clock.now_s += LONG_POLL_S
        service.feed(1)
        return empty

    client.also(come)
    follower.one().ack()
    assert waits(client) == [str(LONG_POLL_S)] * 3
    assert service.acknowledged == [1]
    assert not client.pauses
    client.shut()
    assert service.acknowledged == [1, 2]
    assert waits(client)[3:] == ["0"]


@pytest.mark.parametrize("options", [{}, {"reader": "billing"}], ids=["keys", "reader"])
def test_nothing_else_is_held(client: Hands, options: dict[str, Any]) -> None:
    """Which is said, since an operator may have set more for clients that say nothing."""
    following(client, **options)
    service = Service()
    client.service = service if options else EMPTY
    client.pull()
    assert client.batches(follow=False, long_poll_s=50).next() is None
    service.feed(1)
    client.also(*([] if options else [page(1, waiting=0)]))
    client.batches(long_poll_s=0).one()
    assert waits(client) == ["0"] * 3


@pytest.mark.parametrize("options", [{}, {"reader": "billing"}], ids=["keys", "reader"])
def test_one_pull_may_be_held(client: Hands, options: dict[str, Any]) -> None:
    following(client, **options)
    client.service = Service() if options else EMPTY
    client.pull(long_poll_s=7)
    client.pull()
    assert waits(client) == ["7", "0"]
    with pytest.raises(InvalidArgument, match="long_poll_s must be"):
        client.pull(long_poll_s=51)


def test_who_is_known_to_be_ours_and_was_not_asked_is_told_so_too(client: Hands) -> None:
    client.over(EMPTY, page(1, waiting=0), keyed=True)
    client.batches().one()
    assert waits(client) == ["0", "0"]
    assert len(client.pauses) == 1


def test_an_older_version_holds_nothing(client: Hands) -> None:
    client.about = [OLDER]
    client.over(EMPTY, page(1, waiting=0), EMPTY, page(2, waiting=0))
    follower = client.batches()
    follower.one().ack()
    follower.one().ack()
    assert len(client.pauses) == 3
    assert set(waits(client)) == {"0"}


def test_another_service_hears_nothing_of_it(client: Hands) -> None:
    client.over(page(), page(1), page(), page(2))
    follower = client.batches()
    follower.one().ack()
    follower.one().ack()
    assert waits(client) == [None] * 4
    assert len(client.pauses) == 2


@pytest.mark.parametrize("long_poll_s", [-1, 51, 2.5, True, "20", None])
def test_what_no_service_could_do_is_refused(client: Hands, long_poll_s: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidArgument, match="long_poll_s must be"):
        client.batches(long_poll_s=long_poll_s)
