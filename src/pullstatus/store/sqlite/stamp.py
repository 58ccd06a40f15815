"""A stamp by which a server knows at once that another door to its store has committed.

A server answers a pull of an empty mailbox from memory. That is right only as long as nobody else
has appended since. So whoever commits through another door writes random bytes into the file of the
server's lock, after the commit and before its verb returns:

    another door   commit             write the stamp        answer
    store's side   read the stamp     begin, see commits     report it
    server         read the stamp     as reported? then what is in memory is how it stands

A door that is killed before it writes has answered nobody. The bytes need not be durable: the next
server reads the mailboxes anew.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pullstatus.errors import OutcomeUnknown, StoreRefused

HOLDER_BYTES = 32  # before the stamp: which process holds the lock
STAMP_BYTES = 8  # random: as many as no two are ever the same


def lock_file(path: Path) -> Path:
    """The file of the server's lock, which holds the stamp, beside the store at `path`."""
    return path.with_name(f"{path.name}-server")


def read_stamp(descriptor: int) -> bytes:
    """The stamp as it is now, by an open file; empty if nobody wrote one since the server began."""
    try:
        return os.pread(descriptor, STAMP_BYTES, HOLDER_BYTES)
    except OSError:
        return os.urandom(STAMP_BYTES)  # like no other: whoever asks looks into the store


class StampReader:
    """Reads the stamp for a worker of the server, which holds no lock of its own."""

    def __init__(self, path: Path) -> None:
        """For the store at `path`, which a server serves.

        Raises:
            StoreRefused: the stamp could not be read.
        """
        self._descriptor = _open_to_read(lock_file(path))

    def stamp(self) -> bytes:
        """See `read_stamp`."""
        return read_stamp(self._descriptor)

    def release(self) -> None:
        """Close the file. To be called once."""
        os.close(self._descriptor)


class Stamp:
    """The stamp of one store, for its server or for another door."""

    def __init__(self, path: Path, *, server: bool) -> None:
        """For the store at `path`.

        Args:
            server: it reads the stamp, and holds the lock; else this is a door that writes it.

        Raises:
            StoreRefused: the stamp could not be read or written.
        """
        self._file = lock_file(path)
        self._descriptor: int | None = None
        if server:
            self._descriptor = _open_to_read(self._file)
        elif self._file.exists() and not os.access(self._file, os.W_OK):
            raise StoreRefused(f"{self._file} cannot be written by this user")

    def read(self) -> bytes:
        """See `read_stamp`; a door has no use for it."""
        return b"" if self._descriptor is None else read_stamp(self._descriptor)

    def renew(self) -> None:
        """Tell the server, if there is one, that another door has committed.

        Raises:
            OutcomeUnknown: it can't be told, so it may answer for a moment as if nobody had.
        """
        if self._descriptor is not None:
            return
        try:
            with contextlib.suppress(FileNotFoundError):  # one that begins later reads it all
                self._write()
        except OSError as error:
            raise OutcomeUnknown(f"{self._file} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Release the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self) -> None:
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            found = os.fstat(descriptor)
            os.pwrite(descriptor, os.urandom(STAMP_BYTES), HOLDER_BYTES)
            # Its time tells when the lock was taken.
            os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(descriptor)


def _open_to_read(file: Path) -> int:
    try:
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise StoreRefused(f"{file} cannot be read: {error.strerror}") from error
