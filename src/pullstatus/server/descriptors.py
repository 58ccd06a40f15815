"""How many files this process may have open: each connection is one."""

from __future__ import annotations

import errno
import resource

from pullstatus import limits


def raise_limit() -> None:
    """Ask for as many as the server has use for, if the system lets us have them."""
    wanted = limits.CONNECTIONS_MAX + limits.CONNECTIONS_RESERVED + limits.DESCRIPTORS_KEPT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def check_limit() -> None:
    """Refuse a limit that the server needs for itself; the event loop's library aborts at some.

    Raises:
        OSError: it is so low.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < limits.DESCRIPTORS_KEPT:
        raise OSError(
            errno.EMFILE,
            f"{soft} open files are too few: a server has use for {limits.DESCRIPTORS_KEPT}"
            " besides its connections",
        )


def connections_max() -> int:
    """How many connections there may be, below the limit and what else needs a file."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits.CONNECTIONS_MAX
    room = soft - limits.DESCRIPTORS_KEPT - limits.CONNECTIONS_RESERVED
    return max(1, min(limits.CONNECTIONS_MAX, room))
