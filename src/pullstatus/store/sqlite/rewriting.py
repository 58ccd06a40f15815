"""Writing a file anew, so that nothing is left in it of what was removed or replaced.

What is removed is overwritten at once (`secure_delete`). But what was moved about before, as by a
page that was split, may have left a copy of itself where nothing is stored now, and so has all that
was removed before that setting was there. The log has it, too, until others are written over it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

import apsw

from pullstatus import limits
from pullstatus.errors import StoreFull, StoreRefused, StoreUnavailable
from pullstatus.store.sqlite import pairing
from pullstatus.store.sqlite.connection import BUSY_MS, file_bytes, open_writer
from pullstatus.store.sqlite.log import translated
from pullstatus.store.sqlite.stamp import lock_file
from pullstatus.store.sqlite.temporary import beside

TRUNCATE_TRIES = 10  # of a moment each, in which nobody reads what the log still holds
TRUNCATE_MS = 500


def rewrite_file(path: Path, *, serving: bool) -> None:
    """Write the file at `path` anew, and empty its log.

    It takes as much room again, twice, in the file's folder, and whoever commits meanwhile waits.

    Args:
        serving: refuse it where that would hold up a server for long.

    Raises:
        StoreRefused: a server would be held up.
        StoreUnavailable: it could not be done now; nothing has changed.
    """
    size = file_bytes(path)
    large = size > limits.REWRITE_BESIDE_BYTES_MAX
    if serving and large and is_served(path):
        raise StoreRefused(
            f"{path} has {size >> 20} MiB, and writing it anew would hold up its server for long:"
            " stop that, and run `pullstatus rewrite`"
        )
    with beside(path) if large else contextlib.nullcontext() as files:
        connection = open_writer(path, vfs=files)
        try:
            rewrite(connection, in_memory=not large)
        finally:
            pairing.close(connection)


def rewrite(connection: apsw.Connection, *, in_memory: bool = True) -> None:
    """The same by a connection that `open_writer` has set up.

    Args:
        in_memory: keep the copy that is made on the way in memory, not in a temporary file.
    """
    with translated():
        connection.pragma("temp_store", 2 if in_memory else 1)
        try:
            connection.execute("VACUUM")
        except apsw.FullError as error:
            folder = Path(connection.filename).parent
            raise StoreFull(
                f"no space is left in {folder} to write the store anew; free some"
            ) from error
        pairing.fold(connection)
        _empty_log(connection)


def _empty_log(connection: apsw.Connection) -> None:
    """Cut the log to nothing, and pair it with the file again."""
    connection.set_busy_timeout(TRUNCATE_MS)
    try:
        for _ in range(TRUNCATE_TRIES):
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                break
            except apsw.BusyError:
                continue
        else:
            raise StoreUnavailable("somebody reads the store without a pause; try again")
    finally:
        connection.set_busy_timeout(BUSY_MS)
        pairing.begin(connection)


def is_served(path: Path) -> bool:
    """Whether a server holds the lock of the store at `path`."""
    try:
        handle = os.open(lock_file(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(handle)
