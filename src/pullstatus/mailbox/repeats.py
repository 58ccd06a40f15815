"""How a page whose answer got lost comes again: by a key, or to a reader.

What a request says so, and in which words, is its face's.
"""

from __future__ import annotations

import msgspec

from pullstatus.store import Reader


class Repeat(msgspec.Struct, frozen=True, gc=False):
    """How a pull can be had again.

    Attributes:
        key: its Idempotency-Key.
        reader: who asks, and what it acknowledges.
        takes: False: it acknowledges, and takes nothing.
    """

    key: str | None = None
    reader: Reader | None = None
    takes: bool = True

    def acknowledged(self) -> Repeat:
        """The same, once its acknowledgement is on record."""
        if self.reader is None or self.reader.ack is None:
            return self
        return Repeat(self.key, Reader(self.reader.name), self.takes)


NEVER = Repeat()
"""Of the documented call."""
