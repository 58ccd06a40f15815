"""Reading a mailbox from some entry on, a chunk at a time, every byte proven before it leaves."""

from __future__ import annotations

from pullstatus.errors import StoreCorrupt
from pullstatus.store import chunk
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import Tables


class Head:
    """A place in a mailbox that moves forward as entries are taken.

    `seq` is the next entry's number, `read_from` the first number of the chunk it is in.
    """

    def __init__(self, tables: Tables, state: State, read_from: int, seq: int) -> None:
        """Begin at `seq`, in the chunk of a mailbox that begins at `read_from`."""
        self.seq = seq
        self._key = state.key
        self._rows = tables.chunks(state, read_from)
        self._first = read_from
        self._count = 0
        self._bounds = self._body = b""
        self._damaged: list[int] = []
        self._empty: list[int] = []  # erased

    @property
    def read_from(self) -> int:
        """Where reading would have to begin again."""
        unread = not self._count  # as when the only pulls were repeats, which read elsewhere
        return self._first if unread or self.seq < self._first + self._count else self.seq

    def damaged(self, count_max: int) -> int:
        """How many entries from here on are not what was stored, up to the first that is."""
        self._arrive()
        start = self.seq - self._first
        stop = start
        while stop in self._damaged and stop - start < count_max:
            stop += 1
        return stop - start

    def pass_erased(self, count_max: int) -> int:
        """Move past those that were erased, up to the first that was not; returns how many."""
        count = 0
        while count < count_max:
            self._arrive()
            place = self.seq - self._first
            if place in self._damaged or place not in self._empty:
                break
            self.skip(1)
            count += 1
        return count

    def skip(self, count: int) -> None:
        """Move past `count` entries of the chunk at hand."""
        self.seq += count

    def take(self, count_max: int, waiting: int) -> tuple[int, list[bytes | chunk.Piece]]:
        """Up to `count_max` of the next `waiting` entries, as they lie, and how many.

        Erased ones are passed over and not counted; fewer come before a damaged one.
        """
        pieces: list[bytes | chunk.Piece] = []
        left, last = count_max, self.seq + waiting - 1
        while left and self.seq <= last:
            self._arrive()
            start = self.seq - self._first
            stop = min(start + left, self._count, last + 1 - self._first)
            if self._damaged:
                stop = min([stop, *(place for place in self._damaged if place >= start)])
                if stop == start:
                    break
            if self._empty:
                if start in self._empty:
                    self.seq += 1
                    continue
                stop = min([stop, *(place for place in self._empty if place > start)])
            pieces.append(chunk.cut(self._bounds, self._body, start, stop))
            self.seq += stop - start
            left -= stop - start
        return count_max - left, pieces

    def take_each(self, count: int) -> list[bytes] | None:
        """`count` entries, one by one, each that was erased as `ERASED_WAITING`; None: damaged."""
        entries: list[bytes] = []
        while len(entries) < count:
            self._arrive()
            start = self.seq - self._first
            stop = min(start + count - len(entries), self._count)
            joined = chunk.readable(self._bounds, self._body)
            if joined is None or any(start <= place < stop for place in self._damaged):
                return None
            entries += [
                chunk.ERASED_WAITING if place in self._empty else entry
                for place, entry in enumerate(chunk.parts(self._bounds, joined))
                if start <= place < stop
            ]
            self.seq += stop - start
        return entries

    def _arrive(self) -> None:
        """Have the chunk at hand that holds the next entry."""
        while self.seq >= self._first + self._count:
            row = next(self._rows, None)
            if row is None or row[0] > self.seq:
                raise StoreCorrupt(f"the entry numbered {self.seq} of a mailbox is missing")
            self._first, self._count, checksum, self._bounds, self._body = row
            self._damaged = []
            self._empty = []
            if chunk.checksum(self._key + self._first, self._bounds, self._body) == checksum:
                self._count = chunk.entry_count(self._bounds)  # proven, as the column is not
                if self._count > 1 or len(self._body) <= len(chunk.ERASED_LATER):
                    self._empty = chunk.empty_places(self._bounds)
            else:
                self._damaged = chunk.damaged(self._count, self._bounds, self._body)
                if len(self._damaged) < self._count:
                    self._empty = chunk.empty_places(self._bounds)
                    # The entries are proven one by one, the commas between them are not.
                    self._body = b",".join(chunk.unpack(self._bounds, self._body))


def read_again(tables: Tables, state: State, first_seq: int, count: int) -> list[bytes] | None:
    """The entries of a page that was taken, but for erased ones; None if they are damaged.

    A journal row has no checksum of its own, and one that says too much would hand out what another
    pull has had: so the next one must begin where this one ends.
    """
    following = tables.next_row(state, first_seq)
    if first_seq + count != (state.cursor + 1 if following is None else following):
        return None
    entries = Head(tables, state, tables.chunk_at(state, first_seq), first_seq).take_each(count)
    if entries is None:
        return None
    return [entry for entry in entries if entry != chunk.ERASED_WAITING]
