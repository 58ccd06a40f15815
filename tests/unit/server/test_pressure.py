"""How long a process was at work: more of it the more it does, whoever tells."""

import threading
import time
from pathlib import Path

import pytest

from pullstatus.server import pressure


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


def test_work_of_other_threads_is_work() -> None:
    """Over other engines than files, they read answers and make entries of them."""
    before_s, began_s = pressure.at_work_s(), time.thread_time()
    working = threading.Thread(target=lambda: sum(range(10**7)))
    working.start()
    working.join()
    own_s = time.thread_time() - began_s
    assert pressure.at_work_s() - before_s > own_s + 0.02
