"""The rows of an open transaction, as the verbs see them: what an engine says in its own words.

What was written is read from then on, by the same transaction. Numbers of entries are those of the
mailbox that a `State` is of. A *chunk* is known by the number of its first entry, and so is a
journal row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from pullstatus.store.gathering.operations import Forget
from pullstatus.store.readers import Hand
from pullstatus.store.segments import Segment
from pullstatus.store.values import (
    Act,
    Fingerprints,
    Followed,
    JournalRow,
    Mailbox,
    Naming,
    Noted,
    Once,
    RepeatKey,
    Tally,
)
from pullstatus.store.verbs.state import State


class ChunkRow(NamedTuple):
    """A chunk as it is stored; nothing of it is proven yet. `size`: how many entries it has."""

    first_seq: int
    size: int
    checksum: int
    bounds: bytes
    body: bytes


class Recalled(NamedTuple):
    """What is remembered of a batch that came under a key."""

    digest: bytes
    accepted: int
    accepted_ms: int


class KeyedRow(NamedTuple):
    """Of a journal row: what a pull under its key asks."""

    first_seq: int
    size: int
    at_ms: int
    count_max: int


class ReaderRow(msgspec.Struct, frozen=True, gc=False):
    """A reader, but for its mailbox and its name.

    Attributes:
        acked_seq: first number of the page acknowledged last; 0: none was.
        first_seq, count: of the page in hand; 0: none is.
        kept: that page is with the reader, since retention has removed it elsewhere.
    """

    at_ms: int
    acked_seq: int = 0
    first_seq: int = 0
    count: int = 0
    taken_ms: int = 0
    given: int = 0
    kept: bool = False

    @property
    def hand(self) -> Hand:
        """How it stands."""
        return Hand(self.first_seq or None, self.acked_seq or None)


class ActTable(Protocol):
    """The acts on record, within the transaction that is open."""

    def act_number(self, ticket: bytes) -> int | None:
        """The number of the act with this ticket; None if it is not on record."""
        ...

    def newest_act(self) -> tuple[int, bytes] | None:
        """Number and hash of the newest act."""
        ...

    def add_act(self, act_id: int, act: Act, proof: bytes) -> None:
        """Put an act on record, with its hash."""
        ...


class SettingTable(ActTable, Protocol):
    """What is of no application: settings, acts, marks; within the transaction that is open."""

    def setting(self, name: str) -> tuple[bytes | None, int]:
        """Value and revision of a setting, to be compared and set."""
        ...

    def put_setting(self, name: str, value: bytes | None, ticket: bytes) -> None:
        """Write a setting, at a revision above all others."""
        ...

    def note(self, name: str, noted: Noted) -> None:
        """Note when something happened last, unless a later time is noted."""
        ...

    def drop_note(self, name: str) -> None:
        """Forget that."""
        ...


class Tables(SettingTable, Protocol):
    """The rows of one store, within the transaction that is open."""

    # -- mailboxes

    def draft(self, mailbox: Mailbox) -> State | None:
        """A mailbox, to be changed; None if it does not exist.

        What is changed in it is stored with the transaction.
        """
        ...

    def create(self, mailbox: Mailbox) -> State:
        """Make a mailbox that does not exist."""
        ...

    # -- chunks

    def add_chunk(self, state: State, row: ChunkRow, accepted_ms: int, label: bytes) -> None:
        """Store a chunk at the tail; `label`: by what its entries came, see `chunk.label`."""
        ...

    def chunks(self, state: State, first_seq: int) -> Iterator[ChunkRow]:
        """Chunks from `first_seq` on, in order, read as they are asked for."""
        ...

    def bounds(self, state: State, first_seq: int) -> Iterator[tuple[int, int, bytes]]:
        """First number, count and bounds of these, read without their bodies."""
        ...

    def chunk_step(self, state: State, first_seq: int, rows_max: int) -> Sequence[ChunkRow]:
        """As many of these at most, read at once, so that they may be changed."""
        ...

    def chunk_at(self, state: State, seq: int) -> int:
        """First number of the chunk that holds `seq`; `seq` itself when none does."""
        ...

    def lay_in(self, state: State, chunks: int) -> None:
        """Know that the page that is just taken from the head lay in so many chunks."""
        ...

    def first_young(self, state: State, accepted_ms: int) -> int | None:
        """Number of the first entry that waits and was accepted then or later; None: none was."""
        ...

    def change_chunk(self, state: State, row: ChunkRow, *, aside: bool) -> None:
        """Store a chunk anew in its place, or where it was set aside."""
        ...

    def set_aside(self, state: State, first_seq: int, last_seq: int) -> None:
        """Keep a copy of chunks that begin within a range, as they are, unless there is one."""
        ...

    def aside(self, state: State) -> Sequence[ChunkRow]:
        """What was set aside of a mailbox."""
        ...

    # -- the journal

    def add_journal(self, state: State, row: JournalRow) -> None:
        """Store a journal row; `state` is how the mailbox stands after it."""
        ...

    def next_row(self, state: State, first_seq: int) -> int | None:
        """First number of the row behind the one of `first_seq`; None: there is none."""
        ...

    def keyed(self, state: State, pull_key: str) -> KeyedRow | None:
        """The newest row of a mailbox with this key."""
        ...

    def count_given(self, state: State, first_seq: int) -> None:
        """Count in a row that its page was handed out once more."""
        ...

    def note_acked(self, state: State, first_seq: int, at_ms: int) -> None:
        """Note in a row that its page was acknowledged."""
        ...

    def note_released(self, state: State, first_seq: int, at_ms: int) -> None:
        """Note in a row that its page was taken from its reader's hand."""
        ...

    def oldest_rows(self, state: State, rows_max: int) -> Sequence[tuple[int, int, int]]:
        """First number, count and time of the oldest rows."""
        ...

    def cut_row(self, state: State, first_seq: int, count: int) -> None:
        """Have a row tell of so many entries less, from its begin."""
        ...

    # -- readers

    def reader(self, state: State, name: str) -> ReaderRow | None:
        """A reader of a mailbox; None if it was never handed anything, or was forgotten."""
        ...

    def readers(self, state: State) -> Sequence[tuple[str, ReaderRow]]:
        """All of a mailbox, in order of name; there are `limits.READERS_MAX` at most."""
        ...

    def put_reader(self, state: State, name: str, row: ReaderRow) -> None:
        """Store a reader anew; unless its page is `kept`, nothing stays of one that was."""
        ...

    def drop_reader(self, state: State, name: str) -> None:
        """Forget a reader."""
        ...

    def page(self, state: State, name: str) -> bytes:
        """The page that is kept for a reader, as `keep_page` stored it."""
        ...

    def keep_page(self, state: State, name: str, page: bytes) -> None:
        """Keep the page in a reader's hand with the reader."""
        ...

    # -- what is remembered to know repeats by

    def recall(self, sdkappid: int, repeat_key: RepeatKey) -> Recalled | None:
        """What is remembered of a key of an application's; a scope is of one application."""
        ...

    def remember(self, sdkappid: int, repeat_key: RepeatKey, row: Recalled) -> None:
        """Remember a key from now on, whatever was before."""
        ...

    def unseen(self, sdkappid: int, fingerprints: Fingerprints, at_ms: int) -> Sequence[int]:
        """The places of those that are new, in order.

        They are remembered from now on, with what stands behind their digests.
        """
        ...

    def spend(self, sdkappid: int, once: Once, at_ms: int) -> bool:
        """Note what must not come twice; whether it had not come, or its time has passed."""
        ...

    # -- the copies that acts made

    def add_again(
        self, state: State, first_seq: int, count: int, source_seq: int, act_id: int
    ) -> None:
        """Mark a range that is not there for the first time."""
        ...

    def copied(
        self, state: State, act_id: int, first_seq: int, last_seq: int
    ) -> Sequence[tuple[int, int]]:
        """First number and count of what an act has copied and that may reach into a range.

        Of one act no two of these overlap.
        """
        ...

    # -- what is derived of entries

    def followed(self, state: State) -> Followed:
        """The mark of a mailbox; `through` and `tallied` are never below what is purged."""
        ...

    def put_followed(self, state: State, mark: Followed) -> None:
        """Move the mark."""
        ...

    def segments(self, state: State, first_seq: int, last_seq: int) -> Sequence[Segment]:
        """The segments that reach into a range, in order."""
        ...

    def put_segment(self, state: State, segment: Segment) -> None:
        """Keep a segment in place of all that lie within its run."""
        ...

    def drop_segments(self, state: State, through: int | None) -> None:
        """Drop the segments that end by this number; None: all."""
        ...

    def add_tally(self, sdkappid: int, tally: Tally, *, anew: bool) -> None:
        """Add to what was counted of an application in an hour, unless that is damaged.

        Args:
            anew: begin what is damaged, or not there, with this, and leave all else as it is.
        """
        ...

    def drop_tallies(self, sdkappid: int, series: int, from_hour: int) -> None:
        """Drop what was counted in a series from an hour on."""
        ...

    # -- names of sends

    def add_names(self, sdkappid: int, names: Sequence[Naming], at_ms: int) -> None:
        """Keep blocks of names, behind all that are kept."""
        ...

    # -- what operations rest on

    def revision(self, name: str) -> int:
        """The revision of a setting; 0: it was never written. Nobody else changes it meanwhile."""
        ...

    # -- removal

    def remove(self, state: State, through: int) -> None:
        """Remove journal rows up to a number, marks of copies, and chunks that end by it.

        Called before `state.purged` is moved there.
        """
        ...

    def remove_aside(self, state: State, through: int) -> None:
        """Remove what was set aside up to a number."""
        ...

    def forgetters(self, operation: Forget) -> Sequence[Callable[[int], int | None]]:
        """For each kind of what is remembered: drops up to so many of the oldest.

        Returns how many were dropped, and None once there are no more that are old enough.
        """
        ...
