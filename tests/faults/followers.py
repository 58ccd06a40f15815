"""What each process of `Doors` derives of entries, beside its clients, and what came of it.

Of an entry here its number is the hash, so all that is derived is known by the numbers alone. Each
has been counted once, and is found, once, by segments that reach without a gap to their mark:
whatever was killed, whoever else followed, and whatever had an unknown outcome.

So do reports of sends: each counts one, and has one name under one of a few hashes. There are as
many names under a hash as were counted, none twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from random import Random

from pullstatus import limits
from pullstatus.errors import OutcomeUnknown, StoreUnavailable
from pullstatus.store import (
    Backlog,
    Count,
    Follow,
    Index,
    Mailbox,
    Naming,
    Segment,
    Store,
    Tally,
    Unfollow,
)
from pullstatus.store.segments import COUNT_MAX, build, frame_of, merge, word, words

HOUR = 7
PAUSE_S = 0.02
STEP = 500  # entries that are followed at once
SENDS = 9  # the series of what reports count
SLOTS = 64  # hashes of names, each of so few that all of them are told


async def follow(store: Store, rng: Random, stopping: Callable[[], bool]) -> None:
    """Follow what is behind, and make something anew now and then, until `stopping`."""
    while not stopping():
        with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
            for row in await store.behind(20):
                await _step(store, rng, row)
        await asyncio.sleep(PAUSE_S)


async def report(
    store: Store, rng: Random, sdkappids: Sequence[int], stopping: Callable[[], bool]
) -> None:
    """Report sends until `stopping`."""
    while not stopping():
        slot = rng.randrange(SLOTS)
        tally = Tally(SENDS, HOUR, tuple(int(each == slot) for each in range(SLOTS)))
        names = [Naming([slot], rng.randbytes(8))]
        with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
            await store.count(Count(rng.choice(sdkappids), [tally], 1, names=names))
        await asyncio.sleep(PAUSE_S)


async def _step(store: Store, rng: Random, row: Backlog) -> None:
    mailbox, mark = row.mailbox, row.followed
    if mark.through and rng.random() < 0.02:
        await store.unfollow(Unfollow(mailbox, mark, mark.tallied, None))
        return
    first_seq = mark.through + 1
    frame_end = (frame_of(first_seq) + 1) * COUNT_MAX
    through = min(row.accepted, first_seq + STEP - 1, frame_end)
    segment = _segment(first_seq, through)
    spans = await store.spans(mailbox, mark.through)
    if spans and frame_of(spans[-1].first_seq) == frame_of(first_seq) and rng.random() < 0.5:
        before = await store.segment(mailbox, spans[-1].first_seq)
        if before is not None and before.last_seq == mark.through:
            segment = merge([before, segment])
    counted = through - max(mark.through, mark.tallied)
    tallies = [Tally(mailbox.holds, HOUR, (counted,))] if counted > 0 else []
    await store.follow(Follow(mailbox, mark, through, segment, tallies))


def _segment(first_seq: int, through: int) -> Segment:
    found = [word(seq, seq - first_seq) for seq in range(first_seq, through + 1)]
    return build(first_seq, len(found), found, found[::2])


async def derived_off(store: Store, mailboxes: Sequence[Mailbox]) -> list[str]:
    """What is derived otherwise than it must be."""
    found = []
    rows = {row.mailbox: row for row in await store.backlog()}
    for mailbox in mailboxes:
        row = rows.get(mailbox)
        if row is None:
            continue
        mark = row.followed
        tallies = await store.tallies(mailbox.sdkappid, HOUR, HOUR)
        counted = sum(tally.counts[0] for tally in tallies if tally.series == mailbox.holds)
        if counted != mark.tallied or mark.through > row.accepted:
            found.append(f"{mailbox}: {counted} of {row.accepted} were counted, by mark {mark}")
        spans = await store.spans(mailbox)
        edges = [(0, 1), *((span.first_seq, span.first_seq + span.count) for span in spans)]
        edges.append((mark.through + 1, 0))
        if any(end != begin for (_, end), (begin, _) in pairwise(edges)):
            found.append(f"{mailbox}: segments {spans} do not reach to {mark}")
        for span in spans:
            segment = await store.segment(mailbox, span.first_seq)
            numbers = range(span.first_seq, span.first_seq + span.count)
            due = [word(seq, seq - span.first_seq) for seq in numbers]
            if segment is None or words(segment, Index.NUMBER) != due:
                found.append(f"{mailbox}: the segment of {span} is of others")
        if mark.through and await store.sought(mailbox, Index.NUMBER, mark.through) != [
            mark.through
        ]:
            found.append(f"{mailbox}: entry {mark.through} is not found")
    return found


async def names_off(store: Store, sdkappids: Iterable[int]) -> list[str]:
    """What has other names than were counted."""
    found = []
    for sdkappid in sdkappids:
        tallies = await store.tallies(sdkappid, HOUR, HOUR)
        counts = next((tally.counts for tally in tallies if tally.series == SENDS), ())
        for slot, counted in enumerate(counts):
            bodies = [block.body for block in await store.named([slot], sdkappid)]
            told = counted < limits.NAMES_FOUND_MAX  # else not all of them
            if told and not len(bodies) == len(set(bodies)) == counted:
                found.append(f"{sdkappid}: {counted} names were counted, {bodies} are there")
    return found
