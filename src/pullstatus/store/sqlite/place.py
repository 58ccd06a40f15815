"""Is this a place where a store may live, and is it free? Asked before SQLite touches the file."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import IO, Self

from pullstatus import limits
from pullstatus.errors import StoreRefused

# Their locks or their shared memory do not do what a write-ahead log needs.
NETWORK_FILE_SYSTEMS = frozenset(
    [
        "9p",
        "afs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.ceph",
        "fuse.cephfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "smb3",
        "smbfs",
    ]
)


def check_folder(path: Path, mounts: str | None = None) -> None:
    """Refuse a folder that is absent or lies on a network file system.

    `mounts` is the text of /proc/self/mountinfo; read from there when not given.

    Raises:
        StoreRefused: saying which folder, and what to do.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise StoreRefused(f"the folder {folder} does not exist; make it, or name another file")
    if path.is_dir():
        raise StoreRefused(f"{path} is a folder; name a file in it")
    if not os.access(folder, os.W_OK):
        raise StoreRefused(f"the folder {folder} cannot be written by this user")
    if mounts is None:
        try:
            # As bytes of file names become text everywhere else.
            mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
        except OSError:
            return  # not Linux: nobody to ask
    kind = file_system(folder.resolve(), mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreRefused(
            f"the folder {folder} lies on a network file system ({kind}), where commits can be"
            " lost; put the store on a local disk"
        )


def file_system(folder: Path, mounts: str) -> str:
    """The type of the file system that holds `folder`, by the text of /proc/self/mountinfo."""
    found, kind = "", ""
    for line in filter(None, mounts.split("\n")):
        left, _, right = line.partition(" - ")
        # The mount point is the fifth field; blanks in it are written as \040.
        point = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), left.split(" ")[4])
        if (point == "/" or f"{folder}/".startswith(f"{point}/")) and len(point) >= len(found):
            found, kind = point, right.split(" ")[0]
    return kind


_OCTAL = re.compile(r"\\([0-7]{3})")


def has_room(path: Path) -> bool:
    """Whether more entries may be stored: pulls need some room too, and come first."""
    try:
        free = os.statvfs(path.parent)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize >= limits.STORE_RESERVE_BYTES


class ServerLock:
    """Held by the one process that serves a store; the kernel lets go of it however that ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock beside the file at `path`.

        Raises:
            StoreRefused: another process serves this store.
        """
        # Beside the store, never on it: closing any handle of a file drops SQLite's locks on it.
        lock = path.with_name(f"{path.name}-server")
        try:
            lock.touch(mode=0o600)
            self._file: IO[str] = lock.open("a+", encoding="utf-8")
        except OSError as error:
            raise StoreRefused(f"{lock} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise StoreRefused(
                f"another server (process {holder}) already serves {path};"
                " stop it first, or name another store"
            ) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def fileno(self) -> int:
        """The descriptor that holds the lock; a process that inherits it holds it too."""
        return self._file.fileno()

    def release(self) -> None:
        """Let another process serve the store."""
        self._file.close()
