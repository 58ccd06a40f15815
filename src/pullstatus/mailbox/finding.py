"""Where is the report for this number? All that is known of it, for an operator who was asked.

What was found in the log has come by some token, waits at some place or has left, and may have
copies. What could not be read is looked through as it came. Whoever looks leaves that on record:
records are personal data. The number itself, or the `sid`, is in no act.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import msgspec

from pullstatus.apps import Operator
from pullstatus.errors import InvalidSetting
from pullstatus.mailbox import index, parking, pending, search
from pullstatus.mailbox.erasing import Number
from pullstatus.mailbox.parking import Parked
from pullstatus.mailbox.search import EVER, Found, Period
from pullstatus.mailbox.senders import Senders
from pullstatus.mailbox.spelling import AFTER, BEFORE, in_a_row, is_found
from pullstatus.records import Kind
from pullstatus.store import NO_TICKET, Aside, Backlog, Mailbox, Store

ACTION = "find"

_Has: TypeAlias = Callable[[bytes], bool]  # whether what was looked for is in what came


class Traced(msgspec.Struct, frozen=True):
    """A record that was found, or a run of them, with what else is known of it.

    Attributes:
        place: at which it waits, 1 being the next to leave; what was erased before it has one, too,
            until it leaves. None: it has left.
        tokens: by which it came; of more than one it is not known which. See `Senders`.
    """

    found: Found
    place: int | None = None
    tokens: Sequence[str] = ()


class Awaited(NamedTuple):
    """What is pending, and has what was looked for somewhere: it is no record yet."""

    mailbox: Mailbox
    item: pending.Item


class Findings(msgspec.Struct, frozen=True):
    """What there is of a number or a `sid`.

    Attributes:
        pending: what waits for its name, or for other parts.
        parked: items that have it somewhere, each with the number of its application.
        damaged: how many entries of the mailboxes that were looked through can't be read any more.
        oldest_ms: when the oldest record in these was accepted; None if there is none.
        elsewhere: nothing is there of the time that was asked about, but of another.
    """

    records: list[Traced]
    pending: list[Awaited]
    parked: list[tuple[int, Parked]]
    damaged: int
    oldest_ms: int | None
    elsewhere: bool = False

    @property
    def count(self) -> int:
        """How many things there are."""
        return len(self.records) + len(self.pending) + len(self.parked)


async def by_number(
    store: Store,
    number: str,
    sdkappid: int | None = None,
    *,
    by: Operator,
    accepted: Period = EVER,
    count_max: int | None = None,
) -> Findings:
    """All of one telephone number, with or without its calling code; puts that on record.

    Args:
        accepted: when it came.
        count_max: more records than so many are refused; None: however many there are.

    Raises:
        InvalidSetting: it is no number, or there are more.
    """
    digits = search.digits_of(number)
    has = _has_number(digits, whole=digits != number)
    aside = await _aside(store, has, sdkappid)
    look = partial(search.by_number, store, number, sdkappid)
    return await _findings(store, "number", look, aside, sdkappid, by, accepted, count_max)


async def by_sid(
    store: Store,
    sid: str,
    sdkappid: int | None = None,
    *,
    by: Operator,
    accepted: Period = EVER,
    count_max: int | None = None,
) -> Findings:
    """All of one SMS, by what the send call returned; puts that on record.

    Args:
        accepted, count_max: as those of `by_number`.

    Raises:
        InvalidSetting: it is empty, or there are more.
    """
    search.check_sid(sid)
    spelt = b"|".join(map(re.escape, {sid.encode(), msgspec.json.encode(sid)[1:-1]}))
    pattern = re.compile(rb"(?<![0-9A-Za-z])(?:%b)(?![0-9A-Za-z])" % spelt)
    aside = await _aside(store, _holds(pattern), sdkappid)
    look = partial(search.by_sid, store, sid, sdkappid)
    return await _findings(store, "sid", look, aside, sdkappid, by, accepted, count_max)


async def _findings(
    store: Store,
    how: str,
    look: Callable[..., Awaitable[list[Found]]],
    aside: tuple[list[Awaited], list[tuple[int, Parked]]],
    sdkappid: int | None,
    by: Operator,
    accepted: Period,
    count_max: int | None,
) -> Findings:
    records = await look(accepted=accepted, count_max=count_max and count_max + 1)
    if count_max is not None and len(records) > count_max:
        raise InvalidSetting(
            f"over {count_max:,} records match: narrow the range, by --from and --to, or by"
            " --sdkappid"
        )
    kinds = (Kind.DELIVERY_STATUS,) if how == "sid" else tuple(Kind)
    standing = [row for row in await store.backlog(sdkappid) if row.mailbox.kind in kinds]
    awaited = [one for one in aside[0] if accepted.has(one.item.at_ms)]
    parked = [one for one in aside[1] if one[1].item and accepted.has(one[1].item.at_ms)]
    found = Findings(
        await trace(store, records, standing),
        awaited,
        parked,
        sum(row.quarantined for row in standing),
        await search.oldest_ms(store, sdkappid),
    )
    if not found.count and accepted != EVER:
        elsewhere = any(aside) or bool(await look(count_max=1))
        found = msgspec.structs.replace(found, elsewhere=elsewhere)
    named = {} if sdkappid is None else {"sdkappid": sdkappid}
    mailboxes = {str(one.mailbox) for one in records}
    mailboxes |= {str(parking.parked_mailbox(number)) for number, _ in parked}
    mailboxes |= {str(one.mailbox) for one in awaited}
    act = by.act(ACTION, by=how, **named, count=found.count, mailboxes=sorted(mailboxes))
    await store.change(act=act, ticket=by.ticket())
    return found


async def trace(
    store: Store, records: Sequence[Found], standing: Sequence[Backlog]
) -> list[Traced]:
    """What else is known of records that were found."""
    senders = await Senders.read(store)
    cursors = {row.mailbox: row.accepted - row.waiting for row in standing}
    tickets = await _tickets(store, records)

    def traced(one: Found) -> Traced:
        # A copy came as its original did, if that is still there.
        ticket = tickets.get((one.mailbox, one.copy_of or one.first_seq), NO_TICKET)
        return Traced(
            one,
            place=max(1, one.first_seq - cursors[one.mailbox]) if one.row is None else None,
            tokens=senders.of(ticket, one.mailbox.sdkappid),
        )

    return [traced(one) for one in records]


async def _tickets(store: Store, records: Sequence[Found]) -> dict[tuple[Mailbox, int], bytes]:
    """Those of records that were found, and of the originals of copies."""
    tickets = {(one.mailbox, one.first_seq): one.entry.ticket for one in records if one.entry}
    originals: dict[Mailbox, set[int]] = defaultdict(set)
    for one in records:
        if one.copy_of is not None and (one.mailbox, one.copy_of) not in tickets:
            originals[one.mailbox].add(one.copy_of)
    for mailbox, seqs in originals.items():
        async for entry in index.entries_at(store, mailbox, sorted(seqs)):
            tickets[mailbox, entry.seq] = entry.ticket
    return tickets


async def _aside(
    store: Store, has: _Has, sdkappid: int | None
) -> tuple[list[Awaited], list[tuple[int, Parked]]]:
    """What is no record yet. Whoever looks for records does so behind this: it may become some.

    What is parked may have gone to wait for the others of its message, so that is looked at again.
    """
    awaited = await _pending(store, has, sdkappid)
    parked = await _parked(store, has, sdkappid)
    later = await _pending(store, has, sdkappid)
    came = [_as_it_came(each) for each in later]
    return [*(each for each in awaited if _as_it_came(each) not in came), *later], parked


def _as_it_came(awaited: Awaited) -> tuple[object, ...]:
    """What stays of an item that waits when it gets its name, and goes to whose that is."""
    item = awaited.item
    return item.source, item.token, item.at_ms, item.report


async def _pending(store: Store, has: _Has, sdkappid: int | None) -> list[Awaited]:
    return [
        Awaited(row.mailbox, item)
        for row in await store.backlog(sdkappid)
        if row.mailbox.kind is Aside.PENDING and row.waiting
        for item in (await pending.waiting(store, row)).values()
        if item is not None and any(map(has, pending.told(item)))
    ]


async def _parked(store: Store, has: _Has, sdkappid: int | None) -> list[tuple[int, Parked]]:
    found: dict[int, list[Parked]] = {}
    async for _, row in parking.in_turn(store, sdkappid):
        waiting = await parking.parked(store, row.mailbox.sdkappid) if row.waiting else []
        found[row.mailbox.sdkappid] = [
            each
            for each in waiting
            if each.item is not None and (has(each.item.raw) or has(each.item.query))
        ]
    return [(number, each) for number, items in found.items() for each in items]


def _has_number(digits: str, *, whole: bool) -> _Has:
    """Whether what came has these digits in a row, also without the calling code.

    Args:
        whole: they begin with it. Else nobody knows whether they do: it may be in front of them.
    """
    number = Number(digits)
    front = BEFORE if whole else rb""
    holds = _holds(re.compile(front + in_a_row(digits) + AFTER), digits)
    return lambda came: holds(came) or number.is_in(came)


def _holds(pattern: re.Pattern[bytes], digits: str = "") -> _Has:
    return lambda came: is_found(pattern, came, digits)
