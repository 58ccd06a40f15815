"""How all mailboxes stand together: their blocks are summed anew by what the marks of groups tell.

Each mark says which mailboxes its group has changed, and the marks of a lane are numbered without a
gap. So whoever asks again reads the marks that are new since, of every lane of every process, and
the blocks of those mailboxes; all in one snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pullstatus.store.postgresql.lists import BACKLOG_COLUMNS, backlog_row
from pullstatus.store.postgresql.reads import Ask, Reads
from pullstatus.store.postgresql.statements import DERIVED, FOLLOWED, OLDEST, THROUGH, ints
from pullstatus.store.values import Aside, Backlog, InHand, Outcome, Totals
from pullstatus.store.verbs.state import mailbox_of
from pullstatus.store.verbs.sums import BLOCK_BITS, BlockSums, worst_of

_BLOCKS_MAX: Final = 64  # that are looked through at once for mailboxes that are behind


class Survey:
    """The sums of every block, as of the newest look."""

    def __init__(self) -> None:
        """Nothing is known yet: the first look reads every mailbox."""
        self._begin()

    def _begin(self) -> None:
        self._complete = False
        self._lanes: dict[int, int] = {}  # of those that there are the newest mark of each
        self._sums = BlockSums()

    async def look(self, reads: Reads, worst: int) -> Totals:
        """The totals by kind, what readers have in hand, and the worst mailboxes; of one moment.

        Args:
            worst: as of `worst_of`.
        """
        async with reads.moment() as ask:
            await self._learn(ask)
            [(pages, oldest_ms)] = await ask(_IN_HAND)
            blocks = self._sums.worst(worst)
            rows = await ask(_WAITING, ints(blocks), int(Outcome.PULLED)) if blocks else []
        found = worst_of([backlog_row(*row) for row in rows], worst)
        return Totals(self._sums.totals(), InHand(pages, oldest_ms), found)

    async def behind(self, reads: Reads, count_max: int) -> list[Backlog]:
        """Up to so many mailboxes of records that have entries behind their marks."""
        return await self._some(reads, BlockSums.behind, _BEHIND, count_max)

    async def pending(self, reads: Reads, count_max: int) -> list[Backlog]:
        """Up to so many mailboxes in which something is pending."""
        return await self._some(reads, BlockSums.pending, _PENDING, count_max)

    async def _some(
        self, reads: Reads, of: Callable[[BlockSums], set[int]], statement: str, count_max: int
    ) -> list[Backlog]:
        found: list[Backlog] = []
        async with reads.moment() as ask:
            await self._learn(ask)
            blocks = sorted(of(self._sums))
            for begin in range(0, len(blocks), _BLOCKS_MAX):
                some = ints(blocks[begin : begin + _BLOCKS_MAX])
                left = count_max - len(found)
                rows = await ask(statement, some, int(Outcome.PULLED), left)
                found += [backlog_row(*row) for row in rows]
                if len(found) == count_max:
                    break
        return found

    async def _learn(self, ask: Ask) -> None:
        """Sum up what has changed."""
        try:
            blocks: list[int] | None = None
            if self._complete:
                boxes = await self._changed(ask)
                if boxes:
                    blocks = [block for (block,) in await ask(_BLOCKS, BLOCK_BITS, ints(boxes))]
                elif boxes is not None:
                    blocks = []
            if blocks is None:
                self._begin()
                self._lanes = dict(await ask(_LANES))
                rows = await ask(_ALL, BLOCK_BITS)
                self._complete = True
            else:
                rows = await ask(_SOME, BLOCK_BITS, ints(blocks)) if blocks else []
            for block, kind, oldest_ms, most, *counts in rows:
                contents = mailbox_of(kind).kind
                self._sums.put(block, contents, oldest_ms, most, list(map(int, counts)))
        except BaseException:
            self._begin()
            raise

    async def _changed(self, ask: Ask) -> set[int] | None:
        """The mailboxes that new marks tell of; None: some marks are no longer there."""
        there = await ask("SELECT lane FROM pullstatus.lane")
        self._lanes = {lane: self._lanes.get(lane, 0) for (lane,) in there}
        boxes: set[int] = set()
        for lane, number, changed in await ask(NEWS, ints(self._lanes), ints(self._lanes.values())):
            if number != self._lanes[lane] + 1:
                return None
            self._lanes[lane] = number
            boxes.update(changed)
        return boxes


# Each lane by itself: joined with those that there are, it would be compared with each of them.
NEWS: Final = """
SELECT k.lane, m.number, m.boxes FROM unnest(%s::bigint[], %s::bigint[]) k(lane, number)
CROSS JOIN LATERAL (SELECT number, boxes FROM pullstatus.mark WHERE lane = k.lane
    AND number > k.number ORDER BY number) m
"""
_LANES = """
SELECT l.lane, m.number FROM pullstatus.lane l
CROSS JOIN LATERAL (SELECT number FROM pullstatus.mark WHERE lane = l.lane
    ORDER BY number DESC LIMIT 1) m
"""
_BLOCKS = "SELECT DISTINCT number >> %s::int FROM pullstatus.mailbox WHERE box = ANY(%s::bigint[])"
_IN_HAND = "SELECT count(*), min(taken_ms) FROM pullstatus.reader WHERE first_seq > 0"
# A mailbox that was made and never filled is none yet. Counts in the order of `Sums`.
_ALL = f"""
SELECT s.number >> %s::int, s.box & 3, min(o.accepted_ms), max(tail - cursor),
    count(*), sum(tail), sum(handed_out),
    sum(tail - cursor), sum(expired), sum(erased), sum(quarantined), sum(put_back), sum(routed),
    sum({THROUGH})
FROM ({DERIVED}) s
{OLDEST}
{FOLLOWED}
WHERE s.tail > 0 GROUP BY 1, 2
"""  # noqa: S608 - ours
_SOME = _ALL.replace(") s\n", " WHERE m.number >> 6 = ANY(%s::bigint[])) s\n", 1)
_ANY_OF_SOME = BACKLOG_COLUMNS.replace(") s\n", " WHERE m.number >> 6 = ANY(%s::bigint[])) s\n", 1)
_OF_SOME = f"{_ANY_OF_SOME}WHERE s.box & 3 < {int(Aside.PARKED)}"
_PENDING = f"{_ANY_OF_SOME}WHERE s.box & 3 = {int(Aside.PENDING)} AND s.tail > s.cursor LIMIT %s"
_BEHIND = f"{_OF_SOME} AND s.tail > {THROUGH} LIMIT %s"
_WAITING = f"{_OF_SOME} AND s.tail > s.cursor"
