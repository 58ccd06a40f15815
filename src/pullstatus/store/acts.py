"""What an operator did is on record for good: each act is chained to the one before by its hash.

    hash of an act = BLAKE2b(hash of the one before, its own members)

So a row that was changed, put in or taken out later shows in all that follow; `pullstatus audit`
proves the chain. Rows that are missing at the end do not show in it.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec

from pullstatus.errors import StoreCorrupt
from pullstatus.store.values import ActRow

T = TypeVar("T")

HASH_BYTES = 32


def chained(before: bytes, *members: int | str | bytes) -> bytes:
    """The hash of an act with these members, behind one with the hash `before`.

    The first act of a chain stands behind `b""`. Each member is told with its length, so that no
    two rows are told alike.
    """
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    for member in (before, *members):
        data = member if isinstance(member, bytes) else str(member).encode()
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()


def read_detail(row: ActRow, detail_type: type[T]) -> T:
    """What an act was done to, as far as it is asked for.

    Raises:
        StoreCorrupt: it is not what was written.
    """
    try:
        return msgspec.json.decode(row.act.detail, type=detail_type)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise StoreCorrupt(
            f"the detail of act {row.act_id} is not what was written; `pullstatus audit` tells more"
        ) from error
