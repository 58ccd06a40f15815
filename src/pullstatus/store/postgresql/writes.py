"""What an open transaction is to write, gathered until it is sent: one statement a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from pullstatus.store.fingerprints import halves_of, joined
from pullstatus.store.postgresql import statements
from pullstatus.store.postgresql.statements import ints, names
from pullstatus.store.texts import encoded
from pullstatus.store.values import JournalRow
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import ChunkRow, Recalled


class Due(NamedTuple):
    """A statement to send.

    Attributes:
        rows: how many it must write, or somebody else was faster; None: however many.
    """

    sql: str
    values: Sequence[Any]
    rows: int | None = None


class _Counted(NamedTuple):
    """Of one tally: what it is begun with, if it is not there, and what is added then."""

    begun: Sequence[int] | None = None
    added: Sequence[int] | None = None


class Writes:
    """New rows by table, and other statements in their order; tallies behind all of them."""

    def __init__(self) -> None:
        """Nothing is due."""
        self._tallies: dict[tuple[int, int, int], _Counted] = {}
        self._begin()

    def _begin(self) -> None:
        self._chunks: list[tuple[int, ChunkRow, int, bytes]] = []
        self._journal: list[tuple[State, JournalRow, tuple[int, ...]]] = []
        self._repeats: dict[tuple[bytes, bytes], tuple[Recalled, int | None]] = {}
        self._prints: dict[bytes, tuple[int, int | None]] = {}
        self._newest_print_ms = 0
        self._once: dict[tuple[int, bytes], tuple[int, int | None]] = {}
        self._others: list[Due] = []

    def __bool__(self) -> bool:
        return bool(
            self._chunks
            or self._journal
            or self._repeats
            or self._prints
            or self._once
            or self._others
        )

    def chunk(self, box: int, row: ChunkRow, accepted_ms: int, label: bytes) -> None:
        """Add a chunk."""
        self._chunks.append((box, row, accepted_ms, label))

    def journal(self, state: State, row: JournalRow) -> None:
        """Add a journal row, with the totals as they are now."""
        self._journal.append((state, row, totals(state)))

    def repeat(self, name: tuple[bytes, bytes], row: Recalled, seen: int | None) -> None:
        """Remember a batch; `seen`: when the one before was accepted that is forgotten for it."""
        self._repeats[name] = (row, seen)

    def fingerprint(self, key: bytes, at_ms: int, seen: int | None) -> None:
        """Remember a record; `seen` as of `repeat`."""
        self._prints[key] = (at_ms, seen)
        self._newest_print_ms = max(self._newest_print_ms, at_ms)

    def once(self, name: tuple[int, bytes], until_ms: int, seen: int | None) -> None:
        """Note what must not come twice; `seen`: until when it must not have before."""
        self._once[name] = (until_ms, seen)

    def other(self, sql: str, *values: Any) -> None:  # noqa: ANN401 - as a driver takes them
        """Have a statement carried out, behind all new rows, in the order of these calls."""
        self._others.append(Due(sql, values))

    def tally(self, key: tuple[int, int, int], counts: Sequence[int], *, anew: bool) -> None:
        """Add to a tally, or begin it anew; `key`: its number, series and hour."""
        known = self._tallies.get(key, _Counted())
        if not anew:
            both = zip_longest(known.added or (), counts, fillvalue=0)
            self._tallies[key] = known._replace(added=[one + other for one, other in both])
        elif known == _Counted():
            self._tallies[key] = _Counted(begun=counts)

    def take_tallies(self) -> list[Due]:
        """What was added to tallies; nothing was afterwards.

        In order of their keys, for the sake of `_split`: so they wait for the end of a group.
        """
        due = []
        for key, (begun, added) in sorted(self._tallies.items()):
            if begun is not None:
                due.append(Due(statements.BEGIN_TALLY, (*key, ints(begun))))
            if added is not None:
                due.append(Due(statements.ADD_TALLY, (*key, ints(added))))
        self._tallies.clear()
        return due

    def take(self) -> list[Due]:
        """All that is due but tallies, in order; nothing else is afterwards."""
        due = [*self._due_chunks(), *self._due_journal(), *self._due_repeats()]
        due += [*self._due_prints(), *self._due_once(), *self._others]
        self._begin()
        return due

    def _due_chunks(self) -> list[Due]:
        if not self._chunks:
            return []
        boxes, rows, accepted, labels = zip(*sorted(self._chunks), strict=True)
        first, sizes, sums, bounds, bodies = zip(*rows, strict=True)
        lists = ints(boxes), ints(first), ints(sizes), ints(accepted), ints(sums)
        return [Due(statements.ADD_CHUNKS, (*lists, list(bounds), list(bodies), list(labels)))]

    def _due_journal(self) -> list[Due]:
        if not self._journal:
            return []
        order = sorted(self._journal, key=lambda each: (each[0].number, each[1].first_seq))
        rows = [row for _, row, _ in order]
        after = zip(*[sums for _, _, sums in order], strict=True)
        return [
            Due(
                statements.ADD_JOURNAL,
                (
                    ints(state.number for state, _, _ in order),
                    ints(row.first_seq for row in rows),
                    ints(row.count for row in rows),
                    ints(int(row.outcome) for row in rows),
                    ints(row.at_ms for row in rows),
                    names(encoded(row.address) for row in rows),
                    names(None if row.key is None else encoded(row.key) for row in rows),
                    ints(row.count_max for row in rows),
                    names(encoded(row.proof) for row in rows),
                    names(row.ticket for row in rows),
                    names(None if row.reader is None else encoded(row.reader) for row in rows),
                    ints(row.given for row in rows),
                    *map(ints, after),
                ),
            )
        ]

    def _due_repeats(self) -> list[Due]:
        fresh, old = _split(self._repeats)
        due = []
        for sql, found in ((statements.ADD_REPEATS, fresh), (statements.RENEW_REPEATS, old)):
            if not found:
                continue
            keys, rows, seen = zip(*found, strict=True)
            values = [
                names(scope for scope, _ in keys),
                names(key for _, key in keys),
                names(row.digest for row in rows),
                ints(row.accepted for row in rows),
                ints(row.accepted_ms for row in rows),
            ]
            due.append(_due(sql, values, seen))
        return due

    def _due_prints(self) -> list[Due]:
        if not self._prints:
            return []
        fresh, old = _split(self._prints)
        due = []
        for sql, found in ((statements.ADD_PRINTS, fresh), (statements.RENEW_PRINTS, old)):
            if not found:
                continue
            keys, accepted, seen = zip(*found, strict=True)
            slots, shorts = zip(*halves_of(b"".join(keys)), strict=True)
            due.append(_due(sql, [ints(slots), ints(shorts), ints(accepted)], seen))
        steps = list(joined(list(self._prints)))
        due.append(Due(statements.ADD_STEPS, (self._newest_print_ms, steps)))
        return due

    def _due_once(self) -> list[Due]:
        fresh, old = _split(self._once)
        due = []
        for sql, found in ((statements.ADD_ONCE, fresh), (statements.RENEW_ONCE, old)):
            if not found:
                continue
            keys, until, seen = zip(*found, strict=True)
            values = [
                ints(number for number, _ in keys),
                names(key for _, key in keys),
                ints(until),
            ]
            due.append(_due(sql, values, seen))
        return due


def totals(state: State) -> tuple[int, ...]:
    """The six sums of what left a mailbox, in the order of the journal's columns."""
    return (
        state.handed_out,
        state.expired,
        state.erased,
        state.quarantined,
        state.put_back,
        state.routed,
    )


def _split(rows: Mapping[Any, tuple[Any, int | None]]) -> tuple[list[Any], list[Any]]:
    """Those that are new, and those that take the place of an old one, each in order of its key.

    In one order everywhere, so that of two groups that want the same one waits for the other.
    """
    found: tuple[list[Any], list[Any]] = ([], [])
    for key in sorted(rows):
        row, seen = rows[key]
        found[seen is not None].append((key, row, seen))
    return found


def _due(sql: str, values: list[str], seen: Sequence[int | None]) -> Due:
    if seen[0] is None:
        return Due(sql, values)
    return Due(sql, [*values, ints(seen)], len(seen))
