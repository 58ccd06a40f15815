"""What is remembered of records, to know one that its sender repeats in whatever batch.

    fingerprint_step     in order of acceptance: the keys of what one commit remembered, joined
    fingerprint          by the record's own time: what comes together lies together, and so do its
                         repeats; with when it was accepted last. An index of the steps, as far as
    fingerprint_indexed  tells

A commit writes a row of the order, of all that it has accepted, and nothing else: a row a record
would take ten times as long, and pages all over the index. What the index has not yet, the newest
of it, is in memory, read from the order when it is asked for first. So a record is looked for in
memory and in the index, in one statement for a batch, and not at all beyond the newest time that
the index knows. The index takes the oldest steps, many at a time and sorted: between other things
to do, or within commits once `limits.FINGERPRINTS_RECENT_MAX` are in memory. Forgetting follows the
order, and reads what it drops and no more; what is too old by then never comes into the index.

What a record is known by stands in `store.fingerprints`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain, repeat

import apsw

from pullstatus import limits
from pullstatus.errors import StoreCorrupt
from pullstatus.store.fingerprints import (
    KEY,
    SECRET_BYTES,
    factor_of,
    further_keys,
    halves_of,
    joined,
    keys,
    keys_of,
)
from pullstatus.store.values import Fingerprints
from pullstatus.store.verbs.repeats import REPEAT_MS

INDEXED_KEYS = 1000  # that go into the index at once, in a millisecond or two
TOGETHER = 50  # of them in one statement: as many by themselves take half as long again

_SLOT_LEAST, _SLOT_MOST = -(1 << 63), (1 << 63) - 1  # SQLite integers are signed


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
            raise StoreCorrupt(_LACKS)
        self._secret = secret
        self._recent: dict[bytes, int] = {}  # what the index lacks, and when it was accepted last
        self._newest = 0  # row of the order of which `_recent` knows
        self._indexed = 0  # newest row of the order that the index has
        self._newest_slot = _SLOT_MOST  # in the index
        self._others_version = -1  # as of which all these are; -1: they are not known
        self._settled = True  # they are what is durable
        # Of the open transaction:
        self._current = False
        self._fresh: dict[bytes, int] = {}
        self._rows: dict[int, list[bytes]] = {}  # by when they were accepted
        self._written = 0

    def begin(self) -> None:
        """Begin a transaction: what another one has left came to nothing."""
        self._current = False
        self._fresh = {}
        self._rows = {}
        if not self._settled:
            self._others_version = -1

    def recall(self) -> None:
        """Have in memory what the index lacks, as of the open transaction."""
        if self._current:
            return
        version: int = self._connection.execute("PRAGMA data_version").get
        if version != self._others_version:
            self._read(anew=self._others_version < 0)
            self._others_version = version
            self._settled = True
        self._written = self._newest
        self._current = True

    def unseen(self, fingerprints: Fingerprints, at_ms: int) -> Sequence[int]:
        """The places of those that are new, in order; they are remembered from now on."""
        self.recall()
        factor = factor_of(self._secret, fingerprints.scope)
        named = keys(factor, fingerprints.items)
        further = further_keys(factor, fingerprints.items)
        known = self._known([*named, *chain.from_iterable(further.values())] if further else named)
        places: Sequence[int] = range(len(named))
        if known or further or len(set(named)) < len(named):
            old_ms = at_ms - REPEAT_MS
            new: list[int] = []
            fresh: list[bytes] = []
            for place, key in enumerate(named):
                if known.get(key, old_ms - 1) >= old_ms:
                    continue
                new.append(place)
                for each in (key, *further.get(place, ())):
                    if known.get(each, old_ms - 1) < old_ms:
                        known[each] = at_ms
                        fresh.append(each)
            places, named = new, fresh
        self._fresh.update(dict.fromkeys(named, at_ms))
        self._rows.setdefault(at_ms, []).extend(named)
        return places

    def write(self) -> None:
        """Put what the open transaction remembers in order of acceptance."""
        if not self._current:
            return
        for at_ms, named in self._rows.items():
            for row in joined(named):
                self._written += 1
                self._connection.execute(
                    "INSERT INTO fingerprint_step VALUES (?, ?, ?)", (self._written, at_ms, row)
                )
        while len(self._recent) + len(self._fresh) > limits.FINGERPRINTS_RECENT_MAX:
            if self._index() is None:
                break  # this transaction has more: they go next time

    def publish(self) -> None:
        """The transaction is durable: what is remembered is how it stands."""
        if self._current:
            self._recent.update(self._fresh)
            self._newest = self._written
            self._settled = True

    def forget(self, accepted_before_ms: int) -> int | None:
        """Drop the oldest row of the order, and what it remembers; returns how much that is.

        Of what was accepted anew since, only the former place in the order goes. None: there is no
        such row from before, nor does the index lack much.
        """
        self.recall()
        connection = self._connection
        row = connection.execute(
            "SELECT id, keys FROM fingerprint_step WHERE accepted_ms < ?"
            " ORDER BY accepted_ms LIMIT 1",
            (accepted_before_ms,),
        ).fetchone()
        if row is None and len(self._recent) <= limits.FINGERPRINTS_RECENT_MAX // 2:
            return None
        if row is None or row[0] > self._indexed:
            return self._index(accepted_before_ms)
        before = connection.total_changes()
        connection.executemany(
            "DELETE FROM fingerprint WHERE slot = ? AND short = ? AND accepted_ms < ?",
            [(*halves, accepted_before_ms) for halves in halves_of(row[1])],
        )
        dropped = connection.total_changes() - before
        connection.execute("DELETE FROM fingerprint_step WHERE id = ?", row[:1])
        return dropped

    def _read(self, *, anew: bool) -> None:
        """Read what others have written since, or all that the index lacks."""
        indexed = self._connection.execute("SELECT through FROM fingerprint_indexed").get
        if indexed is None:
            raise StoreCorrupt(_LACKS)
        if anew or indexed != self._indexed:
            self._recent = {}
            self._newest = self._indexed = indexed
        for number, at_ms, row in self._connection.execute(_ORDER, (self._newest, _SLOT_MOST)):
            self._recent.update(dict.fromkeys(keys_of(row), at_ms))
            self._newest = number
        newest_slot = self._connection.execute("SELECT max(slot) FROM fingerprint").get
        self._newest_slot = _SLOT_LEAST if newest_slot is None else newest_slot

    def _known(self, named: Sequence[bytes]) -> dict[bytes, int]:
        """Those that were accepted before, however long ago, and when."""
        known = self._found(named)
        for held in (self._recent, self._fresh):
            if not held.keys().isdisjoint(named):
                known |= {key: held[key] for key in named if key in held}
        return known

    def _found(self, named: Sequence[bytes]) -> dict[bytes, int]:
        """Those that the index has."""
        slots = struct.unpack(">" + "q8x" * len(named), b"".join(named))
        if not slots or min(slots) > self._newest_slot:
            return {}
        found: dict[bytes, int] = {}
        for start in range(0, len(named), _LOOKS[0][0]):
            some = named[start : start + _LOOKS[0][0]]
            room, look = next(each for each in reversed(_LOOKS) if each[0] >= len(some))
            filled = b"".join(some) + some[0] * (room - len(some))
            halves = struct.unpack(f">{2 * room}q", filled)
            for slot, short, accepted_ms in self._connection.execute(look, halves):
                found[KEY.pack(slot, short)] = accepted_ms
        return found

    def _take(self, named: list[bytes], at_ms: int) -> list[bytes]:
        """Out of memory, those of keys that were accepted then, and not again since."""
        held = list(map(self._recent.pop, named, repeat(None)))
        if held.count(at_ms) == len(named):
            return named
        left = []
        for key, held_ms in zip(named, held, strict=True):
            if held_ms == at_ms:
                left.append(key)
            elif held_ms is not None:
                self._recent[key] = held_ms
        return left

    def _put(self, rows: list[bytes]) -> None:
        """Put into the index: of each a key, and when it was accepted as 8 bytes, big end first."""
        rows.sort()
        members = struct.unpack(">" + "qqq" * len(rows), b"".join(rows))
        size, end = 3 * TOGETHER, len(members)
        cut = end - end % size
        self._connection.executemany(
            _PUT_TOGETHER, [members[at : at + size] for at in range(0, cut, size)]
        )
        self._connection.executemany(_PUT, [members[at : at + 3] for at in range(cut, end, 3)])
        newest_slot = max(members[::3])
        self._newest_slot = max(self._newest_slot, newest_slot)

    def _index(self, accepted_before_ms: int = 0) -> int | None:
        """Have the index take the oldest rows of the order that it lacks; None: it lacks none.

        What was accepted before a time goes instead; returns how much that is.
        """
        self._settled = False
        rows: list[bytes] = []
        dropped: list[tuple[int]] = []
        before, seen, forgotten = self._indexed, 0, 0
        for number, at_ms, row in self._connection.execute(_ORDER, (before, self._newest)):
            self._indexed = number
            left = self._take(keys_of(row), at_ms)
            seen += len(left)
            if at_ms < accepted_before_ms:
                dropped.append((number,))
                forgotten += len(left)
            else:
                accepted = struct.pack(">q", at_ms)
                rows += [key + accepted for key in left]
            if seen >= INDEXED_KEYS:
                break
        if self._indexed == before:
            return None
        if rows:
            self._put(rows)
        self._connection.executemany("DELETE FROM fingerprint_step WHERE id = ?", dropped)
        self._connection.execute("UPDATE fingerprint_indexed SET through = ?", (self._indexed,))
        return forgotten


def _look(room: int) -> str:
    """Look for so many by both halves: of records that tell no time all share a few slots."""
    return (
        f"WITH wanted (slot, short) AS (VALUES {', '.join(['(?, ?)'] * room)})"  # noqa: S608 - ours
        " SELECT slot, short, accepted_ms FROM wanted CROSS JOIN fingerprint USING (slot, short)"
    )


_LOOKS = [(room, _look(room)) for room in (100, 10, 1)]
_ORDER = "SELECT id, accepted_ms, keys FROM fingerprint_step WHERE id > ? AND id <= ? ORDER BY id"
_PUT = (
    "INSERT INTO fingerprint VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET accepted_ms = excluded.accepted_ms"
)
_PUT_TOGETHER = _PUT.replace("(?, ?, ?)", ", ".join(["(?, ?, ?)"] * TOGETHER))
_LACKS = (
    "the file is damaged: it lacks what it knows repeated records by; keep a copy of it, then"
    " restore a backup"
)
