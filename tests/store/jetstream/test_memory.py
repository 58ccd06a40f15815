"""The cluster in memory does what a real one does."""

from __future__ import annotations

import itertools

import pytest

from pullstatus.store.jetstream.wire import Message, Put, Stale
from tests.store.jetstream.memory import MemoryBus, matches

OPS = (b"%016d" % number for number in itertools.count())


def write(bus: MemoryBus, *puts: tuple[str, int | None]) -> int:
    op = next(OPS)
    return bus.write(
        "s_0", [Put(f"s.0.{name}", op + name.encode(), last) for name, last in puts], op
    )


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus([("s_0", "s.0.>")])


def found(message: Message | None) -> tuple[str, int] | None:
    return None if message is None else (message.subject, message.sequence)


def test_a_write_is_stored_as_a_whole_or_not_at_all(bus: MemoryBus) -> None:
    assert write(bus, ("a", None), ("c", 0)) == 2
    for puts in ([("a", None), ("c", 0)], [("a", 2), ("c", 2)], [("c", 1)], [("d", 1)]):
        with pytest.raises(Stale):
            write(bus, *puts)
    assert write(bus, ("a", 1), ("b", 0), ("c", 2)) == 5
    assert bus.newest("s_0") == 5
    assert found(bus.last("s_0", "s.0.a")) == ("s.0.a", 3)


def test_a_subject_that_was_purged_expects_nothing(bus: MemoryBus) -> None:
    write(bus, ("a", 0))
    assert bus.purge("s_0", "s.0.*", below=1) == 0
    assert bus.purge("s_0", "s.0.*", below=2) == 1
    assert bus.last("s_0", "s.0.a") is None
    assert write(bus, ("a", 0)) == 2


def test_an_answer_that_got_lost_is_found_again_and_anothers_is_told_apart(bus: MemoryBus) -> None:
    lost = iter([True, False])
    bus.loses = lambda _stream: next(lost, False)
    assert write(bus, ("a", 0)) == 1
    lost = iter([True])

    def overtaken(_stream: str) -> bool:
        if next(lost, False):
            bus.loses = lambda _stream: False
            write(bus, ("a", 2))
            return True
        return False

    bus.loses = overtaken
    assert write(bus, ("a", 1)) == 2, "ours was stored before the other's"
    assert found(bus.last("s_0", "s.0.a")) == ("s.0.a", 3)


def test_a_replica_that_is_behind_knows_nothing_newer(bus: MemoryBus) -> None:
    for last in range(3):
        write(bus, ("a", last))
    bus.lag = lambda _stream: 2
    assert found(bus.last("s_0", "s.0.a")) == ("s.0.a", 1)
    assert found(bus.last("s_0", "s.0.a", leader=True)) == ("s.0.a", 3)
    assert found(bus.lasts("s_0", ["s.0.>"])["s.0.a"]) == ("s.0.a", 1)
    assert found(bus.lasts("s_0", ["s.0.>"], at_least=2)["s.0.a"]) == ("s.0.a", 2)
    assert [each.sequence for each in bus.following("s_0", "s.0.a", 1, count=9)] == [1]
    ahead = bus.following("s_0", "s.0.a", 2, count=9, leader=True)
    assert [each.sequence for each in ahead] == [2, 3]


def test_answers_are_bounded_by_count_and_bytes(bus: MemoryBus) -> None:
    for number, name in enumerate("abcabc"):
        write(bus, (name, None), (f"x{number}", 0))
    assert len(bus.following("s_0", "s.0.*", 1, count=5)) == 5
    assert len(bus.following("s_0", "s.0.*", 1, count=5, bytes_max=1)) == 1
    assert [each.subject for each in bus.following("s_0", "s.0.b", 4, count=5)] == ["s.0.b"]


@pytest.mark.parametrize(
    ("subject", "pattern", "expected"),
    [
        ("a.b.c", "a.b.c", True),
        ("a.b.c", "a.*.c", True),
        ("a.b.c", "a.>", True),
        ("a.b.c", "a.b.c.>", False),
        ("a.b.c", "a.*", False),
        ("a.b", "a.b.c", False),
        ("a.b.c", "*.*.d", False),
    ],
)
def test_patterns(subject: str, pattern: str, expected: bool) -> None:
    assert matches(subject, pattern) is expected
