"""Memory that the processes of a server share, as open files that have no name."""

from __future__ import annotations

import os


def make_shared(name: str, size: int) -> int:
    """Memory in which all is 0, as an open file that belongs to nobody else.

    Args:
        name: what a list of open files shows.
        size: in bytes.

    Raises:
        OSError: there is none, or not as much may be in a file.
    """
    descriptor = os.memfd_create(name)
    try:
        os.ftruncate(descriptor, size)
    except OSError as error:
        os.close(descriptor)
        raise OSError(
            error.errno,
            f"the server's processes cannot share memory, {size} bytes as a file: {error.strerror};"
            " see `ulimit -f`, or LimitFSIZE= of the unit",
        ) from error
    return descriptor
