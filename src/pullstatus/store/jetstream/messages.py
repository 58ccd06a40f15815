"""What messages hold: bytes of values, and back. Pure.

    op (16 bytes) | form (1) | MessagePack of one of these values | XXH3 of that and its subject

The op is that of the write: all messages of one write begin alike. The checksum is keyed with the
subject, so a message proves that it lies where it was put.

Of commits each names the one before, so that a hole is seen; of chunks their numbers show it.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, TypeVar, cast

import msgspec
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from pullstatus.errors import StoreCorrupt, StoreDamaged, StoreRefused
from pullstatus.store import chunk
from pullstatus.store.jetstream.wire import OP_BYTES, Message
from pullstatus.store.segments import Array, Index, Segment
from pullstatus.store.texts import decoded, encoded
from pullstatus.store.values import NO_TICKET, Followed, JournalRow, Mailbox, Naming, Outcome
from pullstatus.store.verbs.state import State, key_of, slot
from pullstatus.store.verbs.tables import ChunkRow, KeyedRow, ReaderRow, Recalled

FORM: Final = 1
MARKED_FORM: Final = 2  # of commits that tell marks: who does not know them would lose them
PART_BYTES_MAX: Final = 512 << 10  # of a body in one message: a server takes 1 MiB by default

PRINTS_MAX: Final = 10_000  # fingerprints in one message
NAMINGS_MAX: Final = 8  # blocks of names in one message: who looks for one reads them all

_HEAD_BYTES: Final = OP_BYTES + 1
_PROOF_BYTES: Final = 8


class Value(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a message holds."""


T = TypeVar("T", bound=Value)


def sealed(op: bytes, subject: str, value: Value) -> bytes:
    """A message's bytes."""
    form = MARKED_FORM if isinstance(value, Commit) and value.marked else FORM
    told = op + bytes((form,)) + _encoder.encode(value)
    return told + _proof(subject, told)


def opened(message: Message, held: type[T]) -> T:
    """What a message holds.

    Raises:
        StoreDamaged: it is not what was put there.
        StoreRefused: a later version has written it.
    """
    if not is_whole(message):
        raise StoreDamaged(_DAMAGED.format(message.sequence, message.subject))
    if message.data[OP_BYTES] not in (FORM, MARKED_FORM):
        raise StoreRefused("a later version of pullstatus has written to this store: use that")
    try:
        return _decoder(held).decode(message.data[_HEAD_BYTES:-_PROOF_BYTES])
    except msgspec.MsgspecError as error:
        raise StoreDamaged(_DAMAGED.format(message.sequence, message.subject)) from error


def is_whole(message: Message) -> bool:
    """Whether a message is what was put there."""
    told, proof = message.data[:-_PROOF_BYTES], message.data[-_PROOF_BYTES:]
    return len(told) >= _HEAD_BYTES and _proof(message.subject, told) == proof


_DAMAGED: Final = (
    "message {} on {} is not what was written, on any node: run `pullstatus audit`, and restore a"
    " backup"
)


def _proof(subject: str, told: bytes) -> bytes:
    return xxh3_64_digest(told, xxh3_64_intdigest(subject.encode()))


_encoder = msgspec.msgpack.Encoder()


def _decoder(held: type[T]) -> msgspec.msgpack.Decoder[T]:
    return cast("msgspec.msgpack.Decoder[T]", _DECODERS[held])


# -- how an application stands ---------------------------------------------------------------------


class Box(Value, frozen=True):
    """How a mailbox stands after a commit.

    A *place* is a sequence of the stream from which on something is the first of its subject.

    Attributes:
        log_at: place of the chunk that begins with `read_from`, or of one before it.
        rows_at: place of the commit with the first journal row that is not purged, or of one
            before it.
        left_ms: when that row was written; 0: there is none.
        pulled_seq, pulled_ms: first number and time of the page that was handed out last.
        anew_from, anew_through: first numbers of the first and the last chunk that was written anew
            and is not purged; 0: none was.
        waits_ms: when what waits at the head was accepted; 0: nothing waits, or it is not known.
        followed, tallied, turn: see `Followed`.
        routing: names the items that are on their way out of it, see `routing`; empty: none are.
    """

    kind: int
    tail: int = 0
    cursor: int = 0
    handed_out: int = 0
    expired: int = 0
    erased: int = 0
    quarantined: int = 0
    put_back: int = 0
    routed: int = 0
    purged: int = 0
    read_from: int = 1
    waiting_bytes: int = -1
    log_at: int = 0
    rows_at: int = 0
    left_ms: int = 0
    pulled_seq: int = 0
    pulled_ms: int = 0
    anew_from: int = 0
    anew_through: int = 0
    routing: bytes = b""
    waits_ms: int = 0
    followed: int = 0
    tallied: int = 0
    turn: int = 0

    @property
    def mark(self) -> Followed:
        """Up to where what is derived of its entries has been."""
        return Followed(max(self.followed, self.purged), max(self.tallied, self.purged), self.turn)

    def state(self, sdkappid: int) -> State:
        """The mailbox, to be changed."""
        mailbox = Mailbox(sdkappid, self.kind)
        place = slot(mailbox)
        return State(
            *(mailbox, place, key_of(place), self.tail, self.cursor, self.handed_out),
            *(self.expired, self.erased, self.quarantined, self.put_back, self.routed),
            *(self.purged, self.read_from, self.waiting_bytes),
        )

    def changed(self, state: State) -> Box:
        """The same as a mailbox stands now."""
        return msgspec.structs.replace(
            self,
            tail=state.tail,
            cursor=state.cursor,
            handed_out=state.handed_out,
            expired=state.expired,
            erased=state.erased,
            quarantined=state.quarantined,
            put_back=state.put_back,
            routed=state.routed,
            purged=state.purged,
            read_from=state.read_from,
            waiting_bytes=state.waiting_bytes,
        )


class Row(Value, frozen=True):
    """A journal row; `log_at`: place of the chunk that its first entry is in, or of one before."""

    kind: int
    first_seq: int
    size: int
    outcome: int
    at_ms: int
    address: bytes
    key: bytes | None
    count_max: int
    proof: bytes
    ticket: bytes
    reader: bytes | None
    log_at: int

    @classmethod
    def of(cls, row: JournalRow, log_at: int) -> Row:
        """As it is stored."""
        return cls(
            *(row.mailbox.holds, row.first_seq, row.count, int(row.outcome), row.at_ms),
            *(encoded(row.address), _encoded_if(row.key), row.count_max, encoded(row.proof)),
            *(row.ticket, _encoded_if(row.reader), log_at),
        )

    def journal_row(self, sdkappid: int, purged: int) -> JournalRow:
        """As it is told, without what is purged of it.

        Raises:
            StoreCorrupt: there is no such outcome.
        """
        try:
            outcome = Outcome(self.outcome)
        except ValueError as error:
            raise StoreCorrupt("the store is damaged: a journal row tells of nothing") from error
        cut = max(0, purged + 1 - self.first_seq)
        return JournalRow(
            *(Mailbox(sdkappid, self.kind), self.first_seq + cut, self.size - cut, outcome),
            *(self.at_ms, decoded(self.address), _decoded_if(self.key), self.count_max),
            *(decoded(self.proof), self.ticket, _decoded_if(self.reader)),
        )


class Note(Value, frozen=True):
    """What became later of a page of a reader: acknowledged, released, or else given again.

    Attributes:
        given: how many times more.
    """

    kind: int
    first_seq: int
    acked_ms: int | None = None
    released_ms: int | None = None
    given: int = 1


class Commit(Value, frozen=True):
    """What one commit did to an application, and how its mailboxes stand after it.

    Attributes:
        previous: sequence of the commit before; 0: it is the first.
        fence: who rests on a setting of this application must know settings up to this revision.
        gate: who commits behind this one must know what the store says of a migration, up to this
            number.
    """

    previous: int
    fence: int
    boxes: list[Box]
    rows: list[Row] = []
    notes: list[Note] = []
    gate: int = 0

    @property
    def marked(self) -> bool:
        """Whether something was derived of any of its entries."""
        return any(box.followed or box.tallied or box.turn for box in self.boxes)


class GuardMessage(Value, frozen=True):
    """What the first commit of an application rests on: as `gate` of those that it has none of."""

    gate: int


# -- chunks ----------------------------------------------------------------------------------------


class ChunkPart(Value, frozen=True):
    """A chunk, or a part of a large one: parts lie one behind the other."""

    first_seq: int
    size: int
    part: int
    parts: int
    accepted_ms: int
    checksum: int
    bounds: bytes
    label: bytes
    body: bytes

    @property
    def last_seq(self) -> int:
        """Number of its last entry."""
        return self.first_seq + self.size - 1


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """A chunk as it is stored.

    Attributes:
        at: its place, or an earlier one.
        sequences: those of its messages, where it was read.
        whole: all of these are what was written; else nothing proves its numbers, and what it holds
            only proves itself.
    """

    row: ChunkRow
    accepted_ms: int
    label: bytes
    at: int
    sequences: tuple[int, ...] = ()
    whole: bool = True

    @property
    def next_seq(self) -> int:
        """First number of the chunk behind it."""
        return self.row.first_seq + self.row.size

    def accepted_at(self, seq: int) -> int:
        """When one of its entries was accepted: another engine may have joined several."""
        if not self.label.startswith(chunk.APART):
            return self.accepted_ms
        origins = chunk.origins(self.label, self.row.size, self.accepted_ms)
        return origins[seq - self.row.first_seq].at_ms

    @property
    def weight(self) -> int:
        """About how many bytes of memory it takes."""
        return 500 + len(self.row.bounds) + len(self.row.body) + len(self.label)


def parts_of(chunk: Chunk) -> list[ChunkPart]:
    """What is stored of a chunk, in order."""
    first_seq, size, checksum, bounds, body = chunk.row
    bodies = [body[at : at + PART_BYTES_MAX] for at in range(0, len(body), PART_BYTES_MAX)] or [b""]
    return [
        ChunkPart(
            *(first_seq, size, part, len(bodies), chunk.accepted_ms),
            *((checksum, bounds, chunk.label) if part == 0 else (0, b"", b"")),
            each,
        )
        for part, each in enumerate(bodies)
    ]


def chunks_of(messages: Sequence[Message]) -> list[Chunk]:
    """The chunks that lie in messages of one subject, without one of which a message is missing."""
    found: list[Chunk] = []
    told: list[tuple[Message, ChunkPart]] = []
    for message in messages:
        part = _part(message)
        if part.part != len(told) or (told and part.first_seq != told[0][1].first_seq):
            told = []
            if part.part:
                continue
        told.append((message, part))
        if len(told) == part.parts:
            found.append(_joined(told))
            told = []
    return found


def chunk_in(messages: Sequence[Message]) -> Chunk:
    """The chunk that lies in these, in order; of one that is missing nothing is told."""
    return _joined([(message, _part(message)) for message in messages])


def _part(message: Message) -> ChunkPart:
    """What a message tells; of one that is damaged what can be read of it, or only its bytes."""
    if is_whole(message):
        return opened(message, ChunkPart)
    try:
        return _decoder(ChunkPart).decode(message.data[_HEAD_BYTES:-_PROOF_BYTES])
    except msgspec.MsgspecError:
        return ChunkPart(0, 0, 0, 1, 0, *_NOTHING, b"", message.data)


def _joined(told: Sequence[tuple[Message, ChunkPart]]) -> Chunk:
    _, first = told[0]
    body = first.body if len(told) == 1 else b"".join(part.body for _, part in told)
    row = ChunkRow(first.first_seq, first.size, first.checksum, first.bounds, body)
    sequences = tuple(message.sequence for message, _ in told)
    whole = all(is_whole(message) for message, _ in told)
    return Chunk(row, first.accepted_ms, first.label, sequences[0], sequences, whole)


def left_of(first_seq: int, size: int, accepted_ms: int, found: Sequence[Chunk]) -> Chunk:
    """What is left of entries that nobody has as they were, as a chunk that proves itself or not.

    Args:
        found: what lies where they lay; of more than one it is not known whose it is.
    """
    sequences = tuple(each for chunk in found for each in chunk.sequences)
    at = sequences[0] if sequences else 1
    if len(found) == 1:
        [chunk] = found
        row = chunk.row
        if not 0 < row.first_seq <= first_seq or chunk.next_seq != first_seq + size:
            row = row._replace(first_seq=first_seq, size=size)
        return Chunk(row, accepted_ms, chunk.label, at, sequences, whole=False)
    row = ChunkRow(first_seq, size, *_NOTHING, b"".join(chunk.row.body for chunk in found))
    return Chunk(row, accepted_ms, b"", at, sequences, whole=False)


_NOTHING: Final = (-1, b"\x01")  # checksum and bounds of what was packed, and proves no entry


# -- rows ------------------------------------------------------------------------------------------


class Taken(Value, frozen=True):
    """A page that was taken, as its key knows it.

    Attributes:
        row_at: place of the commit with its journal row.
        log_at: as of `Row`.
    """

    kind: int
    first_seq: int
    size: int
    at_ms: int
    count_max: int
    row_at: int
    log_at: int

    @property
    def keyed_row(self) -> KeyedRow:
        """What a pull under its key asks."""
        return KeyedRow(self.first_seq, self.size, self.at_ms, self.count_max)


class KeyMessage(Value, frozen=True):
    """The newest page of each kind that a pull key got."""

    key: bytes
    taken: list[Taken]


class ReaderMessage(Value, frozen=True):
    """A reader of a mailbox; without a `row` it is gone.

    Attributes:
        log_at: of the chunk in which the page in hand begins, as of `Row`.
    """

    name: bytes
    row: ReaderRow | None
    log_at: int = 0


class PageMessage(Value, frozen=True):
    """What is kept for a reader or of an operation, or a part of it; each part has a subject."""

    part: int
    parts: int
    page: bytes

    @classmethod
    def of(cls, page: bytes) -> list[PageMessage]:
        """A page in as many as it needs, in order."""
        parts = [page[at : at + PART_BYTES_MAX] for at in range(0, len(page), PART_BYTES_MAX)]
        parts = parts or [b""]
        return [cls(number, len(parts), part) for number, part in enumerate(parts)]


class RepeatMessage(Value, frozen=True):
    """What a batch was answered."""

    scope: bytes
    key: bytes
    digest: bytes
    accepted: int
    at_ms: int

    @property
    def recalled(self) -> Recalled:
        """As it is remembered."""
        return Recalled(self.digest, self.accepted, self.at_ms)


class PrintsMessage(Value, frozen=True):
    """Fingerprints of records that were accepted together, joined."""

    keys: bytes
    at_ms: int

    @classmethod
    def of(cls, keys: Sequence[bytes], at_ms: int) -> list[PrintsMessage]:
        """These in as many as it takes."""
        return [
            cls(b"".join(keys[start : start + PRINTS_MAX]), at_ms)
            for start in range(0, len(keys), PRINTS_MAX)
        ]


class OnceMessage(Value, frozen=True):
    """What must not come twice until then."""

    nonce: bytes
    at_ms: int


class NamesMessage(Value, frozen=True):
    """Names of sends that were registered together: blocks, each with its hashes."""

    sdkappid: int
    at_ms: int
    blocks: list[tuple[bytes, bytes]]

    @classmethod
    def of(cls, sdkappid: int, names: Sequence[Naming], at_ms: int) -> list[NamesMessage]:
        """Blocks in as many as it takes, in order."""
        found: list[NamesMessage] = []
        room = 0
        for each in names:
            packed = array("i", each.slots).tobytes()
            room -= len(packed) + len(each.body)
            if not found or room < 0 or len(found[-1].blocks) == NAMINGS_MAX:
                found.append(cls(sdkappid, at_ms, []))
                room = PART_BYTES_MAX - len(packed) - len(each.body)
            found[-1].blocks.append((packed, each.body))
        return found

    def named(self) -> list[tuple[array[int], bytes]]:
        """The blocks, in order, each with its hashes."""
        return [(array("i", packed), body) for packed, body in self.blocks]


class AgainMessage(Value, frozen=True):
    """A range that is not there for the first time."""

    first_seq: int
    size: int
    source_seq: int
    act_id: int

    def behind(self, purged: int) -> AgainMessage | None:
        """What is left of it once entries up to a number are removed; None: nothing."""
        cut = max(0, purged + 1 - self.first_seq)
        if cut >= self.size:
            return None
        source_seq = self.source_seq + cut
        return AgainMessage(self.first_seq + cut, self.size - cut, source_seq, self.act_id)


# -- what is derived of entries --------------------------------------------------------------------


class Laid(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of a segment: its run, and how many bytes its arrays have."""

    first_seq: int
    count: int
    numbers: int
    sids: int

    @classmethod
    def of(cls, segment: Segment) -> Laid:
        """That of a segment."""
        sizes = len(segment.numbers), len(segment.sids)
        return cls(segment.first_seq, segment.count, *sizes)

    @property
    def last_seq(self) -> int:
        """Number of the last entry of the run."""
        return self.first_seq + self.count - 1

    def array(self, index: Index) -> Array:
        """What one of its arrays proves."""
        size = self.sids if index is Index.SID else self.numbers
        return Array(self.first_seq, self.count, index, size)


class SegmentsMessage(Value, frozen=True):
    """The segments of a mailbox, in order."""

    laid: list[Laid]


class ArrayMessage(Value, frozen=True):
    """A part of an array of a segment."""

    data: bytes


class TallyMessage(Value, frozen=True):
    """What was counted of an application in the hours of a day, by hour."""

    hours: dict[int, tuple[int, ...]]


# -- what is of no application ---------------------------------------------------------------------


class CommonCommit(Value, frozen=True):
    """How what is of no application stands after a commit.

    Attributes:
        revision: of the setting that was written last.
        act_id, act_hash: of the newest act.
        gate: number of what the store says of a migration.
    """

    previous: int
    revision: int = 0
    act_id: int = 0
    act_hash: bytes = b""
    gate: int = 0


class GateMessage(Value, frozen=True):
    """What the store says of a migration.

    Attributes:
        number: counts how often that has changed.
        state: see `store.gate`; None: it takes part in none.
        filler: who has said so.
        fenced: whether all applications have a commit behind that.
    """

    number: int = 0
    state: bytes | None = None
    filler: bytes = b""
    fenced: bool = True


class SettingMessage(Value, frozen=True):
    """A setting; without a value it is deleted."""

    name: bytes
    value: bytes | None
    revision: int
    ticket: bytes = NO_TICKET


class ActMessage(Value, frozen=True):
    """An act on record."""

    act_id: int
    actor: bytes
    action: bytes
    reason: bytes
    detail: bytes
    at_ms: int
    ticket: bytes
    proof: bytes


class TicketMessage(Value, frozen=True):
    """The number of the act with this ticket."""

    act_id: int


class MarkMessage(Value, frozen=True):
    """When something happened last; 0: forgotten."""

    name: bytes
    at_ms: int
    place: bytes


class LeaseMessage(Value, frozen=True):
    """Whose turn upkeep is, empty: anybody's; `count` goes up each time that it is written."""

    holder: bytes
    count: int


def _encoded_if(text: str | None) -> bytes | None:
    return None if text is None else encoded(text)


def _decoded_if(stored: bytes | None) -> str | None:
    return None if stored is None else decoded(stored)


# Made while there is one thread: see `nodes`.
_DECODERS: Final[dict[type[Value], msgspec.msgpack.Decoder[Value]]] = {
    held: msgspec.msgpack.Decoder(held) for held in Value.__subclasses__()
}
