"""Names of sends: in which messages the blocks are that have a hash. See `Store.named`.

Blocks lie in the order in which they were registered, those of all applications of a partition on
one subject. To find them by hashes there, each name would be a subject, and each node has some
hundred bytes of each subject in memory. So each process that is asked has an index of its own, in
a temporary file. It asks the leader each time what was registered last, reads what it does not
know yet, and then the blocks:

    names      1 ............... through ..... newest
               index (temporary)  read now

Nothing rests on what the index tells: what is no longer there is passed over, and what is read has
the hash or is not what was sought.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import apsw

from pullstatus import limits
from pullstatus.errors import StoreUnavailable, WorldError
from pullstatus.store.jetstream.messages import NamesMessage, is_whole, opened
from pullstatus.store.jetstream.proven import of_anybody
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus, Message
from pullstatus.store.values import Named

_STEP: Final = 256  # messages that are read at once, to be known
_READS: Final = 64  # the same, to be told
_PRUNE: Final = 1 << 16  # hashes of what is gone that are kept, and a quarter of all


class Sought(NamedTuple):
    """What is asked: hashes, and of which application alone; None: of any."""

    slots: tuple[int, ...]
    sdkappid: int | None


class Names:
    """The names of a store. To be asked by one thread at a time."""

    def __init__(self, bus: Bus, layout: Layout) -> None:
        """Nothing is read yet."""
        self._layout = layout
        self._partitions = [
            _Partition(bus, layout.stream(each), layout.names(each))
            for each in range(layout.partitions)
        ]

    def look(self, sought: Sequence[Sought]) -> Mapping[Sought, list[Named] | Exception]:
        """The blocks of each of these, with all that was registered until now; or what is wrong."""
        followed: set[int] = set()
        found: dict[Sought, list[Named] | Exception] = {}
        for each in sought:
            try:
                found[each] = self._named(each, followed)
            except WorldError as error:
                found[each] = error
            except apsw.Error as error:
                found[each] = StoreUnavailable(_NO_FILE.format(error))
        return found

    def _named(self, sought: Sought, followed: set[int]) -> list[Named]:
        own = sought.sdkappid
        whose = range(len(self._partitions)) if own is None else [self._layout.partition(own)]
        found: list[Named] = []
        for number in whose:
            if number not in followed:
                self._partitions[number].follow()
                followed.add(number)
            found += self._partitions[number].named(sought)
        return found


class _Partition:
    """The names of one."""

    def __init__(self, bus: Bus, stream: str, subject: str) -> None:
        self._bus = bus
        self._stream = stream
        self._subject = subject
        self._index = _Index()
        self._through = 0

    def follow(self) -> None:
        """Learn what was registered since."""
        newest = self._bus.last(self._stream, self._subject, leader=True)
        if newest is None:  # all there was is forgotten
            self._index = _Index()
            return
        while self._through < newest.sequence:
            messages = self._following(self._through + 1, _STEP)
            if not messages:
                return  # it is forgotten meanwhile
            self._index.add(messages)
            self._through = messages[-1].sequence
            if self._index.is_due:
                self._index.prune(self._first())

    def _following(self, sequence: int, count: int) -> list[Message]:
        return self._bus.following(self._stream, self._subject, sequence, count=count, leader=True)

    def _first(self) -> int:
        """Sequence of the first that is left."""
        return next((message.sequence for message in self._following(1, 1)), self._through + 1)

    def named(self, sought: Sought) -> list[Named]:
        """The blocks that have one of these hashes, as far as is known, the newest first."""
        room = dict.fromkeys(sought.slots, limits.NAMES_FOUND_MAX)
        found: list[Named] = []
        for message in self._messages(sorted(self._index.places(sought), reverse=True)):
            told = opened(message, NamesMessage)
            for slots, body in reversed(told.named()):
                wanted = room.keys() & slots
                if wanted:
                    found.append(Named(told.sdkappid, slots.tolist(), body))
                for slot in wanted:
                    room[slot] -= 1
                    if not room[slot]:
                        del room[slot]
            if not room:
                break
        return found

    def _messages(self, sequences: Sequence[int]) -> Iterator[Message]:
        """What lies there, in this order, without what is forgotten, or damaged on any node."""
        for start in range(0, len(sequences), _READS):
            some = sequences[start : start + _READS]
            starts = [(self._subject, sequence) for sequence in some]
            told = self._bus.following_each(self._stream, starts, count=1, bytes_max=1, leader=True)
            found = {message.sequence: message for messages in told for message in messages}
            missing = [sequence for sequence in some if sequence not in found]
            found |= self._of_others(missing)
            yield from (
                found[sequence]
                for sequence in some
                if sequence in found and is_whole(found[sequence])
            )

    def _of_others(self, missing: Collection[int]) -> dict[int, Message]:
        """What the leader has lost: it lies behind the first that is left, and others have it."""
        found: dict[int, Message] = {}
        first = self._first() if missing else 0
        for sequence in missing:
            if sequence > first:
                asked = self._bus, self._stream, self._subject, sequence
                for message in of_anybody(*asked, _has(sequence), count=1):
                    found[message.sequence] = message
        return found


def _has(sequence: int) -> Callable[[Sequence[Message]], bool]:
    return lambda messages: any(message.sequence == sequence for message in messages)


class _Index:
    """By hash and application, the sequences of messages; some may be gone."""

    def __init__(self) -> None:
        self._file = apsw.Connection("")  # nobody else sees it, and what does not fit goes to disk
        self._file.execute(
            "CREATE TABLE name (slot INTEGER, sdkappid INTEGER, sequence INTEGER,"
            " PRIMARY KEY (slot, sdkappid, sequence)) WITHOUT ROWID"
        )
        self._rows = self._due = 0

    @property
    def is_due(self) -> bool:
        """Whether so much was added that some may be gone."""
        return self._rows > self._due

    def add(self, messages: Sequence[Message]) -> None:
        """Know these, but for what is damaged on any node."""
        rows: list[tuple[int, int, int]] = []
        for message in messages:
            if is_whole(message):
                told = opened(message, NamesMessage)
                slots = {slot for own, _ in told.named() for slot in own}
                rows += [(slot, told.sdkappid, message.sequence) for slot in slots]
        with self._file:
            self._file.executemany("INSERT OR IGNORE INTO name VALUES (?, ?, ?)", rows)
        self._rows += len(rows)

    def prune(self, first: int) -> None:
        """Know no more what lies before the first that is left."""
        self._file.execute("DELETE FROM name WHERE sequence < ?", (first,))
        self._rows -= self._file.changes()
        self._due = self._rows + self._rows // 4 + _PRUNE

    def places(self, sought: Sought) -> set[int]:
        """Where any of these hashes is; of each the newest."""
        whose = () if sought.sdkappid is None else (sought.sdkappid,)
        query = _PLACES[bool(whose)]
        return {
            sequence
            for slot in set(sought.slots)
            for (sequence,) in self._file.execute(query, (slot, *whose, limits.NAMES_FOUND_MAX))
        }


_PLACES: Final = [
    f"SELECT sequence FROM name WHERE slot = ?{whose} ORDER BY sequence DESC LIMIT ?"  # noqa: S608
    for whose in ("", " AND sdkappid = ?")
]
_NO_FILE: Final = (
    "names cannot be looked up: their index, a temporary file, failed ({}); set TMPDIR to a folder"
    " that has room"
)
