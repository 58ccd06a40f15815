"""Finding what is stored: by pull, sid, number or time, with what became of each record.

It reads the log and the journal, and changes nothing. Whatever is stored is found, copies and a
former owner's records included: whoever looks is told, and what may be done is for others to say.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from pullstatus.errors import InvalidSetting
from pullstatus.mailbox import index
from pullstatus.mailbox.fields import Fields, read
from pullstatus.mailbox.owners import Range, read_owners
from pullstatus.mailbox.standing import standing_now
from pullstatus.records import Kind
from pullstatus.records.numbers import bare, is_number, may_be
from pullstatus.store import (
    Again,
    Backlog,
    Entry,
    JournalRow,
    Mailbox,
    Outcome,
    Store,
    parse_pull_id,
)


class Found(msgspec.Struct, frozen=True):
    """A run of records that was looked for, and what became of it.

    Attributes:
        row: the one journal row that the run is part of; None while it waits.
        entry: the record, where single records were looked for: the run is this one.
        copy_of: the number of the entry that this one is a copy of; of a copy of a copy, that of
            the first.
        copies: the numbers of its copies, if it is none; those of copies of copies, too.
        former: it was a former owner's of its application's number.
    """

    mailbox: Mailbox
    first_seq: int
    count: int
    row: JournalRow | None
    entry: Entry | None = None
    copy_of: int | None = None
    copies: Sequence[int] = ()
    former: bool = False

    @property
    def redeliverable(self) -> bool:
        """Whether it was handed out to who has the number now, for good, and is no copy.

        What is in a reader's hand comes again by itself.
        """
        row = self.row
        handed_out = row is not None and row.outcome is Outcome.PULLED and not row.in_hand
        return handed_out and self.copy_of is None and not self.former


class Period(NamedTuple):
    """From one moment until before another, in Unix milliseconds; None: without end."""

    from_ms: int | None = None
    to_ms: int | None = None

    def has(self, at_ms: int) -> bool:
        """Whether that moment is in it."""
        begun = self.from_ms is None or self.from_ms <= at_ms
        return begun and (self.to_ms is None or at_ms < self.to_ms)


EVER: Final = Period()


async def find_pull(store: Store, name: str) -> JournalRow:
    """The journal row of a pull, by the name in its `Pullstatus-Pull-Id` header.

    Raises:
        InvalidSetting: there is no such pull, or no longer.
    """
    parsed = parse_pull_id(name)
    if parsed is not None:
        mailbox, first_seq, _ = parsed  # of a name from before a restore, whatever is there now
        async for row in store.journal(mailbox, first_seq):
            if row.first_seq == first_seq and row.outcome is Outcome.PULLED:
                return row
            break
    raise InvalidSetting("no pull has this id; `pullstatus pulls list` shows those there are")


async def by_pull(store: Store, name: str) -> list[Found]:
    """What one pull was handed, copies included.

    Raises:
        InvalidSetting: there is no such pull, or its application has another owner now.
    """
    row = await find_pull(store, name)
    (await read_owners(store, row.mailbox.sdkappid)).check((row.mailbox, row.first_seq, row.count))
    return [Found(row.mailbox, row.first_seq, row.count, row)]


def check_sid(sid: str) -> None:
    """Refuse what is no `sid` of a record that is looked for.

    Raises:
        InvalidSetting: it is empty, as that of no record is.
    """
    if not sid:
        raise InvalidSetting("a sid is not empty")


async def by_sid(
    store: Store,
    sid: str,
    sdkappid: int | None = None,
    *,
    accepted: Period = EVER,
    count_max: int | None = None,
) -> list[Found]:
    """The delivery statuses with this `sid`, whatever became of them.

    Args:
        accepted: when.
        count_max: how many at most; None: all.

    Raises:
        InvalidSetting: it is empty, as that of no record is.
    """
    check_sid(sid)

    def match(fields: Fields) -> bool:
        return fields.sid == sid

    kinds = (Kind.DELIVERY_STATUS,)
    return await _search(store, index.sid(sid), match, sdkappid, kinds, accepted, count_max)


def digits_of(number: str) -> str:
    """Those of a number that is looked for.

    Raises:
        InvalidSetting: it is no number.
    """
    digits = bare(number)
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidSetting("a number is digits, with or without + and its calling code")
    return digits


async def by_number(
    store: Store,
    number: str,
    sdkappid: int | None = None,
    *,
    accepted: Period = EVER,
    count_max: int | None = None,
) -> list[Found]:
    """The records of one telephone number, whatever became of them.

    A record's number is the same with and without its calling code, which it has in a member of
    its own and may have in `mobile` once more. The number that is looked for has it behind a plus
    or 00; without these nobody knows, so it is looked for both ways.

    Args:
        accepted: when.
        count_max: how many at most; None: all.

    Raises:
        InvalidSetting: it is no number.
    """
    digits = digits_of(number)
    meant = may_be if digits == number else is_number

    def match(fields: Fields) -> bool:
        return meant(digits, fields.nationcode, fields.mobile)

    sought = index.number(digits)
    return await _search(store, sought, match, sdkappid, tuple(Kind), accepted, count_max)


async def by_time(
    store: Store, from_ms: int, to_ms: int, sdkappid: int | None = None
) -> list[Found]:
    """What was handed out from one moment until before another, without copies."""
    found: list[Found] = []
    owners = await read_owners(store, sdkappid)
    for standing in await _standing(store, sdkappid, tuple(Kind)):
        mailbox = standing.mailbox
        copies, former = await copies_of(store, mailbox), owners.former(mailbox)
        async for row in store.journal(mailbox):
            if row.outcome is Outcome.PULLED and from_ms <= row.at_ms < to_ms:
                seqs = range(row.first_seq, row.first_seq + row.count)
                originals = [
                    seq for seq in seqs if source_of(seq, copies) is None and seq not in former
                ]
                found += [Found(*run, row) for run in runs(mailbox, originals)]
    return found


async def oldest_ms(store: Store, sdkappid: int | None = None) -> int | None:
    """When the oldest record that is still stored was accepted; None if there is none."""
    oldest = None
    for standing in await _standing(store, sdkappid, tuple(Kind)):
        async for entry in store.entries(standing.mailbox):
            oldest = min(oldest or entry.accepted_ms, entry.accepted_ms)
            break
    return oldest


def runs(mailbox: Mailbox, seqs: Sequence[int]) -> list[Range]:
    """Numbers in order, as runs."""
    runs: list[Range] = []
    for seq in seqs:
        if runs and runs[-1][1] + runs[-1][2] == seq:
            runs[-1] = (mailbox, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((mailbox, seq, 1))
    return runs


async def copies_of(store: Store, mailbox: Mailbox, first_seq: int = 1) -> list[Again]:
    """Where copies stand, from a number on; what a restore brought back stands in its own place."""
    found = [again async for again in store.again(mailbox, first_seq)]
    return [again for again in found if again.source_seq != again.first_seq]


async def _search(
    store: Store,
    sought: index.Sought,
    match: Callable[[Fields], bool],
    sdkappid: int | None,
    kinds: tuple[Kind, ...],
    accepted: Period,
    count_max: int | None,
) -> list[Found]:
    found: list[Found] = []
    owners = await read_owners(store, sdkappid)

    def meant(kind: Kind, entry: Entry) -> bool | None:
        if not accepted.has(entry.accepted_ms):
            return None
        fields = read(kind, entry.data)
        return (fields is not None and match(fields)) or None

    for standing in await _standing(store, sdkappid, kinds):
        mailbox = standing.mailbox
        assert isinstance(mailbox.kind, Kind)
        left = None if count_max is None else count_max - len(found)
        if left == 0:
            break
        match_one = partial(meant, mailbox.kind)
        matching = await index.matching(store, standing, sought, match_one, count_max=left)
        entries = [entry for entry, _ in matching]
        if not entries:
            continue
        rows = await _rows(store, mailbox, [entry.seq for entry in entries])
        purged = await _purged(store, mailbox, entries, rows)
        copies, former = await copies_of(store, mailbox), owners.former(mailbox)
        originals = {entry.seq: original_of(entry.seq, copies) for entry in entries}
        copied = _copied([seq for seq, of in originals.items() if of is None], copies)
        found += [
            Found(
                *(mailbox, entry.seq, 1, row, entry),
                copy_of=originals[entry.seq],
                copies=copied.get(entry.seq, ()),
                former=entry.seq in former,
            )
            for entry, row in zip(entries, rows, strict=True)
            if entry.seq > purged
        ]
    return found


async def _purged(
    store: Store, mailbox: Mailbox, entries: Sequence[Entry], rows: Sequence[JournalRow | None]
) -> int:
    """Up to where entries may be removed since they were found: they have no rows of their own."""
    if all(row and row.first_seq <= entry.seq for entry, row in zip(entries, rows, strict=True)):
        return 0
    return (await standing_now(store, mailbox)).purged


async def _rows(store: Store, mailbox: Mailbox, seqs: Sequence[int]) -> list[JournalRow | None]:
    """The journal row of each entry, in order; None for those that wait.

    For one that was just removed it is another's, or None.
    """
    rows: list[JournalRow | None] = []
    async for row in store.journal(mailbox):
        while len(rows) < len(seqs) and seqs[len(rows)] < row.first_seq + row.count:
            rows.append(row)
        if len(rows) == len(seqs):
            break
    return rows + [None] * (len(seqs) - len(rows))


async def _standing(store: Store, sdkappid: int | None, kinds: tuple[Kind, ...]) -> list[Backlog]:
    return [row for row in await store.backlog(sdkappid) if row.mailbox.kind in kinds]


def source_of(seq: int, copies: Sequence[Again]) -> int | None:
    """Of which entry this one is a copy; the ranges are in order, and none overlaps another."""
    place = bisect.bisect_right(copies, seq, key=lambda again: again.first_seq)
    if not place:
        return None
    again = copies[place - 1]
    return again.source_seq + seq - again.first_seq if seq < again.first_seq + again.count else None


def original_of(seq: int, copies: Sequence[Again]) -> int | None:
    """Of which entry this one is a copy in the end, through whatever copies of copies."""
    original = None
    source = source_of(seq, copies)
    # A source stands before its copy; where a damaged store says otherwise this must end, too.
    while source is not None and source < (original or seq):
        original, source = source, source_of(source, copies)
    return original


def _copied(originals: Sequence[int], copies: Sequence[Again]) -> dict[int, list[int]]:
    """The copies of each of these entries, copies of copies included.

    Args:
        originals: in order; none is a copy.
    """
    copied: dict[int, list[int]] = defaultdict(list)
    made: list[int] = []  # the copies, in order
    original_of_each: dict[int, int] = {}
    for again in copies:
        ends = (again.source_seq, again.source_seq + again.count)
        for source in sorted([*_between(originals, *ends), *_between(made, *ends)]):
            copy = again.first_seq + source - again.source_seq
            original = original_of_each.get(source, source)
            original_of_each[copy] = original
            copied[original].append(copy)
            made.append(copy)
    return copied


def _between(seqs: Sequence[int], first_seq: int, end_seq: int) -> Sequence[int]:
    return seqs[bisect.bisect_left(seqs, first_seq) : bisect.bisect_left(seqs, end_seq)]
