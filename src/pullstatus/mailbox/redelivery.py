"""Handing out again, on purpose and on record: finding what is meant, then appending copies.

A cursor never moves back, so "never returned again" has no exception: what comes again are copies
at the tail, marked in the store with where they came from, and an audit row that says who and why.
What is a copy itself is left out when looking by record or time, or it would come twice.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from pullstatus import limits
from pullstatus.apps.values import application_setting, read_application
from pullstatus.errors import InvalidSetting
from pullstatus.records import Kind, ascii_json
from pullstatus.store import (
    Backlog,
    Entry,
    JournalRow,
    Mailbox,
    Outcome,
    Redeliver,
    Setting,
    Store,
    While,
    parse_pull_id,
)

Range = tuple[Mailbox, int, int]  # mailbox, first seq, count

_END_DIGITS = 4  # of a number, by which most entries that hold it not are passed over


class _Fields(msgspec.Struct):
    nationcode: str
    mobile: str
    sid: str = ""


async def find_pull(store: Store, name: str) -> JournalRow:
    """The journal row of a pull, by the name in its `Pullstatus-Pull-Id` header.

    Raises:
        InvalidSetting: there is no such pull, or no longer.
    """
    parsed = parse_pull_id(name)
    if parsed is not None:
        mailbox, first_seq = parsed
        async for row in store.journal(mailbox, first_seq):
            if row.first_seq == first_seq and row.outcome is Outcome.PULLED:
                return row
            break
    raise InvalidSetting("no pull has this id; `pullstatus pulls list` shows those there are")


async def by_pull(store: Store, name: str) -> list[Range]:
    """What one pull was handed.

    Raises:
        InvalidSetting: there is no such pull, or its application has another owner now.
    """
    row = await find_pull(store, name)
    found = (row.mailbox, row.first_seq, row.count)
    (await _owners(store)).check(found)
    return [found]


async def by_sid(store: Store, sid: str, sdkappid: int | None = None) -> list[Range]:
    """The delivery statuses with this `sid` that have been handed out."""
    needle = b'"sid":' + _json(sid)

    def match(fields: _Fields) -> bool:
        return fields.sid == sid

    return await _search(store, needle, match, sdkappid, (Kind.DELIVERY_STATUS,))


async def by_number(store: Store, number: str, sdkappid: int | None = None) -> list[Range]:
    """The records of one telephone number, with or without its calling code, handed out so far.

    Raises:
        InvalidSetting: it is no number.
    """
    digits = number.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidSetting("a number is digits, with or without + and its calling code")

    def match(fields: _Fields) -> bool:
        mobile = fields.mobile.removeprefix("+")
        return digits in (mobile, fields.nationcode + mobile)

    # With its calling code the number stands in two members: its end is in one of them.
    in_mobile = len(digits) >= limits.NATIONCODE_DIGITS_MAX + _END_DIGITS
    end = digits[-_END_DIGITS:] if in_mobile else digits[-1:]
    return await _search(store, end.encode(), match, sdkappid, tuple(Kind))


async def by_time(
    store: Store, from_ms: int, to_ms: int, sdkappid: int | None = None
) -> list[Range]:
    """What was handed out from one moment until before another."""
    ranges: list[Range] = []
    owners = await _owners(store)
    for mailbox in await _mailboxes(store, sdkappid, tuple(Kind)):
        aside = [*await _copies(store, mailbox), owners.former(mailbox)]
        async for row in store.journal(mailbox):
            if row.outcome is Outcome.PULLED and from_ms <= row.at_ms < to_ms:
                seqs = range(row.first_seq, row.first_seq + row.count)
                ranges += _ranges(mailbox, [seq for seq in seqs if not _within(seq, aside)])
    return ranges


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
    owners = await _owners(store)
    for found in ranges:
        owners.check(found)
    while_set = tuple(
        owners.while_set(sdkappid)
        for sdkappid in sorted({mailbox.sdkappid for mailbox, _, _ in ranges})
    )
    mailboxes = sorted({str(mailbox) for mailbox, _, _ in ranges})
    detail = msgspec.json.encode({"by": how, "count": count, "mailboxes": mailboxes}).decode()
    return await store.redeliver(Redeliver(list(ranges), at_ms, actor, reason, detail, while_set))


class _Owners:
    """Who has which number now, so that nobody is handed what was somebody else's."""

    def __init__(self, settings: Sequence[Setting]) -> None:
        self._settings = {setting.name: setting for setting in settings}

    def former(self, mailbox: Mailbox) -> range:
        """Where entries stand that were a former owner's; all of them if there is no owner now.

        A number that never was an application's has no former owner.
        """
        setting = self._settings.get(application_setting(mailbox.sdkappid))
        if setting is None:
            return range(1)
        if setting.value is None:
            return range(1, sys.maxsize)
        former = read_application(setting.name, setting.value).former
        return range(1, former[mailbox.kind] + 1 if former else 1)

    def check(self, found: Range) -> None:
        """Refuse a range that was a former owner's."""
        mailbox, first_seq, _ = found
        if first_seq in self.former(mailbox):
            raise InvalidSetting(
                f"records of {mailbox} from {first_seq} on were a former owner's of that number,"
                " and are not handed to another"
            )

    def while_set(self, sdkappid: int) -> While:
        """Holds as long as this is so."""
        name = application_setting(sdkappid)
        setting = self._settings.get(name)
        return While(name, 0 if setting is None else setting.revision)


async def _owners(store: Store) -> _Owners:
    return _Owners(await store.settings())


async def _search(
    store: Store,
    needle: bytes,
    match: Callable[[_Fields], bool],
    sdkappid: int | None,
    kinds: tuple[Kind, ...],
) -> list[Range]:
    ranges: list[Range] = []
    owners = await _owners(store)
    standings = {row.mailbox: row for row in await store.backlog()}
    decoder = msgspec.json.Decoder(_Fields)
    for mailbox in await _mailboxes(store, sdkappid, kinds):
        standing = standings[mailbox]
        aside = [
            range(1, standing.purged + 1),  # of what is removed, a chunk may still hold some
            owners.former(mailbox),
            *await _copies(store, mailbox),
            *await _unpulled(store, standing),
        ]
        left = _left(store, mailbox, needle, standing.accepted - standing.waiting)
        found = [
            entry.seq
            async for entry in left
            if not _within(entry.seq, aside) and match(decoder.decode(entry.data))
        ]
        ranges += _ranges(mailbox, found)
    return ranges


async def _left(store: Store, mailbox: Mailbox, needle: bytes, cursor: int) -> AsyncIterator[Entry]:
    async for entry in store.entries(mailbox, containing=needle):
        if entry.seq > cursor:
            return
        yield entry


async def _mailboxes(store: Store, sdkappid: int | None, kinds: tuple[Kind, ...]) -> list[Mailbox]:
    return [
        row.mailbox
        for row in await store.backlog()
        if sdkappid in (None, row.mailbox.sdkappid) and row.mailbox.kind in kinds
    ]


async def _copies(store: Store, mailbox: Mailbox) -> list[range]:
    """Where copies stand; what a restore brought back stands in its own place."""
    return [
        range(again.first_seq, again.first_seq + again.count)
        for again in await store.again(mailbox)
        if again.source_seq != again.first_seq
    ]


async def _unpulled(store: Store, standing: Backlog) -> list[range]:
    """Where entries stand that left without being handed out."""
    if standing.accepted == standing.waiting + standing.handed_out:
        return []
    return [
        range(row.first_seq, row.first_seq + row.count)
        async for row in store.journal(standing.mailbox)
        if row.outcome is not Outcome.PULLED
    ]


def _within(seq: int, ranges: list[range]) -> bool:
    return any(seq in taken for taken in ranges)


def _ranges(mailbox: Mailbox, seqs: Sequence[int]) -> list[Range]:
    """Numbers in order, as runs."""
    ranges: list[Range] = []
    for seq in seqs:
        if ranges and ranges[-1][1] + ranges[-1][2] == seq:
            ranges[-1] = (mailbox, ranges[-1][1], ranges[-1][2] + 1)
        else:
            ranges.append((mailbox, seq, 1))
    return ranges


def _json(text: str) -> bytes:
    return ascii_json(msgspec.json.encode(text))
