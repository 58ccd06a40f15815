"""Joining what came record by record, so that a page of it is one read and not a hundred.

    came one by one    [100] [1] [1] [1] [1] [1] [1] [1] [1] ... [1] [1] [1]
    joined             [100] [100]                           ... [1] [1] [1]

Each commit puts what it brings into a chunk of its own, and most bring little. So between commits,
and while nothing comes, small chunks that lie side by side are replaced by one, in small steps and
with pauses, which are short while nothing comes. Entries keep their numbers, and what is known of
each: its label has the ticket and the time of every one.

Only what waits is joined: what was handed out does not stay for what comes later. What is damaged
stays as it is, and so does what has empty places, where entries were erased. Whatever removes
entries for good cuts the chunk that reaches further (`cut`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import apsw

from pullstatus.store import chunk
from pullstatus.store.chunk import Origin
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.states import States
from pullstatus.store.values import Mailbox
from pullstatus.store.verbs.state import State

SMALL_COUNT = chunk.COUNT_MAX // 2  # a chunk with fewer entries is small
DUE_ROWS = 16  # small chunks of a mailbox, from which on it is worth a commit
LEAST_ROWS = 8  # that are replaced by one; a page of fewer is read about as fast
BYTES_MAX = 64 * 1024  # of bodies that are joined: what is cut or handed out singly is opened whole
LOOK_ROWS = 2 * chunk.COUNT_MAX  # looked at before others get their turn: some 1 ms

_Row = tuple[int, int, int, int, bytes | None, bytes | None, bytes | None]


class _Small(NamedTuple):
    """A chunk that may be joined with others."""

    key: int
    entries: list[bytes]
    origins: list[Origin]
    size: int


class Joins:
    """What there is to join in the mailboxes of one connection, as far as it has noticed."""

    def __init__(self, connection: apsw.Connection, states: States) -> None:
        """Nothing is due at first."""
        self._connection = connection
        self._states = states
        self._due: dict[Mailbox, None] = {}

    @property
    def due(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._due)

    def put(self, state: State, count: int) -> None:
        """A chunk with `count` entries is being put at the tail of a mailbox."""
        if count < SMALL_COUNT:
            if not state.small:
                state.small_from = state.tail + 1
            state.small += 1
            if state.small >= DUE_ROWS:
                self._due[state.mailbox] = None

    def read(self, state: State, rows: int) -> None:
        """The page that is just being taken was put together from so many chunks.

        So there are more where they came from, such as another process left: of its own appends
        this one knows.
        """
        if rows >= DUE_ROWS:
            state.small_from, state.small = state.cursor + 1, max(rows, state.small)
            self._due[state.mailbox] = None

    def work(self, may_go_on: Callable[[], bool]) -> None:
        """Join what is due in the open transaction, of one mailbox after the other.

        Args:
            may_go_on: asked between two parts of it; the first is done in any case.
        """
        while self._due:
            mailbox = next(iter(self._due))
            del self._due[mailbox]
            if self._join_some(mailbox):
                self._due[mailbox] = None
            if not may_go_on():
                break

    def _join_some(self, mailbox: Mailbox) -> bool:
        """Join in a part of what waits in a mailbox; whether there may be more."""
        state = self._states.draft(mailbox)
        if state is None:
            return False
        rows = cast(
            "list[_Row]",
            self._connection.execute(
                _ROWS,
                (
                    *(SMALL_COUNT, BYTES_MAX),
                    *(state.key | max(state.small_from, state.cursor + 1), state.key | state.tail),
                    LOOK_ROWS,
                ),
            ).fetchall(),
        )
        groups = list(_groups(rows))
        last = groups.pop()
        if len(rows) == LOOK_ROWS:
            following = rows[-1][0] + 1
            if sum(len(small.entries) for small in last) == chunk.COUNT_MAX:
                groups.append(last)
            elif last:  # it may go on
                following = last[0].key
            self._states.told(state, following & schema.SEQ_MASK, DUE_ROWS)
        else:
            groups.append(last)
            first_seq = last[0].key & schema.SEQ_MASK if last else 0
            self._states.told(state, first_seq, len(last))
            if len(last) >= LEAST_ROWS:
                full = sum(len(small.entries) for small in last) >= SMALL_COUNT
                self._states.told(state, first_seq, 0 if full else 1)
        for group in groups:
            if len(group) >= LEAST_ROWS:
                self._replace(group)
        return len(rows) == LOOK_ROWS

    def _replace(self, group: Sequence[_Small]) -> None:
        """Put one chunk in the place of several."""
        entries = [entry for small in group for entry in small.entries]
        origins = [origin for small in group for origin in small.origins]
        key, newest_ms = group[0].key, max(origin.at_ms for origin in origins)
        self._connection.execute(
            "DELETE FROM chunk WHERE key > ? AND key <= ?", (key, group[-1].key)
        )
        _rewrite(self._connection, key, key, entries, origins, newest_ms)


def cut(connection: apsw.Connection, state: State, through: int) -> None:
    """Remove entries up to `through` from the chunk that has them and reaches further.

    One that is damaged stays whole until all of it may go: what of it is readable can be told as
    long as it is whole.
    """
    row = connection.execute(
        "SELECT key, count, accepted_ms, checksum, bounds, body, tickets FROM chunk"
        " WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1",
        (state.key, state.key | through),
    ).fetchone()
    if row is None:
        return
    key, count, accepted_ms, checksum, bounds, body, label = row
    entries = _whole(key, count, checksum, bounds, body)
    stay = through + 1 - (key & schema.SEQ_MASK)
    if entries is None or stay >= count:
        return
    origins = chunk.origins(label, count, accepted_ms)[stay:]
    _rewrite(connection, key, key + stay, entries[stay:], origins, accepted_ms)
    if state.read_from <= through:
        state.read_from = through + 1


def first_young(connection: apsw.Connection, state: State, accepted_since_ms: int) -> int | None:
    """Number of the first entry that waits and came then or later; None: there is none.

    Chunks lie in order of acceptance, and so do the entries in each.
    """
    row = connection.execute(
        "SELECT key, count, accepted_ms, tickets FROM chunk WHERE key BETWEEN ? AND ?"
        " AND accepted_ms >= ? ORDER BY key LIMIT 1",
        (state.key | state.read_from, state.key | schema.SEQ_MASK, accepted_since_ms),
    ).fetchone()
    if row is None:
        return None
    key, count, accepted_ms, label = cast("tuple[int, int, int, bytes | None]", row)
    first_seq = key & schema.SEQ_MASK
    left = max(0, state.cursor + 1 - first_seq)
    for place, origin in enumerate(chunk.origins(label, count, accepted_ms)[left:], start=left):
        if origin.at_ms >= accepted_since_ms:
            return first_seq + place
    return first_seq + count


def _rewrite(
    connection: apsw.Connection,
    old_key: int,
    key: int,
    entries: Sequence[bytes],
    origins: Sequence[Origin],
    newest_ms: int,
) -> None:
    """Write a chunk anew, perhaps from another number on."""
    packed = chunk.pack(entries)
    connection.execute(
        "UPDATE chunk SET key = ?, count = ?, accepted_ms = ?, checksum = ?, bounds = ?, body = ?,"
        " tickets = ? WHERE key = ?",
        (
            *(key, packed.count, newest_ms, *chunk.placed(key, packed)),
            *(chunk.label_of(origins, newest_ms), old_key),
        ),
    )


def _groups(rows: Sequence[_Row]) -> Iterator[list[_Small]]:
    """Small chunks that lie side by side, as many as one chunk may hold, in order.

    The last is of those that the rows end with, and may have none.
    """
    group: list[_Small] = []
    count = size = next_key = 0
    for row in rows:
        small = _small(*row)
        joins = small is not None and (
            small.key == next_key
            and count + len(small.entries) <= chunk.COUNT_MAX
            and size + small.size <= BYTES_MAX
        )
        if group and not joins:
            yield group
            group = []
        if small is None:
            next_key = 0
            continue
        if not group:
            count = size = 0
        group.append(small)
        count += len(small.entries)
        size += small.size
        next_key = small.key + len(small.entries)
    yield group


def _small(
    key: int,
    count: int,
    accepted_ms: int,
    checksum: int,
    bounds: bytes | None,
    body: bytes | None,
    label: bytes | None,
) -> _Small | None:
    """A chunk to be joined; None: it is not small, or must stay as it is."""
    if bounds is None or body is None or not 0 <= accepted_ms <= chunk.AT_MS_MAX:
        return None
    entries = _whole(key, count, checksum, bounds, body)
    if not entries or chunk.ERASED_WAITING in entries or chunk.ERASED_LATER in entries:
        return None
    return _Small(key, entries, chunk.origins(label, count, accepted_ms), len(body))


def _whole(key: int, count: int, checksum: int, bounds: bytes, body: bytes) -> list[bytes] | None:
    """The entries of a chunk; None: it is damaged."""
    if chunk.checksum(key, bounds, body) != checksum or chunk.entry_count(bounds) != count:
        return None
    if count == 1 and not chunk.is_packed(bounds):
        return [body]  # most are such
    joined = chunk.readable(bounds, body)
    return None if joined is None else list(chunk.parts(bounds, joined))


# Of a chunk that is not small nothing is read but the beginning of its row.
_IF_SMALL = "iif(count < ?1 AND length(body) <= ?2, %s, NULL)"
_ROWS = (
    "SELECT key, count, accepted_ms, checksum,"  # noqa: S608 - ours
    f" {', '.join(_IF_SMALL % column for column in ('bounds', 'body', 'tickets'))}"
    " FROM chunk WHERE key BETWEEN ?3 AND ?4 ORDER BY key LIMIT ?5"
)
