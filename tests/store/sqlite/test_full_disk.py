"""A disk without a free block: a store on it is refused, with what to do, and not called damaged.

SQLite makes an index beside the file of a store that nobody has open, even to read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from pullstatus.errors import StoreFailed, StoreFull, StoreRefused
from pullstatus.store import (
    audit_store,
    backup_store,
    open_store,
    read_store,
    restore_store,
)
from pullstatus.store.sqlite.log import translated
from pullstatus.store.sqlite.place import said_of
from tests.store.build import STATUSES, append, data_of, names, new_act, records
from tests.store.engines import sqlite_url

pytestmark = pytest.mark.anyio

DISK_BYTES = 8 * 1024 * 1024


def no_progress(_done: int, _total: int) -> None:
    pass


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of a small file system."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Nothing is free there meanwhile."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    yield
    ballast.unlink()


async def made(file: Path) -> str:
    """The URL of a store with three records, which nobody has open."""
    store = await open_store(sqlite_url(file), server=True, reserve_bytes=0)
    await store.append(append(STATUSES, records(3)))
    await store.close()
    return sqlite_url(file)


@pytest.mark.needs("root")
async def test_a_store_at_rest_is_refused_and_not_called_damaged(disk: Path) -> None:
    url = await made(disk / "a.db")
    said = re.escape(f"no space is left in {disk}; free some") + "$"
    with filled(disk):
        for opened in (
            audit_store(url, no_progress),
            read_store(url),
            open_store(url, create=False),
            open_store(url, server=True),
        ):
            with pytest.raises(StoreRefused, match=said):
                await opened
    assert (await audit_store(url, no_progress)).findings == []


@pytest.mark.needs("root")
async def test_a_copy_without_room_says_whose_disk_is_full(disk: Path, tmp_path: Path) -> None:
    """That of the copy, or that of the store which is copied."""
    url = await made(tmp_path / "a.db")
    small = await made(disk / "s.db")
    await backup_store(url, tmp_path / "b.db", no_progress)
    said = re.escape(f"no space is left in {disk}; free some") + "$"
    with filled(disk):
        with pytest.raises(StoreRefused, match=said):
            await backup_store(url, disk / "c.db", no_progress)
        with pytest.raises(StoreRefused, match=said):
            await restore_store(
                sqlite_url(disk / "r.db"),
                tmp_path / "b.db",
                act=new_act("restore"),
                progress=no_progress,
            )
        with pytest.raises(StoreRefused, match=said):
            await backup_store(small, tmp_path / "c.db", no_progress)
    assert not [name for name in names(disk) if not name.startswith("s.db")]
    assert not (tmp_path / "c.db").exists()
    store = await read_store(small)
    assert len(await data_of(store, STATUSES)) == 3
    await store.close()


class OfIndex(apsw.IOError):
    extendedresult = apsw.SQLITE_IOERR_SHMSIZE


class OfReading(apsw.IOError):
    extendedresult = apsw.SQLITE_IOERR_READ


class OfWriting(apsw.IOError):
    extendedresult = apsw.SQLITE_IOERR_WRITE


def test_a_file_that_may_not_grow_is_no_riddle() -> None:
    """SQLite knows no reason, and of a copy it says "not an error"."""
    assert said_of(Path("/a/b.db"), OfWriting("not an error")).startswith(
        "disk I/O error: the disk refused to write, as it does where no file may be as large"
    )


@pytest.mark.anew
async def test_a_copy_that_is_too_large_for_its_disk_says_so(tmp_path: Path) -> None:
    """A limit of the process here; FAT32 has one of 4 GiB."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from pullstatus.errors import StoreRefused\n"
        "from pullstatus.store.sqlite.copies import backup\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    backup(Path(sys.argv[1]), Path(sys.argv[2]), lambda done, total: None)\n"
        "except StoreRefused as error:\n"
        "    sys.exit(str(error))\n"
    )
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    await made(source)
    command = [sys.executable, "-c", code, str(source), str(target)]
    done = await asyncio.to_thread(subprocess.run, command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "the disk refused to write" in done.stderr
    assert not target.exists()


@pytest.mark.parametrize(
    ("error", "said", "told"),
    [
        (OfIndex("disk I/O error"), "no space is left in /a; free some", StoreFull),
        (OfReading("disk I/O error"), "disk I/O error", StoreFailed),
    ],
)
async def test_a_full_disk_is_told_from_one_that_fails(
    error: apsw.Error, said: str, told: type[Exception]
) -> None:
    assert said_of(Path("/a/b.db"), error) == said
    with pytest.raises(told), translated():
        raise error
