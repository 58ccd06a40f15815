"""`make bench`: measure, show, compare with what is recorded."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import guard, machine, report, split
from bench.engines import ENGINES
from bench.full import FULL
from bench.goals import GOALS
from bench.growth import BESIDE, FEW, MANY
from bench.measure import Bench
from bench.overload import OVERLOAD
from bench.process import ProcessFailed, at_most, end_on_term
from bench.results import Report, Result
from bench.scenarios import EVERYDAY, Scenario
from pullstatus.cli import load
from pullstatus.cli.load import LoadFailed

RESULTS = Path(__file__).with_name("results")
RECORDED = "recorded.json"
LAST = "last.json"
DISK = Path("/var/tmp")  # by custom on a disk, which /tmp often is not
USUAL_S = 7.0  # of runs of each, which `Scenario.minutes` are for
ALLOWED = 5.0  # times those, and what follows: so long may a scenario take
ALLOWED_S = 300.0

KNOWN = EVERYDAY | FULL | GOALS | ENGINES | OVERLOAD | {split.SCENARIO.name: split.SCENARIO}
GROUPS: Mapping[str, Mapping[str, Scenario]] = {
    "everyday": EVERYDAY,
    "full": FULL,
    "goals": GOALS,
    "engines": ENGINES,
    "all": {name: each for name, each in KNOWN.items() if name != "before"},
}


@click.command()
@click.argument("names", nargs=-1, metavar="[SCENARIO|GROUP]...")
@click.option(
    "--seconds", type=click.IntRange(1), default=1, show_default=True, help="Length of a run."
)
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=7,
    show_default=True,
    help="Runs of each, in turns with what it is compared to.",
)
@click.option(
    "--warm-up",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Seconds before the first run of a server.",
)
@click.option(
    "--before",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="An older checkout, for the scenario `before`.",
)
@click.option(
    "--mailboxes",
    type=click.IntRange(1),
    multiple=True,
    help="Of a store of `growth`, once for each, and of `beside-command`, which takes the most;"
    f" {FEW:,} and {MANY:,}, and {BESIDE:,}, if not given.",
)
@click.option(
    "--mixed-seconds",
    type=click.FloatRange(1),
    default=600.0,
    show_default=True,
    help="Length of the one run of `mixed`.",
)
@click.option(
    "--scale",
    type=click.FloatRange(0.0001),
    default=1.0,
    show_default=True,
    help="Multiplies records, applications and long runs: 0.01 for a quick look.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=DISK,
    show_default=True,
    help="Where stores are made; on a disk.",
)
@click.option(
    "--results",
    "kept",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    help="Where results are kept.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=guard.TOLERANCE,
    show_default=True,
    help="Share by which a ratio of rates may be worse than recorded.",
)
@click.option("--record", is_flag=True, help="Keep the results to compare later ones with.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--list", "as_list", is_flag=True, help="Say which scenarios there are.")
@click.option("--recorded", is_flag=True, help="Show what is recorded, and measure nothing.")
def main(
    names: tuple[str, ...],
    seconds: int,
    runs: int,
    warm_up: int,
    before: Path | None,
    mailboxes: tuple[int, ...],
    mixed_seconds: float,
    scale: float,
    folder: Path,
    kept: Path,
    tolerance: float,
    *,
    record: bool,
    as_json: bool,
    as_list: bool,
    recorded: bool,
) -> None:
    """Measure the program: each SCENARIO, or those of a GROUP, the everyday ones if none is named.

    The groups are everyday, full, engines, goals (all that has one) and all. A table of goals comes
    last. What was measured is kept, and with --record recorded, as soon as a scenario has ended.

    Exit status: 0; 1 when something could not be measured, or a ratio fell below what is recorded.
    """
    chosen = _chosen(names)
    before_now = report.read(kept / RECORDED)
    if as_list:
        for scenario in chosen:
            click.echo(f"{scenario.name:16} {scenario.minutes:4.1f} min  {scenario.conditions}")
        click.echo(f"{'':16} {sum(each.minutes for each in chosen):4.0f} min  in all, on two cores")
        return
    if recorded:
        if before_now is None:
            raise click.ClickException(f"nothing is recorded in {kept}")
        report.show(before_now, None, report.console())
        report.console().print(report.goals(before_now, _peers()))
        return
    if not load.installed():
        raise click.ClickException(load.HOW_TO_INSTALL)
    if machine.file_system_of(folder) in machine.IN_MEMORY:
        raise click.ClickException(f"{folder} is in memory, where nothing is durable: --folder")
    bench = Bench(
        folder.resolve(), seconds, runs, warm_up, scale, mixed_seconds, before, tuple(mailboxes)
    )
    made = Report(
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        machine.describe(folder),
        load.version(),
        bench.seconds,
        bench.runs,
        [],
    )
    if before_now is not None and not guard.comparable(made, before_now):
        click.echo("not compared: what is recorded is of another machine", err=True)
    known = before_now if before_now and guard.comparable(made, before_now) else None
    failures = []
    for found in _measured(chosen, bench):
        if isinstance(found, str):
            failures.append(found)
            continue
        made.results.append(found)
        report.write(kept / LAST, made)
        if record:
            report.write(kept / RECORDED, guard.merge(made, before_now, KNOWN))
    if as_json:
        click.echo(report.encode(made), nl=False)
    else:
        report.show(made, known, report.console())
        report.console().print(report.goals(made, _peers() if "goals" in names else None))
    fallen = list(guard.fallen(made, known, tolerance)) if known else []
    for line in [*failures, *fallen]:
        click.echo(line, err=True)
    if failures or (fallen and not record):
        sys.exit(1)


def _chosen(names: Iterable[str]) -> list[Scenario]:
    """What is named, each once, in this order."""
    found: dict[str, Scenario] = {}
    for name in names or ["everyday"]:
        if name not in GROUPS and name not in KNOWN:
            there = ", ".join((*GROUPS, *KNOWN))
            raise click.UsageError(f"there is no {name}; there are: {there}")
        found |= GROUPS.get(name) or {name: KNOWN[name]}
    return list(found.values())


def _peers() -> Report | None:
    return report.read(RESULTS / "last-peers.json") or report.read(RESULTS / "peers.json")


def _measured(chosen: list[Scenario], bench: Bench) -> Iterator[Result | str]:
    """What came of each, in turn, or why nothing did; tells on standard error how far it is."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        every = progress.add_task("scenarios", total=len(chosen))
        step = progress.add_task("", total=1)
        for number, scenario in enumerate(chosen, start=1):

            def say(text: str, name: str = scenario.name) -> None:
                progress.reset(step, description=f"{name}: {text}", total=1)

            def done(share: float) -> None:
                progress.update(step, completed=share)

            watching = msgspec.structs.replace(bench, say=say, done=done)
            began = time.monotonic()
            try:
                with at_most(_allowed_s(scenario, bench)):
                    found: Result | str = scenario.measure(watching, scenario)
            except Exception as error:  # noqa: BLE001 - whatever one fails of, the others go on
                found = f"{scenario.name} could not be measured: {_said(error)}"
            progress.advance(every)
            took = f"{number} of {len(chosen)}, {scenario.name}: {time.monotonic() - began:.0f} s"
            progress.console.print(took, highlight=False)
            yield found


def _said(error: Exception) -> str:
    foreseen = isinstance(error, (LoadFailed, ProcessFailed, OSError))
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


def _allowed_s(scenario: Scenario, bench: Bench) -> float:
    longer = max(1.0, bench.runs * bench.seconds / USUAL_S)
    return ALLOWED_S + ALLOWED * 60 * scenario.minutes * longer


if __name__ == "__main__":
    end_on_term()
    main()
