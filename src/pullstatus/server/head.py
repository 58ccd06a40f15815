"""What is wrong with the head of a request, before anybody is asked to answer it.

Pure. RFC 9112 lets a server guess in some of these cases, and what is guessed in two ways by two
programs, a proxy and us, is a request that one of them does not see. So nothing is guessed here:
where a request ends, for which host it is, and what may be said once must be plain.

The parser has refused before what is no HTTP at all: two lengths, a length beside chunks, a line
that is folded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from pullstatus import limits
from pullstatus.server.http import INBOUND, METHOD_NOT_ALLOWED, NO_SUCH_ADDRESS

Header = tuple[bytes, bytes]
"""Name in lower case, and value."""

ONCE: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"transfer-encoding",
        b"x-tc-action",
        b"x-tc-content-sha256",
        b"x-tc-timestamp",
        b"x-tc-token",
        b"x-tc-version",
    }
)
"""Headers that may come once, as ours: on each depends what is done. Others may repeat."""
OURS: Final = b"pullstatus-"

_INBOUND: Final = INBOUND.encode("ascii")
_API3: Final = b"/?"  # whose bound is within this, and refused in words that SDKs can read
_VERSIONS: Final = ("1.1", "1.0")
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::[0-9]*)?", re.ASCII)


class Refusal(NamedTuple):
    """Why a request is not taken.

    Attributes:
        http_status: of the answer.
        title: names the kind.
        detail: what to do about it; nothing of what was sent but the name of a header.
    """

    http_status: int
    title: str
    detail: str


TOO_LARGE: Final = Refusal(
    431, "Headers too large", "send fewer or shorter headers, or chunks of a usual size"
)

FULL: Final = Refusal(
    503, "Too many connections", "wait, or close some: this one gets health and figures only"
)

BEHIND: Final = Refusal(
    503, "Too many requests ahead", "wait for answers before you send more on one connection"
)


def refusal(
    method: bytes, target: bytes, version: str, headers: Sequence[Header], size_max: int
) -> Refusal | None:
    """The first thing that is wrong with a request; None if nothing is.

    Args:
        method, target: as they came.
        version: of HTTP, as in "1.1".
        headers: all of them, in their order.
        size_max: of the whole head in bytes, as far as is known without counting.
    """
    known = dict(headers)
    if len(target) > limits.QUERY_BYTES_MAX:
        longest = limits.QUERY_BYTES_MAX
        if target.startswith((_INBOUND, _API3)):
            longest = limits.CALLBACK_QUERY_BYTES_MAX
        if len(target) > longest:
            return Refusal(414, "Address too long", f"send at most {longest} bytes")
    if len(headers) > limits.HEADERS_MAX or (
        size_max > limits.HEADER_BYTES_MAX and _size(headers) > limits.HEADER_BYTES_MAX
    ):
        return TOO_LARGE
    if target[:1] != b"/":
        return Refusal(404, NO_SUCH_ADDRESS, "an absolute address is for proxies: send a path")
    if method == b"CONNECT":
        return Refusal(405, METHOD_NOT_ALLOWED, "CONNECT is for proxies")
    if b"#" in target:
        return _bad("a fragment stays with the client: leave out # and what follows")
    if version not in _VERSIONS:
        return _bad("say HTTP/1.1 behind the address")
    if len(known) < len(headers) and (repeated := _repeated(headers)):
        return _bad(f"send {repeated} once")
    host = known.get(b"host")
    if host is None:
        # Who asks by 1.0 need not say it, and balancers that look after us do not.
        if version == "1.1":
            return _bad("send Host")
    elif not _is_host(host):
        return _bad("Host must be a name or an address, and a port")
    return _coding(known, version) if b"transfer-encoding" in known else None


def _size(headers: Sequence[Header]) -> int:
    return sum(len(name) + len(value) for name, value in headers)


def _repeated(headers: Sequence[Header]) -> str:
    """The first header that may come once and comes again; "" if there is none."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and (name in ONCE or name.startswith(OURS)):
            if name.startswith(OURS):
                return "each Pullstatus header"
            return name.decode().title().replace("X-Tc-", "X-TC-")
        seen.add(name)
    return ""


@functools.lru_cache(maxsize=64)
def _is_host(host: bytes) -> bool:
    """Remembered, since nearly all requests are for the same few."""
    return _HOST.fullmatch(host) is not None


def _coding(known: dict[bytes, bytes], version: str) -> Refusal | None:
    if version != "1.1":
        return _bad("Transfer-Encoding needs HTTP/1.1")
    if b"content-length" in known:
        return _bad("send Content-Length or Transfer-Encoding, not both")
    if known[b"transfer-encoding"].strip().lower() != b"chunked":
        return _bad("Transfer-Encoding must be chunked, and nothing else")
    return None


def unreadable(reason: str) -> Refusal:
    """Of what the parser could not read, with its reason: a text of its own, without any input."""
    return _bad(f"this is no request of HTTP/1.1: {reason}")


def _bad(detail: str) -> Refusal:
    return Refusal(400, "Bad request", detail)
