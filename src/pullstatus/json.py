"""JSON, as far as we accept it, and as ASCII only.

Pure text: nothing here knows what a document means.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from pullstatus import limits
from pullstatus.errors import InvalidBody

__all__ = ["STRING", "ascii_json", "check_json", "integer", "mend_text"]

_NON_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
"""Every string. Possessive, and content with an unfinished end: linear whatever comes."""
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
    brackets = STRING.sub(b"", data).translate(_ROUND, _NOT_BRACKETS)
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


def ascii_json(data: bytes) -> bytes:
    r"""Escape what is not ASCII, which in JSON occurs only within strings, as `\uXXXX`."""
    if data.isascii():
        return data
    return _NON_ASCII.sub(_escape, data.decode()).encode("ascii")


def _escape(run: re.Match[str]) -> str:
    # UTF-16 units are what \uXXXX spells, surrogate pairs included.
    return "\\u" + run[0].encode("utf-16-be").hex(" ", 2).upper().replace(" ", "\\u")
