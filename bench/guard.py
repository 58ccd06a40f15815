"""The regression guard: ratios and processor times of now beside those recorded; never rates."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from bench.results import Indicator, Report, Result

TOLERANCE = 0.2  # by which a ratio of rates may be worse than recorded
LATENCY_TOLERANCE = 0.5  # the same for latencies, of which single stalls decide


class Fallen(msgspec.Struct, frozen=True):
    """A ratio that got worse than is tolerated."""

    scenario: str
    ratio: str
    recorded: float
    now: float
    tolerance: float

    def __str__(self) -> str:
        return (
            f"{self.scenario}: {self.ratio} was {self.recorded:.2f} when recorded and is"
            f" {self.now:.2f} now, worse by more than {self.tolerance:.0%}"
        )


def fallen(now: Report, recorded: Report, tolerance: float = TOLERANCE) -> Iterator[Fallen]:
    """What got worse. `tolerance` is for rates; latencies are given in the same proportion more."""
    before = {
        (result.scenario, ratio.name): ratio
        for result in recorded.results
        for ratio in result.indicators
    }
    for result in now.results:
        for ratio in result.indicators:
            old = before.get((result.scenario, ratio.name))
            if old is None or not old.value or ratio.absolute:
                continue
            allowed = tolerance * (LATENCY_TOLERANCE / TOLERANCE if ratio.latency else 1)
            if worse_by(ratio, old) > allowed:
                yield Fallen(result.scenario, ratio.name, old.value, ratio.value, allowed)


def worse_by(now: Indicator, recorded: Indicator) -> float:
    """By which share a ratio is worse than it was; negative when it is better."""
    change = now.value / recorded.value - 1
    return change if now.lower_is_better else -change


def comparable(now: Report, recorded: Report) -> bool:
    """Whether both are of one kind of machine: even ratios depend on how many cores there are."""
    return (now.machine.cpu, now.machine.cores) == (recorded.machine.cpu, recorded.machine.cores)


def merge(now: Report, recorded: Report | None, known: Collection[str]) -> Report:
    """What to record: the scenarios of now, and of those recorded earlier the others.

    On another machine nothing is kept: ratios of two machines are no series. Nor is what there is
    no scenario for any more.
    """
    if recorded is None or not comparable(now, recorded):
        return now
    fresh = {result.scenario: result for result in now.results}
    earlier = [result for result in recorded.results if result.scenario in known]
    kept: list[Result] = [fresh.pop(result.scenario, result) for result in earlier]
    return msgspec.structs.replace(now, results=[*kept, *fresh.values()])
