"""Backup and restore to real targets: no hard links there, somebody else at it, no room."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pullstatus.errors import StoreRefused
from pullstatus.store import restore_store
from pullstatus.store.sqlite import copies
from pullstatus.store.sqlite.audit import audit_file
from pullstatus.store.sqlite.location import Location
from pullstatus.store.sqlite.place import ServerLock, begins
from pullstatus.store.sqlite.stamp import lock_file
from tests.store.build import STATUSES, append, names, new_act, records
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio


def no_progress(_done: int, _total: int) -> None:
    pass


@pytest.fixture
async def source(opener: Opener, file: Path) -> Path:
    """A store with three records, closed."""
    store = await opener()
    await store.append(append(STATUSES, records(3)))
    await store.close()
    return file


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """In a folder of its own."""
    (tmp_path / "nas").mkdir()
    return tmp_path / "nas" / "b.db"


def accepted(file: Path) -> int:
    report = audit_file(file, no_progress)
    assert report.findings == []
    return report.mailboxes[0].accepted


async def test_a_backup_into_a_folder_that_is_missing_says_so(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match=r"/none does not exist; make it"):
        copies.backup(source, tmp_path / "none" / "b.db", no_progress)


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm", "-server"])
async def test_a_backup_is_no_part_of_the_store(source: Path, suffix: str) -> None:
    """By its journal SQLite would change the store back, and nobody could open it."""
    part = source.with_name(source.name + suffix)
    there = part.exists()
    with pytest.raises(StoreRefused, match="a part of"):
        copies.backup(source, part, no_progress)
    assert part.exists() == there
    audit_file(source, no_progress)


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm", "-server"])
async def test_what_is_restored_or_begins_is_no_part_of_a_store(
    source: Path, target: Path, suffix: str
) -> None:
    """What has the name of its log SQLite removes when the store is opened."""
    copies.backup(source, target, no_progress)
    part = target.with_name(target.name + suffix)
    with pytest.raises(StoreRefused, match="a part of"):
        restore(target, Location(part))
    with pytest.raises(StoreRefused, match="a part of"):
        begins(part)
    assert not part.exists()


@pytest.mark.parametrize("name", ["-wal", ".-wal", "..-wal"])
async def test_a_name_that_is_the_end_of_one_alone_is_no_part(
    source: Path, tmp_path: Path, name: str
) -> None:
    copies.backup(source, tmp_path / name, no_progress)
    assert accepted(tmp_path / name) == 3


async def test_an_audit_of_a_folder_finds_no_damage(tmp_path: Path) -> None:
    """What SQLite says of it is that a disk fails."""
    with pytest.raises(StoreRefused, match="is a folder; name a file in it"):
        audit_file(tmp_path, no_progress)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
async def test_without_hard_links(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """CIFS, exFAT and most of FUSE have none. A file that is there is not written over either."""

    def link(*_paths: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    copies.backup(source, target, no_progress)
    assert names(target.parent) == ["b.db"]
    assert accepted(target) == 3
    restored = f"sqlite:///{target.parent}/new.db"
    args = {"act": new_act("restore"), "progress": no_progress}
    assert await restore_store(restored, target, **args) == 2  # type: ignore[arg-type]
    assert names(target.parent) == ["b.db", "new.db"]

    def appears(_done: int, _total: int) -> None:
        (target.parent / "c.db").write_text("somebody else's")

    with pytest.raises(StoreRefused, match="exists"):
        copies.backup(source, target.parent / "c.db", appears)
    assert (target.parent / "c.db").read_text() == "somebody else's"
    assert names(target.parent) == ["b.db", "c.db", "new.db"]


async def test_a_name_that_is_free_is_left_free_when_it_cannot_be_taken(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_paths: object) -> None:
        raise OSError(errno.EIO, "made up")

    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StoreRefused, match="made up"):
        copies.backup(source, target, no_progress)
    assert names(target.parent) == []


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no_locks"])
async def test_two_at_once_to_one_target(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, *, locks: bool
) -> None:
    """One makes it, the other is told so; the file is whole and nothing else is left."""
    if not locks:

        def flock(*_args: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.flock", flock)
    begun, go_on = threading.Event(), threading.Event()

    def hold(_done: int, _total: int) -> None:
        begun.set()
        assert go_on.wait(60)

    first = threading.Thread(target=copies.backup, args=(source, target, hold))
    first.start()
    assert begun.wait(60)
    with pytest.raises(StoreRefused, match=r"another process is making .*b\.db"):
        copies.backup(source, target, no_progress)
    go_on.set()
    first.join()
    assert names(target.parent) == ["b.db"]
    assert accepted(target) == 3


async def test_what_a_killed_one_left_is_in_nobodys_way(source: Path, target: Path) -> None:
    for suffix in (".part", ".part-journal", ".part-lock"):
        target.with_name(target.name + suffix).write_text("half")
    copies.backup(source, target, no_progress)
    assert names(target.parent) == ["b.db"]
    assert accepted(target) == 3


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
async def test_a_file_is_not_made_beside_the_log_of_another(
    source: Path, target: Path, suffix: str
) -> None:
    """Whoever opened it would get a mixture of both."""
    target.with_name(target.name + suffix).write_text("commits of another file")
    with pytest.raises(StoreRefused, match="may hold records"):
        copies.backup(source, target, no_progress)
    with pytest.raises(StoreRefused, match="may hold records"):
        await restore_store(
            f"sqlite:///{target}", source, act=new_act("restore"), progress=no_progress
        )
    assert names(target.parent) == [target.name + suffix]


async def test_a_name_that_a_store_in_use_has_is_said_to_be_taken(
    source: Path, target: Path
) -> None:
    """It has a log beside it, which is no reason to look for another file."""
    for suffix in ("", "-wal"):
        target.with_name(target.name + suffix).write_text("a store in use")
    for act in (back_up, restore):
        with pytest.raises(StoreRefused, match=r"b\.db exists; name a new file"):
            act(source, Location(target))


@pytest.mark.parametrize("name", ["/dev/zero", "."])
async def test_what_is_no_file_is_no_backup(target: Path, name: str) -> None:
    with pytest.raises(StoreRefused, match="is no ordinary file"):
        restore(Path(name), Location(target))


def back_up(source: Path, target: Location) -> None:
    copies.backup(source, target.path, no_progress)


def restore(source: Path, target: Location) -> None:
    copies.restore(source, target, act=new_act("restore"), progress=no_progress)


@pytest.mark.parametrize("act", [back_up, restore])
async def test_a_disk_that_is_full_is_said_in_one_line(
    source: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Path, Location], None],
) -> None:
    def fail(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(copies.Files, "sync", fail)
    location = Location(target)
    with pytest.raises(StoreRefused, match="No space left"):
        act(source, location)
    assert names(target.parent) == []


@pytest.mark.parametrize("suffix", [".part", ".part-lock"])
async def test_a_name_that_somebody_has_planted_is_not_followed(
    source: Path, target: Path, tmp_path: Path, suffix: str
) -> None:
    """Whoever may write into the folder does not have us write elsewhere."""
    elsewhere = tmp_path / "precious"
    elsewhere.write_text("precious")
    planted = target.with_name(target.name + suffix)
    for kind in ("symbolic", "hard", "dangling"):
        if kind == "symbolic":
            planted.symlink_to(elsewhere)
        elif kind == "hard":
            planted.hardlink_to(elsewhere)
        else:
            planted.symlink_to(tmp_path / "nowhere")
        if suffix == ".part":
            copies.backup(source, target, no_progress)
            assert accepted(target) == 3
            os.unlink(target)  # noqa: PTH108
        else:
            with pytest.raises(StoreRefused, match=r"b\.db\.part-lock cannot be written"):
                copies.backup(source, target, no_progress)
            planted.unlink()
        assert elsewhere.read_text() == "precious"
        assert names(target.parent) == []
        assert not (tmp_path / "nowhere").exists()


async def test_a_part_that_lies_there_with_a_loose_mode_does_not_give_it_to_the_backup(
    source: Path, target: Path
) -> None:
    planted = target.with_name(f"{target.name}.part")
    planted.touch()
    planted.chmod(0o666)
    copies.backup(source, target, no_progress)
    assert os.stat(target).st_mode & 0o777 == 0o600  # noqa: PTH116


async def test_a_lock_that_somebody_has_planted_is_not_written_into(
    source: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "precious"
    elsewhere.write_text("precious")
    lock = lock_file(source)
    lock.symlink_to(elsewhere)
    with pytest.raises(StoreRefused, match="cannot be opened"):
        ServerLock(source)
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(StoreRefused, match="cannot be opened"):
        ServerLock(source)
    assert elsewhere.read_text() == "precious"
