"""What a record is known by, to tell one that its sender repeats in whatever batch. Pure.

A record is known by its own time and a digest of 16 bytes, within the scope of its sender. What is
kept of these is a key of two integers: the time with 16 bits of a hash behind it, and 64 bits more
of that hash. It is the upper end of the digest times a secret odd number, which each store makes
for itself and each scope derives from that: of two digests, whoever made them, without the secret,
at most 2 in 2**80 such numbers make one hash. So nobody can make a record that is taken for the
repeat of another. By chance two are taken for one within 72 hours, of 10,000 records a second that
all tell the same time, in one case of 180,000; of as many that tell each its own, in 2 of 10**11.

Engines keep them in order of acceptance, too: the keys of what one commit remembered, joined. So
forgetting reads what it drops and no more.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final, cast

from pullstatus.store.texts import encoded

SECRET_BYTES: Final = 32
STEP_KEYS_MAX: Final = (
    250  # joined: 4 KiB, and what forgetting drops between two looks at the clock
)
KEY: Final = struct.Struct(">qq")
"""What is kept of a record, as the two integers that an index has."""

_DIGEST_BYTES = 16
_LANE_BYTES = 2 * _DIGEST_BYTES  # of a digest times a factor
_HASH_BYTES = 10  # the upper 80 bits of the lower half of that


@functools.lru_cache(maxsize=4096)
def factor_of(secret: bytes, scope: str) -> int:
    """The odd number of a scope: two scopes have nothing to do with each other."""
    digest = blake2b(encoded(scope), key=secret, digest_size=16).digest()
    return int.from_bytes(digest, "big") | 1


def keys(factor: int, items: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """What is kept of records' own times and their digests of 16 bytes, 16 bytes of each.

    All are multiplied at once: each digest stands in a lane of a long number, which has room for
    its product. Those that stand behind a digest are left out.
    """
    empty = bytes(_LANE_BYTES - _DIGEST_BYTES)
    size = _LANE_BYTES * len(items)
    digests = empty.join([digest for _, digest in items])
    if items and len(digests) != size - len(empty):
        digests = empty.join([digest[:_DIGEST_BYTES] for _, digest in items])
    lanes = int.from_bytes(digests, "big")
    products = (lanes * factor).to_bytes(size, "big")
    return [
        _second(record_s) + products[at : at + _HASH_BYTES]
        for (record_s, _), at in zip(
            items, range(_LANE_BYTES - _DIGEST_BYTES, size, _LANE_BYTES), strict=True
        )
    ]


def further_keys(factor: int, items: Sequence[tuple[int, bytes]]) -> dict[int, list[bytes]]:
    """What is kept of the digests that stand behind others, by the places of these."""
    return {
        place: keys(
            factor,
            [
                (record_s, digest[at : at + _DIGEST_BYTES])
                for at in range(_DIGEST_BYTES, len(digest), _DIGEST_BYTES)
            ],
        )
        for place, (record_s, digest) in enumerate(items)
        if len(digest) > _DIGEST_BYTES
    }


@functools.lru_cache(maxsize=4096)
def _second(record_s: int) -> bytes:
    return record_s.to_bytes(KEY.size - _HASH_BYTES, "big", signed=True)


def keys_of(row: bytes) -> list[bytes]:
    """The keys that a row of the order joins; of one that is damaged as many as it has."""
    return [row[at : at + KEY.size] for at in range(0, len(row) - KEY.size + 1, KEY.size)]


def halves_of(row: bytes) -> list[tuple[int, int]]:
    """The same, each as the two integers that the index has."""
    return cast(
        "list[tuple[int, int]]", list(KEY.iter_unpack(row[: len(row) // KEY.size * KEY.size]))
    )


def joined(keys: Sequence[bytes]) -> Iterator[bytes]:
    """Keys in the order in which they were accepted, as rows of at most `STEP_KEYS_MAX`."""
    for start in range(0, len(keys), STEP_KEYS_MAX):
        yield b"".join(keys[start : start + STEP_KEYS_MAX])
