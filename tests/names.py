"""Names of sends in memory, for tests that need no store."""

from __future__ import annotations

from collections.abc import Sequence

from pullstatus import limits
from pullstatus.mailbox.names import namings
from pullstatus.receipts.sends import Registered
from pullstatus.store import Named


class NamesInMemory:
    """What `mailbox.names.names_of` asks; has every name that was registered, for ever.

    Of each hash no more is told than an engine surely tells.
    """

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
        told = dict.fromkeys(slots, 0)
        found: list[Named] = []
        for known, block in self.blocks:
            own = known.intersection(told) if sdkappid in (None, block.sdkappid) else ()
            if any(told[slot] < limits.NAMES_FOUND_MAX for slot in own):
                found.append(block)
            for slot in own:
                told[slot] += 1
        return found
