"""A row made ready, once: items of JSON are read many at a time, column by column. Pure.

    items    ->  rows      of a type with the members that the row reads: one call for all, in C
    rows     ->  columns   the texts of each thing that is read
    columns  ->  reports

It takes what is usual, and leaves the rest, item by item, to `reading`, which reads everything one
by one and has the last word: both come to the same. Of an item that is left nothing is known but
that. A row that reads raw bytes, SMPP receipts or texts in other codings has no plan for these, nor
one that has other codes for some.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any, Final

import msgspec

from pullstatus.receipts.reports import Report, State, Statuses
from pullstatus.receipts.source import Keys, ReplyKeys, Source, StatusKeys
from pullstatus.receipts.times import TIMES, plausible
from pullstatus.records import Kind
from pullstatus.records.numbers import calling_code, ungrouped

__all__ = ["NESTED_MAX", "Plan", "keys_of", "members_of", "plan_of", "whole_number", "word_of"]

NESTED_MAX: Final = 4
"""Objects within an item that are looked into, one within the other."""

Rows = Sequence[Any]


class Plan:
    """How items of one source are read, many at a time."""

    def __init__(self, source: Source) -> None:
        """Raises LookupError if it reads an object as text, too: there is no type for that."""
        self._decode, column = _rows_of(source)
        self._tables: list[_Statuses | _Replies] = []
        if source.status is not None:
            self._tables.append(_Statuses(source.status, column))
        if source.reply is not None:
            self._tables.append(_Replies(source.reply, column))
        self._statuses: _Statuses | None = None
        if source.status is not None:  # by themselves, without what only replies have
            self._decode_statuses, column = _rows_of(msgspec.structs.replace(source, reply=None))
            self._statuses = _Statuses(source.status, column)

    def read(
        self, items: Sequence[bytes], said: Sequence[bytes], first: int, now_s: int
    ) -> list[Report | None]:
        """The report of each item; None for one that is to be read by itself.

        Args:
            items: each as it is kept.
            said: as it is read, a value of JSON.
            first: the place of the first in the request.
            now_s: when the request arrived.
        """
        try:
            rows = self._decode(b"[" + b",".join(said) + b"]")
        except (msgspec.DecodeError, ValueError, RecursionError):
            if len(items) == 1:
                return [None]
            alone = zip(items, said, strict=True)
            runs = (self.read([a], [b], place, now_s) for place, (a, b) in enumerate(alone, first))
            return [report for [report] in runs]
        left: Sequence[int] = range(len(rows))
        found: list[Report | None] = [None] * len(rows)
        for table in self._tables:
            theirs = table.among(rows, left)
            if not theirs:
                continue
            if len(theirs) == len(rows):
                return table.read(rows, items, range(first, first + len(rows)), now_s)
            some = table.read(
                [rows[place] for place in theirs],
                [items[place] for place in theirs],
                [first + place for place in theirs],
                now_s,
            )
            for place, report in zip(theirs, some, strict=True):
                found[place] = report
            left = sorted({*left}.difference(theirs))
        return found

    def statuses(self, text: bytes, now_s: int) -> Statuses | None:
        """What an array of usual delivery statuses says; None if some of it is nothing of the kind.

        Args:
            text: an array of JSON, not nested too deep.
            now_s: when the request arrived.
        """
        if self._statuses is None:
            return None
        try:
            rows = self._decode_statuses(text)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        return self._statuses.of_all(rows, now_s) if rows else None


class _Table:
    """What both kinds of reports have."""

    def __init__(self, keys: StatusKeys | ReplyKeys, column: Callable[[Keys], _Column]) -> None:
        self._when = column(keys.when) if keys.when else None
        self._unless = column(keys.unless) if keys.unless else None
        self._number, self._nationcode = column(keys.number), column(keys.nationcode)
        self._to, self._id = column(keys.to), column(keys.id)
        self._time, self._moment = column(keys.time), TIMES[keys.form]
        self._abroad = bool(keys.nationcode)

    def among(self, rows: Rows, places: Sequence[int]) -> Sequence[int]:
        """The places of those that are of this kind."""
        found = places
        if self._when is not None:
            found = _those(self._when, rows, found, there=True)
        if self._unless is not None:
            found = _those(self._unless, rows, found, there=False)
        return found

    def _numbers(self, rows: Rows) -> list[str]:
        numbers = self._number(rows)
        if self._abroad:
            return list(map(whole_number, numbers, self._nationcode(rows)))
        told = "".join(numbers)
        return list(map(ungrouped, numbers)) if " " in told or "-" in told else numbers

    def _moments(self, rows: Rows, now_s: int) -> list[int | None]:
        texts = self._time(rows)
        known = {text: plausible(self._moment(text), now_s) for text in set(texts)}
        return list(map(known.__getitem__, texts))


def _those(column: _Column, rows: Rows, places: Sequence[int], *, there: bool) -> Sequence[int]:
    texts = column.whole(rows)
    if there and all(texts):
        return places
    return [place for place in places if bool(texts[place]) is there]


class _Statuses(_Table):
    """Delivery statuses."""

    def __init__(self, keys: StatusKeys, column: Callable[[Keys], _Column]) -> None:
        super().__init__(keys, column)
        self._usual = not (keys.receipt or keys.part or keys.errmsgs)
        self._by_state = keys.when == keys.state and not keys.unless  # one without is odd anyway
        self._keys, self._states, self._otherwise = keys, keys.states, keys.otherwise
        self._words = list(map(column, keys_of(keys.state)))
        self._sid, self._ext = column(keys.sid), column(keys.ext)
        self._errmsg, self._description = column(keys.errmsg), column(keys.description)

    def read(
        self, rows: Rows, items: Sequence[bytes], indexes: Sequence[int], now_s: int
    ) -> list[Report | None]:
        if not self._usual:
            return [None] * len(rows)
        columns = self.columns(rows, now_s)
        kinds = repeat(Kind.DELIVERY_STATUS)
        found: list[Report | None] = list(map(Report, kinds, items, indexes, *columns))
        if None not in columns.states and (all(columns.ids) or all(columns.sids)):
            return found
        return [
            None if _is_odd(state, id_ or sid) else report
            for report, state, id_, sid in zip(
                found, columns.states, columns.ids, columns.sids, strict=True
            )
        ]

    def of_all(self, rows: Rows, now_s: int) -> Statuses | None:
        """The columns, if all rows are of this kind."""
        if not self._usual:
            return None
        if not self._by_state and len(self.among(rows, range(len(rows)))) != len(rows):
            return None
        return self.columns(rows, now_s)

    def columns(self, rows: Rows, now_s: int) -> Statuses:
        said = self._said(rows)
        known = {text: self._states.get(text.casefold(), self._otherwise) for text in set(said)}
        known[""] = None
        errmsgs = self._errmsg(rows)
        if not all(errmsgs):
            errmsgs = [text or state for text, state in zip(errmsgs, said, strict=True)]
        return Statuses(
            self._numbers(rows),
            self._to(rows),
            self._id(rows),
            self._sid(rows),
            self._ext(rows),
            self._moments(rows, now_s),
            list(map(known.__getitem__, said)),
            errmsgs,
            self._description(rows),
        )

    def _said(self, rows: Rows) -> list[str]:
        """The word for each state."""
        if len(self._words) == 1:
            return self._words[0](rows)
        words = zip(*[column(rows) for column in self._words], strict=True)
        return [word_of(self._keys, some) for some in words] if self._words else [""] * len(rows)


def word_of(keys: StatusKeys, words: Sequence[str]) -> str:
    """Which of some words says the state: the first that is known, else the first that is there."""
    known = (word for word in words if word.casefold() in keys.states)
    return next(known, next(filter(None, words), ""))


def _is_odd(state: State | None, id_: str) -> bool:
    return state is None or not (id_ or state is State.INTERMEDIATE)


class _Replies(_Table):
    """Replies."""

    def __init__(self, keys: ReplyKeys, column: Callable[[Keys], _Column]) -> None:
        super().__init__(keys, column)
        ways = keys.hexadecimal, keys.codings, keys.charset, keys.udh, keys.part
        self._usual = keys.coding == "utf8" and not any(ways)
        self._text = column(keys.text)
        self._sign, self._extend = column(keys.sign), column(keys.extend)

    def read(
        self, rows: Rows, items: Sequence[bytes], indexes: Sequence[int], now_s: int
    ) -> list[Report | None]:
        if not self._usual:
            return [None] * len(rows)
        columns = zip(
            items,
            indexes,
            self._numbers(rows),
            self._to(rows),
            self._id(rows),
            self._moments(rows, now_s),
            self._text.whole(rows),
            self._sign(rows),
            self._extend(rows),
            strict=True,
        )
        return [
            Report(
                Kind.REPLY,
                raw,
                index,
                number=number,
                to=to,
                id=id_,
                at_s=at_s,
                text=text,
                sign=sign,
                extend=extend,
            )
            for raw, index, number, to, id_, at_s, text, sign, extend in columns
        ]


@functools.lru_cache(maxsize=256)
def plan_of(source: Source) -> Plan | None:
    """The plan of a source; None: each of its items is read by itself."""
    try:
        return Plan(source)
    except LookupError:
        return None


def whole_number(number: str, code: str) -> str:
    """A number with its calling code, where that stands apart and it has none itself."""
    number = ungrouped(number)
    if not code or number.startswith(("+", "00")):
        return number
    return f"+{calling_code(code)}{number}"


# --- which members --------------------------------------------------------------------------------


def keys_of(keys: Keys) -> tuple[str, ...]:
    """One or several."""
    return (keys,) if isinstance(keys, str) else keys


@functools.lru_cache(maxsize=256)
def members_of(source: Source) -> frozenset[str]:
    """The names of all members that a source reads."""
    found: set[str] = set()
    both = source.status, source.reply
    parts = [keys.part for keys in both if keys is not None]
    for table in filter(None, (*both, *parts)):
        for name in table.__struct_fields__:
            value = getattr(table, name)
            if name in _NO_KEYS or not isinstance(value, str | tuple):
                continue
            for key in filter(None, keys_of(value)):
                found.update((key, *key.split("+")) if "+" in key else (key,))
    return frozenset(found)


_NO_KEYS: Final = frozenset({"form", "numbers", "coding", "otherwise"})

# --- the type of a row ----------------------------------------------------------------------------

_Path = tuple[str, ...]
_Value = str | int | bool | None
_Get = dict[str, str]
"""By the name of a member, dots and all: where it is in a row, as `attrgetter` has it."""


def _rows_of(source: Source) -> tuple[Callable[[bytes], Rows], Callable[[Keys], _Column]]:
    """How an array of what a source reads is decoded, and what takes a column out of that."""
    paths = [tuple(member.split(".")) for member in sorted(members_of(source))]
    row, get = _row_type(paths)
    decode = msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]
    return decode, functools.partial(_Column, get)


def _row_type(paths: Sequence[_Path], depth: int = 0) -> tuple[type[msgspec.Struct], _Get]:
    """A type of which every member may be missing.

    Two spellings come to one name, an object's `a` with `b` in it, and `a.b`: the second has a
    member that only takes null, which says nothing.
    """
    fields: list[tuple[str, Any, Any]] = []
    names: dict[str, str] = {}
    get: _Get = {}
    heads: dict[str, list[_Path]] = {}
    for path in paths:
        heads.setdefault(path[0], []).append(path[1:])
    traps = {".".join(path[:end]) for path in paths for end in range(2, len(path) + 1)}
    for head, rests in heads.items():
        field = f"m{len(fields)}"
        names[field] = head
        if rests == [()]:
            fields.append((field, _Value, ""))
            get[head] = field
            continue
        if () in rests or depth == NESTED_MAX:
            raise LookupError(head)
        inner, within = _row_type(rests, depth + 1)
        fields.append((field, inner, msgspec.field(default_factory=inner)))
        get |= {f"{head}.{name}": f"{field}.{place}" for name, place in within.items()}
    for trap in sorted(traps):
        field = f"m{len(fields)}"
        names[field] = trap
        fields.append((field, None, None))
    try:
        return msgspec.defstruct("Row", fields, rename=names, gc=False), get
    except ValueError as error:  # a name that JSON can only say with escapes
        raise LookupError(str(error)) from None


class _Column:
    """The texts of one thing, said by a member, or by several: the first that is not empty."""

    def __init__(self, get: _Get, keys: Keys) -> None:
        self._ways = [_Way(get, key) for key in keys_of(keys) if key]

    def whole(self, rows: Rows) -> list[str]:
        """Each as it came."""
        if not self._ways:
            return [""] * len(rows)
        if len(self._ways) == 1:
            return self._ways[0].texts(rows)
        columns = [way.texts(rows) for way in self._ways]
        return [next(filter(None, texts), "") for texts in zip(*columns, strict=True)]

    def __call__(self, rows: Rows) -> list[str]:
        """Each without the blanks around it."""
        return list(map(str.strip, self.whole(rows))) if self._ways else [""] * len(rows)


class _Way:
    """The texts of one member, or of some that are read as one."""

    def __init__(self, get: _Get, key: str) -> None:
        self._value = attrgetter(get[key])
        self._parts = [_Way(get, part) for part in key.split("+")] if "+" in key else []

    def texts(self, rows: Rows) -> list[str]:
        found = list(map(self._value, rows))
        try:
            "".join(found)
        except TypeError:  # some are no text
            found = _all_said(found)
        if not self._parts:
            return found
        columns = zip(*[part.texts(rows) for part in self._parts], strict=True)
        return [text or "".join(parts) for text, parts in zip(found, columns, strict=True)]


def _all_said(values: Sequence[_Value]) -> list[str]:
    if int in set(map(type, values)):  # 1 and 0 would be found as true and false
        return list(map(_said, values))
    known = {value: _said(value) for value in set(values)}
    return list(map(known.__getitem__, values))


def _said(value: _Value) -> str:
    if value is None:
        return ""
    return str(value).lower() if value is True or value is False else str(value)
