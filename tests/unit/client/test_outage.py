"""A service that is away: how long it is waited for, and who is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from pullstatus import (
    AnswerMalformed,
    AsyncClient,
    Client,
    ClientError,
    InvalidArgument,
    NotConnected,
    TooFrequent,
)
from tests.unit.client.conftest import APPKEY, BASE_URL, NOW_S, SDKAPPID, Hands, page, refusal

Said = httpx.Response | Exception

UNSENT = httpx.ConnectError("refused")
LOST = httpx.ReadTimeout("late")
AWAY: list[Said] = [UNSENT, LOST, httpx.Response(502), refusal(1007), refusal(60007)]
MALFORMED = httpx.Response(200, content=b"<html>")


# --- how long -------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", AWAY, ids=repr)
def test_follower_waits_for_a_service_without_end(client: Hands, failure: Said) -> None:
    client.over(*[failure] * 500, page(1, waiting=0), keyed=True)
    batch = client.batches().one()
    assert len(client.requests) == 501
    assert set(client.keys) == {batch.page.key}
    assert sum(client.pauses) > 500 * 10


@pytest.mark.parametrize("failure", AWAY, ids=repr)
def test_who_does_not_follow_gives_up(client: Hands, failure: Said) -> None:
    client.over(*[failure] * 10, keyed=True, attempts_max=5)
    for call in (client.pull, client.batches(follow=False).next):
        with pytest.raises(ClientError):
            call()
    assert len(client.pauses) == 8


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("give_up_after_s", [0, 0.2, 7, 3600])
def test_it_is_waited_for_as_long_as_was_said(
    client: Hands, give_up_after_s: float, follow: bool
) -> None:
    """By the pauses alone: the clock of this test stands still."""
    client.over(*[UNSENT] * 400, keyed=True, attempts_max=2)
    following = client.batches(follow=follow, give_up_after_s=give_up_after_s)
    with pytest.raises(NotConnected):
        following.next()
    assert sum(client.pauses) == pytest.approx(give_up_after_s)
    client._script.clear()


def test_what_the_attempts_themselves_take_counts(client: Hands) -> None:
    now_s = NOW_S

    def slow(_request: httpx.Request) -> httpx.Response:
        nonlocal now_s
        now_s += 30
        raise LOST

    client.over(*[slow] * 4, keyed=True, clock=lambda: now_s)
    with pytest.raises(ClientError):
        client.batches(give_up_after_s=80).next()
    assert len(client.pauses) == 3


def test_a_clock_that_is_set_back_makes_no_end(client: Hands) -> None:
    now_s = NOW_S

    def clock() -> float:
        nonlocal now_s
        now_s -= 1000
        return now_s

    client.over(*[UNSENT] * 400, clock=clock, keyed=True)
    with pytest.raises(NotConnected):
        client.batches(give_up_after_s=60).next()
    assert sum(client.pauses) == pytest.approx(60)
    client._script.clear()


def test_each_outage_has_its_own_time(client: Hands) -> None:
    once = [UNSENT] * 3
    client.over(*once, page(1, waiting=1), *once, page(2, waiting=1), *once, page(3, waiting=0))
    following = client.batches(give_up_after_s=5)
    for _ in range(3):
        following.one().ack()
    assert sum(client.pauses) > 5


def test_answer_that_cannot_be_read_is_no_absence(client: Hands) -> None:
    """Somebody has to look at it; what a key brings is there for 24 hours."""
    client.over(*[MALFORMED] * 3, keyed=True, attempts_max=3)
    with pytest.raises(AnswerMalformed):
        client.batches().next()


@pytest.mark.parametrize("code", [1001, 1009, 1019, 1020, 1021, 1033, 60012])
def test_refusal_is_not_waited_out(client: Hands, code: int) -> None:
    client.over(refusal(code), keyed=True)
    with pytest.raises(ClientError, match=str(code)):
        client.batches().next()
    assert not client.pauses


def test_what_another_service_may_have_taken_is_raised_at_once(client: Hands) -> None:
    client.over(page(1), LOST)
    following = client.batches()
    following.one().ack()
    with pytest.raises(ClientError) as caught:
        following.next()
    assert caught.value.may_have_consumed


# --- pauses ---------------------------------------------------------------------------------------


def test_pauses_of_an_outage_are_as_was_said(client: Hands) -> None:
    client.over(*[UNSENT] * 9, page(1, waiting=0), retry_pause_s=(0.1, 2))
    client.batches().one()
    due = [min(0.1 * 2**n, 2) for n in range(9)]
    assert all(d / 2 <= s <= d for s, d in zip(client.pauses, due, strict=True))


@pytest.mark.parametrize(("wait_s", "first_s"), [(1, 0.5), (0.2, 0.2), (3600, 0.5)])
def test_pauses_of_an_empty_mailbox_are_as_was_said(
    client: Hands, wait_s: float, first_s: float
) -> None:
    client.over(*[page(waiting=0)] * 14, page(1, waiting=0))
    client.batches(wait_s=wait_s).one()
    due = [min(first_s * 2**n, wait_s) for n in range(14)]
    assert all(d / 2 <= s <= d for s, d in zip(client.pauses, due, strict=True))


@pytest.mark.parametrize("number", [0, -1, 3601, float("nan"), float("inf"), "1", None, True])
def test_pauses_that_are_none_are_refused(client: Hands, number: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidArgument, match=r"wait_s must be a number of seconds, 0.01 to 3600"):
        client.batches(wait_s=number)
    for colour in (Client, AsyncClient):
        for pauses in ((number, 30), (0.5, number)):
            with pytest.raises(InvalidArgument, match="retry_pause_s"):
                colour(BASE_URL, SDKAPPID, APPKEY, retry_pause_s=pauses)


@pytest.mark.parametrize("pauses", [None, 5, (1,), (1, 2, 3), (2, 1), "12"])
def test_pauses_that_are_no_pair_are_refused(pauses: Any) -> None:  # noqa: ANN401
    for colour in (Client, AsyncClient):
        with pytest.raises(InvalidArgument, match="retry_pause_s"):
            colour(BASE_URL, SDKAPPID, APPKEY, retry_pause_s=pauses)


@pytest.mark.parametrize("number", [-1, float("nan"), "1", False])
def test_end_that_is_none_is_refused(client: Hands, number: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidArgument, match="give_up_after_s must be a number of seconds, 0 or"):
        client.batches(give_up_after_s=number)


# --- who is told ----------------------------------------------------------------------------------


def test_an_outage_is_two_lines_of_log(client: Hands, caplog: pytest.LogCaptureFixture) -> None:
    client.over(*[UNSENT] * 50, LOST, page(1, waiting=0), page(2, waiting=0), keyed=True)
    following = client.batches()
    following.one().ack()
    following.one().ack()
    begins, ends = [record for record in caplog.records if record.name == "pullstatus"]
    assert begins.levelno == ends.levelno == logging.WARNING
    mailbox = f"delivery-statuses of {SDKAPPID} at {BASE_URL}: "
    assert begins.getMessage() == f"{mailbox}no connection: refused; trying again"
    assert ends.getMessage().startswith(f"{mailbox}answered again, at attempt 52, after ")
    assert APPKEY not in caplog.text


def test_no_outage_is_no_line(client: Hands, caplog: pytest.LogCaptureFixture) -> None:
    client.over(page(waiting=0), page(1, waiting=0), refusal(1020))
    following = client.batches()
    following.one().ack()
    with pytest.raises(ClientError):
        following.next()
    assert not [record for record in caplog.records if record.name == "pullstatus"]


def test_hook_hears_of_each_failure(client: Hands) -> None:
    heard: list[tuple[type[ClientError], int, float]] = []

    def hook(error: ClientError, attempt: int, pause_s: float) -> None:
        heard.append((type(error), attempt, pause_s))

    client.over(UNSENT, refusal(60007), UNSENT, page(1), on_retry=hook)
    client.pull()
    assert [what for what, _, _ in heard] == [NotConnected, TooFrequent, NotConnected]
    assert [attempt for _, attempt, _ in heard] == [1, 2, 3]
    assert [pause_s for _, _, pause_s in heard] == client.pauses
    client.over(UNSENT, on_retry=hook, attempts_max=1)
    with pytest.raises(NotConnected):
        client.pull()
    assert len(heard) == 3, "the last failure is raised, not told"


def test_hook_can_end_it_without_a_loss(client: Hands) -> None:
    """What it raises leaves as it is, and the page is the next pull's."""

    def hook(_error: ClientError, attempt: int, _pause_s: float) -> None:
        if attempt == 3:
            raise RuntimeError("enough")

    client.over(LOST, LOST, LOST, page(1, waiting=0), keyed=True, on_retry=hook)
    following = client.batches()
    with pytest.raises(RuntimeError, match="enough"):
        following.next()
    assert following.one().page.key == client.keys[0]
    assert len(set(client.keys)) == 1


def test_hook_that_is_none_is_refused() -> None:
    for colour in (Client, AsyncClient):
        with pytest.raises(InvalidArgument, match="on_retry must be a function"):
            colour(BASE_URL, SDKAPPID, APPKEY, on_retry="log")  # type: ignore[arg-type]


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_client_that_is_closed_in_a_pause_is_no_outage(
    tmp_path: Path, *, kept: bool, there: bool
) -> None:
    """By another thread, while a follower waits: it ends, instead of trying for ever.

    Nor does it write to a state file that it has let go of.
    """
    state = tmp_path / "state" if kept else None
    pauses: list[float] = []

    def close(s: float) -> None:
        pauses.append(s)
        client.close()
        assert len(pauses) == 1

    def answer(_request: httpx.Request) -> httpx.Response:
        if not there:
            raise httpx.ConnectError("nobody is there")
        return page(waiting=0)

    transport = httpx.MockTransport(answer)
    client = Client(
        BASE_URL, SDKAPPID, APPKEY, state=state, keyed=True, transport=transport, sleep=close
    )
    with pytest.raises(InvalidArgument, match="the client is closed"):
        next(client.delivery_statuses())
