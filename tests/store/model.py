"""A store as plain dicts and lists: what an engine must be indistinguishable from."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import msgspec

from pullstatus import limits
from pullstatus.errors import (
    AcknowledgementRefused,
    KeyReused,
    PullstatusError,
    ReplayRefused,
    SettingChanged,
    TooManyReaders,
)
from pullstatus.store import (
    NO_TICKET,
    Act,
    Again,
    Append,
    Backlog,
    Change,
    Count,
    Discard,
    Entry,
    Erased,
    Follow,
    Followed,
    Index,
    JournalRow,
    Mailbox,
    Named,
    Naming,
    Noted,
    Outcome,
    Page,
    Park,
    Pull,
    PutAside,
    Reader,
    ReaderState,
    Redeliver,
    Release,
    Segment,
    Tally,
    Unfollow,
    Unpark,
    While,
)
from pullstatus.store.segments import words
from tests.store.build import EMPTY, PULL_KEY_MS, REPEAT_MS

Answer = int | Page | type[PullstatusError]


class Box(msgspec.Struct):
    """One mailbox: all it ever got, and what became of it."""

    entries: list[tuple[int, bytes, bytes]] = []  # when, what, by which ticket
    journal: list[JournalRow] = []
    purged: int = 0
    readers: dict[str, ReaderState] = {}
    left: Counter[Outcome] = msgspec.field(default_factory=Counter)
    followed: Followed = Followed()
    spans: dict[int, int] = {}
    hashes: dict[tuple[Index, int], int] = {}  # by index and number of an entry

    @property
    def cursor(self) -> int:
        return sum(self.left.values())

    @property
    def waiting(self) -> int:
        return len(self.entries) - self.cursor

    @property
    def mark(self) -> Followed:
        through, tallied = (
            max(self.purged, each) for each in (self.followed.through, self.followed.tallied)
        )
        return Followed(through, tallied, self.followed.turn)

    def sought(self, index: Index, hashed: int) -> list[int]:
        return sorted(
            seq for (found, seq), has in self.hashes.items() if (found, has) == (index, hashed)
        )

    def put_segment(self, segment: Segment) -> None:
        seqs = range(segment.first_seq, segment.last_seq + 1)
        self.drop_spans([first for first in self.spans if first in seqs])
        self.spans[segment.first_seq] = segment.count
        for index in Index:
            for found in words(segment, index):
                self.hashes[index, segment.first_seq + (found & 0xFFFF)] = found >> 16

    def drop_spans(self, firsts: Sequence[int]) -> None:
        for first in firsts:
            seqs = range(first, first + self.spans.pop(first))
            self.hashes = {key: has for key, has in self.hashes.items() if key[1] not in seqs}

    def leave(self, row: JournalRow) -> None:
        self.journal.append(row)
        erased = len(self.erased(row.first_seq, row.count))
        if row.outcome is Outcome.PULLED and not row.mailbox.aside:
            self.left[Outcome.ERASED] += erased
            self.left[row.outcome] -= erased
        self.left[row.outcome] += row.count

    def erased(self, first_seq: int, count: int) -> list[int]:
        """Those of a range that were erased: an entry that was is empty."""
        return [seq for seq in range(first_seq, first_seq + count) if not self.entries[seq - 1][1]]

    def kept(self, first_seq: int, count: int) -> list[bytes]:
        """What is left of a range."""
        return [data for _, data, _ in self.entries[first_seq - 1 :][:count] if data]


class Model:
    """The verbs of `Store`, one at a time; a refusal is answered as its class."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[int, int, int], tuple[int, ...]] = {}
        self.names: list[tuple[int, int, Naming]] = []  # application, when, block
        self.names_in_order = True  # those of one millisecond, until they are moved
        self.boxes: dict[Mailbox, Box] = {}
        self.batches: dict[tuple[str, str], tuple[bytes, int, int]] = {}
        self.prints: dict[tuple[str, int, bytes], int] = {}
        self.once: dict[tuple[int, str], int] = {}
        self.settings: dict[str, tuple[bytes | None, int]] = {}
        self.again: dict[Mailbox, list[Again]] = {}
        self.acts: list[Act] = []
        self.marks: dict[str, Noted] = {}

    def copy(self) -> Model:
        return copy.deepcopy(self)

    def do(self, operation: Append | Pull) -> Answer:
        return self.append(operation) if isinstance(operation, Append) else self.pull(operation)

    def append(self, operation: Append) -> Answer:
        if not self.holds(operation.while_set):
            return SettingChanged
        key = operation.repeat_key
        if key is not None:
            known = self.batches.get((key.scope, key.key))
            if known is not None and operation.at_ms - known[2] <= REPEAT_MS:
                return 0 if known[0] == key.digest else KeyReused
            self.batches[key.scope, key.key] = (
                key.digest,
                len(operation.entries),
                operation.at_ms,
            )
        fresh = operation.entries
        if operation.fingerprints is not None:
            fresh = []
            scope, told = operation.fingerprints.scope, operation.fingerprints.items
            for entry, (record_s, digests) in zip(operation.entries, told, strict=True):
                names = [
                    (scope, record_s, digests[at : at + 16]) for at in range(0, len(digests), 16)
                ]
                unknown = [
                    name
                    for name in names
                    if name not in self.prints or operation.at_ms - self.prints[name] > REPEAT_MS
                ]
                if names[0] in unknown:  # those behind it are remembered with it
                    self.prints |= dict.fromkeys(unknown, operation.at_ms)
                    fresh.append(entry)
        if fresh:
            box = self.boxes.setdefault(operation.mailbox, Box())
            box.entries += [(operation.at_ms, entry, operation.ticket) for entry in fresh]
        return len(fresh)

    def park(self, operation: Park) -> PutAside | type[SettingChanged]:
        records = operation.records
        if not self.holds(records.while_set):
            return SettingChanged
        stored = self.append(records)
        assert isinstance(stored, int)
        mailbox, at_ms = operation.mailbox, records.at_ms
        known = len(self.entries(mailbox))
        items = Append(mailbox, operation.entries, at_ms, None, operation.fingerprints)
        self.append(msgspec.structs.replace(items, ticket=records.ticket))
        box = self.boxes.get(mailbox, Box())
        waiting = [len(data) for _, data, _ in box.entries[box.cursor :]]
        count = 0
        if len(box.entries) > known:
            while len(waiting) - count > 1 and (
                len(waiting) - count > operation.items_max
                or sum(waiting[count:]) > operation.bytes_max
            ):
                count += 1
        if count:
            box.leave(
                JournalRow(
                    *(mailbox, box.cursor + 1, count, Outcome.EXPIRED, at_ms),
                    *("", None, 0, "", records.ticket),
                )
            )
        return PutAside(stored, len(box.entries) - known, count)

    def unpark(self, operation: Unpark) -> int | type[SettingChanged]:
        box = self.boxes.get(operation.mailbox, Box())
        fits = box.cursor + 1 == operation.first_seq and len(operation.outcomes) <= box.waiting
        stored_by = [*operation.records, *(each.records for each in operation.aside)]
        conditions = [operation.while_set, *(each.while_set for each in stored_by)]
        if not all(map(self.holds, conditions)) or not fits:
            return SettingChanged
        act_id = self.record(operation.act)
        mailbox, at_ms, ticket = operation.mailbox, operation.at_ms, operation.ticket
        back = iter(operation.back)
        for outcome, run in itertools.groupby(operation.outcomes):
            count = len(list(run))
            first_seq = box.cursor + 1
            if outcome is Outcome.PUT_BACK:
                # What nobody has put back on purpose leaves no trace of it.
                copies = Again(len(box.entries) + 1, count, first_seq, act_id)
                if act_id:
                    self.again.setdefault(mailbox, []).append(copies)
                box.entries += [(at_ms, next(back), ticket) for _ in range(count)]
            row = (mailbox, first_seq, count, outcome, at_ms, "", None, 0, "", ticket)
            box.leave(JournalRow(*row))
        for aside in operation.aside:
            self.park(aside)
        stored = 0
        for each in operation.records:
            before = len(self.entries(each.mailbox))
            self.append(each)
            stored += len(self.entries(each.mailbox)) - before
        return stored

    def pull(self, operation: Pull) -> Answer:
        box = self.boxes.get(operation.mailbox, Box())
        if not self.holds(operation.while_set):
            return SettingChanged
        if operation.reader is not None:
            return self.pull_of_reader(operation, operation.reader)
        if operation.key is not None:
            for row in self._rows_of(operation.mailbox.sdkappid, operation.key):
                if not self.boxes[row.mailbox].kept(row.first_seq, row.count):
                    continue
                after = operation.keyed_after[row.mailbox.kind] if operation.keyed_after else 0
                if row.first_seq > after and operation.at_ms - row.at_ms <= PULL_KEY_MS:
                    same = (row.mailbox, row.count_max) == (operation.mailbox, operation.count_max)
                    return self._page(box, row, repeated=True) if same else KeyReused
        if not self._spend(operation):
            return ReplayRefused
        return self._take(box, operation) if box.waiting else EMPTY

    def pull_of_reader(self, operation: Pull, reader: Reader) -> Answer:
        box = self.boxes.get(operation.mailbox, Box())
        former = operation.keyed_after[operation.mailbox.kind] if operation.keyed_after else 0
        state = box.readers.get(reader.name) or ReaderState(operation.mailbox, reader.name)
        in_hand = state.first_seq if state.first_seq > former else 0
        acked = state.acked_seq if state.acked_seq > former else 0
        acknowledges = in_hand and reader.ack == in_hand
        if reader.ack is not None and not acknowledges and not (acked and reader.ack == acked):
            return AcknowledgementRefused
        again = in_hand and not acknowledges and operation.count_max
        takes = not again and operation.count_max and box.waiting
        if takes and reader.name not in box.readers and not self._room(box):
            return TooManyReaders
        if not self._spend(operation):
            return ReplayRefused
        at_ms = operation.at_ms
        if again:
            state = box.readers[reader.name] = msgspec.structs.replace(
                state, given=state.given + 1, at_ms=at_ms
            )
            self._note(box, in_hand, given=state.given)
            entries = box.kept(in_hand, state.count)
            page = (in_hand, len(entries), b",".join(entries), box.waiting)
            return Page(*page, repeated=True, given=state.given)
        if acknowledges:
            self._note(box, in_hand, acked_ms=at_ms)
            acked = in_hand
            box.readers[reader.name] = self._idle(state, at_ms)
        if not takes:
            return Page(0, 0, b"", box.waiting)
        taken = self._take(box, operation)
        if not taken.count:  # all that waited was erased
            return taken
        if reader.name not in box.readers and len(box.readers) >= limits.READERS_MAX:
            del box.readers[self._room(box)[0]]
        if state.first_seq and not in_hand:
            self._note(box, state.first_seq, released_ms=at_ms)
        box.readers[reader.name] = ReaderState(
            operation.mailbox,
            reader.name,
            first_seq=taken.first_seq,
            count=box.journal[-1].count,
            taken_ms=at_ms,
            given=1,
            acked_seq=acked,
            at_ms=at_ms,
        )
        return taken

    def release(self, operation: Release) -> int | type[SettingChanged]:
        if not self.holds(operation.while_set):
            return SettingChanged
        box = self.boxes.get(operation.mailbox, Box())
        state = box.readers.get(operation.name)
        if state is None or not state.first_seq or state.first_seq != operation.first_seq:
            return 0
        self._note(box, state.first_seq, released_ms=operation.at_ms)
        box.readers[operation.name] = self._idle(state, operation.at_ms)
        self.record(operation.act)
        return state.count

    def erase(self, mailbox: Mailbox, holding: list[list[bytes]], at_ms: int) -> Erased:
        box = self.boxes.get(mailbox, Box())
        meant = [
            seq
            for seq, (_, data, _) in enumerate(box.entries, start=1)
            if data and any(all(part in data for part in parts) for parts in holding)
        ]
        for seq in meant:
            at, _, ticket = box.entries[seq - 1]
            box.entries[seq - 1] = (at, b"", ticket)
            for index in Index:
                box.hashes.pop((index, seq), None)
        for name, state in box.readers.items():
            seqs = range(state.first_seq, state.first_seq + state.count)
            touched = state.first_seq and any(seq in seqs for seq in meant)
            if touched and not box.kept(state.first_seq, state.count):
                self._note(box, state.first_seq, released_ms=at_ms)
                box.readers[name] = self._idle(state, at_ms)
        waiting = sum(seq > box.cursor for seq in meant)
        if waiting:
            self._pass_erased(box, mailbox, at_ms, NO_TICKET)
        return Erased(waiting, len(meant) - waiting)

    def _pass_erased(self, box: Box, mailbox: Mailbox, at_ms: int, ticket: bytes) -> None:
        """What was erased and leads its mailbox leaves."""
        waiting = box.entries[box.cursor :]
        count = len(list(itertools.takewhile(lambda entry: not entry[1], waiting)))
        if count:
            row = (mailbox, box.cursor + 1, count, Outcome.ERASED, at_ms)
            box.leave(JournalRow(*row, "", None, 0, "", ticket))

    def readers(self) -> list[ReaderState]:
        return [state for box in self.boxes.values() for state in box.readers.values()]

    def discard(self, operation: Discard) -> int | type[SettingChanged]:
        if not self.holds(operation.while_set):
            return SettingChanged
        box = self.boxes.get(operation.mailbox, Box())
        last = len(box.entries)
        if operation.accepted_before_ms is not None:
            while last > box.cursor and box.entries[last - 1][0] >= operation.accepted_before_ms:
                last -= 1
        if operation.through is not None:
            last = max(box.cursor, min(last, operation.through))
        count = last - box.cursor
        if count:
            row = (operation.mailbox, box.cursor + 1, count, operation.outcome, operation.at_ms)
            box.leave(JournalRow(*row, "", None, 0, "", operation.ticket))
            self.record(operation.act)
        return count

    def record(self, act: Act | None) -> int:
        """The number of an act, on record from now on; 0 without one."""
        if act is None:
            return 0
        if act not in self.acts:
            self.acts.append(act)
        return self.acts.index(act) + 1

    def redeliver(self, operation: Redeliver) -> int | type[SettingChanged] | None:
        """None: it is refused."""
        if not self.holds(operation.while_set):
            return SettingChanged
        mailbox = operation.mailbox
        box = self.boxes.get(mailbox, Box())
        copied = {
            again.source_seq + place
            for again in self.again.get(mailbox, [])
            if self.acts[again.act_id - 1] == operation.act
            for place in range(again.count)
        }
        runs: list[list[int]] = []
        for first_seq, count in operation.ranges:
            follows = False
            for seq in range(first_seq, first_seq + count):
                fresh = seq not in copied
                if fresh and not box.purged < seq <= box.cursor:
                    return None
                fresh = fresh and not box.erased(seq, 1)
                if fresh and not follows:
                    runs.append([])
                if fresh:
                    runs[-1].append(seq)
                copied.add(seq)
                follows = fresh
        if not runs:
            return 0
        act_id = self.record(operation.act)
        for run in runs:
            marked = Again(len(box.entries) + 1, len(run), run[0], act_id)
            self.again.setdefault(mailbox, []).append(marked)
            box.entries += [
                (operation.at_ms, box.entries[seq - 1][1], operation.ticket) for seq in run
            ]
        return sum(map(len, runs))

    def purge(self, left_before_ms: int) -> int:
        return sum(
            self._remove(mailbox, lambda row: row.at_ms < left_before_ms) for mailbox in self.boxes
        )

    def remove(self, mailbox: Mailbox, through: int) -> int:
        return self._remove(mailbox, lambda row: row.first_seq <= through)

    def _remove(self, mailbox: Mailbox, is_due: Callable[[JournalRow], bool]) -> int:
        box = self.boxes.get(mailbox, Box())
        before = box.purged
        followed = len(box.entries) if mailbox.aside else box.mark.through
        while box.journal and is_due(box.journal[0]):
            if box.purged + box.journal[0].count > followed:
                break
            box.purged += box.journal.pop(0).count
        for name, state in box.readers.items():
            kept = 0 < state.first_seq <= box.purged
            box.readers[name] = msgspec.structs.replace(state, kept=kept)
        self.again[mailbox] = [
            left
            for copies in self.again.get(mailbox, [])
            if (left := behind(copies, box.purged)).count > 0
        ]
        ended = [first for first, size in box.spans.items() if first + size <= box.purged + 1]
        box.drop_spans(ended)
        return box.purged - before

    def follow(self, operation: Follow) -> bool:
        box = self.boxes.get(operation.mailbox, Box())
        before, through = operation.expected, operation.through
        if box.mark != before or not before.through < through <= len(box.entries):
            return False
        if operation.segment is not None:
            box.put_segment(operation.segment)
        box.followed = Followed(through, max(before.tallied, through), before.turn)
        self._tally(operation.mailbox.sdkappid, operation.tallies)
        return True

    def unfollow(self, operation: Unfollow) -> bool:
        mailbox = operation.mailbox
        box = self.boxes.get(mailbox)
        if box is None or box.mark != operation.expected:
            return False
        box.drop_spans(list(box.spans))
        if operation.from_hour is not None:
            self.tallies = {
                (sdkappid, series, hour): counts
                for (sdkappid, series, hour), counts in self.tallies.items()
                if (sdkappid, series) != (mailbox.sdkappid, mailbox.holds)
                or hour < operation.from_hour
            }
        box.followed = Followed(box.purged, operation.tallied, operation.expected.turn + 1)
        return True

    def count(self, operation: Count) -> bool | type[PullstatusError]:
        if not self.holds(operation.while_set):
            return SettingChanged
        for mailbox, expected in operation.while_followed:
            box = self.boxes.get(mailbox)
            if (Followed() if box is None else box.mark) != expected:
                return False
        key = operation.repeat_key
        if key is not None:
            known = self.batches.get((key.scope, key.key))
            if known is not None and operation.at_ms - known[2] <= REPEAT_MS:
                return False if known[0] == key.digest else KeyReused
            self.batches[key.scope, key.key] = (key.digest, len(operation.tallies), operation.at_ms)
        self._tally(operation.sdkappid, operation.tallies)
        self.names += [(operation.sdkappid, operation.at_ms, block) for block in operation.names]
        return True

    def named(self, slots: Collection[int], sdkappid: int | None) -> list[Named]:
        return [
            Named(whose, block.slots, block.body)
            for whose, _, block in reversed(self.names)
            if not set(slots).isdisjoint(block.slots) and sdkappid in (None, whose)
        ]

    def forget(self, before_ms: int) -> None:
        self.names = [each for each in self.names if each[1] >= before_ms]

    def stay_behind(self) -> None:
        """As a store is that was moved: segments are made anew, and equal names are one."""
        known = {(*each[:2], tuple(each[2].slots), each[2].body): each for each in self.names}
        self.names = list(known.values())
        self.names_in_order = False
        for box in self.boxes.values():
            box.followed = Followed(0, box.mark.tallied, 0)
            box.spans, box.hashes = {}, {}

    def _tally(self, sdkappid: int, tallies: Sequence[Tally]) -> None:
        for tally in tallies:
            place = sdkappid, tally.series, tally.hour
            pairs = itertools.zip_longest(self.tallies.get(place, ()), tally.counts, fillvalue=0)
            self.tallies[place] = tuple(map(sum, pairs))

    def tallied(self, sdkappid: int) -> list[Tally]:
        return [
            Tally(*place[1:], counts)
            for place, counts in sorted(self.tallies.items())
            if place[0] == sdkappid
        ]

    def mark(self, times: dict[str, Noted]) -> None:
        for name, noted in times.items():
            before = self.marks.pop(name, noted)
            if noted.at_ms:
                self.marks[name] = noted if noted.at_ms > before.at_ms else before

    def holds(self, condition: While | None) -> bool:
        return condition is None or self.revision(condition.name) == condition.revision

    def revision(self, name: str) -> int:
        return self.settings.get(name, (None, 0))[1]

    def change(self, changes: list[Change], act: Act | None = None) -> bool:
        for each in changes:
            before, revision = self.settings.get(each.name, (None, 0))
            if before != each.expected or each.revision not in (None, revision):
                return False
        for each in changes:
            newest = max((revision for _, revision in self.settings.values()), default=0)
            self.settings[each.name] = (each.value, newest + 1)
        self.record(act)
        return True

    def entries(self, mailbox: Mailbox) -> list[Entry]:
        """All that was ever there, what was purged included."""
        box = self.boxes.get(mailbox, Box())
        return [Entry(seq, *entry) for seq, entry in enumerate(box.entries, start=1)]

    def journal(self, mailbox: Mailbox) -> list[JournalRow]:
        return self.boxes.get(mailbox, Box()).journal

    def waiting(self, mailbox: Mailbox) -> int:
        return self.boxes.get(mailbox, Box()).waiting

    def backlog(self) -> list[Backlog]:
        return [
            Backlog(
                mailbox,
                len(box.entries),
                box.left[Outcome.PULLED],
                box.waiting,
                box.left[Outcome.EXPIRED],
                box.left[Outcome.ERASED],
                put_back=box.left[Outcome.PUT_BACK],
                routed=box.left[Outcome.ROUTED],
                purged=box.purged,
                oldest_ms=box.entries[box.cursor][0] if box.waiting else None,
                last_pull_ms=next(
                    (row.at_ms for row in box.journal[::-1] if row.outcome is Outcome.PULLED), None
                ),
                followed=box.mark,
            )
            for mailbox, box in sorted(self.boxes.items())
        ]

    def _spend(self, operation: Pull) -> bool:
        if operation.once is not None:
            name = (operation.mailbox.sdkappid, operation.once.nonce)
            if self.once.get(name, -1) >= operation.at_ms:
                return False
            self.once[name] = operation.once.until_ms
        return True

    def _take(self, box: Box, operation: Pull) -> Page:
        self._pass_erased(box, operation.mailbox, operation.at_ms, operation.ticket)
        if not box.waiting:
            return EMPTY
        first_seq = box.cursor + 1
        live = [seq for seq in range(first_seq, len(box.entries) + 1) if box.kept(seq, 1)]
        full = len(live) >= operation.count_max
        last = live[operation.count_max - 1] if full else len(box.entries)
        row = JournalRow(
            operation.mailbox,
            first_seq,
            last + 1 - first_seq,
            Outcome.PULLED,
            operation.at_ms,
            operation.address,
            operation.key,
            operation.count_max,
            operation.proof,
            operation.ticket,
            reader=None if operation.reader is None else operation.reader.name,
        )
        box.leave(row)
        return self._page(box, row)

    def _idle(self, state: ReaderState, at_ms: int) -> ReaderState:
        """A reader that has acknowledged what it had."""
        return ReaderState(
            state.mailbox,
            state.name,
            taken_ms=state.taken_ms,
            acked_seq=state.first_seq,
            at_ms=at_ms,
        )

    def _note(self, box: Box, first_seq: int, **members: int) -> None:
        """Write into the journal row of a page, if there still is one."""
        for place, row in enumerate(box.journal):
            if row.first_seq == first_seq:
                box.journal[place] = msgspec.structs.replace(row, **members)

    def _room(self, box: Box) -> list[str]:
        """Nobody (""), or whoever can be forgotten, first who came longest ago."""
        if len(box.readers) < limits.READERS_MAX:
            return [""]
        idle = [state for state in box.readers.values() if not state.first_seq]
        return [state.name for state in sorted(idle, key=lambda state: (state.at_ms, state.name))]

    def _rows_of(self, sdkappid: int, key: str) -> list[JournalRow]:
        return [
            row
            for mailbox, box in self.boxes.items()
            if mailbox.sdkappid == sdkappid
            for row in box.journal
            if row.key == key
        ]

    def _page(self, box: Box, row: JournalRow, *, repeated: bool = False) -> Page:
        taken = box.kept(row.first_seq, row.count)
        return Page(row.first_seq, len(taken), b",".join(taken), box.waiting, repeated)


def behind(copies: Again, purged: int) -> Again:
    """What is left of a range of copies when entries up to a number are removed."""
    cut = max(0, purged + 1 - copies.first_seq)
    return Again(copies.first_seq + cut, copies.count - cut, copies.source_seq + cut, copies.act_id)
