"""Is this a place where a store may live, and is it free? Asked before SQLite touches the file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Final, Self

import apsw

from pullstatus import limits
from pullstatus.errors import StoreRefused
from pullstatus.modes import trouble_of
from pullstatus.mounts import Mount, mount_of, mounted_alone, parse_mounts, read_mounts
from pullstatus.store.sqlite.stamp import HOLDER_BYTES, lock_file, read_stamp

KNOWN_FILE_SYSTEMS = frozenset(
    [
        "bcachefs",
        "btrfs",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "jfs",
        "nilfs2",
        "overlay",
        "ramfs",
        "reiserfs",
        "rootfs",
        "tmpfs",
        "xfs",
        "zfs",
    ]
)
"""Those of one kernel, on its own memory or disk: one writer's locks and shared memory hold for all
processes, and what was synced is on the disk. Whatever has a network, a hypervisor or a program of
its own behind it (nfs, cifs, 9p, virtiofs, fuse) promises that by its configuration, if at all."""

MAKING_S = 30.0  # how long a store may take to make, on a machine with much else to do
LOOK_S = 0.02
TAKEN_S, TAKEN_MAX = 0.02, 100  # between two tries at a lock that somebody has, and how many

FILES = ("", "-wal", "-shm", "-journal", "-server")
"""What a store's files are called behind the name of the first."""


def check_place(path: Path, *, any_file_system: bool = False, mounts: str | None = None) -> None:
    """Refuse a place where commits could be lost, or where a file would have more than one name.

    Args:
        path: of the store's file, without links in it; the file need not be there.
        any_file_system: do not ask which one it is.
        mounts: the text of /proc/self/mountinfo; read from there when not given.

    Raises:
        StoreRefused: saying what is wrong with the place, and what to do.
    """
    check_folder(path)
    _check_no_folder(path)
    folder = path.absolute().parent
    if not os.access(folder, os.W_OK):
        raise StoreRefused(f"the folder {folder} cannot be written by this user")
    for suffix in FILES:
        _check_one_name(path.with_name(path.name + suffix))
    mounts = read_mounts() if mounts is None else mounts
    if mounts is None:
        return
    found = parse_mounts(mounts)
    _check_not_mounted(path, found)
    if not any_file_system:
        _check_file_system(folder, mount_of(folder.resolve(), found))


def check_folder(path: Path) -> None:
    """Refuse a file in a folder that does not exist.

    Raises:
        StoreRefused: it is such a one.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise StoreRefused(f"the folder {folder} does not exist; make it, or name another file")


def _check_no_folder(path: Path) -> None:
    if path.is_dir():
        raise StoreRefused(f"{path} is a folder; name a file in it")


def _check_one_name(file: Path) -> None:
    try:
        found = file.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreRefused(f"{file} cannot be looked at: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise StoreRefused(
            f"{file} is no ordinary file, but a store's files lie beside each other in one folder;"
            " put them there, or name another file"
        )
    if found.st_nlink > 1:
        raise StoreRefused(
            f"{file} has {found.st_nlink} names (hard links): by another one it would be a store"
            f" without its log; remove the others (find them with: find / -inum {found.st_ino}),"
            " or restore a backup to a new name"
        )


def _check_not_mounted(path: Path, mounts: list[Mount]) -> None:
    """A file that is mounted by itself has another name, in another folder, without the log."""
    alone = mounted_alone((path.with_name(path.name + suffix) for suffix in FILES), mounts)
    if alone is not None:
        raise StoreRefused(
            f"{alone} is mounted by itself, so the store's other files would stay behind, and the"
            " newest commits in them; mount the folder it lies in"
        )


def _check_file_system(folder: Path, mount: Mount | None) -> None:
    advice = (
        "put the store on a local disk (ext4, xfs, btrfs, zfs and the like), or, if you know that"
        " locks, shared memory and syncs work there as on one, write ?file-system=any behind the"
        " store's URL"
    )
    if mount is None:
        raise StoreRefused(
            f"/proc/self/mountinfo does not say which file system the folder {folder} lies on,"
            f" and on some of them commits can be lost; {advice}"
        )
    if mount.kind not in KNOWN_FILE_SYSTEMS:
        raise StoreRefused(
            f"the folder {folder} lies on a file system ({mount.kind}) that is not known to keep"
            f" what was committed: on network and shared ones commits can be lost; {advice}"
        )
    if mount.kind == "overlay" and "volatile" in mount.options:
        raise StoreRefused(
            f"the folder {folder} lies on an overlay that was mounted as volatile, which syncs"
            f" nothing; {advice}"
        )


def holds_nothing(path: Path) -> bool:
    """Whether there is no file, or an empty one as something that only wants a name makes it."""
    try:
        return path.stat().st_size == 0
    except OSError:
        return True


def check_own_name(path: Path) -> None:
    """Refuse to make a file that would pass for a part of another one, as for its journal.

    Raises:
        StoreRefused: saying whose.
    """
    for suffix in filter(path.name.endswith, FILES[1:]):
        whole = Path(str(path).removesuffix(suffix))
        if whole.is_file():
            raise StoreRefused(f"{path} would be taken for a part of {whole}; name another file")


def check_there(path: Path) -> None:
    """Refuse to look for a store where there is none.

    Raises:
        StoreRefused: saying how another one is named, or why nobody can tell.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        size = 0
    except OSError as error:
        raise StoreRefused(f"{path} cannot be looked at: {error.strerror}") from error
    _check_no_folder(path)
    if not size:
        raise StoreRefused(
            f"there is no store at {path}; name the one that is meant with --store,"
            " PULLSTATUS_STORE or store in the configuration file"
        )


def check_no_log(path: Path) -> None:
    """Refuse to make a file beside the log of another: opened together they would be mixed.

    Raises:
        StoreRefused: saying what is left of it.
    """
    for suffix in ("-wal", "-journal"):
        log = path.with_name(path.name + suffix)
        if not holds_nothing(log):
            raise StoreRefused(
                f"{path} {_is_gone(path)}, but its log {log} is there, and may hold records: put"
                " the file back, or move the log elsewhere"
            )


def is_full(error: Exception) -> bool:
    """Whether an error of SQLite says that a disk has no room: not even for a store's index."""
    extended = getattr(error, "extendedresult", None)
    return isinstance(error, apsw.FullError) or extended == apsw.SQLITE_IOERR_SHMSIZE


_WRITE_REFUSED: Final = (
    "disk I/O error: the disk refused to write, as it does where no file may be as large (a limit,"
    " ulimit -f; FAT32 from 4 GiB on)"
)


def _is_refused_write(error: Exception) -> bool:
    """SQLite does not say why; of a copy it says "not an error"."""
    return getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_WRITE


def said_of(path: Path, error: Exception) -> str:
    """What an error of SQLite says of the file at `path`, of its disk and of a journal beside it.

    A store has none but for the moment in which it is made. Of one that was left, SQLite says only
    that a file that is to be read cannot be written.
    """
    if is_full(error):
        return f"no space is left in {path.parent}; free some"
    said = _WRITE_REFUSED if _is_refused_write(error) else str(error)
    journal = path.with_name(f"{path.name}-journal")
    if holds_nothing(journal):
        return said
    return (
        f"{said}; {journal} is beside it, by which SQLite would change it back: if that is another"
        " file's, move it elsewhere; if a program was cut off while it wrote to this file, keep"
        f" copies of both and run `sqlite3 {path} .schema`, which takes the journal up"
    )


def unreadable(path: Path, error: Exception) -> StoreRefused:
    """The refusal of a file that SQLite does not read, though it says of no damage."""
    advice = (
        "; this user must own it, and a copy of a store that was in use must lie in a folder that"
        " this user may write"
    )
    said = said_of(path, error)
    return StoreRefused(f"{path} cannot be read: {said}{'' if is_full(error) else advice}")


def begins(path: Path) -> bool:
    """Whether a new store begins at `path`. One that somebody is just making is waited for.

    Raises:
        StoreRefused: the file of another has gone missing, or was emptied; saying what is left. Or
            it would pass for a part of another one.
    """
    if holds_nothing(path):
        check_own_name(path)
    deadline_s = time.monotonic() + MAKING_S
    while holds_nothing(path):
        try:
            check_begins(path)
        except StoreRefused:
            # A file without anything in it, and its log: that is how one is made.
            if not path.exists() or _was_served(path) or time.monotonic() > deadline_s:
                raise
            time.sleep(LOOK_S)
        else:
            return True
    return False


def check_begins(path: Path) -> None:
    """As `begins`, but for what is just being made."""
    check_no_log(path)
    if _was_served(path):
        lock = lock_file(path)
        removed = f"remove {path} and " if path.exists() else ""
        raise StoreRefused(
            f"{path} {_is_gone(path)}, but {lock} says that it was served: put the file back, or"
            f" {removed}restore a backup; to begin with an empty store, remove {lock} first"
        )


def _was_served(path: Path) -> bool:
    """Whether the file at `path`, of which nothing is left, was that of a server."""
    # In this order: who makes a store writes its file first.
    return not holds_nothing(lock_file(path)) and holds_nothing(path)


def _is_gone(path: Path) -> str:
    return "is empty" if path.exists() else "is not there"


_BLANK = b"\0 \n"  # between the holder's number and the stamp


def log_bytes(path: Path) -> int:
    """What the write-ahead log of the file at `path` takes."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except OSError:
        return 0


def has_room(path: Path, reserve_bytes: int) -> bool:
    """Whether more entries may be stored: pulls need some room too, and come first."""
    if log_bytes(path) > limits.STORE_LOG_BYTES_MAX:
        return False
    return free_bytes(path) >= max(1, reserve_bytes)  # a disk that does not say has none


def free_bytes(path: Path) -> int:
    """What this user may still write where a store lies; 0 if the disk does not say."""
    try:
        free = os.statvfs(path.parent)
    except OSError:
        return 0
    return free.f_bavail * free.f_frsize


def open_lock(lock: Path) -> int:
    """A descriptor of a lock's file, made if there is none; never of one that a link leads to.

    Whoever may make names in the folder could have us write into any file of ours by one.
    """
    flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(lock, flags, 0o600)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no ordinary file with one name")
    return descriptor


def cautions(path: Path) -> list[str]:
    """What others on this machine may do to the store at `path`, and should not.

    Raises:
        StoreRefused: everybody may write one of its files.
    """
    troubles = [trouble_of(path.absolute().parent)]
    troubles += [trouble_of(path.with_name(path.name + end), secret=True) for end in FILES]
    for trouble in troubles:
        if trouble.refused:
            raise StoreRefused(trouble.refused)
    return [trouble.warned for trouble in troubles if trouble.warned]


def served_ms(path: Path) -> int | None:
    """When a server last took the lock of the file at `path`; None if none ever did."""
    try:
        return lock_file(path).stat().st_mtime_ns // 1_000_000
    except OSError:
        return None


class ServerLock:
    """Held by the one process that serves a store; the kernel lets go of it however that ends."""

    def __init__(
        self,
        path: Path,
        *,
        making: bool = False,
        fix: str = "stop it first, or name another store",
    ) -> None:
        """Take the lock beside the file at `path`.

        Args:
            making: there is no store yet, and `made` is due once there is: a lock that names a
                process says that the file has had something in it.
            fix: what to do about a server that has it.

        Raises:
            StoreRefused: another process serves this store.
        """
        # Beside the store, never on it: closing any handle of a file drops SQLite's locks on it.
        self._file = lock = lock_file(path)
        try:
            self._descriptor = open_lock(lock)
        except OSError as error:
            raise StoreRefused(f"{lock} cannot be opened: {error.strerror}") from error
        try:
            self._take()
        except OSError as error:
            told = os.pread(self._descriptor, HOLDER_BYTES, 0).strip(_BLANK)
            holder = told.decode("ascii", "replace") or "unknown"
            self.release()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreRefused(f"{lock} cannot be locked: {error.strerror}") from error
            raise StoreRefused(
                f"another server (process {holder}) already serves {path}; {fix}"
            ) from error
        try:
            os.ftruncate(self._descriptor, 0)
            if not making:
                self._name_holder()
        except OSError as error:
            self.release()
            raise StoreRefused(f"{lock} cannot be written: {error.strerror}") from error

    def made(self) -> None:
        """There is a store now: say in the file which process has the lock.

        Raises:
            StoreRefused: it cannot be written.
        """
        try:
            self._name_holder()
        except OSError as error:
            raise StoreRefused(f"{self._file} cannot be written: {error.strerror}") from error

    def _name_holder(self) -> None:
        # Over what is there, since another door may have written the stamp by now.
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def _take(self) -> None:
        """Take it, as soon as the store's process of a server that was killed just now is gone.

        Raises:
            OSError: somebody has it.
        """
        for _ in range(TAKEN_MAX):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(TAKEN_S)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def fileno(self) -> int:
        """The descriptor that holds the lock; a process that inherits it holds it too."""
        return self._descriptor

    def stamp(self) -> bytes:
        """See `read_stamp`."""
        return read_stamp(self._descriptor)

    def release(self) -> None:
        """Let another process serve the store. To be called once."""
        os.close(self._descriptor)
