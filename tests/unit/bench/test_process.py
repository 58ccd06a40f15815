import os
import subprocess
import sys

from bench.process import paused

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


def becomes(pid: int, what: int) -> None:
    """Wait until a child has stopped, or goes on."""
    assert os.waitid(os.P_PID, pid, what) is not None


def test_all_go_on_although_one_that_was_held_still_has_ended() -> None:
    """A database has processes that come and go; else the rest of it would stand still for good."""
    with subprocess.Popen(SLEEPS) as one, subprocess.Popen(SLEEPS) as other:
        try:
            with paused(one.pid, other.pid):
                becomes(one.pid, os.WSTOPPED)
                other.kill()
                other.wait()
            becomes(one.pid, os.WCONTINUED)
            with paused(other.pid, one.pid):
                becomes(one.pid, os.WSTOPPED)
            becomes(one.pid, os.WCONTINUED)
        finally:
            one.kill()
            other.kill()
