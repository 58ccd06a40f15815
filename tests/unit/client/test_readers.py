"""Pulling under a reader's name: what is acknowledged when, and what comes again."""

from __future__ import annotations

import logging
import subprocess
import sys
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullstatus import (
    AnswerLost,
    Batch,
    CallInvalid,
    DeliveryStatus,
    GatewayFailed,
    InvalidArgument,
    Kind,
    NotConnected,
    ReaderUnsupported,
    SignatureRefused,
    TooFrequent,
)
from pullstatus.client.bodies import outcome_of
from pullstatus.client.exchange import Look, Outcome, Send, Unanswered, Wait
from pullstatus.client.faces.v5 import V5
from pullstatus.client.flow import Follower
from pullstatus.client.readers import ReaderPuller
from tests.unit.client.conftest import (
    APPKEY,
    BASE_URL,
    NOW_S,
    SDKAPPID,
    Hands,
    Record,
    page,
    refusal,
)
from tests.unit.client.service import ABOUT, Service

READ_TIMEOUT = httpx.ReadTimeout("nobody answers")
REFUSED = httpx.ConnectError("nobody is there")
ABOUT_OLD = httpx.Response(
    200, json={"name": "pullstatus", "version": "0.1.0", "features": ["idempotency-key"]}
)


def reading(client: Hands, service: Service, **options: Any) -> Hands:  # noqa: ANN401 - the client's own
    """The client as a reader of this service."""
    client.about = [ABOUT]
    client.service = service
    return client.over(reader="billing", **options)


def numbers(found: Any) -> list[int]:  # noqa: ANN401 - a batch or a page
    return [int(record.sid.removeprefix("8:")) for record in found]


def acks(client: Hands) -> list[str | None]:
    """What each pull acknowledges, by the number of the page's first record."""
    found = [request.headers.get("Pullstatus-Ack") for request in client.requests]
    return [None if ack is None else ack.rpartition("-")[2] for ack in found]


# --- when the service is told ---------------------------------------------------------------------


def test_a_page_is_acknowledged_by_the_next_pull(client: Hands) -> None:
    service = Service(5)
    reading(client, service)
    following = client.batches(max=2, follow=False)
    for expected in ([1, 2], [3, 4], [5]):
        batch = following.one()
        assert numbers(batch) == expected
        assert batch.pull_id == f"{SDKAPPID}-0-{expected[0]}"
        assert service.acknowledged == list(range(1, expected[0]))
        with batch:
            assert service.acknowledged == list(
                range(1, expected[0])
            )  # never before its block ends
        assert service.acknowledged == list(range(1, expected[0]))
    assert following.next() is None
    assert service.acknowledged == [1, 2, 3, 4, 5]
    assert acks(client) == [None, "1", "3", "5"]
    assert not client.pull()
    client.shut()  # the service knows of all, and is told once
    assert acks(client) == [None, "1", "3", "5", None]
    for request in client.requests:
        assert request.headers["Pullstatus-Reader"] == "billing"
        assert "Idempotency-Key" not in request.headers


def test_close_acknowledges_what_the_application_has_and_takes_nothing(client: Hands) -> None:
    service = Service(5)
    reading(client, service)
    with client.batches(max=2).one():
        pass
    client.batches(Kind.REPLY, max=2).one().ack()
    assert service.acknowledged == []
    client.shut()
    assert service.acknowledged == [1, 2, 1, 2]
    assert not service.in_hand
    assert [request.headers.get("Pullstatus-Take") for request in client.requests] == [
        None,
        None,
        "0",
        "0",
    ]
    client.shut()  # once more does no harm
    assert len(client.requests) == 4


def test_close_acknowledges_nothing_that_is_open_or_failed(client: Hands) -> None:
    service = Service(5)
    reading(client, service)
    with pytest.raises(ZeroDivisionError), client.batches(max=2).one():
        _ = 1 / 0
    _open = client.batches(Kind.REPLY, max=2).one()
    client.shut()
    assert len(client.requests) == 2
    assert sorted(service.in_hand.values()) == [[1, 2], [1, 2]]


def test_close_tries_twice_and_then_says_that_the_page_comes_again(
    client: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(2)
    reading(client, service)
    client.batches().one().ack()
    client.also(READ_TIMEOUT)
    client.shut()
    assert service.acknowledged == [1, 2]
    reading(client, service)
    service.feed(1)
    client.batches().one().ack()
    client.also(READ_TIMEOUT, READ_TIMEOUT)
    with caplog.at_level(logging.WARNING, "pullstatus"):
        client.shut()
    assert "1400006666-0-3 was done with, and will come again" in caplog.text
    assert "8:3" not in caplog.text


def test_the_next_process_gets_what_was_in_hand(client: Hands) -> None:
    service = Service(5)
    reading(client, service)
    first = client.batches(max=2)
    first.one().ack()
    assert numbers(first.one()) == [3, 4]  # and now it is killed
    reading(client, service)
    batch = client.batches(max=1).one()
    assert numbers(batch) == [3, 4]
    assert (batch.attempt, batch.page.given) == (1, 2)


@pytest.mark.parametrize("kind", Kind)
def test_a_failed_batch_comes_again_and_is_not_acknowledged(client: Hands, kind: Kind) -> None:
    service = Service(3)
    reading(client, service)
    following = client.batches(kind, max=2)
    with pytest.raises(ZeroDivisionError), following.one():
        _ = 1 / 0
    again = following.one()
    assert again.attempt == 2
    assert len(again) == 2
    with again:
        pass
    assert len(following.one()) == 1
    assert service.acknowledged == [1, 2]


def test_an_old_batch_acknowledges_no_other_page(client: Hands) -> None:
    service = Service(4)
    reading(client, service)
    following = client.batches(max=2)
    first = following.one()
    first.ack()
    second = following.one()
    first.ack()
    client.shut()
    assert service.acknowledged == [1, 2]
    assert list(service.in_hand.values()) == [numbers(second)]


def test_by_hand_a_page_comes_until_it_is_acknowledged_by_name(client: Hands) -> None:
    service = Service(3)
    reading(client, service)
    first = client.pull(max=2)
    assert (numbers(first), first.key, first.given) == ([1, 2], "", 1)
    again = client.pull(max=2)
    assert (numbers(again), again.given) == ([1, 2], 2)
    assert repr(again) == f"<Page of 2 delivery-statuses, pull {SDKAPPID}-0-1>"
    second = client.pull(max=2, ack=again.pull_id)
    assert numbers(second) == [3]
    assert not client.pull(max=2, ack=second.pull_id)
    assert service.acknowledged == [1, 2, 3]


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [READ_TIMEOUT, REFUSED, refusal(1007), refusal(60008)], ids=str)
def test_whatever_is_lost_is_asked_for_again(client: Hands, failure: Any) -> None:  # noqa: ANN401
    service = Service(4)
    reading(client, service, attempts_max=2)

    def done_and_lost(request: httpx.Request) -> httpx.Response:
        service(request)
        raise READ_TIMEOUT

    client.also(done_and_lost)
    following = client.batches(max=2, follow=False)
    first = following.one()
    assert numbers(first) == [1, 2]
    first.ack()
    client.also(failure)
    second = following.one()
    assert numbers(second) == [3, 4]
    second.ack()
    client.also(done_and_lost)
    assert following.next() is None
    assert service.acknowledged == [1, 2, 3, 4]


def test_a_failure_says_that_nothing_is_lost(client: Hands) -> None:
    reading(client, Service(2), attempts_max=1)
    client.also(READ_TIMEOUT)
    with pytest.raises(AnswerLost, match="the next pull of this reader, in any process") as caught:
        client.pull()
    assert caught.value.may_have_consumed
    assert caught.value.key is None
    client.also(REFUSED)
    with pytest.raises(NotConnected) as unsent:
        client.pull()
    assert unsent.value.may_have_consumed  # the pull before
    assert numbers(client.pull()) == [1, 2]


def test_a_doubt_ends_with_the_next_answer(client: Hands) -> None:
    """Behind an empty page, and behind one with records, nothing of it is left."""
    service = Service()
    reading(client, service, attempts_max=1)
    for count in (0, 1):
        service.feed(count)
        client.also(READ_TIMEOUT)
        with pytest.raises(AnswerLost):
            client.pull(max=2)
        found = client.pull(max=2)
        assert (len(found), found.in_doubt) == (count, False)
        client.also(REFUSED)
        with pytest.raises(NotConnected) as caught:
            client.pull(max=2, ack=found.pull_id)
        assert not caught.value.may_have_consumed


def test_a_new_size_counts_whatever_is_in_doubt(client: Hands) -> None:
    """The page in hand comes as it is, whatever the size, so nothing is to be kept for it."""
    service = Service(9)
    reading(client, service, attempts_max=1)
    client.also(READ_TIMEOUT)
    with pytest.raises(AnswerLost):
        client.pull(max=2)
    first = client.pull(max=3)
    assert numbers(first) == [1, 2, 3]
    client.also(READ_TIMEOUT)
    with pytest.raises(AnswerLost):
        client.pull(max=3)
    again = client.pull(max=4)
    assert numbers(again) == [1, 2, 3]
    assert numbers(client.pull(max=4, ack=again.pull_id)) == [4, 5, 6, 7]
    assert [body["max"] for body in client.bodies] == [2, 3, 3, 4, 4]


def test_an_acknowledgement_that_is_refused_is_dropped_and_logged(
    client: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(4)
    reading(client, service)
    following = client.batches(max=2)
    with following.one():
        service.release(0, "billing")
    with caplog.at_level(logging.WARNING, "pullstatus"):
        batch = following.one()
    assert numbers(batch) == [1, 2]  # the operator has handed it out again
    assert acks(client) == [None, "1", None]
    [line] = caplog.messages
    assert "page 1400006666-0-1, which was done with, is not in hand any more" in line
    batch.ack()
    assert numbers(following.one()) == [3, 4]


def test_a_page_without_a_name_is_not_handed_over(client: Hands) -> None:
    """It could not be acknowledged, and would come again and again."""
    service = Service(2)

    def nameless(request: httpx.Request) -> httpx.Response:
        answer = service(request)
        del answer.headers["Pullstatus-Pull-Id"]
        return answer

    reading(client, service)
    client.also(nameless)
    with pytest.raises(ReaderUnsupported, match="names no page"):
        client.pull()
    assert service.in_hand
    assert numbers(client.pull()) == [1, 2]


def test_a_refused_acknowledgement_is_told_with_the_page_that_comes(client: Hands) -> None:
    """However many attempts that takes, and once."""
    service = Service(4)
    reading(client, service, attempts_max=2)
    first = client.pull(max=2)
    assert first.ack_refused == ""
    service.release(0, "billing")
    client.also(service, READ_TIMEOUT, READ_TIMEOUT)
    with pytest.raises(AnswerLost):
        client.pull(max=2, ack=first.pull_id)
    second = client.pull(max=2)
    assert numbers(second) == [1, 2]
    assert second.ack_refused == "Pullstatus-Ack is not in hand"
    assert client.pull(max=2, ack=second.pull_id).ack_refused == ""


def test_an_acknowledgement_that_was_refused_is_not_sent_again(client: Hands) -> None:
    service = Service(2)
    reading(client, service)
    with client.batches().one():
        service.release(0, "billing")
    assert client.pull()
    client.shut()
    assert acks(client) == [None, "1", None]


def test_an_acknowledgement_that_is_refused_at_the_end_is_logged_as_that(
    client: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(2)
    reading(client, service)
    with client.batches().one():
        service.release(0, "billing")
    with caplog.at_level(logging.WARNING, "pullstatus"):
        client.shut()
    assert acks(client) == [None, "1"]
    [line] = caplog.messages
    assert "page 1400006666-0-1, which was done with, is not in hand any more" in line


def test_a_refusal_that_is_not_about_the_acknowledgement_is_raised(client: Hands) -> None:
    service = Service(4)
    reading(client, service)
    following = client.batches(max=2)
    following.one().ack()
    client.also(refusal(1004, "too many readers"), refusal(1004, "too many readers"))
    with pytest.raises(CallInvalid, match="too many readers"):
        following.next()
    client.also(refusal(1001))
    with pytest.raises(SignatureRefused):
        following.next()


# --- what the service is asked before -------------------------------------------------------------


@pytest.mark.parametrize(
    "said", [ABOUT_OLD, httpx.Response(404), httpx.Response(200, content=b"hello")], ids=str
)
def test_a_service_without_readers_is_not_pulled_from(client: Hands, said: httpx.Response) -> None:
    reading(client, Service(1))
    client.about = [said]
    with pytest.raises(ReaderUnsupported, match="state=PATH") as caught:
        client.batches().next()
    assert not caught.value.may_have_consumed
    assert not client.requests
    client.about = [ABOUT]  # it is renewed, and nobody has to restart for it
    assert numbers(client.pull()) == [1]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (REFUSED, NotConnected),
        (READ_TIMEOUT, AnswerLost),
        (httpx.Response(503), GatewayFailed),
        (httpx.Response(429), TooFrequent),
    ],
    ids=str,
)
def test_a_service_that_cannot_say_is_asked_again(client: Hands, said: Any, error: Any) -> None:  # noqa: ANN401
    reading(client, Service(1), attempts_max=2)
    client.about = [said]
    with pytest.raises(error) as caught:
        client.pull()
    assert not caught.value.may_have_consumed
    assert not client.requests
    client.about = [said, ABOUT]
    assert numbers(client.pull()) == [1]
    looks = len(client.looks)
    client.pull()
    assert len(client.looks) == looks


def test_a_service_that_was_away_is_asked_anew_what_it_can(client: Hands) -> None:
    """Whoever comes up there may be the version before."""
    reading(client, Service(1))
    client.pull()
    client.about = [ABOUT_OLD]
    client.also(REFUSED)
    with pytest.raises(ReaderUnsupported):
        client.pull()


def test_headers_that_get_lost_on_the_way_are_noticed(
    client: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    reading(client, Service())
    client.also(page(1, waiting=0, pull_id=f"{SDKAPPID}-0-1"))
    following = client.batches()
    with caplog.at_level(logging.WARNING, "pullstatus"):
        batch = following.one()  # it was taken for good: it is not thrown away
    assert "drops headers that begin with Pullstatus-" in caplog.text
    assert numbers(batch) == [1]
    batch.ack()
    with pytest.raises(ReaderUnsupported, match="drops headers"):
        following.next()
    client.shut()
    assert len(client.requests) == 1
    reading(client, Service()).also(page(waiting=0))
    with pytest.raises(ReaderUnsupported, match="drops headers") as caught:
        client.pull()
    assert not caught.value.may_have_consumed
    reading(client, Service(), attempts_max=2).also(READ_TIMEOUT, page(waiting=0))
    with pytest.raises(ReaderUnsupported, match="drops headers") as caught:
        client.pull()
    assert caught.value.may_have_consumed  # the attempt before, to whoever answers there


# --- one reader, one page -------------------------------------------------------------------------


def test_a_second_caller_is_refused_while_a_page_is_in_hand(client: Hands) -> None:
    reading(client, Service(4))
    first, second = client.batches(max=2), client.batches(max=2)
    batch = first.one()
    for other in (second.next, client.pull):
        with pytest.raises(InvalidArgument, match="another name"):
            other()
    assert len(client.batches(Kind.REPLY, max=2).one()) == 2  # the kinds are apart
    batch.ack()
    assert numbers(second.one()) == [3, 4]


def test_a_dropped_batch_comes_again(client: Hands) -> None:
    reading(client, Service(4))
    client.batches(max=2).one()
    assert numbers(client.batches(max=2).one()) == [1, 2]
    assert len(client.requests) == 1


def test_a_forked_process_takes_no_page_of_its_parents(client: Hands) -> None:
    service = Service(4)
    reading(client, service)
    client.batches(max=2).one().ack()
    client.forked()
    with pytest.raises(InvalidArgument, match="forked"):
        client.pull()
    with pytest.raises(InvalidArgument, match="forked"):
        client.pull(ack=f"{SDKAPPID}-0-1")
    client.shut()
    assert service.acknowledged == []


FORK_FIRST = """
import os
from pullstatus import Client, InvalidArgument, NotConnected
client = Client("http://127.0.0.1:9", 1, "k", reader="r", attempts_max=1)
child = os.fork()
try:
    client.pull(0)
except NotConnected:
    os._exit(0) if child == 0 else None
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_fork_before_the_first_pull_is_none_of_its_business() -> None:
    done = subprocess.run([sys.executable, "-c", FORK_FIRST], check=False, timeout=60)
    assert done.returncode == 0


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", ["", "a b", "ä", "x" * 65, "a\n", 7, b"a"])
def test_names_that_are_none_are_refused(client: Hands, reader: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidArgument, match="reader must be a name"):
        client.over(reader=reader)


@pytest.mark.parametrize("options", [{"keyed": True}, {"keyed": False}, {"state": "file"}])
def test_what_does_not_go_with_a_reader_is_refused(client: Hands, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="reader"):
        client.over(reader="r", **options)


def test_keys_and_acknowledgements_do_not_mix(client: Hands) -> None:
    reading(client, Service(1))
    with pytest.raises(InvalidArgument, match="without a reader"):
        client.pull(key="k")
    with pytest.raises(InvalidArgument, match="without a reader"):
        client.batches(key="k")
    with pytest.raises(InvalidArgument, match="pull_id"):
        client.pull(ack="a\r\nb")
    client.over()
    with pytest.raises(InvalidArgument, match="reader="):
        client.pull(ack="1400006666-0-1")
    assert not client.requests


# --- any order of anything ------------------------------------------------------------------------


def whole(response: httpx.Response) -> Any:  # noqa: ANN401 - an answer
    return outcome_of(response, response.content)


class World:
    """A service, what is still on its way to it, and processes of one reader that come and go."""

    def __init__(self, chance: Random, count_max: int) -> None:
        self.chance = chance
        self.service = Service()
        self.late: list[Send] = []
        self.count_max = count_max
        self.fed = 0
        self.done: list[int] = []  # by the application, in its order
        self.acknowledged: set[int] = set()  # by the application
        self.calm = False
        self.start()

    def start(self) -> None:
        """A new process."""
        self.puller = ReaderPuller(
            BASE_URL,
            V5(SDKAPPID, APPKEY),
            "r",
            attempts_max=2,
            retry_pause_s=(0.5, 1.0),
            on_retry=None,
            clock=lambda: NOW_S,
            random=Random(1),
        )
        self.follower: Follower[DeliveryStatus] = Follower(
            self.puller,
            Kind.DELIVERY_STATUS,
            self.count_max,
            follow=False,
            wait_s=1,
            long_poll_s=0,
            give_up_after_s=None,
            key=None,
        )

    def run(self, flow: Any) -> Any:  # noqa: ANN401 - any flow
        """Drive a flow over a bad network; None if it failed."""
        outcome: Outcome = None
        try:
            while True:
                step = flow.send(outcome)
                outcome = None if isinstance(step, Wait) else self.answer(step)
        except StopIteration as end:
            return end.value
        except (AnswerLost, NotConnected, CallInvalid):
            return None

    def answer(self, step: Send | Look) -> Outcome:
        what = "through" if self.calm else self.chance.choice(FATES)
        if what == "unsent":
            return Unanswered(begun=False, reason="refused")
        if isinstance(step, Look):
            return Unanswered(begun=True, reason="x") if what == "lost" else whole(ABOUT)
        if what == "held":
            self.late.append(step)
            return Unanswered(begun=True, reason="timeout")
        if what == "twice":
            self.late.append(step)
        answer = self.reach(step)
        assert self.acknowledged_in_order()
        return Unanswered(begun=True, reason="cut") if what == "lost" else answer

    def reach(self, step: Send) -> Any:  # noqa: ANN401 - an answer
        request = httpx.Request("POST", step.address, content=step.content, headers=step.headers)
        return whole(self.service(request))

    def acknowledged_in_order(self) -> bool:
        """Nothing is acknowledged that the application has not acknowledged, nothing twice."""
        told = self.service.acknowledged
        return set(told) <= self.acknowledged and told == list(range(1, len(told) + 1))

    def act(self) -> None:
        """Something happens."""
        what = self.chance.randrange(10)
        if what == 0:
            count = self.chance.randrange(4)
            self.service.feed(count)
            self.fed += count
        elif what == 1:
            self.start()  # killed
        elif what == 2:
            self.run(self.puller.close())
            self.start()
        elif what == 3 and self.late:
            self.reach(self.late.pop(self.chance.randrange(len(self.late))))
            assert self.acknowledged_in_order()
        else:
            self.take()

    def take(self) -> bool:
        batch: Batch[Record] | None = self.run(self.follower.next())
        if batch is None:
            return False
        if not self.calm and self.chance.random() < 0.3:
            fails = self.chance.random() < 0.5
            if fails:
                batch.__exit__(ValueError, ValueError(), None)
            else:
                self.start()  # killed in the middle
            return True
        with batch:
            self.acknowledged.update(numbers(batch))
            self.done += numbers(batch)
        return True


FATES = ("through", "through", "through", "unsent", "lost", "held", "twice")


@settings(max_examples=200)
@given(st.randoms(use_true_random=False), st.integers(1, 5), st.integers(1, 60))
def test_every_record_is_done_whatever_happens(chance: Random, count_max: int, steps: int) -> None:
    """Late, lost and doubled requests, kills, failures: nothing is missing, nothing in disorder."""
    world = World(chance, count_max)
    for _ in range(steps):
        world.act()
    world.calm = True
    for late in world.late:
        world.reach(late)
    world.start()
    while world.take():
        pass
    world.run(world.puller.close())
    assert world.service.acknowledged == list(range(1, world.fed + 1))
    assert not world.service.in_hand
    # What is done again is done page by page, never with another begun in between.
    furthest = 0
    for number in world.done:
        assert number <= furthest + 1
        furthest = max(furthest, number)
    assert furthest == world.fed


def test_acknowledging_before_the_application_does_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tests are tested: a client that acknowledges what it has just been given."""
    attempt = ReaderPuller._attempt

    def too_early(puller: ReaderPuller, claim: Any, long_poll_s: int) -> Any:  # noqa: ANN401
        found = yield from attempt(puller, claim, long_poll_s)
        if found and found.pull_id:
            puller.claims.acks[claim.kind] = found.pull_id
        return found

    monkeypatch.setattr(ReaderPuller, "_attempt", too_early)
    with pytest.raises(AssertionError):
        live_a_hundred_times()


def live_a_hundred_times() -> None:
    for seed in range(100):
        world = World(Random(seed), 2)
        for _ in range(60):
            world.act()
        world.run(world.puller.close())
