"""Where a request's processor time goes: how much by the kernel's count, for what by samples.

Each load is run twice. First undisturbed, and the processor time of the server's process and of the
store's is counted. Then with py-spy beside, which stops a process a hundred times a second to read
its stack, Python's frames and those of libraries: of that run only the shares are taken. So what
sampling costs is in neither. What waits takes no processor; the waits for the log's sync are told
apart, in time.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.layers import Layer, Waiting, layer_of, of_store_process
from bench.measure import Bench
from bench.process import ProcessFailed, Running, family_cpu_seconds, process_cpu_seconds
from bench.records import as_array
from bench.results import Result, Split
from bench.scenarios import Scenario, page_pulls
from bench.server import PAGE, Product, ingest_request
from pullstatus.cli import load
from pullstatus.cli.load import Load

SAMPLER = Path(__file__).parents[1] / ".venv-profile" / "bin" / "py-spy"
HZ = 100
PROFILE_S = 6
ENOUGH = 400  # samples of what is no waiting; on a busy machine it takes several runs to have them
RUNS_MAX = 5
LEAST = 50  # without which shares mean nothing


class Spent(NamedTuple):
    """Microseconds of processor for a request, of the server's process and of the store's."""

    server: float
    store: float


def _measure(bench: Bench, scenario: Scenario) -> Result:
    long = msgspec.structs.replace(bench, seconds=bench.scaled(PROFILE_S), runs=2)
    splits = []
    for label, count in (
        ("empty pull", -1),
        (f"page of {PAGE}", 0),
        ("post of 1", 1),
        (f"post of {PAGE}", PAGE),
    ):
        with Product(bench.folder) as product:
            splits.append(_split(long, product, label, count))
    return Result(scenario.name, scenario.conditions, [], [], splits=splits)


def _split(bench: Bench, product: Product, label: str, count: int) -> Split:
    """Of posts of so many records; 0: of pages; -1: of pulls that find nothing."""
    ready = bench.keep_ready(product, page_pulls, 0) if count == 0 else product.serve
    ready()
    what = page_pulls()
    if count > 0:
        request = ingest_request(product.token, count, body=as_array(count))
        what = Load([request], connections=64 if count == 1 else 32)
    bench.warm_up(product.address, what)
    bench.say(f"{label}, counted")
    pid = product.server().pid
    before = process_cpu_seconds(pid), family_cpu_seconds(pid)
    counted = load.run(product.address, what, bench.seconds)
    server_s, all_s = process_cpu_seconds(pid) - before[0], family_cpu_seconds(pid) - before[1]
    each = 1e6 / counted.requests
    spent = Spent(server_s * each, (all_s - server_s) * each)
    found: Counter[tuple[bool, Layer | Waiting]] = Counter()
    requests = 0
    for run in range(1, RUNS_MAX + 1):
        if count == 0:
            ready()
        bench.say(f"{label}, sampled, run {run}")
        with _sampled(product.server(), product.folder / "stacks") as file:
            requests += load.run(product.address, what, bench.seconds).requests
        found += _read(file.read_text(encoding="utf-8"))
        if _enough(found, spent):
            break
    waited_s = found[True, Waiting.SYNC] / HZ
    return Split(
        label,
        spent.server,
        spent.store,
        {layer.name.lower(): us for layer, us in shared_out(spent, found).items()},
        waited_s / requests * 1e6,
    )


@contextlib.contextmanager
def _sampled(running: Running, file: Path) -> Iterator[Path]:
    """Sample a server and its children until the block ends; the file is there then."""
    if not SAMPLER.exists():
        raise ProcessFailed(f"there is no {SAMPLER}: `make bench` installs it")
    command = [str(SAMPLER), "record", "--pid", str(running.pid), "--rate", str(HZ), "--native"]
    command += ["--subprocesses", "--format", "raw", "--output", str(file), "--duration", "3600"]
    file.unlink(missing_ok=True)
    sampler = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert sampler.stdout is not None
        for line in sampler.stdout:
            if "Sampling process" in line:
                break
        yield file
        sampler.send_signal(signal.SIGINT)
        said, _ = sampler.communicate(timeout=120)
        if not file.exists():
            raise ProcessFailed(f"py-spy: {said.strip()[-500:] or 'nothing was sampled'}")
    finally:
        sampler.kill()
        sampler.communicate()


def _read(stacks: str) -> Counter[tuple[bool, Layer | Waiting]]:
    """Samples by whether they are the store process's, and by layer."""
    found: Counter[tuple[bool, Layer | Waiting]] = Counter()
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        stack = frames.split(";")
        found[of_store_process(stack), layer_of(stack)] += int(count)
    return found


def _enough(samples: Counter[tuple[bool, Layer | Waiting]], spent: Spent) -> bool:
    """Whether there are as many as are due of each process, by what it spends."""
    working: Counter[bool] = Counter()
    for (storing, layer), count in samples.items():
        working[storing] += count if isinstance(layer, Layer) else 0
    whole = spent.server + spent.store
    return all(
        working[storing] >= ENOUGH * its / whole
        for storing, its in ((False, spent.server), (True, spent.store))
    )


def shared_out(
    spent: Spent, samples: Mapping[tuple[bool, Layer | Waiting], int]
) -> dict[Layer, float]:
    """Microseconds of a request by layer: of each process what was counted, by its samples.

    Raises:
        ProcessFailed: there are too few of them.
    """
    us = dict.fromkeys(Layer, 0.0)
    for storing, whole in ((False, spent.server), (True, spent.store)):
        its = {
            layer: count
            for (where, layer), count in samples.items()
            if where is storing and isinstance(layer, Layer)
        }
        total = sum(its.values())
        if not storing and total < LEAST:
            raise ProcessFailed(f"only {total} samples were taken; sample for longer")
        for layer, count in its.items():
            us[layer] += whole * count / total
    return us


SCENARIO = Scenario(
    "split", "where processor time goes: a pull, a page, a post, a batch", _measure, 3.0
)
