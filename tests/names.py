"""Names of sends in memory, for tests that need no store."""

from __future__ import annotations

from collections.abc import Sequence

from pullstatus.mailbox.names import namings
from pullstatus.receipts.sends import Registered
from pullstatus.store import Named


class NamesInMemory:
    """What `mailbox.names.names_of` asks; has every name that was registered, for ever."""

    def __init__(self) -> None:
        self.blocks: list[tuple[frozenset[int], Named]] = []
        self.asked = 0

    def register(self, sdkappid: int, *registered: Registered, owner: str = "") -> None:
        for block in namings(registered, owner):
            self.blocks.insert(
                0, (frozenset(block.slots), Named(sdkappid, block.slots, block.body))
            )

    async def named(self, slots: Sequence[int], sdkappid: int | None = None) -> list[Named]:
        self.asked += 1
        return [
            block
            for known, block in self.blocks
            if not known.isdisjoint(slots) and sdkappid in (None, block.sdkappid)
        ]
