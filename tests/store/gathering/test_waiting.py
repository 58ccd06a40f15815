"""The table of what waits: what it tells is what was written last, or that it does not know."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from random import Random

import pytest

from pullstatus import limits
from pullstatus.store.gathering.waiting import GROUP, WaitingTable, make_table


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = make_table()
    yield made
    os.close(made)


def test_of_what_was_not_told_nothing_is_known(descriptor: int) -> None:
    table = WaitingTable(descriptor, writes=True)
    table.tell({7: 3, 8: 0})
    assert [table.get(number) for number in (6, 7, 8, 9, 0)] == [None, 1, 0, None, None]
    table.tell({7: 0, 8: 1})
    assert [table.get(number) for number in (7, 8)] == [0, 1]


def test_another_sees_it_and_cannot_write(descriptor: int) -> None:
    writer, reader = WaitingTable(descriptor, writes=True), WaitingTable(descriptor)
    for count in (2, 0, 1):
        writer.tell({7: count})
        assert reader.get(7) == min(count, 1)
    with pytest.raises(TypeError, match="read-only"):
        reader.tell({7: 0})


def test_a_million_neighbours_have_their_places(descriptor: int) -> None:
    """As numbered by an operator: two mailboxes of each application."""
    first = 1_400_000_001
    numbers = [
        sdkappid << 2 | kind for sdkappid in range(first, first + 500_000) for kind in (0, 1)
    ]
    table = WaitingTable(descriptor, writes=True)
    table.tell(dict.fromkeys(numbers, 0))
    assert all(table.get(number) == 0 for number in numbers[::97])
    highest = limits.SDKAPPID_MAX << 2 | 3
    table.tell({highest: 1, 4: 0})
    assert (table.get(highest), table.get(4)) == (1, 0)


def test_one_without_a_place_is_not_known_and_never_another(descriptor: int) -> None:
    """Whatever is told in a small table: each answer is what was told last, or none."""
    small = make_table(groups=2)
    table = WaitingTable(small, writes=True)
    rng, truth = Random(1), dict[int, int]()
    known = 0
    for _ in range(5000):
        number = rng.randrange(200)
        truth[number] = rng.randrange(2)
        table.tell({number: truth[number]})
        assert table.get(number) == truth[number]
        asked = rng.randrange(200)
        found = table.get(asked)
        assert found in (None, truth.get(asked))
        known += found is not None
    assert 0 < sum(table.get(number) is not None for number in range(200)) <= 2 * GROUP
    assert known > 100
    os.close(small)


def _write(descriptor: int, numbers: list[int], rounds: int) -> None:
    table = WaitingTable(descriptor, writes=True)
    for count in range(rounds):
        table.tell(dict.fromkeys(numbers, count & 1))
    table.tell(dict.fromkeys(numbers, 1))


def test_no_reader_sees_half_of_a_word(descriptor: int) -> None:
    """A word has a number and a bit; halves of two would be of a mailbox that was never told of."""
    numbers = [0x5555_5555, 0xAAAA_AAAA & 0x7FFF_FFFF]
    table = WaitingTable(descriptor)
    start = table._start(numbers[0])
    process = multiprocessing.get_context("fork").Process(
        target=_write, args=(descriptor, numbers, 100_000)
    )
    process.start()
    good = {0, *((number + 1) << 1 | bit for number in numbers for bit in (0, 1))}
    looks = 0
    while process.is_alive() or looks == 0:
        assert set(table._words[start : start + GROUP].tolist()) <= good
        assert {table.get(number) for number in numbers} <= {None, 0, 1}
        looks += 1
    process.join()
    assert process.exitcode == 0
    assert [table.get(number) for number in numbers] == [1, 1]
