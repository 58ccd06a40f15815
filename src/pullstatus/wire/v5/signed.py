"""What any signed v5 call needs: sdkappid and random of the query, sig and time of the body.

Reading is pure and in the order of protocol.md section 4; each function is one of its checks, so
that a call can put its own between them. Real clients are loose with numbers: decimal strings and
integral floats count as integers, while booleans, null and fractions don't. They send members that
nobody asked for, which are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from pullstatus import limits
from pullstatus.errors import InvalidBody, Refused
from pullstatus.json import check_json, integer
from pullstatus.wire.v5.codes import Result

__all__ = [
    "UNKNOWN_SDKAPPID",
    "SignedRequest",
    "bad",
    "check_time",
    "is_milliseconds",
    "read_body",
    "read_integer",
    "read_query",
    "read_sdkappid",
    "read_sig",
    "read_time",
    "unquoted",
]

UNKNOWN_SDKAPPID: Final = -1
"""Stands for every decimal sdkappid above `limits.SDKAPPID_MAX`: no application can have it."""

T = TypeVar("T")

_decode_str: Final = msgspec.json.Decoder(str).decode


class SignedRequest(msgspec.Struct, frozen=True):
    """What every v5 call has. Nothing in it is proven yet, least of all who sent it.

    sdkappid   the application, or `UNKNOWN_SDKAPPID`
    random     percent-decoded text, signed character for character
    sig        as sent: any text but ""
    time       Unix seconds
    time_text  the decimal text of `time` that is signed
    """

    sdkappid: int
    random: str
    sig: str
    time: int
    time_text: str


def check_time(request: SignedRequest, now_s: int) -> None:
    """Check that the request is fresh (check 12); call it only once its signature is proven.

    Raises:
        Refused: 1021, `time` is more than `limits.SKEW_S_MAX` seconds from `now_s`, either way.
    """
    ahead_s = request.time - now_s
    if -limits.SKEW_S_MAX <= ahead_s <= limits.SKEW_S_MAX:
        return
    if is_milliseconds(request.time):
        fault = f"time is in milliseconds: send seconds, the server time is {now_s}"
    elif ahead_s > 0:
        fault = f"clock is {ahead_s} s ahead of server time {now_s}: set it right"
    else:
        fault = f"clock is {-ahead_s} s behind server time {now_s}: set it right"
    raise Refused(Result.TIME_SKEW, fault)


def is_milliseconds(time: int) -> bool:
    """Whether a time has 13 digits: milliseconds by mistake, of any day from 2001 to 2286."""
    return 10**12 <= time < 10**13


# --- the query ------------------------------------------------------------------------------------


# Visible ASCII but for "%" and "&", in the order that every published client sends.
_USUAL_QUERY: Final = re.compile(rb"sdkappid=([0-9]{1,10})&random=([!-$'-~]{1,64})")


def read_query(query: bytes) -> tuple[int, str]:
    """Return `sdkappid` and `random`, as `parse_pull` reads them (checks 4 and 5)."""
    usual = _USUAL_QUERY.fullmatch(query)
    if usual is not None and (number := int(usual[1])) <= limits.SDKAPPID_MAX:
        return number, usual[2].decode("ascii")
    found = _read_parameters(query)
    sdkappid = _read_sdkappid(found)
    if sdkappid is None:
        raise Refused(
            Result.SDKAPPID_MISSING, "sdkappid must be in the query string, in decimal digits"
        )
    value = found.get(b"random", b"")
    try:
        random = value.decode()
    except UnicodeDecodeError:
        raise bad("random must be UTF-8 text: send a random number") from None
    if not 0 < len(random) <= limits.RANDOM_CHARS_MAX:
        raise bad(
            f"random must be in the query string, with 1 to {limits.RANDOM_CHARS_MAX} characters"
        )
    return sdkappid, random


def read_sdkappid(query: bytes) -> int | None:
    """The `sdkappid` of a query as `read_query` reads it, whatever else is wrong with that.

    None if it has none; `UNKNOWN_SDKAPPID` likewise.
    """
    usual = _USUAL_QUERY.fullmatch(query)
    if usual is not None and (number := int(usual[1])) <= limits.SDKAPPID_MAX:
        return number
    return _read_sdkappid(_read_parameters(query))


def _read_parameters(query: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if b"%" in part:
            name, value = unquote_to_bytes(name), unquote_to_bytes(value)
        found.setdefault(name, value)
    return found


def _read_sdkappid(parameters: dict[bytes, bytes]) -> int | None:
    digits = parameters.get(b"sdkappid", b"")
    if not digits.isdigit():
        return None
    if len(digits) > 10:  # by length first: there may be two thousand
        digits = digits.lstrip(b"0")[:11] or b"0"
    sdkappid = int(digits)
    return sdkappid if sdkappid <= limits.SDKAPPID_MAX else UNKNOWN_SDKAPPID


# --- the body -------------------------------------------------------------------------------------


def read_body(body: bytes, decode: Callable[[bytes], T]) -> T:
    """Return the members that `decode` takes from one JSON object (check 6)."""
    try:
        check_json(body)
    except InvalidBody as error:
        raise bad(f"{error}: send one JSON object") from None
    try:
        return decode(body)
    except msgspec.ValidationError:
        raise bad("the body must be one JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad("the body is not JSON: send one JSON object") from None


def read_sig(token: bytes) -> str:
    """Return what `sig` says, a string that is not empty (check 7)."""
    sig = _decode_str(token) if token[:1] == b'"' else ""
    if not sig:
        raise Refused(Result.SIG_MISSING, "sig must be in the body, a string of 64 hex digits")
    return sig


def read_time(token: bytes) -> tuple[int, str]:
    """Return `time`, and the text of it that is signed (check 8)."""
    if token.isdigit() and len(token) < limits.INTEGER_DIGITS_MAX:
        return int(token), token.decode()
    text = unquoted(token)
    time = read_integer(token, -1)
    if time < 0 or text.startswith(b"-"):
        raise bad("time must be in the body, an integer of Unix seconds")
    # A string of digits is signed as it is; 1457336869.0 is signed as the integer it means.
    return time, text.decode() if text.isdigit() else str(time)


def read_integer(token: bytes, otherwise: int) -> int:
    """Return the integer that a JSON number or a string of digits means."""
    if token[:1] == b'"':
        token = unquoted(token)
        if not token.isdigit():
            return otherwise
    value = integer(token)
    return otherwise if value is None else value


def unquoted(token: bytes) -> bytes:
    """Return what is within a JSON string, or another token as it is."""
    if token[:1] != b'"':
        return token
    return _decode_str(token).encode() if b"\\" in token else token[1:-1]


def bad(errmsg: str) -> Refused:
    """Return a refusal with 1004: a member is missing, ill-typed or out of range."""
    return Refused(Result.BAD_REQUEST, errmsg)
