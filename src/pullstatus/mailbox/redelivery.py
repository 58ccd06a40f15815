"""Handing out again, on purpose and on record: copies of what was found.

    act -> step, step ... of one mailbox -> step ... of the next

A cursor never moves back, so "never returned again" has no exception: what comes again are copies
at the tail, marked in the store with where they came from and by which act, which says who and why.
Copied is only what was handed out and is no copy itself, or it would come twice.

Of a step in which something is damaged the rest is copied: it is tried by halves, until what is
damaged stands alone.

An act may be cut off between two of its steps, each of which is a commit. It copies a record once,
so whoever goes on with it may begin anew: what it has copied is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.apps import Operator
from pullstatus.errors import EntriesDamaged, InvalidSetting, SettingChanged
from pullstatus.mailbox.owners import Range, read_owner
from pullstatus.mailbox.search import Found, copies_of, runs
from pullstatus.store import NO_TICKET, Act, JournalRow, Mailbox, Redeliver, Store
from pullstatus.store.acts import read_detail

ACTION = "redeliver"
PAUSE_S = 0.02  # between two steps: everybody else's turn


class _Detail(msgspec.Struct):
    """What the act of a redelivery is on record with.

    Attributes:
        by: what was looked for, without the number or text itself.
        count: how many records were to be copied.
        mailboxes: of which mailboxes.
        newest_ms: since when the last of them was in nobody's hand, by the clock that wrote that;
            None in what an older version wrote.
    """

    by: str
    count: int
    mailboxes: list[str]
    newest_ms: int | None = None


_decode_detail: Final = msgspec.json.Decoder(_Detail).decode


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
    cursors = {
        row.mailbox: row.accepted - row.waiting
        for sdkappid in {mailbox.sdkappid for mailbox, _, _ in due}
        for row in await store.backlog(sdkappid)
    }
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


class Plan(msgspec.Struct, frozen=True):
    """An act, and what it is to copy.

    Attributes:
        missing: how many records it was about that are found no more.
    """

    act: Act
    due: list[Range]
    missing: int = 0


def begin(found: Sequence[Found], *, by: Operator, how: str) -> Plan:
    """A redelivery of what can be redelivered of `found`; on record with its first step.

    Args:
        how: what was looked for, without the number or text itself.

    Raises:
        InvalidSetting: there is nothing to redeliver, or it is of more mailboxes than an act names.
    """
    due = ranges(found)
    if not due:
        raise InvalidSetting("nothing that was handed out matches")
    mailboxes = _mailboxes(due)
    if len(mailboxes) > limits.ACT_MAILBOXES_MAX:
        raise InvalidSetting(
            f"what matches is of {len(mailboxes)} mailboxes, and one act names at most"
            f" {limits.ACT_MAILBOXES_MAX}: name a shorter time, or one application after the other"
            " with --sdkappid"
        )
    newest_ms = max(_for_good_ms(one.row) for one in found if one.row and one.redeliverable)
    detail = _Detail(how, _count(due), mailboxes, newest_ms)
    return Plan(by.act(ACTION, **msgspec.structs.asdict(detail)), due)


async def resume(store: Store, act_id: int, found: Sequence[Found], *, how: str) -> Plan:
    """The redelivery of this number, to go on with: `found` is what was looked for then.

    What was handed out for good only since is left out.

    Raises:
        InvalidSetting: there is none, it was about something else, or it is from before acts had
            tickets, by which the store knows what an act has copied.
    """
    found_row = None
    async for row in store.acts(newest_first=True):
        if row.act_id == act_id:
            found_row = row
            break
    if found_row is None or found_row.act.action != ACTION:
        raise InvalidSetting(
            f"act {act_id} is no redelivery; `pullstatus acts list` shows those there are"
        )
    act = found_row.act
    if act.ticket == NO_TICKET:
        raise InvalidSetting(
            f"act {act_id} is of an older version, which did not note what can be gone on with;"
            " `pullstatus redeliver` without --resume begins anew"
        )
    told = read_detail(found_row, _decode_detail)
    if told.by != how:
        raise InvalidSetting(f"act {act_id} was by {told.by}, not by {how}: name the same again")
    # The act's own time is of another clock than the rows': it may be before all of them.
    newest_ms = act.at_ms if told.newest_ms is None else told.newest_ms
    due = ranges(
        [one for one in found if one.row is not None and _for_good_ms(one.row) <= newest_ms]
    )
    if not set(_mailboxes(due)) <= set(told.mailboxes) or _count(due) > told.count:
        raise InvalidSetting(
            f"{_count(due)} records match, and not those {told.count} that act {act_id} was about:"
            " name the same again"
        )
    return Plan(act, due, told.count - _count(due))


class Redelivered(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        copied: how many copies were appended.
        damaged: what was not copied, since it can't be read any more.
    """

    copied: int
    damaged: list[Range]


async def redeliver(store: Store, plan: Plan, *, by: Operator) -> Redelivered:
    """Append copies of what is due and the act has not copied yet, but for what is damaged.

    In steps, each a commit of at most `limits.REDELIVER_COUNT_MAX` records of one mailbox. With any
    error, the steps before it are done.

    Raises:
        InvalidSetting: a range is not handed out, or it was a former owner's of its application's
            number.
        SettingChanged: an application was changed again and again meanwhile.
    """
    copied = 0
    damaged: list[Range] = []
    for mailbox in sorted({mailbox for mailbox, _, _ in plan.due}):
        lost: list[int] = []
        for step in _steps([(first, size) for box, first, size in plan.due if box == mailbox]):
            if copied or lost:
                await asyncio.sleep(PAUSE_S)
            copied += await _take_whole(store, mailbox, step, plan.act, by, lost)
        damaged += runs(mailbox, sorted(lost))
    return Redelivered(copied, damaged)


async def number(store: Store, act: Act) -> int | None:
    """The number of an act; None if it is not on record."""
    async for row in store.acts(newest_first=True):
        if row.act.ticket == act.ticket:
            return row.act_id
    return None


def _for_good_ms(row: JournalRow) -> int:
    """Since when a page is in nobody's hand."""
    return row.acked_ms or row.released_ms or row.at_ms


def _count(due: Sequence[Range]) -> int:
    return sum(size for _, _, size in due)


def _mailboxes(due: Sequence[Range]) -> list[str]:
    return sorted({str(mailbox) for mailbox, _, _ in due})


async def _take_whole(
    store: Store,
    mailbox: Mailbox,
    step: list[tuple[int, int]],
    act: Act,
    by: Operator,
    lost: list[int],
) -> int:
    """Take a step, but for what is damaged in it: the numbers of that are put into `lost`."""
    try:
        return await _take_step(store, mailbox, step, act, by)
    except EntriesDamaged:
        seqs = [seq for first_seq, count in step for seq in range(first_seq, first_seq + count)]
    if len(seqs) == 1:
        lost += seqs
        return 0
    copied = 0
    for half in seqs[: len(seqs) // 2], seqs[len(seqs) // 2 :]:
        await asyncio.sleep(PAUSE_S)
        step = [(first_seq, count) for _, first_seq, count in runs(mailbox, half)]
        copied += await _take_whole(store, mailbox, step, act, by, lost)
    return copied


async def _take_step(
    store: Store, mailbox: Mailbox, step: list[tuple[int, int]], act: Act, by: Operator
) -> int:
    for tries_left in reversed(range(limits.OVERTAKEN_MAX)):
        owner = await read_owner(store, mailbox.sdkappid)
        for first_seq, count in step:
            owner.check((mailbox, first_seq, count))
        held = owner.while_set(mailbox.sdkappid)
        try:
            return await store.redeliver(
                Redeliver(mailbox, step, by.now_ms, act, held, by.ticket())
            )
        except SettingChanged:
            if not tries_left:
                raise
    raise AssertionError


def _steps(due: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Ranges in steps, cut where a step is full."""
    step: list[tuple[int, int]] = []
    room = limits.REDELIVER_COUNT_MAX
    for first_seq, count in due:
        done = 0
        while done < count:
            part = min(count - done, room)
            step.append((first_seq + done, part))
            done += part
            room -= part
            if not room:
                yield step
                step, room = [], limits.REDELIVER_COUNT_MAX
    if step:
        yield step
