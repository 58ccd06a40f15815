"""Loaded by a program that a test starts with this folder on its PYTHONPATH.

Each commit to a database of SQLite leaves a line in the file COMMITS: what `PRAGMA synchronous`
says of it.
"""

from __future__ import annotations

import functools
import os
import sqlite3
from types import TracebackType
from typing import Literal


class Noting(sqlite3.Connection):
    """A connection that tells of its commits."""

    def commit(self) -> None:
        """As of sqlite3."""
        super().commit()
        self._note()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        """As of sqlite3, which does not come by `commit`."""
        super().__exit__(kind, value, traceback)
        if kind is None:
            self._note()
        return False

    def _note(self) -> None:
        [(synchronous,)] = self.execute("PRAGMA synchronous")
        with open(os.environ["COMMITS"], "a", encoding="ascii") as commits:  # noqa: PTH123 - each start pays for pathlib
            commits.write(f"{synchronous}\n")


sqlite3.connect = sqlite3.dbapi2.connect = functools.partial(sqlite3.connect, factory=Noting)  # type: ignore[assignment]
