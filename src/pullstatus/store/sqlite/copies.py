"""Backup and restore: whole copies of the file, made while it is in use, proven before use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import apsw

from pullstatus.errors import StoreRefused
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.audit import audit
from pullstatus.store.sqlite.connection import open_reader, open_writer
from pullstatus.store.sqlite.place import check_folder
from pullstatus.store.values import Progress

COPY_PAGES = 1024  # 8 MiB between two reports of progress


class Files:
    """The file system, where SQLite does not see to it. Tests put another in its place.

    Attributes:
        vfs: SQLite's name for it; None for the real one.
    """

    vfs: str | None = None

    def exists(self, path: Path) -> bool:
        """Whether there is anything of this name."""
        return path.exists()

    def create(self, path: Path) -> None:
        """Make a file empty, new or not."""
        os.close(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600))

    def sync(self, path: Path) -> None:
        """Make a file's data certain, or a folder's names."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def link(self, path: Path, name: Path) -> None:
        """Give a file another name, which must be free."""
        os.link(path, name)

    def remove(self, path: Path) -> None:
        """Take a name away, if it is there."""
        path.unlink(missing_ok=True)


def backup(source: Path, target: Path, progress: Progress) -> None:
    """Copy a store, as of the moment this begins, into a new file; audited before it gets its name.

    Raises:
        StoreRefused: the target exists or can't be written, or the copy is not sound.
    """
    backup_on(Files(), source, target, progress)


def backup_on(files: Files, source: Path, target: Path, progress: Progress) -> None:
    """As `backup`, on any file system."""
    with _new_file(files, target) as part:
        _copy(files, source, part, progress)
        _check_sound(files, part)


def restore(backup_file: Path, target: Path, *, at_ms: int, actor: str, progress: Progress) -> int:
    """Make a new store out of a backup and begin a new epoch; returns its number.

    Raises:
        StoreRefused: the target exists, or the backup is none, or not sound.
    """
    if not backup_file.is_file():
        raise StoreRefused(f"{backup_file} does not exist")
    check_folder(target)
    return restore_on(Files(), backup_file, target, at_ms=at_ms, actor=actor, progress=progress)


def restore_on(
    files: Files, backup_file: Path, target: Path, *, at_ms: int, actor: str, progress: Progress
) -> int:
    """As `restore`, on any file system, whose fitness is not asked."""
    with _new_file(files, target) as part:
        _copy(files, backup_file, part, progress)
        connection = open_writer(part, vfs=files.vfs)  # brings an older format up to date
        try:
            _check_sound(files, part)
            epoch = _begin_epoch(connection, at_ms, actor)
        finally:
            connection.close()
    return epoch


def _begin_epoch(connection: apsw.Connection, at_ms: int, actor: str) -> int:
    with connection:
        connection.execute("INSERT INTO epoch (began_ms) VALUES (?)", (at_ms,))
        epoch = connection.last_insert_rowid()
        connection.execute(
            "INSERT INTO audit (at_ms, actor, action, reason, detail)"
            " VALUES (?, ?, 'restore', '', ?)",
            (at_ms, actor, f'{{"epoch":{epoch}}}'),
        )
        connection.execute(
            "INSERT INTO again SELECT (id << ?1) + cursor + 1, tail - cursor, cursor + 1, ?2"
            " FROM mailbox WHERE tail > cursor",
            (schema.SEQ_BITS, connection.last_insert_rowid()),
        )
    return epoch


def _copy(files: Files, source: Path, target: Path, progress: Progress) -> None:
    reader = open_reader(source, vfs=files.vfs)
    writer = apsw.Connection(str(target), vfs=files.vfs)
    try:
        # With a snapshot held, what others commit meanwhile neither shows nor starts this anew.
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        with writer.backup("main", reader, "main") as copying:
            while not copying.done:
                copying.step(COPY_PAGES)
                progress(copying.page_count - copying.remaining, copying.page_count)
        writer.pragma("journal_mode", "delete")  # a copy is one plain file
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreRefused(f"{source} is no sound store: {error}") from error
    except apsw.Error as error:
        raise StoreRefused(f"{source} cannot be copied to {target}: {error}") from error
    finally:
        writer.close()
        reader.close()


def _check_sound(files: Files, file: Path) -> None:
    connection = open_reader(file, vfs=files.vfs)
    try:
        findings = audit(connection, lambda _done, _total: None).findings
    finally:
        connection.close()
    if findings:
        raise StoreRefused(f"the copy is not sound: {findings[0].problem}; run `pullstatus audit`")


@contextlib.contextmanager
def _new_file(files: Files, target: Path) -> Iterator[Path]:
    """A file beside `target` to be filled; synced and named `target` if that goes well."""
    if files.exists(target):
        raise StoreRefused(f"{target} exists; name a new file")
    part = target.with_name(f"{target.name}.part")
    try:
        files.create(part)
    except OSError as error:
        raise StoreRefused(f"{part} cannot be written: {error.strerror}") from error
    try:
        yield part
        files.sync(part)
        # Never over a file that has appeared meanwhile.
        files.link(part, target)
        files.sync(target.absolute().parent)
    except FileExistsError as error:
        raise StoreRefused(f"{target} exists; name a new file") from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            files.remove(part.with_name(part.name + suffix))
