"""Opening a file: checked first, brought up to date, its errors said with its name."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Final

import apsw

from pullstatus.errors import StoreCorrupt, StoreMoved, StoreRefused
from pullstatus.store.gate import check_open
from pullstatus.store.sqlite import gate, pairing, schema
from pullstatus.store.sqlite.connection import open_reader, open_writer
from pullstatus.store.sqlite.guarded import GuardedLog
from pullstatus.store.sqlite.log import Log
from pullstatus.store.sqlite.names import Names
from pullstatus.store.sqlite.place import ServerLock, has_room, said_of
from pullstatus.store.sqlite.recovery import check_sound
from pullstatus.store.sqlite.stamp import Stamp
from pullstatus.store.sqlite.states import States
from pullstatus.store.sqlite.typed import prove_rows

_RESTART: Final = (
    "it has not brought that to the format of this version: wait until it answers if it has just"
    " been started, or restart it if it began before this version was installed"
)


def open_guarded(
    path: Path, name: Path, *, server: bool, reserve_bytes: int, moving: bool = False
) -> GuardedLog:
    """The log of the file at `path`, for a committer.

    Args:
        path: of the file, without links in it.
        name: of the file as it was given, absolute.
        server: see `open_log`.
        reserve_bytes: see `open_store`.
        moving: see `open_log`.

    Raises:
        StoreRefused: the file is not safe to use.
    """
    stamp = Stamp(path, server=server)
    try:
        before = stamp.read()
        log, names = _named_log(path, name, server=server, moving=moving)
    except BaseException:
        stamp.close()
        raise
    return GuardedLog(
        log, names, stamp, before, lambda: has_room(path, reserve_bytes), moving=moving
    )


def _named_log(path: Path, name: Path, *, server: bool, moving: bool) -> tuple[Log, Names]:
    try:
        names = Names(path, name, server=server)
        log = open_log(path, server=server, moving=moving)
        try:
            names.opened()
        except BaseException:
            log.close(fold=False)
            names.close()
            raise
    except StoreMoved as error:
        raise StoreRefused(str(error)) from error
    except (apsw.Error, OSError) as error:
        raise StoreRefused(f"{path} cannot be opened: {said_of(path, error)}") from error
    return log, names


def open_log(path: Path, *, server: bool, moving: bool = False) -> Log:
    """The log of the file at `path`.

    Args:
        server: for the one serving process: check the file first, fold what is left in its log.
        moving: whatever the file says of a migration.

    Raises:
        StoreRefused: the file is not safe to use.
    """
    try:
        return _checked_log(path, server=server, moving=moving)
    except StoreRefused as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def _checked_log(path: Path, *, server: bool, moving: bool) -> Log:
    outdated = False
    if path.stat().st_size:
        connection = open_reader(path)
        try:
            version = schema.version(connection)
            outdated = 0 < version < schema.VERSION
            if server:
                check_sound(connection, path)
            else:
                pairing.check(connection)
        except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
            raise StoreCorrupt(f"{path} is damaged or no database: {error}") from error
        finally:
            connection.close()
    with ServerLock(path, fix=_RESTART) if outdated and not server else nullcontext():
        writer = open_writer(path, fold=server)
    if not server:  # whose file was looked through
        prove_rows(writer)
    if not moving:
        try:
            check_open(gate.read(writer), server=server)
        except BaseException:
            pairing.close(writer)
            raise
    log = Log(writer, States(writer, server=server))
    if server and not moving:
        log.recall()
    return log
