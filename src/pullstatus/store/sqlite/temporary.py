"""Where SQLite puts what it does not keep: beside the store, not in a folder of everybody's."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import apsw


class _Beside(apsw.VFS):
    """The usual file system, in which files without a name lie beside another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = f"beside-{secrets.token_hex(8)}"
        super().__init__(self.name, "")

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        """Open a file. One without a name gets one beside the store; SQLite removes it at once."""
        if name is None:
            name = f"{self._path}-temporary-{secrets.token_hex(8)}"
        return super().xOpen(name, flags)


@contextlib.contextmanager
def beside(path: Path) -> Iterator[str]:
    """SQLite's name for a file system whose temporary files lie beside the file at `path`.

    There is room for them where there is for the store, and they are as private. The usual folder,
    `/var/tmp` or that of TMPDIR, may be small, in memory, or another disk.
    """
    files = _Beside(path)
    try:
        yield files.name
    finally:
        files.unregister()
