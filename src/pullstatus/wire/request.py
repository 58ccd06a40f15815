"""A pull request, read and built: `POST /v5/tlssmssvr/pullstatus?sdkappid=...&random=...`.

Reading happens in the order of protocol.md section 4, first failure wins. This room does the checks
that need nothing but the bytes (4 to 8), and, when it is their turn, the clock's (12) and the
page's (16); the server has the others in between:

    parse_pull     sdkappid, random, a JSON object, sig, time
      (server)     the application exists, the address may call, `signature.verify`
    check_time     within ten minutes of the server's clock
      (server)     enabled, permitted, not too frequent
    request.page   type and max

Real clients are loose with numbers: decimal strings and integral floats count as integers, while
booleans, null and fractions don't. They send members that nobody asked for, which are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final, TypeVar
from urllib.parse import quote, unquote_to_bytes

import msgspec

from pullstatus import limits
from pullstatus.errors import InvalidBody, Refused
from pullstatus.records import Kind, check_json, integer
from pullstatus.wire.codes import Result
from pullstatus.wire.signature import sign

__all__ = [
    "PULL_PATH",
    "UNKNOWN_SDKAPPID",
    "PullRequest",
    "SignedRequest",
    "bad",
    "check_time",
    "parse_pull",
    "pull_request",
    "read_body",
    "read_integer",
    "read_query",
    "read_sig",
    "read_time",
]

PULL_PATH: Final = "/v5/tlssmssvr/pullstatus"

UNKNOWN_SDKAPPID: Final = -1
"""Stands for every decimal sdkappid above `limits.SDKAPPID_MAX`: no application can have it."""

T = TypeVar("T")

_KINDS: Final = {0: Kind.DELIVERY_STATUS, 1: Kind.REPLY}
_NOTHING: Final = msgspec.Raw()


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


class PullRequest(SignedRequest, frozen=True):
    """A pull as it was sent, unproven.

    type_raw  `type` as JSON text, unread until `page`
    max_raw   `max` likewise
    asked     what they mean, where that was plain to see
    """

    type_raw: bytes
    max_raw: bytes
    asked: tuple[Kind, int] | None = None

    def page(self) -> tuple[Kind, int]:
        """Return which mailbox is meant, and how many records at most (check 16).

        Raises:
            Refused: 1004, `type` is not 0 or 1, or `max` is not 1 to 100.
        """
        if self.asked is not None:
            return self.asked
        kind = _KINDS.get(read_integer(self.type_raw, -1))
        if kind is None:
            raise bad("type must be 0 (delivery statuses) or 1 (replies)")
        count = read_integer(self.max_raw, 0)
        if not 1 <= count <= limits.PULL_COUNT_MAX:
            raise bad(f"max must be an integer from 1 to {limits.PULL_COUNT_MAX}")
        return kind, count


class _Body(msgspec.Struct):
    # Raw: each has its own place in the order of checks, and its own answer.
    sig: msgspec.Raw = _NOTHING
    time: msgspec.Raw = _NOTHING
    type: msgspec.Raw = _NOTHING
    max: msgspec.Raw = _NOTHING


class _PlainBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body as nearly every client writes it: four members of their own types."""

    sig: Annotated[str, msgspec.Meta(min_length=1)]
    time: Annotated[int, msgspec.Meta(ge=1, lt=10 ** (limits.INTEGER_DIGITS_MAX - 1))]
    type: Kind
    max: Annotated[int, msgspec.Meta(ge=1, le=limits.PULL_COUNT_MAX)]


_decode_plain: Final[Callable[[bytes], _PlainBody]] = msgspec.json.Decoder(_PlainBody).decode
_decode_body: Final[Callable[[bytes], _Body]] = msgspec.json.Decoder(_Body).decode
_decode_str: Final = msgspec.json.Decoder(str).decode


def parse_pull(query: bytes, body: bytes) -> PullRequest:
    """Read a pull request (checks 4 to 8).

    Args:
        query: the query string as it came, without "?". Of a name that is there twice the first
            one counts; "+" is a plus sign.
        body: the body as it came. Of a member that is there twice the last one counts.

    Raises:
        Refused: 60012 `sdkappid` is missing or not decimal; 1004 `random` is missing, empty or too
            long; 1004 the body is not a JSON object; 1003 `sig` is missing, empty or not a string;
            1004 `time` is not an integer. The text names the member and the fix, and holds nothing
            that was sent.
    """
    sdkappid, random = read_query(query)
    try:
        plain = _decode_plain(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # the careful way has the last word
    else:
        asked = (plain.type, plain.max)
        return PullRequest(
            sdkappid, random, plain.sig, plain.time, str(plain.time), b"", b"", asked
        )
    members = read_body(body, _decode_body)
    sig = read_sig(bytes(members.sig))
    time, time_text = read_time(bytes(members.time))
    return PullRequest(
        sdkappid, random, sig, time, time_text, bytes(members.type), bytes(members.max)
    )


def check_time(request: SignedRequest, now_s: int) -> None:
    """Check that the request is fresh (check 12); call it only once its signature is proven.

    Raises:
        Refused: 1021, `time` is more than `limits.SKEW_S_MAX` seconds from `now_s`, either way.
    """
    ahead_s = request.time - now_s
    if -limits.SKEW_S_MAX <= ahead_s <= limits.SKEW_S_MAX:
        return
    if 10**12 <= request.time < 10**13:  # 13 digits
        fault = f"time is in milliseconds: send seconds, the server time is {now_s}"
    elif ahead_s > 0:
        fault = f"clock is {ahead_s} s ahead of server time {now_s}: set it right"
    else:
        fault = f"clock is {-ahead_s} s behind server time {now_s}: set it right"
    raise Refused(Result.TIME_SKEW, fault)


def pull_request(
    sdkappid: int,
    appkey: str,
    kind: Kind,
    max: int,  # noqa: A002 the wire's word
    random: str,
    time: int,
) -> tuple[str, bytes]:
    """Build a signed pull: the other side of `parse_pull`, for clients and demonstrations.

    Args:
        max: how many records at most, 1 to 100.
        random: any text of 1 to 64 characters; clients use a random number.
        time: now, in Unix seconds.

    Returns:
        The path with its query, and the body.
    """
    path = f"{PULL_PATH}?sdkappid={sdkappid}&random={quote(random, safe='')}"
    sig = sign(appkey, random, time)
    return path, b'{"sig":"%b","time":%d,"type":%d,"max":%d}' % (sig.encode(), time, kind, max)


# --- the query ------------------------------------------------------------------------------------


# Visible ASCII but for "%" and "&", in the order that every published client sends.
_USUAL_QUERY: Final = re.compile(rb"sdkappid=([0-9]{1,10})&random=([!-$'-~]{1,64})")


def read_query(query: bytes) -> tuple[int, str]:
    """Return `sdkappid` and `random`, as `parse_pull` reads them (checks 4 and 5)."""
    usual = _USUAL_QUERY.fullmatch(query)
    if usual is not None and (number := int(usual[1])) <= limits.SDKAPPID_MAX:
        return number, usual[2].decode("ascii")
    found: dict[bytes, bytes] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if b"%" in part:
            name, value = unquote_to_bytes(name), unquote_to_bytes(value)
        found.setdefault(name, value)
    digits = found.get(b"sdkappid", b"")
    if not digits.isdigit():
        raise Refused(
            Result.SDKAPPID_MISSING, "sdkappid must be in the query string, in decimal digits"
        )
    if len(digits) > 10:  # by length first: there may be two thousand
        digits = digits.lstrip(b"0")[:11] or b"0"
    sdkappid = int(digits)
    value = found.get(b"random", b"")
    try:
        random = value.decode()
    except UnicodeDecodeError:
        raise bad("random must be UTF-8 text: send a random number") from None
    if not 0 < len(random) <= limits.RANDOM_CHARS_MAX:
        raise bad(
            f"random must be in the query string, with 1 to {limits.RANDOM_CHARS_MAX} characters"
        )
    return (sdkappid if sdkappid <= limits.SDKAPPID_MAX else UNKNOWN_SDKAPPID), random


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
    # A sig of plain characters needs no decoder, and most have 64.
    if len(token) == 66 and token[:1] == b'"' and token.isascii() and b"\\" not in token:
        return token[1:-1].decode()
    sig = _decode_str(token) if token[:1] == b'"' else ""
    if not sig:
        raise Refused(Result.SIG_MISSING, "sig must be in the body, a string of 64 hex digits")
    return sig


def read_time(token: bytes) -> tuple[int, str]:
    """Return `time`, and the text of it that is signed (check 8)."""
    if token.isdigit() and len(token) < limits.INTEGER_DIGITS_MAX:
        return int(token), token.decode()
    text = _unquote(token)
    time = read_integer(token, -1)
    if time < 0 or text.startswith(b"-"):
        raise bad("time must be in the body, an integer of Unix seconds")
    # A string of digits is signed as it is; 1457336869.0 is signed as the integer it means.
    return time, text.decode() if text.isdigit() else str(time)


def read_integer(token: bytes, otherwise: int) -> int:
    """Return the integer that a JSON number or a string of digits means."""
    if token[:1] == b'"':
        token = _unquote(token)
        if not token.isdigit():
            return otherwise
    value = integer(token)
    return otherwise if value is None else value


def _unquote(token: bytes) -> bytes:
    """Return what is within a JSON string, or another token as it is."""
    if token[:1] != b'"':
        return token
    return _decode_str(token).encode() if b"\\" in token else token[1:-1]


def bad(errmsg: str) -> Refused:
    """Return a refusal with 1004: a member is missing, ill-typed or out of range."""
    return Refused(Result.BAD_REQUEST, errmsg)
