"""Making anew what is derived of entries: segments, and of tallies what entries still tell.

    begin tallies anew that are damaged, with what is still stored      each application, one commit
    drop segments, and tallies of hours that can be counted again      each mailbox, one commit
    follow all that is behind                                           as the follower does

Between the two, questions scan what is not followed: they are exact all the while. So this may be
cut off anywhere, and whoever follows next goes on.

An hour can be counted again if all that was accepted in it is still stored and whole. Of what was
removed or erased its tally alone tells, and stays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pullstatus import limits
from pullstatus.apps import Operator, applications
from pullstatus.apps.values import NOBODY
from pullstatus.errors import StoreDamaged, StoreUnavailable
from pullstatus.mailbox.following import Follower, Piece, found_by_nothing, let_others, read
from pullstatus.mailbox.search import copies_of
from pullstatus.mailbox.standing import of_records, standing_now
from pullstatus.mailbox.tallies import LAST_HOUR, set_back_of
from pullstatus.records import Kind
from pullstatus.records.hours import nearest_hour
from pullstatus.store import (
    Backlog,
    Count,
    Followed,
    Mailbox,
    Progress,
    Store,
    Tally,
    Unfollow,
)
from pullstatus.store.tallies import summed

ACTION = "reindex"


async def reindex(
    store: Store, sdkappid: int | None = None, *, by: Operator, progress: Progress
) -> int:
    """Make anew what is derived, of one application or of all; returns of how many entries.

    Args:
        progress: told how many entries are done, about.

    Raises:
        StoreUnavailable: somebody erases all the while; what was dropped so far is made anew.
    """
    named = {} if sdkappid is None else {"sdkappid": sdkappid}
    await store.change(act=by.act(ACTION, **named), ticket=by.ticket())
    for number in await numbers(store) if sdkappid is None else [sdkappid]:
        await _begin_anew(store, number, by)
    for row in await of_records(store, sdkappid):
        await _drop(store, row, by)
    return await go_on(store, sdkappid, by=by, progress=progress)


async def go_on(
    store: Store, sdkappid: int | None = None, *, by: Operator, progress: Progress
) -> int:
    """Follow all that is behind; arguments and answer are those of `reindex`."""
    rows = await of_records(store, sdkappid)
    total = sum(row.accepted - row.followed.through for row in rows)
    done = 0

    async def breathe() -> None:
        nonlocal done
        done = min(done + _BREATH, total)
        progress(done, total)

    follower = Follower(store, by.random_hex, breathe=breathe)
    for row in rows:
        await follower.follow_mailbox(row)
    progress(total, total)
    return total


_BREATH = 100  # entries between two of the follower's breaths, about


async def numbers(store: Store) -> list[int]:
    """All numbers of applications of which something may be counted."""
    found = {row.mailbox.sdkappid for row in await store.backlog()}
    return sorted(found | {NOBODY} | {each.sdkappid for each in await applications(store)})


async def _begin_anew(store: Store, sdkappid: int, by: Operator) -> None:
    """Have tallies that are damaged count what is still stored of their hours.

    What was told of sends, and what came by a token, is stored nowhere else: that begins at 0.
    Until a tally is begun anew, what is followed is added to none: so it is begun at the marks up
    to which is counted, and what was followed meanwhile is counted, too, before it is tried again.
    """
    recounts = {Mailbox(sdkappid, kind): _Recount() for kind in Kind}
    for _ in range(limits.OVERTAKEN_MAX):
        rows = {row.mailbox: row for row in await of_records(store, sdkappid)}
        known = await store.tallies(sdkappid, 0, LAST_HOUR, whole=False)
        damaged = [tally for tally in known if not tally.counts]
        if not damaged:
            return
        for row in rows.values():
            await recounts[row.mailbox].go_on(store, row)
        # What was removed while it was read would be counted as what nobody can read.
        if _purged(rows.values()) != _purged(await of_records(store, sdkappid)):
            continue
        again = {
            place: counts for each in recounts.values() for place, counts in each.counts.items()
        }
        tallies = [
            Tally(tally.series, tally.hour, again.get((tally.series, tally.hour), (0,)))
            for tally in damaged
        ]
        marks = [(box, rows[box].followed if box in rows else Followed()) for box in recounts]
        if await store.count(
            Count(
                sdkappid,
                tallies,
                by.now_ms,
                ticket=by.ticket(),
                anew=True,
                while_followed=marks,
            )
        ):
            return
    raise StoreUnavailable(
        f"records of {sdkappid} are removed, or followed, all the while; run it again"
    )


def _purged(rows: Iterable[Backlog]) -> dict[Mailbox, int]:
    return {row.mailbox: row.purged for row in rows}


class _Recount:
    """The counts of what is stored of a mailbox and was counted, by series and hour."""

    def __init__(self) -> None:
        self.counts: dict[tuple[int, int], tuple[int, ...]] = {}
        self._stood: Backlog | None = None

    async def go_on(self, store: Store, row: Backlog) -> None:
        """Count up to where the mailbox was counted; all of it, if something of it went."""
        stood, self._stood = self._stood, row
        through = row.purged
        if stood is not None and _left(stood) == _left(row):
            through = max(through, stood.followed.tallied)
        else:
            self.counts = {}
        copies = await copies_of(store, row.mailbox, through + 1)
        piece = Piece(row.mailbox, through + 1, through, found_by_nothing, copies)
        with contextlib.suppress(StoreDamaged):  # what is behind what is nowhere is not counted
            await read(store, piece, row.followed.tallied, let_others)
        for tally in piece.tallies():
            place = tally.series, tally.hour
            self.counts[place] = summed(self.counts.get(place, ()), tally.counts)


def _left(row: Backlog) -> tuple[int, int]:
    """What changes when something of a mailbox is removed or erased."""
    return row.purged, row.followed.turn


async def _drop(store: Store, row: Backlog, by: Operator) -> None:
    """Drop what is derived of a mailbox, as far as it can be made anew."""
    for _ in range(limits.OVERTAKEN_MAX):
        tallied, from_hour = row.followed.tallied, None
        told = await _told(store, row)
        if told.seq < tallied:
            tallied, from_hour = told.seq, told.hour + 1
        if await store.unfollow(
            Unfollow(row.mailbox, row.followed, tallied, from_hour, by.ticket())
        ):
            return
        row = await standing_now(store, row.mailbox)
    raise StoreUnavailable(f"{row.mailbox} is followed or erased all the while; run it again")


class Told(NamedTuple):
    """Up to which entry, and which hour, only tallies tell what was accepted."""

    seq: int
    hour: int


class Run(NamedTuple):
    """Entries of one hour, one after the other, and whether some before them are missing."""

    last_seq: int
    hour: int
    broken: bool


async def _told(store: Store, row: Backlog) -> Told:
    runs: list[Run] = []
    next_seq = row.purged + 1
    async for entry in store.entries(row.mailbox, next_seq):
        if entry.seq > row.accepted:
            break
        hour = nearest_hour(entry.accepted_ms)
        broken = entry.seq != next_seq
        if runs and runs[-1].hour == hour and not broken:
            runs[-1] = runs[-1]._replace(last_seq=entry.seq)
        else:
            runs.append(Run(entry.seq, hour, broken or (row.purged > 0 and not runs)))
        next_seq = entry.seq + 1
    if next_seq <= row.accepted:  # the newest are missing
        return Told(row.accepted, 0)
    known = await store.tallies(row.mailbox.sdkappid, 0, LAST_HOUR, whole=False)
    return last_told(runs, row.purged, set_back_of(row.mailbox, known))


def last_told(runs: Sequence[Run], purged: int, set_back: int) -> Told:
    """All of a later hour lies behind all of this one, and is whole, whichever way clocks went.

    Args:
        purged: what was removed.
        set_back: the latest hour of which some may be, though none of an earlier one is.
    """
    told = Told(purged, set_back if purged else 0)
    for run in runs:
        if run.broken:
            told = Told(run.last_seq, max(told.hour, run.hour))
    while True:
        hour = max([told.hour, *(run.hour for run in runs if run.last_seq <= told.seq)])
        seq = max([told.seq, *(run.last_seq for run in runs if run.hour <= hour)])
        if (wider := Told(seq, hour)) == told:
            return told
        told = wider
