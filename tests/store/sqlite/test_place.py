"""Where a store may live: on a local disk, in a folder that is there, served by one process."""

import asyncio
import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from pullstatus.errors import StoreRefused
from pullstatus.store import open_store
from pullstatus.store.sqlite import engine
from pullstatus.store.sqlite.audit import audit_file
from pullstatus.store.sqlite.engine import SqliteStore
from pullstatus.store.sqlite.location import parse_url
from pullstatus.store.sqlite.place import (
    KNOWN_FILE_SYSTEMS,
    MAKING_S,
    ServerLock,
    check_begins,
    check_place,
    has_room,
)
from pullstatus.store.sqlite.stamp import Stamp, lock_file

ROOT = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
UNKNOWN = ["9p", "cifs", "exfat", "fuse", "fuse.sshfs", "fuseblk", "nfs", "nfs4", "ntfs3", "vboxsf"]
UNKNOWN += ["virtiofs", "made-up", "EXT4", ""]


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_file_system_that_is_not_known_is_refused(tmp_path: Path, kind: str) -> None:
    """The text says which folder, which file system and what to do; who insists is let in."""
    mounts = f"{ROOT}23 22 0:40 / {tmp_path} rw - {kind} nas: rw\n"
    with pytest.raises(StoreRefused, match="local disk") as caught:
        check_place(tmp_path / "store.db", mounts=mounts)
    assert str(tmp_path) in str(caught.value)
    assert f"({kind})" in str(caught.value)
    assert "?file-system=any" in str(caught.value)
    check_place(tmp_path / "store.db", any_file_system=True, mounts=mounts)


@pytest.mark.parametrize("kind", sorted(KNOWN_FILE_SYSTEMS))
def test_a_file_system_that_is_known_is_fine(tmp_path: Path, kind: str) -> None:
    mounts = f"{ROOT}23 22 0:40 / {tmp_path} rw - {kind} x rw,lowerdir=/a\n"
    check_place(tmp_path / "store.db", mounts=mounts)


def test_an_overlay_that_syncs_nothing_is_refused(tmp_path: Path) -> None:
    mounts = f"23 22 0:40 / {tmp_path} rw - overlay overlay rw,lowerdir=/a,volatile\n"
    with pytest.raises(StoreRefused, match="volatile"):
        check_place(tmp_path / "store.db", mounts=mounts)


def test_a_place_that_no_mount_holds_is_refused(tmp_path: Path) -> None:
    """As in a folder that was made the root of a process: nothing says what it lies on."""
    mounts = "23 22 0:40 / /proc rw - proc proc rw\n"
    with pytest.raises(StoreRefused, match="does not say"):
        check_place(tmp_path / "store.db", mounts=mounts)
    check_place(tmp_path / "store.db", any_file_system=True, mounts=mounts)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-server", "-journal"])
def test_a_file_that_is_mounted_by_itself_is_refused(tmp_path: Path, suffix: str) -> None:
    """The others would stay behind, whatever the file system; insisting does not help."""
    mounted = f"{tmp_path}/two words.db{suffix}"
    point = mounted.replace(" ", "\\040")
    mounts = f"{ROOT}23 22 8:1 /srv/x {point} rw - ext4 /dev/sda1 rw\n"
    with pytest.raises(StoreRefused, match="mount the folder") as caught:
        check_place(tmp_path / "two words.db", any_file_system=True, mounts=mounts)
    assert mounted in str(caught.value)
    check_place(tmp_path / "other.db", mounts=mounts)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-server", "-journal"])
def test_a_file_with_two_names_is_refused(tmp_path: Path, suffix: str) -> None:
    """By the other name it is a store without its log."""
    file = tmp_path / f"store.db{suffix}"
    file.write_bytes(b"x")
    (tmp_path / "second").hardlink_to(file)
    with pytest.raises(StoreRefused, match="2 names") as caught:
        check_place(tmp_path / "store.db", mounts=ROOT)
    assert str(file) in str(caught.value)
    (tmp_path / "second").unlink()
    check_place(tmp_path / "store.db", mounts=ROOT)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-server", "-journal"])
def test_a_log_that_is_a_link_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"store.db{suffix}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreRefused, match="no ordinary file"):
        check_place(tmp_path / "store.db", mounts=ROOT)


def test_a_store_does_not_begin_where_one_has_gone_missing(tmp_path: Path) -> None:
    """A log without its file may hold records; a lock that was held says that there was a store."""
    file = tmp_path / "store.db"
    check_begins(file)
    wal = tmp_path / "store.db-wal"
    wal.write_bytes(b"commits")
    for _ in range(2):
        with pytest.raises(StoreRefused, match="may hold records"):
            check_begins(file)
        file.touch()
    wal.write_bytes(b"")
    check_begins(file)
    (tmp_path / "store.db-server").write_text("4242")
    with pytest.raises(StoreRefused, match=r"is empty, but .*, or remove \S+store.db and restore"):
        check_begins(file)
    file.unlink()
    with pytest.raises(StoreRefused, match=r"is not there, .*remove \S+store.db-server first"):
        check_begins(file)


def sizes(folder: Path) -> list[int]:
    """Of all files in it."""
    return [file.stat().st_size for file in folder.iterdir()]


@pytest.mark.anyio
@pytest.mark.parametrize("commits", ["process", "thread"])
async def test_a_store_that_was_served_and_emptied_is_refused_at_once(
    tmp_path: Path, commits: str
) -> None:
    """A copy or a redirection that was cut off leaves a file without anything in it."""
    file = tmp_path / "store.db"
    url = f"sqlite:///{file}?commits={commits}"
    await (await open_store(url, server=True)).close()
    file.write_bytes(b"")
    started = time.monotonic()
    for server in (True, False):
        with pytest.raises(StoreRefused, match=r"is empty, but \S+ says that it was served"):
            await open_store(url, server=server)
    assert time.monotonic() - started < MAKING_S / 2
    assert file.read_bytes() == b""
    (tmp_path / "store.db-server").unlink()
    await (await open_store(url, server=True)).close()


@pytest.mark.anyio
async def test_a_server_that_is_killed_while_it_makes_its_store_can_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves is a file without anything in it, and a lock that names nobody."""
    url = f"sqlite:///{tmp_path}/store.db?commits=thread"

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(engine, "open_guarded", killed)
        with pytest.raises(Killed):
            await SqliteStore.open(parse_url(url), server=True)
    assert sizes(tmp_path) == [0, 0]
    store = await open_store(url, server=True)
    assert store.created
    assert (tmp_path / "store.db-server").read_text() == str(os.getpid())
    await store.close()


def test_a_lock_names_its_holder_beside_what_another_door_has_told(tmp_path: Path) -> None:
    """A server that has read its new store must learn of a commit behind its back."""
    file = tmp_path / "store.db"
    with ServerLock(file, making=True) as lock:
        before = lock.stamp()
        Stamp(file, server=False).renew()
        told = lock.stamp()
        lock.made()
        assert lock.stamp() == told != before
        assert lock_file(file).read_bytes().startswith(str(os.getpid()).encode() + b"\0")


def test_a_link_to_a_network_file_system_is_refused(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounts = f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:40 / {tmp_path}/far rw - nfs nas: rw\n"
    with pytest.raises(StoreRefused, match="network"):
        check_place((tmp_path / "near" / "store.db").resolve(), mounts=mounts)


def test_a_local_folder_is_fine(tmp_path: Path) -> None:
    check_place(tmp_path / "store.db", mounts=ROOT)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match=r"/none does not exist; make it"):
        check_place(tmp_path / "none" / "store.db")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="is a folder"):
        check_place(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    with pytest.raises(StoreRefused, match="cannot be written"):
        check_place(tmp_path / "store.db")


def test_the_lock_is_for_one(tmp_path: Path) -> None:
    """The second is told who holds it; when it is let go, it can be taken again."""
    file = tmp_path / "store.db"
    lock = ServerLock(file)
    for _ in range(2):
        with pytest.raises(StoreRefused, match=rf"process {os.getpid()}\) already serves"):
            ServerLock(file)
    ServerLock(tmp_path / "other.db").release()
    lock.release()
    ServerLock(file).release()


def test_the_lock_is_waited_for_until_who_was_killed_just_now_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's process has it, too, and ends a moment after its server."""
    lock = ServerLock(tmp_path / "store.db")
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            lock.release()

    monkeypatch.setattr(time, "sleep", sleep)
    ServerLock(tmp_path / "store.db").release()
    assert len(looks) == 3


def test_a_lock_left_behind_holds_nobody(tmp_path: Path) -> None:
    (tmp_path / "store.db-server").write_text("4242")
    lock = ServerLock(tmp_path / "store.db")
    assert (tmp_path / "store.db-server").read_text() == str(os.getpid())
    lock.release()


def test_a_lock_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.db-server").mkdir()
    with pytest.raises(StoreRefused, match="cannot be opened"):
        ServerLock(tmp_path / "store.db")


def test_room_is_what_the_disk_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_room(tmp_path / "none" / "store.db", 0)
    found = os.statvfs(tmp_path)
    fields = list(found)
    for blocks, room in [(0, False), (2**40, True)]:
        fields[4] = blocks
        result = os.statvfs_result(fields)
        monkeypatch.setattr(os, "statvfs", lambda _path, result=result: result)
        assert has_room(tmp_path / "store.db", 1000) is room


@pytest.mark.anyio
async def test_a_journal_that_lies_beside_a_store_is_named(tmp_path: Path) -> None:
    """SQLite would change the store back by it, and says only that it cannot be written."""
    file = tmp_path / "store.db"
    await (await open_store(f"sqlite:///{file}")).close()
    other = sqlite3.connect(tmp_path / "other.db", isolation_level=None)
    other.execute("PRAGMA cache_size = 5")
    other.execute("CREATE TABLE t (a)")
    other.executemany("INSERT INTO t VALUES (?)", [(bytes(1000),)] * 100)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE t SET a = 1")
    shutil.copy(tmp_path / "other.db-journal", tmp_path / "store.db-journal")
    other.close()
    whole = file.read_bytes()
    for refused in (
        lambda: open_store(f"sqlite:///{file}", server=True),
        lambda: open_store(f"sqlite:///{file}"),
        lambda: asyncio.to_thread(audit_file, file, lambda _done, _total: None),
    ):
        with pytest.raises(StoreRefused, match=r"store\.db-journal is beside it"):
            await refused()
    assert file.read_bytes() == whole
