"""What is derived of entries, and what it is derived from: see `pullstatus.store.Store`.

Of a segment no more is read than a search asks for: its arrays lie unpacked beside their row, in
pieces, of which a part of an array is a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pullstatus import limits
from pullstatus.store import chunk
from pullstatus.store.postgresql.reads import Reads
from pullstatus.store.postgresql.schema import KEYS
from pullstatus.store.postgresql.statements import ints
from pullstatus.store.segments import Array, Index, Search, Segment
from pullstatus.store.values import Entry, Mailbox, Named, Run, Span, Tally
from pullstatus.store.verbs.state import key_of, slot

_ROWS: Final = 200  # chunks that are read at once
_SEGMENTS: Final = 256  # that are searched at once, of each of which a block of 4 KiB is read


class Derived:
    """The questions about it."""

    def __init__(self, reads: Reads) -> None:
        """Ask over `reads`."""
        self._reads = reads

    async def runs(self, mailbox: Mailbox, first_seq: int, count_max: int) -> list[Run]:
        """See `Store.runs`."""
        box, found = slot(mailbox), list[Run]()
        rows = await self._reads.ask(_FROM, box, box, first_seq, first_seq, first_seq, _ROWS)
        while rows:
            for first, count, newest_ms, checksum, bounds, body, label in rows:
                seq = max(first, first_seq)
                proven = chunk.proven(key_of(box) + first, count, checksum, bounds, body)
                entries = [(first + place, data) for place, data in proven if first + place >= seq]
                times = [origin.at_ms for origin in chunk.origins(label, count, newest_ms)]
                there = {each for each, _ in entries}
                found.append(
                    Run(
                        seq,
                        first + count - seq,
                        newest_ms,
                        [each for each, _ in entries],
                        [times[each - first] for each, _ in entries],
                        b",".join([data for _, data in entries]),
                        [
                            times[each - first]
                            for each in range(seq, first + count)
                            if each not in there
                        ],
                    )
                )
                count_max -= first + count - seq
                if count_max <= 0:
                    return found
            seq = rows[-1][0] + rows[-1][1]
            rows = await self._reads.ask(_FROM, box, box, seq, seq, seq, _ROWS)
        return found

    async def entries_at(self, mailbox: Mailbox, seqs: Sequence[int]) -> list[Entry]:
        """See `Store.entries_at`."""
        box, found = slot(mailbox), list[Entry]()
        for begin in range(0, len(seqs), _ROWS):
            some = seqs[begin : begin + _ROWS]
            wanted = set(some)
            for first, count, newest_ms, checksum, bounds, body, label in await self._reads.ask(
                _HOLDING, ints(some), box, box
            ):
                if wanted.isdisjoint(range(first, first + count)):
                    continue
                origins = chunk.origins(label, count, newest_ms)
                found += [
                    Entry(first + place, origins[place].at_ms, data, origins[place].ticket)
                    for place, data in chunk.proven(
                        key_of(box) + first, count, checksum, bounds, body
                    )
                    if first + place in wanted
                ]
        return found

    async def spans(self, mailbox: Mailbox, first_seq: int) -> list[Span]:
        """See `Store.spans`."""
        return [Span(*row) for row in await self._reads.ask(_SPANS, slot(mailbox), first_seq)]

    async def segment(self, mailbox: Mailbox, first_seq: int) -> Segment | None:
        """See `Store.segment`."""
        for row in await self._reads.ask(
            f"{SEGMENTS} AND first_seq = %s", slot(mailbox), first_seq
        ):
            return Segment(*row)
        return None

    async def sought(self, mailbox: Mailbox, index: Index, hashed: int) -> list[int]:
        """See `Store.sought`; for a task of its own."""
        box, found = slot(mailbox), list[int]()
        async with self._reads.moment() as ask:
            arrays = [Array(*row) for row in await ask(_ARRAYS[index], box)]
            for begin in range(0, len(arrays), _SEGMENTS):
                searches = [Search(array, hashed) for array in arrays[begin : begin + _SEGMENTS]]
                while due := [search for search in searches if search.part is not None]:
                    firsts = ints(search.array.first_seq for search in due)
                    ats = ints(search.part.at + 1 for search in due if search.part)
                    sizes = ints(search.part.size for search in due if search.part)
                    rows = await ask(_PARTS[index], firsts, ats, sizes, box)
                    parts: dict[int, bytes] = dict(rows)
                    for search in due:
                        search.go_on(parts[search.array.first_seq])
                for search in searches:
                    found += search.found
        return found

    async def tallies(self, sdkappid: int, first_hour: int, last_hour: int) -> list[Tally]:
        """See `Store.tallies`."""
        return [
            Tally(series, hour, tuple(counts))
            for series, hour, counts in await self._reads.ask(
                _TALLIES, sdkappid, first_hour, last_hour
            )
        ]

    async def named(self, slots: Sequence[int], sdkappid: int | None) -> list[Named]:
        """See `Store.named`."""
        whose = () if sdkappid is None else (sdkappid,)
        return [
            Named(*row)
            for row in await self._reads.ask(
                NAMED[bool(whose)], ints(slots), *whose, limits.NAMES_FOUND_MAX
            )
        ]


_CHUNK = "SELECT first_seq, count, accepted_ms, checksum, bounds, body, tickets"
_FROM = f"""
{_CHUNK} FROM pullstatus.chunk WHERE box = %s AND first_seq >= coalesce((SELECT first_seq
    FROM pullstatus.chunk WHERE box = %s AND first_seq <= %s ORDER BY first_seq DESC LIMIT 1), %s)
    AND first_seq + count > %s ORDER BY first_seq LIMIT %s
"""  # noqa: S608 - ours
_HOLDING = f"""
{_CHUNK.replace("first_seq", "c.first_seq")} FROM (SELECT DISTINCT n.first_seq
    FROM unnest(%s::bigint[]) w(seq) CROSS JOIN LATERAL (SELECT first_seq FROM pullstatus.chunk
        WHERE box = %s AND first_seq <= w.seq ORDER BY first_seq DESC LIMIT 1) n) f
JOIN pullstatus.chunk c ON c.box = %s AND c.first_seq = f.first_seq ORDER BY c.first_seq
"""  # noqa: S608 - ours
_SPANS = (
    "SELECT first_seq, count FROM pullstatus.segment WHERE box = %s AND first_seq + count > %s"
    " ORDER BY first_seq"
)
SEGMENTS: Final = "SELECT first_seq, count, numbers, sids FROM pullstatus.segment WHERE box = %s"
_COLUMNS = {Index.NUMBER: "numbers", Index.SID: "sids"}
_ARRAYS = {
    index: f"SELECT first_seq, count, {int(index)}, octet_length({column})"  # noqa: S608 - ours
    " FROM pullstatus.segment WHERE box = %s ORDER BY first_seq"
    for index, column in _COLUMNS.items()
}
_PARTS = {
    index: f"SELECT s.first_seq, substring(s.{column} FROM w.at FOR w.size)"  # noqa: S608 - ours
    " FROM unnest(%s::bigint[], %s::int[], %s::int[]) w(first_seq, at, size)"
    " JOIN pullstatus.segment s ON s.box = %s AND s.first_seq = w.first_seq"
    for index, column in _COLUMNS.items()
}
# First where they are, by the index of keys and no other, each hash by itself; the few others that
# its keys lead to leave here, and all but its newest. Then the blocks, and nobody reads one in
# vain. What is not to be planned as one with the rest, by another index in its order, stands apart
# (OFFSET 0, MATERIALIZED).
NAMED: Final = [
    f"""
WITH found AS MATERIALIZED (
    SELECT n.place FROM unnest(%s::int[]) w(slot) CROSS JOIN LATERAL (
        SELECT place FROM (
            SELECT id, ctid AS place FROM pullstatus.naming
            WHERE pullstatus.name_keys(slots) @> {KEYS}
                AND slots @> ARRAY[w.slot]{whose} OFFSET 0) own
        ORDER BY id DESC LIMIT %s) n),
blocks AS MATERIALIZED (
    SELECT id, sdkappid, slots, body FROM pullstatus.naming WHERE ctid = ANY(ARRAY(
        SELECT DISTINCT place FROM found)))
SELECT sdkappid, slots, body FROM blocks ORDER BY id DESC
"""  # noqa: S608 - ours
    for whose in ("", " AND sdkappid = %s")
]
_TALLIES = (
    "SELECT series, hour, counts FROM pullstatus.tally WHERE sdkappid = %s"
    " AND hour BETWEEN %s AND %s ORDER BY series, hour"
)
