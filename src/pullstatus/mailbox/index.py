"""Records of one number or `sid`, by what segments have of them, and else by looking at all.

    entries   purged .......... mark .......... tail
                     segments          scanned

So what is found is exact at any moment, however far behind the follower is. A segment only says
where to look: what is found there is read, proven and matched, as everywhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from pullstatus import limits
from pullstatus.apps.values import INDEX_KEY
from pullstatus.errors import StoreCorrupt
from pullstatus.json import ascii_json
from pullstatus.mailbox.standing import standing_now
from pullstatus.records.numbers import ENDING_DIGITS
from pullstatus.store import Backlog, Entry, Index, Mailbox, Store, segments

READ_COUNT: Final = 200  # entries that are looked up at once
TRIES: Final = 3
_END_DIGITS: Final = 4  # of a number, by which most entries that hold it not are passed over

T = TypeVar("T")


class Sought(NamedTuple):
    """What is looked for.

    Attributes:
        by, text: what segments have of it, before it is hashed; None: nothing.
        needle: what stands in each such entry.
    """

    by: Index
    text: bytes | None
    needle: bytes


def number(digits: str) -> Sought:
    """A telephone number, with or without its calling code."""
    # It stands in two members, or in one: its end is in the second, whose beginning nobody knows.
    sure = max(1, min(_END_DIGITS, len(digits) - limits.NATIONCODE_DIGITS_MAX))
    ending = digits[-ENDING_DIGITS:].encode() if len(digits) >= ENDING_DIGITS else None
    return Sought(Index.NUMBER, ending, digits[-sure:].encode())


def sid(text: str) -> Sought:
    """What the send call returned."""
    needle = b'"sid":' + ascii_json(msgspec.json.encode(text))
    return Sought(Index.SID, text.encode(), needle)


async def key_of(store: Store) -> bytes | None:
    """The key of the hashes; None: nothing was ever followed.

    Without it a number's hash is found out by trying all numbers, so it is the store's alone.
    """
    setting = await store.setting(INDEX_KEY)
    return None if setting is None else setting.value


async def matching(
    store: Store,
    standing: Backlog,
    sought: Sought,
    match: Callable[[Entry], T | None],
    *,
    first_seq: int = 1,
    count_max: int | None = None,
) -> list[tuple[Entry, T]]:
    """The entries that match, in order, each with what `match` makes of it.

    Args:
        standing: how their mailbox stands, read by whoever asks.
        match: None of an entry that is not meant.
        first_seq: those before are left out, as is what was removed.
        count_max: how many at most; None: all.
    """
    mailbox, first_seq = standing.mailbox, max(first_seq, standing.purged + 1)
    for _ in range(TRIES):
        seqs = await _by_segments(store, standing, sought)
        if seqs is None:
            break
        through = standing.followed.through  # all that segments have of it was read, or more
        meant = [seq for seq in seqs if first_seq <= seq <= through]
        found = await _filtered(entries_at(store, mailbox, meant), match, count_max)
        if count_max is None or len(found) < count_max:
            rest = store.entries(mailbox, max(first_seq, through + 1), containing=sought.needle)
            left = None if count_max is None else count_max - len(found)
            found += await _filtered(rest, match, left)
        if through == standing.purged:
            return found  # nobody has asked them
        now = await standing_now(store, mailbox)
        if now.followed.turn == standing.followed.turn:
            return found
        standing = now  # segments may have been dropped meanwhile
    everything = store.entries(mailbox, first_seq, containing=sought.needle)
    return await _filtered(everything, match, count_max)


async def _by_segments(store: Store, standing: Backlog, sought: Sought) -> Sequence[int] | None:
    """The numbers that segments have of it; None: they cannot be asked."""
    if sought.text is None or standing.mailbox.aside:
        return None
    if standing.followed.through == standing.purged:
        return ()
    key = await key_of(store)
    if key is None:
        return None
    try:
        hashed = segments.hasher(key)(sought.text)
        return await store.sought(standing.mailbox, sought.by, hashed)
    except StoreCorrupt:  # the audit says so, and they are made anew
        return None


async def entries_at(store: Store, mailbox: Mailbox, seqs: Sequence[int]) -> AsyncIterator[Entry]:
    """Those of these entries, in order, that there are: however many, a few at a time."""
    for start in range(0, len(seqs), READ_COUNT):
        for entry in await store.entries_at(mailbox, seqs[start : start + READ_COUNT]):
            yield entry


async def _filtered(
    entries: AsyncIterator[Entry], match: Callable[[Entry], T | None], count_max: int | None
) -> list[tuple[Entry, T]]:
    found: list[tuple[Entry, T]] = []
    async for entry in entries:
        meant = match(entry)
        if meant is not None:
            found.append((entry, meant))
            if len(found) == count_max:
                break
    return found
