"""What goes into a store and what comes out: plain values, no behaviour.

Those that an engine may have to send to another process are encoded as arrays, with the name of
their class where it is one of several.

A *mailbox* is one (sdkappid, kind). Its entries are numbered by `seq`, from 1, without gaps, and
are never renumbered. Times are integer milliseconds of Unix time and come from the caller: a store
has no clock of its own.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

import msgspec

from pullstatus.durations import Durations
from pullstatus.records import Kind
from pullstatus.store.segments import Segment

TICKET_BYTES = 16
NO_TICKET = bytes(TICKET_BYTES)
"""Of an operation about which nobody will ask, and of what is older than tickets."""

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much, while something long goes on."""

ProveSetting = Callable[[str, bytes], object]
"""Told a setting's name and value; raises `StoreCorrupt` if that can't be what was set."""


def any_setting(_name: str, _value: bytes) -> None:
    """Take every setting for what was set."""


Accept = Callable[[Iterable[tuple[str, bytes]]], None]
"""Given the settings of a backup, by name; raises what it is to be refused for."""


def accept_any(settings: Iterable[tuple[str, bytes]]) -> None:
    """Refuse nothing."""


class Aside(enum.IntEnum):
    """What a mailbox may hold that are no records; numbered on from `records.Kind`.

    PARKED: what could not be read of a callback, as it came. PENDING: what was read and waits for
    something else before it becomes a record. Nobody pulls either.
    """

    PARKED = 2
    PENDING = 3

    @property
    def path(self) -> str:
        """What stands in a mailbox's name: "parked"."""
        return self.name.lower()


Contents: TypeAlias = Kind | Aside

_CONTENTS: Final[tuple[Contents, ...]] = (*Kind, *Aside)  # by their numbers


def contents(number: int) -> Contents:
    """What a mailbox of this number holds.

    Raises:
        ValueError: there is none.
    """
    return Aside(number) if number > max(Kind) else Kind(number)


class Mailbox(msgspec.Struct, frozen=True, order=True, array_like=True):
    """One ordered queue of an application: its statuses, its replies, what is parked or pending.

    Attributes:
        holds: the number of its `kind`.
    """

    sdkappid: int
    holds: int

    @property
    def kind(self) -> Contents:
        """What it holds."""
        return _CONTENTS[self.holds]

    @property
    def parked(self) -> bool:
        """Whether it holds what could not be read, and no records."""
        return self.kind is Aside.PARKED

    @property
    def aside(self) -> bool:
        """Whether it holds no records."""
        return self.holds >= Aside.PARKED

    def __str__(self) -> str:
        return f"{self.sdkappid}/{self.kind.path}"


class While(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A condition of an operation: the setting `name` was not written since `revision`.

    It is a setting of the application whose mailbox the operation, or the part of it that carries
    this, is of, as its name says (`setting_owner`): an engine in which applications lie apart has
    whoever changes one commit to that application, too, and to no other. Of another setting, as
    `Pull.while_proven` may be, such an engine looks just before its write, so a change of it comes
    too late for that one write.

    It is checked in the operation's own commit; one that does not hold refuses the operation with
    `SettingChanged`. A setting that was never written is at revision 0, a deleted one at the
    revision of its deletion.
    """

    name: str
    revision: int


def setting_owner(name: str) -> int | None:
    """The application that a setting is of, by its name; None: of none."""
    owner = name.rpartition("/")[2]
    return int(owner) if owner.isascii() and owner.isdigit() and "/" in name else None


class RepeatKey(msgspec.Struct, frozen=True, array_like=True):
    """What makes a batch recognisable when its sender repeats it.

    `scope` keeps senders apart, and applications; `key` is the sender's own, `digest` (16 bytes) is
    of the request's body: the same key with another digest is a mistake of the sender
    (`KeyReused`).
    """

    scope: str
    key: str
    digest: bytes


class Fingerprints(msgspec.Struct, frozen=True, array_like=True):
    """What makes single records recognisable when their sender repeats them in any batch.

    `items` runs parallel to the entries of an `Append`: (the record's own time in Unix seconds, or
    below zero another number of 48 bits that is near those of its neighbours; 16-byte digest). A
    repeat has the same. Behind a digest others of 16 bytes may stand: where the record is new it is
    known by these, too, from then on. `scope` keeps senders apart, and applications.
    """

    scope: str
    items: list[tuple[int, bytes]]


class Chunk(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Entries packed together, without a place yet: see `store.chunk`."""

    count: int
    bounds: bytes
    body: bytes


class Append(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """Put `entries` (encoded records, in order) at the tail of `mailbox`, all or none.

    Attributes:
        entries: any bytes, but not none, and not a single blank: these stand for what was erased.
        while_set: refuse it when this no longer holds.
        ticket: what this operation is known by, `TICKET_BYTES` that no other has; stored with what
            it wrote.
        packed: entries that come before `entries`, on their way to the store: a caller has none.
    """

    mailbox: Mailbox
    entries: list[bytes]
    at_ms: int
    repeat_key: RepeatKey | None = None
    fingerprints: Fingerprints | None = None
    while_set: While | None = None
    ticket: bytes = NO_TICKET
    packed: list[Chunk] = []

    @property
    def count(self) -> int:
        """How many entries it has."""
        return len(self.entries) + sum(each.count for each in self.packed)


class Park(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """Append records, and put aside what could not be read beside them, in one commit.

    Attributes:
        records: what could be read; no entries if nothing could.
        mailbox: where the rest goes: that of the same application's parked or pending items.
        entries, fingerprints: the rest, as in `Append`; without fingerprints all of it is new.
        items_max, bytes_max: how many items may wait there, and of how many bytes. Of more the
            oldest leave as `EXPIRED`, but never the newest.
    """

    records: Append
    mailbox: Mailbox
    entries: list[bytes]
    fingerprints: Fingerprints | None
    items_max: int
    bytes_max: int


class PutAside(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """What a `Park` came to: how many records, and items, are new; and how many items left."""

    records: int
    items: int
    expired: int


class Once(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What must not come twice from one application, and until when."""

    nonce: str
    until_ms: int


class Reader(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A consumer that acknowledges its pages, so that one that gets lost on its way comes again.

    Attributes:
        name: by which the store knows it, within its mailbox.
        ack: first number of the page that it acknowledges; None: it acknowledges nothing.
    """

    name: str
    ack: int | None = None


class Pull(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """Take up to `count_max` entries from the head of `mailbox`.

    Attributes:
        count_max: 0 only with a reader's acknowledgement: acknowledge, and take nothing.
        key: the caller's Idempotency-Key; the same key gets the same page again for
            `limits.PULL_KEY_S`.
        proof: what the request was proven by, for the journal.
        once: refuse it when this came before.
        while_set: refuse it when this no longer holds.
        while_proven: the same of what the request was proven by, if that is not the application's.
        keyed_after: for each kind, in their order, the number of the last entry whose page `key`
            or `reader` does not bring back; empty: they bring back every page.
        ticket: as that of `Append`.
        reader: who asks, if it acknowledges; never together with `key`. See `store.readers` for
            what it gets.
    """

    mailbox: Mailbox
    count_max: int
    at_ms: int
    address: str = ""
    key: str | None = None
    proof: str = ""
    once: Once | None = None
    while_set: While | None = None
    keyed_after: tuple[int, ...] = ()
    ticket: bytes = NO_TICKET
    reader: Reader | None = None
    while_proven: While | None = None

    @property
    def conditions(self) -> list[While]:
        """Whatever it rests on."""
        return [each for each in (self.while_set, self.while_proven) if each is not None]

    @property
    def leaves_trace(self) -> bool:
        """Whether it is known of afterwards even if it finds nothing."""
        return self.key is not None or self.once is not None or self.reader is not None

    def former(self, kind: Contents) -> int:
        """The number of the last entry of this kind that was a former owner's."""
        return self.keyed_after[kind] if self.keyed_after else 0


class Page(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """What a pull took: one contiguous range of a mailbox.

    Attributes:
        first_seq: number of its first entry; 0 when the page is empty.
        data: the encoded records joined by commas.
        waiting: entries left after this pull.
        repeated: the page was handed out before, under the same key or to the same reader.
        given: how many times it was handed out to its reader; 1 for every other page.
    """

    first_seq: int
    count: int
    data: bytes
    waiting: int
    repeated: bool = False
    given: int = 1


class Outcome(enum.IntEnum):
    """Why a range of entries left the head of its mailbox.

    PULLED: handed out. EXPIRED: waited longer than its application's limit. ERASED: an operator
    removed it. QUARANTINED: stored, but not what was stored; kept, never handed out. PUT_BACK: a
    copy of it is at the tail. ROUTED: it went to another application. Of what is parked, PULLED: it
    was read at last.
    """

    PULLED = 0
    EXPIRED = 1
    ERASED = 2
    QUARANTINED = 3
    PUT_BACK = 4
    ROUTED = 5


class Act(msgspec.Struct, frozen=True, array_like=True):
    """What an operator does, for the record: its row is in the commit of what it did.

    One act may take several operations, of several mailboxes; the first that changes anything puts
    it on record, and the others find it by its ticket.

    Attributes:
        actor: who, by the name that the machine knows.
        action: what, in the words of the command.
        reason: why, if it was asked for.
        detail: JSON: to what. No telephone number, no text of a record, no key, no secret.
        ticket: `TICKET_BYTES` that no other act has.
    """

    actor: str
    action: str
    reason: str
    detail: str
    at_ms: int
    ticket: bytes


class Discard(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Let entries leave the head of `mailbox` without being handed out, up to a bound.

    Attributes:
        outcome: why; `EXPIRED` or `ERASED`.
        accepted_before_ms: only entries accepted before that; None: whenever they were.
        while_set: refuse it when this no longer holds.
        ticket: as that of `Append`.
        act: whose doing it is; None: nobody's, as when time has passed.
        through: only entries up to this number; None: whatever theirs is.
    """

    mailbox: Mailbox
    outcome: Outcome
    at_ms: int
    accepted_before_ms: int | None = None
    while_set: While | None = None
    ticket: bytes = NO_TICKET
    act: Act | None = None
    through: int | None = None


class Release(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Take the page in hand from a reader, as if it had acknowledged it.

    With another page in its hand nothing is done: the reader has moved on.

    Attributes:
        name: which reader of `mailbox`.
        first_seq: number of the first entry of the page.
        act: whose doing it is, on record if the reader has that page in hand.
        while_set: refuse it when this no longer holds.
    """

    mailbox: Mailbox
    name: str
    first_seq: int
    at_ms: int
    act: Act
    while_set: While | None = None


class Redeliver(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Append marked copies of entries at the tail of their mailbox: a step of an act.

    An act copies an entry once: what it has copied already, by this step or another, is passed
    over. So a step may be repeated, and an act be gone on with by whoever has its ticket.

    Attributes:
        ranges: (first seq, count) of entries that have left; copied in this order.
        at_ms: when the copies are accepted.
        act: whose step it is; marks the copies.
        while_set: refuse it when this no longer holds.
        ticket: as that of `Append`.
    """

    mailbox: Mailbox
    ranges: list[tuple[int, int]]
    at_ms: int
    act: Act
    while_set: While | None = None
    ticket: bytes = NO_TICKET


class Unpark(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Let parked or pending items leave from the head, and store what becomes of them.

    Attributes:
        mailbox: of parked or pending items.
        first_seq: number of the first of them; refused when another one is at the head.
        outcomes: what becomes of each, in order. PULLED: what it says is in `records`. PUT_BACK: a
            copy goes to the tail, so that what is behind it can leave. ROUTED: it goes to another
            application, in `records` or `aside`. ERASED, EXPIRED, or QUARANTINED.
        records: what could be read of them, for other mailboxes.
        back: the copies of those that are put back, in order.
        at_ms: when.
        act: whose doing it is; None: nobody's, as of what is pending.
        while_set: refuse it when this no longer holds, or when that of one of `records` or `aside`
            does not.
        ticket: as that of `Append`.
        aside: what can't be read and goes to another application, which parks it.
    """

    mailbox: Mailbox
    first_seq: int
    outcomes: list[Outcome]
    records: list[Append]
    back: list[bytes]
    at_ms: int
    act: Act | None
    while_set: While | None = None
    ticket: bytes = NO_TICKET
    aside: list[Park] = []


class Change(msgspec.Struct, frozen=True, array_like=True):
    """Set the setting `name` if its value is still `expected` (None: absent).

    Attributes:
        value: the new one; None deletes it.
        revision: also only if it was not written since this revision; None: whenever it was.
    """

    name: str
    value: bytes | None
    expected: bytes | None
    revision: int | None = None


class Followed(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The mark of a mailbox: up to which entry what is derived from entries has been derived.

    Attributes:
        through: number of the last entry that is in segments.
        tallied: of the last that is in tallies; above `through` only while segments are made anew.
        turn: one more with each step that erased something, and each `Unfollow`: what was read
            before is not what there is.
    """

    through: int = 0
    tallied: int = 0
    turn: int = 0


class Span(msgspec.Struct, frozen=True, gc=False):
    """The run of a segment."""

    first_seq: int
    count: int


class Tally(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What was counted of an application in one hour.

    A store adds up, and does not know what: that is `mailbox.tallies`.

    Attributes:
        series: what is counted: the number of a mailbox's kind, or another one beyond those.
        hour: any integer; later ones are higher.
        counts: as many as there are.
    """

    series: int
    hour: int
    counts: tuple[int, ...]


class Follow(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """Keep what was derived of entries of `mailbox`, and move its mark, as one.

    Attributes:
        expected: the mark as it was when they were read.
        through: where it goes: number of the last of them.
        segment: takes the place of all that lie within it, and ends at `through`; None: nothing is
            to be found by them.
        tallies: what they add, of those behind `expected.tallied`.
        ticket: as that of `Append`.
    """

    mailbox: Mailbox
    expected: Followed
    through: int
    segment: Segment | None
    tallies: list[Tally]
    ticket: bytes = NO_TICKET


class Unfollow(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """Drop the segments of `mailbox`, and tallies that its entries still tell, as one.

    Attributes:
        expected: the mark as it was when it was found out what they tell.
        tallied: number of the last entry whose hour is not told by what is left of the mailbox.
        from_hour: from which hour on they tell all; None: no tally is dropped.
        ticket: as that of `Append`.
    """

    mailbox: Mailbox
    expected: Followed
    tallied: int
    from_hour: int | None
    ticket: bytes = NO_TICKET


class Naming(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A block of names of sends, to be found by any of its hashes.

    A store does not know what is in it: that is `mailbox.names`.

    Attributes:
        slots: the hashes, signed numbers of 32 bits; in any order, and one may be there twice.
    """

    slots: list[int]
    body: bytes


class Named(msgspec.Struct, frozen=True, gc=False):
    """A block of names as it is found: who registered it, and what was kept.

    Attributes:
        slots: all its hashes, as they were given.
    """

    sdkappid: int
    slots: list[int]
    body: bytes


class Count(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """Add to tallies of an application, and keep names of its sends, once under its key.

    Attributes:
        tallies: of series of their own; those of a mailbox's kind are its followers'.
        repeat_key: the same one again adds nothing; None: it adds each time.
        while_set: refuse it when this no longer holds.
        ticket: as that of `Append`.
        names: blocks of names.
        anew: each of the tallies stands for one that is damaged, or not there; of what can be read
            nothing changes.
        while_followed: the marks of mailboxes when the tallies were made, `Followed()` of one that
            there was not; nothing is added when one has moved.
    """

    sdkappid: int
    tallies: list[Tally]
    at_ms: int
    repeat_key: RepeatKey | None = None
    while_set: While | None = None
    ticket: bytes = NO_TICKET
    names: list[Naming] = []
    anew: bool = False
    while_followed: list[tuple[Mailbox, Followed]] = []


class Run(msgspec.Struct, frozen=True, gc=False):
    """Entries that lie together, as far as they are what was stored.

    Attributes:
        first_seq, count: of all that lie there.
        newest_ms: when the newest of them was accepted.
        seqs: of those that are sound and were not erased, in order.
        times: when each of these was accepted.
        data: these, joined by commas.
        lost: when each of the others was accepted, in order.
    """

    first_seq: int
    count: int
    newest_ms: int
    seqs: Sequence[int]
    times: Sequence[int]
    data: bytes
    lost: Sequence[int] = ()


class Erased(msgspec.Struct, frozen=True):
    """How many entries were erased: those that waited, and those that had left.

    Attributes:
        not_counted: it was to erase what is counted, and not all of it is, so it has ended.
    """

    waiting: int
    left: int
    not_counted: bool = False


class Backlog(msgspec.Struct, frozen=True):
    """How a mailbox stands. Every count is of entries, since the mailbox exists.

    accepted = waiting + handed_out + expired + erased + quarantined + put_back + routed, always.

    Attributes:
        oldest_ms: when the oldest entry that waits was accepted; None when none does.
        last_pull_ms: when an entry was handed out last; None when that is no longer in the journal.
        followed: its mark, never below `purged`.
    """

    mailbox: Mailbox
    accepted: int
    handed_out: int
    waiting: int
    expired: int = 0
    erased: int = 0
    quarantined: int = 0
    put_back: int = 0
    routed: int = 0
    purged: int = 0
    oldest_ms: int | None = None
    last_pull_ms: int | None = None
    followed: Followed = Followed()


class Sums(msgspec.Struct, frozen=True):
    """How several mailboxes stand together: each count of a `Backlog`, summed.

    Attributes:
        oldest_ms: when the oldest entry that waits in any of them was accepted; None when none
            does.
        followed: entries up to their marks.
    """

    oldest_ms: int | None = None
    mailboxes: int = 0
    accepted: int = 0
    handed_out: int = 0
    waiting: int = 0
    expired: int = 0
    erased: int = 0
    quarantined: int = 0
    put_back: int = 0
    routed: int = 0
    followed: int = 0


class Entry(msgspec.Struct, frozen=True):
    """One stored item, whether it was handed out or waits; `ticket`: of what appended it."""

    seq: int
    accepted_ms: int
    data: bytes
    ticket: bytes = NO_TICKET


class JournalRow(msgspec.Struct, frozen=True):
    """What became of one range: a row for each, written in the commit that moved the cursor.

    Attributes:
        ticket: of the operation that moved it.
        reader: the name of the reader that was handed it; None: of a pull without.
        given: how many times it was handed out to its reader.
        acked_ms, released_ms: when its reader acknowledged it, or it was taken from its hand.
    """

    mailbox: Mailbox
    first_seq: int
    count: int
    outcome: Outcome
    at_ms: int
    address: str
    key: str | None
    count_max: int
    proof: str
    ticket: bytes = NO_TICKET
    reader: str | None = None
    given: int = 1
    acked_ms: int | None = None
    released_ms: int | None = None

    @property
    def pull_id(self) -> str:
        """The name of this pull for people, without its epoch."""
        return pull_id(self.mailbox, self.first_seq)

    @property
    def in_hand(self) -> bool:
        """Whether its reader gets it again at the next pull."""
        return self.reader is not None and self.acked_ms is None and self.released_ms is None


class ReaderState(msgspec.Struct, frozen=True):
    """How a reader stands that was handed something.

    Attributes:
        kept: the page in hand has outlived the retention of its mailbox: it is kept for this reader
            alone, and its journal row is no more.
        first_seq, count: the page in hand; 0 when none is.
        taken_ms: when that was taken.
        given: how many times it was handed out.
        acked_seq: first number of the page acknowledged last, or taken from its hand; 0: none was.
        at_ms: when it was handed something, or acknowledged it, last.
    """

    mailbox: Mailbox
    name: str
    kept: bool = False
    first_seq: int = 0
    count: int = 0
    taken_ms: int = 0
    given: int = 0
    acked_seq: int = 0
    at_ms: int = 0

    @property
    def pull_id(self) -> str | None:
        """The name of the pull that took the page in hand, without its epoch."""
        return pull_id(self.mailbox, self.first_seq) if self.first_seq else None


class InHand(msgspec.Struct, frozen=True):
    """Pages that readers have and have not acknowledged: how many, and since when the oldest is."""

    pages: int
    oldest_ms: int | None


class Totals(msgspec.Struct, frozen=True):
    """How the whole store stands: its mailboxes by what they hold, and pages in readers' hands.

    Attributes:
        worst: the mailboxes that were asked for, in order of mailbox.
    """

    of: Mapping[Contents, Sums]
    in_hand: InHand
    worst: Sequence[Backlog] = ()


class Again(msgspec.Struct, frozen=True):
    """A range that is not there for the first time: copies, or what a restore brought back."""

    first_seq: int
    count: int
    source_seq: int
    act_id: int


class ActRow(msgspec.Struct, frozen=True):
    """An act on record.

    Attributes:
        act_id: its number there: they are numbered in order, from 1.
        hash: `HASH_BYTES` that stand for it and all before it; see `store.acts`.
    """

    act_id: int
    act: Act
    hash: bytes


class AuditReport(msgspec.Struct, frozen=True):
    """What an audit saw: how every mailbox stands, and all that is wrong.

    It proves a store against itself. Whether that is the newest state of it is for whoever reads
    this to judge; so it says what time it seems to be in there.

    Attributes:
        epoch: 1, and one more with every restore.
        newest_ms: when the newest entry came or left; None if none ever did.
        log: whether there was a log beside the file.
        served_ms: when a server last began with this file; None if none ever did, or the mark that
            it leaves was not taken along.
    """

    mailboxes: list[Backlog]
    findings: list[Finding]
    epoch: int = 0
    newest_ms: int | None = None
    log: bool = False
    served_ms: int | None = None


class Finding(msgspec.Struct, frozen=True):
    """Something an audit found wrong. `mailbox` is None when it concerns the whole store."""

    mailbox: Mailbox | None
    problem: str


class PullName(NamedTuple):
    """What the name of a pull says."""

    mailbox: Mailbox
    first_seq: int
    epoch: int


def pull_id(mailbox: Mailbox, first_seq: int, epoch: int = 1) -> str:
    """The name of the pull that took `first_seq` first: unique, since no entry leaves twice.

    After a restore the same numbers are given to other entries, so the epoch is in the name, but
    for the first one.
    """
    name = f"{mailbox.sdkappid}-{int(mailbox.kind)}-{first_seq}"
    return name if epoch == 1 else f"{name}-{epoch}"


def parse_pull_id(text: str) -> PullName | None:
    """What a pull's name stands for; None if it is no such name."""
    match = _PULL_ID.fullmatch(text)
    if match is None:
        return None
    mailbox = Mailbox(int(match[1]), Kind(int(match[2])))
    return PullName(mailbox, int(match[3]), int(match[4] or 1))


_PULL_ID = re.compile(r"([0-9]{1,10})-([01])-([0-9]{1,13})(?:-([0-9]{1,6}))?")


class Setting(msgspec.Struct, frozen=True):
    """A named value of the operator's, with the revision that wrote it. `None`: deleted.

    Attributes:
        ticket: of the operation that wrote it.
    """

    name: str
    value: bytes | None
    revision: int
    ticket: bytes = NO_TICKET


class Noted(NamedTuple):
    """When something happened last, and from where."""

    at_ms: int
    place: str = ""


class Engine(msgspec.Struct, frozen=True):
    """Figures of a store's own work, for metrics; counters only grow.

    Attributes:
        commits: commits that wrote something and were synced.
        commit_s: seconds spent in them.
        operations: appends and pulls that shared those commits.
        bytes: size of the store's files now.
        room: whether there is room for more entries.
        durations: of the commits.
        log_bytes: of these, what waits in a log to be folded into the file.
        free_bytes: what is free where these files are; None: there are none of its own.
    """

    commits: int
    commit_s: float
    operations: int
    bytes: int
    room: bool
    durations: Durations
    log_bytes: int = 0
    free_bytes: int | None = None


class Alarm(msgspec.Struct, frozen=True):
    """What somebody is to see to in what keeps a store, which goes on as well as it can.

    Attributes:
        event: what it is, in one of a few words; there is one of each at a time.
        where: names of streams and nodes, and counts; nothing of anybody's.
        reason: what it means, and what to do.
        own: this process has met it; others of the same server may know nothing of it.
    """

    event: str
    where: Mapping[str, str | int]
    reason: str
    own: bool = False


class Health(msgspec.Struct, frozen=True):
    """How the nodes are that keep a store, as of a look some seconds ago.

    Attributes:
        streams: parts of the store, each led by a node.
        down: of these, those without a leader, or whose leader does not reach most of its nodes.
        without_writes: others, whose leader has answered none for a minute; as of this process.
        copies_away: on nodes that cannot be reached, or on none, as theirs was removed.
        copies_behind: others that lack something.
        copies_unproven: on nodes of which nobody knows whether they sync what they acknowledge.
        copies_short: those of a node that lost messages which another one has.
        lag: steps that the copy has yet to take that is furthest behind.
        full: how full the fullest stream or node is, of 1; 0 if none has a bound.
        subjects: of all streams that have a leader; nodes have them in memory.
        mended: messages that one node had damaged or lost and another one had, of this process.
        unanswered: writes that were given up without an answer, of this process.
        alarms: what is to be seen to.
    """

    streams: int = 0
    down: int = 0
    without_writes: int = 0
    copies_away: int = 0
    copies_behind: int = 0
    copies_unproven: int = 0
    copies_short: int = 0
    lag: int = 0
    full: float = 0.0
    subjects: int = 0
    mended: int = 0
    unanswered: int = 0
    alarms: Sequence[Alarm] = ()


class Share(msgspec.Struct, frozen=True):
    """What a process joins a store by that another one of its server has opened.

    Attributes:
        end, table: file descriptors that it inherits: of an end of its own, which whoever has made
            it closes once that is so, and of the table of what waits, which all have.
        sharers: how many share what the store takes at a time.
    """

    end: int
    table: int
    sharers: int


class Watching(Protocol):
    """What `Store.watch` returns."""

    def __call__(self, since_s: float | None = None) -> None:
        """Tell since when, by the monotonic clock, the first of those waits who watch here.

        None: nobody does any more; nothing is told then, and this is not called again.
        """
        ...
