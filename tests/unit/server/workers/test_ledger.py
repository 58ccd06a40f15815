"""Counts that several processes keep together: sums that hold, whoever counts, whoever dies."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator

import pytest

from pullstatus.server.workers.ledger import HELD, IN_HAND, Ledger, make_ledger

WORKERS = 3
Made = Callable[[int], Ledger]


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = make_ledger(WORKERS)
    yield made
    os.close(made)


@pytest.fixture
def ledgers(descriptor: int) -> list[Ledger]:
    return [Ledger(descriptor, row, WORKERS, b"secret") for row in range(WORKERS)]


def test_each_counts_for_itself_and_sees_the_sum(ledgers: list[Ledger]) -> None:
    for number, ledger in enumerate(ledgers, 1):
        ledger.add(IN_HAND, 10 * number)
        ledger.add(IN_HAND, -number)
        ledger.set(HELD, number)
    for ledger in ledgers:
        assert ledger.total(IN_HAND) == 54
        assert ledger.total(HELD) == 6
    ledgers[0].clear(2)
    assert ledgers[1].total(IN_HAND) == 27


def test_addresses_and_owners_have_the_same_places_for_all(ledgers: list[Ledger]) -> None:
    places = {ledger.address("192.0.2.1") for ledger in ledgers}
    assert len(places) == 1
    assert places != {ledgers[0].owner("192.0.2.1")}
    assert len({ledgers[0].address(f"2001:db8:0:{n:x}::/64") for n in range(1000)}) > 950
    other = Ledger(ledgers[0]._descriptor, 0, WORKERS, b"another")
    assert {other.address(f"192.0.2.{n}") for n in range(9)} != {
        ledgers[0].address(f"192.0.2.{n}") for n in range(9)
    }


def test_a_word_is_known_once_anybody_has_met_it(ledgers: list[Ledger]) -> None:
    one, other, _ = ledgers
    assert [one.known(77), other.known(77), one.known(78), one.known(77)] == [
        False,
        True,
        False,
        True,
    ]


def _count(descriptor: int, row: int, rounds: int) -> None:
    ledger = Ledger(descriptor, row, WORKERS, b"secret")
    for _ in range(rounds):
        with ledger.times(7) as times:
            times.set(7, times.get(7) + 1)


def test_no_change_of_a_time_is_lost_between_processes(
    descriptor: int, ledgers: list[Ledger]
) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [
        fork.Process(target=_count, args=(descriptor, row, 3000)) for row in range(WORKERS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with ledgers[0].times(7) as times:
        assert times.get(7) == 9000


def _die_with_the_lock(descriptor: int) -> None:
    with Ledger(descriptor, 1, WORKERS, b"secret").times(7):
        os._exit(9)


def test_who_dies_with_a_lock_holds_up_nobody(descriptor: int, ledgers: list[Ledger]) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_die_with_the_lock, args=(descriptor,)
    )
    process.start()
    process.join()
    assert ledgers[0]._lock(0)


def test_times_of_one_group_are_kept_apart(ledgers: list[Ledger]) -> None:
    """Four have room; a fifth takes the place of that whose time is over first."""
    keys = [7 + 4096 * n for n in range(5)]
    for time, key in enumerate(keys[:4], 10):
        with ledgers[0].times(key) as times:
            times.set(key, time)
    with ledgers[1].times(keys[4]) as times:
        assert times.get(keys[4]) == 0
        times.set(keys[4], 20)
        assert [times.get(key) for key in keys] == [0, 11, 12, 13, 20]
