"""How a store becomes another: what it holds as rows of a neutral form, and how far that has come.

Each *part* of a store is a table of rows in an order of their own, the same for every engine. So
two stores hold the same if their rows are the same, and one becomes the other by dropping what it
has too much and putting what it lacks, in any steps, again and again. `store.migration` does that.

A store that takes part in a migration says so in itself. Both have the same ticket:

    source   COPYING, as ever -> SEALED, takes and hands out nothing -> MOVED, so for good
    target   COPYING, takes nothing -> READY, opens with the next commit -> TAKEN, as ever

A source that is not MOVED is the only store of its records that anybody may use. The target is
READY only after that, and goes on being so until it is TAKEN by its first commit. Until then all
can be undone: the target becomes ABANDONED, for good, and then the source is as ever.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import msgspec

from pullstatus.store.values import Act, ActRow, JournalRow, Mailbox, Setting


class Role(enum.Enum):
    """Which end of a migration a store is."""

    SOURCE = "source"
    TARGET = "target"


class Stage(enum.Enum):
    """How far it has come with this end; see above."""

    COPYING = "copying"
    SEALED = "sealed"
    MOVED = "moved"
    READY = "ready"
    TAKEN = "taken"
    ABANDONED = "abandoned"


class Migration(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a store says of the migration that it takes part in, or took.

    Attributes:
        ticket: `TICKET_BYTES` that no other migration has; of both ends.
        peer: name of the other end, as that one tells it.
        unproven: of a target, it may hold what it has taken itself; nothing was put into it yet.
    """

    ticket: bytes
    role: Role
    stage: Stage
    peer: str
    unproven: bool = False


# -- the rows: of the store, of a mailbox, of what is remembered to know repeats by ----------------


class Secret(msgspec.Struct, frozen=True):
    """What fingerprints of records are keyed with; one row."""

    value: bytes


class Epoch(msgspec.Struct, frozen=True):
    """An epoch of the store, and when it began."""

    number: int
    began_ms: int


class Mark(msgspec.Struct, frozen=True):
    """When something happened last, and where: see `Store.mark`."""

    name: str
    at_ms: int
    place: str


class Standing(msgspec.Struct, frozen=True):
    """How a mailbox stands, as in `Backlog`; `tail - cursor` entries wait.

    Of its mark what is tallied goes along, as tallies do. Segments do not: they are made anew, so
    where it is put nothing has been followed yet but what is purged.
    """

    mailbox: Mailbox
    tail: int
    cursor: int
    handed_out: int
    expired: int
    erased: int
    quarantined: int
    put_back: int
    routed: int
    purged: int
    tallied: int = 0


class Tallied(msgspec.Struct, frozen=True):
    """What was counted of an application in one hour: see `Tally`."""

    sdkappid: int
    series: int
    hour: int
    counts: tuple[int, ...]


class Stored(msgspec.Struct, frozen=True):
    """Entries as they lie in the store: see `store.chunk`.

    Attributes:
        label: by what they came; None in what is older than tickets.
        sound: whether they are what was stored, as far as one look tells.
    """

    mailbox: Mailbox
    first_seq: int
    count: int
    accepted_ms: int
    bounds: bytes
    body: bytes
    label: bytes | None
    sound: bool


class SetAside(Stored, frozen=True):
    """Entries that were found damaged, kept as they were."""


class Copied(msgspec.Struct, frozen=True):
    """A range that is not there for the first time: see `Again`."""

    mailbox: Mailbox
    first_seq: int
    act_id: int
    count: int
    source_seq: int


class Hand(msgspec.Struct, frozen=True):
    """A reader of a mailbox: see `ReaderState`.

    Attributes:
        page: the entries of the page in hand if it is `kept`; None when those are damaged.
    """

    mailbox: Mailbox
    name: str
    at_ms: int
    acked_seq: int
    first_seq: int
    count: int
    taken_ms: int
    given: int
    kept: bool = False
    page: list[bytes] | None = None


class Batch(msgspec.Struct, frozen=True):
    """What a batch is known by when it comes again: see `RepeatKey`."""

    scope: str
    key: str
    digest: bytes
    accepted: int
    accepted_ms: int


class Prints(msgspec.Struct, frozen=True):
    """What records that were accepted together are known by when they come again.

    Attributes:
        keys: 16 bytes of each, under the store's `Secret`; see `store.sqlite.fingerprints`.
    """

    accepted_ms: int
    keys: bytes


class Nonce(msgspec.Struct, frozen=True):
    """What must not come twice: see `Once`."""

    sdkappid: int
    nonce: str
    until_ms: int


class Names(msgspec.Struct, frozen=True):
    """A block of names of sends: see `Naming`. Equal ones are one."""

    accepted_ms: int
    sdkappid: int
    slots: tuple[int, ...]
    body: bytes


Row: TypeAlias = (
    Secret
    | Epoch
    | Setting
    | ActRow
    | Mark
    | Standing
    | Tallied
    | Stored
    | SetAside
    | JournalRow
    | Copied
    | Hand
    | Batch
    | Prints
    | Nonce
    | Names
)
Part: TypeAlias = type[Row]
Key: TypeAlias = tuple[Any, ...]

_KEYS: Final[dict[type, tuple[str, ...]]] = {
    Secret: (),
    Epoch: ("number",),
    Setting: ("name",),
    ActRow: ("act_id",),
    Mark: ("name",),
    Standing: ("mailbox",),
    Tallied: ("sdkappid", "series", "hour"),
    Stored: ("mailbox", "first_seq"),
    SetAside: ("mailbox", "first_seq"),
    JournalRow: ("mailbox", "first_seq"),
    Copied: ("mailbox", "first_seq", "act_id"),
    Hand: ("mailbox", "name"),
    Batch: ("scope", "key"),
    Prints: ("accepted_ms", "keys"),
    Nonce: ("sdkappid", "nonce"),
    Names: ("accepted_ms", "sdkappid", "slots", "body"),
}
OF_MAILBOXES: Final[tuple[Part, ...]] = (Stored, SetAside, JournalRow, Copied, Hand)
OF_APPLICATIONS: Final[tuple[Part, ...]] = (Standing, Tallied)
OF_THE_STORE: Final[tuple[Part, ...]] = (Secret, Epoch, Setting, ActRow, Mark, *OF_APPLICATIONS)
REMEMBERED: Final[tuple[Part, ...]] = (Batch, Prints, Nonce, Names)


STEP_ROWS_MAX: Final = 2000
STEP_BYTES_MAX: Final = 4 * 1024 * 1024  # of what is large in it, but for that of one row
PRINTS_WEIGH: Final = 16  # times their bytes: each key of them is a row of its own in an index


def weight(row: Row) -> int:
    """About how many bytes a row takes, if it may take many."""
    if isinstance(row, (Stored, Names)):
        return len(row.body)
    if isinstance(row, Prints):
        return PRINTS_WEIGH * len(row.keys)
    if isinstance(row, Hand) and row.page is not None:
        return sum(map(len, row.page))
    return 0


def key_of(row: Row) -> Key:
    """By what a row is known in its part, and by which those are ordered.

    Texts are ordered by their code points.
    """
    return tuple(getattr(row, name) for name in _KEYS[type(row)])


@runtime_checkable
class Transfer(Protocol):
    """What a store offers beside its verbs if it can be one end of a migration.

    Each raises what the verbs of a store do.

    Attributes:
        name: its URL, without what is secret in it: the same whoever opens it.
    """

    @property
    def name(self) -> str:
        """See above."""
        ...

    async def migration(self) -> Migration | None:
        """The migration that it takes part in, as that stands; None: in none."""
        ...

    async def enter(
        self, migration: Migration | None, *, expected: Migration | None, act: Act | None = None
    ) -> bool:
        """Say how it takes part from now on, if it does as expected; returns whether it did.

        In one commit with the act. Whatever commits after that obeys it: through whichever door,
        and whenever that was opened. A target is filled, and made READY, by nobody but the end that
        has said last that it is COPYING.
        """
        ...

    async def rows(
        self, part: Part, after: Key | None = None, mailboxes: Sequence[Mailbox] = ()
    ) -> Sequence[Row]:
        """A step of a part, in order, from behind the row with the key `after`; none: it ends.

        Of `STEP_ROWS_MAX` rows at most, which weigh `STEP_BYTES_MAX` or little more. Each step is
        read of its own moment.

        Args:
            mailboxes: in order; for a part of `OF_MAILBOXES`, and no others are read.
        """
        ...

    async def replace(self, part: Part, drop: Sequence[Row], put: Sequence[Row]) -> None:
        """Drop rows by their keys, then put others in; all of them or none. Again: the same.

        A mailbox that is dropped goes with all that is in it.

        Raises:
            StoreRefused: this is no target that is being filled.
        """
        ...


class End(Transfer, Protocol):
    """One end of a migration, opened for it."""

    async def close(self) -> None:
        """See `Store.close`."""
        ...
