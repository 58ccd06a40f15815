"""What a store holds, as read by looking at its tables and not by asking it.

Knows the stored format and nothing of how it came about. Whatever contradicts itself is refused:
gaps, overlaps, wrong ends, wrong checksums, a memory that differs from the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import apsw

from pullstatus.store import chunk
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.states import States
from pullstatus.store.values import Mailbox, Outcome, contents
from pullstatus.store.verbs.state import slot


class PromiseBroken(AssertionError):
    """The store did, or holds, what it must not."""


@dataclass(frozen=True)
class Range:
    """Entries that left their mailbox together, or came back as copies."""

    mailbox: Mailbox
    first_seq: int
    count: int


@dataclass
class Found:
    """What there is.

    Attributes:
        kept: the stored entries of each mailbox, in order.
        first: number of the first of them.
        cursors, tails: number of the last that left, and of the last there is.
        left: ranges that left, by the name of the operation that took them: a pull's address, or
            the time of a discard (`discard_name`).
        keys: those of pulls, by Idempotency-Key.
        copies: for each redelivery, by its detail: where the copies of a range begin.
    """

    kept: dict[Mailbox, list[bytes]] = field(default_factory=dict)
    first: dict[Mailbox, int] = field(default_factory=dict)
    cursors: dict[Mailbox, int] = field(default_factory=dict)
    tails: dict[Mailbox, int] = field(default_factory=dict)
    left: dict[str, Range] = field(default_factory=dict)
    keys: dict[str, Range] = field(default_factory=dict)
    copies: dict[str, dict[Range, int]] = field(default_factory=dict)
    settings: dict[str, bytes | None] = field(default_factory=dict)

    def entries(self, taken: Range) -> list[bytes]:
        """The entries of a range."""
        start = taken.first_seq - self.first[taken.mailbox]
        return self.kept[taken.mailbox][start : start + taken.count]


def discard_name(at_ms: int) -> str:
    """What the journal knows a discard by."""
    return f"discard at {at_ms}"


def look(connection: apsw.Connection, states: States) -> Found:
    """Read all tables.

    Raises:
        PromiseBroken: they contradict themselves, or `states`.
    """
    found = Found()
    for name, value in connection.execute("SELECT name, value FROM setting"):
        found.settings[name] = value
    known: dict[int, Mailbox] = {}
    purged: dict[Mailbox, int] = {}
    tails: dict[Mailbox, int] = {}
    for number, sdkappid, kind, tail, cursor, removed in connection.execute(
        "SELECT id, sdkappid, kind, tail, cursor, purged FROM mailbox"
    ):
        mailbox = known[number] = Mailbox(sdkappid, contents(kind))
        found.kept[mailbox] = []
        found.first[mailbox] = removed + 1
        found.cursors[mailbox] = cursor
        purged[mailbox], tails[mailbox] = removed, tail
        found.tails[mailbox] = tail
        place = slot(mailbox)
        if place in states._states:
            state = states._states[place]  # not a draft: those of a failed group stay
            if state is None or (state.tail, state.cursor) != (tail, cursor):
                raise PromiseBroken(f"{mailbox} is remembered otherwise than it is stored")
        if states.waiting.get(place, tail - cursor) != tail - cursor:
            raise PromiseBroken(f"{mailbox} miscounts what waits")
    _entries(connection, known, purged, tails, found)
    _journal(connection, known, purged, found)
    _copies(connection, known, found)
    return found


def _entries(
    connection: apsw.Connection,
    known: Mapping[int, Mailbox],
    purged: Mapping[Mailbox, int],
    tails: Mapping[Mailbox, int],
    found: Found,
) -> None:
    for key, count, checksum, bounds, body in connection.execute(
        "SELECT key, count, checksum, bounds, body FROM chunk ORDER BY key"
    ):
        mailbox, first_seq = known[key >> schema.SEQ_BITS], key & schema.SEQ_MASK
        kept = found.kept[mailbox]
        if not kept and first_seq <= purged[mailbox] + 1:
            found.first[mailbox] = first_seq
        if first_seq != found.first[mailbox] + len(kept):
            raise PromiseBroken(f"chunks of {mailbox} have a gap before entry {first_seq}")
        if chunk.checksum(key, bounds, body) != checksum:
            raise PromiseBroken(f"a chunk of {mailbox} is damaged at entry {first_seq}")
        kept += chunk.unpack(bounds, body)
        if found.first[mailbox] + len(kept) != first_seq + count:
            raise PromiseBroken(f"a chunk of {mailbox} miscounts at entry {first_seq}")
    for mailbox, tail in tails.items():
        if found.first[mailbox] + len(found.kept[mailbox]) - 1 != tail:
            raise PromiseBroken(f"chunks of {mailbox} do not reach its tail at {tail}")


def _journal(
    connection: apsw.Connection,
    known: Mapping[int, Mailbox],
    purged: Mapping[Mailbox, int],
    found: Found,
) -> None:
    ends = dict(purged)
    for key, count, outcome, at_ms, address, pull_key in connection.execute(
        "SELECT key, count, outcome, at_ms, address, pull_key FROM journal ORDER BY key"
    ):
        taken = Range(known[key >> schema.SEQ_BITS], key & schema.SEQ_MASK, count)
        if taken.first_seq != ends[taken.mailbox] + 1 or count < 1:
            raise PromiseBroken(f"the journal of {taken.mailbox} has a gap before {taken}")
        ends[taken.mailbox] += count
        if outcome == Outcome.QUARANTINED:
            raise PromiseBroken(f"{taken} was set aside, but nothing was ever damaged")
        name = address if outcome == Outcome.PULLED else discard_name(at_ms)
        if found.left.setdefault(name, taken) != taken:
            raise PromiseBroken(f"{name} took {taken} and {found.left[name]}")
        if pull_key is not None and found.keys.setdefault(pull_key, taken) != taken:
            raise PromiseBroken(f"key {pull_key} took {taken} and {found.keys[pull_key]}")
    if ends != found.cursors:
        raise PromiseBroken(f"journals end at {ends}, cursors stand at {found.cursors}")


def _copies(connection: apsw.Connection, known: Mapping[int, Mailbox], found: Found) -> None:
    for key, count, source_seq, detail in connection.execute(
        "SELECT key, count, source_seq, detail FROM again JOIN act ON id = act_id"
    ):
        mailbox = known[key >> schema.SEQ_BITS]
        copies = found.copies.setdefault(detail, {})
        copies[Range(mailbox, source_seq, count)] = key & schema.SEQ_MASK
