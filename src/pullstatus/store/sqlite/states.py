"""How each mailbox stands: a copy in memory of the rows, and drafts of it in a transaction.

The copy makes counting and empty pulls free. Other processes may change the file: one server, which
writes all the time, and commands, which write now and then. All mailboxes are read once, when the
store is opened. From then on, when SQLite says that somebody wrote:

    what commands changed   has a higher `revision` than before; an index leads to those rows
    what the server changed has not, and costs it nothing; so whoever is not the server reads a
                            mailbox's row again before using it
"""

from __future__ import annotations

import copy

import apsw
import msgspec

from pullstatus.errors import StoreCorrupt
from pullstatus.store.sqlite import schema
from pullstatus.store.values import Mailbox, Outcome, contents


def slot(mailbox: Mailbox) -> int:
    """A mailbox as one small integer, for dictionaries on the hot path."""
    return mailbox.sdkappid << 2 | mailbox.kind


class State(msgspec.Struct):
    """One mailbox's row.

    Attributes:
        number, key: its id, and that shifted to where its keys begin.
        read_from: first number of the chunk that its head is in; 0 until it was looked up.
        waiting_bytes: of what waits, where that is bounded; -1 until it was looked up.
    """

    mailbox: Mailbox
    number: int
    key: int
    tail: int = 0
    cursor: int = 0
    handed_out: int = 0
    expired: int = 0
    erased: int = 0
    quarantined: int = 0
    put_back: int = 0
    routed: int = 0
    purged: int = 0
    read_from: int = 0
    waiting_bytes: int = -1

    def leave(self, outcome: Outcome, count: int) -> None:
        """Let `count` entries leave the head, and count them."""
        self.cursor += count
        self.waiting_bytes = -1
        if outcome is Outcome.PULLED:
            self.handed_out += count
        elif outcome is Outcome.EXPIRED:
            self.expired += count
        elif outcome is Outcome.ERASED:
            self.erased += count
        elif outcome is Outcome.QUARANTINED:
            self.quarantined += count
        elif outcome is Outcome.PUT_BACK:
            self.put_back += count
        else:
            self.routed += count


class States:
    """All mailboxes by `slot`, with drafts while a transaction is open.

    Attributes:
        waiting: entries that wait, by slot, after the newest commit; for a command beside a server,
            as far as it has seen.
        changed: those of them that changed since `take_changed`.
    """

    def __init__(self, connection: apsw.Connection, *, server: bool = False) -> None:
        """Nothing is read before `begin`.

        Args:
            server: for the one serving process, which nobody but commands writes beside.
        """
        self._connection = connection
        self._server = server
        self._states: dict[int, State] = {}
        self._drafts: dict[int, State] = {}
        self._fresh: set[int] | None = None  # None: every mailbox is as the file has it
        self._others_version = -1
        self._revision = -1  # the newest that was seen
        self._revising = False  # whether the open transaction writes the next one
        self.waiting: dict[int, int] = {}
        self.changed: dict[int, int] = {}

    def move(self, connection: apsw.Connection) -> None:
        """Go on with another connection to the same file; only commands may have written since."""
        self._connection = connection
        self._others_version = -1

    def begin(self) -> None:
        """Forget drafts of a transaction that came to nothing; learn what others have done."""
        self._drafts = {}
        self._revising = False
        version: int = self._connection.execute("PRAGMA data_version").get
        if version != self._others_version:
            if not self._server and self._revision >= 0:
                self._fresh = set()
            self._read_changed()
            self._others_version = version

    def draft(self, mailbox: Mailbox) -> State | None:
        """A mailbox to change inside the open transaction; None if it does not exist."""
        place = slot(mailbox)
        draft = self._drafts.get(place)
        if draft is None:
            if self._fresh is not None and place not in self._fresh:
                self._read(_ONE, mailbox.sdkappid, int(mailbox.kind))
                self._fresh.add(place)
            state = self._states.get(place)
            if state is not None:
                if not state.read_from:
                    state.read_from = self.chunk_at(state.key, state.cursor + 1)
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
                draft.put_back,
                draft.routed,
                draft.purged,
                draft.number,
            )
            for place, draft in self._drafts.items()
            if self._states.get(place) != draft
        ]
        if rows:
            self._connection.executemany(
                "UPDATE mailbox SET tail = ?, cursor = ?, handed_out = ?, expired = ?, erased = ?,"
                " quarantined = ?, put_back = ?, routed = ?, purged = ? WHERE id = ?",
                rows,
            )
            if not self._server:
                self._revising = True
                self._connection.executemany(
                    "UPDATE mailbox SET revision = ? WHERE id = ?",
                    [(self._revision + 1, row[-1]) for row in rows],
                )

    def publish(self) -> None:
        """The transaction is durable: drafts are how it stands."""
        for place, draft in self._drafts.items():
            self._settle(place, draft)
        self._drafts = {}
        self._revision += self._revising

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

    def _read_changed(self) -> None:
        """Read the mailboxes that commands have changed; at first all there are."""
        if self._revision < 0:
            self._revision = 0
            self._read(_ALL)
        else:
            self._read(_CHANGED, self._revision)

    def _read(self, statement: str, *bindings: int) -> None:
        for (
            number,
            sdkappid,
            kind,
            revision,
            chunk_end,
            journal_end,
            *counts,
        ) in self._connection.execute(statement, bindings):
            mailbox = Mailbox(sdkappid, schema.known(contents, kind))
            state = State(mailbox, number, number << schema.SEQ_BITS, *counts)
            _check_ends(state, chunk_end, journal_end)
            self._revision = max(self._revision, revision)
            self._settle(slot(mailbox), state)

    def _settle(self, place: int, state: State) -> None:
        self._states[place] = state
        self.waiting[place] = self.changed[place] = state.tail - state.cursor


def _check_ends(state: State, chunk_end: int | None, journal_end: int | None) -> None:
    """A mailbox's row, its newest chunk and its newest journal row must tell one story."""
    for table, end, expected in (
        ("chunk", chunk_end, state.tail),
        ("journal", journal_end, state.cursor),
    ):
        if (state.purged if end is None else end) != expected:
            raise StoreCorrupt(
                f"mailbox {state.mailbox} and its {table} rows contradict each other: "
                "run `pullstatus audit`, and restore a backup if it confirms this"
            )


def _end(table: str) -> str:
    """SQL for the last number of a mailbox that a table has."""
    return (
        f"(SELECT (key & {schema.SEQ_MASK}) + count - 1 FROM {table} WHERE key BETWEEN"  # noqa: S608
        f" id << {schema.SEQ_BITS} AND id << {schema.SEQ_BITS} | {schema.SEQ_MASK}"
        " ORDER BY key DESC LIMIT 1)"
    )


_ALL = (
    f"SELECT id, sdkappid, kind, revision, {_end('chunk')}, {_end('journal')}, tail, cursor,"  # noqa: S608
    " handed_out, expired, erased, quarantined, put_back, routed, purged FROM mailbox"
)
_ONE = f"{_ALL} WHERE sdkappid = ? AND kind = ?"
_CHANGED = f"{_ALL} WHERE revision > 0 AND revision > ?"
