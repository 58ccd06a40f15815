"""A server ends with whoever has started it, however that ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness import PATIENCE_S, ROOT, clean_environment
from tools import postgresql

STARTS = """
from tools.postgresql import PostgreSQL

with PostgreSQL() as server:
    print(server.folder, server._process.pid, flush=True)
    input()
"""


def test_a_server_does_not_outlive_who_started_it() -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTS],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    folder, pid = starter.stdout.readline().split()
    assert Path(folder, "data").is_dir()
    starter.kill()
    starter.communicate()
    due_s = time.monotonic() + PATIENCE_S
    while Path(folder).exists() or Path(f"/proc/{pid}").exists():
        assert time.monotonic() < due_s
        time.sleep(0.05)


HOLDS = """
from tools.postgresql import free_port

print(free_port(), flush=True)
input()
"""


def test_a_port_is_nobody_elses_while_who_asked_for_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not in another run either, though nobody listens there yet."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        monkeypatch.setattr(postgresql, "PORTS", [port] * 100)
        with pytest.raises(RuntimeError, match="no port is free"):
            postgresql.free_port()
        holder.kill()
    assert postgresql.free_port() == port
