"""A folder of backups: each is named after its time, and the oldest of a store go."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pullstatus.cli.output import say
from pullstatus.store import backup_origin, remove_unfinished

_NAME = re.compile(r"pullstatus-\d{8}T\d{6}Z\.db")
_UNFINISHED = re.compile(rf"({_NAME.pattern})\.part(?:-[a-z]+)?")


def backup_in(folder: Path, now_ms: int) -> Path:
    """The file for a backup of now; such names sort by time."""
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    return folder / f"pullstatus-{moment:%Y%m%dT%H%M%SZ}.db"


def clear(folder: Path) -> None:
    """Remove what backups into a folder have left that were killed; tells of each.

    Of whichever store they were: they are nobody's. What cannot be removed is told, too, and stays.
    """
    found = (_UNFINISHED.fullmatch(path.name) for path in folder.iterdir())
    for name in sorted({match[1] for match in found if match}):
        try:
            if remove_unfinished(folder / name):
                say(
                    f"removed {name}.part, of a backup that was ended before it was whole", err=True
                )
        except OSError as error:
            say(f"{name}.part cannot be removed: {error.strerror}", err=True)


def prune(made: Path, keep: int) -> list[Path]:
    """Remove all but the newest backups of a store from a folder; returns which, oldest first.

    Other files are left alone: only what has such a name is a backup of this folder, and what is of
    another store, or cannot be read, is not ours. While somebody else is at it, none are removed.

    Args:
        made: the one that was just made. It stays, though others have later names: of a clock that
            was ahead.
        keep: how many stay, at least 1.

    Raises:
        OSError: one of them cannot be removed.
    """
    with _alone(made.parent) as alone:
        if not alone:
            return []
        others = _others(made)
        due = others[: max(0, len(others) + made.exists() - keep)]
        return [path for path in due if _remove(path)]


def _others(made: Path) -> list[Path]:
    """The other backups of the same store, and what is none yet and empty; oldest first."""
    named = sorted(path for path in made.parent.iterdir() if _NAME.fullmatch(path.name))
    ours = {b"", backup_origin(made)} - {None}
    return [path for path in named if path.name != made.name and backup_origin(path) in ours]


def _remove(path: Path) -> bool:
    """Remove a file; whether it was there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether nobody else removes backups from a folder meanwhile."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield _locked(handle)
    finally:
        os.close(handle)
