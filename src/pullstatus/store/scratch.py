"""A store that is thrown away: for the emulator, the fixture and the demo, and on copies' way."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pullstatus.errors import StoreRefused


@contextlib.contextmanager
def scratch_store(purpose: str, place: Path | None = None) -> Iterator[str]:
    """The URL of a store in a temporary folder that is removed at the end.

    Args:
        place: where that folder is made; None: where such are usually.

    Any file system is good enough for it: nobody is promised what it holds. A thread of this
    process does its work, as nothing that is thrown away needs a processor core of its own.

    Raises:
        StoreRefused: there is no place for such a folder.
    """
    try:
        made = tempfile.TemporaryDirectory(
            prefix=f"pullstatus-{purpose}-", dir=place, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise StoreRefused(
            f"no temporary folder can be made ({error.strerror}); set TMPDIR to a folder that can"
            " be written, with some MB of room"
        ) from error
    with made as folder:
        yield f"sqlite:///{folder}/mailboxes.db?file-system=any&commits=thread"
