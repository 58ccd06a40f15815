# ruff: noqa: N802 - the names of its methods are SQLite's
"""A disk in memory on which power can be cut at any write, and any call can be made to fail.

It is a VFS of SQLite, so the product's own code runs on it unchanged. For every file it knows what
a reader sees (`content`), what is certain to survive (`durable`), and the writes between the two.
A cut keeps of those a random choice of 512-byte sectors, so they come torn and out of order. Sizes
change in order, since file systems journal them, but not in step with the data: a file may have
grown and hold rubbish. Names are made and removed in order too, and are certain only once their
folder was synced, which SQLite does with the first sync of a journal or write-ahead log.

What it claims about itself is what a file on Linux claims: sectors of 4096 bytes, and that a write
does not harm its neighbours.

There is no shared memory, which SQLite only needs between connections: a hook puts every
connection to such a disk into exclusive locking mode. Everything on the way of a commit is
otherwise as on a real disk, with one difference: where SQLite would go on after a failed call (a
truncation of the log, a removal), its caller here sees the error.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from random import Random
from types import TracebackType
from typing import Literal, cast

import apsw

VFS_NAME = "crash"
SECTOR_BYTES = 512
NEVER = 1 << 62

CallKind = Literal["read", "write", "sync", "truncate", "open"]
CALL_KINDS: tuple[CallKind, ...] = ("read", "write", "sync", "truncate", "open")

_ERRORS: dict[CallKind, int] = {
    "read": apsw.SQLITE_IOERR_READ,
    "write": apsw.SQLITE_IOERR_WRITE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "open": apsw.SQLITE_CANTOPEN,
}
_SYNCS_FOLDER = (
    apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
)
# Mostly all or nothing: a cut that leaves a commit whole, or no trace of it, is as telling as a
# torn one.
_SHARES = (0.0, 0.02, 0.5, 0.5, 0.9, 0.98, 1.0)

_Pending = tuple[int, bytes | None]  # a write's offset and data, or the size of a truncation


class PowerCut(BaseException):
    """The machine went dark in the middle of a call. Not for anyone to handle but the harness."""


@dataclass(slots=True)
class Fault:
    """Calls that fail.

    Attributes:
        kind: of calls.
        nth: the first that fails, counted from 1 since the fault was set.
        forever: every later one fails too.
        forgets: a failed sync makes the kernel drop what it could not write, so that later syncs
            succeed without it.
        fired: how often it has struck.
    """

    kind: CallKind
    nth: int
    forever: bool = False
    forgets: bool = False
    fired: int = 0
    seen: int = 0

    def strikes(self, kind: CallKind) -> bool:
        """Whether this call fails."""
        if kind != self.kind:
            return False
        self.seen += 1
        if self.seen == self.nth or (self.forever and self.seen > self.nth):
            self.fired += 1
            return True
        return False


class Inode:
    """A file's data: what readers see, what is certain, and the writes between."""

    __slots__ = ("content", "durable", "pending")

    def __init__(self, content: bytes | bytearray = b"") -> None:
        self.content = bytearray(content)
        self.durable = bytearray(content)
        self.pending: list[_Pending] = []

    def write(self, data: bytes, offset: int) -> None:
        """A write that waits for a sync."""
        _write(self.content, data, offset)
        self.pending.append((offset, data))

    def truncate(self, size: int) -> None:
        """A truncation that waits for a sync."""
        del self.content[size:]
        self.pending.append((size, None))

    def sync(self) -> None:
        """Make all certain."""
        for offset, data in self.pending:
            if data is None:
                del self.durable[offset:]
            else:
                _write(self.durable, data, offset)
        self.pending.clear()

    def copy(self) -> Inode:
        """As it is, with what waits."""
        other = Inode()
        other.content = bytearray(self.content)
        other.durable = bytearray(self.durable)
        other.pending = list(self.pending)
        return other

    def crashed(self, rng: Random) -> bytearray:
        """What is found after a cut."""
        pending = self.pending
        share = rng.choice(_SHARES) if pending else 0.0
        if share == 0.0:
            return bytearray(self.durable)
        if share == 1.0:
            return bytearray(self.content)
        image = bytearray(self.durable)
        size = len(image)
        resized = rng.randrange(len(pending) + 1)  # changes of size up to here have happened
        in_order = rng.random() < 0.5  # a sector is never newer in one part than in another
        rubbish = rng.random() < 0.5
        stale: set[int] = set()
        for place, (offset, data) in enumerate(pending):
            if data is None:
                if place < resized:
                    del image[offset:]
                    size = offset
                continue
            end = offset + len(data)
            if place < resized:
                size = max(size, end)
            if end > len(image):
                image += _filler(end - len(image), rng if rubbish else None)
            start = offset
            while start < end:
                sector = start // SECTOR_BYTES
                stop = min(end, (sector + 1) * SECTOR_BYTES)
                if rng.random() >= share:
                    if in_order:
                        stale.add(sector)
                elif sector not in stale:
                    image[start:stop] = data[start - offset : stop - offset]
                start = stop
        del image[size:]
        return image


def _write(content: bytearray, data: bytes, offset: int) -> None:
    if offset > len(content):
        content += bytes(offset - len(content))
    content[offset : offset + len(data)] = data


def _filler(count: int, rng: Random | None) -> bytes:
    return bytes(count) if rng is None else rng.randbytes(count)


class Disk:
    """Files, and everything that is about to go wrong with them.

    Attributes:
        left: writes, syncs, truncations and changes of names until power is cut; negative after.
        fault: calls that fail, if any.
        capacity_bytes: what all files together may hold; None for no bound.
        overfull: how many writes there was no room for.
        ignores_sync: a bug to plant: syncs succeed and do nothing.
        abandoned: nobody will look at this disk again, and what still happens on it, as when a
            connection is closed, changes nothing and fails no more.
        calls: how many calls of each kind came.
    """

    def __init__(self) -> None:
        self.left = NEVER
        self.fault: Fault | None = None
        self.capacity_bytes: int | None = None
        self.overfull = 0
        self.ignores_sync = False
        self.abandoned = False
        self.calls: Counter[str] = Counter()
        self.names: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
        self._pending_names: list[tuple[str, Inode | None]] = []
        self._serial = next(_serials)
        _disks[self._serial] = self

    def path(self, name: str = "store.db") -> str:
        """What to open to get this file of this disk."""
        return f"{self._serial}/{name}"

    @property
    def dark(self) -> bool:
        """Whether power was cut, and somebody is still there to notice."""
        return self.left < 0 and not self.abandoned

    def crash(self, rng: Random) -> Disk:
        """The disk that is found after power was cut now; this one is abandoned."""
        self.abandoned = True
        names = dict(self._durable_names)
        survived = rng.randrange(len(self._pending_names) + 1) if self._pending_names else 0
        for name, inode in self._pending_names[:survived]:
            _rename(names, name, inode)
        other = Disk()
        other.names = {name: Inode(inode.crashed(rng)) for name, inode in names.items()}
        other._durable_names = dict(other.names)
        return self._like(other)

    def copy(self) -> Disk:
        """The disk as it is: what a process finds that follows a killed one."""
        other = Disk()
        copies = {
            id(inode): inode.copy()
            for inode in (
                *self.names.values(),
                *self._durable_names.values(),
                *(inode for _, inode in self._pending_names if inode is not None),
            )
        }
        other.names = {name: copies[id(inode)] for name, inode in self.names.items()}
        other._durable_names = {n: copies[id(inode)] for n, inode in self._durable_names.items()}
        other._pending_names = [
            (name, None if inode is None else copies[id(inode)])
            for name, inode in self._pending_names
        ]
        return self._like(other)

    def _like(self, other: Disk) -> Disk:
        other.ignores_sync = self.ignores_sync
        return other

    # -- for the files on it ---------------------------------------------------------------------

    def tick(self) -> bool:
        """Count a call that changes the disk; returns whether it is to be carried out.

        Raises:
            PowerCut: it is the one in which, or after which, there is no power.
        """
        if self.abandoned:
            return False
        self.left -= 1
        if self.left < 0:
            raise PowerCut
        return True

    def strike(self, kind: CallKind) -> None:
        """Count a call, and fail it if it is due to fail."""
        if self.abandoned:
            return
        if self.left < 0:
            raise PowerCut
        self.calls[kind] += 1
        if self.fault is not None and self.fault.strikes(kind):
            raise apsw.exception_for(_ERRORS[kind])

    def room(self, growth: int) -> int:
        """How many of `growth` bytes there is room for."""
        if self.capacity_bytes is None:
            return growth
        used = sum(len(inode.content) for inode in self.names.values())
        return max(0, min(growth, self.capacity_bytes - used))

    def sync_names(self) -> None:
        """Make names certain."""
        if not self.ignores_sync:
            self._durable_names = dict(self.names)
            self._pending_names.clear()

    def make(self, name: str) -> Inode:
        """A new file."""
        inode = Inode()
        if self.tick():
            self._change(name, inode)
        return inode

    def remove(self, name: str) -> None:
        """Take a file's name away."""
        if self.tick():
            self._change(name, None)

    def _change(self, name: str, inode: Inode | None) -> None:
        _rename(self.names, name, inode)
        self._pending_names.append((name, inode))


def _rename(names: dict[str, Inode], name: str, inode: Inode | None) -> None:
    if inode is None:
        names.pop(name, None)
    else:
        names[name] = inode


class _File:
    """An open file, as SQLite wants it."""

    __slots__ = ("_disk", "_inode", "_syncs_folder")

    def __init__(self, disk: Disk, inode: Inode, *, syncs_folder: bool) -> None:
        self._disk = disk
        self._inode = inode
        self._syncs_folder = syncs_folder

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.strike("read")
        return bytes(self._inode.content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        disk, inode = self._disk, self._inode
        try:
            if not disk.tick():
                return
        except PowerCut:
            if disk.left == -1:
                inode.write(data, offset)
            raise
        try:
            disk.strike("write")
        except apsw.Error:
            # Whole sectors up to somewhere in the middle.
            middle = (offset + len(data) // 2) // SECTOR_BYTES * SECTOR_BYTES
            if middle > offset:
                inode.write(data[: middle - offset], offset)
            raise
        growth = offset + len(data) - len(inode.content)
        if growth > 0 and (room := disk.room(growth)) < growth:
            inode.write(data[: max(0, len(data) - growth + room)], offset)
            disk.overfull += 1
            raise apsw.exception_for(apsw.SQLITE_FULL)
        inode.write(data, offset)

    def xTruncate(self, newsize: int) -> None:
        disk = self._disk
        try:
            if not disk.tick():
                return
        except PowerCut:
            if disk.left == -1:
                self._inode.truncate(newsize)
            raise
        disk.strike("truncate")
        self._inode.truncate(newsize)

    def xSync(self, flags: int) -> None:
        disk = self._disk
        if not disk.tick():
            return
        try:
            disk.strike("sync")
        except apsw.Error:
            if disk.fault is not None and disk.fault.forgets:
                self._inode.pending.clear()
            raise
        if disk.ignores_sync:
            return
        self._inode.sync()
        if self._syncs_folder:
            disk.sync_names()
            self._syncs_folder = False

    def xFileSize(self) -> int:
        if self._disk.dark:
            raise PowerCut
        return len(self._inode.content)

    def xClose(self) -> None:
        pass

    def xLock(self, level: int) -> None:
        pass

    def xUnlock(self, level: int) -> None:
        pass

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:
        if op == apsw.SQLITE_FCNTL_MMAP_SIZE:
            ctypes.c_int64.from_address(ptr).value = 0
            return True
        return False

    def xSectorSize(self) -> int:
        return 4096

    def xDeviceCharacteristics(self) -> int:
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE | apsw.SQLITE_IOCAP_SUBPAGE_READ

    def excepthook(
        self,
        etype: type[BaseException] | None,
        evalue: BaseException | None,
        etraceback: TracebackType | None,
    ) -> bool:
        """A connection that is closed after a cut has nobody to tell."""
        return True


class _Vfs(apsw.VFS):
    """Leads every path to its disk."""

    def __init__(self) -> None:
        super().__init__(VFS_NAME, base=None)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        if name is None:  # a temporary file, gone after a crash in any case
            return cast("apsw.VFSFile", _File(_nowhere, Inode(), syncs_folder=False))
        disk, own = _found(name if isinstance(name, str) else name.filename())
        disk.strike("open")
        inode = disk.names.get(own)
        if inode is None:
            if not flags[0] & apsw.SQLITE_OPEN_CREATE:
                raise apsw.exception_for(apsw.SQLITE_CANTOPEN)
            inode = disk.make(own)
        flags[1] = flags[0]
        syncs_folder = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _SYNCS_FOLDER)
        return cast("apsw.VFSFile", _File(disk, inode, syncs_folder=syncs_folder))

    def xDelete(self, filename: str, syncdir: bool) -> None:
        disk, own = _found(filename)
        disk.remove(own)
        if syncdir and disk.tick():
            disk.sync_names()

    def xAccess(self, pathname: str, flags: int) -> bool:
        disk, own = _found(pathname)
        return own in disk.names

    def xFullPathname(self, name: str) -> str:
        return name

    def xRandomness(self, numbytes: int) -> bytes:
        return Random(numbytes).randbytes(numbytes)

    def xSleep(self, microseconds: int) -> int:
        return microseconds

    def xCurrentTime(self) -> float:
        return 2_460_676.5

    def xGetLastError(self) -> tuple[int, str | None]:
        return 0, None

    def excepthook(
        self,
        etype: type[BaseException] | None,
        evalue: BaseException | None,
        etraceback: TracebackType | None,
    ) -> bool:
        """As `_File.excepthook`."""
        return True


def _found(path: str) -> tuple[Disk, str]:
    serial, _, name = path.partition("/")
    disk = _disks[int(serial)]
    if disk.dark:
        raise PowerCut
    return disk, name


def _be_alone(connection: apsw.Connection) -> None:
    if connection.open_vfs == VFS_NAME:
        connection.pragma("locking_mode", "exclusive")


class DiskPath:
    """As much of a `pathlib.Path` as it takes to look at a file on a disk without SQLite."""

    def __init__(self, disk: Disk, name: str = "store.db") -> None:
        self._disk = disk
        self.name = name

    def with_name(self, name: str) -> DiskPath:
        """Another file on this disk."""
        return DiskPath(self._disk, name)

    def __str__(self) -> str:
        return self.name

    def exists(self) -> bool:
        """Whether it is there."""
        return self.name in self._disk.names

    def open(self, mode: str) -> BytesIO:
        """Its data, to be read."""
        assert mode == "rb"
        if not self.exists():
            raise FileNotFoundError(self.name)
        return BytesIO(self._disk.names[self.name].content)

    def stat(self) -> os.stat_result:
        """Its size, and nothing else."""
        size = len(self._disk.names[self.name].content)
        return os.stat_result((0, 0, 0, 0, 0, 0, size, 0, 0, 0))


_serials: Iterator[int] = itertools.count(1)
_disks: weakref.WeakValueDictionary[int, Disk] = weakref.WeakValueDictionary()
_nowhere = Disk()
_vfs = _Vfs()
apsw.connection_hooks.append(_be_alone)
