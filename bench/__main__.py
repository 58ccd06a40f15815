"""`make bench`: measure, show, compare with what is recorded."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import guard, load, machine, report
from bench.load import LoadFailed
from bench.measure import Bench
from bench.process import ProcessFailed
from bench.results import Report, Result
from bench.scenarios import EVERYDAY, Scenario

RESULTS = Path(__file__).with_name("results")
RECORDED = RESULTS / "recorded.json"
LAST = RESULTS / "last.json"
DISK = Path("/var/tmp")  # by custom on a disk, which /tmp often is not
GENERATOR = "wrk, 1 thread"


@click.command()
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option("--seconds", type=click.FloatRange(1), default=5.0, help="Length of a run.")
@click.option("--runs", type=click.IntRange(1), default=1, help="Runs of each scenario.")
@click.option("--warm-up", type=click.FloatRange(0), default=1.0, help="Seconds before a run.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False, exists=True), default=DISK
)
@click.option("--record", is_flag=True, help="Keep the results to compare later ones with.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=guard.TOLERANCE,
    help="Share by which a ratio may be worse than recorded.",
)
def main(
    names: tuple[str, ...],
    seconds: float,
    runs: int,
    warm_up: float,
    folder: Path,
    tolerance: float,
    *,
    record: bool,
    as_json: bool,
) -> None:
    known = EVERYDAY
    chosen = [known[name] for name in names] if names else list(known.values())
    if not load.installed():
        raise click.ClickException(load.HOW_TO_INSTALL)
    results, failures = _run(chosen, Bench(folder, seconds, runs, warm_up))
    made = Report(
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        machine.describe(folder),
        GENERATOR,
        seconds,
        runs,
        results,
    )
    recorded = report.read(RECORDED)
    if as_json:
        click.echo(report.encode(made), nl=False)
    else:
        report.show(made, recorded, Console())
    _write(LAST, made)
    fallen = list(guard.fallen(made, recorded, tolerance)) if recorded else []
    for line in [*failures, *fallen]:
        click.echo(line, err=True)
    if record and not failures:
        _write(RECORDED, guard.merge(made, recorded))
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


def _write(file: Path, made: Report) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(report.encode(made))
    file.with_suffix(".svg").write_text(report.plot(made), encoding="utf-8")


if __name__ == "__main__":
    main()
