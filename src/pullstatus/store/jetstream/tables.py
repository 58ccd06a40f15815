"""The rows of the applications of a group: what the verbs ask and say.

What is asked is as of the newest commit that is known of each application, whatever replica answers
(`snapshots`). What is said waits, and becomes the messages of one write, with a commit for each
application behind its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, groupby, islice
from typing import Final, TypeVar

import msgspec

from pullstatus.errors import StoreDamaged
from pullstatus.store import tallies
from pullstatus.store.chunk import AT_MS_MAX, sizes
from pullstatus.store.fingerprints import KEY, factor_of, further_keys, keys, keys_of
from pullstatus.store.gathering.operations import Forget
from pullstatus.store.jetstream import chunks, derived, snapshots
from pullstatus.store.jetstream.ages import Ages
from pullstatus.store.jetstream.common import CommonTables
from pullstatus.store.jetstream.known import Cache, Hour, Known
from pullstatus.store.jetstream.messages import (
    AgainMessage,
    ArrayMessage,
    Box,
    Chunk,
    ChunkPart,
    Commit,
    KeyMessage,
    Laid,
    NamesMessage,
    Note,
    OnceMessage,
    PageMessage,
    PrintsMessage,
    ReaderMessage,
    RepeatMessage,
    Row,
    SegmentsMessage,
    Taken,
    TallyMessage,
    Value,
    is_whole,
    left_of,
    opened,
    parts_of,
)
from pullstatus.store.jetstream.moved import Moved
from pullstatus.store.jetstream.proven import check_all_answer, newest_of_anybody
from pullstatus.store.jetstream.subjects import Layout, Place, day_of, hour_of
from pullstatus.store.jetstream.wire import Bus, Message
from pullstatus.store.segments import Index, Segment
from pullstatus.store.texts import decoded, encoded
from pullstatus.store.values import (
    Act,
    Fingerprints,
    Followed,
    JournalRow,
    Mailbox,
    Naming,
    Noted,
    Once,
    Outcome,
    RepeatKey,
    Tally,
)
from pullstatus.store.verbs.repeats import REPEAT_MS
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import ChunkRow, KeyedRow, ReaderRow, Recalled

STEP_BYTES: Final = 16 << 20  # of chunks that may all be changed by one write
ROWS_MAX: Final = 500  # that are asked for at once

_NOTHING: Final[dict[bytes, int]] = {}

T = TypeVar("T", bound=Value)


class Overtaken(Exception):
    """Others have committed to applications since their states were read: start over."""

    def __init__(self, *sdkappids: int) -> None:
        super().__init__(*sdkappids)
        self.sdkappids = sdkappids


class Misled(Exception):
    """A row was judged that another node has a newer one of: start over, with that.

    Attributes:
        rows: the newer ones, by subject.
    """

    def __init__(self, rows: Mapping[str, Message]) -> None:
        super().__init__(*rows)
        self.rows = rows


class Draft:
    """What a group does to one application; nothing of it is written yet.

    Attributes:
        known: how it stands before.
        states: its mailboxes, as they stand in between.
        behind: what is to be done once it is committed: nothing rests on it.
    """

    def __init__(self, known: Known, rows: Mapping[str, Message], asked: Sequence[str]) -> None:
        self.known = known
        self.states: dict[int, State] = {}
        self.boxes: dict[int, Box] = dict(known.boxes)
        self.chunks: dict[tuple[int, int], Chunk] = {}  # written or read, by kind and number
        self.log: list[tuple[int, Chunk]] = []
        self.again: list[tuple[int, AgainMessage]] = []
        self.journal: list[Row] = []
        self.notes: list[Note] = []
        self.values: dict[str, Value] = {}
        self.names: list[NamesMessage] = []
        self.prints: dict[int, dict[bytes, int]] = {}
        self.behind: list[Callable[[int], None]] = []
        self.ends: dict[tuple[int, int], int] = {}  # of pages: the number behind the last entry
        self.log_ats: dict[tuple[int, int], int] = {}  # of entries: the place of the chunk
        self._rows = dict(rows)
        self._asked = set(asked)
        for kind, box in known.boxes.items():
            self.states[kind] = box.state(known.sdkappid)

    @property
    def place(self) -> Place:
        """Where it lies."""
        return self.known.place

    @property
    def here(self) -> int:
        """Place of what this draft writes."""
        return self.known.newest + 1

    def has_row(self, subject: str) -> bool:
        """Whether a row was asked for."""
        return subject in self._asked

    def judged(self) -> Iterator[tuple[str, Message | None]]:
        """Each row that was asked for by itself, as it is known."""
        for subject in self._asked:
            if not subject.endswith("*"):
                yield subject, self._rows.get(subject)

    def written(self, subject: str) -> list[str]:
        """Those that it writes to, of a subject and all that lie behind it."""
        behind = f"{subject}."
        return [name for name in self.values if name == subject or name.startswith(behind)]

    def unwrite(self, subject: str) -> None:
        """Write to none of them what steps until now were to write."""
        for name in self.written(subject):
            del self.values[name]

    def learn(self, subjects: Sequence[str], rows: Mapping[str, Message]) -> None:
        """What more was asked, of the same commit.

        Raises:
            Misled: somebody has a newer one of a row that was asked for before: it was judged, and
                what is written in its place rests on what was told then.
        """
        newer = {
            subject: row
            for subject, row in rows.items()
            if subject in self._asked and _sequence(self._rows.get(subject)) < row.sequence
        }
        if newer:
            raise Misled(newer)
        self._rows.update({name: row for name, row in rows.items() if name not in self._asked})
        self._asked.update(subjects)

    def row(self, subject: str) -> Message | None:
        """A row that was asked for."""
        return self._rows.get(subject)

    def rows(self) -> Iterator[tuple[str, Message]]:
        """All rows there are of those that were asked for."""
        return iter(list(self._rows.items()))

    @property
    def changes(self) -> bool:
        """Whether anything is to be written."""
        return bool(
            self.log
            or self.journal
            or self.notes
            or self.values
            or self.names
            or self.prints
            or any(
                (self.states[kind].purged, self.boxes[kind].mark) != (box.purged, box.mark)
                for kind, box in self.known.boxes.items()
            )
        )

    def values_due(self) -> list[tuple[str, Value, int | None]]:
        """What is to be written, in order, but for the commit; with the row that was judged for it.

        A replica that has lost a row knows of none, and its answer is of the newest commit. So what
        is written in place of a row is so on the condition that this is the last; 0: there is none.
        """
        place = self.place
        due: list[tuple[str, Value, int | None]] = []
        for kind, chunk in self.log:
            due += [(place.log(kind), part, None) for part in parts_of(chunk)]
        due += [(place.again(kind), row, None) for kind, row in self.again]
        for subject, value in self.values.items():
            judged = self._rows.get(subject)
            known = 0 if judged is None else judged.sequence
            due.append((subject, value, known if subject in self._asked else None))
        due += [(place.names, told, None) for told in self.names]
        for hour, told in self.prints.items():
            last: int | None = self.known.hours[hour].last
            for at_ms, group in groupby(told.items(), key=lambda each: each[1]):
                for each in PrintsMessage.of([key for key, _ in group], at_ms):
                    due.append((place.prints(hour), each, last))
                    last = None
        return due

    def commit(self) -> Commit:
        """How it stands then."""
        boxes = [self._box(kind) for kind in sorted(self.states)]
        known = self.known
        return Commit(known.newest, known.fence, boxes, self.journal, self.notes, known.gate)

    def oldest_left(self, kind: int) -> int:
        """When the first of the rows was written that this draft adds; 0: it adds none."""
        return next((row.at_ms for row in self.journal if row.kind == kind), 0)

    def _box(self, kind: int) -> Box:
        state = self.states[kind]
        before = self.boxes[kind]
        box = before.changed(state)
        chunk = self.chunks.get((kind, state.read_from))
        log_at = box.log_at
        same = (state.read_from, state.cursor) == (before.read_from, before.cursor)
        waits_ms = before.waits_ms if same else 0
        if chunk is not None:
            head = min(max(chunk.row.first_seq, state.cursor + 1), chunk.next_seq - 1)
            log_at, waits_ms = max(log_at, chunk.at), chunk.accepted_at(head)
        elif state.read_from > state.tail:
            log_at = self.here
        rows_at, left_ms = box.rows_at, box.left_ms or self.oldest_left(kind)
        if state.purged == state.cursor:
            rows_at, left_ms = self.here, 0
        return msgspec.structs.replace(
            box,
            log_at=log_at,
            rows_at=rows_at,
            left_ms=left_ms,
            waits_ms=waits_ms if state.cursor < state.tail else 0,
        )

    def settled(self, sequence: int, last_of: Mapping[str, int]) -> Known:
        """What is known once it is committed.

        Args:
            sequence: of the commit.
            last_of: sequences of what was written last, by subject.
        """
        known = self.known
        boxes = {kind: self._box(kind) for kind in self.states}
        for hour, told in self.prints.items():
            seen = known.hours[hour].seen
            known.hours[hour] = Hour(last_of[self.place.prints(hour)], {**seen, **told})
        return Known(
            *(known.sdkappid, known.place, sequence, known.fence, boxes),
            *(known.revisions, known.hours, known.former, known.gate),
        )

    def chunks_at(self, written: Mapping[str, Sequence[int]]) -> Iterator[tuple[int, Chunk]]:
        """The chunks that were written, each with its mailbox's number, given the sequences."""
        places = {kind: iter(written.get(self.place.log(kind), ())) for kind in self.states}
        for kind, chunk in self.log:
            sequences = tuple(islice(places[kind], len(parts_of(chunk))))
            stored = msgspec.structs.replace(chunk, at=sequences[0], sequences=sequences)
            yield self.states[kind].number, stored


class JetTables:
    """See `verbs.tables` for what each method does."""

    def __init__(
        self,
        bus: Bus,
        layout: Layout,
        cache: Cache,
        ages: Ages,
        secret: bytes,
        common: CommonTables,
        moved: Moved,
        newer: Mapping[str, Message],
    ) -> None:
        """Nothing is known yet.

        Args:
            secret: what fingerprints are keyed with.
            newer: rows that not every node has, by subject; see `prove`.
        """
        self._newer = newer
        self._moved = moved
        self._ages = ages
        self._bus = bus
        self._layout = layout
        self._cache = cache
        self._secret = secret
        self._common = common
        self.drafts: dict[int, Draft] = {}
        self.revisions: dict[str, int] = {}

    def moved(self) -> Iterator[State]:
        """Mailboxes in which other entries wait than before."""
        for draft in self.drafts.values():
            for kind, state in draft.states.items():
                box = draft.known.boxes.get(kind)
                if box is None or (box.tail, box.cursor) != (state.tail, state.cursor):
                    yield state

    def begin(self, sdkappid: int, found: snapshots.Snapshot | None, asked: Sequence[str]) -> Draft:
        """Begin with an application, as it was found; None: as it is remembered."""
        known = self._cache.get(sdkappid) or Known(sdkappid, self._layout.application(sdkappid))
        rows: Mapping[str, Message] = {}
        if found is not None:
            if found.sequence != known.newest:
                known = known.renewed(found.commit)
            rows = found.rows
        draft = self.drafts[sdkappid] = Draft(known, self._mended(rows, asked), asked)
        return draft

    def _mended(
        self, rows: Mapping[str, Message], subjects: Sequence[str]
    ) -> Mapping[str, Message]:
        """Rows as they were told, or newer ones that somebody has."""
        asked = set(subjects)
        newer = {
            subject: row
            for subject, row in self._newer.items()
            if (subject in asked or f"{subject.rpartition('.')[0]}.*" in asked)
            and _sequence(rows.get(subject)) < row.sequence
        }
        return {**rows, **newer}

    def confirm(self, drafts: Iterable[Draft]) -> None:
        """Have the leader say that what is known of applications is their newest state.

        Raises:
            Overtaken: of some it is not.
        """
        known = [draft.known for draft in drafts]
        if not known:
            return
        commits = [each.place.commits for each in known]
        found = snapshots.newest_of_each(self._bus, known[0].place.stream, commits)
        overtaken = [
            each.sdkappid
            for each, newest in zip(known, found, strict=True)
            if each.newest != (0 if newest is None else newest.sequence)
        ]
        if overtaken:
            raise Overtaken(*overtaken)

    def prove(self, beside: Mapping[int, Collection[str]]) -> None:
        """Ask all nodes for the rows that were judged of applications.

        A replica that has lost the newest message of a row tells of the one before, as if that was
        how its commit has left it. What is written is refused then, by its condition; but for an
        answer that nothing is written for somebody has to be asked.

        Args:
            beside: of each of these applications the rows that no such answer rests on.

        Raises:
            Misled: a node has newer ones.
        """
        newer: dict[str, Message] = {}
        for sdkappid, rows in beside.items():
            draft = self._draft(sdkappid)
            judged = {subject: row for subject, row in draft.judged() if subject not in rows}
            found = newest_of_anybody(self._bus, draft.place.stream, list(judged))
            for subject, row in judged.items():
                if subject in found and _sequence(row) < found[subject].sequence:
                    newer[subject] = found[subject]
        if newer:
            raise Misled(newer)

    def _prove_all(self, draft: Draft, pattern: str) -> None:
        """Ask the leader for all rows of a pattern, of which a replica may have lost some.

        Raises:
            Misled: it has newer ones.
        """
        stream = draft.place.stream
        told = self._bus.last_of_each(stream, self._bus.subjects(stream, pattern))
        newer = {
            row.subject: row
            for row in told
            if row is not None and _sequence(draft.row(row.subject)) < row.sequence
        }
        if newer:
            raise Misled(newer)

    def fetch(self, mailboxes: Iterable[Mailbox]) -> None:
        """Read the first chunks of what waits in mailboxes, all at once.

        What one replica lacks of them, and what was written anew, is read when it is come to.
        """
        due: dict[tuple[int, int], tuple[Draft, Box]] = {}
        for mailbox in mailboxes:
            draft = self._draft(mailbox.sdkappid)
            box = draft.boxes.get(mailbox.holds)
            if box is None or box.cursor == box.tail or box.anew_from:
                continue
            number = draft.states[mailbox.holds].number
            if self._cache.chunk(number, box.read_from) is None:
                due[mailbox.sdkappid, mailbox.holds] = draft, box
        if not due:
            return
        found = self._bus.following_each(
            next(iter(due.values()))[0].place.stream,
            [(draft.place.log(box.kind), box.log_at) for draft, box in due.values()],
            count=chunks.CHUNKS_MAX,
            bytes_max=chunks.ahead(len(due)),
        )
        for (draft, box), messages in zip(due.values(), found, strict=True):
            for chunk in chunks.whole(messages):
                if chunk.next_seq > box.read_from and chunk.next_seq <= box.tail + 1:
                    self._have(draft, draft.states[box.kind], chunk)

    def _have(self, draft: Draft, state: State, chunk: Chunk) -> None:
        """A chunk was read."""
        kind = state.mailbox.holds
        draft.log_ats[kind, chunk.next_seq] = chunk.sequences[-1] + 1
        if (kind, chunk.row.first_seq) not in draft.chunks:  # a step may have changed it
            draft.chunks[kind, chunk.row.first_seq] = chunk
            self._cache.put_chunk(state.number, chunk)

    def _draft(self, sdkappid: int) -> Draft:
        draft = self.drafts.get(sdkappid)
        if draft is None:
            place = self._layout.application(sdkappid)
            draft = self.begin(sdkappid, snapshots.snapshot(self._bus, place, ()), ())
        return draft

    def _of(self, state: State) -> tuple[Draft, int]:
        return self._draft(state.mailbox.sdkappid), state.mailbox.holds

    def _value(self, draft: Draft, subject: str, held: type[T]) -> T | None:
        """A row, as it stands in between; None: there is none."""
        written = draft.values.get(subject)
        if written is not None:
            assert isinstance(written, held)
            return written
        if not draft.has_row(subject):
            self._ask(draft, (subject,))
        message = draft.row(subject)
        return None if message is None else opened(message, held)

    def _ask(self, draft: Draft, subjects: Sequence[str]) -> None:
        """Learn rows, which must be of the commit that all else is of."""
        known = draft.known
        found = snapshots.snapshot(self._bus, known.place, subjects, known.newest)
        if found.sequence != known.newest:
            raise Overtaken(known.sdkappid)
        draft.learn(subjects, self._mended(found.rows, subjects))

    def _values(self, draft: Draft, pattern: str, held: type[T]) -> list[tuple[str, T]]:
        """All rows of a pattern, as they stand in between, by subject."""
        if not draft.has_row(pattern):
            self._ask(draft, (pattern,))
        above = pattern.removesuffix(".*")

        def is_meant(subject: str) -> bool:  # and no further part of one that is
            return subject.rpartition(".")[0] == above

        found = {
            subject: opened(message, held) for subject, message in draft.rows() if is_meant(subject)
        }
        found |= {
            subject: value
            for subject, value in draft.values.items()
            if is_meant(subject) and isinstance(value, held)
        }
        return sorted(found.items())

    # -- mailboxes

    def draft(self, mailbox: Mailbox) -> State | None:
        return self._draft(mailbox.sdkappid).states.get(mailbox.holds)

    def create(self, mailbox: Mailbox) -> State:
        draft = self._draft(mailbox.sdkappid)
        box = Box(mailbox.holds, log_at=draft.here, rows_at=draft.here)
        draft.boxes[mailbox.holds] = box
        state = draft.states[mailbox.holds] = box.state(mailbox.sdkappid)
        return state

    # -- chunks

    def add_chunk(self, state: State, row: ChunkRow, accepted_ms: int, label: bytes) -> None:
        if accepted_ms > AT_MS_MAX:
            raise OverflowError("a time that no label can tell")
        draft, kind = self._of(state)
        chunk = Chunk(row, accepted_ms, label, draft.here)
        draft.log.append((kind, chunk))
        draft.chunks[kind, row.first_seq] = chunk

    def chunks(self, state: State, first_seq: int) -> Iterator[ChunkRow]:
        for chunk in self._chunks(state, first_seq):
            yield chunk.row

    def _chunks(self, state: State, first_seq: int) -> Iterator[Chunk]:
        """Chunks from the one on that begins with a number; none of which nothing is left."""
        seq = first_seq if first_seq > state.purged else self.chunk_at(state, state.purged + 1)
        while seq <= state.tail:
            chunk = self._chunk(state, seq)
            yield chunk
            seq = chunk.next_seq

    def _chunk(self, state: State, first_seq: int) -> Chunk:
        """The chunk that begins with a number, or what is left of it."""
        draft, kind = self._of(state)
        found = draft.chunks.get((kind, first_seq))
        if found is not None:
            return found
        box = draft.boxes[kind]
        if box.anew_from <= first_seq <= box.anew_through:
            found = chunks.chunk_anew(self._bus, draft.place, kind, first_seq)
        if found is None:
            found = self._cache.chunk(state.number, first_seq)
        if found is None or not found.whole:
            found = self._read(draft, state, first_seq)
        draft.chunks[kind, found.row.first_seq] = found
        return found

    def _read(self, draft: Draft, state: State, seq: int) -> Chunk:
        """Read the chunk that holds an entry, and remember those behind it that come with it."""
        kind, box, place = state.mailbox.holds, draft.boxes[state.mailbox.holds], draft.place
        at = self._log_at(draft, state, seq)
        firsts: Sequence[int] = ()
        end = box.tail + 1
        if box.anew_from:
            firsts = chunks.anew_firsts(self._bus, place, kind)
            end = next((first for first in firsts if first > seq), end)
        found: Chunk | None = None
        for together in chunks.chunks_from(self._bus, place, kind, at, box.tail):
            for chunk in together:
                if chunk.next_seq <= seq:
                    at = chunk.sequences[-1] + 1
                elif chunk.row.first_seq not in firsts:
                    found = found or chunk
                    self._have(draft, state, chunk)
            if found is not None:
                break
        if found is not None and found.row.first_seq <= seq:
            return found
        accepted_ms = 0 if found is None else found.accepted_ms
        end = end if found is None else min(end, found.row.first_seq)
        former = max((first for first in firsts if first <= seq), default=0)
        anew = chunks.chunk_anew(self._bus, place, kind, former) if former else None
        if anew is not None and anew.whole and anew.next_seq > seq:
            return anew
        if anew is not None and not anew.whole:
            return left_of(former, end - former, accepted_ms, [anew])
        return next(chunks.missing(self._bus, place, kind, at, seq, end, accepted_ms))

    def _log_at(self, draft: Draft, state: State, seq: int) -> int:
        """Place of the chunk that holds an entry, or of one before it."""
        kind = state.mailbox.holds
        box = draft.boxes[kind]
        known = draft.log_ats.get((kind, seq))
        if known is not None:
            return known
        if seq == box.read_from:
            return box.log_at
        return chunks.chunk_place(self._bus, draft.place, box, seq, draft.known.newest)

    def bounds(self, state: State, first_seq: int) -> Iterator[tuple[int, int, bytes]]:
        for row in self.chunks(state, first_seq):
            yield row.first_seq, row.size, row.bounds

    def chunk_step(self, state: State, first_seq: int, rows_max: int) -> Sequence[ChunkRow]:
        rows: list[ChunkRow] = []
        size = 0
        for row in islice(self.chunks(state, first_seq), rows_max):
            rows.append(row)
            size += max(len(row.body), sum(sizes(row.bounds)))  # one that is changed is not packed
            if size >= STEP_BYTES:
                break
        if rows:
            self._drop_left_over(state, rows)
        else:
            self._drop_left_over_aside(state)
        return rows

    def _drop_left_over(self, state: State, rows: Sequence[ChunkRow]) -> None:
        """Remove what was there before chunks were written anew, if it still is.

        Who wrote them may have ended between the commit and that.
        """
        draft, kind = self._of(state)
        if not draft.boxes[kind].anew_from:
            return
        place, last = draft.place, rows[-1]
        anew = set(chunks.anew_firsts(self._bus, place, kind))
        firsts = anew.intersection(row.first_seq for row in rows)
        for message in self._log(draft, state, rows[0].first_seq) if firsts else ():
            part = opened(message, ChunkPart) if is_whole(message) else None
            if part is not None and part.first_seq > last.first_seq:
                break
            if part is not None and part.first_seq in firsts:
                draft.behind.append(partial(self._delete, place.stream, message.sequence))
        for first_seq in firsts:
            self._drop_older(draft, place.anew(kind, first_seq))

    def _drop_left_over_aside(self, state: State) -> None:
        """The same of what was set aside, and of pages that are kept for readers."""
        draft, kind = self._of(state)
        for subject, _ in self._values(draft, draft.place.bad(kind), ChunkPart):
            self._drop_older(draft, subject)
        self._drop_left_pages(state)

    def _drop_left_pages(self, state: State) -> None:
        """Remove pages that are not kept any more, and what they were before, if it is there."""
        draft, kind = self._of(state)
        place = draft.place
        held = self._bus.subjects(place.stream, place.pages(kind))
        for name, row in self.readers(state) if held else ():
            if row.kept:
                self._drop_older(draft, place.page(kind, name))
            else:
                self._drop_page(draft, kind, name)

    def _drop_older(self, draft: Draft, subject: str) -> None:
        """Remove what a subject held before what it does now."""
        newest = self._bus.last(draft.place.stream, subject, leader=True)
        if newest is not None:
            for name in (subject, f"{subject}.*"):
                work = partial(self._purge, draft.place.stream, name, newest.sequence)
                draft.behind.append(work)

    def _log(self, draft: Draft, state: State, seq: int) -> Iterator[Message]:
        """All messages of a log from the one that holds an entry on, or from one before it."""
        place, kind = draft.place, state.mailbox.holds
        at = self._log_at(draft, state, seq)
        while messages := self._bus.following(
            place.stream, place.log(kind), at, count=chunks.CHUNKS_MAX, leader=True
        ):
            yield from messages
            at = messages[-1].sequence + 1

    def chunk_at(self, state: State, seq: int) -> int:
        if not state.purged < seq <= state.tail:
            return seq
        draft, kind = self._of(state)
        if (kind, seq) in draft.chunks or self._cache.chunk(state.number, seq) is not None:
            return seq
        for (each, first_seq), chunk in draft.chunks.items():
            if each == kind and first_seq <= seq < chunk.next_seq:
                return first_seq
        return self._read(draft, state, seq).row.first_seq

    def lay_in(self, state: State, chunks: int) -> None:
        """Nothing is joined here."""

    def first_young(self, state: State, accepted_ms: int) -> int | None:
        for chunk in self._chunks(state, state.read_from):
            if chunk.accepted_ms >= accepted_ms:
                for seq in range(max(chunk.row.first_seq, state.cursor + 1), chunk.next_seq):
                    if chunk.accepted_at(seq) >= accepted_ms:
                        return seq
        return None

    def change_chunk(self, state: State, row: ChunkRow, *, aside: bool) -> None:
        draft, kind = self._of(state)
        if aside:
            subject = draft.place.bad(kind, row.first_seq)
            told = self._value(draft, subject, ChunkPart)
            assert told is not None
            self._put_whole(draft, subject, Chunk(row, told.accepted_ms, told.label, 1))
            return
        former = self._stored(draft, state, draft.chunks[kind, row.first_seq])
        chunk = Chunk(row, former.accepted_ms, former.label, former.at)
        draft.chunks[kind, row.first_seq] = chunk
        if former.at == draft.here:  # it is only to be written
            draft.log = [
                (each, chunk if (each, one.row.first_seq) == (kind, row.first_seq) else one)
                for each, one in draft.log
            ]
            return
        self._put_whole(draft, draft.place.anew(kind, row.first_seq), chunk)
        box = draft.boxes[kind]
        first = min(box.anew_from or row.first_seq, row.first_seq)
        through = max(box.anew_through, row.first_seq)
        draft.boxes[kind] = msgspec.structs.replace(box, anew_from=first, anew_through=through)
        self._cache.drop_chunk(state.number, row.first_seq)
        for sequence in former.sequences:
            draft.behind.append(partial(self._delete, draft.place.stream, sequence))

    def _stored(self, draft: Draft, state: State, chunk: Chunk) -> Chunk:
        """A chunk with the sequences of its messages, if it lies in its log."""
        if chunk.sequences or chunk.at == draft.here:
            return chunk
        found = self._read(draft, state, chunk.row.first_seq)
        return found if found.row.first_seq == chunk.row.first_seq else chunk

    def _delete(self, stream: str, sequence: int, _here: int) -> None:
        self._bus.delete(stream, sequence)

    def _put_whole(self, draft: Draft, subject: str, chunk: Chunk) -> None:
        """Write a chunk to a subject of its own; what was there before goes behind the commit."""
        draft.unwrite(subject)  # it may have had more parts
        for part in parts_of(chunk):
            draft.values[f"{subject}.{part.part}" if part.part else subject] = part
        if draft.row(subject) is not None or ".new." in subject:
            self._drop_former(draft, subject)
            self._drop_former(draft, f"{subject}.*")

    def _drop_former(self, draft: Draft, subject: str) -> None:
        """Remove behind the commit what a subject held before it."""
        draft.behind.append(partial(self._purge, draft.place.stream, subject, draft.here))

    def _drop_all(self, draft: Draft, subject: str) -> None:
        """Remove behind the commit all that a subject holds; what a later step writes there stays.

        Its last row says that it is none any more, since what follows a commit may not happen.
        """
        last = draft.values[subject]

        def drop(here: int) -> None:
            below = here if draft.values[subject] is last else draft.here
            self._bus.purge(draft.place.stream, subject, below=below)

        draft.behind.append(drop)

    def _purge(self, stream: str, subject: str, below: int | None, here: int) -> None:
        self._bus.purge(stream, subject, below=here if below is None else below)

    def set_aside(self, state: State, first_seq: int, last_seq: int) -> None:
        draft, kind = self._of(state)
        for chunk in self._chunks(state, first_seq):
            if chunk.row.first_seq > last_seq:
                return
            subject = draft.place.bad(kind, chunk.row.first_seq)
            if self._value(draft, subject, ChunkPart) is None:
                self._put_whole(draft, subject, chunk)

    def aside(self, state: State) -> Sequence[ChunkRow]:
        draft, kind = self._of(state)
        found = self._values(draft, draft.place.bad(kind), ChunkPart)
        rows = [self._whole(draft, subject, told) for subject, told in found]
        return sorted(rows, key=lambda row: row.first_seq)

    def _whole(self, draft: Draft, subject: str, told: ChunkPart) -> ChunkRow:
        """A chunk of its own subject, whose further parts have subjects behind that."""
        bodies = [told.body]
        for part in range(1, told.parts):
            more = self._value(draft, f"{subject}.{part}", ChunkPart)
            bodies.append(b"" if more is None else more.body)
        return ChunkRow(told.first_seq, told.size, told.checksum, told.bounds, b"".join(bodies))

    # -- the journal

    def add_journal(self, state: State, row: JournalRow) -> None:
        draft, kind = self._of(state)
        log_at = self._log_at_of_page(draft, kind, row.first_seq)
        draft.journal.append(Row.of(row, log_at))
        draft.ends[kind, row.first_seq] = row.first_seq + row.count
        draft.log_ats[kind, row.first_seq] = log_at
        if row.outcome is Outcome.PULLED:
            box = draft.boxes[kind]
            draft.boxes[kind] = msgspec.structs.replace(
                box, pulled_seq=row.first_seq, pulled_ms=row.at_ms
            )
        if row.key is not None:
            subject = draft.place.key(row.key)
            before = self._value(draft, subject, KeyMessage)
            others = [each for each in (before.taken if before else ()) if each.kind != kind]
            page = (kind, row.first_seq, row.count, row.at_ms, row.count_max)
            taken = Taken(*page, draft.here, log_at)
            draft.values[subject] = KeyMessage(encoded(row.key), [*others, taken])

    def _log_at_of_page(self, draft: Draft, kind: int, first_seq: int) -> int:
        """Place of the chunk that the entry at the head is in, or of one before it."""
        for (each, _), chunk in draft.chunks.items():
            if each == kind and chunk.row.first_seq <= first_seq < chunk.next_seq:
                return chunk.at
        return draft.boxes[kind].log_at

    def next_row(self, state: State, first_seq: int) -> int | None:
        draft, kind = self._of(state)
        end = draft.ends.get((kind, first_seq))
        if end is None:
            at = snapshots.row_place(self._bus, draft.place, kind, first_seq, draft.known.newest)
            for row, _ in self._rows_from(draft, kind, at):
                if row.first_seq == first_seq:
                    end = row.first_seq + row.size
                    break
        return None if end is None or end == state.cursor + 1 else end

    def _rows_from(self, draft: Draft, kind: int, at: int) -> Iterator[tuple[Row, int]]:
        """Journal rows of a mailbox from a place on, each with the place of what came with it."""
        known = draft.known
        for _, commit in snapshots.commits_from(self._bus, known.place, at, known.newest):
            for row in commit.rows:
                if row.kind == kind:
                    yield row, commit.previous + 1
        for row in draft.journal:
            if row.kind == kind:
                yield row, draft.here

    def keyed(self, state: State, pull_key: str) -> KeyedRow | None:
        draft, kind = self._of(state)
        found = self._value(draft, draft.place.key(pull_key), KeyMessage)
        for taken in found.taken if found else ():
            if taken.kind == kind and taken.first_seq > state.purged:
                draft.ends[kind, taken.first_seq] = taken.first_seq + taken.size
                draft.log_ats[kind, taken.first_seq] = taken.log_at
                return taken.keyed_row
        return None

    def count_given(self, state: State, first_seq: int) -> None:
        draft, kind = self._of(state)
        draft.notes.append(Note(kind, first_seq))

    def note_acked(self, state: State, first_seq: int, at_ms: int) -> None:
        draft, kind = self._of(state)
        draft.notes.append(Note(kind, first_seq, acked_ms=at_ms))

    def note_released(self, state: State, first_seq: int, at_ms: int) -> None:
        draft, kind = self._of(state)
        draft.notes.append(Note(kind, first_seq, released_ms=at_ms))

    def oldest_rows(self, state: State, rows_max: int) -> Sequence[tuple[int, int, int]]:
        draft, kind = self._of(state)
        found: list[tuple[int, int, int]] = []
        for row, _ in self._rows_from(draft, kind, draft.boxes[kind].rows_at):
            cut = max(0, state.purged + 1 - row.first_seq)
            if row.size > cut:
                found.append((row.first_seq + cut, row.size - cut, row.at_ms))
            if len(found) == rows_max:
                break
        return found

    def cut_row(self, state: State, first_seq: int, count: int) -> None:
        """Whoever reads a row leaves out what is purged of it."""

    # -- readers

    def reader(self, state: State, name: str) -> ReaderRow | None:
        draft, kind = self._of(state)
        found = self._value(draft, draft.place.reader(kind, name), ReaderMessage)
        return None if found is None else self._reader_row(draft, kind, found)

    def _reader_row(self, draft: Draft, kind: int, found: ReaderMessage) -> ReaderRow | None:
        row = found.row
        if row is not None and row.first_seq:
            draft.ends[kind, row.first_seq] = row.first_seq + row.count
            draft.log_ats[kind, row.first_seq] = found.log_at
        return row

    def readers(self, state: State) -> Sequence[tuple[str, ReaderRow]]:
        """Of what is decided by all of them no condition tells, so the leader has to be asked."""
        draft, kind = self._of(state)
        pattern = draft.place.readers(kind)
        if not draft.has_row(pattern):
            self._ask(draft, (pattern,))
            self._prove_all(draft, pattern)
        found = self._values(draft, pattern, ReaderMessage)
        rows = [(told.name, self._reader_row(draft, kind, told)) for _, told in found]
        return [(decoded(name), row) for name, row in sorted(rows) if row is not None]

    def put_reader(self, state: State, name: str, row: ReaderRow) -> None:
        draft, kind = self._of(state)
        log_at = draft.log_ats.get((kind, row.first_seq), 0)
        subject = draft.place.reader(kind, name)
        former = self.reader(state, name)
        draft.values[subject] = ReaderMessage(encoded(name), row, log_at)
        if former is not None and former.kept and not row.kept:
            self._drop_page(draft, kind, name)

    def drop_reader(self, state: State, name: str) -> None:
        draft, kind = self._of(state)
        subject = draft.place.reader(kind, name)
        draft.values[subject] = ReaderMessage(encoded(name), None)
        self._drop_all(draft, subject)
        self._drop_page(draft, kind, name)

    def _drop_page(self, draft: Draft, kind: int, name: str) -> None:
        """Nothing of the page that was kept for a reader stays behind the commit."""
        self._let_go(draft, draft.place.page(kind, name))

    def page(self, state: State, name: str) -> bytes:
        draft, kind = self._of(state)
        return self._kept(draft, draft.place.page(kind, name))

    def _kept(self, draft: Draft, subject: str) -> bytes:
        first = self._value(draft, subject, PageMessage)
        found = [first]
        found += [
            self._value(draft, f"{subject}.{part}", PageMessage)
            for part in range(1, first.parts if first else 0)
        ]
        return b"".join(each.page for each in found if each is not None)

    def keep_page(self, state: State, name: str, page: bytes) -> None:
        draft, kind = self._of(state)
        row = self.reader(state, name)
        assert row is not None
        self.put_reader(state, name, msgspec.structs.replace(row, kept=True))
        self._keep(draft, draft.place.page(kind, name), page)

    def _keep(self, draft: Draft, subject: str, data: bytes) -> None:
        """Write what may be larger than a message; what was there before goes behind the commit."""
        self._let_go(draft, subject)
        for each in PageMessage.of(data):
            part = f"{subject}.{each.part}" if each.part else subject
            draft.values[part] = each

    def _let_go(self, draft: Draft, subject: str) -> None:
        """Nothing of that stays behind the commit; what a later step writes there does."""
        draft.unwrite(subject)
        for every in (subject, f"{subject}.*"):
            self._drop_former(draft, every)

    # -- parked items on their way to other applications: see `routing`

    def routing(self, mailbox: Mailbox) -> bytes:
        """Names what is on its way out of a mailbox; empty: nothing is."""
        box = self._draft(mailbox.sdkappid).boxes.get(mailbox.holds)
        return b"" if box is None else box.routing

    def routing_now(self, mailbox: Mailbox) -> bytes:
        """The same of a mailbox of any partition, as its leader says now."""
        place = self._layout.application(mailbox.sdkappid)
        newest = self._bus.last(place.stream, place.commits, leader=True)
        boxes = opened(newest, Commit).boxes if newest else ()
        return next((box.routing for box in boxes if box.kind == mailbox.holds), b"")

    def route(self, state: State) -> bytes:
        """What is on its way, as it was put."""
        draft, kind = self._of(state)
        return self._kept(draft, draft.place.route(kind))

    def put_route(self, state: State, ident: bytes, data: bytes) -> None:
        """Note what is on its way from now on."""
        draft, kind = self._of(state)
        draft.boxes[kind] = msgspec.structs.replace(draft.boxes[kind], routing=ident)
        self._keep(draft, draft.place.route(kind), data)

    def drop_route(self, state: State) -> None:
        """Nothing is on its way any more."""
        draft, kind = self._of(state)
        draft.boxes[kind] = msgspec.structs.replace(draft.boxes[kind], routing=b"")
        self._let_go(draft, draft.place.route(kind))

    # -- what is remembered to know repeats by

    def recall(self, sdkappid: int, repeat_key: RepeatKey) -> Recalled | None:
        draft = self._draft(sdkappid)
        subject = draft.place.repeat(repeat_key.scope, repeat_key.key)
        found = self._value(draft, subject, RepeatMessage) or self._moved.recall(repeat_key)
        return None if found is None else found.recalled

    def remember(self, sdkappid: int, repeat_key: RepeatKey, row: Recalled) -> None:
        draft = self._draft(sdkappid)
        subject = draft.place.repeat(repeat_key.scope, repeat_key.key)
        names = encoded(repeat_key.scope), encoded(repeat_key.key)
        draft.values[subject] = RepeatMessage(*names, row.digest, row.accepted, row.accepted_ms)

    def unseen(self, sdkappid: int, fingerprints: Fingerprints, at_ms: int) -> Sequence[int]:
        draft = self._draft(sdkappid)
        old_ms = at_ms - REPEAT_MS
        factor = factor_of(self._secret, fingerprints.scope)
        further = further_keys(factor, fingerprints.items)
        fresh = []
        for place, key in enumerate(keys(factor, fingerprints.items)):
            hour = hour_of(KEY.unpack(key)[0] >> 16)
            if self._is_known(draft, hour, key, old_ms):
                continue
            fresh.append(place)
            told = draft.prints.setdefault(hour, {})
            told[key] = at_ms
            for each in further.get(place, ()):  # of the same time
                if not self._is_known(draft, hour, each, old_ms):
                    told[each] = at_ms
        return fresh

    def _is_known(self, draft: Draft, hour: int, key: bytes, old_ms: int) -> bool:
        """Whether a record was accepted since then that is known by this."""
        told = draft.prints.get(hour, _NOTHING)
        before = told.get(key) or self._hour(draft, hour).seen.get(key)
        before = before or self._moved.prints(hour).get(key)
        return before is not None and before >= old_ms

    def _hour(self, draft: Draft, hour: int) -> Hour:
        """The fingerprints of an hour as of the commit that all else is of."""
        known = draft.known
        found = known.hours.get(hour)
        if found is not None:
            return found
        subject = known.place.prints(hour)
        if not draft.has_row(subject):
            self._ask(draft, (subject,))
        newest = draft.row(subject)
        former = known.former.get(hour) or Hour()
        through = former.last if newest is None else newest.sequence
        seen = dict(former.seen)
        stored = snapshots.all_of(self._bus, known.place.stream, subject, through - 1, former.last)
        for message in chain(stored, [newest] if newest and through > former.last else ()):
            if not is_whole(message):
                continue  # what it told is lost: to take a repeat for new is better than to refuse
            told = opened(message, PrintsMessage)
            seen.update(dict.fromkeys(keys_of(told.keys), told.at_ms))
        found = known.hours[hour] = Hour(through, seen)
        return found

    def spend(self, sdkappid: int, once: Once, at_ms: int) -> bool:
        draft = self._draft(sdkappid)
        subject = draft.place.once(once.nonce)
        found = self._value(draft, subject, OnceMessage)
        if found is not None and found.at_ms >= at_ms:
            return False
        draft.values[subject] = OnceMessage(encoded(once.nonce), once.until_ms)
        return True

    # -- acts, and the copies that they made

    def act_number(self, ticket: bytes) -> int | None:
        return self._common.act_number(ticket)

    def newest_act(self) -> tuple[int, bytes] | None:
        return self._common.newest_act()

    def add_act(self, act_id: int, act: Act, proof: bytes) -> None:
        """On record at once, before what it does: so none ever happens without its row.

        As far as the leader knows it can happen: only who is overtaken from here on leaves a row of
        what was then found to be done already.
        """
        self.confirm(self.drafts.values())
        self._common.add_act(act_id, act, proof)
        self._common.write()

    def add_again(
        self, state: State, first_seq: int, count: int, source_seq: int, act_id: int
    ) -> None:
        draft, kind = self._of(state)
        draft.again.append((kind, AgainMessage(first_seq, count, source_seq, act_id)))

    def copied(
        self, state: State, act_id: int, first_seq: int, last_seq: int
    ) -> Sequence[tuple[int, int]]:
        draft, kind = self._of(state)
        known = draft.known
        found = [row for each, row in draft.again if each == kind]
        subject = known.place.again(kind)
        stored = snapshots.all_of(self._bus, known.place.stream, subject, known.newest)
        found += [opened(message, AgainMessage) for message in stored]
        return [
            (row.source_seq, row.size)
            for row in found
            if row.act_id == act_id
            and row.source_seq <= last_seq
            and row.source_seq + row.size > first_seq
        ]

    # -- settings and notes

    def revision(self, name: str) -> int:
        return self.revisions[name]

    def setting(self, name: str) -> tuple[bytes | None, int]:
        return self._common.setting(name)

    def put_setting(self, name: str, value: bytes | None, ticket: bytes) -> None:
        self._common.put_setting(name, value, ticket)

    def note(self, name: str, noted: Noted) -> None:
        self._common.note(name, noted)

    def drop_note(self, name: str) -> None:
        self._common.drop_note(name)

    # -- what is derived of entries

    def followed(self, state: State) -> Followed:
        draft, kind = self._of(state)
        return draft.boxes[kind].changed(state).mark

    def put_followed(self, state: State, mark: Followed) -> None:
        draft, kind = self._of(state)
        draft.boxes[kind] = msgspec.structs.replace(
            draft.boxes[kind], followed=mark.through, tallied=mark.tallied, turn=mark.turn
        )

    def _laid(self, draft: Draft, kind: int) -> Sequence[Laid]:
        found = self._value(draft, draft.place.segments(kind), SegmentsMessage)
        return () if found is None else found.laid

    def segments(self, state: State, first_seq: int, last_seq: int) -> Sequence[Segment]:
        draft, kind = self._of(state)
        return [
            self._segment(draft, kind, laid)
            for laid in self._laid(draft, kind)
            if laid.first_seq <= last_seq and laid.last_seq >= first_seq
        ]

    def _segment(self, draft: Draft, kind: int, laid: Laid) -> Segment:
        names = derived.subjects_of(draft.place, kind, laid)
        unknown = [
            name
            for own in names.values()
            for name in own
            if name not in draft.values and not draft.has_row(name)
        ]
        if unknown:
            self._ask(draft, unknown)
        numbers, sids = (
            b"".join([self._part(draft, name) for name in names[index]]) for index in Index
        )
        return Segment(laid.first_seq, laid.count, numbers, sids)

    def _part(self, draft: Draft, subject: str) -> bytes:
        written = draft.values.get(subject)
        if isinstance(written, ArrayMessage):
            return written.data
        return derived.data_of(draft.row(subject))

    def put_segment(self, state: State, segment: Segment) -> None:
        draft, kind = self._of(state)
        first, last = segment.first_seq, segment.last_seq
        self._drop(draft, kind, lambda laid: first <= laid.first_seq <= last)
        draft.values |= dict(derived.parts_of(draft.place, kind, segment))
        laid = sorted([*self._laid(draft, kind), Laid.of(segment)], key=lambda each: each.first_seq)
        self._put_anew(draft, draft.place.segments(kind), SegmentsMessage(laid))

    def drop_segments(self, state: State, through: int | None) -> None:
        draft, kind = self._of(state)
        if through is None:  # also of what does not tell any more what there is
            subject, arrays = draft.place.segments(kind), draft.place.arrays(kind)
            draft.unwrite(arrays.removesuffix(".*.>"))
            draft.values[subject] = SegmentsMessage([])
            for every in (subject, arrays):
                self._drop_former(draft, every)
        elif draft.boxes[kind].followed:  # else there was never one
            self._drop(draft, kind, lambda laid: laid.last_seq <= through)

    def _drop(self, draft: Draft, kind: int, goes: Callable[[Laid], bool]) -> None:
        """Have segments be none any more; what was stored of them goes behind the commit."""
        subject, laid = draft.place.segments(kind), self._laid(draft, kind)
        gone = [each for each in laid if goes(each)]
        for each in gone:
            pattern = draft.place.arrays(kind, each.first_seq)
            draft.unwrite(pattern.removesuffix(".>"))
            self._drop_former(draft, pattern)
        if gone:
            kept = [each for each in laid if not goes(each)]
            self._put_anew(draft, subject, SegmentsMessage(kept))

    def _put_anew(self, draft: Draft, subject: str, value: Value) -> None:
        """Write a row; what it was before goes behind the commit."""
        if subject not in draft.values and draft.row(subject) is not None:
            self._drop_former(draft, subject)
        draft.values[subject] = value

    def add_names(self, sdkappid: int, names: Sequence[Naming], at_ms: int) -> None:
        self._draft(sdkappid).names += NamesMessage.of(sdkappid, names, at_ms)

    def add_tally(self, sdkappid: int, tally: Tally, *, anew: bool) -> None:
        draft = self._draft(sdkappid)
        subject = draft.place.tally(tally.series, tally.hour)
        hours = self._hours(draft, subject)
        if anew:
            hours = hours or {}
            counts = hours.get(tally.hour, tally.counts)
        elif hours is None:
            return
        else:
            counts = tallies.summed(hours.get(tally.hour, ()), tally.counts)
        self._put_anew(draft, subject, TallyMessage({**hours, tally.hour: counts}))

    def _hours(self, draft: Draft, subject: str) -> Mapping[int, tuple[int, ...]] | None:
        """What was counted in the hours of a day; None: it is damaged, on any node."""
        try:
            found = self._value(draft, subject, TallyMessage)
        except StoreDamaged:
            check_all_answer(self._bus, draft.place.stream)
            return None
        return {} if found is None else found.hours

    def drop_tallies(self, sdkappid: int, series: int, from_hour: int) -> None:
        draft = self._draft(sdkappid)
        place = draft.place
        names = {
            *self._bus.subjects(place.stream, place.tallies(series)),
            *draft.written(place.tallies(series).removesuffix(".>")),
        }
        due = sorted(name for name in names if int(name.rpartition(".")[2]) >= day_of(from_hour))
        unknown = [name for name in due if name not in draft.values and not draft.has_row(name)]
        for begin in range(0, len(unknown), ROWS_MAX):
            self._ask(draft, unknown[begin : begin + ROWS_MAX])
        for subject in due:
            hours = self._hours(draft, subject)
            if hours is None and subject == place.tally(series, from_hour):
                continue  # what it told of hours before is to be begun anew
            left = {hour: counts for hour, counts in (hours or {}).items() if hour < from_hour}
            self._put_anew(draft, subject, TallyMessage(left))
            if not left:
                self._drop_all(draft, subject)

    # -- removal

    def remove(self, state: State, through: int) -> None:
        """What is purged is told by the commit; messages go behind it."""
        draft, kind = self._of(state)
        box = draft.boxes[kind]
        rows_at, left_ms = draft.here, 0
        for row, at in self._rows_from(draft, kind, box.rows_at):
            if row.first_seq + row.size - 1 > through:
                rows_at, left_ms = at, row.at_ms
                break
        first_kept, log_at = self._kept_from(state, through + 1)
        box = msgspec.structs.replace(box, rows_at=rows_at, left_ms=left_ms)
        if box.anew_from and box.anew_from < first_kept:
            for name in self._numbered(draft, draft.place.anew(kind, ""), first_kept - 1):
                self._drop_former(draft, name)
            kept = first_kept <= box.anew_through
            first, last = (first_kept, box.anew_through) if kept else (0, 0)
            box = msgspec.structs.replace(box, anew_from=first, anew_through=last)
        draft.boxes[kind] = box
        for subject in (draft.place.log(kind), draft.place.again(kind)):
            draft.behind.append(partial(self._purge, draft.place.stream, subject, log_at))
        for name, _ in self.readers(state):
            self._drop_former_reader(draft, kind, name)
        draft.behind.append(partial(self._purge_commits, draft))

    def _kept_from(self, state: State, seq: int) -> tuple[int, int]:
        """Where the chunk begins that is kept for what is not removed, and its place."""
        draft, _ = self._of(state)
        if seq > state.tail:
            return seq, draft.here
        first_kept = self.chunk_at(state, seq)
        return first_kept, self._log_at(draft, state, first_kept)

    def _drop_former_reader(self, draft: Draft, kind: int, name: str) -> None:
        subject = draft.place.reader(kind, name)
        newest = draft.row(subject)
        if subject in draft.values:
            self._drop_former(draft, subject)
        elif newest is not None:
            below = newest.sequence
            draft.behind.append(partial(self._purge, draft.place.stream, subject, below))

    def _purge_commits(self, draft: Draft, here: int) -> None:
        """Remove commits, and what keys got by them, that tell of nothing that is left.

        What is too young for that goes with a later step.
        """
        below = min([here, self._ages.below(), *(box.rows_at for box in draft.commit().boxes)])
        place = draft.place
        for subject in (place.commits, place.keys):
            self._bus.purge(place.stream, subject, below=below)

    def remove_aside(self, state: State, through: int) -> None:
        """Also what was removed before, if it still is there: a step may have ended behind that."""
        draft, kind = self._of(state)
        stream = draft.place.stream
        for name in self._numbered(draft, draft.place.bad(kind, ""), through):
            draft.behind.append(partial(self._purge, stream, name, None))
        first_kept, log_at = self._kept_from(state, state.purged + 1)
        for name in self._numbered(draft, draft.place.anew(kind, ""), first_kept - 1):
            self._drop_former(draft, name)
        for subject in (draft.place.log(kind), draft.place.again(kind)):
            draft.behind.append(partial(self._purge, stream, subject, log_at))
        self._drop_left_pages(state)

    def _numbered(self, draft: Draft, begin: str, through: int) -> Iterator[str]:
        """Subjects that go on with a number, up to one; of them nothing is to be written."""
        names = {
            *self._bus.subjects(draft.place.stream, f"{begin}>"),
            *draft.written(begin.removesuffix(".")),
        }
        for name in names:
            if int(name.removeprefix(begin).split(".")[0]) <= through:
                draft.values.pop(name, None)
                yield name

    def forgetters(
        self,
        operation: Forget,  # noqa: ARG002
    ) -> Sequence[Callable[[int], int | None]]:
        raise AssertionError("what is remembered is forgotten by the lane")


def _sequence(message: Message | None) -> int:
    return 0 if message is None else message.sequence
