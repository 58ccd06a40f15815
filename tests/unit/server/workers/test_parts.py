"""Bounds of a server hold over all its workers: a stranger gets no part twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from types import SimpleNamespace
from typing import cast

import pytest

from pullstatus import limits
from pullstatus.apps.rate import RateLimiter
from pullstatus.apps.tries import Failed
from pullstatus.apps.values import Purpose
from pullstatus.server.budget import Over
from pullstatus.server.crowd import Full, Seat
from pullstatus.server.workers.ledger import Ledger, make_ledger
from pullstatus.server.workers.parts import SharedParts
from pullstatus.store import Store
from tests.store.build import STATUSES

WORKERS = 2


async def _failed(_what: str, _sdkappid: int | None, _address: str) -> Failed:
    return Failed(late=False, of_address=0, at_application=0)


@pytest.fixture
def parts() -> Iterator[list[SharedParts]]:
    descriptor = make_ledger(WORKERS)
    yield [
        SharedParts(Ledger(descriptor, row, WORKERS, b"secret"), WORKERS, _failed, in_line=True)
        for row in range(WORKERS)
    ]
    os.close(descriptor)


def test_connections_in_all_and_of_one_address(parts: list[SharedParts]) -> None:
    one, other = (
        part.crowd(8, reserve=1, speaks_for_many=lambda address: address == "192.0.2.9")
        for part in parts
    )
    first = one.enter("192.0.2.1")
    assert first is not None
    second = other.enter("192.0.2.1")
    assert second is not None
    beyond = one.enter("192.0.2.1")
    assert beyond is not None
    assert beyond.reserved
    assert other.enter("192.0.2.1").reserved  # type: ignore[union-attr]
    assert one.refused[Full.ADDRESS] == other.refused[Full.ADDRESS] == 1
    first.leave()
    again = other.enter("192.0.2.1")
    assert again is not None
    assert not again.reserved
    seats = [one.enter("192.0.2.9") for _ in range(6)]
    assert all(isinstance(seat, Seat) and not seat.reserved for seat in seats)
    assert other.enter("192.0.2.9") is None
    assert other.refused[Full.TOTAL] == 1


def test_bytes_in_hand_in_all_and_of_one_owner(parts: list[SharedParts]) -> None:
    one, other = (part.budget() for part in parts)
    most = limits.IN_HAND_BYTES_MAX
    share = most // limits.SHARE_OF_ONE
    one.take(share // 2 + 1, 7)
    assert other.full(7) is None
    assert other.lets_wait(8)
    assert not other.lets_wait(7)
    other.take(share // 2, "192.0.2.1")
    other.share(7, share // 2)
    assert one.full(7) is other.full(7) is Over.APPLICATION
    assert one.full(8) is one.full("192.0.2.1") is None
    one.take(most, 9)
    assert other.over(8) is Over.TOTAL
    one.take(-most, 9)
    other.share(7, -share // 2)
    assert one.full(7) is other.over(8) is None
    assert other.refused[Over.TOTAL] == 1


def test_pulls_a_second_are_those_of_all(parts: list[SharedParts]) -> None:
    """As many as one process would let through, whoever is asked."""
    now = [100.0]
    rates = [part.rates(lambda: now[0]) for part in parts]
    alone = RateLimiter(lambda: now[0])
    for turn, pause_s in enumerate(
        [0.0] * 12 + [0.05, 0.1, 0.25, 0.0, 0.35] * 4 + [5.0] + [0] * 12
    ):
        now[0] += pause_s
        admitted = alone.admit(7, Purpose.PULL, 10)
        assert rates[turn % 2].admit(7, Purpose.PULL, 10) == admitted, turn
    assert rates[0].admit(8, Purpose.PULL, 1)
    assert not rates[1].admit(8, Purpose.PULL, 1)
    assert rates[1].admit(8, Purpose.QUERY, 1), "each purpose has its own"
    now[0] += 1.0
    assert rates[1].admit(8, Purpose.PULL, 1)


def test_signatures_that_came_to_another(parts: list[SharedParts]) -> None:
    one, other = (part.figures().replays for part in parts)
    signatures = [sha256(bytes([n])).hexdigest() for n in range(100)]
    for signature in signatures:
        one.note(7, signature)
    for signature in signatures:
        other.note(7, signature)
    assert one.total == 0
    assert other.total == 100
    assert other.take() == {7: 100}


@pytest.mark.anyio
async def test_pulls_that_are_held(
    parts: list[SharedParts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PULLS_HELD_MAX", 3)
    store = cast("Store", SimpleNamespace(watch=lambda *_: lambda *_: None))
    one, other = (part.held(store) for part in parts)
    first, second = one.enter(STATUSES), one.enter(STATUSES)
    third, fourth = other.enter(STATUSES), other.enter(STATUSES)
    assert (one.count, other.count) == (2, 1)
    for place in (first, second, third, fourth):
        place.__exit__(None, None, None)
    fifth = other.enter(STATUSES)
    assert (one.count, other.count) == (0, 1)
    fifth.__exit__(None, None, None)


def test_what_is_divided_is_no_more_in_sum(parts: list[SharedParts]) -> None:
    assert sum(part.reserve for part in parts) <= limits.CONNECTIONS_RESERVED
    for part in parts:
        shed = part.shed()
        shed.count = limits.SHED_HELD_MAX // WORKERS
        assert not shed.free
