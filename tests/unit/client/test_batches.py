"""Following a mailbox: batches, acknowledgement, pauses."""

from __future__ import annotations

import httpx
import pytest

from pullstatus import AnswerLost, Kind, NotAcknowledged, Reply
from tests.unit.client.conftest import Hands, page, refusal


def test_drain_ends_when_the_service_says_nothing_waits(client: Hands) -> None:
    """`Pullstatus-Waiting: 0` is the end; no empty pull is needed to see it."""
    client.over(page(1, 2, waiting=1), page(3, waiting=0))
    assert list(client.batches(follow=False, max=2).drain()) == [["8:1", "8:2"], ["8:3"]]
    assert len(set(client.keys)) == 2
    assert not client.pauses


def test_drain_of_another_service_ends_with_an_empty_page(client: Hands) -> None:
    client.over(page(1, 2), page(3), page())
    assert list(client.batches(follow=False, max=2).drain()) == [["8:1", "8:2"], ["8:3"]]


def test_drain_of_an_empty_mailbox_is_empty(client: Hands) -> None:
    client.over(page())
    assert list(client.batches(follow=False).drain()) == []


def test_replies_come_from_the_other_mailbox(client: Hands) -> None:
    client.over(page(data=[{"text": "TD", "time": 1}], count=1, waiting=0))
    batch = client.batches(Kind.REPLY, follow=False).one()
    assert [record.text for record in batch if isinstance(record, Reply)] == ["TD"]
    assert client.bodies[0]["type"] == 1


def test_follow_waits_longer_and_longer_and_is_quick_again_after_a_page(client: Hands) -> None:
    client.over(*[page(waiting=0)] * 7, page(1, waiting=0), page(2, waiting=0))
    following = client.batches()
    following.one().ack()
    due = [min(0.5 * 2**n, 10.0) for n in range(7)]
    assert all(d / 2 <= s <= d for s, d in zip(client.pauses, due, strict=True))
    following.one().ack()
    assert client.pauses[7] <= 0.5


def test_follow_does_not_wait_while_there_is_more(client: Hands) -> None:
    client.over(page(1, waiting=2), page(2, waiting=1), page(3, waiting=0))
    following = client.batches(max=1)
    for _ in range(3):
        following.one().ack()
    assert not client.pauses


def test_next_page_is_not_asked_for_before_the_last_is_acknowledged(client: Hands) -> None:
    client.over(page(1, waiting=1))
    following = client.batches()
    batch = following.one()
    assert not batch.acknowledged
    with pytest.raises(NotAcknowledged, match=r"ack\(\)"):
        following.next()
    assert len(client.requests) == 1
    client.also(page(2, waiting=0))
    batch.ack()
    assert following.one().page.records[0].json != batch.page.records[0].json


def test_block_that_ends_well_acknowledges(client: Hands) -> None:
    client.over(page(1, waiting=0))
    with client.batches().one() as batch:
        assert not batch.acknowledged
    assert batch.acknowledged


def test_block_that_raises_gets_the_same_batch_again(client: Hands) -> None:
    """From memory, after a pause: the service is not asked, and nothing is skipped."""
    client.over(page(1, waiting=1), page(2, waiting=0))
    following = client.batches()
    attempts = []
    for failing in (True, True, False):
        batch = following.one()
        attempts.append(batch.attempt)
        try:
            with batch:
                assert [record.json for record in batch] == [record.json for record in batch]
                if failing:
                    raise OSError("disk full")
        except OSError:
            assert batch.failed
    assert attempts == [1, 2, 3]
    assert len(client.requests) == 1
    assert len(client.pauses) == 2
    assert client.pauses[0] < client.pauses[1]
    assert following.one().attempt == 1
    assert len(client.requests) == 2


def test_block_that_raises_after_ack_is_acknowledged(client: Hands) -> None:
    client.over(page(1, waiting=0))
    batch = client.batches().one()

    def work() -> None:
        with batch:
            batch.ack()
            raise OSError("later")

    with pytest.raises(OSError, match="later"):
        work()
    assert batch.acknowledged


def test_following_survives_an_exception_with_its_key(client: Hands) -> None:
    """Asked again, the iterator asks for the page that may be on its way."""
    lost = [httpx.ReadTimeout("late")] * 2
    client.over(*lost, keyed=True, attempts_max=2)
    following = client.batches(follow=False)
    with pytest.raises(AnswerLost) as caught:
        following.next()
    client.also(page(1, waiting=1), page(2, waiting=0))
    assert list(following.drain()) == [["8:1"], ["8:2"]]
    assert client.keys[:3] == [caught.value.key] * 3
    assert client.keys[3] != caught.value.key


def test_following_starts_with_the_callers_key(client: Hands) -> None:
    client.over(page(1, waiting=1), page(2, waiting=0))
    list(client.batches(follow=False, key="from-a-file").drain())
    assert client.keys[0] == "from-a-file"
    assert client.keys[1] != "from-a-file"


def test_refusal_ends_a_loop(client: Hands) -> None:
    client.over(refusal(1020))
    with pytest.raises(Exception, match="1020"):
        client.batches().next()


def test_batch_says_what_it_is(client: Hands) -> None:
    client.over(page(1, 2, waiting=0))
    batch = client.batches().one()
    assert len(batch) == 2
    assert batch.records == batch.page.records
    assert "2 delivery-statuses, open" in repr(batch)
