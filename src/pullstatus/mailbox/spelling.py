"""How a number or a `sid` may be written in what nobody could read.

Such bytes are looked through as they came, and as they read once what a sender may have escaped in
them is not: in a query or a form by percent signs, and blanks as a plus; in JSON by backslashes.
Which of these they are nobody knows, so each is tried, and twice, for JSON in a form, a form in a
form, or JSON in a text of JSON.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

__all__ = ["AFTER", "BEFORE", "forms", "in_a_row", "is_found"]

_MARKS: Final = b" \t./()-"
_BETWEEN: Final = rb"[%b]{0,2}" % _MARKS
_TIMES: Final = 2

BEFORE: Final = rb"(?<![0-9])(?:0%b){0,2}" % _BETWEEN
"""What stands before a number, as an expression: no digit, but for 00, or the 0 of its country."""

AFTER: Final = rb"(?![0-9])"


def in_a_row(digits: str, rest: str = "") -> bytes:
    """Digits in a row, as an expression: blanks, dashes and the like may be between them.

    Args:
        rest: digits behind these, before which there may be the 0 of their country, too.
    """
    begin, end = (
        _BETWEEN.join(b"%c" % digit for digit in each.encode()) for each in (digits, rest)
    )
    return b"%b(?:%b0)?%b%b" % (begin, _BETWEEN, _BETWEEN, end) if rest else begin


def is_found(pattern: re.Pattern[bytes], raw: bytes, digits: str) -> bool:
    """Whether bytes that nobody could read hold this, however they are written.

    Args:
        digits: that it has in a row, but for what may be between them; most bytes do not, which is
            told far quicker. "": they are not known.
    """
    sought = digits.encode()
    return any(
        pattern.search(form) for form in forms(raw) if sought in form.translate(None, _MARKS)
    )


def forms(raw: bytes) -> list[bytes]:
    """Bytes as they came, and as they may read; UTF-16 counts like ASCII."""
    found = [raw.replace(b"\0", b"")]
    for decoders in (_of_form, _of_query), (_of_json,):
        for _ in range(_TIMES):
            decoded = [decode(each) for each in found for decode in decoders]
            found = list(dict.fromkeys([*found, *decoded]))
    return found


def _of_form(raw: bytes) -> bytes:
    return unquote_to_bytes(raw.replace(b"+", b" "))


def _of_query(raw: bytes) -> bytes:
    return unquote_to_bytes(raw)


def _of_json(raw: bytes) -> bytes:
    return _ESCAPE.sub(_unescaped, raw) if b"\\" in raw else raw


_ESCAPE: Final = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|([^u]))", re.DOTALL)
_SHORT: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def _unescaped(found: re.Match[bytes]) -> bytes:
    code, short = found.groups()
    if code is None:
        return _SHORT.get(short, short)
    return chr(int(code, 16)).encode(errors="surrogatepass").replace(b"\0", b"")
