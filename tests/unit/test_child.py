"""Processes of a server hear no signals that are for the server, from their first moment on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pullstatus import child

PROGRAM = """
import os, sys
print("started", flush=True)
sys.stdin.readline()
from pullstatus import child
child.begin(os.getppid())
print("begun", flush=True)
sys.stdin.readline()
"""
HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@pytest.mark.anew
def test_signals_that_come_before_and_behind_its_beginning_are_for_the_server() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with child.unheard():
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("started", "begun"):
            assert process.stdout.readline().strip() == word
            for number in HEARD:
                process.send_signal(number)
            process.stdin.write("\n")
            process.stdin.flush()
    assert process.returncode == 0


def test_nothing_waits_once_it_has_begun() -> None:
    """Else what it starts itself would be deaf."""
    number = os.fork()
    if not number:
        try:
            with child.unheard():
                child.begin(os.getppid())
                left = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            os._exit(len(left))
        finally:
            os._exit(99)
    _, status = os.waitpid(number, 0)
    assert os.waitstatus_to_exitcode(status) == 0
