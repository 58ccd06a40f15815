"""Letting an application's entries go, and leaving nothing of them.

What waits leaves as erased, on record: it is counted for ever. What has left before is removed with
its journal, as retention would have done later. The counts of the mailboxes go on adding up.

What goes is told by its number, up to the *tails* as they were noted, and not by its time: clocks
differ, and the application may pull all the while.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import msgspec

from pullstatus import limits
from pullstatus.apps import traces
from pullstatus.apps.operator import Operator
from pullstatus.errors import EntriesLeft, UnknownApplication
from pullstatus.records import Kind
from pullstatus.store import (
    Act,
    Aside,
    Discard,
    Mailbox,
    Outcome,
    ReaderState,
    Release,
    Store,
    While,
)
from pullstatus.store import Erased as ErasedEntries

Tails = Mapping[Mailbox, int]
"""The number of the last entry of each mailbox that is to go."""


class Erased(msgspec.Struct, frozen=True):
    """What an erasure has done.

    Attributes:
        waiting: entries that waited, and left as erased.
        removed: entries whose content was removed, these included.
    """

    waiting: int
    removed: int


async def erase_application(
    store: Store, sdkappid: int, *, by: Operator, follow: Callable[[], Awaitable[None]]
) -> Erased:
    """Remove all that is stored of an application's records until now, whoever owned its number.

    It may exist or not, and is let alone itself; what comes meanwhile stays, unless it leaves in
    one page with what goes. One that was cut off is finished by calling this again. The files are
    then to be written anew: see `traces`. It takes as long as `Store.purge_rest`.

    Args:
        follow: has all that the application was sent until now counted: see `mailbox.following`.

    Raises:
        UnknownApplication: nothing was ever accepted for this number.
        EntriesLeft: not all of it is removed.
    """
    if not await store.backlog(sdkappid):
        raise UnknownApplication(f"nothing was ever accepted for application {sdkappid}")
    async with traces.removing(store, by):
        act = by.act("erase", sdkappid=sdkappid)
        await store.change(act=act, ticket=by.ticket())
        waiting, tails = await let_go(store, sdkappid, by=by, act=act)
        await _erase_in_pages(store, sdkappid, tails, by, follow)
        # Before, since what is removed tells no more what is a copy; and those made until then.
        known: dict[Mailbox, set[int]] = {box: set() for box in tails if not box.aside}
        copies = await _erase_copies(store, tails, known, by, follow)
        removed = await _remove(store, sdkappid, tails, follow)
        later = await _erase_copies(store, tails, known, by, follow)
        await store.purge_rest(sdkappid)
    return Erased(
        waiting + copies.waiting + later.waiting, removed + copies.removed + later.removed
    )


async def erase_counted(
    store: Store,
    mailbox: Mailbox,
    through: int,
    *,
    holding: Sequence[Sequence[bytes]] = (),
    seqs: Collection[int] = (),
    by: Operator,
    follow: Callable[[], Awaitable[None]],
) -> ErasedEntries:
    """Erase entries of a mailbox up to a number once they are counted, as receipts that they were.

    Args:
        holding, seqs: see `Store.erase`.
        follow: has all that the mailbox was sent until now counted.

    Raises:
        EntriesLeft: what is counted is made anew again and again.
    """
    waiting = left = 0
    for _ in range(limits.OVERTAKEN_MAX):
        await follow()
        erased = await store.erase(
            mailbox, at_ms=by.now_ms, holding=holding, seqs=seqs, through=through, counted=True
        )
        waiting += erased.waiting
        left += erased.left
        if not erased.not_counted:
            return ErasedEntries(waiting, left)
    raise EntriesLeft(
        f"what is counted of {mailbox} is made anew again and again, as by `pullstatus reindex`:"
        " erase again once that has ended"
    )


async def let_go(
    store: Store, sdkappid: int, *, by: Operator, act: Act, while_set: While | None = None
) -> tuple[int, Tails]:
    """Erase what waits for an application, parked items too; returns how many entries.

    Pages in its readers' hands are taken from them: behind what waits, or it would get there.

    Returns:
        also up to where nothing waits any more, nor is in a hand, but in pages that reach further.

    Raises:
        SettingChanged: `while_set` does not hold.
    """

    async def discard(mailbox: Mailbox, through: int | None = None) -> int:
        erased = Outcome.ERASED, by.now_ms
        return await store.discard(
            Discard(mailbox, *erased, None, while_set, by.ticket(), act, through)
        )

    # What is aside leaves, or goes to the tail, all the while. It may become a record in the commit
    # in which it leaves: so the tails of records are noted behind that. What is parked may go to
    # wait for its name, and the other way.
    asides = (Aside.PENDING, Aside.PARKED, Aside.PENDING)
    waiting = sum([await discard(Mailbox(sdkappid, kind)) for kind in asides])
    tails = {
        row.mailbox: row.accepted - (row.waiting if row.mailbox.aside else 0)
        for row in await store.backlog(sdkappid)
    }
    for kind in Kind:
        mailbox = Mailbox(sdkappid, kind)
        waiting += await discard(mailbox, tails.get(mailbox, 0))
    async for state in store.readers(sdkappid):
        through = tails.get(state.mailbox, 0)
        if _is_held(state, through):
            page = state.first_seq
            await store.release(Release(state.mailbox, state.name, page, by.now_ms, act, while_set))
    return waiting, tails


async def _remove(
    store: Store, sdkappid: int, tails: Tails, follow: Callable[[], Awaitable[None]]
) -> int:
    """Remove what has left, and prove that it is gone; returns how many entries.

    Raises:
        EntriesLeft: it is not, again and again.
    """
    removed = left = 0
    for _ in range(limits.OVERTAKEN_MAX):
        await follow()  # what is not is not removed
        for mailbox, through in tails.items():
            removed += await store.remove(mailbox, through)
        if not (left := await _left(store, sdkappid, tails)):
            return removed
    raise EntriesLeft(
        f"of application {sdkappid} entries that are to be erased are stored still: {left}; what is"
        " derived of them is made anew meanwhile, as by `pullstatus reindex`: erase again once that"
        " has ended"
    )


async def _erase_in_pages(
    store: Store, sdkappid: int, tails: Tails, by: Operator, follow: Callable[[], Awaitable[None]]
) -> None:
    """Erase what goes in pages in hands that hold also what came meanwhile."""
    async for state in store.readers(sdkappid):
        seqs = range(state.first_seq, tails.get(state.mailbox, 0) + 1)
        if state.first_seq and seqs:
            await erase_counted(store, state.mailbox, seqs[-1], seqs=seqs, by=by, follow=follow)


async def _erase_copies(
    store: Store,
    tails: Tails,
    copies: Mapping[Mailbox, set[int]],
    by: Operator,
    follow: Callable[[], Awaitable[None]],
) -> Erased:
    """Erase what redeliveries have copied of it meanwhile; of what is removed they copy nothing.

    Args:
        copies: those that are known, and erased; gets what is found.
    """
    waiting = left = 0
    for mailbox, known in copies.items():
        through = tails[mailbox]
        while seqs := sorted(await _copied(store, mailbox, through, known)):
            known.update(seqs)
            erased = await erase_counted(store, mailbox, seqs[-1], seqs=seqs, by=by, follow=follow)
            waiting += erased.waiting
            left += erased.left
    return Erased(waiting, waiting + left)


async def _copied(store: Store, mailbox: Mailbox, through: int, known: set[int]) -> set[int]:
    """Copies of what is to go of a mailbox, or of copies of that, but those that are known."""
    seqs = set(known)
    async for again in store.again(mailbox, through + 1):
        for seq in range(max(again.first_seq, through + 1), again.first_seq + again.count):
            source = again.source_seq + seq - again.first_seq
            if source <= through or source in seqs:
                seqs.add(seq)
    return seqs - known


async def _left(store: Store, sdkappid: int, tails: Tails) -> int:
    """How many entries up to the tails are stored still, in the mailboxes or for a reader."""
    left = sum(
        max(0, tails.get(row.mailbox, 0) - row.purged) for row in await store.backlog(sdkappid)
    )
    async for state in store.readers(sdkappid):
        if _is_held(state, tails.get(state.mailbox, 0)):
            left += state.count
    return left


def _is_held(state: ReaderState, through: int) -> bool:
    """Whether a reader has a page in hand all of which goes."""
    return state.first_seq > 0 and state.first_seq + state.count - 1 <= through
