"""What was measured, as plain values: lines of figures, and what they are judged by."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from bench.machine import Machine
from bench.process import Usage
from pullstatus.cli.load import Measured


class Line(msgspec.Struct):
    """One thing measured, run by run.

    Attributes:
        label: what it is: "pullstatus", "ceiling".
        unit: of what there are so many a second.
        requests: how many were answered, each of which may stand for many of the unit.
        cores, memory_mib, written_mib, read_mib: of the server; empty when it is not ours.
        us: microseconds of processor for each request, over all processes of the server.
        behind_us: that part of them which a server behind it used: its database.
        generator_cores: of the load generator; near 1, it is what binds.
        other_cores: of everything else on the machine; the more, the less figures mean.
    """

    label: str
    unit: str
    per_s: list[float] = []
    requests: list[int] = []
    p50_ms: list[float] = []
    p99_ms: list[float] = []
    us: list[float] = []
    behind_us: list[float] = []
    cores: list[float] = []
    memory_mib: list[float] = []
    written_mib: list[float] = []
    read_mib: list[float] = []
    generator_cores: list[float] = []
    other_cores: list[float] = []

    def add(self, measured: Measured, usage: Usage | None, factor: float = 1.0) -> None:
        """Take in one run; `factor` is how many of the unit a request stands for."""
        self.per_s.append(measured.per_s * factor)
        self.requests.append(measured.requests)
        self.p50_ms.append(measured.p50_ms)
        self.p99_ms.append(measured.p99_ms)
        self.generator_cores.append(measured.generator_cores)
        if usage is not None:
            each = 1e6 / measured.requests if measured.requests else 0.0
            self.us.append(usage.processor_s * each)
            self.behind_us.append(usage.behind_s * each)
            self.cores.append(usage.cores)
            self.other_cores.append(usage.other_cores)
            self.memory_mib.append(usage.memory_mib)
            self.written_mib.append(usage.written_mib)
            self.read_mib.append(usage.read_mib)

    def extend(self, other: Line) -> None:
        """Take in the runs of another one."""
        for name in self.__struct_fields__:
            if isinstance(figures := getattr(self, name), list):
                figures.extend(getattr(other, name))


class Indicator(msgspec.Struct, frozen=True):
    """A number that a scenario is judged by: mostly a ratio of two figures of one run.

    Attributes:
        goal: what it should reach, or stay below when `lower_is_better`.
        latency: made of latencies, which scatter more than rates.
        absolute: no ratio, but a time or an amount: never compared with what was recorded.
    """

    name: str
    value: float
    goal: float | None = None
    lower_is_better: bool = False
    latency: bool = False
    absolute: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.lower_is_better else self.value >= self.goal


class Split(msgspec.Struct, frozen=True):
    """Where the processor time of a request goes, in microseconds.

    Attributes:
        server_us, store_us: of each of both processes; counted.
        us: the same by layer, in both; see `bench.layers`.
        sync_us: time, not processor, that the store waits for a sync, shared by who wait for it.
    """

    label: str
    server_us: float
    store_us: float
    us: dict[str, float]
    sync_us: float


class Result(msgspec.Struct, frozen=True):
    """What came of a scenario."""

    scenario: str
    conditions: str
    lines: list[Line]
    indicators: list[Indicator]
    remarks: list[str] = []
    splits: list[Split] = []


class Report(msgspec.Struct, frozen=True):
    """Everything that one call of the bench measured, or what is recorded of several.

    Attributes:
        made_at: UTC, to the second.
        seconds, runs: length and number of the runs of each.
    """

    made_at: str
    machine: Machine
    generator: str
    seconds: float
    runs: int
    results: list[Result]


def median(values: Sequence[float]) -> float:
    """The middle value; 0 of none."""
    return statistics.median(values) if values else 0.0


def spread(values: Sequence[float]) -> float:
    """How far runs lie from the middle of their range, as a share of the median."""
    return (max(values) - min(values)) / 2 / median(values) if values and median(values) else 0.0


def paired(part: Sequence[float], whole: Sequence[float]) -> float:
    """The median of the ratios of what was measured in turns, pair by pair; 0 when there is none.

    Both of a pair had the same minute of a machine whose speed changes.
    """
    return median([one / other for one, other in zip(part, whole, strict=True) if other])


def share(part: Sequence[float], whole: Sequence[float]) -> float:
    """The median of one over the median of the other; 0 when there is none."""
    return median(part) / median(whole) if median(whole) else 0.0
