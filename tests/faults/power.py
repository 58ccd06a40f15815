"""Disks that lose their power: what was synced is there afterwards, and any part of the rest.

    with Disk(folder) as disk:
        (disk.place / "file").write_text(...)   # an ext4 file system
        disk.cut(seed)                          # from now on every read, write and sync fails
        ...                                     # whoever has files open there is to be killed
        disk.restore()                          # mounted anew, from what the disk had

A disk is a file of a file system in user space, which a process of its own serves: a write stays in
memory until the kernel asks for a sync. Above it are the kernel's loop device and ext4 with their
real caches and barriers, as above any disk. Who uses it is root on Linux.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final, Self

import mfusepy

from tests.harness import PATIENCE_S
from tools.nats import Cluster, Node

SIZE: Final = 192 << 20
SECTOR: Final = 512
PAGE: Final = 4096
POLL_S: Final = 0.02
SECTORS: Final = PAGE // SECTOR


class Volatile(mfusepy.Operations):  # type: ignore[misc]
    """The file system: `disk`, and `power`, to which a seed is written to cut it."""

    use_ns = True

    def __init__(self, image: Path) -> None:
        self._image = os.open(image, os.O_RDWR)
        self._size = os.fstat(self._image).st_size
        self._pages: dict[int, bytes] = {}  # written since the last sync, by number
        self._off = False

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path not in ("/disk", "/power"):
            raise mfusepy.FuseOSError(errno.ENOENT)
        size = self._size if path == "/disk" else 0
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", "disk", "power"]

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._check()
        data = bytearray(os.pread(self._image, size, offset))
        for page in range(offset // PAGE, (offset + size - 1) // PAGE + 1):
            if page in self._pages:
                begin, end = max(offset, page * PAGE), min(offset + size, (page + 1) * PAGE)
                part = self._pages[page][begin - page * PAGE : end - page * PAGE]
                data[begin - offset : end - offset] = part
        return bytes(data)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if path == "/power":
            self._cut(Random(data.decode()))
            return len(data)
        self._check()
        for page in range(offset // PAGE, (offset + len(data) - 1) // PAGE + 1):
            begin, end = max(offset, page * PAGE), min(offset + len(data), (page + 1) * PAGE)
            part = data[begin - offset : end - offset]
            if len(part) < PAGE:
                old = self._pages.get(page) or os.pread(self._image, PAGE, page * PAGE)
                part = old[: begin - page * PAGE] + part + old[end - page * PAGE :]
            self._pages[page] = part
        return len(data)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._check()
        for page, data in self._pages.items():
            os.pwrite(self._image, data, page * PAGE)
        self._pages.clear()
        return 0

    def _check(self) -> None:
        if self._off:
            raise mfusepy.FuseOSError(errno.EIO)

    def _cut(self, rng: Random) -> None:
        """Of what was not synced some pages are there, some are not, and some are torn."""
        self._off = True
        for page, data in self._pages.items():
            whole = rng.choice((0, SECTORS, rng.randrange(SECTORS)))
            os.pwrite(self._image, data[: whole * SECTOR], page * PAGE)


class Disk:
    """A disk, and an ext4 file system on it, from the begin of a `with` block to its end.

    Attributes:
        place: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.place = folder / "mounted"
        self._image = folder / "image"
        self._served = folder / "served"
        self._process: subprocess.Popen[bytes] | None = None
        self._device = ""

    def cut(self, seed: object) -> None:
        """Take the power away: on return nothing that is written gets there any more."""
        with (self._served / "power").open("wb", buffering=0) as power:
            power.write(str(seed).encode())

    def restore(self) -> None:
        """Mount what it had. Nobody may have a file open there."""
        self._unmount()
        self._mount()

    def __enter__(self) -> Self:
        for folder in (self.place, self._served):
            folder.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as file:
            file.truncate(SIZE)
        _run("mkfs.ext4", "-q", "-F", "-O", "^metadata_csum", str(self._image))
        self._mount()
        return self

    def __exit__(self, *_error: object) -> None:
        self._unmount()
        self._image.unlink()

    def _mount(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._image), str(self._served)],
            stdin=subprocess.DEVNULL,
        )
        disk = self._served / "disk"
        due_s = time.monotonic() + PATIENCE_S
        while not disk.exists():
            assert self._process.poll() is None, "nobody serves the disk"
            assert time.monotonic() < due_s
            time.sleep(POLL_S)
        self._device = _run("losetup", "--find", "--show", str(disk)).strip()
        _run("mount", "-t", "ext4", "-o", "noatime,commit=300", self._device, str(self.place))

    def _unmount(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("umount", str(self.place))
        if self._device:
            _run("losetup", "--detach", self._device)
        # A mount namespace that somebody made meanwhile has both as well, until it ends. What is to
        # be on the disk is there by now, so that its server can be killed.
        _run("umount", "--lazy", str(self._served))
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._process, self._device = None, ""


class PoweredCluster(Cluster):
    """Nodes whose data is on disks of their own."""

    def __init__(self, folder: Path, *, jetstream: Mapping[str, str] | None = None) -> None:
        super().__init__(jetstream={"max_file_store": str(SIZE // 2)} | dict(jetstream or {}))
        self._disks = {node.name: Disk(folder / node.name) for node in self.nodes}
        self._stack = contextlib.ExitStack()

    def sync(self) -> None:
        """Have on the disks what was written to them so far."""
        for disk in self._disks.values():
            _run("sync", "--file-system", str(disk.place))

    def cut(self, nodes: Sequence[Node], rng: Random) -> None:
        """Take the power away from some at one instant; on return they run again."""
        for node in nodes:
            node.pause()  # whatever one of them says from now on, none of the others has heard
        for node in nodes:
            self._disks[node.name].cut(rng.random())
        for node in nodes:
            node.kill()
            self._disks[node.name].restore()
        for node in nodes:
            node.start()

    def configure(
        self, node: Node, *, server: Mapping[str, str] | None = None, **jetstream: str
    ) -> None:
        """See `Cluster`."""
        place = f'"{self._disks[node.name].place}"'
        super().configure(node, server=server, **({"store_dir": place} | jetstream))

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for disk in self._disks.values():
                stack.enter_context(disk)
            super().__enter__()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        super().__exit__()
        self._stack.close()


def _run(*command: str) -> str:
    return subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    mfusepy.FUSE(
        Volatile(Path(sys.argv[1])),
        sys.argv[2],
        foreground=True,
        nothreads=True,
        fsname="pullstatus-test-disk",
    )
