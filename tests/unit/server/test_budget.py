"""What is in hand: in all, and whose it is."""

from __future__ import annotations

import pytest

from pullstatus import limits
from pullstatus.server.budget import Budget, Over, Share

ADDRESS, OTHER, APPLICATION = "192.0.2.7", "192.0.2.8", 1400006666


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IN_HAND_BYTES_MAX", 100)


def test_no_more_is_taken_on_than_there_is_room_for() -> None:
    budget = Budget()
    budget.take(100)
    assert budget.over(None) is None
    budget.take(1)
    assert budget.over(None) is Over.TOTAL
    assert budget.over(APPLICATION) is Over.TOTAL
    budget.take(-1)
    assert budget.over(None) is None
    assert budget.refused == {Over.TOTAL: 2, Over.ADDRESS: 0, Over.APPLICATION: 0}


@pytest.mark.parametrize(
    ("owner", "over"), [(ADDRESS, Over.ADDRESS), (APPLICATION, Over.APPLICATION)]
)
def test_one_has_a_quarter(owner: str | int, over: Over) -> None:
    budget = Budget()
    budget.take(25, owner)
    assert budget.over(owner) is None
    budget.take(1, owner)
    assert budget.over(owner) is over
    assert budget.over(OTHER) is None
    budget.take(-26, owner)
    assert budget.over(owner) is None
    assert budget.bytes == 0


@pytest.mark.parametrize(
    ("owner", "over"), [(ADDRESS, Over.ADDRESS), (APPLICATION, Over.APPLICATION)]
)
def test_bytes_bound_how_many_requests_one_has_in_hand(
    monkeypatch: pytest.MonkeyPatch, owner: str | int, over: Over
) -> None:
    """However small they are: each counts as `REQUEST_BYTES` at least. As the limits say it."""
    monkeypatch.undo()
    budget = Budget()
    taken = 0
    while budget.over(owner) is None:
        budget.take(limits.REQUEST_BYTES, owner)
        taken += 1
    assert taken == 8192 + 1  # the last is what is refused
    assert budget.refused[over] == 1


@pytest.mark.parametrize("owner", [ADDRESS, APPLICATION])
def test_what_waits_leaves_half_of_a_quarter(owner: str | int) -> None:
    budget = Budget()
    budget.share(owner, 12)
    assert budget.lets_wait(owner)
    budget.share(owner, 1)
    assert not budget.lets_wait(owner)
    assert budget.lets_wait(OTHER)


def test_what_is_shared_is_counted_once_in_all() -> None:
    budget = Budget()
    budget.take(30, ADDRESS)
    budget.share(APPLICATION, 30)
    assert budget.bytes == 30
    assert budget.over(APPLICATION) is Over.APPLICATION
    budget.share(APPLICATION, -30)
    assert budget.over(APPLICATION) is None
    assert budget.over(ADDRESS) is Over.ADDRESS


def test_a_share_is_given_back_once_with_all_that_was_added() -> None:
    budget = Budget()
    budget.take(90)
    with Share(budget, APPLICATION, 10) as share:
        share.add(20)
        assert budget.over(share.owner) is Over.APPLICATION
        share.add(-7)
        assert budget.of == {APPLICATION: 23}
    share.add(50)
    assert (budget.of, budget.bytes) == ({}, 90)


def test_nothing_is_remembered_of_who_has_nothing_in_hand() -> None:
    budget = Budget()
    for number in range(1000):
        budget.take(10, number)
        budget.take(-10, number)
        budget.share(number, 0)
    assert not budget.of
