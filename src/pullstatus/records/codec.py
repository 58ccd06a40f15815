"""Records as JSON, encoded once and decoded in two ways.

The fast way lets msgspec build records straight from a batch; it refuses whatever is unusual. The
careful one then goes through the same batch record by record: it keeps unknown members, forgives
what may be forgiven, and names the record and member at fault. Only the careful way decides that
something is wrong.

Source: protocol.md section 6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

from pullstatus import limits
from pullstatus.errors import BodyTooLarge, InvalidBody, InvalidRecord
from pullstatus.json import NO_JSON, ascii_json, check_in_steps, check_json, integer, survey
from pullstatus.records.values import MEMBERS, TYPES, Extra, Kind, Member, Record, utc8_s
from pullstatus.steps import Steps, done

__all__ = [
    "AT_ONCE_BYTES",
    "decode",
    "decode_array",
    "decode_in_steps",
    "decode_lines_in_steps",
    "encode",
    "encode_all",
    "encode_in_steps",
    "read_rows",
    "rows_of",
]


# --- encoding -------------------------------------------------------------------------------------

_encoder: Final = msgspec.json.Encoder()


def encode(record: Record, extra: Extra | None = None) -> bytes:
    """Encode one record: compact JSON, known members in the documented order, then the extra ones.

    Args:
        extra: unknown members as `decode` returned them; their JSON is trusted here.

    Raises:
        InvalidRecord: it takes more than `limits.RECORD_BYTES_MAX` bytes.
    """
    data = _encoder.encode(record)
    if extra:
        data = _join(data, extra)
    _check_size(data)  # before it is escaped, since that only makes it longer
    data = ascii_json(data)
    _check_size(data)
    return data


def encode_all(
    records: Sequence[msgspec.Struct], extras: Sequence[Extra | None] | None = None
) -> list[bytes]:
    """Encode a batch, each record as `encode` does.

    Args:
        extras: the unknown members of each record; None when no record has any.

    Raises:
        InvalidRecord: one is too large; its place in the batch is named.
    """
    return done(encode_in_steps(records, extras))


_ENCODED_AT_ONCE: Final = 100  # records
_ESCAPED_AT_ONCE_BYTES: Final = 32 * 1024


def encode_in_steps(
    records: Sequence[msgspec.Struct], extras: Sequence[Extra | None] | None = None
) -> Steps[list[bytes]]:
    """As `encode_all`."""
    entries: list[bytes] = []
    for start in range(0, len(records), _ENCODED_AT_ONCE):
        stop = start + _ENCODED_AT_ONCE
        # JSON escapes every line feed, so one call for all and one cut give the parts.
        data = _encoder.encode_lines(records[start:stop])
        run = _cut(data)
        _check_sizes(run, start)  # before they are escaped, since that only makes them longer
        if not data.isascii():
            if len(data) <= _ESCAPED_AT_ONCE_BYTES:
                run = _cut(ascii_json(data))
            else:
                for index, entry in enumerate(run):
                    run[index] = ascii_json(entry)
                    yield
            _check_sizes(run, start)
        if extras is not None:
            run = [
                _join(entry, extra) if extra else entry
                for entry, extra in zip(run, extras[start:stop], strict=True)
            ]
            _check_sizes(run, start)
            run = [ascii_json(entry) for entry in run]
            _check_sizes(run, start)
        entries += run
        yield
    return entries


def _cut(lines: bytes) -> list[bytes]:
    parts = lines.split(b"\n")
    parts.pop()
    return parts


def _check_sizes(entries: list[bytes], first: int) -> None:
    if max(map(len, entries)) > limits.RECORD_BYTES_MAX:
        for index, data in enumerate(entries, first):
            _check_size(data, index)


def _check_size(data: bytes, index: int | None = None) -> None:
    if len(data) > limits.RECORD_BYTES_MAX:
        raise _too_large(index)


def _too_large(index: int | None) -> InvalidRecord:
    fix = f"must fit into {limits.RECORD_BYTES_MAX} bytes of ASCII JSON"
    return InvalidRecord("record", fix, index)


def _join(data: bytes, extra: Extra) -> bytes:
    members = [_encoder.encode(name) + b":" + bytes(raw) for name, raw in extra.items()]
    return data[:-1] + b"," + b",".join(members) + b"}"


# --- decoding, the fast way -----------------------------------------------------------------------

_decode_one: Final[tuple[Callable[[bytes], Record], ...]] = tuple(
    msgspec.json.Decoder(record_type).decode for record_type in TYPES
)
_decode_list: Final[tuple[Callable[[bytes], Any], ...]] = tuple(
    msgspec.json.Decoder(list[record_type]).decode  # type: ignore[valid-type]
    for record_type in TYPES
)
_UNUSUAL: Final = (*NO_JSON, InvalidRecord)


def decode(data: bytes, kind: Kind) -> tuple[Record, Extra | None]:
    """Decode one record; `decode(encode(record, extra), kind)` gives both back.

    Returns:
        The record and its unknown members, None if there are none.

    Raises:
        InvalidBody: `data` is not JSON, or nested too deeply.
        InvalidRecord: it is no record of this kind; the member is named.
    """
    try:
        return _decode_one[kind](data), None
    except _UNUSUAL:
        pass  # and not on within it: what msgspec says quotes the input, and would be the context
    _check_sent(data)
    check_json(data)
    return _decode_carefully(data, kind)


def decode_array(data: bytes, kind: Kind) -> tuple[list[Record], list[Extra | None] | None]:
    """Decode a JSON array of records of one kind; it may be empty.

    Returns:
        The records, and the unknown members of each; None if no record has any.

    Raises:
        InvalidBody: `data` is not JSON, not an array, or nested too deeply.
        InvalidRecord: one is no record of this kind; the first such place and member are named.
    """
    return done(decode_in_steps(data, kind))


AT_ONCE_BYTES: Final = 256 * 1024
"""Of a body that is decoded without a pause: a thousand ordinary records, some milliseconds."""


def decode_in_steps(
    data: bytes, kind: Kind, count_max: int | None = None
) -> Steps[tuple[list[Record], list[Extra | None] | None]]:
    """As `decode_array`.

    Args:
        count_max: how many records there may be. Counting those of a body that is unusual comes
            before looking at them.

    Raises:
        BodyTooLarge: there are more.
    """
    if len(data) <= AT_ONCE_BYTES:
        try:
            return _decode_list[kind](data), None
        except _UNUSUAL:
            pass
        yield
    yield from check_in_steps(data)
    if count_max is not None and data.count(b",") >= count_max:
        yield from _check_count(data, count_max)
    try:
        parts = _decode_raws(data)
    except msgspec.ValidationError:
        raise InvalidBody("the body must be a JSON array of records") from None
    except msgspec.DecodeError:
        raise _not_json(data, "the body") from None
    yield
    return (yield from _decode_each(parts, kind))


def _check_count(data: bytes, count_max: int) -> Steps[None]:
    if not data.lstrip(b" \t\r\n").startswith(b"["):
        return
    if (yield from survey(data, count_max)).parts > count_max:
        raise BodyTooLarge(f"the body must hold at most {count_max} records")


def decode_lines_in_steps(
    lines: Sequence[bytes], kind: Kind
) -> Steps[tuple[list[Record], list[Extra | None] | None]]:
    """Decode records of one kind that stand one on a line, as `decode_array` does.

    Raises:
        InvalidBody: a line is not one JSON value, or nested too deeply; its 0-based place among
            `lines` is named.
        InvalidRecord: as for an array.
    """
    if sum(map(len, lines)) <= AT_ONCE_BYTES:
        decode_fast = _decode_one[kind]
        with suppress(*_UNUSUAL):
            return [decode_fast(line) for line in lines], None
        yield
    return (yield from _decode_each(lines, kind, "record {}"))


def _decode_each(
    parts: Sequence[bytes | msgspec.Raw], kind: Kind, line: str | None = None
) -> Steps[tuple[list[Record], list[Extra | None] | None]]:
    """Decode them one by one.

    Args:
        line: what one is called, if each is a document by itself and was not checked yet.
    """
    decode_fast = _decode_one[kind]
    records: list[Record] = []
    extras: list[Extra | None] = []
    for index, part in enumerate(parts):
        record: Record | None = None
        extra: Extra | None = None
        with suppress(*_UNUSUAL):
            record = decode_fast(part)
        if record is None:
            record, extra = yield from _decode_at(index, bytes(part), kind, line)
        records.append(record)
        extras.append(extra)
        yield
    return records, extras if any(extras) else None


# --- a whole array at once ------------------------------------------------------------------------


def _row_type(kind: Kind) -> type[msgspec.Struct]:
    """A record before the checks that a decoder can't do."""
    return msgspec.defstruct(
        f"{TYPES[kind].__name__}Row",
        [
            (member.name, member.row) if member.required else (member.name, member.row, "")
            for member in MEMBERS[kind]
        ],
        omit_defaults=TYPES[kind].__struct_config__.omit_defaults,
        forbid_unknown_fields=True,
        gc=False,
    )


_ROWS: Final = tuple(_row_type(kind) for kind in Kind)
_decode_rows: Final[tuple[Callable[[bytes], Any], ...]] = tuple(
    msgspec.json.Decoder(list[row_type]).decode  # type: ignore[valid-type]
    for row_type in _ROWS
)


def read_rows(data: bytes, kind: Kind) -> Sequence[msgspec.Struct] | None:
    """Read a JSON array of records, to be encoded as what `decode_array` gives is, but faster.

    The rules are checked for the members of all records together, where that can be, in place of
    record by record.

    Returns:
        The records before their checks, which all have passed. None for what is unusual: nothing at
        all, a member that is unknown, or a rule that seems broken. `decode_array` has the last word
        on that.
    """
    try:
        rows: list[Any] = _decode_rows[kind](data)
        numbers = "".join([row.nationcode + row.mobile for row in rows])
        times = {row.user_receive_time for row in rows} if kind is Kind.DELIVERY_STATUS else ()
        _check_together(numbers, times)
    except (*_UNUSUAL, ValueError):
        return None
    return rows


def rows_of(kind: Kind, columns: Sequence[Sequence[Any]]) -> Sequence[msgspec.Struct] | None:
    """The same of columns of members, in the order of `MEMBERS`, each of its member's type.

    Args:
        columns: of one record at least.

    Returns:
        None where a rule seems broken: making the records has the last word.
    """
    try:
        for within, column in zip(_WITHIN[kind], columns, strict=True):
            if within is not None and not within(column):
                return None
        texts = "".join("".join(column) for column in columns if isinstance(column[0], str))
        if not texts.isascii():
            texts.encode()
        nationcode, mobile = _NUMBERS[kind]
        numbers = "".join(columns[nationcode]) + "".join(columns[mobile])
        _check_together(numbers, set(columns[0]) if kind is Kind.DELIVERY_STATUS else ())
    except ValueError:
        return None
    return list(map(_ROWS[kind], *columns))


def _check_together(numbers: str, times: Collection[str]) -> None:
    """Check of all records what a decoder can't; ValueError: a rule seems broken."""
    if not (numbers.isascii() and numbers.encode().isdigit()):  # of bytes: a tenth of the time
        raise ValueError
    for received in times:
        utc8_s(received)


def _within(member: Member) -> Callable[[Sequence[Any]], bool] | None:
    """Whether a member of all records is within its bounds; None: it has none."""
    if get_origin(member.row) is Literal:
        return frozenset(get_args(member.row)).issuperset
    bounds = next(iter(getattr(member.row, "__metadata__", ())), None)
    if bounds is None:
        return None
    if member.type is int:
        return lambda column: bool(bounds.ge <= min(column) and max(column) <= bounds.le)

    def fit(column: Sequence[str]) -> bool:
        lengths = set(map(len, column))
        return bool(bounds.min_length <= min(lengths) and max(lengths) <= bounds.max_length)

    return fit


_WITHIN: Final = tuple([_within(member) for member in MEMBERS[kind]] for kind in Kind)
_NUMBERS: Final = tuple(
    [place for place, member in enumerate(MEMBERS[kind]) if member.name in ("nationcode", "mobile")]
    for kind in Kind
)


# --- decoding, the careful way --------------------------------------------------------------------

_decode_any: Final[Callable[[bytes], Any]] = msgspec.json.Decoder().decode
_decode_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NULL: Final = b"null"
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def _not_json(data: bytes, what: str) -> InvalidBody:
    if _SURROGATE.search(data):
        return InvalidBody(f"{what} is not JSON, or holds half a surrogate pair")
    return InvalidBody(f"{what} is not JSON")


def _decode_at(
    index: int, data: bytes, kind: Kind, line: str | None
) -> Steps[tuple[Record, Extra | None]]:
    what = "the body" if line is None else line.format(index)
    try:
        if line is not None:
            yield from check_in_steps(data, what)
        return _decode_carefully(data, kind, what)
    except InvalidRecord as error:
        raise error.at(index) from None


def _decode_carefully(
    data: bytes, kind: Kind, what: str = "the body"
) -> tuple[Record, Extra | None]:
    """Decode one record member by member; `data` has passed `check_json`."""
    _check_sent(data)
    try:
        members = _decode_members(data)
    except msgspec.ValidationError:
        raise InvalidRecord("record", "must be a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _not_json(data, what) from None
    known: dict[str, Any] = {}
    for member in MEMBERS[kind]:
        raw = members.pop(member.name, None)
        if raw is None:
            if member.required:
                raise InvalidRecord(member.name, f"is missing; a {kind.label} must have it")
        elif (token := bytes(raw)) != _NULL or member.required:
            known[member.name] = _decode_value(member, token)
    record = TYPES[kind](**known)
    if len(members) > limits.UNKNOWN_MEMBERS_MAX:
        most = limits.UNKNOWN_MEMBERS_MAX
        raise InvalidRecord("record", f"must not have over {most} members that are not documented")
    return record, _extra(data, members) if members else None


def _check_sent(data: bytes) -> None:
    if len(data) > limits.RECORD_SENT_BYTES_MAX:
        raise InvalidRecord("record", f"must have at most {limits.RECORD_SENT_BYTES_MAX} bytes")


def _extra(data: bytes, members: Extra) -> Extra:
    """Unknown members of a record as they are kept: all at once, unless one of them is no use."""
    try:
        compact = msgspec.json.format(data, indent=-1)
        _decode_any(compact)
        kept = _decode_members(compact)
    except (msgspec.DecodeError, ValueError):
        return {name: _compact(raw) for name, raw in members.items()}
    extra = {name: kept[name] for name in members}
    if compact.isascii() or sum(map(len, extra.values())) > limits.RECORD_BYTES_MAX:
        return extra  # what is too large is refused before it is escaped
    return {name: msgspec.Raw(ascii_json(bytes(raw))) for name, raw in extra.items()}


def _decode_value(member: Member, token: bytes) -> object:
    """Read a known member: a number if its token is one, else a string, else nothing."""
    if member.type is int:
        value = integer(token)
        if value is None:
            member.check(member.name, value)
        return value
    if token[:1] != b'"':
        raise InvalidRecord(member.name, "must be a string")
    return _decode_any(token)


def _compact(raw: msgspec.Raw) -> msgspec.Raw:
    try:
        # Only a look: it finds numbers that no double can hold, which Raw lets pass.
        _decode_any(bytes(raw))
    except (msgspec.DecodeError, ValueError):
        raise InvalidRecord("a member that is not documented", "holds an invalid value") from None
    return msgspec.Raw(ascii_json(msgspec.json.format(bytes(raw), indent=-1)))
