"""Whether a store takes anything on, as the migration that it takes part in has it. Pure.

The store itself says so, in a row of its own, and each commit obeys what that says then. Engines
read and write the row; what follows from it stands here.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pullstatus.errors import StoreCorrupt, StoreMovedOn, StoreRefused, StoreSealed
from pullstatus.store.transfer import Migration, Role, Stage

SHUT: Final = {
    (Role.SOURCE, Stage.SEALED): "it is being moved to another store, and takes and hands out"
    " nothing until that is done",
    (Role.TARGET, Stage.COPYING): "it is being filled from another store, and takes nothing until"
    " that is done",
    (Role.TARGET, Stage.ABANDONED): "it is what an abandoned migration has left",
}


def decoded(state: bytes | None) -> Migration | None:
    """What a stored row says.

    Raises:
        StoreCorrupt: it is not what `encoded` makes.
    """
    try:
        return None if state is None else _decode(state)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreCorrupt("what it says of a migration is not what was written") from error


_decode: Final = msgspec.json.Decoder(Migration).decode


def encoded(migration: Migration) -> bytes:
    """What is stored of it."""
    return msgspec.json.encode(migration)


def check_open(found: Migration | None, *, server: bool) -> None:
    """Refuse a store that is not to be used.

    Args:
        found: what the store says.
        server: it is to be served; others may read one that has been moved, or is being so.

    Raises:
        StoreRefused: saying where what it held is, or what to do first.
    """
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


def check_here(found: Migration | None) -> None:
    """Refuse a store that is elsewhere now.

    Raises:
        StoreMovedOn: it is; the text says where.
    """
    if found is not None and found.stage is Stage.MOVED:
        raise StoreMovedOn(_moved_on(found))


class Gate:
    """What a store says, as it was seen last by whoever has opened it.

    Attributes:
        found: that; None: it takes part in no migration.
    """

    def __init__(self, opened: Migration | None) -> None:
        """Args: opened: what it said when all else was read that whoever opened it knows of it."""
        self.found = self._opened = opened

    @property
    def shut(self) -> bool:
        """Whether what is asked may be refused, so that nothing can be told from memory."""
        found = self.found
        return found is not None and (
            found.stage is Stage.MOVED or (found.role, found.stage) in SHUT
        )

    @property
    def outdated(self) -> bool:
        """Whether it was filled since it was opened, so that what was read of it then is wrong."""
        found, opened = self.found, self._opened
        if found is None or found.role is not Role.TARGET:
            return False
        return (
            opened is None
            or opened.ticket != found.ticket
            or opened.stage not in (Stage.READY, Stage.TAKEN)
        )

    @property
    def taken(self) -> Migration | None:
        """What it says from its first commit on, if that is the next one."""
        found = self.found
        if found is None or found.stage is not Stage.READY:
            return None
        return msgspec.structs.replace(found, stage=Stage.TAKEN)

    def check_moved(self) -> None:
        """End the use of a store that is elsewhere now.

        Raises:
            StoreMovedOn: it is.
        """
        check_here(self.found)

    def refusal(self) -> StoreSealed | None:
        """What is said to all that is asked; None: it may be done.

        Raises:
            StoreMovedOn: as by `check_moved`.
        """
        found = self.found
        if found is None:
            return None
        self.check_moved()
        said = SHUT.get((found.role, found.stage))
        if said is None and self.outdated:
            said = "it was filled from another store since it was opened: open it anew"
        return None if said is None else StoreSealed(f"the store is not to be used now: {said}")

    def refusal_to_fill(self) -> StoreRefused | None:
        """What is said to rows that are to be put into it; None: it is being filled."""
        found = self.found
        if found is not None and (found.role, found.stage) == (Role.TARGET, Stage.COPYING):
            return None
        return StoreRefused("this store is not being filled by a migration")


def _moved_on(found: Migration) -> str:
    return f"what this store held was moved to {found.peer}: use that one instead"
