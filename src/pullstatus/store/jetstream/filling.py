"""Putting rows of the neutral form of `store.transfer` into a store that is being filled.

Each step of a mailbox is a commit of its application, as any other; of what is of no application, a
commit there. They rest on the number of the gate that this run has brought about, so no two runs
fill a store.

Chunks that come in order go behind the log, others are written anew in their place. Journal rows
come in order always, and what they lose by retention is told by how the mailbox stands: so none is
ever taken out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final, TypeVar

import msgspec

from pullstatus.errors import StoreSealed
from pullstatus.store import chunk
from pullstatus.store.fingerprints import KEY, keys_of
from pullstatus.store.gathering.operations import Replace
from pullstatus.store.jetstream import commits, meta, snapshots
from pullstatus.store.jetstream.commits import NewOp, Written
from pullstatus.store.jetstream.messages import (
    PART_BYTES_MAX,
    ActMessage,
    AgainMessage,
    Box,
    Chunk,
    ChunkPart,
    Commit,
    CommonCommit,
    KeyMessage,
    MarkMessage,
    NamesMessage,
    Note,
    OnceMessage,
    PageMessage,
    PrintsMessage,
    ReaderMessage,
    RepeatMessage,
    SettingMessage,
    Taken,
    TallyMessage,
    TicketMessage,
    Value,
    opened,
    parts_of,
    sealed,
)
from pullstatus.store.jetstream.messages import Row as MessageRow
from pullstatus.store.jetstream.subjects import Layout, Place, hour_of
from pullstatus.store.jetstream.transfer import Told, names_in, place_of
from pullstatus.store.jetstream.wire import Bus, Put, Stale
from pullstatus.store.texts import encoded
from pullstatus.store.transfer import (
    STEP_BYTES_MAX,
    Batch,
    Copied,
    Epoch,
    Hand,
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
    weight,
)
from pullstatus.store.values import (
    NO_TICKET,
    ActRow,
    JournalRow,
    Mailbox,
    Naming,
    Outcome,
    Setting,
)
from pullstatus.store.verbs import readers
from pullstatus.store.verbs.tables import ChunkRow, ReaderRow

PUTS: Final = 500  # messages in one commit, beside those that tell how things stand

_OTHER: Final = "another run of `pullstatus migrate` fills this store"

T = TypeVar("T", bound=Row | Written)
Hours = dict[int, tuple[int, ...]]


class Filling:
    """One run that fills a store."""

    def __init__(
        self, bus: Bus, layout: Layout, new_op: NewOp, told: Told, number: Callable[[], int]
    ) -> None:
        """Nothing is put yet.

        Args:
            told: what this run has read of the store.
            number: of the gate, as this run knows it.
        """
        self._bus = bus
        self._layout = layout
        self._common = layout.common
        self._new_op = new_op
        self._told = told
        self._number = number

    def replace(self, operation: Replace) -> None:
        """See `Transfer.replace`; that this store is being filled has been seen to.

        Raises:
            StoreSealed: another run fills it since.
        """
        try:
            drop, put = _PARTS[operation.part]
            if operation.drop:
                drop(self, operation.drop)
            for rows in _in_parts(operation.put):
                put(self, rows)
        except Stale:
            raise StoreSealed(_OTHER) from None

    # -- of the store

    def put_secret(self, rows: Sequence[Secret]) -> None:
        self._change_meta(lambda told: msgspec.structs.replace(told, secret=rows[0].value))

    def keep_secret(self, _rows: Sequence[Secret]) -> None:
        """A store has one always."""

    def put_epochs(self, rows: Sequence[Epoch]) -> None:
        self._change_epochs({row.number: row.began_ms for row in rows}, frozenset())

    def drop_epochs(self, rows: Sequence[Epoch]) -> None:
        self._change_epochs({}, {row.number for row in rows})

    def _change_epochs(self, more: dict[int, int], less: Collection[int]) -> None:
        def changed(told: meta.Meta) -> meta.Meta:
            epochs = {number: ms for number, ms in told.epochs if number not in less} | more
            return msgspec.structs.replace(told, epochs=sorted(epochs.items()))

        self._change_meta(changed)

    def _change_meta(self, change: Callable[[meta.Meta], meta.Meta]) -> None:
        told, last = meta.read(self._bus, self._layout)
        op = self._new_op()
        put = meta.put(self._common, change(told), last, op)
        self._bus.write(self._common.stream, [put], op)

    def put_settings(self, rows: Sequence[Setting]) -> None:
        place = self._common
        values = [
            (
                place.setting(row.name),
                SettingMessage(encoded(row.name), row.value, row.revision, row.ticket),
            )
            for row in rows
        ]
        newest = max(row.revision for row in rows)

        def changed(told: CommonCommit) -> CommonCommit:
            return msgspec.structs.replace(told, revision=max(told.revision, newest))

        self._put_common(values, changed)

    def drop_settings(self, rows: Sequence[Setting]) -> None:
        self._drop_common(self._common.setting(row.name) for row in rows)

    def settle(self) -> None:
        """Have settings lie in the order of their revisions, in which they are told.

        Raises:
            StoreSealed: another run fills the store since.
        """
        place = self._common
        names = self._bus.subjects(place.stream, place.settings)
        found = [
            (opened(message, SettingMessage), message)
            for message in snapshots.latest(self._bus, place.stream, names)
        ]
        found.sort(key=lambda each: each[0].revision)
        sequences = [message.sequence for _, message in found]
        if sequences == sorted(sequences):
            return
        try:
            for some in _in_parts([(message.subject, told) for told, message in found]):
                self._put_common(some)
        except Stale:
            raise StoreSealed(_OTHER) from None

    def put_acts(self, rows: Sequence[ActRow]) -> None:
        place = self._common
        values: list[Written] = []
        for row in rows:
            act = row.act
            told = ActMessage(
                *(row.act_id, encoded(act.actor), encoded(act.action), encoded(act.reason)),
                *(encoded(act.detail), act.at_ms, act.ticket, row.hash),
            )
            values.append((place.act(row.act_id), told))
            if act.ticket != NO_TICKET:
                values.append((place.ticket(act.ticket), TicketMessage(row.act_id)))
        last = rows[-1]

        def changed(told: CommonCommit) -> CommonCommit:
            if last.act_id < told.act_id:
                return told
            return msgspec.structs.replace(told, act_id=last.act_id, act_hash=last.hash)

        self._put_common(values, changed)

    def drop_acts(self, rows: Sequence[ActRow]) -> None:
        place = self._common
        self._drop_common(place.act(row.act_id) for row in rows)
        self._drop_common(place.ticket(row.act.ticket) for row in rows)

    def put_marks(self, rows: Sequence[Mark]) -> None:
        self._put_common(
            [
                (
                    self._common.mark(row.name),
                    MarkMessage(encoded(row.name), row.at_ms, encoded(row.place)),
                )
                for row in rows
            ]
        )

    def drop_marks(self, rows: Sequence[Mark]) -> None:
        self._drop_common(self._common.mark(row.name) for row in rows)

    def _put_common(
        self,
        values: Sequence[Written],
        change: Callable[[CommonCommit], CommonCommit] = lambda told: told,
        *,
        behind: Sequence[Written] = (),
    ) -> None:
        """Write messages that replace what was on their subjects, and a commit.

        Args:
            behind: messages of subjects that hold many: what was there stays.

        Raises:
            Stale: another run fills the store.
        """
        place = self._common
        names = [subject for subject, _ in values]
        while True:
            found = self._bus.last(place.stream, place.commits, leader=True)
            told = CommonCommit(0) if found is None else opened(found, CommonCommit)
            sequence = 0 if found is None else found.sequence
            if told.gate != self._number():
                raise Stale
            before = (  # nobody else writes
                self._bus.lasts(place.stream, names, at_least=sequence) if names else {}
            )
            op = self._new_op()
            now = change(msgspec.structs.replace(told, previous=sequence))
            puts = [Put(name, sealed(op, name, value)) for name, value in (*values, *behind)]
            puts.append(Put(place.commits, sealed(op, place.commits, now), sequence))
            try:
                first = self._bus.write(place.stream, puts, op) - len(puts) + 1
            except Stale:
                continue
            for subject in before:
                self._bus.purge(place.stream, subject, below=first)
            return

    def _drop_common(self, subjects: Iterable[str]) -> None:
        self._drop(self._common, subjects)

    def _drop(self, place: Place, subjects: Iterable[str]) -> None:
        """Have nothing left on these subjects."""
        below = self._bus.newest(place.stream) + 1
        for subject in subjects:
            self._bus.purge(place.stream, subject, below=below)

    # -- how mailboxes stand

    def put_standings(self, rows: Sequence[Standing]) -> None:
        for sdkappid, each in groupby(rows, lambda row: row.mailbox.sdkappid):
            own = list(each)

            def changed(
                told: Commit, own: Sequence[Standing] = own
            ) -> tuple[list[Written], Commit]:
                boxes = {box.kind: box for box in told.boxes}
                for row in own:
                    kind = row.mailbox.holds
                    counts = msgspec.structs.asdict(row)
                    del counts["mailbox"]
                    box = boxes.get(kind, Box(kind, log_at=1))
                    boxes[kind] = msgspec.structs.replace(box, waits_ms=0, **counts)
                return [], _with(told, boxes)

            self._commit(sdkappid, changed)

    def drop_standings(self, rows: Sequence[Standing]) -> None:
        for row in rows:
            kind = row.mailbox.holds

            def changed(told: Commit, kind: int = kind) -> tuple[list[Written], Commit]:
                return [], _with(told, {box.kind: box for box in told.boxes if box.kind != kind})

            place = self._layout.application(row.mailbox.sdkappid)
            self._commit(row.mailbox.sdkappid, changed)
            self._drop(place, [f"{place.prefix}.{kind}.>"])

    # -- what was counted

    def put_tallies(self, rows: Sequence[Tallied]) -> None:
        self._change_tallies(rows, lambda hours, row: {**hours, row.hour: row.counts})

    def drop_tallies(self, rows: Sequence[Tallied]) -> None:
        for some in _in_parts(rows):
            self._change_tallies(
                some, lambda hours, row: {hour: hours[hour] for hour in hours if hour != row.hour}
            )

    def _change_tallies(
        self, rows: Sequence[Tallied], change: Callable[[Hours, Tallied], Hours]
    ) -> None:
        """Have rows of days changed, as they are; nobody else writes any."""
        for sdkappid, each in groupby(rows, lambda row: row.sdkappid):
            place = self._layout.application(sdkappid)
            days: dict[str, Hours] = {}
            for row in each:
                subject = place.tally(row.series, row.hour)
                if subject not in days:
                    found = self._bus.last(place.stream, subject, leader=True)
                    days[subject] = {} if found is None else opened(found, TallyMessage).hours
                days[subject] = change(days[subject], row)
            values: list[Written] = [
                (subject, TallyMessage(hours)) for subject, hours in days.items() if hours
            ]
            first = self._commit(sdkappid, _only(values))
            for subject, hours in days.items():
                below = first if hours else self._bus.newest(place.stream) + 1
                self._bus.purge(place.stream, subject, below=below)

    def _commit(self, sdkappid: int, change: commits.Change) -> int:
        number = self._number()

        def changed(told: Commit) -> tuple[Sequence[Written], Commit] | None:
            due = change(told)
            if due is None:
                return None
            values, commit = due
            return values, msgspec.structs.replace(commit, gate=number)

        return commits.commit(*(self._bus, self._layout, sdkappid, self._new_op, number), changed)

    # -- chunks

    def put_chunks(self, rows: Sequence[Stored]) -> None:
        for mailbox, each in groupby(rows, lambda row: row.mailbox):
            self._put_chunks(mailbox, list(each))

    def _put_chunks(self, mailbox: Mailbox, rows: Sequence[Stored]) -> None:
        place, kind = self._layout.application(mailbox.sdkappid), mailbox.holds
        told = self._told.chunks.setdefault(mailbox, {})
        end = self._end(place, kind)
        behind = [row for row in rows if row.first_seq > end]
        others = [row for row in rows if row.first_seq <= end]
        former = [told.get(row.first_seq, ()) for row in others]
        values: list[Written] = []
        for row in behind:
            values += [(place.log(kind), part) for part in parts_of(_chunk(row))]
        for row in others:
            values += _whole(place.anew(kind, row.first_seq), _chunk(row))

        def changed(before: Commit) -> tuple[list[Written], Commit]:
            boxes = {box.kind: box for box in before.boxes}
            box = boxes.get(kind, Box(kind, log_at=1))
            for row in behind:
                if row.first_seq <= box.cursor + 1 < row.first_seq + row.count:
                    box = msgspec.structs.replace(
                        box, read_from=row.first_seq, log_at=before.previous + 1
                    )
            if others:
                firsts = [row.first_seq for row in others]
                first = min([*firsts, box.anew_from or firsts[0]])
                through = max([*firsts, box.anew_through])
                box = msgspec.structs.replace(
                    box, anew_from=first, anew_through=through, read_from=1, log_at=1
                )
            boxes[kind] = box
            return values, _with(before, boxes)

        at = self._commit(mailbox.sdkappid, changed)
        self._drop_former(place, (place.anew(kind, row.first_seq) for row in others), at)
        for sequence in (one for sequences in former for one in sequences):
            self._bus.delete(place.stream, sequence)
        for row in behind:
            parts = len(parts_of(_chunk(row)))
            told[row.first_seq] = tuple(range(at, at + parts))
            at += parts
        told.update((row.first_seq, ()) for row in others)

    def _end(self, place: Place, kind: int) -> int:
        """Up to which number chunks lie in the log, or did before they were written anew."""
        newest = self._bus.last(place.stream, place.log(kind), leader=True)
        end = 0 if newest is None else opened(newest, ChunkPart).last_seq
        found = self._bus.last(place.stream, place.commits, leader=True)
        boxes = [] if found is None else opened(found, Commit).boxes
        return max([end, *(box.anew_through for box in boxes if box.kind == kind)])

    def drop_chunks(self, rows: Sequence[Stored]) -> None:
        for mailbox, each in groupby(rows, lambda row: row.mailbox):
            place, kind = self._layout.application(mailbox.sdkappid), mailbox.holds
            told = self._told.chunks.setdefault(mailbox, {})

            def changed(before: Commit, kind: int = kind) -> tuple[list[Written], Commit]:
                boxes = {box.kind: box for box in before.boxes}
                if kind in boxes:  # what was read from may be gone
                    boxes[kind] = msgspec.structs.replace(boxes[kind], read_from=1, log_at=1)
                return [], _with(before, boxes)

            self._commit(mailbox.sdkappid, changed)
            for row in each:
                sequences = told.pop(row.first_seq, ())
                for sequence in sequences:
                    self._bus.delete(place.stream, sequence)
                if not sequences:
                    self._drop(place, _own(place.anew(kind, row.first_seq)))

    def put_aside(self, rows: Sequence[SetAside]) -> None:
        for mailbox, each in groupby(rows, lambda row: row.mailbox):
            place, kind = self._layout.application(mailbox.sdkappid), mailbox.holds
            values: list[Written] = []
            own = list(each)
            for row in own:
                values += _whole(place.bad(kind, row.first_seq), _chunk(row))
            at = self._commit(mailbox.sdkappid, _only(values))
            self._drop_former(place, (place.bad(kind, row.first_seq) for row in own), at)

    def drop_aside(self, rows: Sequence[SetAside]) -> None:
        for row in rows:
            place = self._layout.application(row.mailbox.sdkappid)
            self._drop(place, _own(place.bad(row.mailbox.holds, row.first_seq)))

    def _drop_former(self, place: Place, subjects: Iterable[str], at: int) -> None:
        """Have nothing left on subjects of what lies there from before, whatever parts it had."""
        for subject in subjects:
            for each in _own(subject):
                self._bus.purge(place.stream, each, below=at)

    # -- the journal

    def put_journal(self, rows: Sequence[JournalRow]) -> None:
        for mailbox, each in groupby(rows, lambda row: row.mailbox):
            self._put_journal(mailbox, list(each))

    def _put_journal(self, mailbox: Mailbox, rows: Sequence[JournalRow]) -> None:
        place, kind = self._layout.application(mailbox.sdkappid), mailbox.holds
        ends = self._told.ends.setdefault(mailbox, {})
        added: list[JournalRow] = []
        notes: list[Note] = []
        for row in rows:
            last_seq = row.first_seq + row.count - 1
            before, first_seq = ends.get(last_seq, (None, row.first_seq))
            if before is None:
                added.append(row)
            elif before.first_seq != row.first_seq:
                continue  # it is cut once this store is told how far it is purged
            notes += _notes(kind, first_seq, before, row)
            ends[last_seq] = row, first_seq
        values = self._keys(place, added)
        log_ats = {row.first_seq: self._log_at(mailbox, row.first_seq) for row in added}
        pulled = next((row for row in reversed(added) if row.outcome is Outcome.PULLED), None)

        def changed(before: Commit) -> tuple[list[Written], Commit]:
            here = before.previous + 1
            boxes = {box.kind: box for box in before.boxes}
            box = boxes.get(kind, Box(kind, log_at=1))
            if added and not box.left_ms:
                box = msgspec.structs.replace(box, left_ms=added[0].at_ms, rows_at=here)
            if pulled is not None:
                box = msgspec.structs.replace(
                    box, pulled_seq=pulled.first_seq, pulled_ms=pulled.at_ms
                )
            boxes[kind] = box
            told = [MessageRow.of(row, log_ats[row.first_seq]) for row in added]
            now = msgspec.structs.replace(_with(before, boxes), rows=told, notes=notes)
            return [(subject, make(here, log_ats)) for subject, make in values], now

        if added or notes:
            self._commit(mailbox.sdkappid, changed)

    def _keys(
        self, place: Place, rows: Sequence[JournalRow]
    ) -> list[tuple[str, Callable[[int, dict[int, int]], Value]]]:
        """What keys got by these rows; each message is made once the commit's place is known."""
        keyed = [row for row in rows if row.key is not None]
        names = {place.key(str(row.key)) for row in keyed}
        found = self._bus.lasts(place.stream, sorted(names)) if names else {}
        taken = {name: opened(message, KeyMessage).taken for name, message in found.items()}
        due: list[tuple[str, Callable[[int, dict[int, int]], Value]]] = []
        for row in keyed:
            name = place.key(str(row.key))
            others = [each for each in taken.get(name, ()) if each.kind != row.mailbox.holds]

            def make(
                here: int,
                log_ats: dict[int, int],
                row: JournalRow = row,
                others: Sequence[Taken] = others,
            ) -> Value:
                page = row.mailbox.holds, row.first_seq, row.count, row.at_ms, row.count_max
                told = Taken(*page, here, log_ats[row.first_seq])
                return KeyMessage(encoded(str(row.key)), [*others, told])

            due.append((name, make))
        return due

    def keep_journal(self, _rows: Sequence[JournalRow]) -> None:
        """What a source has no more it has removed: how the mailbox stands tells of that."""

    def _log_at(self, mailbox: Mailbox, seq: int) -> int:
        """Place of the chunk that holds an entry, or of one before it."""
        chunks = sorted(
            (first_seq, sequences[0])
            for first_seq, sequences in self._told.chunks.get(mailbox, {}).items()
            if sequences
        )
        at = bisect_right(chunks, (seq, 1 << 62))
        return chunks[at - 1][1] if at else 1

    # -- what is beside

    def put_copied(self, rows: Sequence[Copied]) -> None:
        for mailbox, each in groupby(rows, lambda row: row.mailbox):
            place = self._layout.application(mailbox.sdkappid)
            own = list(each)
            subject = place.again(mailbox.holds)
            self._drop_copied(place, mailbox, own)
            at = self._commit(
                mailbox.sdkappid,
                _only(
                    [
                        (
                            subject,
                            AgainMessage(row.first_seq, row.count, row.source_seq, row.act_id),
                        )
                        for row in own
                    ]
                ),
            )
            told = self._told.again.setdefault(mailbox, {})
            told.update(
                ((row.first_seq, row.act_id), sequence) for sequence, row in enumerate(own, at)
            )

    def drop_copied(self, rows: Sequence[Copied]) -> None:
        for mailbox, each in groupby(rows, lambda row: row.mailbox):
            self._drop_copied(self._layout.application(mailbox.sdkappid), mailbox, list(each))

    def _drop_copied(self, place: Place, mailbox: Mailbox, rows: Sequence[Copied]) -> None:
        told = self._told.again.get(mailbox, {})
        for row in rows:
            sequence = told.pop((row.first_seq, row.act_id), None)
            if sequence is not None:
                self._bus.delete(place.stream, sequence)

    def put_hands(self, rows: Sequence[Hand]) -> None:
        for mailbox, each in groupby(rows, lambda row: row.mailbox):
            place, kind = self._layout.application(mailbox.sdkappid), mailbox.holds
            values: list[Written] = []
            subjects: list[str] = []
            for row in each:
                log_at = self._log_at(mailbox, row.first_seq) if row.first_seq else 0
                told = ReaderRow(
                    *(row.at_ms, row.acked_seq, row.first_seq, row.count, row.taken_ms),
                    *(row.given, row.kept),
                )
                values.append(
                    (place.reader(kind, row.name), ReaderMessage(encoded(row.name), told, log_at))
                )
                subject = place.page(kind, row.name)
                subjects += [place.reader(kind, row.name), subject]
                if row.kept:
                    page = readers.sealed(place_of(mailbox, row.first_seq), row.page)
                    for part in PageMessage.of(page):
                        name = f"{subject}.{part.part}" if part.part else subject
                        values.append((name, part))
            at = self._commit(mailbox.sdkappid, _only(values))
            self._drop_former(place, subjects, at)

    def drop_hands(self, rows: Sequence[Hand]) -> None:
        for row in rows:
            place, kind = self._layout.application(row.mailbox.sdkappid), row.mailbox.holds
            pages = _own(place.page(kind, row.name))
            self._drop(place, (place.reader(kind, row.name), *pages))

    # -- what is remembered to know repeats by

    def put_batches(self, rows: Sequence[Batch]) -> None:
        place = self._common
        values: list[Written] = [
            (
                place.moved_batch(row.scope, row.key),
                RepeatMessage(
                    *(encoded(row.scope), encoded(row.key), row.digest),
                    *(row.accepted, row.accepted_ms),
                ),
            )
            for row in rows
        ]
        self._put_common(self._and_newest(values, rows))

    def drop_batches(self, rows: Sequence[Batch]) -> None:
        self._drop_common(self._common.moved_batch(row.scope, row.key) for row in rows)

    def put_prints(self, rows: Sequence[Prints]) -> None:
        """By hours, to be found, and then each row as it is, to be told again.

        So what lies there as a row can be found, wherever a run was cut off.
        """
        place = self._common
        values: list[Written] = []
        by_hours: list[Written] = []
        for row in rows:
            told = PrintsMessage(row.keys, row.accepted_ms)
            values.append((place.moved_prints(row.accepted_ms, row.keys), told))
            hours: dict[int, list[bytes]] = {}
            for key in keys_of(row.keys):
                hours.setdefault(hour_of(KEY.unpack(key)[0] >> 16), []).append(key)
            for hour, keys in hours.items():
                by_hours.append(
                    (place.moved_hour(hour), PrintsMessage(b"".join(keys), row.accepted_ms))
                )
        for some in _in_parts(by_hours):
            self._put_common([], behind=some)
        for some in _in_parts(values):
            self._put_common(self._and_newest(some, rows))

    def drop_prints(self, rows: Sequence[Prints]) -> None:
        """What lies by hours is too old to matter then, and goes as it does anywhere."""
        self._drop_common(self._common.moved_prints(row.accepted_ms, row.keys) for row in rows)

    def _and_newest(
        self, values: Sequence[Written], rows: Sequence[Batch | Prints]
    ) -> Sequence[Written]:
        place = self._common
        found = self._bus.last(place.stream, place.moved, leader=True)
        before = 0 if found is None else opened(found, MarkMessage).at_ms
        newest = max(row.accepted_ms for row in rows)
        return (
            [*values, (place.moved, MarkMessage(b"", newest, b""))] if newest > before else values
        )

    def put_nonces(self, rows: Sequence[Nonce]) -> None:
        for sdkappid, each in groupby(rows, lambda row: row.sdkappid):
            place = self._layout.application(sdkappid)
            values: list[Written] = [
                (place.once(row.nonce), OnceMessage(encoded(row.nonce), row.until_ms))
                for row in each
            ]
            self._commit(sdkappid, _only(values))

    def drop_nonces(self, rows: Sequence[Nonce]) -> None:
        for sdkappid, each in groupby(rows, lambda row: row.sdkappid):
            place = self._layout.application(sdkappid)
            self._drop(place, (place.once(row.nonce) for row in each))

    def put_names(self, rows: Sequence[Names]) -> None:
        """In their order, which is that of acceptance, within each application."""
        for sdkappid, own in groupby(sorted(rows, key=_whose), _whose):
            values: list[Written] = []
            place = self._layout.application(sdkappid)
            for at_ms, each in groupby(own, lambda row: row.accepted_ms):
                names = [Naming(list(row.slots), row.body) for row in each]
                values += [(place.names, told) for told in NamesMessage.of(sdkappid, names, at_ms)]
            self._commit(sdkappid, _only(values))

    def drop_names(self, rows: Sequence[Names]) -> None:
        """However often they are there. A message of which some stay is written anew, behind."""
        gone = set(rows)
        for partition in {self._layout.partition(row.sdkappid) for row in rows}:
            stream, subject = self._layout.stream(partition), self._layout.names(partition)
            for message in snapshots.all_of(self._bus, stream, subject, self._bus.newest(stream)):
                found = names_in(opened(message, NamesMessage))
                if not gone.isdisjoint(found):
                    self.put_names([row for row in found if row not in gone])
                    self._bus.delete(stream, message.sequence)


def _whose(row: Names) -> int:
    return row.sdkappid


def _in_parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Rows, or messages, in order, as many at once as one commit takes."""
    some: list[T] = []
    puts = size = 0
    for row in rows:
        more, larger = _puts(row), _size(row)
        if some and (puts + more > PUTS or size + larger > STEP_BYTES_MAX):
            yield some
            some, puts, size = [], 0, 0
        some.append(row)
        puts += more
        size += larger
    if some:
        yield some


def _puts(row: Row | Written) -> int:
    """How many messages a row becomes at most, in the commit that puts it."""
    if isinstance(row, ActRow):
        return 2
    if isinstance(row, Stored):
        return 1 + len(row.body) // PART_BYTES_MAX
    if isinstance(row, Hand):
        return 3 + _size(row) // PART_BYTES_MAX
    return 1


def _size(row: Row | Written) -> int:
    """About how many bytes that is, if it may be many."""
    return 0 if isinstance(row, tuple) else weight(row)


def _with(told: Commit, boxes: dict[int, Box]) -> Commit:
    return msgspec.structs.replace(told, boxes=[boxes[kind] for kind in sorted(boxes)])


def _only(values: Sequence[Written]) -> commits.Change:
    """A commit that changes nothing of how mailboxes stand."""
    return lambda told: (values, told)


def _own(subject: str) -> tuple[str, str]:
    """A subject, and those of further parts of what lies there."""
    return subject, f"{subject}.*"


def _whole(subject: str, stored: Chunk) -> list[Written]:
    """A chunk on a subject of its own, with further parts behind that."""
    return [(f"{subject}.{part.part}" if part.part else subject, part) for part in parts_of(stored)]


def _chunk(row: Stored) -> Chunk:
    checksum = chunk.checksum(place_of(row.mailbox, row.first_seq), row.bounds, row.body)
    if not row.sound:
        checksum ^= 1  # what was damaged stays so
    told = ChunkRow(row.first_seq, row.count, checksum, row.bounds, row.body)
    return Chunk(told, row.accepted_ms, row.label or b"", 1)


def _notes(kind: int, first_seq: int, before: JournalRow | None, now: JournalRow) -> list[Note]:
    """What is to be noted of a row of a reader for it to be told as it is now."""
    if now.reader is None:
        return []
    given = now.given - (1 if before is None else before.given)
    found = [Note(kind, first_seq, given=given)] if given else []
    if now.acked_ms is not None and (before is None or before.acked_ms != now.acked_ms):
        found.append(Note(kind, first_seq, acked_ms=now.acked_ms))
    if now.released_ms is not None and (before is None or before.released_ms != now.released_ms):
        found.append(Note(kind, first_seq, released_ms=now.released_ms))
    return found


_PARTS: Final[dict[Part, tuple[Callable[[Filling, Any], None], Callable[[Filling, Any], None]]]] = {
    Secret: (Filling.keep_secret, Filling.put_secret),
    Epoch: (Filling.drop_epochs, Filling.put_epochs),
    Setting: (Filling.drop_settings, Filling.put_settings),
    ActRow: (Filling.drop_acts, Filling.put_acts),
    Mark: (Filling.drop_marks, Filling.put_marks),
    Standing: (Filling.drop_standings, Filling.put_standings),
    Tallied: (Filling.drop_tallies, Filling.put_tallies),
    Stored: (Filling.drop_chunks, Filling.put_chunks),
    SetAside: (Filling.drop_aside, Filling.put_aside),
    JournalRow: (Filling.keep_journal, Filling.put_journal),
    Copied: (Filling.drop_copied, Filling.put_copied),
    Hand: (Filling.drop_hands, Filling.put_hands),
    Batch: (Filling.drop_batches, Filling.put_batches),
    Prints: (Filling.drop_prints, Filling.put_prints),
    Nonce: (Filling.drop_nonces, Filling.put_nonces),
    Names: (Filling.drop_names, Filling.put_names),
}
