"""Where a store may live: on a local disk, in a folder that is there, served by one process."""

import os
from pathlib import Path

import pytest

from pullstatus.errors import StoreRefused
from pullstatus.store.sqlite.place import (
    NETWORK_FILE_SYSTEMS,
    ServerLock,
    check_folder,
    file_system,
    has_room,
)

MOUNTS = r"""22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw,nosuid - proc proc rw
24 22 0:40 / /mnt/share rw,relatime shared:5 - nfs4 nas:/export rw,vers=4.2
25 22 0:41 / /mnt/sha rw,relatime - xfs /dev/sdb1 rw
26 22 0:42 / /mnt/two\040words rw - cifs //nas/two\040words rw
27 22 0:43 / /mnt/back\134slash rw - fuse.sshfs nas: rw
28 22 0:44 / /mnt/tab\011and\012line rw master:1 propagate_from:2 - nfs nas:/t rw
29 22 0:45 / /mnt/données rw - nfs nas:/d rw
30 24 0:46 / /mnt/share/local rw - ext4 /dev/sdc1 rw
31 22 0:47 / /mnt/twice rw - ext4 /dev/sdd1 rw
32 22 0:48 / /mnt/twice rw - nfs nas:/twice rw
33 22 0:49 / /mnt/wide　blank rw - nfs nas:/w rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/pullstatus", "ext4"),
        ("/mnt", "ext4"),
        ("/proc/self", "proc"),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/pullstatus", "nfs4"),
        ("/mnt/sha", "xfs"),
        ("/mnt/shared", "ext4"),
        ("/mnt/share/local/data", "ext4"),
        ("/mnt/two words", "cifs"),
        ("/mnt/two words/data", "cifs"),
        ("/mnt/two", "ext4"),
        ("/mnt/back\\slash", "fuse.sshfs"),
        ("/mnt/tab\tand\nline/data", "nfs"),
        ("/mnt/données/data", "nfs"),
        ("/mnt/twice", "nfs"),
        ("/mnt/wide　blank", "nfs"),
    ],
)
def test_the_deepest_mount_point_decides(folder: str, kind: str) -> None:
    """Of two on the same point the later one covers the other; blanks are written in octal."""
    assert file_system(Path(folder), MOUNTS) == kind


def test_nothing_is_known_without_mounts() -> None:
    assert file_system(Path("/var"), "") == ""


@pytest.mark.parametrize("kind", sorted(NETWORK_FILE_SYSTEMS))
def test_network_file_systems_are_refused(tmp_path: Path, kind: str) -> None:
    """The text says which folder, which file system and what to do."""
    mounts = f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:40 / {tmp_path} rw - {kind} nas: rw\n"
    with pytest.raises(StoreRefused, match="local disk") as caught:
        check_folder(tmp_path / "store.db", mounts)
    assert str(tmp_path) in str(caught.value)
    assert f"({kind})" in str(caught.value)


def test_a_link_to_a_network_file_system_is_refused(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounts = f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:40 / {tmp_path}/far rw - nfs nas: rw\n"
    with pytest.raises(StoreRefused, match="network"):
        check_folder(tmp_path / "near" / "store.db", mounts)


def test_a_local_folder_is_fine(tmp_path: Path) -> None:
    check_folder(tmp_path / "store.db", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match=r"/none does not exist; make it"):
        check_folder(tmp_path / "none" / "store.db")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="is a folder"):
        check_folder(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    with pytest.raises(StoreRefused, match="cannot be written"):
        check_folder(tmp_path / "store.db")


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
    assert not has_room(tmp_path / "none" / "store.db")
    found = os.statvfs(tmp_path)
    fields = list(found)
    for blocks, room in [(0, False), (2**40, True)]:
        fields[4] = blocks
        result = os.statvfs_result(fields)
        monkeypatch.setattr(os, "statvfs", lambda _path, result=result: result)
        assert has_room(tmp_path / "store.db") is room
