"""Letting an application's entries go, and leaving nothing of them.

What waits leaves as erased, on record: it is counted for ever. What has left before is removed with
its journal, as retention would have done later. The counts of the mailboxes go on adding up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from pullstatus.apps import traces
from pullstatus.apps.operator import Operator
from pullstatus.errors import UnknownApplication
from pullstatus.records import Kind
from pullstatus.store import Act, Aside, Discard, Mailbox, Outcome, Release, Store, While


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

    It may exist or not, and is let alone itself; what comes meanwhile stays. One that was cut off
    is finished by calling this again. The files are then to be written anew: see `traces`. It takes
    as long as `Store.purge_rest`.

    Args:
        follow: has all that the application was sent until now counted: see `mailbox.following`.

    Raises:
        UnknownApplication: nothing was ever accepted for this number.
    """
    if not await store.backlog(sdkappid):
        raise UnknownApplication(f"nothing was ever accepted for application {sdkappid}")
    async with traces.removing(store, by):
        act = by.act("erase", sdkappid=sdkappid)
        await store.change(act=act, ticket=by.ticket())
        waiting = await let_go(store, sdkappid, by=by, act=act)
        await follow()  # what is not is not removed
        removed = await store.purge(left_before_ms=by.now_ms + 1, sdkappid=sdkappid)
        await store.purge_rest(sdkappid)
    return Erased(waiting, removed)


async def let_go(
    store: Store, sdkappid: int, *, by: Operator, act: Act, while_set: While | None = None
) -> int:
    """Erase what waits for an application, parked items too; returns how many entries.

    Pages in its readers' hands are taken from them.

    Raises:
        SettingChanged: `while_set` does not hold.
    """
    async for state in store.readers(sdkappid):
        if state.first_seq:
            page = state.first_seq
            await store.release(Release(state.mailbox, state.name, page, by.now_ms, act, while_set))
    return sum(
        [
            await store.discard(
                Discard(
                    Mailbox(sdkappid, kind),
                    Outcome.ERASED,
                    by.now_ms,
                    while_set=while_set,
                    ticket=by.ticket(),
                    act=act,
                )
            )
            for kind in (*Kind, *Aside)
        ]
    )
