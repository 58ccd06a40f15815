"""The row of a database that says whether its store takes anything on; see `store.gate`."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pullstatus.errors import StoreRefused
from pullstatus.store.gate import Gate, decoded, encoded
from pullstatus.store.gathering.operations import Enter
from pullstatus.store.postgresql import statements
from pullstatus.store.postgresql.tables import PostgresTables
from pullstatus.store.postgresql.writes import Due
from pullstatus.store.transfer import Migration, Stage
from pullstatus.store.verbs.acts import record

_FILLER_BITS = 62


class LaneGate(Gate):
    """The row as the open transaction of a lane sees it."""

    def __init__(self, opened: Migration | None) -> None:
        super().__init__(opened)
        self._own = random.SystemRandom().getrandbits(_FILLER_BITS)
        self._filler: int | None = None

    def know(self, rows: Sequence[tuple[bytes, int]]) -> None:
        """What `statements.GATE` has told."""
        state, self._filler = rows[0] if rows else (None, None)
        self.found = decoded(state)

    def due(self) -> list[Due]:
        """What goes with a group that writes: that the store is in use, if it was only ready."""
        taken = self.taken
        return [] if taken is None else [Due(statements.TAKE, (encoded(taken),))]

    def enter(self, tables: PostgresTables, operation: Enter) -> bool:
        """Say how this store takes part from now on, if it does as expected."""
        now = operation.migration
        if self.found != operation.expected:
            return False
        if now is not None and now.stage is Stage.READY and self._filler != self._own:
            return False  # somebody else has filled it since
        if now is None:
            tables.write([Due(statements.SAY_NOTHING, ())])
        else:
            tables.write([Due(statements.SAY, (encoded(now), self._own))])
        if operation.act is not None:
            record(tables, operation.act)
        return True

    def refusal_to_fill(self) -> StoreRefused | None:
        """As of any store; and nobody puts rows into it beside another."""
        refusal = super().refusal_to_fill()
        if refusal is None and self._filler != self._own:
            return StoreRefused("another run of `pullstatus migrate` fills this store: let it end")
        return refusal
