"""Handing out again, on purpose and on record: finding what is meant, then appending copies.

A cursor never moves back, so "never returned again" has no exception: what comes again are copies
at the tail, marked in the store with where they came from, and an audit row that says who and why.
Looking by record or number finds whatever is stored, with what became of it. Copied is then only
what was handed out and is no copy itself, or it would come twice.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import msgspec

from pullstatus import limits
from pullstatus.apps.values import application_setting, read_application
from pullstatus.errors import InvalidSetting
from pullstatus.json import ascii_json
from pullstatus.records import Kind
from pullstatus.store import (
    Again,
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


class Found(msgspec.Struct, frozen=True):
    """A run of records that was looked for, and what became of it.

    Attributes:
        row: the one journal row that the run is part of; None while it waits.
        entry: the record, where single records were looked for: the run is this one.
        copy_of: the number of the entry that this one is a copy of.
        former: it was a former owner's of its application's number.
    """

    mailbox: Mailbox
    first_seq: int
    count: int
    row: JournalRow | None
    entry: Entry | None = None
    copy_of: int | None = None
    former: bool = False

    @property
    def redeliverable(self) -> bool:
        """Whether it was handed out to who has the number now, and is no copy."""
        handed_out = self.row is not None and self.row.outcome is Outcome.PULLED
        return handed_out and self.copy_of is None and not self.former


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


async def by_pull(store: Store, name: str) -> list[Found]:
    """What one pull was handed, copies included.

    Raises:
        InvalidSetting: there is no such pull, or its application has another owner now.
    """
    row = await find_pull(store, name)
    (await _owners(store)).check((row.mailbox, row.first_seq, row.count))
    return [Found(row.mailbox, row.first_seq, row.count, row)]


async def by_sid(store: Store, sid: str, sdkappid: int | None = None) -> list[Found]:
    """The delivery statuses with this `sid`, whatever became of them."""
    needle = b'"sid":' + _json(sid)

    def match(fields: _Fields) -> bool:
        return fields.sid == sid

    return await _search(store, needle, match, sdkappid, (Kind.DELIVERY_STATUS,))


async def by_number(store: Store, number: str, sdkappid: int | None = None) -> list[Found]:
    """The records of one telephone number, whatever became of them.

    A number is the same with and without its calling code, and so is a record's, which has the
    code in a member of its own and may have it in `mobile` once more, behind a plus.

    Raises:
        InvalidSetting: it is no number.
    """
    digits = number.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidSetting("a number is digits, with or without + and its calling code")

    def match(fields: _Fields) -> bool:
        national = fields.mobile
        if national.startswith("+"):
            national = national.removeprefix("+").removeprefix(fields.nationcode)
        known_as = (fields.mobile.removeprefix("+"), national, fields.nationcode + national)
        return digits in known_as

    # With its calling code the number stands in two members: its end is in one of them.
    in_mobile = len(digits) >= limits.NATIONCODE_DIGITS_MAX + _END_DIGITS
    end = digits[-_END_DIGITS:] if in_mobile else digits[-1:]
    return await _search(store, end.encode(), match, sdkappid, tuple(Kind))


async def by_time(
    store: Store, from_ms: int, to_ms: int, sdkappid: int | None = None
) -> list[Found]:
    """What was handed out from one moment until before another, without copies."""
    found: list[Found] = []
    owners = await _owners(store)
    for mailbox in await _mailboxes(store, sdkappid, tuple(Kind)):
        copies, former = await _copies(store, mailbox), owners.former(mailbox)
        async for row in store.journal(mailbox):
            if row.outcome is Outcome.PULLED and from_ms <= row.at_ms < to_ms:
                seqs = range(row.first_seq, row.first_seq + row.count)
                originals = [
                    seq for seq in seqs if _source(seq, copies) is None and seq not in former
                ]
                found += [Found(*run, row) for run in _runs(mailbox, originals)]
    return found


def ranges(found: Sequence[Found]) -> list[Range]:
    """What of it can be handed out again."""
    return [
        run
        for mailbox in sorted({one.mailbox for one in found})
        for run in _runs(
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
        for again in await _copies(store, mailbox):
            gone = max(0, min(again.count, cursors[mailbox] + 1 - again.first_seq))
            waits = range(again.source_seq + gone, again.source_seq + again.count)
            copied |= {(mailbox, seq) for seq in waits}
    return sum(
        (mailbox, seq) in copied
        for mailbox, first_seq, count in due
        for seq in range(first_seq, first_seq + count)
    )


async def oldest_ms(store: Store, sdkappid: int | None = None) -> int | None:
    """When the oldest record that is still stored was accepted; None if there is none."""
    oldest = None
    for mailbox in await _mailboxes(store, sdkappid, tuple(Kind)):
        async for entry in store.entries(mailbox):
            oldest = min(oldest or entry.accepted_ms, entry.accepted_ms)
            break
    return oldest


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
) -> list[Found]:
    found: list[Found] = []
    owners = await _owners(store)
    purged = {row.mailbox: row.purged for row in await store.backlog()}
    decoder = msgspec.json.Decoder(_Fields)
    for mailbox in await _mailboxes(store, sdkappid, kinds):
        entries = [
            entry
            async for entry in store.entries(mailbox, containing=needle)
            # Of what is removed a chunk may still hold some.
            if entry.seq > purged[mailbox] and match(decoder.decode(entry.data))
        ]
        if not entries:
            continue
        rows = await _rows(store, mailbox, [entry.seq for entry in entries])
        copies, former = await _copies(store, mailbox), owners.former(mailbox)
        found += [
            Found(
                *(mailbox, entry.seq, 1, row, entry),
                copy_of=_source(entry.seq, copies),
                former=entry.seq in former,
            )
            for entry, row in zip(entries, rows, strict=True)
        ]
    return found


async def _rows(store: Store, mailbox: Mailbox, seqs: Sequence[int]) -> list[JournalRow | None]:
    """The journal row of each entry, in order; None for those that wait."""
    rows: list[JournalRow | None] = []
    async for row in store.journal(mailbox):
        while len(rows) < len(seqs) and seqs[len(rows)] < row.first_seq + row.count:
            rows.append(row)
        if len(rows) == len(seqs):
            break
    return rows + [None] * (len(seqs) - len(rows))


async def _mailboxes(store: Store, sdkappid: int | None, kinds: tuple[Kind, ...]) -> list[Mailbox]:
    return [
        row.mailbox
        for row in await store.backlog()
        if sdkappid in (None, row.mailbox.sdkappid) and row.mailbox.kind in kinds
    ]


async def _copies(store: Store, mailbox: Mailbox) -> list[Again]:
    """Where copies stand; what a restore brought back stands in its own place."""
    return [again for again in await store.again(mailbox) if again.source_seq != again.first_seq]


def _source(seq: int, copies: Sequence[Again]) -> int | None:
    """Of which entry this one is a copy."""
    for again in copies:
        if again.first_seq <= seq < again.first_seq + again.count:
            return again.source_seq + seq - again.first_seq
    return None


def _runs(mailbox: Mailbox, seqs: Sequence[int]) -> list[Range]:
    """Numbers in order, as runs."""
    runs: list[Range] = []
    for seq in seqs:
        if runs and runs[-1][1] + runs[-1][2] == seq:
            runs[-1] = (mailbox, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((mailbox, seq, 1))
    return runs


def _json(text: str) -> bytes:
    return ascii_json(msgspec.json.encode(text))
