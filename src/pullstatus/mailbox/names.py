"""Names of sends: whose a receipt is that carries its gateway's id and nothing of ours.

Whoever sends registers, beside the counts of its sends, which `sid` an SMS has that a gateway knows
by an id of its own, or by several, one for each part. A receipt with that id is looked up then.

Gateways write one id in more than one way: in decimal where it is taken and in hexadecimal in the
receipt, with zeros before it or without, in capitals or not. So an id is known by what is *plain*
of it: a number if it may be one, decimal where all of it are decimal digits. One kind has two:
digits that are an id in decimal and, read as hexadecimal, another one. The other one is looked for
only where nothing is found. Nothing that is emitted is ever rewritten.

Of an id no text is kept, but a hash of 64 bits of what is plain of it, and 16 that tell how it was
written. Of ten million names an id that nobody registered meets one by chance once in 10^12 times.

Names lie in blocks of up to `limits.NAMES_BLOCK` that came together, and of no more ids than one
may have; a store finds blocks by the first half of their hashes, and knows nothing of what is in
them. They stay for `limits.NAMES_HOURS`.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

import msgspec

from pullstatus import limits
from pullstatus.mailbox.columns import Column, column, reader, texts_at
from pullstatus.mailbox.following import let_others
from pullstatus.receipts.sends import Registered
from pullstatus.records.numbers import ENDING_DIGITS, e164, ending
from pullstatus.store import Named, Naming


class Name(msgspec.Struct, frozen=True):
    """What was registered of one SMS to one number.

    Attributes:
        sdkappid: who sent it.
        owner: whose application that was then. One that has another owner now does not inherit:
            see `belongs_to`.
        sid: what its sender knows it by.
        ext: the sender's session text; empty: none.
        nationcode, mobile: to whom it went, for gateways that do not tell; empty: not registered.
        parts: in how many it was sent.
        part: which of these was asked for, from 1.
        message: tells it from others of the same sid; the same for each of its parts.
    """

    sdkappid: int
    owner: str
    sid: str
    ext: str
    nationcode: str
    mobile: str
    parts: int
    part: int
    message: int

    @property
    def number(self) -> str:
        """The number with its plus; empty: it was not registered."""
        return e164(self.nationcode, self.mobile) if self.nationcode and self.mobile else ""

    def belongs_to(self, owner: str) -> bool:
        """Whether the application is still of who registered this."""
        return self.owner == owner


class Told(NamedTuple):
    """What a receipt tells of itself: its gateway's id, and the number, if it has any."""

    id: str
    number: str = ""


class Names(Protocol):
    """What is asked of a store here; see `store.Store`."""

    async def named(self, slots: Sequence[int], sdkappid: int | None = None) -> list[Named]:
        """Blocks that have a name under one of these hashes, the newest first."""
        ...


class Heard:
    """What a store has said of names, for one request: the same is not asked for again.

    A name that is registered since is found by what lets leave what waits for it.
    """

    def __init__(self, names: Names) -> None:
        """Nothing has been asked yet."""
        self._names = names
        self._said: dict[tuple[int | None, ...], list[Named]] = {}

    async def named(self, slots: Sequence[int], sdkappid: int | None = None) -> list[Named]:
        """As that of `Names`."""
        asked = (sdkappid, *slots)
        if asked not in self._said:
            self._said[asked] = await self._names.named(slots, sdkappid)
        return self._said[asked]


def namings(registered: Sequence[Registered], owner: str) -> Iterator[Naming]:
    """What a store keeps of these, as part of a `store.Count`: blocks of about one size.

    Each is made when it is asked for: of a report as long as it may be they take a good while.
    """
    return (_naming(together, owner) for together in _blocks(registered))


def _blocks(registered: Sequence[Registered]) -> Iterator[Sequence[Registered]]:
    """What lies together: of ids no more than one name may have, as each is read for any other."""
    blocks = -(-len(registered) // limits.NAMES_BLOCK)
    size = -(-len(registered) // blocks) if blocks else 1
    start = ids = 0
    for place, each in enumerate(registered):
        ids += len(each.ids)
        if place - start == size or (ids > limits.MESSAGE_PARTS_MAX and place > start):
            yield registered[start:place]
            start, ids = place, len(each.ids)
    if registered:
        yield registered[start:]


async def names_of(
    store: Names, told: Sequence[Told], *, sdkappid: int | None = None, owner: str | None = None
) -> list[Name | None]:
    """The name of each receipt; None where there is none, or none that is surely its own.

    Asked in one statement, and in a second one for digits that are not found as a decimal number.
    Of several under one id that decides to whom it went, where both are told; then what is written
    alike, then what differs by capitals and zeros; else the newest is it. What two applications
    have registered is nobody's, unless that decides. Without an application, so is what may have
    been registered more often than is read: who else has registered it is not known.

    Where both spellings are decimal digits, as 12 is 18 in hexadecimal, these are two ids in their
    own right: such a name is taken only if it has the number that the receipt tells.

    Args:
        sdkappid: only what this application has registered; None: whoever has.
        owner: only of this owner. Whoever leaves it out asks `Name.belongs_to`.

    Raises:
        StoreUnavailable: it could not be asked now.
    """
    found: list[Name | None] = [None] * len(told)
    places = [place for place, each in enumerate(told) if 0 < len(each.id) <= _CHARS_MAX]
    asked = list(zip(places, _hashes([told[place].id for place in places]), strict=True))
    hidden = await _look(store, told, asked, found, sdkappid, owner)
    others = [
        (place, hash_of(spelling))
        for place, _ in asked
        if found[place] is None and place not in hidden
        for spelling in _otherwise(told[place].id)
    ]
    await _look(store, told, others, found, sdkappid, owner, otherwise=True)
    return found


async def given_together(
    store: Names, ids: Sequence[str], numbers: Sequence[str], *, sdkappid: int, owner: str
) -> tuple[list[str], list[str]] | None:
    """The `sid` and the `ext` that an application has registered of each of some receipts.

    Args:
        ids, numbers: of each receipt, none of them empty.

    Returns:
        None if some id is not registered, or more than once, or with others for a message in parts,
        or it is not plain that its number is the receipt's: `names_of` has the last word.

    Raises:
        StoreUnavailable: it could not be asked now.
    """
    if max(map(len, ids)) > _CHARS_MAX:
        return None
    hashes = _hashes(ids)
    wanted = {*hashes}
    blocks = await store.named(sorted({hashed >> _HALF for hashed in wanted}), sdkappid)
    given: dict[int, tuple[str, str, str]] = {}
    count = 0
    for named in blocks:
        block = _block(named)
        if block is None or block.owner != owner:
            continue
        size = len(named.slots)
        places = dict(zip(_joined(named.slots, block.rests), range(size), strict=True))
        if block.parts or len(places) < size:
            return None
        own = wanted.intersection(places)
        at = list(map(places.__getitem__, own))
        columns = (texts_at(each, at) for each in (block.sids, block.exts, block.mobiles))
        given.update(zip(own, zip(*columns, strict=True), strict=True))
        count += len(own)
    if not count == len(given) == len(wanted):
        return None
    sids, exts, mobiles = zip(*map(given.__getitem__, hashes), strict=True)
    for number, mobile in zip(numbers, mobiles, strict=True):
        if mobile and number[-ENDING_DIGITS:] != mobile[-ENDING_DIGITS:]:
            return None
    return list(sids), list(exts)


async def _look(
    store: Names,
    told: Sequence[Told],
    asked: Sequence[tuple[int, int]],
    found: list[Name | None],
    sdkappid: int | None,
    owner: str | None,
    *,
    otherwise: bool = False,
) -> set[int]:
    """Look in one statement for receipts, each its place and a hash; put down what is found.

    Returns:
        The places of receipts that may be of somebody whose name was not read.
    """
    hidden: set[int] = set()
    if not asked:
        return hidden
    wanted = {hashed >> _HALF for _, hashed in asked}
    blocks = await store.named(sorted(wanted), sdkappid)
    full = await _full(blocks, wanted) if sdkappid is None else set[int]()
    known = await _known(blocks, wanted, owner)
    several: dict[int, _Several] = {}
    for number, (place, hashed) in enumerate(asked, 1):
        if not number % _TURN:
            await let_others()
        if found[place] is not None or place in hidden:
            continue
        if hashed >> _HALF in full:
            hidden.add(place)
        elif len(places := known.get(hashed, [])) == 1:
            found[place] = _only(told[place], *places[0], otherwise=otherwise)
        elif places:
            if hashed not in several:
                several[hashed] = _Several(places)
            found[place] = await several[hashed].best(told[place], otherwise=otherwise)
    return hidden


async def _full(blocks: Sequence[Named], wanted: set[int]) -> set[int]:
    """The slots that are in as many blocks as are read of each, so that there may be more.

    Not the hashes: whoever wants to hide a name can make other ids of the same slot.
    """
    count = Counter[int]()
    if len(blocks) >= limits.NAMES_FOUND_MAX:
        for number, block in enumerate(blocks, 1):
            count.update(wanted.intersection(block.slots))
            if not number % _TURN_BLOCKS:
                await let_others()
    return {slot for slot, blocks_of in count.items() if blocks_of >= limits.NAMES_FOUND_MAX}


_TURN: Final = 100  # receipts, or names of one id, after which others have their turn
_TURN_BLOCKS: Final = 16


# --- how an id may be written ---------------------------------------------------------------------

_CHARS_MAX: Final = limits.GATEWAY_ID_CHARS_MAX
_HALF: Final = 32
_REST: Final = (1 << _HALF) - 1


def plain(name: str) -> int | str:
    """An id without what gateways do not agree on: a number, or without capitals and zeros."""
    folded = _folded(name)
    if _is_decimal(folded):
        return int(folded)
    return int(folded, 16) if _HEXADECIMAL(folded) else folded


def _otherwise(name: str) -> Sequence[int | str]:
    """What an id in digits may be if it, or what was registered, is in hexadecimal."""
    folded = _folded(name)
    if not _is_decimal(folded):
        return ()
    hexadecimal = f"{int(folded):x}"
    other = int(folded, 16)
    return (int(hexadecimal), other) if _is_decimal(hexadecimal) else (other,)


def _folded(name: str) -> str:
    return name.casefold().lstrip("0")


def _is_decimal(folded: str) -> bool:
    return folded.isdecimal() and folded.isascii()


_HEXADECIMAL: Final = re.compile("[0-9a-f]+").fullmatch


def hash_of(spelling: int | str) -> int:
    """By which signed number of 64 bits it is known; the first half of it is its slot.

    Numbers below 2^64 have one each, which are spread as multiples of the golden ratio are.
    """
    if isinstance(spelling, int):
        return (spelling % _PRIME * _GOLDEN & _ALL) - _LOWEST
    data = spelling.encode(errors="surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest()) - _LOWEST


def _hashes(names: Sequence[str]) -> list[int]:
    """Those of what is plain of each; of decimal numbers, as most are, all at once."""
    together = "".join(names)
    if _is_decimal(together) and all(names):
        numbers = list(map(int, names))
        if 0 not in numbers:
            return [(number % _PRIME * _GOLDEN & _ALL) - _LOWEST for number in numbers]
    return [hash_of(plain(name)) for name in names]


_PRIME: Final = (1 << 64) - 59
_GOLDEN: Final = 0x9E3779B97F4A7C15
_ALL: Final = (1 << 64) - 1
_LOWEST: Final = 1 << 63


def _written(name: str) -> int:
    """How an id was written, in 16 bits, which are the same for all ids of most gateways.

    Whether in decimal; whether in capitals, in none, or in a mixture, of which this is a hash; and
    how many zeros are before it.
    """
    folded = name.casefold()
    if name != folded and not name.isupper():
        return _MIXED | zlib.crc32(name.encode(errors="surrogatepass")) % _MIXED
    bare = folded.lstrip("0")
    zeros = len(folded) - len(bare)
    return _DECIMAL * _is_decimal(bare) | _CAPITAL * (name != folded) | zeros


def _all_written(names: Sequence[str]) -> list[int]:
    """How each was written; once, if all were written alike."""
    if _is_decimal("".join(names)) and not any(name.startswith("0") for name in names):
        return [_DECIMAL]
    written = [*map(_written, names)]
    return written[:1] if written.count(written[0]) == len(written) else written


_DECIMAL: Final = 1 << 15
_MIXED: Final = 1 << 14
_CAPITAL: Final = 1 << 13


# --- blocks ---------------------------------------------------------------------------------------


class _Block(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is in a block: a row for each SMS.

    Attributes:
        parts: how many ids each row has; empty: each has one.
        rests: the second half of the hash of each id, 32 bits.
        written: how each id was written, 16 bits; once, if all were written alike.
    """

    owner: str
    sids: Column
    exts: Column
    nationcodes: Column
    mobiles: Column
    parts: bytes
    rests: bytes
    written: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Block).decode

_WRITTEN_BYTES: Final = 2
_SUM_BYTES: Final = 4
_LEVEL: Final = 6
_ZLIB: Final = b"x"  # with which no block begins that is not compressed


def _naming(registered: Sequence[Registered], owner: str) -> Naming:
    sids, ids, exts, nationcodes, mobiles = zip(*registered, strict=True)
    flat = [name for names in ids for name in names]
    hashes = _hashes(flat)
    written = _all_written(flat)
    block = _Block(
        owner,
        column(sids),
        column(exts),
        column(nationcodes),
        column(mobiles),
        b"" if len(flat) == len(ids) else bytes(map(len, ids)),
        struct.pack(f"<{len(flat)}I", *[hashed & _REST for hashed in hashes]),
        struct.pack(f"<{len(written)}H", *written),
    )
    slots = [hashed >> _HALF for hashed in hashes]
    data = _encode(block)
    if block.sids.apart or block.exts.apart:
        data = zlib.compress(data, _LEVEL)
    return Naming(slots, data + _sum(slots, data))


def _sum(slots: Sequence[int], data: bytes) -> bytes:
    return zlib.crc32(struct.pack(f"<{len(slots)}i", *slots), zlib.crc32(data)).to_bytes(_SUM_BYTES)


class _Rows:
    """A block that is sound, opened.

    Attributes:
        hashes: of its ids, in order.
    """

    def __init__(self, named: Named, block: _Block) -> None:
        self.sdkappid = named.sdkappid
        self.owner = block.owner
        self.hashes = _joined(named.slots, block.rests)
        self._written = block.written
        self._sid = reader(block.sids)
        self._ext = reader(block.exts)
        self._nationcode = reader(block.nationcodes)
        self._mobile = reader(block.mobiles)
        self._rows: Sequence[tuple[int, int, int]] = [
            (row, part, parts)
            for row, parts in enumerate(block.parts)
            for part in range(1, parts + 1)
        ]

    def written(self, at: int) -> int:
        """How an id was written."""
        place = _WRITTEN_BYTES * at if len(self._written) > _WRITTEN_BYTES else 0
        return int.from_bytes(self._written[place : place + _WRITTEN_BYTES], "little")

    def number(self, at: int) -> tuple[str, str]:
        """Calling code and the rest of the number that was registered with an id."""
        row = self._rows[at][0] if self._rows else at
        return self._nationcode(row), self._mobile(row)

    def name(self, at: int) -> Name:
        """What was registered with an id."""
        row, part, parts = self._rows[at] if self._rows else (at, 1, 1)
        return Name(
            self.sdkappid,
            self.owner,
            self._sid(row),
            self._ext(row),
            self._nationcode(row),
            self._mobile(row),
            parts,
            part,
            self.hashes[at - part + 1],
        )


_Place = tuple[_Rows, int]
"""Where an id stands: in which block, and as which of its ids."""


async def _known(
    blocks: Sequence[Named], wanted: set[int], owner: str | None
) -> dict[int, list[_Place]]:
    """Where each hash stands that has one of the slots, what came last first."""
    known: dict[int, list[_Place]] = {}
    for number, block in enumerate(blocks, 1):
        if not number % _TURN_BLOCKS:
            await let_others()
        rows = _rows(block)
        if rows is None or owner not in (None, rows.owner):
            continue
        for at in reversed([at for at, slot in enumerate(block.slots) if slot in wanted]):
            known.setdefault(rows.hashes[at], []).append((rows, at))
    return known


def _rows(named: Named) -> _Rows | None:
    block = _block(named)
    return None if block is None else _Rows(named, block)


def _block(named: Named) -> _Block | None:
    """What is in a block; None: it is damaged, and nothing is known of it."""
    data = named.body[:-_SUM_BYTES]
    if named.body[-_SUM_BYTES:] != _sum(named.slots, data):
        return None
    return _decode(zlib.decompress(data) if data.startswith(_ZLIB) else data)


def _joined(slots: Sequence[int], rests: bytes) -> list[int]:
    """Hashes of both of their halves."""
    halves = zip(slots, struct.unpack(f"<{len(slots)}I", rests), strict=True)
    return [slot << _HALF | rest for slot, rest in halves]


# --- which one it is ------------------------------------------------------------------------------


def _only(told: Told, rows: _Rows, at: int, *, otherwise: bool) -> Name | None:
    """The one that is registered, if it fits.

    Args:
        otherwise: it and what is told are ids in digits that are one only if one is hexadecimal.
    """
    name = rows.name(at)
    fits = _same_number(told.number, name.nationcode, name.mobile)
    return name if fits or (fits is None and not otherwise) else None


class _Several:
    """One id that was registered several times.

    What fits best is looked up by how it is written and by the end of its number, as a receipt that
    would be compared with each name holds up all others.
    """

    def __init__(self, places: Sequence[_Place]) -> None:
        """Where it stands, what came last first."""
        self._places = places
        self._newest: dict[int | None, _Newest] = {}

    async def best(self, told: Told, *, otherwise: bool) -> Name | None:
        """The one that fits best; none if several applications have one."""
        size = len(_end(told.number)) if told.number else None
        if size not in self._newest:
            self._newest[size] = await _newest(self._places, size)
        newest = self._newest[size]
        written = _written(told.id)
        alike = written & _DECIMAL
        sure = _ends_of(told.number, newest.sizes)
        guesses = () if otherwise else (_NO_NUMBER,)
        for how in (written, ~alike, ~(alike ^ _DECIMAL)):
            for ends in (sure, guesses):
                keys = [key for end in ends if (key := (end, how)) in newest.places]
                if keys:
                    return newest.name(keys)
        return None


_Key = tuple[str, int]
"""The end of a number, and how an id is written: so, or (below 0) whether in decimal."""


class _Newest(NamedTuple):
    """The newest name of each key, of those that receipts with ends of one length may have.

    Attributes:
        places: each behind its rank, from the newest on.
        shared: keys under which several applications have a name.
        sizes: how many characters their numbers have of the end of a receipt's.
    """

    places: dict[_Key, tuple[int, _Place]]
    shared: set[_Key]
    sizes: set[int]

    def name(self, keys: Sequence[_Key]) -> Name | None:
        """The newest under any of these; none if several applications have one."""
        found = [self.places[key] for key in keys]
        whose = {rows.sdkappid for _, (rows, _) in found}
        if len(whose) > 1 or not self.shared.isdisjoint(keys):
            return None
        _, (rows, at) = min(found, key=lambda each: each[0])
        return rows.name(at)


async def _newest(places: Sequence[_Place], size: int | None) -> _Newest:
    """For receipts whose number has an end of this length; None: that tell no number."""
    newest = _Newest({}, set(), set())
    for rank, place in enumerate(places):
        if rank % _TURN == _TURN - 1:
            await let_others()
        rows, at = place
        written = rows.written(at)
        for end in _ends_to(*rows.number(at), size, newest.sizes):
            for key in ((end, written), (end, ~(written & _DECIMAL))):
                _, (first, _) = newest.places.setdefault(key, (rank, place))
                if first.sdkappid != rows.sdkappid:
                    newest.shared.add(key)
    return newest


# As `_same_number` compares: either both end alike as they are written, or of the ends of both
# numbers one is the end of the other.
_NO_NUMBER: Final = ""
_AS_WRITTEN: Final = "="
_AS_NUMBER: Final = "."


def _ends_to(nationcode: str, mobile: str, size: int | None, sizes: set[int]) -> Sequence[str]:
    """Under which ends a name is found, by receipts whose number has an end of this length."""
    if size is None or not mobile:
        return (_NO_NUMBER,)
    known = ending(nationcode, mobile)
    common = min(size, len(known))
    sizes.add(common)
    return _AS_WRITTEN + mobile[-ENDING_DIGITS:], _AS_NUMBER + known[len(known) - common :]


def _ends_of(number: str, sizes: set[int]) -> Sequence[str]:
    """Under which ends a receipt finds names of its number."""
    if not number:
        return ()
    end = _end(number)
    ends = [_AS_NUMBER + end[len(end) - size :] for size in sizes]
    return (_AS_WRITTEN + number[-ENDING_DIGITS:], *ends)


def _same_number(number: str, nationcode: str, mobile: str) -> bool | None:
    """Whether both are one number, by their ends; None: one of them is not told."""
    if not number or not mobile:
        return None
    end = number[-ENDING_DIGITS:]
    if end == mobile[-ENDING_DIGITS:]:
        return True
    end = _end(number)
    known = ending(nationcode, mobile)
    return known.endswith(end) or end.endswith(known)


def _end(number: str) -> str:
    return number.strip()[-ENDING_DIGITS:].removeprefix("+")
