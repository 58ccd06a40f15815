"""What the page about speed takes from the recorded results of the bench.

python -m bench ... --record     writes bench/results/recorded.json, and pictures beside it
python -m bench.peers --record   writes bench/results/peers.json
make docs                        writes from these what is here
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bench import report
from bench.__main__ import RECORDED, RESULTS
from bench.cluster import SCENARIO
from bench.results import Indicator, Report, Result, median, spread

NOTHING: Final = "Nothing is recorded yet: `make figures` measures it."
REMARKS_MAX: Final = 5  # of a scenario; one that has more tells of each run


def figures() -> str:
    """What was measured, a row a line, and on what."""
    made = _recorded()
    rows = [row for result in made.results for row in _lines(result)]
    head = ["| scenario | | median | spread | p50, ms | p99, ms | µs | MiB |"]
    head.append("|---|---|---:|---:|---:|---:|---:|---:|")
    remarks = dict.fromkeys(
        each
        for result in made.results
        if len(result.remarks) <= REMARKS_MAX
        for each in result.remarks
    )
    told = [
        f"{made.machine}; {made.generator}; medians of {made.runs} runs, recorded {made.made_at}."
    ]
    return "\n".join(["", *told, "", *head, *rows, "", *(f"- {each}" for each in remarks)])


def goals() -> str:
    """Every goal with what is recorded of it."""
    rows = []
    for made in (_recorded(), report.read(RESULTS / "peers.json")):
        for result in made.results if made else []:
            rows += [_goal(result, each) for each in result.indicators if each.goal is not None]
    return "\n".join(["", "| | | recorded | goal | |", "|---|---|---:|---:|---|", *rows])


def split() -> str:
    """Where the processor time of a request goes."""
    splits = [each for result in _recorded().results for each in result.splits]
    if not splits:
        return f"\n{NOTHING}"
    head = "| µs of processor | " + " | ".join(each.label for each in splits) + " |"
    rows = [f"| {name} | {' | '.join(cells)} |" for name, cells in report.split_rows(splits)]
    return "\n".join(["", head, "|---|" + "---:|" * len(splits), *rows])


def cluster() -> str:
    """Every cell of the bench of a cluster: a row, with a second's count and microseconds."""
    made = _recorded()
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for result in made.results:
        if result.scenario == SCENARIO.name:
            for line in result.lines:
                measure, *where = line.label.split(", ")
                shown = f"{median(line.per_s):,.0f} ({median(line.us):,.0f})"
                cells.setdefault(tuple(where), {})[measure] = shown
    if not cells:
        return f"\n{NOTHING}"
    measures = list(dict.fromkeys(measure for cell in cells.values() for measure in cell))
    head = f"| a second, and µs of processor of each | {' | '.join(measures)} |"
    rows = [
        f"| {', '.join(where)} | {' | '.join(cell[measure] for measure in measures)} |"
        for where, cell in cells.items()
    ]
    told = f"{made.machine}; medians of {made.runs} runs, recorded {made.made_at}."
    return "\n".join(["", told, "", head, "|---|" + "---:|" * len(measures), *rows])


def _recorded() -> Report:
    made = report.read(RESULTS / RECORDED)
    assert made is not None
    return made


def _lines(result: Result) -> Iterator[str]:
    for place, line in enumerate(report.short(result)):
        name = f"**{result.scenario}**: {result.conditions}" if place == 0 else ""
        scatter = f"±{spread(line.per_s):.0%}" if len(line.per_s) > 1 else ""
        cells = [
            f"{median(line.per_s):,.0f} {line.unit}",
            scatter,
            _number(line.p50_ms, ".1f"),
            _number(line.p99_ms, ".1f"),
            _number(line.us, ",.1f"),
            _number(line.memory_mib, ",.0f"),
        ]
        yield f"| {name} | {line.label} | {' | '.join(cells)} |"


def _number(values: list[float], form: str) -> str:
    return format(median(values), form) if values else ""


def _goal(result: Result, ratio: Indicator) -> str:
    sign = "≤" if ratio.lower_is_better else "≥"
    met = "met" if ratio.met else "**missed**"
    due = f"{sign} {ratio.goal:.3g}"
    return f"| {result.scenario} | {ratio.name} | {ratio.value:.2f} | {due} | {met} |"
