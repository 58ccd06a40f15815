import os
import platform
import subprocess
import sys

from bench.machine import cpu_model
from bench.process import (
    TICKS,
    cpu_seconds,
    disk_bytes,
    family_cpu_seconds,
    machine_cpu_seconds,
)

BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_cpu_model_is_the_first_named() -> None:
    assert (
        cpu_model("processor\t: 0\nmodel name\t: AMD  EPYC\n\nmodel name\t: other\n") == "AMD EPYC"
    )


def test_cpu_model_falls_back_on_the_architecture() -> None:
    assert cpu_model("BogoMIPS : 48.00\n") == platform.machine()


def test_cpu_seconds_of_a_process_whatever_its_name() -> None:
    fields = "S 1 2 3 4 5 6 7 8 9 10 700 300 0 0 20"
    assert cpu_seconds(f"42 (a) b (c) {fields}") == 1000 / TICKS


def test_machine_cpu_seconds_leave_idle_and_interrupts_out() -> None:
    assert machine_cpu_seconds("cpu  100 10 90 5000 30 20 10 0\ncpu0 1 2 3\n") == 200 / TICKS


def test_disk_bytes_are_those_of_the_disk_not_of_calls() -> None:
    assert disk_bytes("rchar: 9\nwchar: 8\nread_bytes: 4096\nwrite_bytes: 8192\n") == (8192, 4096)


def test_what_the_bench_started_is_not_others_even_when_it_has_ended() -> None:
    """A load generator, or a second server: else they would be told as other programs."""
    before = family_cpu_seconds(os.getpid())
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}], check=True)"
    with subprocess.Popen([sys.executable, "-c", child]) as running:
        running.wait()
    assert family_cpu_seconds(os.getpid()) - before >= 0.3 - 2 / TICKS
