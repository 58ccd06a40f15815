"""How long a process was at work: more of it the more it does, whoever tells."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pullstatus.server import pressure
from tests.harness import PATIENCE_S


@pytest.mark.parametrize("told", [None, "nothing of the kind"])
def test_work_is_told_with_a_scheduler_or_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str | None
) -> None:
    if told is not None:
        (tmp_path / "schedstat").write_text(told, encoding="ascii")
        monkeypatch.setattr(pressure, "_SCHEDULER", tmp_path / "schedstat")
    before_s = pressure.at_work_s()
    assert before_s > 0
    for _ in range(10**6):
        pass
    assert pressure.at_work_s() > before_s


def test_waiting_for_a_processor_is_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "schedstat").write_text("3000000000 500000000 12\n", encoding="ascii")
    monkeypatch.setattr(pressure, "_SCHEDULER", tmp_path / "schedstat")
    before_s = time.process_time()
    assert before_s + 0.5 <= pressure.at_work_s() <= time.process_time() + 0.5


def test_work_of_another_process_is_told_of_all_its_threads() -> None:
    work = "import threading, time\nprint(flush=True)\nthreading.Thread(target=work).start()\n"
    spin = "def work():\n    while True: pass\n"
    with subprocess.Popen([sys.executable, "-c", spin + work], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            before_s = pressure.at_work_of_s(other.pid)
            until_s = time.monotonic() + PATIENCE_S
            while pressure.at_work_of_s(other.pid) < before_s + 0.05:
                assert time.monotonic() < until_s
                time.sleep(0.01)
        finally:
            other.kill()
    assert pressure.at_work_of_s(other.pid) == 0  # it is no more


def test_work_of_other_threads_is_work() -> None:
    """Over other engines than files, they read answers and make entries of them."""
    before_s, began_s = pressure.at_work_s(), time.thread_time()
    working = threading.Thread(target=lambda: sum(range(10**7)))
    working.start()
    working.join()
    own_s = time.thread_time() - began_s
    assert pressure.at_work_s() - before_s > own_s + 0.02
