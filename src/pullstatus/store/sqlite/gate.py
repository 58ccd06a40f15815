"""Whether a store takes anything on, as the migration that it takes part in has it.

One row of the file says so, and each commit obeys what it says then.
"""

from __future__ import annotations

import apsw
import msgspec

from pullstatus.errors import StoreCorrupt, StoreMovedOn, StoreRefused, StoreSealed
from pullstatus.store.gathering.operations import Enter
from pullstatus.store.sqlite.acts import ActRows
from pullstatus.store.transfer import Migration, Role, Stage
from pullstatus.store.verbs.acts import record

_SHUT = {
    (Role.SOURCE, Stage.SEALED): "it is being moved to another store, and takes and hands out"
    " nothing until that is done",
    (Role.TARGET, Stage.COPYING): "it is being filled from another store, and takes nothing until"
    " that is done",
    (Role.TARGET, Stage.ABANDONED): "it is what an abandoned migration has left",
}


def read(connection: apsw.Connection) -> Migration | None:
    """What the file says."""
    state = connection.execute("SELECT state FROM transfer").get
    try:
        return None if state is None else msgspec.json.decode(state, type=Migration)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreCorrupt("what it says of a migration is not what was written") from error


def check_open(connection: apsw.Connection, *, server: bool) -> None:
    """Refuse a store that is not to be used.

    Args:
        server: it is to be served; others may read one that has been moved, or is being so.

    Raises:
        StoreRefused: saying where what it held is, or what to do first.
    """
    found = read(connection)
    if found is None:
        return
    if found.role is Role.TARGET:
        if found.stage is Stage.COPYING:
            raise StoreRefused(
                f"it is being filled from {found.peer}: run `pullstatus migrate` to its end first"
            )
        if found.stage is Stage.ABANDONED:
            raise StoreRefused(
                f"it is what an abandoned migration from {found.peer} has left: remove it, or name"
                " another one"
            )
    elif server and found.stage is Stage.MOVED:
        raise StoreRefused(_moved_on(found))
    elif server and found.stage is Stage.SEALED:
        raise StoreRefused(
            f"it is sealed, since it is being moved to {found.peer}: run `pullstatus migrate` to"
            " its end, and serve that one, or end it with `pullstatus migrate --abandon`"
        )


class Gate:
    """The row as the open transaction sees it."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._migration = self._opened = read(connection)

    def look(self) -> None:
        """Learn what the file says now."""
        self._migration = read(self._connection)

    @property
    def shut(self) -> bool:
        """Whether what is asked may be refused, so that nothing can be told from memory."""
        found = self._migration
        return found is not None and (
            found.stage is Stage.MOVED or (found.role, found.stage) in _SHUT
        )

    def check_moved(self) -> None:
        """End the use of a store that is elsewhere now.

        Raises:
            StoreMovedOn: it is.
        """
        found = self._migration
        if found is not None and found.stage is Stage.MOVED:
            raise StoreMovedOn(_moved_on(found))

    def refusal(self) -> StoreSealed | None:
        """What is said to all that is asked; None: it may be done. Opens a store that is ready.

        Raises:
            StoreMovedOn: as by `check_moved`.
        """
        found = self._migration
        if found is None:
            return None
        self.check_moved()
        said = _SHUT.get((found.role, found.stage))
        if said is None and found.role is Role.TARGET and not self._filled_when_opened(found):
            said = "it was filled from another store since it was opened: open it anew"
        if said is not None:
            return StoreSealed(f"the store is not to be used now: {said}")
        if found.stage is Stage.READY:
            self._write(msgspec.structs.replace(found, stage=Stage.TAKEN))
        return None

    def enter(self, operation: Enter) -> bool:
        """Say how this store takes part from now on, if it does as expected."""
        if self._migration != operation.expected:
            return False
        self._write(operation.migration)
        if operation.act is not None:
            record(ActRows(self._connection), operation.act)
        return True

    def check_filling(self) -> None:
        """Refuse to put rows into a store that is in use.

        Raises:
            StoreRefused: it is.
        """
        found = self._migration
        if found is None or (found.role, found.stage) != (Role.TARGET, Stage.COPYING):
            raise StoreRefused("this store is not being filled by a migration")

    def _filled_when_opened(self, found: Migration) -> bool:
        """Whether what was read of the file when it was opened is what it was filled with."""
        opened = self._opened
        return (
            opened is not None
            and opened.ticket == found.ticket
            and opened.stage in (Stage.READY, Stage.TAKEN)
        )

    def _write(self, migration: Migration | None) -> None:
        self._migration = migration
        if migration is None:
            self._connection.execute("DELETE FROM transfer")
        else:
            self._connection.execute(
                "INSERT OR REPLACE INTO transfer VALUES (1, ?)", (msgspec.json.encode(migration),)
            )


def _moved_on(found: Migration) -> str:
    return f"what this store held was moved to {found.peer}: serve that one instead"
