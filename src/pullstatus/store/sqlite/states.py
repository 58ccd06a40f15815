"""How each mailbox stands: a copy in memory of the rows, and drafts of it in a transaction.

The copy makes counting and empty pulls free. A row is read, and proven against the newest rows of
its chunks and its journal, when its mailbox is used first; so a start, and a command, cost the same
however many mailboxes there are. Of one that nobody has used nothing is known.

Other processes may change the file: one server, which writes all the time, and commands, which
write now and then. When SQLite says that somebody wrote:

    what commands changed   has a higher `revision` than before; an index leads the server to those
                            rows, and it reads them
    what the server changed has not, and costs it nothing; so whoever is not the server forgets its
                            copy, and reads a row again when it uses it
"""

from __future__ import annotations

import copy
from typing import cast

import apsw

from pullstatus.errors import StoreCorrupt
from pullstatus.store.sqlite import schema
from pullstatus.store.values import Mailbox, contents
from pullstatus.store.verbs.state import State, slot


class States:
    """Mailboxes by `slot`, as far as they were used, with drafts while a transaction is open.

    Attributes:
        waiting: entries that wait, by slot, after the newest commit; for a command beside a server,
            as far as it has seen.
        changed: those of them that changed, or were seen first, since `take_changed`.
    """

    def __init__(self, connection: apsw.Connection, *, server: bool = False) -> None:
        """Nothing is read before `begin`.

        Args:
            server: for the one serving process, which nobody but commands writes beside.
        """
        self._connection = connection
        self._server = server
        self._states: dict[int, State | None] = {}  # None: it was looked for, and does not exist
        self._drafts: dict[int, State] = {}
        self._others_version = -1
        self._revision = -1  # the newest that was seen, of a server
        self.waiting: dict[int, int] = {}
        self.changed: dict[int, int] = {}

    def begin(self) -> None:
        """Forget drafts of a transaction that came to nothing; learn what others have done."""
        self._drafts = {}
        version: int = self._connection.execute("PRAGMA data_version").get
        if version != self._others_version:
            if self._server:
                self._read_changed()
            else:
                self._states.clear()
            self._others_version = version

    def draft(self, mailbox: Mailbox) -> State | None:
        """A mailbox to change inside the open transaction; None if it does not exist.

        Raises:
            StoreCorrupt: it is used first, and its rows contradict each other.
        """
        place = slot(mailbox)
        draft = self._drafts.get(place)
        if draft is None:
            known = place in self._states
            if not known and not self._read(_ONE, mailbox.sdkappid, int(mailbox.kind)):
                self._settle(place, None)
            state = self._states[place]
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
                draft.followed,
                draft.tallied,
                draft.turn,
                draft.number,
            )
            for place, draft in self._drafts.items()
            if self._states.get(place) != draft
        ]
        if rows:
            self._connection.executemany(
                "UPDATE mailbox SET tail = ?, cursor = ?, handed_out = ?, expired = ?, erased = ?,"
                " quarantined = ?, put_back = ?, routed = ?, purged = ?, followed = ?, tallied = ?,"
                " turn = ? WHERE id = ?",
                rows,
            )
            if not self._server:
                revision = self._newest_revision() + 1
                self._connection.executemany(
                    "UPDATE mailbox SET revision = ? WHERE id = ?",
                    [(revision, row[-1]) for row in rows],
                )

    def publish(self) -> None:
        """The transaction is durable: drafts are how it stands."""
        for place, draft in self._drafts.items():
            self._settle(place, draft)
        self._drafts = {}

    def told(self, state: State, small_from: int, small: int) -> None:
        """Know from now on, however the transaction ends, what there is to join in a mailbox."""
        for each in (state, self._states.get(slot(state.mailbox))):
            if each is not None:
                each.small_from, each.small = small_from, small

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

    def _newest_revision(self) -> int:
        return cast("int", self._connection.execute(_NEWEST).get)

    def _read_changed(self) -> None:
        """Read what commands have changed since this was called last; at first there is no copy."""
        newest = self._newest_revision()
        if self._revision >= 0:
            self._read(_CHANGED, self._revision)
        self._revision = newest

    def _read(self, statement: str, *bindings: int) -> bool:
        """Read these rows; whether there was any."""
        found = False
        for number, sdkappid, kind, chunk_end, journal_end, *rest in self._connection.execute(
            statement, bindings
        ):
            mailbox = Mailbox(sdkappid, schema.known(contents, kind))
            *counts, followed, tallied, turn = rest
            state = State(mailbox, number, number << schema.SEQ_BITS, *counts)
            state.followed, state.tallied, state.turn = followed, tallied, turn
            _check_ends(state, chunk_end, journal_end)
            self._settle(slot(mailbox), state)
            found = True
        return found

    def _settle(self, place: int, state: State | None) -> None:
        self._states[place] = state
        self.waiting[place] = self.changed[place] = (
            0 if state is None else state.tail - state.cursor
        )


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


_ROW = (
    f"SELECT id, sdkappid, kind, {_end('chunk')}, {_end('journal')}, tail, cursor,"  # noqa: S608
    " handed_out, expired, erased, quarantined, put_back, routed, purged, followed, tallied, turn"
    " FROM mailbox"
)
_ONE = f"{_ROW} WHERE sdkappid = ? AND kind = ?"
# Both by the index of revisions, which has what commands changed and nothing else.
_CHANGED = f"{_ROW} WHERE revision > 0 AND revision > ?"
_NEWEST = "SELECT coalesce(max(revision), 0) FROM mailbox WHERE revision > 0"
