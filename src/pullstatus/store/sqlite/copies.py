"""Backup and restore: whole copies of the file, made while it is in use, proven before use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec

from pullstatus.errors import StoreRefused
from pullstatus.store.sqlite import gate, pairing, reading, schema
from pullstatus.store.sqlite.acts import ActRows
from pullstatus.store.sqlite.audit import audit
from pullstatus.store.sqlite.connection import distrust, open_reader, open_writer
from pullstatus.store.sqlite.location import Location
from pullstatus.store.sqlite.place import (
    check_folder,
    check_no_log,
    check_own_name,
    check_place,
    open_lock,
    said_of,
)
from pullstatus.store.transfer import Role, Stage
from pullstatus.store.values import Accept, Act, Progress, ProveSetting, accept_any, any_setting
from pullstatus.store.verbs.acts import record

COPY_PAGES = 2048  # 8 MiB between two reports of progress


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
        """Make an empty file, new: one that somebody has left there may be a link, or his."""
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

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

    def take_name(self, path: Path, name: Path) -> None:
        """Give a file another name, which must be free, in place of its own; without a link.

        For file systems that have none, as on sticks and network shares. A process that is killed
        just here leaves an empty file of that name.
        """
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            path.replace(name)  # over the empty file, which is ours
        except BaseException:
            name.unlink()
            raise

    def remove(self, path: Path) -> None:
        """Take a name away, if it is there."""
        path.unlink(missing_ok=True)


def origin(file: Path) -> bytes | None:
    """See `backup_origin`."""
    try:
        if not file.is_file():
            return None
        if not file.stat().st_size:
            return b""
        with contextlib.closing(open_reader(file)) as connection:
            secret = connection.execute("SELECT value FROM fingerprint_secret").get
    except (OSError, apsw.Error, StoreRefused):
        return None
    return secret if isinstance(secret, bytes) and secret else None


def backup(source: Path, target: Path, progress: Progress) -> None:
    """Copy a store, as of the moment this begins, into a new file; audited before it gets its name.

    Raises:
        StoreRefused: the target exists or can't be written, or the copy is not sound.
    """
    check_folder(target)
    _check_free(target)
    with _alone(target):
        backup_on(Files(), source, target, progress)


def backup_on(files: Files, source: Path, target: Path, progress: Progress) -> None:
    """As `backup`, on any file system."""
    with _new_file(files, target) as part:
        _copy(files, source, part, progress)
        _check_sound(files, part)


def remove_unfinished(target: Path) -> bool:
    """See `store.remove_unfinished`."""
    try:
        with _alone(target):
            left = [path for path in _unfinished(target) if os.path.lexists(path)]
            for path in left:
                path.unlink(missing_ok=True)
    except StoreRefused:
        return False
    return bool(left)


def _unfinished(target: Path) -> list[Path]:
    """A file while it is filled, and what SQLite may put beside it."""
    return [
        target.with_name(f"{target.name}.part{end}") for end in ("", "-wal", "-shm", "-journal")
    ]


def restore(
    backup_file: Path,
    target: Location,
    *,
    act: Act,
    progress: Progress,
    prove_setting: ProveSetting = any_setting,
    accept: Accept = accept_any,
) -> int:
    """Make a new store out of a backup and begin a new epoch; returns its number.

    Args:
        accept: see `restore_store`.

    Raises:
        StoreRefused: the target exists, or the backup is none, or not sound.
    """
    _check_ordinary(backup_file)
    path = Path(os.path.realpath(target.path))
    check_place(path, any_file_system=target.any_file_system)
    _check_free(path)
    with _alone(path):
        return restore_on(
            Files(),
            backup_file,
            path,
            act=act,
            progress=progress,
            prove_setting=prove_setting,
            accept=accept,
        )


def restore_on(
    files: Files,
    backup_file: Path,
    target: Path,
    *,
    act: Act,
    progress: Progress,
    prove_setting: ProveSetting = any_setting,
    accept: Accept = accept_any,
) -> int:
    """As `restore`, on any file system, whose fitness is not asked."""
    with _new_file(files, target) as part:
        _copy(files, backup_file, part, progress)
        connection = open_writer(part, vfs=files.vfs)  # brings an older format up to date
        try:
            _check_sound(files, part, prove_setting)
            accept(reading.values(connection))
            _check_whole(connection)
            epoch = _begin_epoch(connection, act)
        finally:
            connection.close()
    return epoch


def _check_free(target: Path) -> None:
    """Refuse a name that something has, or the log of something, or that is a part of another."""
    check_own_name(target)
    if os.path.lexists(target):
        raise _taken(target)
    check_no_log(target)


def _taken(target: Path) -> StoreRefused:
    return StoreRefused(f"{target} exists; name a new file")


def _check_ordinary(backup_file: Path) -> None:
    try:
        mode = backup_file.stat().st_mode
    except FileNotFoundError as error:
        raise StoreRefused(f"{backup_file} does not exist") from error
    except OSError as error:
        raise StoreRefused(f"{backup_file} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise StoreRefused(f"{backup_file} is no ordinary file, so no backup; name another")


def _begin_epoch(connection: apsw.Connection, act: Act) -> int:
    with connection:
        connection.execute("DELETE FROM transfer")  # it concerned the store that was backed up
        connection.execute("INSERT INTO epoch (began_ms) VALUES (?)", (act.at_ms,))
        epoch = connection.last_insert_rowid()
        detail = f'{{"epoch":{epoch}}}'
        act_id = record(ActRows(connection), msgspec.structs.replace(act, detail=detail))
        connection.execute(
            "INSERT INTO again SELECT (id << ?1) + cursor + 1, tail - cursor, cursor + 1, ?2"
            " FROM mailbox WHERE tail > cursor",
            (schema.SEQ_BITS, act_id),
        )
    return epoch


def _check_whole(connection: apsw.Connection) -> None:
    found = gate.read(connection)
    unfinished = (Stage.COPYING, Stage.ABANDONED)
    if found is not None and found.role is Role.TARGET and found.stage in unfinished:
        raise StoreRefused(
            f"the backup is of a store that was not filled to its end, from {found.peer}: restore"
            " one of that"
        )


def _copy(files: Files, source: Path, target: Path, progress: Progress) -> None:
    reader = open_reader(source, vfs=files.vfs)
    writer = apsw.Connection(str(target), vfs=files.vfs)
    try:
        distrust(writer)
        # With a snapshot held, what others commit meanwhile neither shows nor starts this anew.
        reader.execute("BEGIN")
        if not schema.version(reader):
            raise StoreRefused(f"{source} is empty, and no store; name another file")
        with writer.backup("main", reader, "main") as copying:
            while not copying.done:
                copying.step(COPY_PAGES)
                progress(copying.page_count - copying.remaining, copying.page_count)
        writer.pragma("journal_mode", "delete")  # a copy is one plain file
        pairing.release(writer)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreRefused(f"{source} is no sound store: {error}") from error
    except apsw.Error as error:
        # Only the copy is written; the source may lack room for its index.
        said = said_of(target if isinstance(error, apsw.FullError) else source, error)
        raise StoreRefused(f"{source} cannot be copied to {target}: {said}") from error
    finally:
        writer.close()
        reader.close()


def _check_sound(files: Files, file: Path, prove_setting: ProveSetting = any_setting) -> None:
    connection = open_reader(file, vfs=files.vfs)
    try:
        report = audit(connection, lambda _done, _total: None, prove_setting=prove_setting)
    finally:
        connection.close()
    if report.findings:
        problem = report.findings[0].problem
        raise StoreRefused(f"the copy is not sound: {problem}; run `pullstatus audit`")


def _name(files: Files, part: Path, target: Path) -> None:
    """Give a file its name, but never over one that has appeared meanwhile."""
    try:
        files.link(part, target)
    except FileExistsError:
        raise
    except OSError:
        files.take_name(part, target)


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold off whoever makes a file of the same name at the same time.

    Raises:
        StoreRefused: somebody is at it.
    """
    # Not on the file itself: where such locks are made of those that SQLite takes, it would wait
    # for us.
    lock = target.with_name(f"{target.name}.part-lock")
    try:
        handle = open_lock(lock)
    except OSError as error:
        raise StoreRefused(f"{lock} cannot be written: {error.strerror}") from error
    busy = StoreRefused(f"another process is making {target}; wait for it, or name another file")
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy from error
        except OSError as error:  # no such locks here
            part = _unfinished(target)[0]
            if part.exists():
                raise StoreRefused(
                    f"{part} is there: another process is making {target}, or one was killed at it;"
                    " then remove that file"
                ) from error
        try:
            if not os.path.samestat(os.fstat(handle), lock.stat()):
                raise busy  # the one before us has just ended, and somebody else begun
        except FileNotFoundError as error:
            raise busy from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _new_file(files: Files, target: Path) -> Iterator[Path]:
    """A file beside `target` to be filled; synced and named `target` if that goes well."""
    if files.exists(target):
        raise _taken(target)
    part, *beside = _unfinished(target)
    try:
        for file in beside:  # left by one that was killed
            files.remove(file)
        files.create(part)
    except OSError as error:
        raise StoreRefused(f"{part} cannot be written: {error.strerror}") from error
    try:
        yield part
        files.sync(part)
        _name(files, part, target)
        files.sync(target.absolute().parent)
    except FileExistsError as error:
        raise _taken(target) from error
    except (OSError, apsw.Error) as error:
        raise StoreRefused(f"{target} cannot be made: {said_of(target, error)}") from error
    finally:
        for file in (part, *beside):
            files.remove(file)
