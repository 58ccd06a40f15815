"""The row of a file that says whether it takes anything on; see `store.gate`."""

from __future__ import annotations

import apsw

from pullstatus.store.gate import Gate, decoded, encoded
from pullstatus.store.gathering.operations import Enter
from pullstatus.store.sqlite.acts import ActRows
from pullstatus.store.transfer import Migration
from pullstatus.store.verbs.acts import record


def read(connection: apsw.Connection) -> Migration | None:
    """What the file says."""
    return decoded(connection.execute("SELECT state FROM transfer").get)


class FileGate(Gate):
    """The row as the open transaction sees it."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        super().__init__(read(connection))

    def look(self) -> None:
        """Learn what the file says now."""
        self.found = read(self._connection)

    def open_if_ready(self) -> None:
        """Say that the store is in use from now on, if it was only ready to be so."""
        if self.taken is not None:
            self._write(self.taken)

    def enter(self, operation: Enter) -> bool:
        """Say how this store takes part from now on, if it does as expected."""
        if self.found != operation.expected:
            return False
        self._write(operation.migration)
        if operation.act is not None:
            record(ActRows(self._connection), operation.act)
        return True

    def _write(self, migration: Migration | None) -> None:
        self.found = migration
        if migration is None:
            self._connection.execute("DELETE FROM transfer")
        else:
            self._connection.execute(
                "INSERT OR REPLACE INTO transfer VALUES (1, ?)", (encoded(migration),)
            )
