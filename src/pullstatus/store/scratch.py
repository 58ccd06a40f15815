"""A store that is thrown away: for the emulator, the fixture and the demo, and on copies' way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pullstatus.errors import StoreRefused


@contextlib.contextmanager
def scratch_store(purpose: str, place: Path | None = None) -> Iterator[str]:
    """The URL of a store in a temporary folder that is removed at the end.

    Args:
        place: where that folder is made; None: where such are usually. What processes that were
            killed have left there of this purpose is removed, since nobody else would.

    Any file system is good enough for it: nobody is promised what it holds. A thread of this
    process does its work, as nothing that is thrown away needs a processor core of its own.

    Raises:
        StoreRefused: there is no place for such a folder.
    """
    if place is not None:
        _remove_left(purpose, place)
    with contextlib.ExitStack() as made:
        try:
            folder = made.enter_context(
                tempfile.TemporaryDirectory(
                    prefix=f"pullstatus-{purpose}-", dir=place, ignore_cleanup_errors=True
                )
            )
            made.enter_context(_held(Path(folder)))
            own = Path(folder, "store")  # a store takes the lock of its own folder
            own.mkdir()
        except OSError as error:
            where, fix = ("", "set TMPDIR to") if place is None else (f" in {place}", "name")
            raise StoreRefused(
                f"no temporary folder can be made{where} ({error.strerror}); {fix} a folder that"
                " can be written, with some MB of room"
            ) from error
        yield f"sqlite:///{own}/mailboxes.db?file-system=any&commits=thread"


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Keep others from removing a folder; whether that is so."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody has it, or the file system has no locks
        return False
    return True


def _remove_left(purpose: str, place: Path) -> None:
    """Remove folders that nobody holds; what cannot be removed stays."""
    ours = re.compile(rf"pullstatus-{purpose}-[a-z0-9_]{{8}}")  # as tempfile names them
    with contextlib.suppress(OSError):
        for folder in [path for path in place.iterdir() if ours.fullmatch(path.name)]:
            with contextlib.suppress(OSError), _held(folder) as held:
                if held:
                    shutil.rmtree(folder, ignore_errors=True)
