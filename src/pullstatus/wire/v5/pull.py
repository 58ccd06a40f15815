"""A pull request, read and built: `POST /v5/tlssmssvr/pullstatus?sdkappid=...&random=...`.

Reading happens in the order of protocol.md section 4, first failure wins. This room does the checks
that need nothing but the bytes (4 to 8), and, when it is their turn, the clock's (12) and the
page's (17); admission has the others in between:

    parse_pull     sdkappid, random, a JSON object, sig, time
      (admission)  the application exists, the address may call, `signature.fitting`
    check_time     within ten minutes of the server's clock
      (admission)  enabled, not in arrears, permitted, not too frequent
    request.page   type and max
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import quote

import msgspec

from pullstatus import limits
from pullstatus.json import NO_JSON
from pullstatus.records import Kind
from pullstatus.wire.v5.signature import sign
from pullstatus.wire.v5.signed import (
    SignedRequest,
    bad,
    read_body,
    read_integer,
    read_query,
    read_sig,
    read_time,
)

__all__ = ["PULL_PATH", "PullRequest", "parse_pull", "pull_request", "read_page", "read_proof"]

PULL_PATH: Final = "/v5/tlssmssvr/pullstatus"

_KINDS: Final = {0: Kind.DELIVERY_STATUS, 1: Kind.REPLY}
_NOTHING: Final = msgspec.Raw()


class PullRequest(SignedRequest, frozen=True):
    """A pull as it was sent, unproven.

    type_raw  `type` as JSON text, unread until `page`
    max_raw   `max` likewise
    asked     what they mean, where that was plain to see
    """

    type_raw: bytes
    max_raw: bytes
    asked: tuple[Kind, int] | None = None

    @property
    def proof(self) -> str:
        """What was signed, for the journal; `read_proof` reads it."""
        return f"random={self.random} time={self.time}"

    @property
    def nonce(self) -> str:
        """What no other pull of the application has in common with this one."""
        return f"{self.time} {self.random}"

    def page(self) -> tuple[Kind, int]:
        """Return which mailbox is meant, and how many records at most (check 16).

        Raises:
            Refused: 1004, `type` is not 0 or 1, or `max` is not 1 to 100.
        """
        return self.asked or read_page(self.type_raw, self.max_raw)


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
    except NO_JSON:
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


def read_page(type_raw: bytes, max_raw: bytes) -> tuple[Kind, int]:
    """Return what `type` and `max` mean, as `PullRequest.page` does; JSON text, or b"" for none."""
    kind = _KINDS.get(read_integer(type_raw, -1))
    if kind is None:
        raise bad("type must be 0 (delivery statuses) or 1 (replies)")
    count = read_integer(max_raw, 0)
    if not 1 <= count <= limits.PULL_COUNT_MAX:
        raise bad(f"max must be an integer from 1 to {limits.PULL_COUNT_MAX}")
    return kind, count


def read_proof(proof: str) -> tuple[str, int]:
    """Return the `random` and `time` of a `PullRequest.proof`; "" and 0 if it is none."""
    match = _PROOF.fullmatch(proof)
    return ("", 0) if match is None else (match[1], int(match[2]))


# The random may hold anything, so the last time is the time.
_PROOF: Final = re.compile(rf"random=(.*) time=([0-9]{{1,{limits.INTEGER_DIGITS_MAX}}})", re.DOTALL)


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
