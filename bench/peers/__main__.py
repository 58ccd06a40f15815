"""`make bench-peers`: the product and what people build instead, on one machine, in one go."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import drain, machine, report
from bench.drain import Drain, by_front, by_posts
from bench.measure import Bench, Side, to_processor
from bench.peers import services
from bench.peers.proof import prove
from bench.peers.services import Service, ServiceFailed, ServiceMissing
from bench.process import ProcessFailed, Running, at_most, end_on_term
from bench.records import as_array
from bench.results import Indicator, Line, Report, Result, median, paired
from bench.server import PAGE, Product, ingest_request, pull_request
from pullstatus.cli import load
from pullstatus.cli.load import Load, LoadFailed, Request

CHECKOUT = Path(__file__).parents[2]
RESULTS = CHECKOUT / "bench" / "results"
VENV = CHECKOUT / ".venv-peers"
DISK = Path("/var/tmp")
OURS = "pullstatus"
COLUMN_S = 900.0  # that one measure of a peer may take, which usually are one or two minutes


class Peer(msgspec.Struct, frozen=True):
    """Something built instead.

    Attributes:
        front: which HTTP service, of `front.py`.
        backend: which of its backends.
        workers: processes of the HTTP service.
        seconds_min: of a run, so that it answers something within one.
        caveat: why it does not count among the best: what it is spared of durability.
    """

    name: str
    title: str
    front: str
    backend: str
    start: services.Start
    caveat: str = ""
    workers: int = 1
    seconds_min: int = 1


PEERS = {
    peer.name: peer
    for peer in (
        Peer("redis-lean", "msgspec, Redis lists", "lean", "redis", services.redis),
        Peer(
            "redis-lean-2",
            "the same, two processes",
            "lean",
            "redis",
            services.redis,
            workers=2,
        ),
        Peer("redis", "FastAPI, Redis lists", "fastapi", "redis", services.redis),
        Peer(
            "postgresql",
            "msgspec, PostgreSQL SKIP LOCKED",
            "lean",
            "postgresql",
            services.postgresql,
        ),
        Peer(
            "rabbitmq",
            "msgspec, RabbitMQ quorum *",
            "lean",
            "rabbitmq",
            services.rabbitmq,
            "an acknowledgement is not confirmed: a crash may bring a page back",
            seconds_min=5,
        ),
        Peer("jetstream", "msgspec, JetStream pull", "lean", "jetstream", services.jetstream),
    )
}


class Subject(msgspec.Struct, frozen=True):
    """Something to measure, the product or a peer, up and running.

    Attributes:
        pull: a request for a page of the queue that is filled.
        pull_empty: the same of a queue where nothing ever is.
        ingest: a post of so many records into a third one.
        fill: lays so many records or more ready in the first one; returns how many.
    """

    label: str
    running: Callable[[], Running]
    behind: tuple[int, ...]
    pull: Callable[[], Request]
    pull_empty: Callable[[], Request]
    ingest: Callable[[int], Request]
    fill: Callable[[int], int]

    def pages(self) -> Load:
        """Pulls of the queue that is filled."""
        return Load([self.pull()], connections=32)


class Column(msgspec.Struct, frozen=True):
    """One measure of the table. `goal` is how many times the best peer the product should do."""

    name: str
    conditions: str
    unit: str
    goal: float


COLUMNS = (
    Column("empty", "pulls of an empty queue, 32 connections", "pulls/s", 3.0),
    Column("ingest-1", "posts of 1 record, 64 connections", "posts/s", 3.0),
    Column("ingest-100", "posts of 100 records, 32 connections", "records/s", 3.0),
    Column("drain", "pulls of 100 records, 32 connections", "pages/s", 3.0),
)


@click.command()
@click.argument("names", nargs=-1, metavar="[PEER]...")
@click.option("--seconds", type=click.IntRange(1), default=1, help="Length of a run.")
@click.option("--runs", type=click.IntRange(1), default=7, help="Runs of each, in turns.")
@click.option("--warm-up", type=click.IntRange(0), default=1, help="Seconds before the first.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=DISK,
    help="Where servers keep their data; on a disk.",
)
@click.option(
    "--venv",
    type=click.Path(path_type=Path, file_okay=False),
    default=VENV,
    help="The venv with what bench/peers/requirements.txt names.",
)
@click.option(
    "--results",
    "kept",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    help="Where results are kept.",
)
@click.option("--record", is_flag=True, help="Keep the results as peers.json and peers.svg.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def main(
    names: tuple[str, ...],
    seconds: int,
    runs: int,
    warm_up: int,
    folder: Path,
    venv: Path,
    kept: Path,
    *,
    record: bool,
    as_json: bool,
) -> None:
    """Measure the product and each PEER (or all), by the same load, durable where they can be."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise click.UsageError(f"there is no {unknown[0]}; there are: {', '.join(PEERS)}")
    if not load.installed():
        raise click.ClickException(load.HOW_TO_INSTALL)
    if machine.file_system_of(folder) in machine.IN_MEMORY:
        raise click.ClickException(f"{folder} is in memory, where nothing is durable: --folder")
    python = venv.absolute() / "bin" / "python"
    if not python.exists():
        raise click.ClickException(f"there is no {python}; `make bench-peers` makes it")
    bench = Bench(folder.resolve(), seconds, runs, warm_up)
    chosen = [PEERS[name] for name in names] or list(PEERS.values())
    results, missing = _run(chosen, bench, python)
    made = Report(
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        machine.describe(folder),
        load.version(),
        seconds,
        runs,
        results,
    )
    if as_json:
        click.echo(report.encode(made), nl=False)
    else:
        console = report.console()
        console.print(matrix(made))
        report.show(made, None, console)
    report.write(kept / ("peers.json" if record and not missing else "last-peers.json"), made)
    for line in missing:
        click.echo(line, err=True)


def matrix(made: Report) -> Table:
    """One row a subject, one column a measure: what a page can show."""
    table = Table(box=box.SIMPLE_HEAD, title="Side by side", title_justify="left")
    table.add_column("", no_wrap=True)
    for result in made.results:
        table.add_column(f"{result.scenario}\n{result.lines[0].unit}", justify="right")
    table.add_column("drain\np99 ms", justify="right")
    for label in dict.fromkeys(line.label for result in made.results for line in result.lines):
        cells, p99_ms = [], ""
        for result in made.results:
            [line] = [line for line in result.lines if line.label == label] or [Line(label, "")]
            cells.append(f"{median(line.per_s):,.0f}" if line.per_s else "-")
            if result.scenario == "drain" and line.p99_ms:
                p99_ms = f"{median(line.p99_ms):.1f}"
        table.add_row(label, *cells, p99_ms or "-")
    return table


def _run(chosen: list[Peer], bench: Bench, python: Path) -> tuple[list[Result], list[str]]:
    ours = {column.name: Line(OURS, column.unit) for column in COLUMNS}
    pairs: dict[str, list[tuple[Line, Line]]] = {column.name: [] for column in COLUMNS}
    versions: list[str] = []
    missing: list[str] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        step = progress.add_task("")

        def say(text: str) -> None:
            progress.reset(step, description=text)

        for peer in chosen:
            say(f"{peer.title}: starting")
            named = msgspec.structs.replace(
                bench,
                seconds=max(bench.seconds, peer.seconds_min),
                say=lambda text, it=peer: say(f"{it.title}: {text}"),
            )
            try:
                # A store and a server for each, so that all begin alike.
                with _product(bench) as product, _peer(peer, bench, python) as (subject, version):
                    versions.append(
                        f"{peer.title}: {', '.join(filter(None, [version, peer.caveat]))}"
                    )
                    for column in COLUMNS:
                        try:
                            with at_most(COLUMN_S):
                                pair = _compare(named, product, subject, column)
                        except (LoadFailed, OSError) as error:
                            missing.append(f"{peer.title}, {column.name}: {error}")
                            continue
                        pairs[column.name].append(pair)
                        ours[column.name].extend(pair[0])
            except ServiceMissing as error:
                missing.append(f"skipped {peer.title}: {error}")
            except (ServiceFailed, ProcessFailed, LoadFailed) as error:
                missing.append(f"{peer.title} could not be measured: {error}")
    versions.append(_libraries(python))
    return [
        Result(
            column.name,
            column.conditions,
            [ours[column.name], *(theirs for _, theirs in pairs[column.name])],
            to_best(pairs[column.name], column),
            versions if column is COLUMNS[-1] else [],
        )
        for column in COLUMNS
    ], missing


def to_best(pairs: list[tuple[Line, Line]], column: Column) -> list[Indicator]:
    """How many times each peer the product does, and the goal: to the best durable one.

    Args:
        pairs: the product's figures and a peer's, taken in turns.
    """
    durable = {peer.title for peer in PEERS.values() if not peer.caveat}
    among = [pair for pair in pairs if pair[1].label in durable and pair[1].per_s]
    if not among:
        return []
    rates = {theirs.label: paired(ours.per_s, theirs.per_s) for ours, theirs in among}
    best = min(rates, key=lambda label: rates[label])
    [(ours, theirs)] = [pair for pair in among if pair[1].label == best]
    found = [
        Indicator(f"{column.unit} to the best durable peer's", rates[best], column.goal),
        to_processor(ours, theirs, "the best durable peer's"),
    ]
    if column.name == "drain":
        share = paired(ours.p99_ms, theirs.p99_ms)
        name = "p99 to the best durable peer's"
        found.append(Indicator(name, share, 1 / 3, lower_is_better=True, latency=True))
    return found


def _compare(bench: Bench, product: Subject, peer: Subject, column: Column) -> tuple[Line, Line]:
    lines = Line(OURS, column.unit), Line(peer.label, column.unit)
    subjects = product, peer
    if column.name == "drain":
        drain.in_turns(
            bench,
            [
                Drain(bench, line, each.running, each.pages, each.fill, each.behind)
                for each, line in zip(subjects, lines, strict=True)
            ],
        )
        return lines
    connections, factor = {"empty": (32, 1), "ingest-1": (64, 1), "ingest-100": (32, 100)}[
        column.name
    ]
    sides = []
    for subject, line in zip(subjects, lines, strict=True):

        def request(subject: Subject = subject) -> Request:
            return subject.pull_empty() if column.name == "empty" else subject.ingest(factor)

        due = load.look(subject.running().address, request()).wire_bytes
        sides.append(
            Side(
                line,
                subject.running,
                lambda it=request: Load([it()], connections),  # type: ignore[misc]
                due,
                factor,
                behind=subject.behind,
            )
        )
    bench.in_turns(sides)
    return lines


@contextlib.contextmanager
def _product(bench: Bench) -> Iterator[Subject]:
    with Product(bench.folder, applications=3) as product:
        product.serve()

        filled, fed, empty = product.sdkappids
        fill = by_posts(
            product.server, lambda body: ingest_request(product.token, PAGE, filled, body=body)
        )
        yield Subject(
            OURS,
            product.server,
            (),
            lambda: pull_request(filled),
            lambda: pull_request(empty),
            lambda count: ingest_request(product.token, count, fed),
            fill,
        )


@contextlib.contextmanager
def _peer(peer: Peer, bench: Bench, python: Path) -> Iterator[tuple[Subject, str]]:
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{peer.name}-", dir=bench.folder))
    try:
        with (
            peer.start(folder, python.parent) as service,
            _front(peer, service, folder, python) as running,
        ):
            prove(running.address)
            page = b'{"type":0,"max":%d}' % PAGE
            yield (
                Subject(
                    peer.title,
                    lambda: running,
                    service.pids,
                    lambda: Request("/pull/filled", page),
                    lambda: Request("/pull/empty", page),
                    lambda count: Request("/ingest/fed", as_array(count)),
                    by_front(running, "filled"),
                ),
                service.version,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _front(peer: Peer, service: Service, folder: Path, python: Path) -> Running:
    command = [str(python), "-m", "bench.peers.front", peer.front, peer.backend, service.address]
    command.append(str(peer.workers))
    return Running(command, folder / "front.log", cwd=CHECKOUT)


def _libraries(python: Path) -> str:
    names = "fastapi", "starlette", "uvicorn", "hiredis", "asyncpg", "aio-pika", "nats-py"
    program = (
        "from importlib.metadata import version;"
        f"print(', '.join(f'{{name}} {{version(name)}}' for name in {names!r}))"
    )
    ran = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


if __name__ == "__main__":
    end_on_term()
    main()
