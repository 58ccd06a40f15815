"""Mends what a sender of callbacks gets wrong: it cannot mend it, and drops what is refused.

Nothing is guessed: a repair is made where only one thing can be meant. What is left goes to the
strict reader, which has the last word; and what the strict reader takes is never seen here.

| what comes | what is read |
|---|---|
| a byte order mark; UTF-16 behind one | the same text as UTF-8 |
| a surrogate pair in six bytes, as CESU-8 has it | its character |
| other bytes that are no UTF-8; half a surrogate pair | U+FFFD in their place |
| a control character in a string, as it is | the same, escaped |
| blanks around a telephone number, a status, a time | none |
| a blank or hyphen between two groups of a telephone number's digits | none |
| a number where a text is due | its digits |
| `report_status` in other letters than capitals | in capitals |
| `nationcode` with a plus; with zeros where that has too many digits | without |
| any text that is null; `errmsg`, `description`, `sign` that are missing | `""` |
| a time in another shape, or the number in a text | the same time |
| no time: missing, null, empty, zero, unreadable, over a day ahead of us | that of arrival |

A record with the time of its arrival is *undated*: its repeat must be known without the time.

Source of the last row: what gateways make of times, which have no zone and are often made up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from pullstatus import limits
from pullstatus.json import NO_JSON, STRING, integer, mend_in_steps, spans, survey
from pullstatus.receipts.text import in_another_charset
from pullstatus.receipts.times import WIRE_SHAPE, moment_s, plausible, read_date, wire_time
from pullstatus.records import Kind
from pullstatus.records.numbers import calling_code, ungrouped
from pullstatus.steps import Steps

__all__ = ["Repaired", "repair"]


class Repaired(msgspec.Struct, frozen=True):
    """A body after its repair.

    body     the same records, for the strict reader
    count    of the records that something was mended in
    undated  places of those that got the time of their arrival
    foreign  it is a reply that came in another charset than UTF-8, and nothing tells in which
    """

    body: bytes
    count: int = 0
    undated: frozenset[int] = frozenset()
    foreign: bool = False


def repair(body: bytes, now_s: int) -> Steps[Repaired]:
    """Mend a callback's body as far as the table above goes; never raises.

    Of an array of more than `limits.INGEST_RECORDS_MAX` only the text is mended: whoever has more
    gives them in parts.

    Args:
        body: of at most some `limits.INGEST_BODY_BYTES_MAX` bytes.
        now_s: when it arrived, in Unix seconds.
    """
    text = yield from _escape_controls((yield from mend_in_steps(body)))
    is_array = text.lstrip(b" \t\r\n").startswith(b"[")
    shape = yield from survey(text, limits.INGEST_RECORDS_MAX if is_array else None)
    if shape.deep or (is_array and shape.parts > limits.INGEST_RECORDS_MAX):
        return Repaired(text)
    try:
        kind, parts = _parts(text, is_array)
    except NO_JSON:
        return Repaired(text)
    records = []
    for part in parts:
        records.append(_mend(part, kind, now_s))
        yield
    joined = b",".join([record.data for record in records])
    return Repaired(
        joined if kind is Kind.REPLY else b"[" + joined + b"]",
        len(records) if text != body else sum(record.mended for record in records),
        frozenset(place for place, record in enumerate(records) if record.undated),
        foreign=kind is Kind.REPLY and in_another_charset(body),
    )


# --- the text -------------------------------------------------------------------------------------

_CONTROL: Final = re.compile(rb"[\x00-\x1f]")
_BLANKS: Final = b"\t\n\r"  # of the controls, those that JSON has outside of strings, too


def _escape_controls(text: bytes) -> Steps[bytes]:
    if _CONTROL.search(text) is None:
        return text
    pieces = []
    for whole, piece in spans(text):
        if _CONTROL.search(piece) is None:
            pieces.append(piece)
        else:
            mended = STRING.sub(_escape_blanks, piece) if whole else _escape(piece, _BLANKS)
            pieces.append(_escape(mended, _OTHERS))
        yield
    return b"".join(pieces)


_OTHERS: Final = bytes(control for control in range(ord(" ")) if control not in _BLANKS)


def _escape(text: bytes, controls: bytes) -> bytes:
    for control in controls:
        text = text.replace(b"%c" % control, _SPELLED.get(control, b"\\u%04x" % control))
    return text


_SPELLED: Final = {ord("\t"): b"\\t", ord("\n"): b"\\n", ord("\r"): b"\\r"}


def _escape_blanks(string: re.Match[bytes]) -> bytes:
    return _escape(string[0], _BLANKS)


# --- the records ----------------------------------------------------------------------------------

_decode_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text: Final = msgspec.json.Decoder(str).decode


class _Record(msgspec.Struct):
    data: bytes
    mended: bool = False
    undated: bool = False


class _Undated(Exception):
    """The member tells no time that can be."""


def _parts(text: bytes, is_array: bool) -> tuple[Kind, list[bytes]]:  # noqa: FBT001 - its own caller's
    if is_array:
        return Kind.DELIVERY_STATUS, [bytes(raw) for raw in _decode_raws(text)]
    return Kind.REPLY, [text]


def _mend(data: bytes, kind: Kind, now_s: int) -> _Record:
    record = _Record(data)
    if len(data) > limits.RECORD_SENT_BYTES_MAX:
        return record  # which is refused
    try:
        members = _decode_members(data)
    except msgspec.DecodeError:
        return record  # no object
    for name, mended in _MENDS[kind].items():
        token = bytes(members.get(name, b""))
        if token[:1] in _NEITHER or (not token and name not in _FILLED):
            continue
        try:
            value = mended(_text(token), now_s)
        except _Undated:
            record.undated = record.mended = True
            value = now_s if name == "time" else wire_time(now_s)
        encoded = msgspec.json.encode(value)
        if encoded != token and not (token[:1] == b'"' and _decode_text(token) == value):
            members[name] = msgspec.Raw(encoded)
            record.mended = True
    if record.mended:
        record.data = msgspec.json.encode(members)
    return record


_NEITHER: Final = frozenset({b"t", b"f", b"[", b"{"})  # text nor number: no repair of these


def _text(token: bytes) -> str:
    """What a member says, in letters: nothing when it is null or not there."""
    if token in (b"", b"null"):
        return ""
    if token[:1] == b'"':
        return _decode_text(token)
    number = integer(token)
    return token.decode() if number is None or token.isdigit() else str(number)


# --- the members ----------------------------------------------------------------------------------


def _words(text: str, _now_s: int) -> str:
    return text


def _plausible(moment_s: int | None, now_s: int) -> int:
    found = plausible(moment_s, now_s)
    if found is None:
        raise _Undated
    return found


def _number(text: str, _now_s: int) -> str:
    return ungrouped(text.strip())


def _capitals(text: str, _now_s: int) -> str:
    return text.strip().upper()


def _calling_code(text: str, _now_s: int) -> str:
    text = text.strip()
    is_read = text.isdecimal() and len(text) <= limits.NATIONCODE_DIGITS_MAX
    return text if is_read else calling_code(text)


def _receive_time(text: str, now_s: int) -> str:
    text = text.strip()
    date_s = read_date(text, WIRE_SHAPE)
    if date_s is not None and wire_time(date_s) == text:
        return text  # however far it is: the strict reader takes any
    return wire_time(_plausible(moment_s(text), now_s))


def _reply_time(text: str, now_s: int) -> int:
    number = integer(text.strip().encode())
    if number is not None and 0 <= number <= limits.REPLY_TIME_S_MAX:
        return number
    return _plausible(moment_s(text.strip()), now_s)


_Mend: TypeAlias = Callable[[str, int], str | int]
_MENDS: Final[tuple[dict[str, _Mend], dict[str, _Mend]]] = (
    {
        "user_receive_time": _receive_time,
        "nationcode": _calling_code,
        "mobile": _number,
        "report_status": _capitals,
        "errmsg": _words,
        "description": _words,
        "sid": _words,
        "ext": _words,
    },
    {
        "nationcode": _calling_code,
        "mobile": _number,
        "text": _words,
        "sign": _words,
        "time": _reply_time,
        "extend": _words,
    },
)
_FILLED: Final = frozenset({"user_receive_time", "errmsg", "description", "sign", "time"})
