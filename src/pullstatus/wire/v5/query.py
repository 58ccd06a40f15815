"""What became of one number: `POST /v5/tlssmssvr/pullstatus4mobile?sdkappid=...&random=...`.

It is answered as a pull is, and takes nothing out. Reading goes as in `pull`, with other members
where that has its page:

    parse_query       sdkappid, random, a JSON object, sig, time
      (admission)     who calls, `check_time`, whether they may
    request.question  mobile and nationcode, begin_time and end_time, type and max, sid

The signature does not cover the number. Source: protocol.md section 9.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

import msgspec

from pullstatus import limits
from pullstatus.errors import Refused
from pullstatus.json import ascii_json
from pullstatus.records import Kind
from pullstatus.records.numbers import e164
from pullstatus.wire.v5.codes import Result
from pullstatus.wire.v5.pull import read_page
from pullstatus.wire.v5.signature import sign
from pullstatus.wire.v5.signed import (
    SignedRequest,
    bad,
    is_milliseconds,
    read_body,
    read_integer,
    read_query,
    read_sig,
    read_time,
    unquoted,
)

__all__ = ["QUERY_PATH", "QueryRequest", "Question", "parse_query", "query_request"]

QUERY_PATH: Final = "/v5/tlssmssvr/pullstatus4mobile"

_NOTHING: Final = msgspec.Raw()


class Question(msgspec.Struct, frozen=True):
    """Which records are asked for.

    kind       of which mailbox
    digits     the number, its calling code in front, without a plus
    from_s     not before that by their own time, in Unix seconds; None: however old
    to_s       not after that
    count_max  how many at most
    sid        only those of this send, if that is asked for
    """

    kind: Kind
    digits: str
    from_s: int | None
    to_s: int
    count_max: int
    sid: str | None = None


class _Body(msgspec.Struct, frozen=True):
    # Raw: each has its own place in the order of checks, and its own answer.
    sig: msgspec.Raw = _NOTHING
    time: msgspec.Raw = _NOTHING
    mobile: msgspec.Raw = _NOTHING
    nationcode: msgspec.Raw = _NOTHING
    begin_time: msgspec.Raw = _NOTHING
    end_time: msgspec.Raw = _NOTHING
    type: msgspec.Raw = _NOTHING
    max: msgspec.Raw = _NOTHING
    sid: msgspec.Raw = _NOTHING


class QueryRequest(SignedRequest, frozen=True):
    """A question as it was sent, unproven; `body` is unread until `question`."""

    body: _Body

    def question(self) -> Question:
        """Return what is asked (check 16).

        Raises:
            Refused: 1016, `mobile` and `nationcode` are no number; 1004, the times are none, or
                milliseconds, or the wrong way round; as a pull for `type` and `max`; 1004, `sid`.
        """
        body = self.body
        mobile = bytes(body.mobile)
        digits = _read_number(bytes(body.nationcode), mobile)
        begin = bytes(body.begin_time)
        from_s = None
        # One client puts the number there by mistake, and means all that there is.
        if unquoted(begin) != unquoted(mobile):
            from_s = _read_seconds("begin_time", begin)
        to_s = _read_seconds("end_time", bytes(body.end_time))
        if from_s is not None and from_s > to_s:
            raise bad("begin_time must not be after end_time")
        kind, count_max = read_page(bytes(body.type), bytes(body.max))
        return Question(kind, digits, from_s, to_s, count_max, _read_sid(bytes(body.sid)))


_decode_body: Final[Callable[[bytes], _Body]] = msgspec.json.Decoder(_Body).decode
_decode_str: Final = msgspec.json.Decoder(str).decode


def parse_query(query: bytes, body: bytes) -> QueryRequest:
    """Read a question as far as its signature goes (checks 4 to 8), as `parse_pull` does.

    Raises:
        Refused: as by `parse_pull`.
    """
    sdkappid, random = read_query(query)
    members = read_body(body, _decode_body)
    sig = read_sig(bytes(members.sig))
    time, time_text = read_time(bytes(members.time))
    return QueryRequest(sdkappid, random, sig, time, time_text, members)


_CODE: Final = re.compile(rb"(?:\+|00)?[0-9]{1,%d}" % limits.NATIONCODE_DIGITS_MAX)
_MOBILE: Final = re.compile(rb"(?:\+|00)?[0-9]{1,%d}" % limits.MOBILE_DIGITS_MAX)


def _read_number(nationcode: bytes, mobile: bytes) -> str:
    """Return the digits of a number; callers write both parts as texts or as integers."""
    code = _CODE.fullmatch(unquoted(nationcode))
    if code is None:
        raise Refused(
            Result.BAD_MOBILE, 'nationcode must be a calling code in digits, with or without "+"'
        )
    number = _MOBILE.fullmatch(unquoted(mobile))
    if number is None:
        raise Refused(
            Result.BAD_MOBILE, 'mobile must be the number in digits, with or without "+" and code'
        )
    return e164(code[0].decode(), number[0].decode()).removeprefix("+")


def _read_seconds(member: str, token: bytes) -> int:
    time_s = read_integer(token, -1)
    if time_s < 0:
        raise bad(f"{member} must be in the body, an integer of Unix seconds")
    if is_milliseconds(time_s):
        raise bad(f"{member} is in milliseconds: send seconds")
    return time_s


def _read_sid(token: bytes) -> str | None:
    if token in _NO_SID:
        return None
    sid = _decode_str(token) if token[:1] == b'"' else ""
    if not 0 < len(sid) <= limits.SID_CHARS_MAX:
        raise bad(f"sid must be a string of at most {limits.SID_CHARS_MAX} characters, or left out")
    return sid


_NO_SID: Final = frozenset((b"", b"null", b'""'))  # clients send members that they do not use


def query_request(
    sdkappid: int,
    appkey: str,
    kind: Kind,
    nationcode: str,
    mobile: str,
    begin_time: int,
    end_time: int,
    max: int,  # noqa: A002 the wire's word
    random: str,
    time: int,
    *,
    sid: str | None = None,
) -> tuple[str, bytes]:
    """Build a signed question: the other side of `parse_query`, for clients.

    Args:
        begin_time, end_time: by the records' own times, in Unix seconds, both included.
        max: how many records at most, 1 to 100.
        random: any text of 1 to 64 characters; clients use a random number.
        time: now, in Unix seconds.
        sid: only the records of this send.

    Returns:
        The path with its query, and the body.
    """
    path = f"{QUERY_PATH}?sdkappid={sdkappid}&random={quote(random, safe='')}"
    body = {
        "sig": sign(appkey, random, time),
        "time": time,
        "nationcode": nationcode,
        "mobile": mobile,
        "begin_time": begin_time,
        "end_time": end_time,
        "type": int(kind),
        "max": max,
    }
    if sid is not None:
        body["sid"] = sid
    return path, ascii_json(msgspec.json.encode(body))
