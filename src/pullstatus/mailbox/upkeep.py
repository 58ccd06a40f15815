"""How long things stay: what was handed out for a while, what waits for ever unless asked.

Run now and then by the server; each step is small, so that appends and pulls hardly notice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from pullstatus import limits
from pullstatus.apps import LiveApplication
from pullstatus.errors import SettingChanged, StoreDamaged
from pullstatus.mailbox.tallies import FORGOTTEN
from pullstatus.records.hours import DAY_MS, hour_of
from pullstatus.store import Aside, Discard, Noted, Outcome, Store


async def clean_up(
    store: Store, applications: Iterable[LiveApplication], *, now_ms: int, retention_days: float
) -> int:
    """Remove what left longer ago than `retention_days`, and expire what waited too long.

    What nobody has followed yet stays until somebody has. Counts of hours go in their time.

    Only an application with `waiting_days_max` loses any record that waits; the journal says what,
    and the counts go on counting it. The turn of one that is no longer as it is told of here comes
    next time. What waits parked for `limits.PARKED_DAYS` expires, too.

    Returns:
        how many parked items expired.
    """
    for live in applications:
        with contextlib.suppress(SettingChanged, StoreDamaged):  # its own calls are told
            await _expire(store, live, now_ms)
    parked_before_ms = now_ms - limits.PARKED_DAYS * DAY_MS
    expired = 0
    oldest_ms = (await store.totals()).of[Aside.PARKED].oldest_ms
    if oldest_ms is not None and oldest_ms < parked_before_ms:
        for row in await store.backlog():
            if row.mailbox.parked:
                old = Discard(row.mailbox, Outcome.EXPIRED, now_ms, parked_before_ms)
                with contextlib.suppress(StoreDamaged):  # its own calls are told
                    expired += await store.discard(old)
    await store.purge(left_before_ms=max(0, now_ms - int(retention_days * DAY_MS)))
    # A whole day: it is noted once in it.
    before_ms = (now_ms // DAY_MS - limits.TALLIES_DAYS) * DAY_MS
    await store.mark({FORGOTTEN: Noted(max(1, before_ms))})
    await store.forget(
        accepted_before_ms=now_ms - limits.INGEST_REPEAT_S * 1000,
        now_ms=now_ms,
        hours_before=hour_of(max(0, before_ms)),
    )
    return expired


async def _expire(store: Store, live: LiveApplication, now_ms: int) -> None:
    days = live.application.waiting_days_max
    if days is not None:
        for mailbox in live.mailboxes:
            before_ms = now_ms - days * DAY_MS
            await store.discard(
                Discard(mailbox, Outcome.EXPIRED, now_ms, before_ms, live.while_set)
            )
