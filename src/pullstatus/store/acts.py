"""What an operator did is on record for good: each act is chained to the one before by its hash.

    hash of an act = SHA-256(hash of the one before, its number, its other members)

So an act that was changed, put in or taken out later is told by the rows that are left, whatever
engine keeps them. No act is ever removed, so the chain begins with the first.

What the rows alone cannot tell: that the newest ones were cut off, and that somebody who can write
them has made the whole chain anew. Both show to whoever has kept a hash elsewhere: an act's hash
stands for that act and for all before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple, TypeVar

import msgspec

from pullstatus.errors import StoreCorrupt
from pullstatus.store.texts import encoded
from pullstatus.store.values import Act, ActRow

T = TypeVar("T")

HASH_BYTES: Final = 32
_PROBLEMS_MAX: Final = 20
NOTHING_BEFORE: Final = b""  # stands for the hash of the one before the first


def chained(before: bytes, act_id: int, act: Act) -> bytes:
    """The hash of an act on record, behind one with the hash `before`.

    Each member is told as its length in bytes, in decimal digits, a colon, and itself: a number in
    decimal digits, a text in UTF-8 as it is stored. So no two acts are told alike.
    """
    digest = hashlib.sha256()
    members = (act_id, act.ticket, act.at_ms, act.actor, act.action, act.reason, act.detail)
    for member in (before, *members):
        data = member if isinstance(member, bytes) else encoded(str(member))
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()


def read_detail(row: ActRow, decode: Callable[[str], T]) -> T:
    """What an act was done to, as far as it is asked for.

    Raises:
        StoreCorrupt: it is not what was written.
    """
    try:
        return decode(row.act.detail)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise StoreCorrupt(
            f"the detail of act {row.act_id} is not what was written; `pullstatus audit` tells more"
        ) from error


class Break(NamedTuple):
    """Where a chain of acts does not hold.

    Attributes:
        act_id: the act that is not what was recorded behind those before it.
        follows: number of the act before it; 0: it is the first that is left.
        expected, found: the hash that it must have, and the one that it has.
    """

    act_id: int
    follows: int
    expected: bytes
    found: bytes

    def __str__(self) -> str:
        """What is wrong, and where, in a sentence for whoever looks into it."""
        missing = self.act_id - self.follows - 1
        where = f"act {self.act_id} is not what was recorded"
        if missing == 1:
            where += f", or act {self.act_id - 1}, which is missing, was removed"
        elif missing > 1:
            where += f", or acts {self.follows + 1} to {self.act_id - 1}, which are missing, were"
            where += " removed"
        else:
            where += ", or was not recorded there"
        return f"{where}: hash {self.expected.hex()} was expected, it has {self.found.hex()}"


def breaks(rows: Iterable[ActRow]) -> Iterator[Break]:
    """Where the chain of all acts, in order, does not hold.

    Behind a break it goes on with the hash that is found, so an act that was changed is told once,
    and one that is as it was recorded is not told, unless the hash before it is not.
    """
    chain = Chain()
    for row in rows:
        found = chain.follow(row)
        if found is not None:
            yield found


def problems_of(rows: Iterable[ActRow]) -> Iterator[str]:
    """What is wrong with the record of all acts, for an audit: some told, others counted."""
    found = breaks(rows)
    yield from map(str, islice(found, _PROBLEMS_MAX))
    if more := sum(1 for _ in found):
        yield f"{more} more acts are not what was recorded; `pullstatus acts verify` lists them"


class Chain:
    """A chain of acts, followed from the first to the newest; see `breaks`.

    Attributes:
        newest: the act that was followed last; None before the first.
        count: how many were.
    """

    def __init__(self) -> None:
        self.newest: ActRow | None = None
        self.count = 0

    def follow(self, row: ActRow) -> Break | None:
        """Take the next act; where the chain does not hold with it, that is told."""
        follows, before = (
            (0, NOTHING_BEFORE) if self.newest is None else (self.newest.act_id, self.newest.hash)
        )
        self.newest = row
        self.count += 1
        expected = chained(before, row.act_id, row.act)
        if row.hash == expected:
            return None
        return Break(row.act_id, follows, expected, row.hash)
