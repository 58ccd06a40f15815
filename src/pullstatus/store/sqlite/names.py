"""Do the names of an open store still stand for the files that were opened by them?

A commit is in the files that are open. Whoever opens the store next finds the files that bear its
names. Where these are no longer the same, because a file or its folder was moved, removed, replaced
or written over, a commit succeeds and nobody will ever see it. So the committer asks after each
commit, before its answers go out.

The cost is a `stat` for each name. No file is opened: closing any handle of a file drops the locks
that SQLite holds on it.
"""

from __future__ import annotations

import os
from pathlib import Path

from pullstatus.errors import StoreMoved
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
        self._others = [path.with_name(f"{path.name}-wal")]
        if server:
            self._others.append(lock_file(path))
        if name != path:
            self._others.append(name)
        self._expected: list[tuple[int, ...]] = []
        self._written: tuple[int, ...] = ()

    def opened(self) -> None:
        """Remember what the names stand for, now that SQLite has opened file and log.

        Raises:
            StoreMoved: they have changed meanwhile.
        """
        found = _stat(self._path)
        if _identity(found) != self._before:
            raise StoreMoved(_moved(self._path))
        self._written = _content(found)
        self._expected = [_identity(_stat(path)) for path in self._others]

    def written(self) -> None:
        """It is known who wrote into the file: so it has to look from now on."""
        self._written = _content(_stat(self._path))

    def check(self) -> bool:
        """Whether the file is as `written` saw it; a log that somebody else folded changes it.

        Raises:
            StoreMoved: a name stands for another file than it stood for, or for none.
        """
        found = _stat(self._path)
        if _identity(found) != self._before:
            raise StoreMoved(_moved(self._path))
        for path, expected in zip(self._others, self._expected, strict=True):
            if _identity(_stat(path)) != expected:
                raise StoreMoved(_moved(path))
        return _content(found) == self._written


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
        " replaced, mounted over or given a second name while it was in use; see what is there now,"
        " and stop the server before anything of the kind"
    )
