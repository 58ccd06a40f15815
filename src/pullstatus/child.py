"""What a process does first that a server has started for its own work: the store's, a worker's."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)

# Sent to all of a group or a terminal; the server does what is due, and ends us when it ends.
_FOR_THE_SERVER = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)


def begin(parent: int) -> None:
    """Hear no signals that are for the server, and be killed when it ends, however it does.

    Args:
        parent: the process that started this one; without it there is nothing to do here.
    """
    for due in _FOR_THE_SERVER:
        signal.signal(due, signal.SIG_IGN)
    with contextlib.suppress(AttributeError):  # not Linux: the end of the socket will do
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
