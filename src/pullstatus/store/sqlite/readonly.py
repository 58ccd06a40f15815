"""A channel to nobody: for a file in a folder that cannot be written, such as a backup's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import msgspec

from pullstatus.errors import StoreCorrupt, StoreRefused
from pullstatus.store.gathering.committer import Report
from pullstatus.store.gathering.log import Figures
from pullstatus.store.gathering.operations import Operation
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.connection import open_reader
from pullstatus.store.sqlite.place import unreadable


def can_only_be_read(path: Path) -> bool:
    """Whether a file is there, in a folder that this user cannot write."""
    return path.is_file() and not os.access(path.parent, os.W_OK)


class ReadOnlyChannel:
    """Refuses every operation."""

    def __init__(self, path: Path) -> None:
        """Look into the file.

        Raises:
            StoreRefused: it cannot be read as it is.
        """
        _check_format(path)
        self._refusal = StoreRefused(
            f"the folder {path.parent} cannot be written by this user, so the store in it can only"
            " be read"
        )
        self._report = Report(
            answers=[],
            waiting={},  # only a server answers by that
            as_of=None,
            room=True,
            figures=Figures(0, 0.0, 0),
            failure=None,
        )
        self._on_report: Callable[[Report], None]

    def start(self, on_report: Callable[[Report], None]) -> None:
        """See `Channel.start`."""
        self._on_report = on_report
        on_report(self._report)

    def send(self, operations: Sequence[Operation]) -> None:
        """See `Channel.send`."""
        answers = [self._refusal] * len(operations)
        self._on_report(msgspec.structs.replace(self._report, answers=answers, waiting={}))

    async def close(self) -> None:
        """See `Channel.close`."""


def _brought_up_to_date(path: Path) -> str:
    """How whoever may do so has a file of an older format read."""
    if can_only_be_read(path):
        return (
            "restore it to a new store, or read a copy of it in a folder that this user may write"
        )
    return "start its server with this version, which brings it up to date"


def _check_format(path: Path) -> None:
    try:
        with contextlib.closing(open_reader(path)) as connection:
            found = schema.version(connection)
            if found < schema.VERSION:
                raise StoreRefused(
                    f"{path} has format {found}, of an older version; {_brought_up_to_date(path)}"
                )
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreCorrupt(f"{path} is damaged or no database: {error}") from error
    except apsw.Error as error:
        raise unreadable(path, error) from error
