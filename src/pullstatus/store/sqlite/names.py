"""Do the names of an open store still stand for the files that were opened by them?

A commit is in the files that are open. Whoever opens the store next finds the files that bear its
names. Where these are no longer the same, because a file or its folder was moved, removed, replaced
or written over, a commit succeeds and nobody will ever see it. So the committer asks after each
commit, before its answers go out.

One of them is asked for before the commit, too: the log's index. Whoever opens the store without it
makes another one, with locks of its own, and then two write over each other's frames.

A log that is cut or copied over keeps its name, but begins otherwise than it did.

The cost is a `stat` for each name, another one for the index, and a read of the log's header: some
10 microseconds a commit. Only the log is opened, on which SQLite holds no locks: closing any handle
of the file or its index would drop those that it holds there.
"""

from __future__ import annotations

import os
from pathlib import Path

from pullstatus.errors import StoreMoved
from pullstatus.store.sqlite.pairing import LOG_HEADER_BYTES, begins_log
from pullstatus.store.sqlite.stamp import lock_file


class Names:
    """The names of one open store, and what each of them stood for when it was opened."""

    def __init__(self, path: Path, name: Path, *, server: bool) -> None:
        """To be made just before SQLite opens the file; `opened` comes after.

        Args:
            path: of the file, without links in it.
            name: of the file as it was given, absolute; there may be links in it.
            server: this is the one serving process; its lock is one of the names.
        """
        self._path = path
        self._before = _file(path)
        self._index = path.with_name(f"{path.name}-shm")
        self._others = [path.with_name(f"{path.name}-wal")]
        if server:
            self._others.append(lock_file(path))
        if name != path:
            self._others.append(name)
        self._expected: list[tuple[int, ...]] = []
        self._log = -1
        self._index_is: tuple[int, ...] = ()
        self._index_bytes = 1
        self._written: tuple[tuple[int, ...], bytes] = ((), b"")

    def opened(self) -> None:
        """Remember what the names stand for, now that SQLite has opened file and log.

        Raises:
            StoreMoved: they have changed meanwhile.
        """
        found = _stat(self._path)
        if _identity(found) != self._before:
            raise StoreMoved(_moved(self._path))
        self._expected = [_identity(_stat(path)) for path in self._others]
        self._index_is = _identity(_stat(self._index))
        self._log = os.open(self._others[0], os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._written = _content(found), self._header()

    def written(self) -> None:
        """It is known who wrote into file and log: so they have to look from now on."""
        self._written = _content(_stat(self._path)), self._header()

    def check_index(self) -> None:
        """To be asked before a commit.

        Raises:
            StoreMoved: the log's index is another one by now, or gone, or was cut.
        """
        found = _stat(self._index)
        # It only grows. Whoever reads it where it was cut, as SQLite does, is ended by the kernel.
        if _identity(found) != self._index_is or found.st_size < self._index_bytes:
            raise StoreMoved(_moved(self._index))
        self._index_bytes = found.st_size

    def check(self) -> bool:
        """Whether file and log are as `written` saw them; a log that is folded changes both.

        Raises:
            StoreMoved: a name stands for another file than it stood for, or for none.
        """
        found = _stat(self._path)
        if _identity(found) != self._before:
            raise StoreMoved(_moved(self._path))
        for path, expected in zip(self._others, self._expected, strict=True):
            if _identity(_stat(path)) != expected:
                raise StoreMoved(_moved(path))
        self.check_index()
        header = self._header()
        return (_content(found), header) == self._written and begins_log(header)

    def parted(self) -> bool:
        """Whether file or log has lost its name, so that whoever opens the store finds one of them.

        Only who has both open can bring them together, unless the log was cut.
        """
        expected = [self._before, self._expected[0]]
        try:
            found = [_identity(_stat(path)) for path in (self._path, self._others[0])]
        except StoreMoved:
            found = []
        return found != expected and begins_log(self._header())

    def close(self) -> None:
        """Look no more."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _header(self) -> bytes:
        return os.pread(self._log, LOG_HEADER_BYTES, 0)


def _stat(path: Path) -> os.stat_result:
    try:
        return os.stat(path)  # noqa: PTH116 - on every commit's way
    except OSError as error:
        raise StoreMoved(_moved(path)) from error


def _file(path: Path) -> tuple[int, ...]:
    return _identity(_stat(path))


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_nlink)


def _content(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_size, found.st_mtime_ns)


def _moved(path: Path) -> str:
    return (
        f"{path} is no longer the file that was opened: it, or its folder, was moved, removed,"
        " replaced, cut, mounted over or given a second name while it was in use; see what is there"
        " now, and stop the server before anything of the kind"
    )
