"""A long message comes in parts, each of which says which one it is.

Over SMPP and in raw bytes that stands in a header before the text (3GPP TS 23.040, 9.2.3.24):

    05 | 00 03 2a 03 01 | text        element 00: a reference of 8 bits, 3 parts, this is the first
    06 | 08 04 01 2a 03 01 | text     element 08: the same with a reference of 16 bits

The first byte counts what follows of the header. Gateways that read it themselves tell the three
numbers in members of their own.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pullstatus import limits

_WIDTHS: Final = {0x00: 1, 0x08: 2}  # bytes of the reference, by element


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Which part of a message something is.

    Attributes:
        reference: what parts of one message have in common; its sender gives it again in time.
        count: how many parts there are.
        number: which one it is, from 1.
    """

    reference: str
    count: int
    number: int

    @property
    def alone(self) -> bool:
        """Whether there is nothing to wait for: of one part, or numbered as none can be.

        A gateway that tells the numbers in members of its own can say any count: a message of a
        thousand million parts would never be whole, and take as long to look at.
        """
        return not 1 <= self.number <= self.count <= limits.MESSAGE_PARTS_MAX or self.count == 1


def headed(data: bytes) -> tuple[Part | None, bytes]:
    """What a header says of parts, and the text behind it.

    A header that is not whole, or longer than `data`, is none: all of it is text then. Elements
    that say nothing of parts are passed over.
    """
    end = 1 + data[0] if data else 0
    if not 1 < end <= len(data):
        return None, data
    part, place = None, 1
    while place < end:
        stop = place + 2 + data[place + 1] if place + 1 < end else end + 1
        if stop > end:
            return None, data
        value = data[place + 2 : stop]
        width = _WIDTHS.get(data[place])
        if width is not None and len(value) == width + 2:
            part = Part(str(int.from_bytes(value[:width], "big")), value[-2], value[-1])
        place = stop
    return part, data[end:]
