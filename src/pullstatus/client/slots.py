"""A small value on disk that is either the new one or the one before, whatever happens.

The file has two slots that are written in turn, each with a number and a checksum:

    {"number":7,"value":{...},"check":"..."}    <- the one with the higher number counts
    {"number":6,"value":{...},"check":"..."}    <- the next write goes here

A write that is torn damages the older slot only. A file that is replaced by renaming would do as
well, but could not be locked against a second process, and takes a sync more.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, Self, TypeVar
from weakref import WeakSet

import msgspec

from pullstatus.errors import InvalidSetting, StoreFailed, StoreRefused

V = TypeVar("V", bound=msgspec.Struct)

SLOT_BYTES = 4096
FIRST = b'{"number":0,'  # what the first write of all begins with
PAUSE_S, PAUSES_MAX = 0.002, 500  # while others look at a file, which takes them a moment


class NotOpened(StoreRefused):
    """The file can't be opened or read. How another one is named, only the caller knows."""


class Slots(Generic[V]):
    """The file, locked for this process until it is closed.

    Raises:
        NotOpened: it can't be opened, made or read, or is no file; another path may do.
        StoreRefused: another process has it, or it holds something else.
    """

    def __init__(self, path: Path, decode: Callable[[msgspec.Raw], V]) -> None:
        self.path = path
        self._decode = decode
        self._writes = 0  # under way
        self._closed = False
        try:
            self._file = open_file(path)
        except OSError as error:
            raise NotOpened(f"{path} cannot be opened: {error.strerror}") from error
        self._held = [self._file]  # until it is closed
        _opened.add(self)
        try:
            _lock(self._file, path)
            self._named = False  # is its name sure to be on disk?
            self._number = -1
            self.value = self._read()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise NotOpened(f"{path} cannot be read: {error.strerror}") from error
            raise

    def write(self, value: V) -> None:
        """Make this the value; durable on return.

        Raises:
            StoreFailed: the disk could not be written; the value is this one or the one before. Or
                the file has lost its name: the value is the one before, where that file is.
            InvalidSetting: it is too long for a slot; nothing was written.
        """
        number = self._number + 1
        line = msgspec.json.encode({"number": number, "value": value})
        line = b'%b,"check":"%b"}' % (line[:-1], _check(line))
        if len(line) >= SLOT_BYTES:
            raise InvalidSetting(f"{self.path} has no room for so long an address, or so much else")
        slot = line.ljust(SLOT_BYTES - 1) + b"\n"
        self._writes += 1
        try:
            if self._closed:
                raise StoreFailed(f"{self.path} was closed meanwhile")
            if not bears(self.path, os.fstat(self._file)):
                raise StoreFailed(name_lost(self.path))
            self._put(slot, number % 2 * SLOT_BYTES)
            os.fsync(self._file)
            if not self._named:  # whoever made the file may have been killed before this
                sync_folder(self.path)
                self._named = True
        except OSError as error:
            raise StoreFailed(f"{self.path} cannot be written: {error.strerror}") from error
        finally:
            self._writes -= 1
            if self._closed and not self._writes:
                self._release()
        # Now only: until it is whole, the next write goes to the same slot, and never to the one
        # that holds the last whole value.
        self._number, self.value = number, value

    def close(self) -> None:
        """Let others have it; whoever does so twice does nothing.

        A signal's handler may do so while its own thread writes: then it is when that has ended,
        or the number of the file could be that of another one meanwhile.
        """
        self._closed = True
        if not self._writes:
            self._release()

    def leave_to_parent(self) -> None:
        """In a forked process: the parent's it is, and its lock goes with its last descriptor."""
        self._closed = True
        if self._held:
            os.close(self._held.pop())

    def _release(self) -> None:
        if self._held:
            file = self._held.pop()
            _unlock(file)  # a process that was forked may not have let go of it yet
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _put(self, slot: bytes, start: int) -> None:
        while slot:  # a disk that gets full may take a part
            count = write_at(self._file, slot, start)
            slot, start = slot[count:], start + count

    def _read(self) -> V | None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise NotOpened(f"{self.path} is no regular file")
        content = read_at(self._file, 2 * SLOT_BYTES, 0)
        newest = _newest(content)
        if newest is not None:
            self._number, value = newest
            try:
                return self._decode(value)
            except msgspec.ValidationError as error:
                raise StoreRefused(
                    f"{self.path} is of another version or command: finish with that what it has"
                    " begun. Without this file all of it would begin anew, what is done included"
                ) from error
        # The first write of all may be torn; after it one slot is always whole.
        torn = content.startswith(FIRST) or not content.strip(b" \n\0")
        if not torn or len(content) > SLOT_BYTES:
            raise StoreRefused(
                f"{self.path} is damaged, or no state of ours: put back what was there. Without"
                " this file all of it would begin anew, what is done included"
            )
        return None


_opened: WeakSet[Slots[Any]] = WeakSet()


def _leave_to_parent() -> None:
    """In a forked process, which may live longer."""
    for slots in list(_opened):
        slots.leave_to_parent()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_leave_to_parent)


def peek(path: Path, decode: Callable[[msgspec.Raw], V], *, in_use: bool = False) -> V | None:
    """The value of a file of slots; None if it has none.

    Args:
        in_use: read it although a process has it right now, which may be about to change it; None
            then otherwise.
    """
    try:
        if not path.is_file():  # to open a pipe waits for whoever writes into it
            return None
        with path.open("rb") as file:
            if not in_use and not _try_lock(file.fileno(), path, shared=True):
                return None
            newest = _newest(file.read(2 * SLOT_BYTES))
            return None if newest is None else decode(newest[1])
    except (OSError, StoreRefused, msgspec.ValidationError):
        return None


def may_be_slots(folder: Path) -> Iterator[Path]:
    """The files in a folder that may have a value in slots, whatever they are called."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # it is gone by now
                if entry.is_file() and SLOT_BYTES <= entry.stat().st_size <= 2 * SLOT_BYTES:
                    yield Path(entry.path)


def bears(path: Path, found: os.stat_result) -> bool:
    """Whether a path is a name of the file of which this was found."""
    try:
        return os.path.samestat(path.stat(), found)
    except (FileNotFoundError, NotADirectoryError):
        return False


def name_lost(path: Path) -> str:
    """What to tell of a file that was open under this name, and has lost it."""
    return (
        f"{path} was moved, removed or replaced while it was in use: put back what was there, then"
        " run it again"
    )


class _Slot(msgspec.Struct):
    number: int
    value: msgspec.Raw


_decode_slot = msgspec.json.Decoder(_Slot).decode


def _newest(content: bytes) -> tuple[int, msgspec.Raw] | None:
    """Number and value of the slot that counts."""
    found: tuple[int, msgspec.Raw] | None = None
    for start in (0, SLOT_BYTES):
        line = content[start : start + SLOT_BYTES].strip()
        head, comma, check = line.rpartition(b',"check":"')
        if not comma or check != _check(head + b"}") + b'"}':
            continue
        try:
            slot = _decode_slot(head + b"}")
        except msgspec.MsgspecError:
            continue  # its check fits, since somebody made it fit
        if found is None or slot.number > found[0]:
            found = slot.number, slot.value
    return found


def _check(line: bytes) -> bytes:
    return blake2b(line, digest_size=8).hexdigest().encode()


def _lock(file: int, path: Path) -> None:
    """Have the file for this process alone; whoever only looks at it (`peek`) is waited for."""
    for _ in range(PAUSES_MAX):
        if _try_lock(file, path):
            return
        if not _try_lock(file, path, shared=True):
            break
        _unlock(file)
        time.sleep(PAUSE_S)
    raise StoreRefused(f"{path} is in use by another process")


def _try_lock(file: int, path: Path, *, shared: bool = False) -> bool:
    """Whether it could be locked: alone, or `shared` with others who look at it."""
    try:
        import fcntl
    except ImportError:  # not on Windows, where nothing stops a second process
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreRefused(f"{path} cannot be locked: {error.strerror}") from error
    return True


def _unlock(file: int) -> None:
    with contextlib.suppress(ImportError, OSError):  # it is closed all the same
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)


# --- what not every system has --------------------------------------------------------------------


def open_file(path: Path, flags: int = 0) -> int:
    """Open a file for reading and writing, made for its owner alone if it is not there.

    Bytes stay as they are: Windows would translate line ends without its flag for that.
    """
    for name in ("O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)


def read_at(file: int, count: int, start: int) -> bytes:
    """Read so many bytes at most from a place; where the file stands may change by it."""
    if hasattr(os, "pread"):
        return os.pread(file, count, start)
    os.lseek(file, start, os.SEEK_SET)
    return os.read(file, count)


def write_at(file: int, data: bytes, start: int) -> int:
    """Write to a place, and return how many bytes; where the file stands may change by it."""
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, start)
    os.lseek(file, start, os.SEEK_SET)
    return os.write(file, data)


def make_folder(path: Path) -> None:
    """Make a folder for its owner alone, if it is not there, and those it is in; durable on return.

    Raises:
        OSError: it can't be made.
    """
    if path.is_dir():  # whoever made it may have been killed before it was synced
        with contextlib.suppress(PermissionError):  # then it was somebody else
            sync_folder(path)
        return
    make_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Make the name of a new file durable; of a link, that of what it leads to."""
    if os.name == "nt":
        return
    folder = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
