"""A column of texts that are alike: what they share once, and the digits in which they differ.

What senders know their SMS by is a number as a rule, with something before it, and so are
telephone numbers: half a byte for each digit is what there is to tell. Each text can be read
without the others.

    2:7f3a-01  2:b20c-01    ->    "2:" 4 digits "-01"; 7f 3a b2 0c
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Final

import msgspec


class Column(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Texts in their order.

    Attributes:
        texts: what stands around the digits; without any, one text for all, or each.
        sizes: how many digits stand between two of these.
        digits: hexadecimal, text by text, two in a byte.
        capitals: whether they are written with capitals.
    """

    texts: tuple[str, ...]
    sizes: bytes = b""
    digits: bytes = b""
    capitals: bool = False

    @property
    def apart(self) -> bool:
        """Whether each is kept as it is, since they are not alike."""
        return len(self.texts) > 1 and not self.sizes


_DIGITS: Final = (b"0123456789abcdef", b"0123456789ABCDEF")
_MARK: Final = b"\0"
_MARKED: Final = [bytes.maketrans(digits, _MARK * len(digits)) for digits in _DIGITS]
_OTHERS: Final = [bytes({*range(256)}.difference(digits)) for digits in _DIGITS]
_RUN: Final = re.compile("\0+")
_SIZE_MAX: Final = 255


def column(texts: Sequence[str]) -> Column:
    """A column of one text at least."""
    if texts.count(texts[0]) == len(texts):
        return Column((texts[0],))
    head = _head(texts)
    tails = [text[len(head) :].encode() for text in texts]
    joined = b"".join(tails)
    if not joined:
        return Column((head,))
    for marked, others in zip(_MARKED, _OTHERS, strict=True):
        shapes = {tail.translate(marked) for tail in tails}
        if len(shapes) > 1 or _MARK in joined:
            continue
        shape = shapes.pop().decode()
        sizes = [len(run) for run in _RUN.findall(shape)]
        if max(sizes) <= _SIZE_MAX:
            first, *around = _RUN.split(shape)
            own = joined.translate(None, others).decode()
            digits = bytes.fromhex(own + "0" * (len(own) % 2))
            return Column((head + first, *around), bytes(sizes), digits, marked is _MARKED[1])
    return Column(tuple(texts))


def _head(texts: Sequence[str]) -> str:
    """With what all of them begin."""
    low, high = min(texts), max(texts)
    for at, (one, other) in enumerate(zip(low, high, strict=False)):
        if one != other:
            return low[:at]
    return low


def reader(found: Column) -> Callable[[int], str]:
    """Reads a text by its place, from 0."""
    first, *around = texts = found.texts
    if not found.sizes:
        return texts.__getitem__ if found.apart else lambda _place: first
    own = found.digits.hex().upper() if found.capitals else found.digits.hex()
    *starts, size = (0, *accumulate(found.sizes))
    if len(around) == 1:
        [tail] = around
        return lambda place: f"{first}{own[place * size : place * size + size]}{tail}"
    runs = [*zip(pairwise((*starts, size)), around, strict=True)]

    def text(place: int) -> str:
        one = own[place * size : place * size + size]
        return first + "".join(f"{one[start:end]}{behind}" for (start, end), behind in runs)

    return text


def texts_at(found: Column, places: Sequence[int]) -> list[str]:
    """The texts at these places, as `reader` reads each."""
    if len(found.texts) == 1 and not found.sizes:
        return list(found.texts) * len(places)
    if len(found.sizes) != 1:
        return list(map(reader(found), places))
    (size,), (first, tail) = found.sizes, found.texts
    own = found.digits.hex().upper() if found.capitals else found.digits.hex()
    return [f"{first}{own[place * size : place * size + size]}{tail}" for place in places]
