"""Which mount holds a folder, and which file is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullstatus import mounts
from pullstatus.mounts import mount_of, mounted_alone, mounts_here, parse_mounts

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
    found = mount_of(Path(folder), parse_mounts(MOUNTS))
    assert found is not None
    assert found.kind == kind


def test_nothing_is_known_without_mounts() -> None:
    assert mount_of(Path("/var"), []) is None


def test_a_file_that_is_a_mount_point_is_mounted_alone() -> None:
    found = parse_mounts(MOUNTS)
    assert mounted_alone([Path("/mnt"), Path("/mnt/two words")], found) == Path("/mnt/two words")
    assert mounted_alone([Path("/mnt/two"), Path("/mnt/share/file")], found) is None


def test_where_nobody_tells_nothing_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mounts_here(), "as of a process on Linux"
    monkeypatch.setattr(mounts, "read_mounts", lambda: None)
    assert mounts_here() == []
