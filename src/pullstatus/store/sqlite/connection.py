"""How a connection to the file is set up, and the proof that it is set up so.

Durability rests on a few settings of SQLite. Each is set and read back: a build or a file system
that does not take one is refused, not used.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, cast

import apsw

from pullstatus.errors import StoreCorrupt, StoreRefused
from pullstatus.store import chunk
from pullstatus.store.sqlite import pairing, schema
from pullstatus.store.sqlite.place import said_of
from pullstatus.store.sqlite.typed import prove_rows

SQLITE_OLDEST = (3, 51, 3)  # before, two checkpointing connections could lose committed pages
BUSY_MS = 10_000
CACHE_KIB = 65_536
WAL_BYTES_KEPT = 64 * 1024 * 1024


def open_writer(path: Path | str, *, fold: bool = False, vfs: str | None = None) -> apsw.Connection:
    """A connection that writes: write-ahead log, a full sync each commit, format up to date.

    Args:
        path: of the file.
        fold: fold what a former process left in the log into the file, before anything is added.
        vfs: SQLite's name for the file system; None for the real one.

    Raises:
        StoreRefused: SQLite is too old, does not take a setting, or the file is not ours.
        StoreCorrupt: the file is no sound database.
    """
    _check_version()
    try:
        connection = apsw.Connection(str(path), vfs=vfs)
        distrust(connection)
        connection.set_busy_timeout(BUSY_MS)
        schema.version(connection)  # before anything is changed
        connection.pragma("page_size", schema.PAGE_BYTES)
        pairing.patiently(lambda: _set(connection, "journal_mode", "wal"))
        _set(connection, "synchronous", 2)
        _set(connection, "mmap_size", 0)
        _set(connection, "secure_delete", 1)
        connection.pragma("cache_size", -CACHE_KIB)
        connection.pragma("journal_size_limit", WAL_BYTES_KEPT)
        connection.wal_autocheckpoint(0)
        if fold:
            _fold(connection)
        # A version that knew no pairs has to be able to go on where the new format fails.
        of_before_pairs = pairing.is_of_before(connection)
        if not of_before_pairs:
            pairing.begin(connection)
        schema.migrate(connection)
        if of_before_pairs:
            pairing.begin(connection)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreCorrupt(
            f"{path} is damaged or no database: keep a copy of it, then restore a backup"
        ) from error
    except apsw.BusyError as error:
        raise StoreRefused(f"{path} is locked by another program; end that first") from error
    except apsw.Error as error:
        raise StoreRefused(f"{path} cannot be opened: {said_of(Path(path), error)}") from error
    return connection


def open_reader(path: Path, *, vfs: str | None = None) -> apsw.Connection:
    """A connection that only reads, beside the writer, and proves what it reads."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    distrust(connection)
    prove_rows(connection)
    connection.set_busy_timeout(BUSY_MS)
    return connection


def accepted_at(label: bytes, count: int, newest_ms: int, place: int) -> int:
    """When the entry at a place in a chunk was accepted; for SQL."""
    origins = chunk.origins(label, count, newest_ms)
    return origins[place].at_ms if 0 <= place < len(origins) else newest_ms


def distrust(connection: apsw.Connection) -> None:
    """Run nothing that lies in a file: it may come from elsewhere, or be changed while it is open.

    What a store is made of needs none of this; `schema.version` refuses what has it.
    """
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    connection.pragma("cell_size_check", 1)  # of a page when it is read, not when it is used
    connection.create_scalar_function(
        accepted_at.__name__, cast("Any", accepted_at), 4, deterministic=True
    )


def file_bytes(path: Path) -> int:
    """What the store takes on the disk now: the file, its log and its index."""
    total = 0
    for suffix in ("", "-wal", "-shm"):
        try:
            total += path.with_name(path.name + suffix).stat().st_size
        except FileNotFoundError:
            continue
    return total


def _fold(connection: apsw.Connection) -> None:
    """Write the log's pages into the file and begin the log anew, all synced.

    What a process that failed or was killed has left in the log may be known to the kernel only:
    it was not synced yet; or a sync failed, the disk never got it, and the kernel calls it clean.
    Answers must not rest on that, nor commits be appended behind it.
    """
    connection.set_busy_timeout(0)
    with contextlib.suppress(apsw.BusyError):  # somebody else is at work, so the log is in use
        pairing.settle(connection)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        # Only the next commit makes the log's end certain. Until then a power cut could bring back
        # a part of the old one, over pages of the file that are newer.
        connection.execute("BEGIN IMMEDIATE")
        connection.pragma("user_version", connection.pragma("user_version"))
        connection.execute("COMMIT")
    connection.set_busy_timeout(BUSY_MS)


def _check_version() -> None:
    found = tuple(map(int, apsw.sqlite_lib_version().split(".")))
    if found < SQLITE_OLDEST:
        raise StoreRefused(
            f"SQLite {apsw.sqlite_lib_version()} can lose committed pages;"
            " install apsw 3.51.3 or newer"
        )


def _set(connection: apsw.Connection, name: str, value: str | int) -> None:
    connection.pragma(name, value)
    found = connection.pragma(name)
    if found != value:
        raise StoreRefused(f"SQLite does not take {name}={value} here (it stays {found})")
