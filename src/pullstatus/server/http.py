"""Small pieces of HTTP that every call here shares: reading a body, writing an answer.

The hot calls speak ASGI directly: a request object for each would cost as much as all the rest.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, Protocol

import msgspec

from pullstatus import limits
from pullstatus.errors import BodyTooLarge, Overloaded
from pullstatus.server.budget import SAID, Budget, Over, Owner, Share
from pullstatus.wire.v5.answer import CONTENT_TYPE
from pullstatus.wire.v5.signed import read_sdkappid

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

BATCHES: Final = "/ingest/"
"""Where batches go, and counts of what was sent: behind it an application and what they are."""

BATCH: Final = re.compile(rf"{BATCHES}([0-9]{{1,10}})/")

INBOUND = "/in/"
"""Where gateways' callbacks go, which may say all they have to in the address."""

PEER = "pullstatus.peer"
"""Of a request's scope: its `Peer`, where the server knows more of it than ASGI has words for."""

JSON = (b"content-type", CONTENT_TYPE)
PROBLEM = (b"content-type", b"application/problem+json")
NO_STORE = (b"cache-control", b"no-store")

HELD_S = "pullstatus.held_s"  # of a request's scope: for how long it was made to wait, by intent

_HEADERS = "pullstatus.headers"  # of a request's scope: they, by name, once somebody has asked

# Titles of problems that more than one call tells; the HTTP reference lists all of them.
INTERNAL_ERROR = "Internal error"
METHOD_NOT_ALLOWED = "Method not allowed"
NO_SUCH_ADDRESS = "No such address"
TOO_MUCH_IN_HAND = "Too much in hand"

SAYS_NO_MORE_S = 1.0


class Peer(Protocol):
    """Who made a request.

    Attributes:
        body: the whole of what it sent, if that is known already.
        over: why there is no room for the request, if there is none.
        application: for whom it is, to be said once that is sure; what lies unread is counted as
            its.
    """

    body: bytes | bytearray | None
    over: Over | None
    application: int | None

    def gone(self) -> bool:
        """Whether it has certainly gone. One that only says no more still gets its answer."""
        ...

    def gone_after(self, waited_s: float) -> bool:
        """The same of a peer whose request has waited so long; see `http.gone_after`."""
        ...

    def leaving(self, on_leave: Callable[[], None] | None) -> bool:
        """Whether it has gone or says no more; `on_leave` is called when it does from now on.

        What was given before is called no more; None: nothing is.
        """
        ...

    def count_in(self, share: Share) -> None:
        """Count what has come with the request in its owner's share, and what comes from now on."""
        ...

    def let_go(self) -> None:
        """Forget the body, if all of it has come: the request is refused, and answered late."""
        ...

    def room_for(self, size: int) -> bool:
        """Whether so large an answer may be given to whoever asks; see `http.room_for`."""
        ...

    def hang_up(self) -> None:
        """Close the connection without an answer."""
        ...

    def respond(self, http_status: int, headers: bytes, body: bytes) -> Awaitable[None]:
        """Write a whole answer at once; `headers` are lines with their ends."""
        ...


class Disconnected(Exception):
    """The peer went away before its request was complete; there is nobody to answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    return headers_of(scope).get(name)


def headers_of(scope: Scope) -> Mapping[bytes, bytes]:
    """The headers by their (lower-case) names, the first of each."""
    known: dict[bytes, bytes] | None = scope.get(_HEADERS)
    if known is None:
        known = scope[_HEADERS] = dict(reversed(scope["headers"]))
    return known


async def read_body(scope: Scope, receive: Receive, bytes_max: int) -> bytes:
    """The whole request body: at once where the server has it, else as ASGI messages.

    Raises:
        BodyTooLarge: it is, or says it is, over `bytes_max`; what follows was not read.
        Overloaded: there is no room for it, or for any request.
        Disconnected: the peer left.
    """
    peer: Peer | None = scope.get(PEER)
    if peer is not None and peer.over:
        raise Overloaded(SAID[peer.over])
    if peer is not None and peer.body is not None:
        return within(bytes(peer.body), bytes_max)
    announced = header(scope, b"content-length")
    # The parser has checked that this is a number; it may still be one of thousands of digits.
    if announced is not None and (len(announced) > 12 or int(announced) > bytes_max):
        raise BodyTooLarge(f"the body is over {bytes_max} bytes; send less at a time")
    message = await receive()
    pieces: list[bytes] = [message.get("body", b"")]
    size = len(pieces[0])
    while message.get("more_body") and size <= bytes_max:
        if peer is not None and peer.over:
            raise Overloaded(SAID[peer.over])
        message = await receive()
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
    if message["type"] == "http.disconnect":
        raise Disconnected
    if peer is not None and peer.over:
        raise Overloaded(SAID[peer.over])
    return within(b"".join(pieces), bytes_max)


def within(body: bytes, bytes_max: int) -> bytes:
    """The body, if it is no larger.

    Raises:
        BodyTooLarge: it is.
    """
    if len(body) > bytes_max:
        raise BodyTooLarge(f"the body is over {bytes_max} bytes; send less at a time")
    return body


async def respond(
    scope: Scope, send: Send, http_status: int, headers: Headers, body: bytes
) -> None:
    """Write a whole answer: at once where the server can, else as ASGI messages."""
    peer: Peer | None = scope.get(PEER)
    if peer is not None and scope["method"] != "HEAD":
        await peer.respond(http_status, lines_of(headers), body)
        return
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def lines_of(headers: Headers) -> bytes:
    """Headers as lines with their ends."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


async def respond_problem(
    scope: Scope,
    send: Send,
    http_status: int,
    title: str,
    detail: str,
    *,
    headers: Headers | None = None,
    **members: object,
) -> None:
    """Answer with a problem; see `problem_json`."""
    body = problem_json(http_status, title, detail, **members)
    await respond(scope, send, http_status, [PROBLEM, NO_STORE, *(headers or [])], body)


def problem_json(http_status: int, title: str, detail: str, **members: object) -> bytes:
    """An error as RFC 9457 says it: `title` names the kind, `detail` what to do about it."""
    problem = {"type": "about:blank", "title": title, "status": http_status, "detail": detail}
    return msgspec.json.encode(problem | members)


def is_for(scope: Scope, sdkappid: int) -> None:
    """Say for whom a request is, now that it is sure."""
    peer: Peer | None = scope.get(PEER)
    if peer is not None:
        peer.application = sdkappid


def gone(scope: Scope) -> bool:
    """Whether the peer has certainly gone. One that only says no more still gets its answer."""
    peer: Peer | None = scope.get(PEER)
    return peer is not None and peer.gone()


def gone_after(scope: Scope, waited_s: float) -> bool:
    """The same of a peer whose request has waited so long.

    Few say no more and listen, and many close who have lost patience. So after `SAYS_NO_MORE_S`
    whoever says no more is taken for gone.
    """
    peer: Peer | None = scope.get(PEER)
    return peer is not None and peer.gone_after(waited_s)


def leaving(scope: Scope, on_leave: Callable[[], None] | None) -> bool:
    """Whether the peer has gone or says no more; `on_leave` is called when it does from now on.

    What was given before is called no more; None: nothing is.
    """
    peer: Peer | None = scope.get(PEER)
    return peer is not None and peer.leaving(on_leave)


def share_of(scope: Scope, budget: Budget, owner: Owner) -> Share:
    """A request's share of its owner's part; to be entered until it is done."""
    share = Share(budget, owner)
    peer: Peer | None = scope.get(PEER)
    if peer is not None:
        peer.count_in(share)
    return share


def let_go(scope: Scope) -> None:
    """Forget the body of a request that is refused, and answered late."""
    peer: Peer | None = scope.get(PEER)
    if peer is not None:
        peer.let_go()


def room_for(scope: Scope, size: int) -> bool:
    """Whether so large an answer may be given, in messages, to who needs no key for it.

    It counts as the address's then, until it is read.
    """
    peer: Peer | None = scope.get(PEER)
    return peer is None or peer.room_for(size)


# --- whose request it is, for the log -------------------------------------------------------------

_RUN = secrets.token_hex(3)  # so that names do not come again after a restart
_requests = itertools.count(1)


def new_request_id() -> str:
    """The name of one more request."""
    return f"{_RUN}-{next(_requests)}"


def request_id(scope: Scope) -> str:
    """The name of a request in the log and in its refusal; it gets one when somebody asks."""
    name = scope.get("pullstatus.request")
    if name is None:
        name = scope["pullstatus.request"] = new_request_id()
    return str(name)


def name_request(scope: Scope, name: str) -> None:
    """Give a request a name that its face has words for."""
    scope["pullstatus.request"] = name


def request_id_header(scope: Scope) -> tuple[bytes, bytes]:
    """The same for the answer, so that whoever was refused can name it."""
    return b"pullstatus-request-id", request_id(scope).encode()


def logged(scope: Scope) -> bool:
    """Whether a line of the log names this request."""
    return "pullstatus.request" in scope


def address_of_peer(scope: Scope) -> str:
    """Where a request came from; "" if that is not known.

    It is the address that the rules are applied to: with a trusted proxy, what that one says, which
    may be whatever a stranger wrote.
    """
    return address_of(scope.get("client"))


def address_of(client: tuple[str, int] | None) -> str:
    """The same of a connection."""
    text = client[0] if client else ""
    return text if len(text) <= limits.ADDRESS_CHARS_MAX and _is_address(text) else ""


@functools.lru_cache(maxsize=4096)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def named_application(scope: Scope) -> int | None:
    """The application that a call of v5 or a batch says it is for; None if there can be no such.

    A call of API 3.0 names one, too, but in what is signed by a key pair, which is what is tried.
    """
    path: str = scope["path"]
    if path.startswith("/v5/"):
        named = read_sdkappid(scope["query_string"])
    else:
        posted = BATCH.match(path)
        named = None if posted is None else int(posted[1])
    return named if named is not None and 0 <= named <= limits.SDKAPPID_MAX else None


def whose(scope: Scope) -> dict[str, object]:
    """Who asks, for a log line: the request's name, address, application and token's name.

    The application is the one that is named, whether the request was its own or not.
    """
    known: dict[str, object] = {"request": request_id(scope)}
    if scope.get("client"):
        known["address"] = address_of_peer(scope) or "(no address)"
    token = scope.get("pullstatus.token")
    named = named_application(scope)
    if named is not None:
        known["sdkappid"] = named
    elif token is not None and token.sdkappid is not None:
        known["sdkappid"] = token.sdkappid
    if token is not None:
        known["token"] = token.name
    return known


def hang_up(scope: Scope) -> None:
    """Close the connection without an answer: nobody knows whether the work was done.

    The peer then sees an unknown outcome, which is the truth, and never a false refusal.
    """
    scope[PEER].hang_up()
