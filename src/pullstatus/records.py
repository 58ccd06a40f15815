r"""The two records that a mailbox holds, under the wire's own names.

A carrier tells two things about an SMS: whether it arrived (`DeliveryStatus`) and what the person
wrote back (`Reply`). Both are frozen values that are valid or not built, so nothing downstream
checks them again. They are encoded once, when they enter: compact JSON of ASCII characters only,
`\uXXXX` for the rest, as the original service answered.

Members we do not know are kept beside the record as `Extra`: name to JSON text. The text is never
turned into numbers, so none gets rounded; it is only checked, compacted and escaped.

There are two ways in. The fast one lets msgspec build records straight from a batch; it refuses
whatever is unusual. The careful one then goes through the same batch record by record: it keeps
unknown members, forgives what may be forgiven, and names the record and member at fault. Only the
careful way decides that something is wrong.

Source: protocol.md section 6.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from pullstatus import limits
from pullstatus.errors import InvalidBody, InvalidRecord

__all__ = [
    "DeliveryStatus",
    "Extra",
    "Kind",
    "Record",
    "Reply",
    "decode",
    "decode_array",
    "decode_lines",
    "encode",
    "encode_all",
    "encode_array",
    "mend_text",
]


class Kind(enum.IntEnum):
    """What a mailbox holds. The number is the wire's `type`."""

    DELIVERY_STATUS = 0
    REPLY = 1

    @property
    def path(self) -> str:
        """The kind in an address: "delivery-statuses" or "replies"."""
        return _PATHS[self]

    @property
    def label(self) -> str:
        """The kind in a sentence: "delivery status" or "reply"."""
        return _LABELS[self]


_PATHS: Final = ("delivery-statuses", "replies")
_LABELS: Final = ("delivery status", "reply")


# Names of our own: they are read for every record.
_NATIONCODE_DIGITS_MAX: Final = limits.NATIONCODE_DIGITS_MAX
_MOBILE_DIGITS_MAX: Final = limits.MOBILE_DIGITS_MAX
_SID_CHARS_MAX: Final = limits.SID_CHARS_MAX
_REPLY_TIME_S_MAX: Final = limits.REPLY_TIME_S_MAX


class DeliveryStatus(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, weakref=False
):
    """Whether one SMS to one number arrived.

    user_receive_time  when the handset got it, or for FAIL when the receipt came:
                       "YYYY-MM-DD hh:mm:ss", UTC+8
    nationcode         calling code, digits only
    mobile             the number without it: digits, a leading "+" is tolerated
    report_status      "SUCCESS" or "FAIL"
    errmsg             the carrier's code, opaque: "DELIVRD", "MK:0001", "-37"
    description        the same for people, "" when there is none
    sid                what the send call returned, opaque, 1 to 64 characters
    ext                the sender's own session text; "" is left out on the wire

    Raises:
        InvalidRecord: a member has the wrong type or breaks its rule.
    """

    user_receive_time: str
    nationcode: str
    mobile: str
    report_status: str
    errmsg: str
    description: str
    sid: str
    ext: str = ""

    def __post_init__(self) -> None:
        # One expression for the common case; it runs for every record that enters. A false or a
        # stumble is only a suspicion: _explain_status decides, and finds the words.
        nationcode, mobile, sid = self.nationcode, self.mobile, self.sid
        try:
            # join, because it stumbles over what is no string.
            texts = "".join((nationcode, mobile, self.errmsg, self.description, sid, self.ext))  # noqa: FLY002
            if (
                (texts.isascii() or _is_plain(nationcode, mobile, texts))
                and self.report_status in _REPORT_STATUSES
                and nationcode.isdigit()
                and len(nationcode) <= _NATIONCODE_DIGITS_MAX
                and mobile.isdigit()
                and len(mobile) <= _MOBILE_DIGITS_MAX
                and 0 < len(sid) <= _SID_CHARS_MAX
            ):
                _utc8_s(self.user_receive_time)
                return
        except (TypeError, ValueError, AttributeError):
            pass
        _explain_status(self)


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, weakref=False):
    """What a person wrote back.

    nationcode  calling code, digits only
    mobile      the number without it: digits, a leading "+" is tolerated
    text        what was written, any Unicode
    sign        the SMS signature it belongs to, without its brackets
    time        Unix seconds; the only member of either record that is a number
    extend      channel extension code, "" when not used; always on the wire

    Raises:
        InvalidRecord: a member has the wrong type or breaks its rule.
    """

    nationcode: str
    mobile: str
    text: str
    sign: str
    time: int
    extend: str = ""

    def __post_init__(self) -> None:
        nationcode, mobile, time = self.nationcode, self.mobile, self.time
        try:
            texts = "".join((nationcode, mobile, self.text, self.sign, self.extend))  # noqa: FLY002
            if (
                (texts.isascii() or _is_plain(nationcode, mobile, texts))
                and nationcode.isdigit()
                and len(nationcode) <= _NATIONCODE_DIGITS_MAX
                and mobile.isdigit()
                and len(mobile) <= _MOBILE_DIGITS_MAX
                and type(time) is int
                and 0 <= time <= _REPLY_TIME_S_MAX
            ):
                return
        except (TypeError, ValueError, AttributeError):
            pass
        _explain_reply(self)


Record: TypeAlias = DeliveryStatus | Reply
Extra: TypeAlias = dict[str, msgspec.Raw]
"""Members we do not know, in the order they came: name to compact JSON text."""


# --- the rules, one by one ------------------------------------------------------------------------

_REPORT_STATUSES: Final = frozenset({"SUCCESS", "FAIL"})
_parse_time: Final = datetime.fromisoformat
_TIME_SHAPE: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_UNIX_START_UTC8: Final = _parse_time("1970-01-01 08:00:00")
_SECOND: Final = timedelta(seconds=1)


def receive_time_s(status: DeliveryStatus) -> int:
    """Return `user_receive_time` in Unix seconds; the wire's zone is UTC+8, without summer time."""
    return _utc8_s(status.user_receive_time)


# Receipts come soon after the fact, so most of them share their second with another one.
@functools.lru_cache(maxsize=4096)
def _utc8_s(received: str) -> int:
    # fromisoformat reads more shapes than ours; of those with 19 characters only ours has these
    # marks at 7, 10, 13 and 16. Python 3.14 began to take 24:00:00.
    if len(received) != 19 or received[7::3] != "- ::" or received[11:13] == "24":
        raise ValueError
    return (_parse_time(received) - _UNIX_START_UTC8) // _SECOND


def _is_plain(nationcode: str, mobile: str, texts: str) -> bool:
    """Both are ASCII, and `texts` has no lone surrogate (which raises a ValueError)."""
    texts.encode()
    return nationcode.isascii() and mobile.isascii()


def _explain_status(status: DeliveryStatus) -> None:
    _check_receive_time(status.user_receive_time)
    _check_number(status.nationcode, status.mobile)
    _check_report_status(status.report_status)
    _check_text("errmsg", status.errmsg)
    _check_text("description", status.description)
    _check_text("sid", status.sid)
    if not 0 < len(status.sid) <= _SID_CHARS_MAX:
        raise InvalidRecord("sid", f"must have 1 to {_SID_CHARS_MAX} characters")
    _check_text("ext", status.ext)


def _explain_reply(reply: Reply) -> None:
    _check_number(reply.nationcode, reply.mobile)
    _check_text("text", reply.text)
    _check_text("sign", reply.sign)
    _check_time(reply.time)
    _check_text("extend", reply.extend)


def _check_receive_time(value: object) -> None:
    shape = 'must be a string "YYYY-MM-DD hh:mm:ss"'
    if not isinstance(value, str) or not _TIME_SHAPE.fullmatch(value):
        raise InvalidRecord("user_receive_time", shape)
    try:
        _utc8_s(value)
    except ValueError:
        raise InvalidRecord("user_receive_time", shape + " that exists in the calendar") from None


def _check_report_status(value: object) -> None:
    if not isinstance(value, str) or value not in _REPORT_STATUSES:
        raise InvalidRecord("report_status", 'must be "SUCCESS" or "FAIL"')


def _check_time(value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRecord("time", "must be an integer number of Unix seconds")
    if not 0 <= value <= _REPLY_TIME_S_MAX:
        raise InvalidRecord("time", "must be in Unix seconds, not negative and not milliseconds")


def _check_number(nationcode: object, mobile: object) -> None:
    digits_max = _NATIONCODE_DIGITS_MAX
    if not _is_digits(nationcode, digits_max):
        raise InvalidRecord("nationcode", f'must be a string of 1 to {digits_max} digits, no "+"')
    digits_max = _MOBILE_DIGITS_MAX
    if not _is_digits(mobile.removeprefix("+") if isinstance(mobile, str) else None, digits_max):
        raise InvalidRecord("mobile", f"must be a string of 1 to {digits_max} digits")


def _is_digits(value: object, digits_max: int) -> bool:
    return (
        isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= digits_max
    )


def _check_text(member: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidRecord(member, "must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRecord(member, "must not hold half a surrogate pair") from None


# --- encoding -------------------------------------------------------------------------------------

_encoder: Final = msgspec.json.Encoder()
_NON_ASCII: Final = re.compile(r"[^\x00-\x7f]+")


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
    records: Sequence[Record | _StatusRow | _ReplyRow], extras: Sequence[Extra | None] | None = None
) -> list[bytes]:
    """Encode a batch, each record as `encode` does.

    Args:
        extras: the unknown members of each record; None when no record has any.

    Raises:
        InvalidRecord: one is too large; its place in the batch is named.
    """
    if not records:
        return []
    # JSON escapes every line feed, so one call for all and one cut give the parts.
    data = _encoder.encode_lines(records)
    entries = _cut(data)
    if not data.isascii():
        _check_sizes(entries)  # before they are escaped, since that only makes them longer
        entries = _cut(ascii_json(data))
    if extras is not None:
        entries = [
            ascii_json(_join(data, extra)) if extra else data
            for data, extra in zip(entries, extras, strict=True)
        ]
    _check_sizes(entries)
    return entries


def _cut(lines: bytes) -> list[bytes]:
    parts = lines.split(b"\n")
    parts.pop()
    return parts


def _check_sizes(entries: list[bytes]) -> None:
    if max(map(len, entries)) > limits.RECORD_BYTES_MAX:
        for index, data in enumerate(entries):
            _check_size(data, index)


def _check_size(data: bytes, index: int | None = None) -> None:
    if len(data) > limits.RECORD_BYTES_MAX:
        fix = f"must fit into {limits.RECORD_BYTES_MAX} bytes of ASCII JSON"
        raise InvalidRecord("record", fix, index)


def _join(data: bytes, extra: Extra) -> bytes:
    members = [_encoder.encode(name) + b":" + bytes(raw) for name, raw in extra.items()]
    return data[:-1] + b"," + b",".join(members) + b"}"


def ascii_json(data: bytes) -> bytes:
    r"""Escape what is not ASCII, which in JSON occurs only within strings, as `\uXXXX`."""
    if data.isascii():
        return data
    return _NON_ASCII.sub(_escape, data.decode()).encode("ascii")


def _escape(run: re.Match[str]) -> str:
    # UTF-16 units are what \uXXXX spells, surrogate pairs included.
    return "\\u" + run[0].encode("utf-16-be").hex(" ", 2).upper().replace(" ", "\\u")


# --- decoding, the fast way -----------------------------------------------------------------------

_TYPES: Final[tuple[type[DeliveryStatus], type[Reply]]] = (DeliveryStatus, Reply)
_decode_one: Final[tuple[Callable[[bytes], Record], ...]] = tuple(
    msgspec.json.Decoder(record_type).decode for record_type in _TYPES
)
_decode_list: Final[tuple[Callable[[bytes], Any], ...]] = tuple(
    msgspec.json.Decoder(list[record_type]).decode  # type: ignore[valid-type]
    for record_type in _TYPES
)
# RecursionError: a nesting that msgspec walks before it sees that the type is wrong.
_UNUSUAL: Final = (msgspec.DecodeError, UnicodeDecodeError, InvalidRecord, RecursionError)


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
    try:
        return _decode_list[kind](data), None
    except _UNUSUAL:
        pass
    check_json(data)
    try:
        parts = _decode_raws(data)
    except msgspec.ValidationError:
        raise InvalidBody("the body must be a JSON array of records") from None
    except msgspec.DecodeError:
        raise _not_json(data, "the body") from None
    return _unzip([_decode_at(index, bytes(part), kind) for index, part in enumerate(parts)])


def decode_lines(
    lines: Sequence[bytes], kind: Kind
) -> tuple[list[Record], list[Extra | None] | None]:
    """Decode records of one kind that stand one on a line, as `decode_array` does.

    Raises:
        InvalidBody: a line is not one JSON value, or nested too deeply; its 0-based place among
            `lines` is named.
        InvalidRecord: as for an array.
    """
    decode_fast = _decode_one[kind]
    try:
        return [decode_fast(line) for line in lines], None
    except _UNUSUAL:
        pass
    pairs = []
    for index, line in enumerate(lines):
        what = f"record {index}"
        check_json(line, what)
        pairs.append(_decode_at(index, line, kind, what))
    return _unzip(pairs)


# --- a whole array at once ------------------------------------------------------------------------

_Nationcode: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=1, max_length=limits.NATIONCODE_DIGITS_MAX)
]
_Mobile: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MOBILE_DIGITS_MAX)]


class _StatusRow(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A `DeliveryStatus` before the checks that a decoder can't do."""

    user_receive_time: str
    nationcode: _Nationcode
    mobile: _Mobile
    report_status: Literal["SUCCESS", "FAIL"]
    errmsg: str
    description: str
    sid: Annotated[str, msgspec.Meta(min_length=1, max_length=limits.SID_CHARS_MAX)]
    ext: str = ""


class _ReplyRow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A `Reply` before the checks that a decoder can't do."""

    nationcode: _Nationcode
    mobile: _Mobile
    text: str
    sign: str
    time: Annotated[int, msgspec.Meta(ge=0, le=limits.REPLY_TIME_S_MAX)]
    extend: str = ""


_decode_rows: Final[tuple[Callable[[bytes], Any], ...]] = (
    msgspec.json.Decoder(list[_StatusRow]).decode,
    msgspec.json.Decoder(list[_ReplyRow]).decode,
)


def encode_array(data: bytes, kind: Kind) -> list[bytes] | None:
    """Encode a JSON array of records as `encode_all` encodes what `decode_array` gives, but faster.

    The rules are checked for the members of all records together, where that can be, in place of
    record by record.

    Returns:
        None for what is unusual: nothing at all, a member that is unknown, or a rule that seems
        broken. `decode_array` has the last word on that.
    """
    try:
        rows = _decode_rows[kind](data)
        numbers = "".join([row.nationcode + row.mobile for row in rows])
        if not (numbers.isascii() and numbers.isdigit()):
            return None
        if kind is Kind.DELIVERY_STATUS:
            for received in {row.user_receive_time for row in rows}:
                _utc8_s(received)
    except (*_UNUSUAL, ValueError):
        return None
    return encode_all(rows)


# --- decoding, the careful way --------------------------------------------------------------------

_decode_any: Final[Callable[[bytes], Any]] = msgspec.json.Decoder().decode
_decode_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NULL: Final = b"null"
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_EXTRA_MEMBERS_MAX: Final = limits.RECORD_BYTES_MAX // len(b',"":0')  # more can't fit anyway
_OPTIONAL: Final = frozenset({"ext", "extend"})


def _not_json(data: bytes, what: str) -> InvalidBody:
    if _SURROGATE.search(data):
        return InvalidBody(f"{what} is not JSON, or holds half a surrogate pair")
    return InvalidBody(f"{what} is not JSON")


def _decode_at(
    index: int, data: bytes, kind: Kind, what: str = "the body"
) -> tuple[Record, Extra | None]:
    try:
        return _decode_carefully(data, kind, what)
    except InvalidRecord as error:
        raise error.at(index) from None


def _unzip(
    pairs: list[tuple[Record, Extra | None]],
) -> tuple[list[Record], list[Extra | None] | None]:
    extras = [extra for _, extra in pairs]
    return [record for record, _ in pairs], extras if any(extras) else None


def _decode_carefully(
    data: bytes, kind: Kind, what: str = "the body"
) -> tuple[Record, Extra | None]:
    """Decode one record member by member; `data` has passed `check_json`."""
    record_type = _TYPES[kind]
    try:
        members = _decode_members(data)
    except msgspec.ValidationError:
        raise InvalidRecord("record", "must be a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _not_json(data, what) from None
    known: dict[str, Any] = {}
    for name in record_type.__struct_fields__:
        raw = members.pop(name, None)
        if raw is None:
            if name not in _OPTIONAL:
                raise InvalidRecord(name, f"is missing; a {kind.label} must have it")
        elif (token := bytes(raw)) != _NULL or name not in _OPTIONAL:
            known[name] = _decode_value(name, token)
    record = record_type(**known)
    if len(members) > _EXTRA_MEMBERS_MAX:
        raise InvalidRecord("record", f"must not have over {_EXTRA_MEMBERS_MAX} unknown members")
    return record, {name: _compact(raw) for name, raw in members.items()} or None


def _decode_value(name: str, token: bytes) -> object:
    """Read a known member: a number if its token is one, else a string, else nothing."""
    if name == "time":
        value = integer(token)
        if value is None:
            raise InvalidRecord(name, "must be an integer number of Unix seconds")
        return value
    if token[:1] != b'"':
        raise InvalidRecord(name, "must be a string")
    return _decode_any(token)


def _compact(raw: msgspec.Raw) -> msgspec.Raw:
    try:
        # Only a look: it finds numbers that no double can hold, which Raw lets pass.
        _decode_any(bytes(raw))
    except (msgspec.DecodeError, ValueError):
        raise InvalidRecord("a member that is not documented", "holds an invalid value") from None
    return msgspec.Raw(ascii_json(msgspec.json.format(bytes(raw), indent=-1)))


# --- JSON, as far as we accept it -----------------------------------------------------------------

# Every string. Possessive, and content with an unfinished end: linear whatever comes.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_BRACKETS: Final = b"[]{}"
_ROUND: Final = bytes.maketrans(_BRACKETS, b"()()")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(_BRACKETS))


def check_json(data: bytes, what: str = "the body") -> None:
    """Refuse what no parser should see: an encoding that isn't UTF-8, a nesting too deep.

    It does not prove that `data` is JSON. It makes sure that reading it cannot exhaust the stack.

    Args:
        what: how the error calls `data`.

    Raises:
        InvalidBody: always with a text that holds nothing of `data`.
    """
    if not data.isascii():
        if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
            raise InvalidBody(f"{what} must be UTF-8 without a byte order mark")
        try:
            data.decode()
        except UnicodeDecodeError:
            raise InvalidBody(f"{what} is not UTF-8") from None
    if data.count(b"[") + data.count(b"{") <= limits.JSON_DEPTH_MAX:
        return
    # Each pass takes away the innermost pairs; what is left then was deeper, or never closed.
    brackets = _STRING.sub(b"", data).translate(_ROUND, _NOT_BRACKETS)
    for _ in range(limits.JSON_DEPTH_MAX):
        size, brackets = len(brackets), brackets.replace(b"()", b"")
        if not brackets:
            return
        if len(brackets) == size:
            break
    raise InvalidBody(
        f"{what} is not JSON, or is nested more than {limits.JSON_DEPTH_MAX} levels deep"
    )


# Up to the next half of a surrogate pair, which no UTF-8 can say, and that half. Possessive.
_TO_HALF: Final = re.compile(
    r"((?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|\\(?!u[dD][89a-fA-F][0-9a-fA-F]{2}).)*+)(\\u[dD][89a-fA-F][0-9a-fA-F]{2})?",
    re.DOTALL,
)


def mend_text(data: bytes) -> bytes:
    """JSON as UTF-8 that can be read: what no Unicode text can hold becomes U+FFFD.

    A byte order mark goes, and UTF-16 behind one becomes UTF-8. For senders and answers that cannot
    be had again; whatever is refused here may come again mended.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        text = data.decode("utf-8-sig", "replace")
    if "\\u" in text:
        text = _TO_HALF.sub(lambda found: found[1] + ("\\ufffd" if found[2] else ""), text)
    return text.encode()


def integer(token: bytes) -> int | None:
    """Return the integer that a JSON number spells, `1e3` and `3.0` included.

    Args:
        token: one JSON value as a parser delimited it.

    Returns:
        None if it is no number, has a fraction or does not fit 64 bits. Long ones are refused by
        their length; there is no arithmetic on big numbers.
    """
    if token.isdigit() and len(token) < limits.INTEGER_DIGITS_MAX:
        return int(token)
    if len(token) > 2 * limits.INTEGER_DIGITS_MAX or token[:1] not in _NUMBER_START:
        return None
    try:
        number = Decimal(token.decode())
    except (ArithmeticError, ValueError):
        return None
    if not number.is_finite() or number.adjusted() >= limits.INTEGER_DIGITS_MAX:
        return None
    value = int(number)
    return value if value == number and -(2**63) <= value < 2**63 else None


_NUMBER_START: Final = frozenset(bytes([byte]) for byte in b"-0123456789")
