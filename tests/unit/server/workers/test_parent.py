"""What a server with workers knows of itself."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from pullstatus.server.serve import Server
from pullstatus.server.workers import parent


@pytest.mark.parametrize(("cores", "share"), [(1, 1), (2, 2), (64, 3)])
def test_it_is_as_busy_as_its_workers_are(
    monkeypatch: pytest.MonkeyPatch, cores: int, share: int
) -> None:
    """Else its follower would run at full speed beside workers that have none left for it."""
    worked_s = {11: 1.0, 12: 2.0, 13: 6.0}
    monkeypatch.setattr(parent, "at_work_of_s", worked_s.__getitem__)
    monkeypatch.setattr(Server, "at_work_s", lambda _server: 0.5)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: range(cores))
    server: Any = parent.Parent.__new__(parent.Parent)
    server._of_all = SimpleNamespace(fleet=SimpleNamespace(processes=[*worked_s]))
    assert server.at_work_s() == 0.5 + 9.0 / share
    server._of_all.fleet.processes = []
    assert server.at_work_s() == 0.5
