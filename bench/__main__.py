"""`make bench`: measure, show, compare with what is recorded."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import guard, machine, report
from bench.full import FULL
from bench.goals import GOALS
from bench.measure import Bench
from bench.overload import OVERLOAD
from bench.process import ProcessFailed, end_on_term
from bench.results import Report, Result
from bench.scenarios import EVERYDAY, Scenario
from pullstatus.cli import load
from pullstatus.cli.load import LoadFailed

RESULTS = Path(__file__).with_name("results")
RECORDED = "recorded.json"
LAST = "last.json"
DISK = Path("/var/tmp")  # by custom on a disk, which /tmp often is not


@click.command()
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option("--full", is_flag=True, help="Every scenario.")
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
    help="Multiplies records and applications: 0.01 for a quick look.",
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
def main(
    names: tuple[str, ...],
    seconds: int,
    runs: int,
    warm_up: int,
    before: Path | None,
    mixed_seconds: float,
    scale: float,
    folder: Path,
    kept: Path,
    tolerance: float,
    *,
    full: bool,
    record: bool,
    as_json: bool,
    as_list: bool,
) -> None:
    """Measure the program, each SCENARIO (or all everyday ones) beside its ceiling.

    `goals` stands for the scenarios that have goals, and ends with the table of them.

    Exit status: 0; 1 when something could not be measured, or a ratio fell below what is recorded.
    """
    known = EVERYDAY | FULL | GOALS | OVERLOAD
    goals = "goals" in names
    if as_list:
        for scenario in known.values():
            click.echo(f"{scenario.name:14} {scenario.conditions}")
        return
    unknown = [name for name in names if name not in (*known, "goals")]
    if unknown:
        raise click.UsageError(f"there is no {unknown[0]}; there are: goals, {', '.join(known)}")
    if not load.installed():
        raise click.ClickException(load.HOW_TO_INSTALL)
    if machine.file_system_of(folder) in machine.IN_MEMORY:
        raise click.ClickException(f"{folder} is in memory, where nothing is durable: --folder")
    bench = Bench(folder.resolve(), seconds, runs, warm_up, scale, mixed_seconds, before)
    group = GOALS if goals else FULL if full else EVERYDAY
    chosen = [known[name] for name in names if name != "goals"] or list(group.values())
    results, failures = _run(chosen, bench)
    made = Report(
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        machine.describe(folder),
        load.version(),
        bench.seconds,
        bench.runs,
        results,
    )
    recorded = report.read(kept / RECORDED)
    if recorded is not None and not guard.comparable(made, recorded):
        click.echo("not compared: what is recorded is of another machine", err=True)
        recorded = None
    if as_json:
        click.echo(report.encode(made), nl=False)
    else:
        report.show(made, recorded, report.console())
        if goals:
            peers = report.read(RESULTS / "last-peers.json") or report.read(RESULTS / "peers.json")
            report.console().print(report.goals(made, peers))
    report.write(kept / LAST, made)
    fallen = list(guard.fallen(made, recorded, tolerance)) if recorded else []
    for line in [*failures, *fallen]:
        click.echo(line, err=True)
    if record and not failures:
        report.write(kept / RECORDED, guard.merge(made, recorded))
    if failures or (fallen and not record):
        sys.exit(1)


def _run(chosen: list[Scenario], bench: Bench) -> tuple[list[Result], list[str]]:
    results: list[Result] = []
    failures: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        every = progress.add_task("scenarios", total=len(chosen))
        step = progress.add_task("", total=1)
        for scenario in chosen:

            def say(text: str, name: str = scenario.name) -> None:
                progress.reset(step, description=f"{name}: {text}", total=1)

            def done(share: float) -> None:
                progress.update(step, completed=share)

            watching = msgspec.structs.replace(bench, say=say, done=done)
            try:
                results.append(scenario.measure(watching, scenario))
            except (LoadFailed, ProcessFailed) as error:
                failures.append(f"{scenario.name} could not be measured: {error}")
            progress.advance(every)
    return results, failures


if __name__ == "__main__":
    end_on_term()
    main()
