"""How each mailbox stands: a copy in memory of the rows, and drafts of it in a transaction.

The copy makes counting and empty pulls free. Another process may change the file, so it is read
anew whenever SQLite says that somebody did.
"""

from __future__ import annotations

import copy

import apsw
import msgspec

from pullstatus.errors import StoreCorrupt
from pullstatus.records import Kind
from pullstatus.store.sqlite import schema
from pullstatus.store.values import Mailbox, Outcome


def slot(mailbox: Mailbox) -> int:
    """A mailbox as one small integer, for dictionaries on the hot path."""
    return mailbox.sdkappid << 1 | mailbox.kind


class State(msgspec.Struct):
    """One mailbox's row, and `read_from`: the first number of the chunk that its head is in."""

    mailbox: Mailbox
    number: int
    key: int
    read_from: int
    tail: int = 0
    cursor: int = 0
    handed_out: int = 0
    expired: int = 0
    erased: int = 0
    quarantined: int = 0
    purged: int = 0

    def leave(self, outcome: Outcome, count: int) -> None:
        """Let `count` entries leave the head, and count them."""
        self.cursor += count
        if outcome is Outcome.PULLED:
            self.handed_out += count
        elif outcome is Outcome.EXPIRED:
            self.expired += count
        elif outcome is Outcome.ERASED:
            self.erased += count
        else:
            self.quarantined += count


class States:
    """All mailboxes by `slot`, with drafts while a transaction is open.

    Attributes:
        waiting: entries that wait, by slot, after the newest commit.
        changed: those of them that changed since `take_changed`.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._states: dict[int, State] = {}
        self._drafts: dict[int, State] = {}
        self._others_version = -1
        self.waiting: dict[int, int] = {}
        self.changed: dict[int, int] = {}

    def begin(self) -> None:
        """Forget drafts of a transaction that came to nothing; learn what others have done."""
        self._drafts = {}
        version: int = self._connection.execute("PRAGMA data_version").get
        if version != self._others_version:
            self._load()
            self._others_version = version

    def draft(self, mailbox: Mailbox) -> State | None:
        """A mailbox to change inside the open transaction; None if it does not exist."""
        place = slot(mailbox)
        draft = self._drafts.get(place)
        if draft is None and (state := self._states.get(place)) is not None:
            draft = self._drafts[place] = copy.copy(state)
        return draft

    def create(self, mailbox: Mailbox) -> State:
        """Make a mailbox inside the open transaction."""
        self._connection.execute(
            "INSERT INTO mailbox (sdkappid, kind, tail, cursor, handed_out) VALUES (?, ?, 0, 0, 0)",
            (mailbox.sdkappid, int(mailbox.kind)),
        )
        number = self._connection.last_insert_rowid()
        draft = State(mailbox, number, number << schema.SEQ_BITS, read_from=1)
        self._drafts[slot(mailbox)] = draft
        return draft

    def write(self) -> None:
        """Write the drafts that differ, in the open transaction."""
        rows = [
            (
                draft.tail,
                draft.cursor,
                draft.handed_out,
                draft.expired,
                draft.erased,
                draft.quarantined,
                draft.purged,
                draft.number,
            )
            for place, draft in self._drafts.items()
            if self._states.get(place) != draft
        ]
        if rows:
            self._connection.executemany(
                "UPDATE mailbox SET tail = ?, cursor = ?, handed_out = ?, expired = ?, erased = ?,"
                " quarantined = ?, purged = ? WHERE id = ?",
                rows,
            )

    def publish(self) -> None:
        """The transaction is durable: drafts are how it stands."""
        for place, draft in self._drafts.items():
            self._settle(place, draft)
        self._drafts = {}

    def take_changed(self) -> dict[int, int]:
        """What of `waiting` has changed since this was called last."""
        changed, self.changed = self.changed, {}
        return changed

    def chunk_at(self, key: int, seq: int) -> int:
        """First number of the chunk that holds `seq`; `seq` itself when none does."""
        found = self._connection.execute(
            "SELECT key, count FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1",
            (key, key | seq),
        ).fetchone()
        if found is None:
            return seq
        first: int = found[0] & schema.SEQ_MASK
        return first if first + found[1] > seq else seq

    def _load(self) -> None:
        for number, sdkappid, kind, *counts in self._connection.execute(
            "SELECT id, sdkappid, kind, tail, cursor, handed_out, expired, erased, quarantined,"
            " purged FROM mailbox"
        ):
            state = State(
                Mailbox(sdkappid, schema.known(Kind, kind)),
                number,
                number << schema.SEQ_BITS,
                0,
                *counts,
            )
            place = slot(state.mailbox)
            old = self._states.get(place)
            if old is not None:
                state.read_from = old.read_from
            if old != state:
                self._check_ends(state)
                state.read_from = self.chunk_at(state.key, state.cursor + 1)
                self._settle(place, state)

    def _settle(self, place: int, state: State) -> None:
        self._states[place] = state
        self.waiting[place] = self.changed[place] = state.tail - state.cursor

    def _check_ends(self, state: State) -> None:
        """A mailbox's row, its newest chunk and its newest journal row must tell one story."""
        for table, expected in (("chunk", state.tail), ("journal", state.cursor)):
            newest = self._connection.execute(
                f"SELECT key, count FROM {table} WHERE key BETWEEN ? AND ?"  # noqa: S608 - ours
                " ORDER BY key DESC LIMIT 1",
                (state.key, state.key | schema.SEQ_MASK),
            ).fetchone()
            last = (newest[0] & schema.SEQ_MASK) + newest[1] - 1 if newest else state.purged
            if last != expected:
                raise StoreCorrupt(
                    f"mailbox {state.mailbox} and its {table} rows contradict each other: "
                    "run `pullstatus audit`, and restore a backup if it confirms this"
                )
