"""What can be listed of a store, in steps of rows, each of its own moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from pullstatus.errors import StoreCorrupt
from pullstatus.records import Kind
from pullstatus.store import chunk
from pullstatus.store.postgresql.reads import Reads
from pullstatus.store.postgresql.statements import (
    DERIVED,
    FOLLOWED,
    OLDEST,
    TALLIED,
    THROUGH,
    ints,
)
from pullstatus.store.postgresql.statements import names as names_of
from pullstatus.store.texts import decoded, encoded
from pullstatus.store.values import (
    NO_TICKET,
    Act,
    ActRow,
    Again,
    Backlog,
    Entry,
    Followed,
    JournalRow,
    Mailbox,
    Noted,
    Outcome,
    ReaderState,
    Setting,
)
from pullstatus.store.verbs.state import key_of, mailbox_of, slot

ROWS: Final = 200  # that one step reads


class Lists:
    """The reading verbs; see `pullstatus.store.Store` for what each promises."""

    def __init__(self, reads: Reads) -> None:
        """Ask over `reads`."""
        self._ask = reads.ask

    async def backlog(self, sdkappid: int | None) -> list[Backlog]:
        """See `Store.backlog`."""
        rows = (
            await self._ask(_BACKLOG, int(Outcome.PULLED))
            if sdkappid is None
            else await self._ask(BACKLOG_OF, ints(_boxes_of(sdkappid)), int(Outcome.PULLED))
        )
        return [backlog_row(*row) for row in rows]

    async def entries(
        self, mailbox: Mailbox, first_seq: int, containing: bytes | None
    ) -> AsyncIterator[Entry]:
        """See `Store.entries`."""
        box = slot(mailbox)
        [(after,)] = await self._ask(_BEFORE_CHUNK, box, max(1, first_seq), max(1, first_seq) - 1)
        while rows := await self._ask(_CHUNKS, box, after, ROWS):
            for first, count, accepted_ms, checksum, bounds, body, label in rows:
                after = first
                if containing is not None:
                    joined = chunk.readable(bounds, body)
                    if joined is None or containing not in joined:
                        continue
                origins = chunk.origins(label, chunk.entry_count(bounds), accepted_ms)
                proven = chunk.proven(key_of(box) + first, count, checksum, bounds, body)
                for place, data in proven:
                    if first + place >= first_seq and (containing is None or containing in data):
                        yield Entry(
                            first + place, origins[place].at_ms, data, origins[place].ticket
                        )

    async def journal(
        self, mailbox: Mailbox, first_seq: int, *, newest_first: bool
    ) -> AsyncIterator[JournalRow]:
        """See `Store.journal`."""
        box, first, last = slot(mailbox), first_seq, 1 << 62
        sql = _JOURNAL_BACK if newest_first else _JOURNAL
        while rows := await self._ask(sql, box, first, last, ROWS):
            for row in rows:
                yield _journal_row(*row)
            if newest_first:
                last = rows[-1][1] - 1
            else:
                first = rows[-1][1] + 1

    async def keyed(self, sdkappid: int, key: str) -> Sequence[JournalRow]:
        """See `Store.keyed`."""
        boxes = ints(slot(Mailbox(sdkappid, kind)) for kind in Kind)
        return [_journal_row(*row) for row in await self._ask(_KEYED, encoded(key), boxes)]

    async def again(self, mailbox: Mailbox, from_seq: int) -> AsyncIterator[Again]:
        """See `Store.again`."""
        after = (0, 0)
        while rows := await self._ask(_AGAIN, slot(mailbox), *after, ROWS):
            for first_seq, count, source_seq, act_id in rows:
                if first_seq + count > from_seq:
                    yield Again(first_seq, count, source_seq, act_id)
                after = first_seq, act_id

    async def readers(self, sdkappid: int | None) -> AsyncIterator[ReaderState]:
        """See `Store.readers`."""
        after: tuple[int, bytes] = (0, b"")
        only = None if sdkappid is None else ints(_boxes_of(sdkappid))
        while rows := await self._ask(
            *((_READERS, *after, ROWS) if only is None else (_READERS_OF, *after, only, ROWS))
        ):
            for number, box, name, *rest in rows:
                after = number, name
                yield ReaderState(mailbox_of(box), decoded(name), *rest)

    async def acts(self, *, newest_first: bool) -> AsyncIterator[ActRow]:
        """See `Store.acts`."""
        first, last = -(1 << 63), (1 << 63) - 1
        sql = _ACTS_BACK if newest_first else _ACTS
        while rows := await self._ask(sql, first, last, ROWS):
            for row in rows:
                yield act_row(*row)
            if newest_first:
                last = rows[-1][0] - 1
            else:
                first = rows[-1][0] + 1

    async def settings(self, since: int) -> AsyncIterator[Setting]:
        """Settings by revision. They are written by one at a time, so none is seen out of order."""
        while rows := await self._ask(_SETTINGS, since, ROWS):
            for name, value, revision, ticket in rows:
                yield Setting(decoded(name), value, revision, ticket)
                since = revision

    async def named(self, prefix: str, since: int) -> AsyncIterator[Setting]:
        """Settings whose names begin so, by name."""
        first = encoded(prefix)
        end = first + b"\xff"  # no text in UTF-8 has it
        while rows := await self._ask(_NAMED, first, end, since, ROWS):
            for name, value, revision, ticket in rows:
                yield Setting(decoded(name), value, revision, ticket)
                first = name + b"\0"

    async def setting(self, name: str) -> Setting | None:
        """See `Store.setting`."""
        rows = await self._ask(_SETTING, encoded(name))
        return Setting(name, *rows[0]) if rows else None

    async def settings_of(self, names: Sequence[str]) -> dict[str, Setting]:
        """See `Store.settings_of`."""
        rows = await self._ask(_SETTINGS_OF, names_of(map(encoded, names)))
        return {decoded(name): Setting(decoded(name), *rest) for name, *rest in rows}

    async def marks(self, prefix: str) -> dict[str, Noted]:
        """See `Store.marks`."""
        first = encoded(prefix)
        found = await self._ask(_NOTES, first, first + b"\xff")
        return {decoded(name): Noted(at_ms, decoded(place)) for name, at_ms, place in found}

    async def due_for_purge(self, left_before_ms: int) -> list[Mailbox]:
        """The mailboxes whose oldest journal row is from before, and whose entries are there."""
        return [mailbox_of(box) for (box,) in await self._ask(_DUE, left_before_ms)]

    async def size(self) -> int:
        """Bytes of the database."""
        [(size,)] = await self._ask("SELECT pg_database_size(current_database())")
        return int(size)


def backlog_row(box: int, *rest: Any) -> Backlog:  # noqa: ANN401 - a column each
    """How a mailbox stands, by a row of `BACKLOG_COLUMNS`."""
    *figures, through, tallied, turn = rest
    return Backlog(mailbox_of(box), *[*figures, Followed(through, tallied, turn)])


def _boxes_of(sdkappid: int) -> list[int]:
    return [sdkappid << 2 | kind for kind in range(4)]


def _journal_row(
    box: int, first_seq: int, count: int, outcome: int, at_ms: int, address: bytes,
    key: bytes | None, count_max: int, proof: bytes, ticket: bytes, reader: bytes | None,
    given: int, acked_ms: int | None, released_ms: int | None,
) -> JournalRow:  # fmt: skip
    return JournalRow(
        mailbox_of(box),
        first_seq,
        count,
        outcome_of(outcome),
        at_ms,
        decoded(address),
        None if key is None else decoded(key),
        count_max,
        decoded(proof),
        ticket,
        None if reader is None else decoded(reader),
        given,
        acked_ms,
        released_ms,
    )


def outcome_of(number: int) -> Outcome:
    """What became of a range, as a journal row has it.

    Raises:
        StoreCorrupt: there is no such outcome.
    """
    try:
        return Outcome(number)
    except ValueError as error:
        raise StoreCorrupt("the database is damaged: a journal row tells of nothing") from error


def act_row(
    act_id: int, actor: bytes, action: bytes, reason: bytes, detail: bytes, at_ms: int,
    ticket: bytes, proof: bytes,
) -> ActRow:  # fmt: skip
    """An act, by a row of `ACT_COLUMNS`."""
    words = decoded(actor), decoded(action), decoded(reason), decoded(detail)
    return ActRow(act_id, Act(*words, at_ms, ticket), proof)


# Those from before there were tickets have none.
ACT_COLUMNS: Final = (
    "id, actor, action, reason, detail, at_ms,"
    f" coalesce(ticket, decode('{NO_TICKET.hex()}', 'hex')), hash"
)

BACKLOG_COLUMNS: Final = f"""
SELECT s.box, s.tail, s.handed_out, s.tail - s.cursor, s.expired, s.erased, s.quarantined,
    s.put_back, s.routed, s.purged, o.accepted_ms, p.at_ms,
    {THROUGH}, {TALLIED}, coalesce(f.turn, 0)
FROM ({DERIVED}) s
{OLDEST}
{FOLLOWED}
LEFT JOIN LATERAL (SELECT at_ms FROM pullstatus.journal WHERE box = s.box AND outcome = %s
    ORDER BY first_seq DESC LIMIT 1) p ON true
"""  # noqa: S608 - ours
_BACKLOG = f"{BACKLOG_COLUMNS} WHERE s.tail > 0 ORDER BY s.box"
BACKLOG_OF: Final = _BACKLOG.replace(") s\n", " WHERE m.box = ANY(%s::bigint[])) s\n", 1)
# Those that were never filled, too: of one that was, all entries may be missing.
STANDING_OF: Final = BACKLOG_OF.replace("WHERE s.tail > 0 ", "", 1)

_BEFORE_CHUNK = (
    "SELECT coalesce((SELECT first_seq - 1 FROM pullstatus.chunk WHERE box = %s AND first_seq <= %s"
    " ORDER BY first_seq DESC LIMIT 1), %s)"
)
_CHUNKS = (
    "SELECT first_seq, count, accepted_ms, checksum, bounds, body, tickets FROM pullstatus.chunk"
    " WHERE box = %s AND first_seq > %s ORDER BY first_seq LIMIT %s"
)
_JOURNAL_COLUMNS = (
    "SELECT box, first_seq, count, outcome, at_ms, address, pull_key, count_max, proof, ticket,"
    " reader, given, acked_ms, released_ms FROM pullstatus.journal"
)
_JOURNAL = (
    f"{_JOURNAL_COLUMNS} WHERE box = %s AND first_seq BETWEEN %s AND %s ORDER BY first_seq LIMIT %s"
)
_JOURNAL_BACK = _JOURNAL.replace("ORDER BY first_seq", "ORDER BY first_seq DESC")
_KEYED = (
    f"{_JOURNAL_COLUMNS} WHERE pull_key = %s AND box = ANY(%s::bigint[]) ORDER BY box, first_seq"
)
_AGAIN = (
    "SELECT first_seq, count, source_seq, act_id FROM pullstatus.again WHERE box = %s"
    " AND (first_seq, act_id) > (%s, %s) ORDER BY first_seq, act_id LIMIT %s"
)
_READERS = """
SELECT m.number, r.box, r.name, r.page IS NOT NULL, r.first_seq, r.count, r.taken_ms, r.given,
    r.acked_seq, r.at_ms
FROM pullstatus.reader r JOIN pullstatus.mailbox m ON m.box = r.box
WHERE (m.number, r.name) > (%s, %s) ORDER BY m.number, r.name LIMIT %s
"""
_READERS_OF = _READERS.replace(" ORDER", " AND r.box = ANY(%s::bigint[]) ORDER")
_ACTS = f"SELECT {ACT_COLUMNS} FROM pullstatus.act WHERE id BETWEEN %s AND %s ORDER BY id LIMIT %s"  # noqa: S608
_ACTS_BACK = _ACTS.replace("ORDER BY id", "ORDER BY id DESC")
_SETTING_COLUMNS = "SELECT name, value, revision, ticket FROM pullstatus.setting"
_SETTINGS = f"{_SETTING_COLUMNS} WHERE revision > %s ORDER BY revision LIMIT %s"
_NAMED = (
    f"{_SETTING_COLUMNS} WHERE name >= %s AND name < %s AND revision > %s ORDER BY name LIMIT %s"
)
_SETTINGS_OF = f"{_SETTING_COLUMNS} WHERE name = ANY(%s::bytea[])"
_SETTING = "SELECT value, revision, ticket FROM pullstatus.setting WHERE name = %s"
_NOTES = "SELECT name, at_ms, place FROM pullstatus.note WHERE name >= %s AND name < %s"
_DUE = """
SELECT m.box FROM pullstatus.mailbox m
CROSS JOIN LATERAL (SELECT coalesce((SELECT purged FROM pullstatus.base WHERE box = m.box
    ORDER BY purged DESC LIMIT 1), 0) AS purged) b
CROSS JOIN LATERAL (SELECT at_ms FROM pullstatus.journal WHERE box = m.box
    AND first_seq > b.purged ORDER BY first_seq LIMIT 1) j
WHERE j.at_ms < %s AND (SELECT first_seq + count FROM pullstatus.journal WHERE box = m.box
    ORDER BY first_seq DESC LIMIT 1) <= coalesce((SELECT first_seq + count FROM pullstatus.chunk
    WHERE box = m.box ORDER BY first_seq DESC LIMIT 1), (SELECT tail + 1 FROM pullstatus.base
    WHERE box = m.box ORDER BY purged DESC LIMIT 1), 1) ORDER BY m.box
"""
