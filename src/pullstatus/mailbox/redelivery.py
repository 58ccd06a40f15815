"""Handing out again, on purpose and on record: copies of what was found.

A cursor never moves back, so "never returned again" has no exception: what comes again are copies
at the tail, marked in the store with where they came from, and an audit row that says who and why.
Copied is only what was handed out and is no copy itself, or it would come twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pullstatus import limits
from pullstatus.errors import InvalidSetting
from pullstatus.mailbox.owners import Range, read_owners
from pullstatus.mailbox.search import Found, copies_of, runs
from pullstatus.store import Mailbox, Redeliver, Store


def ranges(found: Sequence[Found]) -> list[Range]:
    """What of it can be handed out again."""
    return [
        run
        for mailbox in sorted({one.mailbox for one in found})
        for run in runs(
            mailbox,
            [
                seq
                for one in found
                if one.mailbox == mailbox and one.redeliverable
                for seq in range(one.first_seq, one.first_seq + one.count)
            ],
        )
    ]


async def copies_waiting(store: Store, due: Sequence[Range]) -> int:
    """How many of these records have a copy already that nobody has pulled yet."""
    cursors = {row.mailbox: row.accepted - row.waiting for row in await store.backlog()}
    copied: set[tuple[Mailbox, int]] = set()
    for mailbox in {mailbox for mailbox, _, _ in due}:
        for again in await copies_of(store, mailbox):
            gone = max(0, min(again.count, cursors[mailbox] + 1 - again.first_seq))
            waits = range(again.source_seq + gone, again.source_seq + again.count)
            copied |= {(mailbox, seq) for seq in waits}
    return sum(
        (mailbox, seq) in copied
        for mailbox, first_seq, count in due
        for seq in range(first_seq, first_seq + count)
    )


async def redeliver(
    store: Store, ranges: Sequence[Range], *, at_ms: int, actor: str, reason: str, how: str
) -> int:
    """Append copies of `ranges` at the tails, in one commit with an audit row; returns how many.

    Args:
        actor: who does it.
        how: what was looked for, without the number or text itself.

    Raises:
        InvalidSetting: nothing, or too much, is to be redelivered; a range is not handed out; or
            it was a former owner's of its application's number.
        SettingChanged: one of the applications was changed meanwhile.
    """
    count = sum(size for _, _, size in ranges)
    if not count:
        raise InvalidSetting("nothing that was handed out matches")
    if count > limits.REDELIVER_COUNT_MAX:
        raise InvalidSetting(
            f"{count} records match, over {limits.REDELIVER_COUNT_MAX}: narrow it down"
        )
    owners = await read_owners(store)
    for found in ranges:
        owners.check(found)
    while_set = tuple(
        owners.while_set(sdkappid)
        for sdkappid in sorted({mailbox.sdkappid for mailbox, _, _ in ranges})
    )
    mailboxes = sorted({str(mailbox) for mailbox, _, _ in ranges})
    detail = msgspec.json.encode({"by": how, "count": count, "mailboxes": mailboxes}).decode()
    return await store.redeliver(Redeliver(list(ranges), at_ms, actor, reason, detail, while_set))
