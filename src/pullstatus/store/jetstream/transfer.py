"""The rows of a store's messages in the neutral form of `store.transfer`; `filling` puts them in.

A part is read from its begin to its end, and given in steps. Who goes on where the last step ended
gets what lies there now, of what there was when it began.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final, TypeVar

import apsw
import msgspec

from pullstatus.errors import StoreUnavailable
from pullstatus.store import chunk
from pullstatus.store.jetstream import chunks, meta, routing, snapshots
from pullstatus.store.jetstream.derived import Derived
from pullstatus.store.jetstream.lists import ApplicationStanding, Lists, Notes, act_row, setting_of
from pullstatus.store.jetstream.messages import (
    ActMessage,
    AgainMessage,
    Box,
    Chunk,
    ChunkPart,
    MarkMessage,
    NamesMessage,
    OnceMessage,
    PageMessage,
    PrintsMessage,
    ReaderMessage,
    RepeatMessage,
    SettingMessage,
    Value,
    chunk_in,
    is_whole,
    opened,
)
from pullstatus.store.jetstream.subjects import Layout, Place
from pullstatus.store.jetstream.wire import Bus, Message
from pullstatus.store.texts import decoded, encoded
from pullstatus.store.transfer import (
    STEP_BYTES_MAX,
    STEP_ROWS_MAX,
    Batch,
    Copied,
    Epoch,
    Hand,
    Key,
    Mark,
    Names,
    Nonce,
    Part,
    Prints,
    Row,
    Secret,
    SetAside,
    Standing,
    Stored,
    Tallied,
    key_of,
    weight,
)
from pullstatus.store.values import ActRow, Followed, JournalRow, Mailbox, Setting
from pullstatus.store.verbs import readers, state

LOOKS_MAX: Final = 20  # at an application that is followed meanwhile
HOUR_MAX: Final = (1 << 63) - 1
PRINTS_BYTES_MAX: Final = 4000  # of keys in one row: as many as other engines have in one

T = TypeVar("T", bound=Value)


class Told:
    """What was read of mailboxes beside their rows, by mailbox; the newest part of each.

    Attributes:
        chunks: sequences of the messages of each chunk in the log, by first number; none: it was
            written anew.
        ends: of journal rows: the row and its first number before any purge, by its last number.
        again: the sequence of each range that is a copy, by first number and act.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.chunks: dict[Mailbox, dict[int, tuple[int, ...]]] = {}
        self.ends: dict[Mailbox, dict[int, tuple[JournalRow, int]]] = {}
        self.again: dict[Mailbox, dict[tuple[int, int], int]] = {}


class Reading:
    """One who reads a store in steps."""

    def __init__(self, bus: Bus, layout: Layout) -> None:
        """Nothing is read yet."""
        self.told = Told()
        self._bus = bus
        self._layout = layout
        self._common = layout.common
        self._lists = Lists(bus, layout)
        self._rows: Iterator[Row] = iter(())
        self._reached: tuple[Part, Key | None, tuple[Mailbox, ...]] | None = None
        self._derived = Derived(bus, self._lists)
        self._frozen: tuple[ApplicationStanding, dict[str, Message]] | None = None
        self._tallies: list[Row] = []  # of what is frozen

    def freeze(self, sdkappid: int) -> list[Standing]:
        """Have rows of mailboxes read as of now; returns how they stand.

        Raises:
            StoreUnavailable: others follow them again and again.
        """
        for _ in range(LOOKS_MAX):
            self._frozen = self._lists.moment(sdkappid)
            if self._frozen is None:
                return []
            standing, _rows = self._frozen
            self._tallies = list(self._tallies_of(sdkappid))
            now = self._lists.standing(sdkappid)
            if now is not None and _marks(now) == _marks(standing):
                break  # so these are the tallies of that moment
        else:
            self._frozen = None
            raise StoreUnavailable("what is derived changes again and again; try again")
        return [_stands(standing, box) for box in standing.boxes if box.tail]

    def thaw(self) -> bool:
        """Read as of each step again; whether nothing was removed or written anew meanwhile."""
        frozen, self._frozen = self._frozen, None
        if frozen is None:
            return True
        before, _ = frozen
        now = self._lists.standing(before.sdkappid)
        boxes = {} if now is None else {box.kind: box for box in now.boxes}
        return all(
            box.kind in boxes and _kept(boxes[box.kind]) == _kept(box) for box in before.boxes
        )

    def applications(self) -> list[int]:
        """The numbers of all that have ever committed."""
        return sorted(self._lists.applications())

    def step(self, part: Part, after: Key | None, mailboxes: Sequence[Mailbox]) -> list[Row]:
        """See `Transfer.rows`."""
        boxes = tuple(mailboxes)
        if self._reached != (part, after, boxes) or after is None:
            rows = _PARTS[part](self, boxes)
            self._rows = rows if after is None else (row for row in rows if key_of(row) > after)
        found: list[Row] = []
        size = 0
        for row in self._rows:
            found.append(row)
            size += weight(row)
            if len(found) == STEP_ROWS_MAX or size >= STEP_BYTES_MAX:
                break
        self._reached = (part, key_of(found[-1]) if found else after, boxes)
        return found

    # -- of the store

    def secret(self, _boxes: Sequence[Mailbox]) -> Iterator[Row]:
        yield Secret(meta.read(self._bus, self._layout)[0].secret)

    def epochs(self, _boxes: Sequence[Mailbox]) -> Iterator[Row]:
        for epoch in sorted(meta.read(self._bus, self._layout)[0].epochs):
            yield Epoch(*epoch)

    def settings(self, _boxes: Sequence[Mailbox]) -> Iterator[Row]:
        for message in self._latest(self._common.settings):
            yield setting_of(opened(message, SettingMessage))

    def acts(self, _boxes: Sequence[Mailbox]) -> Iterator[Row]:
        names = self._bus.subjects(self._common.stream, self._common.act("*"))
        ordered = sorted(names, key=lambda name: int(name.rpartition(".")[2]))
        for message in snapshots.latest(self._bus, self._common.stream, ordered):
            yield act_row(opened(message, ActMessage))

    def marks(self, _boxes: Sequence[Mailbox]) -> Iterator[Row]:
        for message in self._latest(self._common.marks):
            told = opened(message, MarkMessage)
            if told.at_ms:
                yield Mark(decoded(told.name), told.at_ms, decoded(told.place))

    def _latest(self, pattern: str) -> Iterator[Message]:
        """The last message of each subject, in the order of what these stand for."""
        stream = self._common.stream
        return snapshots.latest(self._bus, stream, sorted(self._bus.subjects(stream, pattern)))

    def standings(self, _boxes: Sequence[Mailbox]) -> Iterator[Row]:
        found = [
            _stands(each, box) for each in self._lists.standings() for box in each.boxes if box.tail
        ]
        yield from sorted(found, key=key_of)

    def tallied(self, _boxes: Sequence[Mailbox]) -> Iterator[Row]:
        if self._frozen is not None:
            yield from self._tallies
            return
        for sdkappid in self.applications():
            yield from self._tallies_of(sdkappid)

    def _tallies_of(self, sdkappid: int) -> Iterator[Row]:
        for tally in self._derived.tallies(sdkappid, 0, HOUR_MAX):
            yield Tallied(sdkappid, tally.series, tally.hour, tally.counts)

    # -- of mailboxes

    def stored(self, boxes: Sequence[Mailbox]) -> Iterator[Row]:
        for mailbox, place, box, newest in self._standing(boxes):
            told = self.told.chunks[mailbox] = {}
            there = msgspec.structs.replace(box, tail=min(box.tail, self._reach(place, box)))
            for each in chunks.chunks_of_box(self._bus, place, there, box.purged + 1, newest):
                if each.whole or each.sequences:  # not what nobody has, or has not yet
                    told[each.row.first_seq] = each.sequences
                    yield _stored(Stored, mailbox, each)

    def _reach(self, place: Place, box: Box) -> int:
        """Up to which entry there may be any: a store that is being filled has not all yet."""
        newest = self._bus.last(place.stream, place.log(box.kind), leader=True)
        if box.anew_from or (newest is not None and not is_whole(newest)):
            return box.tail
        return 0 if newest is None else opened(newest, ChunkPart).last_seq

    def aside(self, boxes: Sequence[Mailbox]) -> Iterator[Row]:
        for mailbox, place, box, _ in self._standing(boxes):
            names = self._bus.subjects(place.stream, place.bad(box.kind))
            ordered = sorted(names, key=lambda name: int(name.rpartition(".")[2]))
            for message in snapshots.latest(self._bus, place.stream, ordered):
                yield _stored(SetAside, mailbox, self._whole(place, message))

    def _whole(self, place: Place, message: Message) -> Chunk:
        """A chunk on a subject of its own, whose further parts have subjects behind that."""
        parts = opened(message, ChunkPart).parts
        names = [f"{message.subject}.{part}" for part in range(1, parts)]
        return chunk_in([message, *snapshots.latest(self._bus, place.stream, names)])

    def journal(self, boxes: Sequence[Mailbox]) -> Iterator[Row]:
        for mailbox, place, box, newest in self._standing(boxes):
            ends = self.told.ends[mailbox] = {}
            notes = Notes(box.kind)
            for _, commit in snapshots.commits_from(self._bus, place, box.rows_at, newest):
                notes.learn(commit)
            for _, commit in snapshots.commits_from(self._bus, place, box.rows_at, newest):
                for each in commit.rows:
                    last_seq = each.first_seq + each.size - 1
                    if each.kind != box.kind or last_seq <= box.purged:
                        continue
                    row = notes.told(each.journal_row(mailbox.sdkappid, 0))
                    cut = max(0, box.purged + 1 - each.first_seq)
                    row = msgspec.structs.replace(
                        row, first_seq=row.first_seq + cut, count=row.count - cut
                    )
                    ends[last_seq] = row, each.first_seq
                    yield row

    def copied(self, boxes: Sequence[Mailbox]) -> Iterator[Row]:
        for mailbox, place, box, newest in self._standing(boxes):
            told = self.told.again[mailbox] = {}
            found = []
            subject = place.again(box.kind)
            for message in snapshots.all_of(self._bus, place.stream, subject, newest):
                each = opened(message, AgainMessage).behind(box.purged)
                if each is not None:
                    told[each.first_seq, each.act_id] = message.sequence
                    head = mailbox, each.first_seq, each.act_id
                    found.append(Copied(*head, each.size, each.source_seq))
            yield from sorted(found, key=key_of)

    def hands(self, boxes: Sequence[Mailbox]) -> Iterator[Row]:
        for mailbox, place, box, _ in self._standing(boxes):
            found = [
                opened(message, ReaderMessage)
                for message in self._beside(place, place.readers(box.kind))
            ]
            for told in sorted(found, key=lambda each: decoded(each.name)):
                row = told.row
                if row is None:
                    continue
                name = decoded(told.name)
                hand = Hand(
                    *(mailbox, name, row.at_ms, row.acked_seq, row.first_seq, row.count),
                    *(row.taken_ms, row.given),
                )
                if row.kept:
                    page = self._page(place, box.kind, name)
                    entries = readers.unsealed(place_of(mailbox, row.first_seq), page)
                    hand = msgspec.structs.replace(hand, kept=True, page=entries)
                yield hand

    def _page(self, place: Place, kind: int, name: str) -> bytes:
        subject = place.page(kind, name)
        parts = [
            opened(message, PageMessage)
            for pattern in (subject, f"{subject}.*")
            for message in self._beside(place, pattern)
        ]
        parts.sort(key=lambda part: part.part)
        return b"".join(part.page for part in parts[: parts[0].parts]) if parts else b""

    def _beside(self, place: Place, pattern: str) -> Iterator[Message]:
        """The last message of each subject of a pattern."""
        if self._frozen is None:
            names = self._bus.subjects(place.stream, pattern)
            yield from snapshots.latest(self._bus, place.stream, names)
            return
        begin = pattern.removesuffix("*")
        for subject, message in self._frozen[1].items():
            if subject == pattern or (begin != pattern and subject.startswith(begin)):
                yield message

    def _standing(self, boxes: Sequence[Mailbox]) -> Iterator[tuple[Mailbox, Place, Box, int]]:
        for mailbox in boxes:
            standing = (
                self._lists.standing(mailbox.sdkappid) if self._frozen is None else self._frozen[0]
            )
            box = None if standing is None else standing.box(mailbox.holds)
            if standing is not None and box is not None:
                yield mailbox, standing.place, box, standing.newest

    # -- what is remembered to know repeats by

    def batches(self, _boxes: Sequence[Mailbox]) -> Iterator[Row]:
        def rows() -> Iterator[Batch]:
            for message in self._remembered("repeat.*", self._common.moved_batches):
                told = opened(message, RepeatMessage)
                if decoded(told.scope) == routing.SCOPE:  # done with, or it would not be sealed
                    continue
                yield Batch(
                    *(decoded(told.scope), decoded(told.key), told.digest),
                    *(told.accepted, told.at_ms),
                )

        return _ordered(rows(), Batch)

    def prints(self, _boxes: Sequence[Mailbox]) -> Iterator[Row]:
        def rows() -> Iterator[Prints]:
            own = [
                (stream, f"{self._layout.name}.{number}.*.print.*")
                for number, stream in enumerate(self._streams())
            ]
            for stream, pattern in [*own, (self._common.stream, self._common.moved_rows)]:
                newest = self._bus.newest(stream)
                for message in snapshots.all_of(self._bus, stream, pattern, newest):
                    told = opened(message, PrintsMessage)
                    for start in range(0, len(told.keys), PRINTS_BYTES_MAX):
                        yield Prints(told.at_ms, told.keys[start : start + PRINTS_BYTES_MAX])

        return _ordered(rows(), Prints)

    def names(self, _boxes: Sequence[Mailbox]) -> Iterator[Row]:
        def rows() -> Iterator[Names]:
            for number, stream in enumerate(self._streams()):
                subject, newest = self._layout.names(number), self._bus.newest(stream)
                for message in snapshots.all_of(self._bus, stream, subject, newest):
                    yield from names_in(opened(message, NamesMessage))

        return _named(rows())

    def nonces(self, _boxes: Sequence[Mailbox]) -> Iterator[Row]:
        def rows() -> Iterator[Nonce]:
            for message in self._remembered("once.*", None):
                told = opened(message, OnceMessage)
                sdkappid = int(message.subject.split(".")[2])
                yield Nonce(sdkappid, decoded(told.nonce), told.at_ms)

        return _ordered(rows(), Nonce)

    def _streams(self) -> Iterator[str]:
        return map(self._layout.stream, range(self._layout.partitions))

    def _remembered(self, own: str, moved: str | None) -> Iterator[Message]:
        """The last message of each subject of applications, and of what came from elsewhere."""
        places = [
            (stream, f"{self._layout.name}.{number}.*.{own}")
            for number, stream in enumerate(self._streams())
        ]
        if moved is not None:
            places.append((self._common.stream, moved))
        for stream, pattern in places:
            yield from snapshots.latest(self._bus, stream, self._bus.subjects(stream, pattern))


def _stands(standing: ApplicationStanding, box: Box) -> Standing:
    return Standing(
        *(Mailbox(standing.sdkappid, box.kind), box.tail, box.cursor, box.handed_out),
        *(box.expired, box.erased, box.quarantined, box.put_back, box.routed, box.purged),
        box.mark.tallied,
    )


def _marks(standing: ApplicationStanding) -> dict[int, Followed]:
    """Up to where each mailbox has been followed."""
    return {box.kind: box.mark for box in standing.boxes}


def _kept(box: Box) -> tuple[object, ...]:
    """What changes when something of a mailbox is removed, or written anew."""
    return box.purged, box.quarantined, box.erased, box.anew_from, box.anew_through, box.routing


def place_of(mailbox: Mailbox, first_seq: int) -> int:
    """What a checksum is keyed with."""
    return state.key_of(state.slot(mailbox)) + first_seq


def _stored(kind: type[Stored], mailbox: Mailbox, stored: Chunk) -> Stored:
    row = stored.row
    sound = chunk.checksum(place_of(mailbox, row.first_seq), row.bounds, row.body) == row.checksum
    return kind(
        *(mailbox, row.first_seq, row.size, stored.accepted_ms, row.bounds, row.body),
        *(stored.label or None, sound),
    )


def names_in(told: NamesMessage) -> list[Names]:
    """The blocks of a message."""
    head = told.at_ms, told.sdkappid
    return [Names(*head, tuple(slots), body) for slots, body in told.named()]


def _named(rows: Iterable[Names]) -> Iterator[Names]:
    """Blocks in order, one of each, however many: they go through a file that nobody sees."""
    with apsw.Connection("") as file:
        file.execute("CREATE TABLE row (at_ms, sdkappid, slots, body)")
        file.executemany(
            "INSERT INTO row VALUES (?, ?, ?, ?)",
            (
                (row.accepted_ms, row.sdkappid, array("i", row.slots).tobytes(), row.body)
                for row in rows
            ),
        )
        found = file.execute("SELECT * FROM row ORDER BY at_ms, sdkappid")
        for (at_ms, sdkappid), together in groupby(found, lambda each: each[:2]):
            own = {
                Names(at_ms, sdkappid, tuple(array("i", slots)), body)
                for _, _, slots, body in together
            }
            yield from sorted(own, key=key_of)  # a report, or a few of them


R = TypeVar("R", Batch, Prints, Nonce)


def _ordered(rows: Iterable[R], kind: type[R]) -> Iterator[R]:
    """Rows in order, one of each key, however many: they go through a file that nobody sees."""
    with apsw.Connection("") as file:
        file.execute("CREATE TABLE row (one BLOB, other BLOB, rest BLOB)")
        file.executemany("INSERT INTO row VALUES (?, ?, ?)", map(_filed, rows))
        before: Any = None
        texts = _TEXTS[kind]
        for one, other, rest in file.execute("SELECT * FROM row ORDER BY one, other, rowid"):
            if before != (one, other):
                before = one, other
                key: list[Any] = [
                    decoded(each) if is_text else each
                    for each, is_text in zip(before, texts, strict=True)
                ]
                yield kind(*key, *_REST.decode(rest))


def _filed(row: Batch | Prints | Nonce) -> tuple[Any, Any, bytes]:
    one, other, *rest = msgspec.structs.astuple(row)
    return _bytes(one), _bytes(other), msgspec.msgpack.encode(rest)


def _bytes(value: int | str | bytes) -> int | bytes:
    return encoded(value) if isinstance(value, str) else value


_REST: Final = msgspec.msgpack.Decoder(list[Any])
_TEXTS: Final[dict[type, tuple[bool, bool]]] = {
    Batch: (True, True),
    Prints: (False, False),
    Nonce: (False, True),
}

_PARTS: Final[dict[Part, Callable[[Reading, Sequence[Mailbox]], Iterator[Row]]]] = {
    Secret: Reading.secret,
    Epoch: Reading.epochs,
    Setting: Reading.settings,
    ActRow: Reading.acts,
    Mark: Reading.marks,
    Standing: Reading.standings,
    Tallied: Reading.tallied,
    Stored: Reading.stored,
    SetAside: Reading.aside,
    JournalRow: Reading.journal,
    Copied: Reading.copied,
    Hand: Reading.hands,
    Batch: Reading.batches,
    Prints: Reading.prints,
    Nonce: Reading.nonces,
    Names: Reading.names,
}
