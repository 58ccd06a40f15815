"""What came in, and what became of it: what one looks at first when a test does not do as expected.

Every call and every way in is noted, refused or not; the door for tests is not.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from pullstatus import limits
from pullstatus.emulator.calls import action_of
from pullstatus.server.budget import Over, Share
from pullstatus.server.http import PEER, Peer, Receive, Scope, Send, header, whose
from pullstatus.wire.about import ABOUT_PATH

__all__ = ["FAULT", "Between", "Received", "observe"]

FAULT = "pullstatus.emulator.fault"
"""Where a scope has the name of the fault that struck its request."""


class Received(msgspec.Struct, frozen=True):
    """One request.

    Attributes:
        time: when it came, in Unix seconds.
        path: with "..." for the token of a callback, the service's or a gateway's.
        sdkappid: the application that it names.
        action: of a call of API 3.0.
        key: its Idempotency-Key.
        body: its beginning, as far as it was read; what is no UTF-8 is replaced.
        http_status: of the answer; None if the connection was closed without one.
        result: of a v5 answer, like `count`.
        code: of a refusal in API 3.0.
        fault: the fault that struck it.
        ms: how long the answer took.
    """

    time: float
    method: str
    path: str
    query: str
    sdkappid: int | None
    action: str | None
    key: str | None
    body: str
    http_status: int | None
    result: int | None
    count: int | None
    code: str | None
    fault: str | None
    ms: float


class Between(Peer):
    """Stands between a call and its peer: `respond` gets the answer instead."""

    def __init__(self, peer: Peer, respond: Callable[[int, bytes, bytes], Awaitable[None]]) -> None:
        self._peer = peer
        self._respond = respond
        self.body = peer.body

    @property
    def over(self) -> Over | None:
        """As of the peer, while more of the body comes."""
        return self._peer.over

    @over.setter
    def over(self, over: Over | None) -> None:
        self._peer.over = over

    @property
    def application(self) -> int | None:
        """As of the peer, which what lies unread is counted for."""
        return self._peer.application

    @application.setter
    def application(self, application: int | None) -> None:
        self._peer.application = application

    def gone(self) -> bool:
        """As of the peer."""
        return self._peer.gone()

    def gone_after(self, waited_s: float) -> bool:
        """As of the peer."""
        return self._peer.gone_after(waited_s)

    def leaving(self, on_leave: Callable[[], None] | None) -> bool:
        """As of the peer."""
        return self._peer.leaving(on_leave)

    def count_in(self, share: Share) -> None:
        """As of the peer."""
        self._peer.count_in(share)

    def room_for(self, size: int) -> bool:
        """As of the peer."""
        return self._peer.room_for(size)

    def let_go(self) -> None:
        """As of the peer."""
        self._peer.let_go()

    def hang_up(self) -> None:
        """As of the peer."""
        self._peer.hang_up()

    def respond(self, http_status: int, headers: bytes, body: bytes) -> Awaitable[None]:
        """To whoever stands between."""
        return self._respond(http_status, headers, body)


class _Error(msgspec.Struct):
    Code: str | None = None


class _Response(msgspec.Struct):
    Error: _Error = msgspec.field(default_factory=_Error)


class _Said(msgspec.Struct):
    result: int | None = None
    count: int | None = None
    Response: _Response = msgspec.field(default_factory=_Response)


_SDKAPPID: Final = re.compile(rb"SmsSdkApp[Ii]d\W{1,8}([0-9]{1,10})")  # in JSON and in a form
_TOKEN: Final = re.compile(r"^(/+(?:callbacks|in)/+)[^/]+")  # also where there are slashes too many
_decode_said: Final = msgspec.json.Decoder(_Said).decode


async def observe(
    scope: Scope,
    receive: Receive,
    send: Send,
    answer: Callable[[Scope, Receive, Send], Awaitable[None]],
) -> Received:
    """Have a request answered, and say what it was."""
    came_s, started = time.time(), time.perf_counter()
    peer: Peer = scope[PEER]
    whole = peer.body
    body = bytes(whole or b"")
    key = _text(header(scope, b"idempotency-key"))  # a pull that waits keeps no headers
    named = header(scope, b"x-tc-action")
    http_status: int | None = None
    said = b""

    async def listen() -> MutableMapping[str, Any]:
        nonlocal body
        message = await receive()
        if whole is None and len(body) < limits.REQUEST_BODY_BYTES_KEPT:
            body += message.get("body", b"")
        return message

    async def tell(message: MutableMapping[str, Any]) -> None:
        nonlocal http_status, said
        if message["type"] == "http.response.start":
            http_status = message["status"]
        else:
            said += message.get("body", b"")
        await send(message)

    async def respond(status: int, lines: bytes, content: bytes) -> None:
        nonlocal http_status, said
        http_status, said = status, content
        await peer.respond(status, lines, content)

    seen = {**scope, PEER: Between(peer, respond)}
    await answer(seen, listen, tell)
    found = _Said()
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _decode_said(said)
    path: str = scope["path"]
    action = None
    sdkappid = whose(seen).get("sdkappid")
    if path == ABOUT_PATH:
        action = action_of(named, scope["query_string"], body)
        named_in = _SDKAPPID.search(scope["query_string"]) or _SDKAPPID.search(body)
        sdkappid = None if named_in is None else int(named_in[1])
    assert sdkappid is None or isinstance(sdkappid, int)
    return Received(
        time=came_s,
        method=scope["method"],
        path=_TOKEN.sub(r"\1...", path),
        query=scope["query_string"].decode("latin-1"),
        sdkappid=sdkappid,
        action=action,
        key=key,
        body=body[: limits.REQUEST_BODY_BYTES_KEPT].decode("utf-8", "replace"),
        http_status=http_status,
        result=found.result,
        count=found.count,
        code=found.Response.Error.Code,
        fault=seen.get(FAULT),
        ms=round((time.perf_counter() - started) * 1000, 1),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
