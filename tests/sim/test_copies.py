"""Power is cut, or the process killed, at any call of a backup or a restore.

Both run unchanged on the crash disk: what SQLite writes and syncs, and every name that is made,
given or taken away, counts as a call. The store, its backup and the new file share one disk.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import cast

import apsw
import pytest

from pullstatus.errors import StoreRefused
from pullstatus.store.sqlite import copies
from pullstatus.store.sqlite.audit import audit, audit_file
from pullstatus.store.sqlite.connection import open_reader, open_writer
from pullstatus.store.sqlite.copies import Files, backup, backup_on, restore_on
from pullstatus.store.sqlite.log import Log
from pullstatus.store.values import Act, Append, Mailbox, Page, Pull
from tests.sim.disk import NEVER, VFS_NAME, Disk, PowerCut
from tests.sim.found import Found, Range
from tests.sim.life import MAILBOXES, Life
from tests.sim.workload import finish, plan_append, plan_pull, template

STORE, BACKUP, NEW = "store.db", "backup.db", "new.db"
CRASHES = 3  # different remains that are looked at for each cut
EPOCH = '{"epoch":2}'  # what the audit trail has for a first restore


class DiskFiles(Files):
    """The crash disk for `copies`: every change is a call that power can be cut in."""

    vfs = VFS_NAME

    def __init__(self, disk: Disk, *, syncs_folder: bool = True) -> None:
        """Not to sync the folder is a bug to plant."""
        self._disk = disk
        self._syncs_folder = syncs_folder

    def path(self, name: str) -> Path:
        """A file of this disk."""
        return Path(self._disk.path(name))

    def exists(self, path: Path) -> bool:
        return path.name in self._disk.names

    def create(self, path: Path) -> None:
        if not self.exists(path):
            self._disk.make(path.name)
        if self._disk.tick():
            self._disk.names[path.name].truncate(0)

    def sync(self, path: Path) -> None:
        if self._disk.tick():
            if self.exists(path):
                self._disk.names[path.name].sync()
            elif self._syncs_folder:
                self._disk.sync_names()

    def link(self, path: Path, name: Path) -> None:
        if self.exists(name):
            raise FileExistsError(name)
        if self._disk.tick():
            self._disk._change(name.name, self._disk.names[path.name])

    def remove(self, path: Path) -> None:
        if self._disk.dark:
            raise PowerCut
        if self.exists(path):
            self._disk.remove(path.name)


def _never_fold(connection: apsw.Connection) -> None:
    # A connection that only reads cannot take the lock that folding at the end needs; this disk
    # has no locks to deny it.
    if connection.open_vfs == VFS_NAME and connection.readonly("main"):
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


@pytest.fixture(autouse=True)
def _readers_only_read() -> Iterator[None]:
    apsw.connection_hooks.append(_never_fold)
    yield
    apsw.connection_hooks.remove(_never_fold)


def no_progress(_done: int, _total: int) -> None:
    pass


def do_backup(files: DiskFiles) -> None:
    backup_on(files, files.path(STORE), files.path(BACKUP), no_progress)


def do_restore(files: DiskFiles) -> int:
    act = Act("me", "restore", "", "", 1, b"ticket of restore"[:16])
    return restore_on(files, files.path(BACKUP), files.path(NEW), act=act, progress=no_progress)


def survives(disk: Disk, act: Callable[[], object]) -> bool:
    """Whether `act` came to its end before power was cut."""
    try:
        act()
    except BaseException:
        if not disk.dark:
            raise
        disk.abandoned = True  # before connections go that the error still holds
        return False
    done = not disk.dark
    disk.abandoned = True
    return done


def remains(disk: Disk, seed: int) -> list[Disk]:
    """What may be found: after cuts, and by the process that follows a killed one."""
    return [*(disk.crash(Random(f"{seed} {n}")) for n in range(CRASHES)), disk.copy()]


def image(disk: Disk, name: str) -> bytes | None:
    inode = disk.names.get(name)
    return None if inode is None else bytes(inode.content)


def images(disk: Disk, name: str) -> tuple[bytes | None, ...]:
    """A file and what lies beside it, to the byte."""
    return tuple(image(disk, name + suffix) for suffix in ("", "-wal", "-journal"))


def rows(disk: Disk, name: str) -> dict[str, list[tuple[object, ...]]]:
    """All that a file holds, which is sound."""
    # Of a copy, since looking makes a log, too.
    copy = disk.copy()
    connection = open_reader(Path(copy.path(name)), vfs=VFS_NAME)
    with contextlib.closing(connection):
        assert audit(connection, no_progress).findings == []
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        return {
            str(name): connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for (name,) in names
        }


def drains(disk: Disk, name: str, before: Life, marked: dict[Range, int] | None = None) -> Found:
    """A store serves: nothing is lost and nothing comes twice. Returns what it held at first.

    Args:
        marked: what a restore has to have marked, and where that stands.
    """
    life = Life(f"drain {name}", None, before)
    own = disk.copy()
    for suffix in ("-wal", "-journal", ""):
        inode = own.names.get(name + suffix)
        own.names.pop(STORE + suffix, None)
        if inode is not None:
            own.names[STORE + suffix] = inode
    life.move(own)
    if marked is not None:
        life.copies[EPOCH] = {
            taken: life.deliveries(taken, before.found.entries(taken)) for taken in marked
        }
    life.recover()
    found = life.found
    if marked is not None:
        assert found.copies.pop(EPOCH) == marked
        epochs = life.connection.execute("SELECT number FROM epoch ORDER BY 1").fetchall()
        assert epochs == [(1,), (2,)]
    finish(life)
    life.move(Disk())
    return found


def used(number: int) -> Life:
    """A store that was used and is looked at; closed, or as a killed process left it."""
    life = Life(f"used {number}", None, template(number))
    life.recover()
    if number == 0 or number % 2:
        life.close()
    else:
        life.kill()
    return life


def waiting(found: Found) -> dict[Range, int]:
    """What a restore has to mark, and where it stands."""
    marks = {}
    for mailbox, cursor in found.cursors.items():
        count = found.first[mailbox] + len(found.kept[mailbox]) - 1 - cursor
        if count:
            marks[Range(mailbox, cursor + 1, count)] = cursor + 1
    return marks


@pytest.mark.parametrize("number", [1, 2])
def test_a_backup_survives_a_cut_at_any_call(number: int) -> None:
    """There is no backup or a whole one, the store stays as it was, and a second attempt works."""
    before = used(number)
    expected = rows(before.disk, STORE)
    durable = before.disk.crash(Random(0)) if number % 2 else before.disk.copy()
    untouched = image(durable, STORE), image(durable, STORE + "-wal")
    seen = {True: 0, False: 0}
    for left in range(NEVER):
        disk = durable.copy()
        disk.left = left
        done = survives(disk, lambda disk=disk: do_backup(DiskFiles(disk)))  # type: ignore[misc]
        assert (image(disk, STORE), image(disk, STORE + "-wal") or untouched[1]) == untouched
        for place, found in enumerate(remains(disk, left)):
            there = BACKUP in found.names
            seen[there] += 1
            assert there or not done
            if there:
                assert rows(found, BACKUP) == expected
                with pytest.raises(StoreRefused, match="exists"):
                    do_backup(DiskFiles(found))
            elif place == left % (CRASHES + 1):
                do_backup(DiskFiles(found))
                assert set(found.names) <= {STORE, STORE + "-wal", BACKUP}
                assert rows(found, BACKUP) == expected
            if place == 0:
                drains(found, STORE, before)
            found.abandoned = True
        if done:
            break
    assert left > 15
    assert min(seen.values()) > CRASHES


@pytest.mark.parametrize("number", [0, 5])
def test_a_restore_survives_a_cut_at_any_call(number: int) -> None:
    """There is no new store, or one in a new epoch in which all that waited is marked.

    Store 0 has the first format, so that cuts fall into its migration as well.
    """
    before = used(number) if number else first_format()
    marked = waiting(before.found)
    assert marked
    disk = before.disk
    disk.names[BACKUP] = disk.names[STORE].copy()
    plain = apsw.Connection(disk.path(BACKUP), vfs=VFS_NAME)
    plain.pragma("journal_mode", "delete")
    plain.close()
    for inode in disk.names.values():
        inode.sync()
    disk.sync_names()
    untouched = images(disk, STORE), images(disk, BACKUP)
    drains(disk, STORE, before)
    seen = {True: 0, False: 0}
    proven: set[tuple[bytes | None, ...]] = set()  # of what is found, most is the same
    for left in range(NEVER):
        own = disk.copy()
        own.left = left
        done = survives(own, lambda own=own: do_restore(DiskFiles(own)))  # type: ignore[misc]
        for place, found in enumerate(remains(own, left)):
            there = NEW in found.names
            seen[there] += 1
            assert there or not done
            assert (images(found, STORE), images(found, BACKUP)) == untouched
            if there:
                with pytest.raises(StoreRefused, match="exists"):
                    do_restore(DiskFiles(found))
            elif place == left % (CRASHES + 1):
                assert do_restore(DiskFiles(found)) == 2
                assert set(found.names) == {STORE, BACKUP, NEW}
            if NEW in found.names and (new := images(found, NEW)) not in proven:
                proven.add(new)
                assert rows(found, NEW)["act"][-1][3:5] == ("me", "restore")
                assert drains(found, NEW, before, marked) == before.found
            found.abandoned = True
        if done:
            break
    assert left > 25
    assert min(seen.values()) > CRASHES


def first_format() -> Life:
    """A store in the first format, and what it looks like in the newest."""
    looked = used(0)
    life = Life("first", None, template(0))
    life.found = looked.found
    return life


def test_a_folder_that_is_not_synced_is_found() -> None:
    """Without that sync a backup that was reported may be gone: the judge must see it."""
    before = used(1)
    gone = 0
    for seed in range(40):
        disk = before.disk.copy()
        do_backup(DiskFiles(disk, syncs_folder=False))
        gone += BACKUP not in disk.crash(Random(seed)).names
    assert 0 < gone < 40


def test_cuts_while_others_commit_during_a_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backup is of the moment it began, and what was committed meanwhile is the store's."""
    monkeypatch.setattr(copies, "COPY_PAGES", 2)
    whole = 0
    for left in range(0, NEVER, 3):
        life = Life(f"beside {left}", None, template(4))
        life.recover()
        expected = rows(life.disk, STORE)
        life.disk.left = left

        def commit(_done: int, _total: int, life: Life = life) -> None:
            life.commit([plan_append(life, ()), plan_pull(life, ())])

        files = DiskFiles(life.disk)
        done = survives(
            life.disk,
            lambda files=files, commit=commit: backup_on(  # type: ignore[misc]
                files, files.path(STORE), files.path(BACKUP), commit
            ),
        )
        life.cut()
        if BACKUP in life.disk.names:
            whole += 1
            assert rows(life.disk, BACKUP) == expected
        else:
            assert not done
        life.recover()
        finish(life)
        life.move(Disk())
        if done:
            break
    assert left > 60
    assert whole


def test_a_backup_beside_commits_and_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the real file system, where another connection commits and folds between all steps."""
    monkeypatch.setattr(copies, "COPY_PAGES", 2)
    source, target = tmp_path / STORE, tmp_path / BACKUP
    log = Log(open_writer(source))
    mailbox: Mailbox = MAILBOXES[0]
    data = [b'"%d"' % number + b" " * 3000 for number in range(40)]
    log.commit([Append(mailbox, data, 1)])
    steps = 0

    def commit(_done: int, _total: int) -> None:
        nonlocal steps
        steps += 1
        assert steps < 100, "every commit began the backup anew"
        log.commit([Append(mailbox, data[:5], 1)])
        page = cast("Page", log.commit([Pull(mailbox, 3, 1, "")])[0])
        assert page.count == 3
        log.checkpoint(least_pages=0)

    backup(source, target, commit)
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == [BACKUP, STORE]
    assert steps > 5
    (copied,) = audit_file(target, no_progress).mailboxes
    assert (copied.accepted, copied.waiting) == (40, 40)
    (stored,) = (report := audit_file(source, no_progress)).mailboxes
    assert report.findings == []
    assert (stored.accepted, stored.handed_out) == (40 + 5 * steps, 3 * steps)
