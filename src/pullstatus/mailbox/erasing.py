"""Letting the records of one telephone number go, wherever they lie, and leaving nothing of them.

A number is `nationcode` and `mobile` of a record together. Senders put the code in front of
`mobile`, too, behind a plus, 00 or nothing, and zeros in front of `nationcode`: these are the same
number. What came and could not be read has no members: of that an item goes as a whole if it has
the number's digits in a row.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from functools import partial

import msgspec

from pullstatus import limits
from pullstatus.apps import Operator, traces
from pullstatus.apps.erasure import erase_counted
from pullstatus.apps.values import NOBODY
from pullstatus.errors import InvalidSetting, SettingChanged
from pullstatus.mailbox import parking, pending, unparking
from pullstatus.mailbox.following import Follower
from pullstatus.mailbox.parking import Item
from pullstatus.mailbox.search import copies_of, source_of
from pullstatus.mailbox.spelling import AFTER, BEFORE, in_a_row, is_found
from pullstatus.mailbox.standing import standing_now
from pullstatus.records.numbers import bare, spellings
from pullstatus.store import Act, Aside, Backlog, Erased, Mailbox, Progress, Store


class Number(msgspec.Struct, frozen=True):
    """A telephone number: digits with the calling code in front, and how many of these are that.

    `code_digits` is 0 if it is not known where the code ends.
    """

    digits: str
    code_digits: int = 0

    def __repr__(self) -> str:
        """Nothing of it, for it may end up anywhere."""
        return "Number(...)"

    def splits(self) -> list[tuple[str, str]]:
        """What calling code and rest it may be."""
        most = min(limits.NATIONCODE_DIGITS_MAX, len(self.digits) - 1)
        sizes = [self.code_digits] if self.code_digits else range(1, most + 1)
        return [(self.digits[:size], self.digits[size:]) for size in sizes]

    def holding(self) -> list[tuple[bytes, bytes]]:
        """The members of an encoded record of this number: either of these pairs."""
        return [
            (
                b'"nationcode":"%b%b"' % (b"0" * zeros, code.encode()),
                b'"mobile":"%b"' % mobile.encode(),
            )
            for code, _ in self.splits()
            for zeros in range(limits.NATIONCODE_DIGITS_MAX - len(code) + 1)
            for mobile in spellings(self.digits, code)
        ]

    def is_in(self, raw: bytes) -> bool:
        """Whether bytes that nobody could read have its digits in a row, with or without code.

        In any of their `forms`, and however the digits are set apart.
        """
        # The longest codes of E.164 have three digits.
        splits = [each for each in self.splits() if self.code_digits or len(each[0]) <= 3]
        rests = [self.digits, *(rest for _, rest in splits)]
        rows = {in_a_row(*split) for split in splits} | set(map(in_a_row, rests))
        pattern = re.compile(b"%b(?:%b)%b" % (BEFORE, b"|".join(rows), AFTER))
        return is_found(pattern, raw, min(rests, key=len))


def parse_number(text: str, nationcode: str | None = None) -> Number:
    """A number as an operator writes it: `+` or 00 and all digits, or `mobile` beside `nationcode`.

    Raises:
        InvalidSetting: it is neither; nothing of it is in the text.
    """
    written = text.strip()
    digits, code = bare(written), bare(nationcode or "")
    if not all(each.isascii() and each.isdigit() for each in (digits, code or "0")):
        raise InvalidSetting("a number is digits, and so is its calling code")
    if (digits != written) == bool(code):
        raise InvalidSetting(
            "a number is given whole, as +8613800000000, or without its calling code and that with"
            " --nationcode"
        )
    if not 5 <= len(digits) <= limits.MOBILE_DIGITS_MAX or len(code) > limits.NATIONCODE_DIGITS_MAX:
        raise InvalidSetting(
            f"a number has 5 to {limits.MOBILE_DIGITS_MAX} digits, and its calling code at most"
            f" {limits.NATIONCODE_DIGITS_MAX}"
        )
    return Number(code + digits, len(code))


class ErasedNumber(msgspec.Struct, frozen=True):
    """What there was of a number, or was erased.

    Attributes:
        waiting: records that waited. What was handed over from number 0 before its turn is counted
            there, too, for the seconds until it leaves that.
        handed_out: records that had left, copies included.
        parked: items that nobody could read, whether they waited or had left.
    """

    waiting: int = 0
    handed_out: int = 0
    parked: int = 0


async def count_number(store: Store, number: Number) -> ErasedNumber:
    """What is stored of a number now; pages that are kept for readers alone are not looked at."""
    waiting = left = parked = 0
    for row in await store.backlog():
        cursor = row.accepted - row.waiting
        async for seq in _numbers_of(store, row, number):
            if row.mailbox.parked:
                parked += 1
            elif seq > cursor:
                waiting += 1
            elif not row.mailbox.aside:  # what was pending is counted as what it became
                left += 1
    return ErasedNumber(waiting, left, parked)


async def erase_number(
    store: Store, number: Number, *, by: Operator, progress: Progress
) -> ErasedNumber:
    """Erase all that is stored of a number until now, of whichever application.

    What comes meanwhile stays. One that was cut off is finished by calling this again. The files
    are then to be written anew: see `apps.traces`.

    Args:
        progress: told how many of the mailboxes are done.

    Raises:
        SettingChanged: what is parked changed again and again meanwhile.
        EntriesLeft: what is counted did.
    """
    async with traces.removing(store, by):
        return await _erase(store, number, by, progress)


async def _erase(store: Store, number: Number, by: Operator, progress: Progress) -> ErasedNumber:
    act = by.act("erase", by="number")
    await store.change(act=act, ticket=by.ticket())
    left = 0
    follower = Follower(store, by.random_hex)
    # First what waits: leaving meanwhile it would be a record behind all that is looked through.
    waiting = await _drop_pending(store, await store.backlog(NOBODY), number, by)
    rows = await store.pending(limits.PENDING_MAILBOXES_MAX)
    waiting += await _drop_pending(store, rows, number, by)
    parked = await _erase_all_parked(store, number, by, act)
    # From there parts of messages may have gone to wait for the others meanwhile.
    rows = await store.pending(limits.PENDING_MAILBOXES_MAX)
    waiting += await _drop_pending(store, rows, number, by)
    standing = [row for row in await store.backlog() if not row.mailbox.parked]
    for done, row in enumerate(standing):
        progress(done, len(standing))
        if row.mailbox.aside:
            waiting += await _drop_pending(store, [row], number, by)
            await _erase_pending(store, row.mailbox, number, by)
        else:
            erased = await _erase_records(store, follower, row, number, by)
            waiting += erased.waiting
            left += erased.left
    progress(len(standing), len(standing))
    return ErasedNumber(waiting, left, parked)


async def _erase_records(
    store: Store, follower: Follower, row: Backlog, number: Number, by: Operator
) -> Erased:
    """Erase what was accepted when a mailbox stood like that, and copies of it."""

    async def follow() -> None:
        # As it stands now: what was derived may have been dropped since it stood like that.
        await follower.follow_mailbox(await standing_now(store, row.mailbox))

    erase = partial(erase_counted, store, row.mailbox, by=by, follow=follow)
    erased = await erase(row.accepted, holding=number.holding())
    copied: set[int] = set()
    while seqs := await _copied_since(store, row, number, copied):
        copied.update(seqs)
        more = await erase(seqs[-1], seqs=seqs)
        erased = Erased(erased.waiting + more.waiting, erased.left + more.left)
    return erased


async def _copied_since(store: Store, row: Backlog, number: Number, copied: set[int]) -> list[int]:
    """What redeliveries have copied of a mailbox since it stood like that.

    Each ends: what was erased is copied no more, but for copies of it, which are as many as
    redeliveries were begun meanwhile.

    Args:
        copied: what was found by this before, and erased.
    """
    first_seq = row.accepted + 1
    copies = await copies_of(store, row.mailbox, first_seq)
    known = set(copied)
    if copies:
        async for seq in _numbers_of(store, row, number, first_seq):
            source = source_of(seq, copies)
            if source is not None and (source < first_seq or source in known):
                known.add(seq)
    return sorted(known - copied)


async def _erase_all_parked(store: Store, number: Number, by: Operator, act: Act) -> int:
    """Erase what is parked, wherever it goes meanwhile; returns how many items.

    Where something came since, that is what had come before this began.

    Raises:
        SettingChanged: items go to and fro again and again.
    """
    count = newest_round = 0
    async for round_number, row in parking.in_turn(store):
        began_ms = by.now_ms if round_number else None
        if erased := await _erase_parked(store, row, number, by, act, began_ms):
            count += erased
            newest_round = round_number
    if newest_round == limits.OVERTAKEN_MAX - 1:
        raise SettingChanged("parked items go from one application to another; try again")
    return count


async def _erase_parked(
    store: Store, row: Backlog, number: Number, by: Operator, act: Act, through_ms: int | None
) -> int:
    """Drop what waits of parked items, and erase what has left, also by that.

    Args:
        through_ms: none that came later; None: whenever they came.
    """
    mailbox = row.mailbox

    def is_meant(item: Item) -> bool:
        return _has(item, number) and (through_ms is None or item.at_ms <= through_ms)

    await unparking.drop_meant(store, mailbox.sdkappid, is_meant, by=by, act=act)
    row = await standing_now(store, mailbox)
    cursor = row.accepted - row.waiting
    seqs = [seq async for seq in _numbers_of(store, row, number) if seq <= cursor]
    return (await store.erase(mailbox, at_ms=by.now_ms, seqs=seqs)).left


async def _drop_pending(store: Store, rows: Sequence[Backlog], number: Number, by: Operator) -> int:
    """Drop what waits to become a record."""

    def is_meant(item: pending.Item) -> bool:
        return _is_pending_of(item, number)

    count = 0
    for row in rows:
        if row.mailbox.kind is Aside.PENDING:
            count += await pending.drop(
                store, row.mailbox, is_meant, now_ms=by.now_ms, new_ticket=by.ticket
            )
    return count


async def _erase_pending(store: Store, mailbox: Mailbox, number: Number, by: Operator) -> None:
    """Erase what has become a record, here too."""
    row = await standing_now(store, mailbox)
    cursor = row.accepted - row.waiting
    seqs = [seq async for seq in _numbers_of(store, row, number) if seq <= cursor]
    await store.erase(mailbox, at_ms=by.now_ms, seqs=seqs)


def _is_pending_of(item: pending.Item, number: Number) -> bool:
    return any(map(number.is_in, pending.told(item)))


async def _numbers_of(
    store: Store, row: Backlog, number: Number, first_seq: int = 1
) -> AsyncIterator[int]:
    """The numbers of entries of a telephone number, in a mailbox, from one on."""
    mailbox: Mailbox = row.mailbox
    if mailbox.parked:
        async for entry in store.entries(mailbox, first_seq):
            if _has(parking.decode_item(entry.data), number):
                yield entry.seq
        return
    if mailbox.aside:
        async for entry in store.entries(mailbox, first_seq):
            if _is_pending_of(pending.decode_item(entry.data), number):
                yield entry.seq
        return
    holding = number.holding()
    end = min((rest for _, rest in number.splits()), key=len)[-4:].encode()
    async for entry in store.entries(mailbox, first_seq, containing=end):
        if any(all(part in entry.data for part in parts) for parts in holding):
            yield entry.seq


def _has(item: Item, number: Number) -> bool:
    return number.is_in(item.raw) or number.is_in(item.query)
