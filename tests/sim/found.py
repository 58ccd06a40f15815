"""What a store holds, as read by looking at its tables and not by asking it.

Knows the stored format and nothing of how it came about. Whatever contradicts itself is refused:
gaps, overlaps, wrong ends, wrong checksums, a memory that differs from the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import apsw
from xxhash import xxh3_64_intdigest

from pullstatus.store import chunk, segments
from pullstatus.store.sqlite import naming, schema
from pullstatus.store.sqlite.blocks import COLUMNS, Row, segment_of
from pullstatus.store.sqlite.states import States
from pullstatus.store.tallies import unpacked
from pullstatus.store.values import Followed, Mailbox, Outcome, contents
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
        marks: of each mailbox, up to where it is followed.
        spans: of each mailbox, first number and count of its segments, in order.
        names: when each block of names was accepted, by its body.
        counted: the hours of which sends were counted.
    """

    kept: dict[Mailbox, list[bytes]] = field(default_factory=dict)
    first: dict[Mailbox, int] = field(default_factory=dict)
    cursors: dict[Mailbox, int] = field(default_factory=dict)
    tails: dict[Mailbox, int] = field(default_factory=dict)
    left: dict[str, Range] = field(default_factory=dict)
    keys: dict[str, Range] = field(default_factory=dict)
    copies: dict[str, dict[Range, int]] = field(default_factory=dict)
    settings: dict[str, bytes | None] = field(default_factory=dict)
    marks: dict[Mailbox, Followed] = field(default_factory=dict)
    spans: dict[Mailbox, list[tuple[int, int]]] = field(default_factory=dict)
    names: dict[bytes, int] = field(default_factory=dict)
    counted: set[int] = field(default_factory=set)

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
    _derived(connection, known, purged, found)
    _names(connection, found)
    return found


SENDS = 99  # a series that no mailbox has


def _names(connection: apsw.Connection, found: Found) -> None:
    """The index must be that of the blocks."""
    hashes: set[Any] = set()
    for number, at_ms, slots, body in connection.execute(
        "SELECT id, accepted_ms, slots, body FROM naming"
    ):
        hashes |= {(slot, number) for slot in naming.slots_of(slots)}
        if found.names.setdefault(body, at_ms) != at_ms:
            raise PromiseBroken("names are there twice")
    if hashes != {*connection.execute("SELECT slot, block FROM name")}:
        raise PromiseBroken("names are not found by their hashes, and by no others")
    for (hour,) in connection.execute("SELECT hour FROM tally WHERE series = ?", (SENDS,)):
        found.counted.add(hour)


def hash_of(entry: bytes) -> int:
    """What stands for an entry in segments here."""
    return xxh3_64_intdigest(entry) >> 16


def _derived(
    connection: apsw.Connection,
    known: Mapping[int, Mailbox],
    purged: Mapping[Mailbox, int],
    found: Found,
) -> None:
    """Segments and tallies must be those of the entries up to the mark, whatever was cut."""
    for number, *mark in connection.execute("SELECT id, followed, tallied, turn FROM mailbox"):
        mailbox = known[number]
        through, tallied = (max(purged[mailbox], each) for each in mark[:2])
        found.marks[mailbox] = Followed(through, tallied, mark[2])
        found.spans[mailbox] = []
    rows: list[Any] = connection.execute(f"SELECT {COLUMNS} FROM segment ORDER BY key").fetchall()
    for row in map(Row._make, rows):
        key, count, *_ = row
        mailbox, first_seq = known[key >> schema.SEQ_BITS], row.first_seq
        spans = found.spans[mailbox]
        if spans and sum(spans[-1]) != first_seq:
            raise PromiseBroken(f"segments of {mailbox} have a gap before {first_seq}")
        spans.append((first_seq, count))
        segment = segment_of(connection, row)
        told = {
            first_seq + (word & 0xFFFF): word >> 16
            for word in segments.words(segment, segments.Index.NUMBER)
        }
        first = max(first_seq, found.first[mailbox])
        entries = found.entries(Range(mailbox, first, first_seq + count - first))
        for seq, entry in enumerate(entries, start=first):
            if told.get(seq) != hash_of(entry):
                raise PromiseBroken(f"entry {seq} of {mailbox} is followed and not found")
    for mailbox, mark in found.marks.items():
        spans = found.spans[mailbox]
        first, end = (spans[0][0], sum(spans[-1]) - 1) if spans else (0, purged[mailbox])
        if end != mark.through or first > purged[mailbox] + 1:
            raise PromiseBroken(f"segments of {mailbox} end at {end}, its mark is {mark}")
        counted = [
            unpacked(counts)[0]
            for (counts,) in connection.execute(
                "SELECT counts FROM tally WHERE sdkappid = ? AND series = ?",
                (mailbox.sdkappid, mailbox.holds),
            )
        ]
        if sum(counted) != mark.tallied:
            raise PromiseBroken(f"{sum(counted)} entries of {mailbox} are counted of {mark}")


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
