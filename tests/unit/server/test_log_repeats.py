"""Lines of one kind are summed by the second: none is lost to the count, and few are written."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.server.logs.repeats import LineKind, Repeats

WRONG, OLD = LineKind("info", "refused", ("result", 1001)), LineKind("info", "refused")
OF_ALL, OF_ONE = limits.LOG_LINES_PER_S_MAX, limits.LOG_LINES_OF_ONE_PER_S_MAX


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_first_lines_of_a_second_are_written_and_the_rest_is_a_number() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    assert [repeats.admit(WRONG, "a") for _ in range(1000)].count(True) == OF_ONE
    assert repeats.take() == {}, "the second is not over"
    clock.now_s += 1
    assert repeats.take() == {WRONG: 1000 - OF_ONE}
    assert repeats.take() == {}
    assert repeats.admit(WRONG, "a"), "a new second"
    assert repeats.summed == 1000 - OF_ONE


def test_who_is_loud_hides_nobody() -> None:
    repeats = Repeats(Clock())
    for _ in range(1000):
        repeats.admit(WRONG, "loud")
    assert repeats.admit(WRONG, "quiet")
    assert repeats.admit(OLD, "loud"), "another kind of line"


def test_many_addresses_fill_no_disk_and_no_memory() -> None:
    repeats = Repeats(Clock())
    admitted = sum(repeats.admit(WRONG, str(address)) for address in range(100_000))
    assert admitted == OF_ALL
    assert len(repeats._written) < 2 * OF_ALL


def test_whoever_tells_the_sums_is_woken_only_where_there_may_be_one() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    assert repeats.due_in_s() is None
    repeats.admit(WRONG)
    clock.now_s += 0.25
    assert repeats.due_in_s() == 0.75
    clock.now_s += 1
    assert repeats.due_in_s() == 0
    assert repeats.take() == {}
    assert repeats.due_in_s() is None


Lines = st.tuples(st.sampled_from([WRONG, OLD]), st.sampled_from("abcdefg"), st.floats(0, 0.3))


@given(st.lists(Lines, max_size=300), st.integers(1, 50))
def test_every_line_is_written_or_summed_once(
    lines: list[tuple[LineKind, str, float]], every: int
) -> None:
    clock = Clock()
    repeats = Repeats(clock)
    seen: Counter[LineKind] = Counter()
    for number, (kind, address, pause_s) in enumerate(lines):
        clock.now_s += pause_s / 10
        seen[kind] += repeats.admit(kind, address)
        if number % every == 0:
            seen.update(repeats.take())
    seen.update(repeats.take(at_once=True))
    assert seen == Counter(kind for kind, *_ in lines)
