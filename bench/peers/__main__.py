"""`make bench-peers`: the product and what people build instead, on one machine, in one go."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import machine, report
from bench.measure import Bench
from bench.peers import services
from bench.peers.services import Service, ServiceFailed, ServiceMissing
from bench.process import ProcessFailed, Running, end_on_term
from bench.records import as_array
from bench.results import Indicator, Line, Report, Result, median, share
from bench.server import PAGE, Product, ingest_request, pull_request
from pullstatus.cli import load
from pullstatus.cli.load import Load, LoadFailed, Request

CHECKOUT = Path(__file__).parents[2]
RESULTS = CHECKOUT / "bench" / "results"
VENV = CHECKOUT / ".venv-peers"
DISK = Path("/var/tmp")
OURS = "pullstatus"

FIRST_FILL = 1_000  # records a second that any peer hands out
FILL_S = 30.0  # what laying records ready for a run may take
ARRIVE_S = 3.0  # how long records may be on their way to whoever pulls
SPARE = 1.3


class Peer(msgspec.Struct, frozen=True):
    """Something built instead.

    Attributes:
        front: which HTTP service, of `front.py`.
        backend: which of its backends.
        caveat: why it does not count among the best: what it is spared of durability.
    """

    name: str
    title: str
    front: str
    backend: str
    start: services.Start
    caveat: str = ""


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "redis-lean",
            "Starlette, msgspec, Redis lists",
            "lean",
            "redis",
            services.redis,
        ),
        Peer("redis", "FastAPI, Redis lists", "fastapi", "redis", services.redis),
        Peer(
            "postgresql",
            "FastAPI, PostgreSQL SKIP LOCKED",
            "fastapi",
            "postgresql",
            services.postgresql,
        ),
        Peer(
            "rabbitmq",
            "FastAPI, RabbitMQ quorum *",
            "fastapi",
            "rabbitmq",
            services.rabbitmq,
            "an acknowledgement is not confirmed: a crash may bring a page back",
        ),
        Peer(
            "jetstream",
            "FastAPI, JetStream pull",
            "fastapi",
            "jetstream",
            services.jetstream,
        ),
        Peer(
            "sqs",
            "FastAPI, SQS of moto *",
            "fastapi",
            "sqs",
            services.sqs,
            "all in memory: a crash takes everything",
        ),
    )
}


class Subject(msgspec.Struct, frozen=True):
    """Something to measure, the product or a peer, up and running.

    Attributes:
        pull: a request for a page of the queue that is filled.
        pull_empty: the same of a queue where nothing ever is.
        ingest: a post of so many records into a third one.
        fill: lays so many records ready in the first one.
    """

    label: str
    running: Callable[[], Running]
    behind: tuple[int, ...]
    pull: Callable[[], Request]
    pull_empty: Callable[[], Request]
    ingest: Callable[[int], Request]
    fill: Callable[[int], None]


class Column(msgspec.Struct, frozen=True):
    """One measure of the table. `goal` is how many times the best peer the product should do."""

    name: str
    conditions: str
    unit: str
    goal: float


COLUMNS = (
    Column("empty", "pulls of an empty queue, 32 connections", "pulls/s", 1.5),
    Column("ingest-1", "posts of 1 record, 64 connections", "posts/s", 2.5),
    Column("ingest-100", "posts of 100 records, 32 connections", "records/s", 1.5),
    Column("drain", "pulls of 100 records, 32 connections", "pages/s", 2.0),
)


@click.command()
@click.argument("names", nargs=-1, metavar="[PEER]...")
@click.option("--seconds", type=click.FloatRange(1), default=5.0, help="Length of a run.")
@click.option("--runs", type=click.IntRange(1), default=1, help="Runs of each measure.")
@click.option("--warm-up", type=click.FloatRange(0), default=1.0, help="Seconds before a run.")
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
    seconds: float,
    runs: int,
    warm_up: float,
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
    lines: dict[str, list[Line]] = {column.name: [] for column in COLUMNS}
    versions: list[str] = []
    missing: list[str] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        step = progress.add_task("")

        def say(text: str) -> None:
            progress.reset(step, description=text)

        def measure(subject: Subject) -> None:
            named = msgspec.structs.replace(bench, say=lambda text: say(f"{subject.label}: {text}"))
            for column in COLUMNS:
                try:
                    lines[column.name].append(_measure(named, subject, column))
                except (LoadFailed, OSError) as error:
                    missing.append(f"{subject.label}, {column.name}: {error}")

        with _product(bench) as subject:
            measure(subject)
        for peer in chosen:
            say(f"{peer.title}: starting")
            try:
                with _peer(peer, bench, python) as (subject, version):
                    versions.append(
                        f"{peer.title}: {', '.join(filter(None, [version, peer.caveat]))}"
                    )
                    measure(subject)
            except ServiceMissing as error:
                missing.append(f"skipped {peer.title}: {error}")
            except (ServiceFailed, ProcessFailed) as error:
                missing.append(f"{peer.title} did not start: {error}")
    versions.append(_libraries(python))
    return [
        Result(
            column.name,
            column.conditions,
            lines[column.name],
            to_best(lines[column.name], column),
            versions if column is COLUMNS[-1] else [],
        )
        for column in COLUMNS
    ], missing


def to_best(lines: list[Line], column: Column) -> list[Indicator]:
    """How many times the best durable peer the product does."""
    ours = [line for line in lines if line.label == OURS]
    durable = {peer.title for peer in PEERS.values() if not peer.caveat}
    peers = [line for line in lines if line.label in durable]
    if not ours or not peers:
        return []
    best = max(peers, key=lambda line: median(line.per_s))
    name = f"{column.unit} to the best durable peer's"
    return [Indicator(name, share(ours[0].per_s, best.per_s), column.goal)]


def _measure(bench: Bench, subject: Subject, column: Column) -> Line:
    if column.name == "drain":
        return _drain(bench, subject, column)
    make, connections, factor = {
        "empty": (subject.pull_empty, 32, 1),
        "ingest-1": (lambda: subject.ingest(1), 64, 1),
        "ingest-100": (lambda: subject.ingest(100), 32, 100),
    }[column.name]
    line = Line(subject.label, column.unit)
    due = load.look(subject.running().address, make())
    for run in range(1, bench.runs + 1):
        what = Load([make()], connections)
        bench.warm_up(subject.running().address, what)
        text = f"{column.name}, run {run} of {bench.runs}"
        found = bench.watched(text, subject.running(), what, due.wire_bytes, subject.behind)
        line.add(*found, factor)
    return line


def _drain(bench: Bench, subject: Subject, column: Column) -> Line:
    """Pulls of full pages. How many have to be there is found by trying, with ever more.

    A run is shorter where laying records ready for a long one would take minutes.
    """
    line = Line(subject.label, column.unit)
    waiting, taken_per_s, filled_per_s = 0, float(FIRST_FILL), float(FIRST_FILL)
    while len(line.per_s) < bench.runs:
        affordable_s = FILL_S * filled_per_s / taken_per_s / SPARE
        run = msgspec.structs.replace(bench, seconds=max(1.0, min(bench.seconds, affordable_s)))
        wanted = round(taken_per_s * run.seconds * SPARE) + 64 * PAGE
        if wanted > 4 * FILL_S * filled_per_s:
            raise LoadFailed(f"laying {wanted:,} records ready, for a second, would take too long")
        if wanted > waiting:
            bench.say(f"drain, laying {wanted - waiting:,} records ready")
            begun = time.monotonic()
            subject.fill(wanted - waiting)
            filled_per_s = (wanted - waiting) / (time.monotonic() - begun)
        page_bytes = _full_page_bytes(subject)
        if not page_bytes:
            raise LoadFailed("no full page came, although there should be many")
        measured, usage = run.watched(
            f"drain, run {len(line.per_s) + 1} of {bench.runs}",
            subject.running(),
            Load([subject.pull()], connections=32),
            behind=subject.behind,
        )
        pages = measured.answer_bytes / page_bytes
        taken_per_s = max(taken_per_s, pages * PAGE / measured.seconds)
        if _full_page_bytes(subject):
            # Answers of a peer may be short although more waits: it is credited what they held.
            line.add(measured, usage, min(1.0, pages / measured.requests))
            waiting = wanted - round(pages + 3) * PAGE
        else:
            waiting, taken_per_s = 0, 2 * taken_per_s  # it ran dry
    return line


def _full_page_bytes(subject: Subject) -> int:
    """Size of a full answer, 0 when there is none.

    Where a broker hands records on, they may yet be on their way.
    """
    deadline = time.monotonic() + ARRIVE_S
    while time.monotonic() < deadline:
        answer = load.look(subject.running().address, subject.pull())
        if b'"count":%d,' % PAGE in answer.body[:100]:
            return answer.wire_bytes
        time.sleep(0.2)
    return 0


@contextlib.contextmanager
def _product(bench: Bench) -> Iterator[Subject]:
    with Product(bench.folder, applications=3) as product:
        product.serve()

        def running() -> Running:
            assert product.running is not None
            return product.running

        def fill(count: int) -> None:
            product.stop()
            product.fill(count, step=bench.done)
            product.serve()

        filled, fed, empty = product.sdkappids
        yield Subject(
            OURS,
            running,
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

            def fill(count: int) -> None:
                load.look(
                    running.address, Request(f"/fill/filled?count={count}", b""), timeout_s=1800
                )

            page = b'{"type":0,"max":%d}' % PAGE
            yield (
                Subject(
                    peer.title,
                    lambda: running,
                    service.pids,
                    lambda: Request("/pull/filled", page),
                    lambda: Request("/pull/empty", page),
                    lambda count: Request("/ingest/fed", as_array(count)),
                    fill,
                ),
                service.version,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _front(peer: Peer, service: Service, folder: Path, python: Path) -> Running:
    command = [str(python), "-m", "bench.peers.front", peer.front, peer.backend, service.address]
    return Running(command, folder / "front.log", cwd=CHECKOUT)


def _libraries(python: Path) -> str:
    names = "fastapi", "starlette", "uvicorn", "redis", "asyncpg", "aio-pika", "nats-py"
    program = (
        "from importlib.metadata import version;"
        f"print(', '.join(f'{{name}} {{version(name)}}' for name in {names!r}))"
    )
    ran = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


if __name__ == "__main__":
    end_on_term()
    main()
