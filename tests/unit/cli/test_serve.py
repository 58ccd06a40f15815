"""`pullstatus serve` as a process: it ends when it says, whatever holds it up."""

import subprocess
import sys
from pathlib import Path

import pytest

HELD_UP = """
import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pullstatus import limits
from pullstatus.cli import serve
from pullstatus.server.serve import ServeOptions, Server

limits.DRAIN_DEADLINE_S = 0.1
server = Server(ServeOptions("sqlite:///" + {store!r}, port=0))
server.failure = {failure}
server.on_overdue = lambda: serve.end(server)
asyncio.run(server.run(on_ready=lambda _: server.stop()))
ThreadPoolExecutor().submit(time.sleep, 600)  # the interpreter waits for it at its end
"""


@pytest.mark.parametrize(("failure", "status"), [("None", 0), ("OSError()", 70)])
def test_end_waits_for_no_thread(tmp_path: Path, failure: str, status: int) -> None:
    """As one that a disk does not let go of."""
    done = subprocess.run(
        [sys.executable, "-c", HELD_UP.format(failure=failure, store=str(tmp_path / "some.db"))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status
    assert "work unfinished" in done.stdout + done.stderr
