"""A key stands for its caller's next page: it is kept until it has brought one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from random import Random

import httpx
import pytest

from pullstatus import (
    AnswerLost,
    AsyncClient,
    Client,
    ClientError,
    ClockSkewed,
    KeyExpired,
    Kind,
    NotConnected,
)
from pullstatus.client.keys import LATE_S, NextPage
from tests.unit.client.conftest import (
    APPKEY,
    BASE_URL,
    NOW_S,
    SDKAPPID,
    Hands,
    Say,
    page,
    refusal,
)

LOST = httpx.ReadTimeout("late")
DAY_S = 24 * 3600
EMPTY = page(waiting=0)


def sids(found: object) -> list[str]:
    return [record.sid for record in found]  # type: ignore[attr-defined]


# --- kept -----------------------------------------------------------------------------------------


def test_empty_page_does_not_use_its_key_up(client: Hands) -> None:
    client.over(EMPTY, EMPTY, page(1, waiting=0), page(2, waiting=0))
    keys = [client.pull().key for _ in range(4)]
    assert keys == client.keys
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_iterator_keeps_its_key_over_empty_pages(client: Hands) -> None:
    client.over(EMPTY, EMPTY, page(1, waiting=0), EMPTY, page(2, waiting=0))
    following = client.batches()
    following.one().ack()
    following.one().ack()
    assert len({*client.keys[:3]}) == len({*client.keys[3:]}) == 1
    assert client.keys[2] != client.keys[3]


def test_iterator_that_ended_leaves_its_key_to_the_next(client: Hands) -> None:
    """A program that empties its mailbox once a minute."""
    client.over(EMPTY, EMPTY, page(1, waiting=0))
    for _ in range(2):
        assert client.batches(follow=False).next() is None
    client.batches(follow=False).one().ack()
    assert len({*client.keys}) == 1


def test_pull_by_hand_and_iterator_have_one_next_page(client: Hands) -> None:
    client.over(EMPTY, page(1, waiting=0))
    assert not client.pull()
    assert client.batches().one().page.key == client.keys[0]


@pytest.mark.parametrize(
    "failure",
    [LOST, httpx.ConnectError("refused"), refusal(1020), refusal(1007), httpx.Response(502)],
    ids=["lost", "unsent", "1020", "1007", "502"],
)
def test_failure_does_not_use_its_key_up(client: Hands, failure: Say) -> None:
    client.over(failure, page(1, waiting=0), keyed=True, attempts_max=1)
    with pytest.raises(ClientError) as caught:
        client.pull()
    assert client.pull().key == client.keys[0] == client.keys[1] == caught.value.key


def test_failure_of_an_iterator_is_gone_on_with_by_another(client: Hands) -> None:
    client.over(LOST, page(1, waiting=0), keyed=True, attempts_max=1)
    with pytest.raises(AnswerLost):
        client.batches(give_up_after_s=0).next()
    client.batches().one()
    assert len({*client.keys}) == 1


def test_key_of_an_exception_is_kept_over_an_empty_page(client: Hands) -> None:
    """Its attempt may still be on its way when the key is asked for."""
    client.over(LOST, EMPTY, page(1, waiting=0))
    with pytest.raises(AnswerLost) as caught:
        client.pull()
    found = client.pull(key=caught.value.key)
    assert found.in_doubt
    assert sids(client.pull()) == ["8:1"]
    assert len({*client.keys}) == 1


def test_kinds_have_keys_of_their_own(client: Hands) -> None:
    client.over(EMPTY, EMPTY, EMPTY)
    client.pull()
    client.pull(Kind.REPLY)
    client.pull()
    assert client.keys[0] == client.keys[2] != client.keys[1]


def test_callers_own_key_is_the_callers_to_keep(client: Hands) -> None:
    client.over(EMPTY, EMPTY, page(1, waiting=0))
    assert client.pull(key="mine").key == "mine"
    client.pull()
    client.pull(key="mine")
    assert client.keys[0] == client.keys[2] == "mine" != client.keys[1]


def test_iterator_keeps_its_callers_key_until_a_page_came(client: Hands) -> None:
    client.over(EMPTY, LOST, EMPTY, page(1, waiting=1), page(2, waiting=0), keyed=True)
    following = client.batches(key="mine")
    for _ in range(2):
        following.one().ack()
    assert client.keys[:4] == ["mine"] * 4
    assert client.keys[4] != "mine"


@pytest.mark.parametrize(
    "pull",
    [lambda client: client.pull(Kind.REPLY), lambda client: anext(client.replies())],
    ids=["by hand", "iterator"],
)
def test_cancelled_pull_is_gone_on_with_by_the_next(
    pull: Callable[[AsyncClient], Awaitable[object]],
) -> None:
    """A cancellation comes in the middle of anything; the page in flight keeps its key."""

    async def scenario() -> list[str]:
        keys = []
        asked = asyncio.Event()

        async def answer(request: httpx.Request) -> httpx.Response:
            keys.append(request.headers["Idempotency-Key"])
            asked.set()
            if len(keys) == 1:
                await asyncio.Event().wait()
            return page(1, waiting=0)

        transport = httpx.MockTransport(answer)
        async with AsyncClient(BASE_URL, SDKAPPID, APPKEY, transport=transport) as client:
            first = asyncio.ensure_future(pull(client))
            await asked.wait()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert await pull(client)
        return keys

    first, second = asyncio.run(scenario())
    assert first == second


def test_other_service_gets_a_new_key_each_time(client: Hands) -> None:
    """Where keys are not known, nothing is kept, and nothing is said of doubt later."""
    client.over(page(), LOST, httpx.ConnectError("refused"), page(), attempts_max=1)
    assert not client.pull().in_doubt
    with pytest.raises(AnswerLost):
        client.pull()
    with pytest.raises(NotConnected) as caught:
        client.pull()
    assert not caught.value.may_have_consumed
    client.pull()
    assert len({*client.keys}) == 4


def test_callers_at_the_same_time_have_keys_of_their_own() -> None:
    """What one of them leaves is another's next page; none is asked for by two at once."""
    both, lock = threading.Barrier(2), threading.Lock()
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        with lock:
            keys.append(request.headers["Idempotency-Key"])
            number = len(keys)
        both.wait(60)
        return page(waiting=0) if number <= 2 else page(number, waiting=0)

    def work(client: Client) -> None:
        assert not client.pull(Kind.DELIVERY_STATUS)
        assert client.pull(Kind.DELIVERY_STATUS)

    with Client(
        BASE_URL, SDKAPPID, APPKEY, transport=httpx.MockTransport(answer), clock=lambda: NOW_S
    ) as client:
        threads = [threading.Thread(target=work, args=(client,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(keys) == 4
    assert keys[0] != keys[1]
    assert {*keys[2:]} == {*keys[:2]}


# --- acknowledged ---------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [1, None], ids=["keyed", "unkeyed"])
def test_failed_batch_comes_again_from_another_iterator(client: Hands, waiting: int | None) -> None:
    """`while True: try: for batch in client.delivery_statuses(): ...` must not skip a page."""
    client.over(page(1, waiting=waiting), page(2, waiting=waiting))

    def work() -> None:
        with client.batches().one():
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        work()
    following = client.batches()
    batch = following.one()
    assert (sids(batch), batch.attempt) == (["8:1"], 2)
    assert len(client.requests) == 1
    batch.ack()
    assert sids(following.one()) == ["8:2"]


def test_batch_that_was_dropped_comes_again_from_another_iterator(client: Hands) -> None:
    """Its receiver failed before it came to call `ack`, and the program starts over."""
    client.over(page(1, waiting=1), page(2, waiting=0))

    def work() -> None:
        for _batch in iter(client.batches(follow=False).one, None):
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        work()
    gc.collect()  # some interpreters take their time
    following = client.batches(follow=False)
    batch = following.one()
    assert (sids(batch), batch.attempt) == (["8:1"], 2)
    batch.ack()
    assert list(following.drain()) == [["8:2"]]


def test_failed_batch_that_is_given_up_does_not_come_again(client: Hands) -> None:
    """`ack` behind a failure: what cannot be stored must not block what can."""
    client.over(page(1, waiting=1), page(2, waiting=0))
    following = client.batches()
    batch = following.one()
    try:
        with batch:
            raise ValueError("poison")
    except ValueError:
        batch.ack()
    assert sids(following.one()) == ["8:2"]


def test_open_batch_keeps_its_key_to_itself(client: Hands) -> None:
    client.over(page(1, waiting=1), page(2, waiting=0))
    batch = client.batches().one()
    other = client.batches().one()
    assert sids(batch) != sids(other)
    assert batch.page.key != other.page.key


# --- max ------------------------------------------------------------------------------------------


def test_kept_key_takes_another_max(client: Hands) -> None:
    client.over(EMPTY, page(1, waiting=0))
    client.pull(max=100)
    client.pull(max=10)
    assert len({*client.keys}) == 1
    assert [body["max"] for body in client.bodies] == [100, 10]


def test_page_that_may_have_been_taken_is_asked_for_as_it_was(client: Hands) -> None:
    """The service refuses its key with another max, and the page would be nobody's."""
    client.over(LOST, EMPTY, page(1, 2, waiting=1), page(3, waiting=0), keyed=True)
    assert client.pull(max=100).in_doubt
    assert len(client.pull(max=1)) == 2
    assert len(client.pull(max=1)) == 1
    assert [body["max"] for body in client.bodies] == [100, 100, 100, 1]


# --- old ------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.s = NOW_S

    def __call__(self) -> float:
        return self.s


def asked_after(client: Hands, s: float, *script: Say) -> Callable[[], list[str]]:
    """Pull by a client that has been away for so long."""
    clock = Clock()
    client.over(*script, page(1, waiting=0), keyed=True, clock=clock, attempts_max=2)
    with contextlib.suppress(ClientError):
        client.pull()
    clock.s += s
    return lambda: sids(client.pull())


def test_key_whose_attempts_were_all_answered_grows_not_old(client: Hands) -> None:
    assert asked_after(client, 30 * DAY_S, EMPTY)() == ["8:1"]
    assert len({*client.keys}) == 1


def test_key_that_never_left_grows_not_old(client: Hands) -> None:
    assert asked_after(client, 30 * DAY_S, *[httpx.ConnectError("refused")] * 2)() == ["8:1"]


@pytest.mark.parametrize("script", [(LOST, LOST), (LOST, EMPTY)], ids=["lost", "empty"])
def test_key_in_doubt_brings_its_page_for_a_day(client: Hands, script: tuple[Say, ...]) -> None:
    assert asked_after(client, DAY_S - 1, *script)() == ["8:1"]
    assert len({*client.keys}) == 1


@pytest.mark.parametrize("script", [(LOST, LOST), (LOST, EMPTY)], ids=["lost", "empty"])
def test_page_that_cannot_be_had_again_is_told_once(client: Hands, script: tuple[Say, ...]) -> None:
    """The service forgets keys: to ask would bring the next page, and say nothing of this one."""
    pull = asked_after(client, DAY_S + 1, *script)
    with pytest.raises(KeyExpired, match=r"pulls list --key [0-9a-f]{32}") as caught:
        pull()
    assert caught.value.key == client.keys[0]
    assert caught.value.may_have_consumed
    assert pull() == ["8:1"]
    assert client.keys[-1] != client.keys[0]


def test_key_is_not_dropped_by_our_clock_alone(client: Hands) -> None:
    """Two days ahead for a moment, as behind a resume or before NTP: the page is still there."""
    clock = Clock()
    skewed = refusal(1021, Date=formatdate(NOW_S, usegmt=True))
    client.about = [httpx.Response(404, headers={"Date": formatdate(NOW_S, usegmt=True)})]
    client.over(LOST, skewed, page(1, waiting=0), keyed=True, clock=clock, attempts_max=1)
    with pytest.raises(AnswerLost):
        client.pull()
    clock.s += 2 * DAY_S
    with pytest.raises(ClockSkewed) as caught:
        client.pull()
    assert caught.value.may_have_consumed
    clock.s -= 2 * DAY_S
    assert len(client.pull()) == 1
    assert len({*client.keys}) == 1


def test_key_is_dropped_when_both_clocks_say_so(client: Hands) -> None:
    pull = asked_after(client, DAY_S + 1, LOST, LOST)
    client.about = [httpx.Response(404, headers={"Date": formatdate(NOW_S + DAY_S + 9)})]
    with pytest.raises(KeyExpired):
        pull()
    assert pull() == ["8:1"]


def test_key_is_kept_while_nobody_tells_the_time(client: Hands) -> None:
    pull = asked_after(client, DAY_S + 1, LOST, LOST)
    late, away = [httpx.ReadTimeout("late")] * 2, [httpx.ConnectError("no")] * 2
    client.about = [*late, *away, httpx.Response(404)]
    for error in (AnswerLost, NotConnected, KeyExpired):
        with pytest.raises(error) as caught:
            pull()
        assert caught.value.may_have_consumed
        assert caught.value.key == client.keys[0]
    assert pull() == ["8:1"]


def test_service_that_is_away_for_a_day_is_no_silent_loss(client: Hands) -> None:
    """An iterator that rides out a long outage, with an attempt at its start that got through."""
    clock = Clock()
    away = [httpx.ConnectError("refused")] * 24
    client.over(LOST, *away, page(1, waiting=0), keyed=True, clock=clock)
    following = client.batches(give_up_after_s=0)
    for error in (AnswerLost, *[NotConnected] * 24, KeyExpired):
        with pytest.raises(error) as caught:
            following.next()
        assert caught.value.may_have_consumed
        clock.s += 3600
    assert sids(following.one()) == ["8:1"]


# --- the value ------------------------------------------------------------------------------------


def test_doubt_ends_with_an_empty_page_when_nothing_can_be_late() -> None:
    page = NextPage.new("k", 9).ask(NOW_S)
    assert page.in_flight
    page = page.ask(NOW_S + 5).empty(NOW_S + 5)
    assert not page.in_flight
    assert page.in_doubt
    assert page.ask(NOW_S + LATE_S).empty(NOW_S + LATE_S).in_doubt
    later = NOW_S + LATE_S + 6
    assert not page.empty(later).in_doubt
    assert not page.empty(later).forgotten(NOW_S + 99 * DAY_S)


def test_only_an_answer_ends_a_flight() -> None:
    chance = Random(1)
    page = NextPage.new("k", 9)
    for s in range(100):
        page = page.ask(NOW_S + s)
        assert page.in_flight
        assert page.asked_s == NOW_S
        assert page.sized(chance.randrange(1, 9)) == page
