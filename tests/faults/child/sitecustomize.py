"""Loaded by a server that a test starts with this folder on its PYTHONPATH: a disk that fails.

Between SQLite and its usual file layer stands one that obeys orders. They come as a file while the
server runs, and go with it:

    {"call": "sync", "file": "", "at": 3, "forever": false}     the third sync from now on fails
    {"stall_s": 0.2}                                            each sync takes so much longer
    {"call": "sync", "file": "-wal", "at": 1, "stop": "after"}  the first sync from now on is done,
                                                                and nothing after that; or "before"
    {..., "behind": 50}                                         as counted from so many writes on

A call that stops leaves the file `stopped` beside the orders, and goes on once there is `go`.
`call` is read, write, sync or close, the last one of a file that was written to, since who looks at
a file closes it, too; `file` is the end of the file's name, such as -wal. When a call fails for the
first time, the moment is written to `struck` there, and every write or sync that still comes then
leaves a line in `afterwards`. `free`, if it exists, is how many bytes of the disk are said to be
free.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import apsw

T = TypeVar("T")

FOLDER = Path(os.environ["FAULTS"])
ORDERS = FOLDER / "orders"
ERRORS = {
    "read": apsw.SQLITE_IOERR_READ,
    "write": apsw.SQLITE_IOERR_WRITE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
}
BASE = apsw.vfs_names()[0]


class Orders:
    """What is to happen to the calls of all files."""

    def __init__(self) -> None:
        self._given: dict[str, Any] | None = None
        self._calls = 0
        self._writes = 0
        self._struck = False
        self._stops_after = False

    def before(self, call: str, name: str) -> None:
        """Let a call wait or fail, if it is its turn."""
        given = self._read()
        if given is None:
            return
        if call == "sync":
            time.sleep(given.get("stall_s", 0))
        if self._struck and call in ("write", "sync"):
            with (FOLDER / "afterwards").open("a", encoding="utf-8") as file:
                file.write(f"{call} {name}\n")
        if not name.endswith(given.get("file", "")):
            return
        self._writes += call == "write"
        if given.get("call") != call or self._writes < given.get("behind", 0):
            return
        self._calls += 1
        if "stop" in given:
            if self._calls == given["at"]:
                self._stops_after = given["stop"] == "after"
                if not self._stops_after:
                    stop()
            return
        if self._calls == given["at"] or (given["forever"] and self._calls > given["at"]):
            if self._calls == given["at"]:
                self._struck = True
                (FOLDER / "struck").write_text(str(time.monotonic()), encoding="ascii")
            raise apsw.exception_for(ERRORS[call])

    def after(self) -> None:
        """Let a call wait that has just been done, if it was its turn."""
        if self._stops_after:
            self._stops_after = False
            stop()

    def _read(self) -> dict[str, Any] | None:
        if not ORDERS.exists():
            self._given = None
        elif self._given is None:
            self._given = json.loads(ORDERS.read_text(encoding="ascii"))
            self._calls = 0
        return self._given


def stop() -> None:
    """Be found in the middle of something, for as long as a test likes."""
    (FOLDER / "stopped").touch()
    while not (FOLDER / "go").exists():
        time.sleep(0.01)


class File(apsw.VFSFile):
    """A file whose calls are announced first."""

    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(BASE, name, flags)
        self.name = "" if name is None else name if isinstance(name, str) else name.filename()
        self._written = False

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name
        orders.before("read", self.name)
        data = super().xRead(amount, offset)
        orders.after()
        return data

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        self._written = True
        orders.before("write", self.name)
        super().xWrite(data, offset)
        orders.after()

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        orders.before("sync", self.name)
        super().xSync(flags)
        orders.after()

    def xClose(self) -> None:  # noqa: N802 - SQLite's name
        if self._written:
            orders.before("close", self.name)
        super().xClose()

    def xLock(self, level: int) -> None:  # noqa: N802 - SQLite's name
        try:
            super().xLock(level)
        except apsw.IOError as error:
            # A file that is open for reading refuses a lock when it is closed, and SQLite expects
            # that; apsw lets only a busy file pass without a word.
            raise apsw.BusyError from error


class Layer(apsw.VFS):
    """The file layer of everything in this process."""

    def __init__(self) -> None:
        super().__init__("faults", BASE, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return File(name, flags)


def pretending(statvfs: Callable[[Path], os.statvfs_result]) -> Callable[[Path], object]:
    """As many free bytes as the test says, if it says so."""

    def pretend(path: Path) -> object:
        found = statvfs(path)
        free = FOLDER / "free"
        if not free.exists():
            return found
        blocks = int(free.read_text(encoding="ascii")) // found.f_frsize
        return os.statvfs_result((*found[:3], blocks, blocks, *found[5:]))

    return pretend


orders = Orders()
layer = Layer()
os.statvfs = pretending(os.statvfs)  # type: ignore[assignment]
