"""Tallies as engines keep them: integers that are added up. Pure.

A row has as many counts as were ever added to it; what it lacks is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

import msgspec

from pullstatus.errors import StoreDamaged

packed: Final = msgspec.msgpack.Encoder().encode
"""The counts of a row, as bytes."""

_unpack: Final = msgspec.msgpack.Decoder(tuple[int, ...]).decode


def unpacked(row: bytes) -> tuple[int, ...]:
    """The counts that a row has.

    Raises:
        StoreDamaged: it is no such row.
    """
    try:
        return _unpack(row)
    except msgspec.MsgspecError as error:
        raise StoreDamaged(
            "a tally is damaged: keep a copy of the store, then run `pullstatus reindex`"
        ) from error


def readable(row: bytes) -> tuple[int, ...]:
    """The same; none of one that is damaged, as no commit may fail for that."""
    try:
        return unpacked(row)
    except StoreDamaged:
        return ()


def summed(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """The counts of two rows together."""
    return tuple(mine + more for mine, more in zip_longest(one, other, fillvalue=0))
