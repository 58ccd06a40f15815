"""Files that an operator names, read whole: within a bound, and not for ever.

A name may stand for anything: `/dev/zero`, or a pipe, as `<(...)` of a shell makes one, whose
other end nobody may hold.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

WAIT_S: Final = 30.0  # for whoever writes into a pipe: as for a command that prints a master key


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file to read from, without waiting for anybody, and close it afterwards.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise OSError(errno.EINVAL, "its name holds a NUL") from error
    try:
        yield handle
    finally:
        os.close(handle)


def read(handle: int, most: int) -> bytes:
    """All that is in an opened file; of a pipe, once whoever writes has closed it.

    Raises:
        OSError: it cannot be read, holds more than `most` bytes, or is not written to its end in
            time.
    """
    until_s = time.monotonic() + WAIT_S
    looks = select.poll()
    looks.register(handle, select.POLLIN)
    found = bytearray()
    while looks.poll(max(0.0, until_s - time.monotonic()) * 1000):
        piece = os.read(handle, most + 1 - len(found))
        if not piece:
            return bytes(found)
        found += piece
        if len(found) > most:
            raise OSError(errno.EFBIG, f"it holds more than {most} bytes")
    raise TimeoutError(errno.ETIMEDOUT, f"nobody wrote it to its end in {WAIT_S:.0f} s")


def read_whole(path: Path, most: int) -> bytes:
    """All that is in a file; see `opened` and `read`."""
    with opened(path) as handle:
        return read(handle, most)


def check_ordinary(path: Path, most: int) -> None:
    """Refuse what cannot be read again and again, by whichever library.

    Raises:
        OSError: it is not there, no ordinary file, or holds more than `most` bytes.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file")
    if found.st_size > most:
        raise OSError(errno.EFBIG, f"it holds more than {most} bytes")
