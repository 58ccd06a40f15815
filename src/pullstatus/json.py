"""JSON, as far as we accept it, and as ASCII only.

Pure text: nothing here knows what a document means.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from pullstatus import limits
from pullstatus.errors import InvalidBody
from pullstatus.steps import Steps, done

__all__ = [
    "NO_JSON",
    "STRING",
    "Shape",
    "ascii_json",
    "check_in_steps",
    "check_json",
    "integer",
    "mend_in_steps",
    "mend_text",
    "spans",
    "survey",
    "whole_pairs",
]

NO_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises of bytes that are no JSON, or none of what is asked for. RecursionError: a
nesting that it walks before it sees that the type is wrong."""

_NON_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
STRING: Final = re.compile(rb'"[^"\\]*(?:\\.?[^"\\]*)*"?', re.DOTALL)
"""Every string. Content with an unfinished end, so that nothing is gone over twice: linear whatever
comes."""


def check_json(data: bytes, what: str = "the body") -> None:
    """Refuse what no parser should see: an encoding that isn't UTF-8, a nesting too deep.

    It does not prove that `data` is JSON. It makes sure that reading it cannot exhaust the stack.

    Args:
        what: how the error calls `data`.

    Raises:
        InvalidBody: always with a text that holds nothing of `data`.
    """
    done(check_in_steps(data, what))


def check_in_steps(data: bytes, what: str = "the body") -> Steps[None]:
    """As `check_json`."""
    if not data.isascii():
        if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
            raise InvalidBody(f"{what} must be UTF-8 without a byte order mark")
        try:
            data.decode()
        except UnicodeDecodeError:
            raise InvalidBody(f"{what} is not UTF-8") from None
    if data.count(b"[") + data.count(b"{") <= limits.JSON_DEPTH_MAX:
        return
    if (yield from survey(data)).deep:
        raise InvalidBody(
            f"{what} is not JSON, or is nested more than {limits.JSON_DEPTH_MAX} levels deep"
        )


# --- how it is built ------------------------------------------------------------------------------


class Shape(NamedTuple):
    """How a document is built, as far as its brackets and commas tell.

    Attributes:
        deep: it is nested more than `limits.JSON_DEPTH_MAX` levels deep, or is no JSON.
        parts: how many the outermost array has, or how many members the object; 1 for none.
    """

    deep: bool
    parts: int


_NO_MARKS: Final = bytes(set(range(256)) - set(b"[]{},"))
_OPEN: Final = frozenset(b"[{")
_COMMA: Final = ord(",")


def survey(data: bytes, parts_max: int | None = None) -> Steps[Shape]:
    """How `data` is built; no further than to one part more than `parts_max`."""
    deep = False
    depth, parts = 0, 1
    for outside, piece in spans(data):
        if outside:
            for mark in STRING.sub(b"", piece).translate(None, _NO_MARKS):
                if mark == _COMMA:
                    parts += depth == 1
                elif mark in _OPEN:
                    depth += 1
                    deep = deep or depth > limits.JSON_DEPTH_MAX
                else:
                    depth -= 1
                    deep = deep or depth < 0
            if parts_max is not None and parts > parts_max:
                break
        yield
    else:
        deep = deep or depth != 0
    return Shape(deep, parts)


_SPAN_BYTES: Final = 16 * 1024
# Without possessive groups: Python before 3.11.5, that of Debian 12 as well, matches them wrongly
# (gh-106052). What does not fit is told by going back over it once.
_WHOLE: Final = re.compile(rb'(?:[^"]+|"[^"\\]*(?:\\.[^"\\]*)*")*', re.DOTALL)
_WITHIN: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_QUOTE: Final = ord('"')


def spans(data: bytes) -> Iterator[tuple[bool, bytes]]:
    """All of `data` in pieces of some KiB, which no escape stands across.

    Yields:
        whether the piece is whole strings with what stands between them, or else a part of one
        string with its quotes; and the piece.
    """
    at, within = 0, False
    while at < len(data):
        stop = min(at + _SPAN_BYTES, len(data))
        found = (_WITHIN if within else _WHOLE).match(data, at, stop)
        end = stop if found is None else found.end()
        if within and end == at and data[at] != _QUOTE:
            end = stop  # a backslash at the end of all
        if end > at:
            yield not within, data[at:end]
        if end < stop and data[end] == _QUOTE:
            yield False, data[end : end + 1]
            within = not within
            end += 1
        at = end


# --- what is not text -----------------------------------------------------------------------------

# The two halves of a surrogate pair, or one alone, which no UTF-8 can say; or any other escape.
_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_ESCAPES_OF_A_STEP: Final = 4096
_MENDED_BYTES: Final = 64 * 1024


def mend_text(data: bytes) -> bytes:
    """JSON as UTF-8 that can be read: what no Unicode text can hold becomes U+FFFD.

    A byte order mark goes, and UTF-16 behind one and CESU-8 become UTF-8. For senders and answers
    that cannot be had again; whatever is refused here may come again mended.
    """
    return done(mend_in_steps(data))


def mend_in_steps(data: bytes) -> Steps[bytes]:
    """As `mend_text`."""
    if data.isascii() and b"\\u" not in data:
        return data
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if not wide:
        data = yield from _pairs_in_steps(data)
    decoder = codecs.getincrementaldecoder("utf-16" if wide else "utf-8-sig")("replace")
    texts = []
    for start in range(0, len(data), _MENDED_BYTES):
        texts.append(decoder.decode(data[start : start + _MENDED_BYTES]))
        yield
    texts.append(decoder.decode(b"", final=True))
    text = "".join(texts)
    if "\\u" in text:
        text = yield from _without_halves(text)
    return text.encode()


# The halves of a surrogate pair, three bytes each: CESU-8 (Unicode Technical Report 26).
_PAIR: Final = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")


def whole_pairs(data: bytes) -> bytes:
    """The same in UTF-8, where it is in CESU-8."""
    return done(_pairs_in_steps(data))


def _pairs_in_steps(data: bytes) -> Steps[bytes]:
    kept, begin = [], 0
    for count, pair in enumerate(_PAIR.finditer(data), start=1):
        halves = pair[0].decode("utf-8", "surrogatepass")
        kept += [data[begin : pair.start()], _joined(halves).encode()]
        begin = pair.end()
        if count % _ESCAPES_OF_A_STEP == 0:
            yield
    return b"".join([*kept, data[begin:]]) if kept else data


def _joined(halves: str) -> str:
    return halves.encode("utf-16-be", "surrogatepass").decode("utf-16-be")


def _without_halves(text: str) -> Steps[str]:
    kept, begin = [], 0
    for count, escape in enumerate(_ESCAPE.finditer(text), start=1):
        if escape[1] is not None:
            kept += [text[begin : escape.start()], "\\ufffd"]
            begin = escape.end()
        if count % _ESCAPES_OF_A_STEP == 0:
            yield
    kept.append(text[begin:])
    return "".join(kept)


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


def ascii_json(data: bytes) -> bytes:
    r"""Escape what is not ASCII, which in JSON occurs only within strings, as `\uXXXX`."""
    if data.isascii():
        return data
    return _NON_ASCII.sub(_escape, data.decode()).encode("ascii")


def _escape(run: re.Match[str]) -> str:
    # UTF-16 units are what \uXXXX spells, surrogate pairs included.
    return "\\u" + run[0].encode("utf-16-be").hex(" ", 2).upper().replace(" ", "\\u")
