"""What a process does first that a server has started for its own work: the store's, a worker's."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator

_PR_SET_PDEATHSIG = 1  # prctl(2)

FOR_THE_SERVER = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGXCPU,
    # Of Linux alone.
    *(getattr(signal, name) for name in ("SIGPWR", "SIGSTKFLT") if hasattr(signal, name)),
    *(range(signal.SIGRTMIN, signal.SIGRTMAX + 1) if hasattr(signal, "SIGRTMIN") else ()),
)
"""All that end a process which does not hear them, but those that tell of a fault of its own or ask
for its memory (such as SEGV and QUIT), KILL, and PIPE and XFSZ, which Python ignores."""


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Start a process within this: what it hears from its first moment on waits for its `begin`.

    Else a signal for all of a group, which comes while the interpreter starts, would end it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_SERVER)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin(parent: int) -> None:
    """Hear no signals that are for the server, and be killed when it ends, however it does.

    They are sent to all of a group or a terminal. The server does what is due, and ends us when it
    ends. It is told that our processor time is used up, which only we are.

    Args:
        parent: the process that started this one; without it there is nothing to do here.
    """

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(OSError):
            os.kill(parent, number)

    for due in FOR_THE_SERVER:
        signal.signal(due, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_THE_SERVER)  # what waits is ignored, too
    with contextlib.suppress(AttributeError):  # not Linux: the end of the socket will do
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
