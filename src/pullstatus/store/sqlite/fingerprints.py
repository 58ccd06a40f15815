"""What is remembered of records, to know one that its sender repeats in whatever batch.

    fingerprint       by the record's own time: what comes together lies together, and so do its
                      repeats; with when it was accepted
    fingerprint_step  in order of acceptance: the keys of what one commit remembered, joined, so
                      that forgetting reads what it drops and no more

A record is known by its own time and a digest of 16 bytes, within the scope of its sender. What is
kept of these is a key of two integers: the time with 16 bits of a hash behind it, and 64 bits more
of that hash. It is the upper end of the digest times a secret odd number, which each store makes
for itself and each scope derives from that: of two digests, whoever made them, without the secret,
at most 2 in 2**80 such numbers make one hash. So nobody can make a record that is taken for the
repeat of another. By chance two are taken for one within 72 hours, of 10,000 records a second that
all tell the same time, in one case of 180,000; of as many that tell each its own, in 2 of 10**11.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain

import apsw

from pullstatus import limits
from pullstatus.errors import StoreCorrupt
from pullstatus.store.values import Fingerprints

SECRET_BYTES = 32
STEP_KEYS_MAX = 250  # of a row: 4 KiB, and what forgetting drops between two looks at the clock

_MASK = (1 << 128) - 1
_SHORT = 1 << 64
_HALF = 1 << 63  # SQLite integers are signed

Key = tuple[int, int]


class Remembered:
    """The fingerprints of one connection that writes; what is new goes into the open transaction.

    Args:
        connection: one whose file has the current format.

    Raises:
        StoreCorrupt: the file has no secret.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        secret = connection.execute("SELECT value FROM fingerprint_secret WHERE id = 1").get
        if not isinstance(secret, bytes) or len(secret) != SECRET_BYTES:
            raise StoreCorrupt(
                "the file is damaged: it lacks what it knows repeated records by; keep a copy of"
                " it, then restore a backup"
            )
        self._secret = secret
        self._new: list[Key] = []
        self._newest_ms = 0

    def begin(self) -> None:
        """Begin a transaction: what another one has left came to nothing."""
        self._new = []
        self._newest_ms = 0

    def unseen(
        self, entries: Sequence[bytes], fingerprints: Fingerprints, at_ms: int
    ) -> list[bytes]:
        """The entries whose fingerprints are new, remembered from now on."""
        factor = factor_of(self._secret, fingerprints.scope)
        rows = [(*key(factor, record_s, digest), at_ms) for record_s, digest in fingerprints.items]
        fresh = [
            place for place, remembered in enumerate(self._remember(rows, at_ms)) if remembered
        ]
        self._new += [rows[place][:2] for place in fresh]
        self._newest_ms = max(self._newest_ms, at_ms)
        if len(fresh) == len(entries):
            return list(entries)
        return [entries[place] for place in fresh]

    def _remember(self, rows: Sequence[tuple[int, int, int]], at_ms: int) -> list[bool]:
        """Of each whether it is new. One statement for all, as long as they are."""
        before = self._connection.total_changes()
        try:
            self._connection.executemany("INSERT INTO fingerprint VALUES (?, ?, ?)", rows)
        except apsw.ConstraintError:
            new = [True] * (self._connection.total_changes() - before)
        else:
            return [True] * len(rows)
        old_ms = at_ms - limits.INGEST_REPEAT_S * 1000
        for row in rows[len(new) :]:
            self._connection.execute(
                "INSERT INTO fingerprint VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE"
                " SET accepted_ms = excluded.accepted_ms WHERE accepted_ms < ?4",
                (*row, old_ms),
            )
            new.append(bool(self._connection.changes()))
        return new

    def write(self) -> None:
        """Put what the open transaction remembers in order of acceptance."""
        for start in range(0, len(self._new), STEP_KEYS_MAX):
            keys = self._new[start : start + STEP_KEYS_MAX]
            self._connection.execute(
                "INSERT INTO fingerprint_step (accepted_ms, keys) VALUES (?, ?)",
                (self._newest_ms, struct.pack(f">{2 * len(keys)}q", *chain.from_iterable(keys))),
            )


@functools.lru_cache(maxsize=4096)
def factor_of(secret: bytes, scope: str) -> int:
    """The odd number of a scope: two scopes have nothing to do with each other."""
    digest = blake2b(scope.encode(), key=secret, digest_size=16).digest()
    return int.from_bytes(digest, "big") | 1


def key(factor: int, record_s: int, digest: bytes) -> Key:
    """What is kept of a record's own time and its digest of 16 bytes."""
    top = (int.from_bytes(digest, "big") * factor & _MASK) >> 48
    return record_s << 16 | top >> 64, top % _SHORT - _HALF


def keys_of(row: bytes) -> list[Key]:
    """The keys that a row of `fingerprint_step` joins; of one that is damaged as many as it has."""
    return list(struct.iter_unpack(">qq", row[: len(row) // 16 * 16]))


def forget(connection: apsw.Connection, accepted_before_ms: int) -> int | None:
    """Drop the oldest row of the order, and what it remembers; returns how much that is.

    Of what was accepted anew since, only the former place in the order goes. None: there is no
    such row from before.
    """
    row = connection.execute(
        "SELECT id, keys FROM fingerprint_step WHERE accepted_ms < ? ORDER BY accepted_ms LIMIT 1",
        (accepted_before_ms,),
    ).fetchone()
    if row is None:
        return None
    number, joined = row
    before = connection.total_changes()
    connection.executemany(
        "DELETE FROM fingerprint WHERE slot = ? AND short = ? AND accepted_ms < ?",
        [(*each, accepted_before_ms) for each in keys_of(joined)],
    )
    dropped = connection.total_changes() - before
    connection.execute("DELETE FROM fingerprint_step WHERE id = ?", (number,))
    return dropped
