"""The rows of a database in the neutral form of `store.transfer`, out of it and into it.

They are read in steps by their keys, each of its own moment, and put in as arrays: one statement a
table for a step, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from pullstatus.store import chunk
from pullstatus.store.fingerprints import halves_of
from pullstatus.store.gathering.operations import Replace
from pullstatus.store.postgresql.lists import outcome_of
from pullstatus.store.postgresql.statements import (
    DERIVED,
    FOLLOWED,
    MAKE_MAILBOXES,
    TALLIED,
    TOTALS,
    ints,
    names,
)
from pullstatus.store.postgresql.writes import Due
from pullstatus.store.texts import decoded, encoded
from pullstatus.store.transfer import (
    PRINTS_WEIGH,
    STEP_BYTES_MAX,
    STEP_ROWS_MAX,
    Batch,
    Copied,
    Epoch,
    Hand,
    Key,
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
)
from pullstatus.store.transfer import key_of as key_of_row
from pullstatus.store.values import NO_TICKET, Act, ActRow, JournalRow, Mailbox, Setting
from pullstatus.store.verbs import readers
from pullstatus.store.verbs.state import key_of, mailbox_of, slot

Ask = Callable[..., Awaitable[list[tuple[Any, ...]]]]


async def rows(ask: Ask, part: Part, after: Key | None, mailboxes: Sequence[Mailbox]) -> list[Row]:
    """See `Transfer.rows`; `ask` answers a question with rows."""
    return await _PARTS[part].read(ask, after, mailboxes)


def due(operation: Replace) -> list[Due]:
    """What a `Replace` has written; see `Transfer.replace`."""
    part = _PARTS[operation.part]
    found = list(part.drop(operation.drop)) if operation.drop else []
    return found + (list(part.put(operation.put)) if operation.put else [])


class _Part(NamedTuple):
    """A part of a store, as the database has it."""

    read: Callable[[Ask, Key | None, Sequence[Mailbox]], Awaitable[list[Row]]]
    put: Callable[[Sequence[Any]], Sequence[Due]]
    drop: Callable[[Sequence[Any]], Sequence[Due]]


# -- columns ---------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """How values of a column go to the database, and come back.

    Attributes:
        array: how many of them are said in SQL.
        many: makes that of them.
        one: makes one of them.
        back: makes what it was of what is stored.
    """

    array: str
    many: Callable[[Sequence[Any]], object]
    one: Callable[[Any], Any]
    back: Callable[[Any], Any]


def _as_is(value: Any) -> Any:  # noqa: ANN401 - whatever a column has
    return value


def _text(value: str | None) -> bytes | None:
    return None if value is None else encoded(value)


_INT = _Form("%s::bigint[]", ints, _as_is, _as_is)
_BYTES = _Form("%s::bytea[]", names, _as_is, _as_is)
_LONG = _Form("%b::bytea[]", list, _as_is, _as_is)
_TEXT = _Form(
    "%s::bytea[]",
    lambda values: names(map(_text, values)),
    _text,
    lambda stored: None if stored is None else decoded(stored),
)
_TEXTS = _Form("%s::text[]", list, _as_is, _as_is)
_BOX = _Form(
    "%s::bigint[]",
    lambda mailboxes: ints(map(slot, mailboxes)),
    slot,
    mailbox_of,
)

_Columns = dict[str, _Form]


class _Table:
    """A table with a row for each of a part.

    Args:
        name: of the table.
        keys: its columns that are the part's key, in order.
        rest: the others.
        values: of a row: what goes into the columns, and what else `more` is made of.
        made_of: names of that, with their forms.
        more: columns that a new row has beside, each with what goes into it, in SQL.
        beside: what that is taken from, joined.
        weighs: how much a row weighs, in SQL; nothing if it can't be large.
    """

    def __init__(
        self,
        name: str,
        keys: _Columns,
        rest: _Columns,
        values: Callable[[Any], Sequence[Any]] = msgspec.structs.astuple,
        *,
        made_of: _Columns | None = None,
        more: dict[str, str] | None = None,
        beside: str = "",
        weighs: str = "",
    ) -> None:
        self._forms = [*keys.values(), *rest.values()]
        self._keys = list(keys.values())
        self._values = values
        self._of_mailboxes = _BOX in self._keys
        made_of, more = made_of or {}, more or {}
        own = [*keys, *rest]
        columns, by = ", ".join(own), ", ".join(keys)
        self._given = [*self._forms, *made_of.values()]
        arrays = ", ".join(form.array for form in self._given)
        self._put = (
            f"INSERT INTO {name} ({', '.join([*own, *more])})"  # noqa: S608 - ours
            f" SELECT {', '.join([*(f'w.{each}' for each in own), *more.values()])}"
            f" FROM unnest({arrays}) w({', '.join([*own, *made_of])}){beside}"
        )
        self._drop = (
            f"DELETE FROM {name} t"  # noqa: S608 - ours
            f" USING unnest({', '.join(form.array for form in self._keys)}) w({by})"
            f" WHERE {' AND '.join(f't.{key} = w.{key}' for key in keys)}"
        )
        behind = f"({by}) > ({', '.join(['%s'] * len(keys))})"
        if self._of_mailboxes:
            self._first = _step(name, columns, by, "box BETWEEN %s AND %s", weighs)
            self._next = _step(name, columns, by, f"{behind} AND box <= %s", weighs)
        else:
            self._first = _step(name, columns, by, "true", weighs)
            self._next = _step(name, columns, by, behind, weighs)

    def part(self, row: Callable[..., Row]) -> _Part:
        """The part that this table is, whose rows are made of values by `row`."""

        async def read(ask: Ask, after: Key | None, mailboxes: Sequence[Mailbox]) -> list[Row]:
            found = await self._read(ask, after, mailboxes)
            return [row(*self._back(values)) for values in found]

        return _Part(read, self.put, self.drop)

    def put(self, rows: Sequence[Any]) -> list[Due]:
        """See `_Part`; whatever is there under the same keys."""
        columns = zip(*map(self._values, rows), strict=True)
        filled = [form.many(values) for form, values in zip(self._given, columns, strict=True)]
        return [*self.drop(rows), Due(self._put, filled)]

    def drop(self, rows: Sequence[Any]) -> list[Due]:
        """See `_Part`."""
        columns = zip(*map(self._values, rows), strict=True)
        filled = [form.many(values) for form, values in zip(self._keys, columns, strict=False)]
        return [Due(self._drop, filled)]

    async def _read(
        self, ask: Ask, after: Key | None, mailboxes: Sequence[Mailbox]
    ) -> list[tuple[Any, ...]]:
        """A step, as it is stored."""
        key = None if after is None else self._bound(after)
        if not self._of_mailboxes:
            return await (ask(self._first) if key is None else ask(self._next, *key))
        if not mailboxes:
            return []
        boxes = list(map(slot, mailboxes))
        wanted, last = frozenset(boxes), boxes[-1]
        while True:
            if key is None:
                found = await ask(self._first, boxes[0], last)
            else:
                found = await ask(self._next, *key, last)
            # Between those that are asked for there may be others, as of mailboxes that are new.
            mine = [row for row in found if row[0] in wanted]
            if mine or not found:
                return mine
            key = list(found[-1][: len(self._keys)])

    def _bound(self, after: Key) -> list[Any]:
        return [form.one(value) for form, value in zip(self._keys, after, strict=True)]

    def _back(self, row: Sequence[Any]) -> list[Any]:
        return [form.back(value) for form, value in zip(self._forms, row, strict=True)]


def _step(table: str, columns: str, keys: str, where: str, weighs: str = "") -> str:
    """The SQL of a step: so many rows of a table in order, and of large ones fewer."""
    sql = f"FROM {table} WHERE {where} ORDER BY {keys} LIMIT {STEP_ROWS_MAX}"
    if not weighs:
        return f"SELECT {columns} {sql}"
    return (
        f"SELECT {columns} FROM (SELECT *, sum(weight) OVER (ORDER BY {keys}"  # noqa: S608 - ours
        f" ROWS UNBOUNDED PRECEDING) - weight AS before"
        f" FROM (SELECT {columns}, {weighs} AS weight {sql}) s) b"
        f" WHERE before < {STEP_BYTES_MAX} ORDER BY {keys}"
    )


# -- of the store ----------------------------------------------------------------------------------


async def _read_secret(ask: Ask, after: Key | None, _mailboxes: Sequence[Mailbox]) -> list[Row]:
    found = await ask("SELECT secret FROM pullstatus.meta") if after is None else []
    return [Secret(secret) for (secret,) in found]


def _put_secret(rows: Sequence[Secret]) -> list[Due]:
    return [Due("UPDATE pullstatus.meta SET secret = %s", (rows[0].value,))]


def _keep_secret(_rows: Sequence[Secret]) -> list[Due]:
    """A store has one always."""
    return []


_EPOCHS: Final = f"""
SELECT number, floor(extract(epoch FROM began) * 1000)::bigint FROM pullstatus.epoch
WHERE number > %s ORDER BY number LIMIT {STEP_ROWS_MAX}
"""  # noqa: S608 - ours
_PUT_EPOCHS: Final = """
INSERT INTO pullstatus.epoch (number, began, system, timeline)
SELECT number, timestamptz 'epoch' + began_ms * interval '1 millisecond', system_identifier,
    timeline_id
FROM unnest(%s::bigint[], %s::bigint[]) w(number, began_ms), pg_control_system(),
    pg_control_checkpoint()
ON CONFLICT (number) DO UPDATE SET began = excluded.began
"""
_DROP_EPOCHS: Final = "DELETE FROM pullstatus.epoch WHERE number = ANY(%s::bigint[])"


async def _read_epochs(ask: Ask, after: Key | None, _mailboxes: Sequence[Mailbox]) -> list[Row]:
    return [Epoch(*row) for row in await ask(_EPOCHS, 0 if after is None else after[0])]


def _put_epochs(rows: Sequence[Epoch]) -> list[Due]:
    numbers = ints(row.number for row in rows), ints(row.began_ms for row in rows)
    return [Due(_PUT_EPOCHS, numbers)]


def _drop_epochs(rows: Sequence[Epoch]) -> list[Due]:
    return [Due(_DROP_EPOCHS, (ints(row.number for row in rows),))]


def _act_values(row: ActRow) -> Sequence[Any]:
    act = row.act
    ticket = None if act.ticket == NO_TICKET else act.ticket
    texts = (act.actor, act.action, act.reason, act.detail)
    return row.act_id, ticket, act.at_ms, *texts, row.hash


def _act_row(
    act_id: int, ticket: bytes | None, at_ms: int, actor: str, action: str, reason: str,
    detail: str, proof: bytes,
) -> Row:  # fmt: skip
    act = Act(actor, action, reason, detail, at_ms, NO_TICKET if ticket is None else ticket)
    return ActRow(act_id, act, proof)


# -- how mailboxes stand ---------------------------------------------------------------------------

# A mailbox that was made and never filled is none yet.
_STANDINGS: Final = f"""
SELECT s.box, s.tail, s.cursor, {", ".join(f"s.{name}" for name in TOTALS)}, s.purged,
    {TALLIED}
FROM ({DERIVED} WHERE m.box > %s) s
{FOLLOWED}
WHERE s.tail > 0 ORDER BY s.box LIMIT {STEP_ROWS_MAX}
"""  # noqa: S608 - ours
_COUNTS: Final = ("tail", "cursor", *TOTALS, "purged")
_DROP_BASES: Final = "DELETE FROM pullstatus.base WHERE box = ANY(%s::bigint[])"
_PUT_BASES: Final = f"""
INSERT INTO pullstatus.base (box, {", ".join(_COUNTS)})
SELECT * FROM unnest(%s::bigint[]{", %s::bigint[]" * len(_COUNTS)})
"""  # noqa: S608 - ours
# The newest row of the journal tells the totals, if there is one.
_PUT_TOTALS: Final = f"""
UPDATE pullstatus.journal j SET {", ".join(f"{name} = w.{name}" for name in TOTALS)}
FROM unnest(%s::bigint[]{", %s::bigint[]" * len(TOTALS)}) w(box, {", ".join(TOTALS)})
WHERE j.box = w.box AND j.first_seq = (SELECT first_seq FROM pullstatus.journal
    WHERE box = w.box ORDER BY first_seq DESC LIMIT 1)
"""  # noqa: S608 - ours
_DROP_MARKS: Final = "DELETE FROM pullstatus.followed WHERE box = ANY(%s::bigint[])"
_PUT_MARKS: Final = """
INSERT INTO pullstatus.followed (box, turn, through, tallied)
SELECT box, 0, 0, tallied FROM unnest(%s::bigint[], %s::bigint[]) w(box, tallied)
"""
_DROP_STANDINGS: Final = [
    f"DELETE FROM pullstatus.{table} WHERE box = ANY(%s::bigint[])"  # noqa: S608 - ours
    for table in (
        *("chunk", "quarantine", "journal", "again", "reader", "base", "followed", "segment"),
        "mailbox",
    )
]


async def _read_standings(ask: Ask, after: Key | None, _mailboxes: Sequence[Mailbox]) -> list[Row]:
    found = await ask(_STANDINGS, -1 if after is None else slot(after[0]))
    return [Standing(mailbox_of(box), *counts) for box, *counts in found]


def _put_standings(rows: Sequence[Standing]) -> list[Due]:
    boxes = ints(slot(row.mailbox) for row in rows)
    counts = {name: ints(getattr(row, name) for row in rows) for name in _COUNTS}
    return [
        Due(MAKE_MAILBOXES, (boxes,)),
        Due(_DROP_BASES, (boxes,)),
        Due(_PUT_BASES, (boxes, *counts.values())),
        Due(_PUT_TOTALS, (boxes, *[counts[name] for name in TOTALS])),
        Due(_DROP_MARKS, (boxes,)),
        Due(_PUT_MARKS, (boxes, ints(row.tallied for row in rows))),
    ]


def _drop_standings(rows: Sequence[Standing]) -> list[Due]:
    boxes = ints(slot(row.mailbox) for row in rows)
    return [Due(sql, (boxes,)) for sql in _DROP_STANDINGS]


# -- what was counted ------------------------------------------------------------------------------

_TALLIES: Final = f"""
SELECT sdkappid, series, hour, counts FROM pullstatus.tally
WHERE (sdkappid, series, hour) > (%s, %s, %s) ORDER BY sdkappid, series, hour LIMIT {STEP_ROWS_MAX}
"""  # noqa: S608 - ours
_PUT_TALLIES: Final = """
INSERT INTO pullstatus.tally AS t
SELECT sdkappid, series, hour, counts::bigint[]
FROM unnest(%s::bigint[], %s::int[], %s::bigint[], %s::text[]) w(sdkappid, series, hour, counts)
ON CONFLICT (sdkappid, series, hour) DO UPDATE SET counts = excluded.counts
"""
_DROP_TALLIES: Final = """
DELETE FROM pullstatus.tally t
USING unnest(%s::bigint[], %s::int[], %s::bigint[]) w(sdkappid, series, hour)
WHERE t.sdkappid = w.sdkappid AND t.series = w.series AND t.hour = w.hour
"""


async def _read_tallies(ask: Ask, after: Key | None, _mailboxes: Sequence[Mailbox]) -> list[Row]:
    return [
        Tallied(sdkappid, series, hour, tuple(counts))
        for sdkappid, series, hour, counts in await ask(
            _TALLIES, *((-1, 0, 0) if after is None else after)
        )
    ]


def _put_tallies(rows: Sequence[Tallied]) -> list[Due]:
    return [Due(_PUT_TALLIES, (*_hours_of(rows), [ints(row.counts) for row in rows]))]


def _drop_tallies(rows: Sequence[Tallied]) -> list[Due]:
    return [Due(_DROP_TALLIES, _hours_of(rows))]


def _hours_of(rows: Sequence[Tallied]) -> list[str]:
    return [ints(column) for column in zip(*map(key_of_row, rows), strict=True)]


# -- what is in them -------------------------------------------------------------------------------


def _chunks(name: str, kind: type[Stored]) -> _Part:
    def values(row: Stored) -> Sequence[Any]:
        checksum = chunk.checksum(_place(row), row.bounds, row.body)
        if not row.sound:
            checksum ^= 1  # what was damaged stays so
        apart = None
        if row.label is not None and row.label.startswith(chunk.APART):
            origins = chunk.origins(row.label, row.count, row.accepted_ms)
            apart = ints(origin.at_ms for origin in origins)
        head = row.mailbox, row.first_seq, row.count, row.accepted_ms
        return *head, checksum, row.bounds, row.body, row.label, apart

    def row(
        mailbox: Mailbox, first_seq: int, count: int, accepted_ms: int, checksum: int,
        bounds: bytes, body: bytes, label: bytes | None,
    ) -> Row:  # fmt: skip
        found = kind(mailbox, first_seq, count, accepted_ms, bounds, body, label, sound=True)
        if chunk.checksum(_place(found), bounds, body) == checksum:
            return found
        return msgspec.structs.replace(found, sound=False)

    return _Table(
        name,
        {"box": _BOX, "first_seq": _INT},
        {
            "count": _INT,
            "accepted_ms": _INT,
            "checksum": _INT,
            "bounds": _LONG,
            "body": _LONG,
            "tickets": _BYTES,
        },
        values,
        made_of={"apart": _TEXTS},
        more={"apart_ms": "w.apart::bigint[]"},
        weighs="length(body)",
    ).part(row)


def _place(row: Stored | Hand) -> int:
    """What a checksum is keyed with."""
    return key_of(slot(row.mailbox)) + row.first_seq


# A row has the totals of its mailbox, as they were told with how it stands: its one base has them.
_JOURNAL: Final = _Table(
    "pullstatus.journal",
    {"box": _BOX, "first_seq": _INT},
    {
        "count": _INT,
        "outcome": _INT,
        "at_ms": _INT,
        "address": _TEXT,
        "pull_key": _TEXT,
        "count_max": _INT,
        "proof": _TEXT,
        "ticket": _BYTES,
        "reader": _TEXT,
        "given": _INT,
        "acked_ms": _INT,
        "released_ms": _INT,
    },
    more={name: f"b.{name}" for name in TOTALS},
    beside=" JOIN pullstatus.base b ON b.box = w.box",
)


def _journal_row(
    mailbox: Mailbox,
    first_seq: int,
    count: int,
    outcome: int,
    *rest: Any,  # noqa: ANN401 - a column each
) -> Row:
    return JournalRow(mailbox, first_seq, count, outcome_of(outcome), *rest)


def _hand_values(row: Hand) -> Sequence[Any]:
    page = readers.sealed(_place(row), row.page) if row.kept else None
    return *msgspec.structs.astuple(row)[:8], page


def _hand_row(mailbox: Mailbox, *members: Any) -> Row:  # noqa: ANN401 - a column each
    *rest, page = members
    hand = Hand(mailbox, *rest)
    if page is None:
        return hand
    return msgspec.structs.replace(hand, kept=True, page=readers.unsealed(_place(hand), page))


# -- what is remembered of records -----------------------------------------------------------------

# Of many that were accepted in one moment none is in an index by its keys. So a step is cut out by
# time first, and sorted then.
_PRINTS_EDGE: Final = f"""
coalesce((SELECT accepted_ms FROM pullstatus.fingerprint_step WHERE BEHIND
    ORDER BY accepted_ms OFFSET {STEP_ROWS_MAX - 1} LIMIT 1), {(1 << 63) - 1})
"""  # noqa: S608 - ours
_PRINTS: Final = _step(
    "pullstatus.fingerprint_step",
    "accepted_ms, keys",
    "accepted_ms, keys",
    f"BEHIND AND accepted_ms <= {_PRINTS_EDGE}",
    f"{PRINTS_WEIGH} * length(keys)",
).replace("BEHIND", "accepted_ms >= %s AND (accepted_ms > %s OR keys > %s)")
_DROP_STEPS: Final = """
DELETE FROM pullstatus.fingerprint_step s USING unnest(%s::bigint[], %b::bytea[]) w(at, keys)
WHERE s.accepted_ms = w.at AND s.keys = w.keys
"""
_PUT_STEPS: Final = """
INSERT INTO pullstatus.fingerprint_step (accepted_ms, keys)
SELECT * FROM unnest(%s::bigint[], %b::bytea[])
"""
_DROP_PRINTS: Final = """
DELETE FROM pullstatus.fingerprint f
USING unnest(%s::bigint[], %s::bigint[], %s::bigint[]) w(slot, short, at)
WHERE f.slot = w.slot AND f.short = w.short AND f.accepted_ms = w.at
"""
_PUT_PRINTS: Final = """
INSERT INTO pullstatus.fingerprint AS f
SELECT slot, short, max(at) FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) w(slot, short, at)
GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (slot, short) DO UPDATE SET accepted_ms = greatest(f.accepted_ms, excluded.accepted_ms)
"""


async def _read_prints(ask: Ask, after: Key | None, _mailboxes: Sequence[Mailbox]) -> list[Row]:
    at_ms, keys = (-(1 << 63), b"") if after is None else after
    return [Prints(*row) for row in await ask(_PRINTS, *(at_ms, at_ms, keys) * 2)]


def _put_prints(rows: Sequence[Prints]) -> list[Due]:
    steps, halves = _columns_of(rows)
    return [*_drop_prints(rows), Due(_PUT_STEPS, steps), Due(_PUT_PRINTS, halves)]


def _drop_prints(rows: Sequence[Prints]) -> list[Due]:
    steps, halves = _columns_of(rows)
    return [Due(_DROP_STEPS, steps), Due(_DROP_PRINTS, halves)]


def _columns_of(rows: Sequence[Prints]) -> tuple[Sequence[Any], Sequence[Any]]:
    """What goes into the order of acceptance, and into the index of it."""
    index = [(*halves, row.accepted_ms) for row in rows for halves in halves_of(row.keys)]
    return (
        (ints(row.accepted_ms for row in rows), [row.keys for row in rows]),
        [ints(one[place] for one in index) for place in range(3)],
    )


# -- names of sends --------------------------------------------------------------------------------

_NAMES_KEY: Final = "accepted_ms, sdkappid, slots, body"
_NAMES: Final = [
    _step("pullstatus.naming", _NAMES_KEY, _NAMES_KEY, where, "length(body)")
    for where in ("true", f"({_NAMES_KEY}) > (%s, %s, %s::int[], %s)")
]
_NEW_NAMES: Final = "unnest(%s::bigint[], %s::bigint[], %s::text[], %b::bytea[]) WITH ORDINALITY"
_PUT_NAMES: Final = f"""
INSERT INTO pullstatus.naming ({_NAMES_KEY})
SELECT at, sdkappid, slots::int[], body FROM {_NEW_NAMES} w(at, sdkappid, slots, body, place)
ORDER BY place
"""  # noqa: S608 - ours
_DROP_NAMES: Final = f"""
DELETE FROM pullstatus.naming n USING {_NEW_NAMES} w(at, sdkappid, slots, body, place)
WHERE n.accepted_ms = w.at AND n.sdkappid = w.sdkappid AND n.slots = w.slots::int[]
    AND n.body = w.body
"""  # noqa: S608 - ours


async def _read_names(ask: Ask, after: Key | None, _mailboxes: Sequence[Mailbox]) -> list[Row]:
    if after is None:
        found = await ask(_NAMES[0])
    else:
        at_ms, sdkappid, slots, body = after
        found = await ask(_NAMES[1], at_ms, sdkappid, ints(slots), body)
    rows = [Names(at, whose, tuple(slots), body) for at, whose, slots, body in found]
    return [*dict.fromkeys(rows)]


def _put_names(rows: Sequence[Names]) -> list[Due]:
    return [*_drop_names(rows), Due(_PUT_NAMES, _names_columns(rows))]


def _drop_names(rows: Sequence[Names]) -> list[Due]:
    return [Due(_DROP_NAMES, _names_columns(rows))]


def _names_columns(rows: Sequence[Names]) -> list[Any]:
    return [
        ints(row.accepted_ms for row in rows),
        ints(row.sdkappid for row in rows),
        ["{" + ",".join(map(str, row.slots)) + "}" for row in rows],
        [row.body for row in rows],
    ]


_PARTS: Final[dict[Part, _Part]] = {
    Secret: _Part(_read_secret, _put_secret, _keep_secret),
    Epoch: _Part(_read_epochs, _put_epochs, _drop_epochs),
    Setting: _Table(
        "pullstatus.setting",
        {"name": _TEXT},
        {"value": _BYTES, "revision": _INT, "ticket": _BYTES},
    ).part(Setting),
    ActRow: _Table(
        "pullstatus.act",
        {"id": _INT},
        {
            "ticket": _BYTES,
            "at_ms": _INT,
            "actor": _TEXT,
            "action": _TEXT,
            "reason": _TEXT,
            "detail": _TEXT,
            "hash": _BYTES,
        },
        _act_values,
    ).part(_act_row),
    Mark: _Table("pullstatus.note", {"name": _TEXT}, {"at_ms": _INT, "place": _TEXT}).part(Mark),
    Standing: _Part(_read_standings, _put_standings, _drop_standings),
    Tallied: _Part(_read_tallies, _put_tallies, _drop_tallies),
    Stored: _chunks("pullstatus.chunk", Stored),
    SetAside: _chunks("pullstatus.quarantine", SetAside),
    JournalRow: _JOURNAL.part(_journal_row),
    Copied: _Table(
        "pullstatus.again",
        {"box": _BOX, "first_seq": _INT, "act_id": _INT},
        {"count": _INT, "source_seq": _INT},
    ).part(Copied),
    Hand: _Table(
        "pullstatus.reader",
        {"box": _BOX, "name": _TEXT},
        {
            "at_ms": _INT,
            "acked_seq": _INT,
            "first_seq": _INT,
            "count": _INT,
            "taken_ms": _INT,
            "given": _INT,
            "page": _BYTES,
        },
        _hand_values,
        more={"version": "1"},
        weighs="coalesce(length(page), 0)",
    ).part(_hand_row),
    Batch: _Table(
        "pullstatus.repeat_key",
        {"scope": _TEXT, "key": _TEXT},
        {"digest": _BYTES, "accepted": _INT, "accepted_ms": _INT},
    ).part(Batch),
    Prints: _Part(_read_prints, _put_prints, _drop_prints),
    Nonce: _Table("pullstatus.once", {"sdkappid": _INT, "nonce": _TEXT}, {"until_ms": _INT}).part(
        Nonce
    ),
    Names: _Part(_read_names, _put_names, _drop_names),
}
