"""What became of one number or one message: the records of it, without taking them out.

A question reads the log and writes nothing. What waits is found as what was handed out is; what was
erased, removed by retention or a former owner's is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pullstatus import limits
from pullstatus.mailbox import index
from pullstatus.mailbox.fields import read
from pullstatus.mailbox.owners import read_owner
from pullstatus.mailbox.search import copies_of, original_of
from pullstatus.mailbox.standing import standing_of
from pullstatus.records import Kind
from pullstatus.records.numbers import is_number
from pullstatus.store import Entry, Mailbox, Store


async def records_of(
    store: Store,
    mailbox: Mailbox,
    digits: str | None,
    *,
    sid: str | None = None,
    from_s: int | None = None,
    to_s: int | None = None,
    offset: int = 0,
    count_max: int = limits.PULL_COUNT_MAX,
) -> list[bytes]:
    """The records of one number, or of one `sid`, or of both; encoded, as a pull has them.

    Ascending by their own times, and by their numbers in the log where those are equal. A copy by
    redelivery is not found beside what it is a copy of. Of more than `limits.ASKED_COUNT_MAX` that
    match, those that lie first in the log are found.

    Args:
        digits: the number, its calling code in front, without a plus; None: whatever number.
        sid: as the send call returned it; None: whatever it is.
        from_s, to_s: a record's own time, in Unix seconds, is not before or after that.
        offset: how many to pass over.
    """
    assert digits is not None or sid is not None
    standing = await standing_of(store, mailbox)
    if standing is None:
        return []
    former, kind = (await read_owner(store, mailbox.sdkappid)).former(mailbox), mailbox.kind
    assert isinstance(kind, Kind)

    def own_s(entry: Entry) -> int | None:
        """When a record that is meant was, by its own time."""
        fields = read(kind, entry.data)
        if fields is None or (sid is not None and fields.sid != sid):
            return None
        if digits is not None and not is_number(digits, fields.nationcode, fields.mobile):
            return None
        at_s = fields.own_s
        if at_s is None:
            return None
        early, late = from_s is not None and at_s < from_s, to_s is not None and at_s > to_s
        return None if early or late else at_s

    found = await index.matching(
        store,
        standing,
        index.number(digits or "") if sid is None else index.sid(sid),
        own_s,
        first_seq=former.stop,
        count_max=limits.ASKED_COUNT_MAX,
    )
    found.sort(key=lambda pair: (pair[1], pair[0].seq))
    entries = await _without_copies(store, mailbox, [entry for entry, _ in found])
    return [entry.data for entry in entries[offset : offset + count_max]]


async def _without_copies(store: Store, mailbox: Mailbox, entries: Sequence[Entry]) -> list[Entry]:
    """Without those of which the original, or another copy of it, is among them, too."""
    if len({entry.data for entry in entries}) == len(entries):
        return list(entries)  # a copy is equal to its original

    def originals() -> Iterator[Entry]:
        seen: set[int] = set()
        for entry in entries:
            seq = original_of(entry.seq, copies) or entry.seq
            if seq not in seen:
                seen.add(seq)
                yield entry

    copies = await copies_of(store, mailbox)
    return list(originals())
