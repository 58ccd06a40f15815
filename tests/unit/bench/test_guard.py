import msgspec
import pytest

from bench.guard import comparable, fallen, merge
from bench.machine import Machine
from bench.results import Indicator, Report, Result

KNOWN = {"drain", "empty"}
MACHINE = Machine("cpu", 2, 8.0, "6.1", "ext4", "3.11.7")
RATE = Indicator("pages/s to ceiling", 0.5)
LATENCY = Indicator("p99 to ceiling's", 4.0, lower_is_better=True, latency=True)


def report(*indicators: Indicator, scenario: str = "drain", machine: Machine = MACHINE) -> Report:
    result = Result(scenario, "", [], list(indicators))
    return Report("2025-01-01 00:00:00", machine, "wrk", 5.0, 1, [result])


def now(indicator: Indicator, value: float) -> Report:
    return report(msgspec.structs.replace(indicator, value=value))


@pytest.mark.parametrize(
    ("indicator", "value", "fell"),
    [
        (RATE, 0.39, True),
        (RATE, 0.41, False),
        (RATE, 2.0, False),
        (LATENCY, 6.1, True),
        (LATENCY, 5.9, False),
        (LATENCY, 0.1, False),
    ],
)
def test_guard_says_what_got_worse_than_is_tolerated(
    indicator: Indicator, value: float, *, fell: bool
) -> None:
    """A rate may lose a fifth, a latency may grow by half; what got better never falls."""
    found = list(fallen(now(indicator, value), report(indicator)))
    assert [line.ratio for line in found] == ([indicator.name] if fell else [])


def test_guard_takes_another_tolerance_for_both() -> None:
    assert list(fallen(now(RATE, 0.44), report(RATE), tolerance=0.1))
    assert not list(fallen(now(RATE, 0.3), report(RATE), tolerance=0.5))
    assert list(fallen(now(LATENCY, 5.1), report(LATENCY), tolerance=0.1))


def test_guard_names_scenario_both_values_and_tolerance() -> None:
    [line] = fallen(now(RATE, 0.25), report(RATE))
    assert str(line) == (
        "drain: pages/s to ceiling was 0.50 when recorded and is 0.25 now, worse by more than 20%"
    )


def test_guard_never_compares_absolute_figures() -> None:
    seconds = Indicator("s until ready", 1.0, lower_is_better=True, absolute=True)
    assert not list(fallen(now(seconds, 99.0), report(seconds)))


def test_guard_passes_over_what_was_not_recorded() -> None:
    assert not list(fallen(report(RATE, scenario="new"), report(RATE)))
    assert not list(fallen(now(RATE, 0.1), report(LATENCY)))
    assert not list(fallen(now(RATE, 0.1), now(RATE, 0.0)))


def test_merge_keeps_what_was_not_run_now() -> None:
    merged = merge(report(RATE, scenario="empty"), report(LATENCY, scenario="drain"), KNOWN)
    assert [result.scenario for result in merged.results] == ["drain", "empty"]


def test_merge_replaces_what_was_run_now() -> None:
    merged = merge(now(RATE, 0.9), report(RATE), KNOWN)
    assert [each.value for result in merged.results for each in result.indicators] == [0.9]


def test_merge_keeps_nothing_of_another_machine() -> None:
    other = msgspec.structs.replace(MACHINE, cpu="other")
    assert merge(report(RATE), None, KNOWN) == report(RATE)
    earlier = report(LATENCY, scenario="empty", machine=other)
    assert merge(report(RATE), earlier, KNOWN) == report(RATE)


def test_merge_keeps_nothing_of_a_scenario_that_is_there_no_more() -> None:
    assert merge(report(RATE), report(LATENCY, scenario="gone"), KNOWN) == report(RATE)


def test_machines_compare_by_processor_and_cores() -> None:
    later = msgspec.structs.replace(MACHINE, kernel="7.0", memory_gib=9.0)
    assert comparable(report(RATE), report(RATE, machine=later))
    fewer = msgspec.structs.replace(MACHINE, cores=1)
    assert not comparable(report(RATE), report(RATE, machine=fewer))
