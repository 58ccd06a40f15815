"""Failed tries: told when there are many, forgotten when there are too many to remember."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.apps.tries import TELL_EVERY_S, Tries

A_FEW, PER_MINUTE = limits.FAILED_TRIES_MAX, limits.FAILED_TRIES_PER_MINUTE


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_few_are_no_matter_and_the_next_is_late_and_told() -> None:
    tries = Tries(Clock())
    assert [tries.failed("192.0.2.7", 1) for _ in range(A_FEW)] == [(False, 0, 0)] * A_FEW
    assert tries.failed("192.0.2.7", 1) == (True, A_FEW + 1, A_FEW + 1)
    assert tries.failed("192.0.2.7", 1) == (True, 0, 0), "told already"


def test_they_are_told_once_a_minute_with_all_since() -> None:
    clock = Clock()
    tries = Tries(clock)
    told = 0
    lines = 0
    for _ in range(6000):
        clock.now_s += 0.1
        _, of_address, at_application = tries.failed("192.0.2.7", 1)
        assert of_address == at_application
        told += of_address
        lines += of_address > 0
    assert lines == 10
    assert 6000 - 600 <= told <= 6000


def test_who_stops_for_a_minute_may_err_again() -> None:
    clock = Clock()
    tries = Tries(clock)
    for _ in range(1000):
        tries.failed("192.0.2.7", None)
    clock.now_s += 60 * A_FEW / PER_MINUTE
    late = [tries.failed("192.0.2.7", None).late for _ in range(A_FEW + 1)]
    assert late == [False] * A_FEW + [True]


def test_stranger_at_an_application_makes_nobody_else_late() -> None:
    """Only its operator hears of it: else whoever knows the number could hold up its clients."""
    tries = Tries(Clock())
    for number in range(1000):
        assert not tries.failed(f"192.0.2.{number % 250}", 1).late or number > 250 * A_FEW
    assert tries.failed("198.51.100.9", 1).late is False
    assert tries.applications.take(1)[0], "that bucket is empty"


def test_network_of_many_addresses_has_one_bucket() -> None:
    tries = Tries(Clock())
    late = [tries.failed(f"2001:db8::{number:x}", None).late for number in range(A_FEW + 1)]
    assert late == [False] * A_FEW + [True]
    assert not tries.failed("2001:db8:0:1::1", None).late


def test_memory_has_a_bound_and_who_failed_longest_ago_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "FAILED_TRIES_KEPT_MAX", 100)
    tries = Tries(Clock())
    for _ in range(A_FEW):
        tries.failed("192.0.2.7", 1)
    for number in range(1000):
        tries.failed(f"10.0.{number // 250}.{number % 250}", number)
        tries.failed("192.0.2.7", 1)
    assert (len(tries.addresses), tries.addresses.forgotten) == (100, 901)
    assert (len(tries.applications), tries.applications.forgotten) == (100, 900)
    assert tries.failed("192.0.2.7", 1).late, "who goes on is remembered"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 200)), max_size=100))
def test_never_more_in_time_than_the_bucket_gives(course: list[tuple[str, float]]) -> None:
    clock = Clock()
    tries = Tries(clock)
    began_s = clock.now_s
    in_time = told_s = 0.0
    for address, pause_s in course:
        clock.now_s += pause_s / 100
        late, of_address, _ = tries.failed(f"2001:db8::{address}", None)
        in_time += not late
        assert in_time <= A_FEW + (clock.now_s - began_s) * PER_MINUTE / 60 + 1e-6
        if of_address:
            assert not told_s or clock.now_s - told_s >= TELL_EVERY_S
            told_s = clock.now_s
