"""Which log belongs to a file? Told by both, so that neither is used without the other.

SQLite knows the log of a file by its name alone. It takes a file whose log has stayed elsewhere for
one that has none, and what the newest commits held is lost without a word; and it replays whatever
log it finds over a file that was put in the place of another, and mixes both.

So `user_version`, which lies in the file's first page, says beside the format:

    needs_log   the file alone is not all there is
    pair        a random number that the file and the first page in its log have in common

Folding is done so that this holds at every instant, in the file alone as well as with its log:

    commit needs_log=1, a new pair  ->  fold: now the file says that  ->  commit needs_log=0

The last commit begins the log anew, so a log begins with its pair. With its log a file always says
0, and whoever folds the last of it into the file, be it a command or another program, leaves a file
that says so. Who was killed between the two commits has left a 1: whoever opens the store next, or
has it open and closes it, commits the 0 first.

Two of ours do not do this at once, or the pair of one would begin the log over a file that says the
pair of the other: both are done under a lock of the folder, which is nobody's to remove. Whoever
may list the folder can take it, too. So it is waited for as long as folding may take, no longer.

Source of where things are: sqlite.org, "Database File Format".
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import apsw

from pullstatus.errors import StoreRefused
from pullstatus.store.sqlite import schema

T = TypeVar("T")

USER_VERSION_OFFSET = 60  # of user_version in the first page
LOG_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
LOG_BEGINS = b"\x37\x7f\x06"  # and a byte that tells the order of bytes in its checksums
NO_PAIR = 0  # of a file that was made as a whole, and has no log yet

BUSY_S, BUSY_MAX = 0.01, 500  # how long to wait between two tries, and how often at most
ALONE_MAX = 100  # tries to be alone

_SHIFT = 8
_MASK = (1 << 21) - 1
_SAYS = 1 << 29
_NEEDS_LOG = 1 << 30


@dataclass(frozen=True)
class UserVersion:
    """What `user_version` holds.

    Attributes:
        format: see `schema.version`.
        pair: what file and log have in common; None if a version wrote it that did not say.
        needs_log: whether the file is only all there is together with its log.
    """

    format: int
    pair: int | None
    needs_log: bool

    @classmethod
    def parse(cls, number: int) -> Self:
        """From the integer that is stored."""
        pair = number >> _SHIFT & _MASK if number & _SAYS else None
        return cls(number & schema.FORMAT_MASK, pair, bool(number & _NEEDS_LOG))

    def number(self) -> int:
        """The integer to store."""
        says = 0 if self.pair is None else _SAYS | self.pair << _SHIFT
        return self.format | says | (_NEEDS_LOG if self.needs_log else 0)


def fold(connection: apsw.Connection) -> None:
    """Fold the log into the file, as far as no reader holds it up."""
    with _alone(connection):
        _fold(connection)


def _fold(connection: apsw.Connection) -> None:
    try:
        pair = _commit(connection, needs_log=True)
    except apsw.FullError:
        # Folded, the log begins anew and finds room. First of all with what the file says.
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        _repeat(connection)
        pair = _commit(connection, needs_log=True)
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    _commit(connection, needs_log=False, pair=pair)


def begin(connection: apsw.Connection) -> None:
    """Pair the file with its log, before anything is added to that.

    Nothing to do beside a server, or anybody else who has done it already. But who did it may have
    been killed while folding: then the log's newest commit says that the file needs its log, which
    would be so no longer once whoever closes last has folded that, too.
    """
    with _alone(connection):
        with _open(connection, "") as file, _open(connection, "-wal") as log:
            stored = _stored(file)
            paired = stored.needs_log and stored.pair in _pairs(connection, log)
        if paired:
            _settle(connection)
            return
        if not _frames(connection):
            _repeat(connection)
        patiently(lambda: _fold(connection))


def is_of_before(connection: apsw.Connection) -> bool:
    """Whether a version made the file that knew no pairs, and none has been made since."""
    stored = UserVersion.parse(connection.pragma("user_version"))
    return stored.format > 0 and stored.pair is None


def begins_log(header: bytes) -> bool:
    """Whether these may be the first bytes of a log."""
    return header.startswith(LOG_BEGINS)


def is_paired(connection: apsw.Connection) -> bool:
    """Whether a file that is in use is still the one that was paired with its log, and that whole.

    A log that was cut has lost its header, and gets none while it has commits.
    """
    if _looks_paired(connection):
        return True
    with _alone(connection):  # as in `find_problem`
        return _looks_paired(connection) or _looks_paired(connection)


def _looks_paired(connection: apsw.Connection) -> bool:
    with _open(connection, "") as file, _open(connection, "-wal") as log:
        stored = _stored(file)
        if not begins_log(_read(log, 0, LOG_HEADER_BYTES)) and _frames(connection):
            return False
        pairs = set(_pairs(connection, log))
    return stored.pair is not None and (not pairs or stored.pair in pairs)


def settle(connection: apsw.Connection) -> None:
    """Have file and log together say that they are all there is, where somebody was cut off."""
    with _alone(connection):
        _settle(connection)


def close(connection: apsw.Connection) -> None:
    """Close a connection that writes; the last one to close folds the log into the file.

    Somebody may have been killed while folding, beside this one: then the log's newest commit says
    that the file needs its log, and the file would say so when there is none any more. So that is
    settled first, and nobody folds in between. Where it cannot be settled the log stays.
    """
    with _alone(connection):
        try:
            _settle(connection)
        except apsw.Error:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.close()


def _settle(connection: apsw.Connection) -> None:
    stored = UserVersion.parse(connection.pragma("user_version"))
    if stored.needs_log:
        _commit(connection, needs_log=False, pair=stored.pair)


def release(connection: apsw.Connection) -> None:
    """For a copy, which is all there is and has no log."""
    stored = UserVersion.parse(connection.pragma("user_version"))
    connection.pragma("user_version", UserVersion(stored.format, NO_PAIR, needs_log=False).number())


def check(connection: apsw.Connection) -> None:
    """Refuse a file whose log is not beside it, or is that of another file.

    Raises:
        StoreRefused: saying which, and what to do.
    """
    problem = find_problem(connection)
    if problem:
        raise StoreRefused(problem)


def find_problem(connection: apsw.Connection) -> str | None:
    """What is wrong between file and log, if anything is."""
    if _look(connection) is None:
        return None
    # Somebody was folding between two reads of a look, perhaps. On a busy machine that may be so
    # again and again: so ours are held off. Of others what looks odd must look so once more.
    with _alone(connection):
        return _look(connection) and _look(connection)


def _look(connection: apsw.Connection) -> str | None:
    name = connection.filename
    with _open(connection, "") as file, _open(connection, "-wal") as log:
        stored = _stored(file)
        if not any(_read(log, 0, LOG_HEADER_BYTES + FRAME_HEADER_BYTES)):
            if not stored.needs_log:
                return None
            return (
                f"{name} is not all there is: its log {name}-wal is not beside it, and the newest"
                " commits are in that. Bring both together; if the log is lost, `pullstatus"
                f" restore {name}` makes a new store of the rest"
            )
        pairs = set()
        if stored.pair is not None:
            for pair in _pairs(connection, log):
                if pair == stored.pair:
                    return None
                pairs.add(pair)
    if not pairs:
        return None  # a log without a first page: it says nothing
    return (
        f"{name} and its log {name}-wal do not belong together: one of them was put in the place of"
        " another, and opened together they would be mixed. Bring together what belongs together;"
        f" if {name} alone is what you want, move the log elsewhere"
    )


@contextlib.contextmanager
def _alone(connection: apsw.Connection) -> Iterator[None]:
    """Hold off other processes that fold, and wait for one that does."""
    folder = None
    # Not that of a file system of a test, nor one that this user may not list.
    with contextlib.suppress(OSError):
        folder = os.open(Path(connection.filename).parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if folder is not None:
            _lock(folder)
        yield
    finally:
        if folder is not None:
            os.close(folder)


def _lock(folder: int) -> None:
    for _ in range(ALONE_MAX):
        with contextlib.suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(BUSY_S)


def _commit(connection: apsw.Connection, *, needs_log: bool, pair: int | None = None) -> int | None:
    """Commit what file and log say from now on; returns the pair, a new one if none was given."""
    if pair is None:
        pair = 1 + connection.execute("SELECT random()").get % _MASK
    with _transaction(connection):
        stored = UserVersion.parse(connection.pragma("user_version"))
        connection.pragma("user_version", UserVersion(stored.format, pair, needs_log).number())
    return pair


def _repeat(connection: apsw.Connection) -> None:
    """Begin the log with what the file says."""
    with _transaction(connection):
        connection.pragma("user_version", connection.pragma("user_version"))


@contextlib.contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _pairs(connection: apsw.Connection, log: apsw.VFSFile | None) -> Iterator[int | None]:
    """What each first page in a log says, from its beginning to the last commit."""
    count = _frames(connection)
    header = _read(log, 0, LOG_HEADER_BYTES)
    page_bytes, salts = struct.unpack_from(">I", header, 8)[0], header[16:24]
    offset = LOG_HEADER_BYTES
    for _ in range(count):
        frame = _read(log, offset, FRAME_HEADER_BYTES)
        if frame[8:16] != salts:
            return  # begun anew meanwhile
        if struct.unpack_from(">I", frame)[0] == 1:
            yield _parsed(_read(log, offset + FRAME_HEADER_BYTES + USER_VERSION_OFFSET, 4)).pair
        offset += FRAME_HEADER_BYTES + page_bytes


def _frames(connection: apsw.Connection) -> int:
    """How many frames of the log are those of commits."""
    connection.pragma("schema_version")  # until it has read, it knows of none
    # Busy while the log's index is being written.
    return max(0, patiently(lambda: connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]))


def patiently(work: Callable[[], T]) -> T:
    """Do what SQLite does not wait for by itself, however long a connection is to wait.

    Raises:
        apsw.BusyError: another process held it up each time.
    """
    for _ in range(BUSY_MAX - 1):
        with contextlib.suppress(apsw.BusyError):
            return work()
        time.sleep(BUSY_S)
    return work()


def _stored(file: apsw.VFSFile | None) -> UserVersion:
    """What the file says by itself, whatever its log says."""
    return _parsed(_read(file, USER_VERSION_OFFSET, 4))


def _parsed(data: bytes) -> UserVersion:
    return UserVersion.parse(struct.unpack(">I", data)[0])


@contextlib.contextmanager
def _open(connection: apsw.Connection, suffix: str) -> Iterator[apsw.VFSFile | None]:
    """The file or its log, to be read; None if it is not there.

    By SQLite's own layer: closing a handle of ours would drop the locks that it holds on the file.

    Raises:
        apsw.CantOpenError: it is there and cannot be opened, which says nothing of what it holds.
    """
    file = _opened(connection, suffix)
    if file is None:
        yield None
        return
    try:
        yield file
    finally:
        file.xClose()


def _opened(connection: apsw.Connection, suffix: str) -> apsw.VFSFile | None:
    kind = apsw.SQLITE_OPEN_WAL if suffix else apsw.SQLITE_OPEN_MAIN_DB
    name = connection.filename + suffix
    for _ in range(2):  # it may be made or removed meanwhile
        with contextlib.suppress(apsw.CantOpenError):
            return apsw.VFSFile(connection.open_vfs, name, [kind | apsw.SQLITE_OPEN_READONLY, 0])
        if not os.path.lexists(name):
            return None
    raise apsw.CantOpenError(
        f"{name} is there and cannot be opened: look at its owner and mode, and at the limit of"
        " open files (ulimit -n)"
    )


def _read(file: apsw.VFSFile | None, offset: int, count: int) -> bytes:
    """Bytes of a file; zeros where it has none."""
    if file is None or file.xFileSize() < offset + count:
        return bytes(count)
    return bytes(file.xRead(count, offset))
