"""A server as a process: started, asked for its address, watched, ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")
TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_S = 0.25


class ProcessFailed(Exception):
    """A server did not start, or ended by itself."""


class Usage(msgspec.Struct, frozen=True):
    """What a process and its children used over a while.

    Attributes:
        processor_s: processor time, in the kernel and outside.
        behind_s: that part of it which others than the first process, and its children, used.
        cores: the same per second.
        other_cores: the same of everything on this machine that the bench did not start.
        memory_mib: resident, the largest seen.
        memory_third_mib, memory_last_mib: after a third of the while, and at its end.
        written_mib, read_mib: handed to and fetched from the disk.
    """

    processor_s: float
    cores: float
    other_cores: float
    memory_mib: float
    memory_third_mib: float
    memory_last_mib: float
    written_mib: float
    read_mib: float
    behind_s: float = 0.0


class Running:
    """A server that printed where it listens. Leaving the context ends it."""

    def __init__(
        self,
        command: Sequence[str],
        errors: Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it and wait for the line with its address.

        Args:
            errors: file that takes its standard error.
            environment: instead of this program's own.

        Raises:
            ProcessFailed: it ended before it printed one; what it said is in the text.
        """
        with errors.open("ab") as stream:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stream, text=True, cwd=cwd, env=environment
            )
        assert self.process.stdout is not None
        self.port = 0
        for line in self.process.stdout:
            found = ADDRESS.search(line)
            if found:
                self.port = int(found[1])
                return
        self.process.wait()
        said = errors.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
        raise ProcessFailed(f"{command[0]} ended with {self.process.returncode}: {said}")

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def paused(*pids: int) -> Iterator[None]:
    """Hold processes and their children still: what they do in the background costs others.

    They go on in the opposite order: what works for others comes last, and is there before them.
    """
    family = _families(pids)
    try:
        for each in family:
            _signal(each, signal.SIGSTOP)
        yield
    finally:
        for each in reversed(family):
            _signal(each, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    """To one that may have ended meanwhile: a database has processes that come and go."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def end_on_term() -> None:
    """Let TERM unwind this program as Ctrl-C does, so that the servers it started end with it."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """End what is done if it takes longer.

    Raises:
        TimeoutError: it did.
    """

    def overdue(_number: int, _frame: object) -> None:
        raise TimeoutError(f"it took longer than {seconds:.0f} s")

    signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Watch:
    """Counts what processes and their children use while open; `usage` is there afterwards."""

    usage: Usage

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._done = threading.Event()
        self._memory: list[float] = []
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._before = _spent(self._pids)
        self._behind_before = _spent(self._pids[1:])[0]
        self._others_before = _others_spent()
        self._began = _now()
        self._sampler.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._sampler.join()
        seconds = _now() - self._began
        after = _spent(self._pids)
        behind_after = _spent(self._pids[1:])[0]
        others_after = _others_spent()
        self._memory.append(memory_mib(*self._pids))
        self.usage = Usage(
            processor_s=after[0] - self._before[0],
            cores=(after[0] - self._before[0]) / seconds,
            other_cores=max(0.0, others_after - self._others_before) / seconds,
            memory_mib=max(self._memory),
            memory_third_mib=self._memory[len(self._memory) // 3],
            memory_last_mib=self._memory[-1],
            written_mib=(after[1] - self._before[1]) / 2**20,
            read_mib=(after[2] - self._before[2]) / 2**20,
            behind_s=behind_after - self._behind_before,
        )

    def _sample(self) -> None:
        while True:
            self._memory.append(memory_mib(*self._pids))
            if self._done.wait(SAMPLE_S):
                return


def memory_mib(*pids: int) -> float:
    """Resident memory of processes and their children, in MiB."""
    total = 0
    for each in _families(pids):
        with contextlib.suppress(OSError):
            pages = Path(f"/proc/{each}/statm").read_text(encoding="ascii").split()[1]
            total += int(pages) * os.sysconf("SC_PAGE_SIZE")
    return total / 2**20


def cpu_seconds(stat: str) -> float:
    """Processor time so far by the text of /proc/PID/stat; the name in it may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def process_cpu_seconds(pid: int) -> float:
    """Processor time so far of one process, without those it has started."""
    return cpu_seconds(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8"))


def family_cpu_seconds(pid: int) -> float:
    """Processor time so far of a process and all it started, those that have ended included."""
    total = 0.0
    for each in _families([pid]):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{each}/stat").read_text(encoding="utf-8")
            fields = stat.rpartition(")")[2].split()
            # Its own, and that of its children which have ended and were waited for.
            total += sum(map(int, fields[11:15])) / TICKS
    return total


def machine_cpu_seconds(stat: str) -> float:
    """Processor time of all processes so far by the text of /proc/stat, without interrupts."""
    _, user, nice, system, *_ = stat.split("\n", 1)[0].split()
    return (int(user) + int(nice) + int(system)) / TICKS


def disk_bytes(io: str) -> tuple[int, int]:
    """Bytes written to and read from the disk so far, by the text of /proc/PID/io."""
    fields = dict(line.split(": ") for line in io.splitlines())
    return int(fields["write_bytes"]), int(fields["read_bytes"])


def _families(pids: Sequence[int]) -> list[int]:
    found = list(pids)
    for each in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                children = (task / "children").read_text(encoding="ascii")
                found += [int(child) for child in children.split()]
    return found


def _spent(pids: Sequence[int]) -> tuple[float, int, int]:
    seconds, written, read = 0.0, 0, 0
    for each in _families(pids):
        with contextlib.suppress(OSError):
            place = Path(f"/proc/{each}")
            seconds += cpu_seconds((place / "stat").read_text(encoding="utf-8"))
            wrote, fetched = disk_bytes((place / "io").read_text(encoding="ascii"))
            written, read = written + wrote, read + fetched
    return seconds, written, read


def _others_spent() -> float:
    whole = machine_cpu_seconds(Path("/proc/stat").read_text(encoding="ascii"))
    return whole - family_cpu_seconds(os.getpid())


def _now() -> float:
    return os.times().elapsed
