"""The door for tests: what shall go wrong, what is in the mailboxes, what was sent.

    GET              /emulator           where to aim a client, and what waits
    GET POST DELETE  /emulator/faults    list, arm, clear
    POST             /emulator/feed      put records in
    GET DELETE       /emulator/sent      what applications sent; forget it
    GET DELETE       /emulator/requests  what came in, and what became of it; forget it
    GET POST DELETE  /emulator/gateways  those of others, as they call: list, have some called, end
    POST             /emulator/reset     begin the scenario anew

It asks for no credentials: everything in an emulator is made up. But it answers programs only, not
pages of the web: a browser that has such a page open can reach whatever its machine can reach.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import time
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pullstatus import limits
from pullstatus.emulator.calls import CALLS
from pullstatus.emulator.emulation import Emulation
from pullstatus.emulator.faults import Armed, Fault
from pullstatus.emulator.gateways import Play, gateways
from pullstatus.emulator.scenario import convert
from pullstatus.errors import BodyTooLarge, InvalidBody, PullstatusError
from pullstatus.json import ascii_json, check_json
from pullstatus.records import Kind
from pullstatus.server.http import Disconnected, Receive, Scope, Send, problem_json, read_body


class Feed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /emulator/feed`: the shape of a pull's answer, or a number.

    type      0 delivery statuses, 1 replies
    data      the records; members that are left out are made up
    count     instead of data: so many made-up ones
    sdkappid  whose mailbox; the first application's when left out
    """

    type: Literal[0, 1]
    data: Annotated[list[dict[str, object]], Meta(max_length=limits.INGEST_RECORDS_MAX)] | None = (
        None
    )
    count: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    sdkappid: int | None = None

    def __post_init__(self) -> None:
        if (self.data is None) == (self.count is None):
            raise ValueError("either data or count must say which records")


_KNOWN: Final = msgspec.json.Decoder(Feed)  # See `scenario.convert`.


class Control:
    """The door as an ASGI application."""

    def __init__(self, emulation: Emulation) -> None:
        self._emulation = emulation
        self._routes = Starlette(
            routes=[
                Route("/emulator", self._about),
                Route("/emulator/faults", self._list_faults),
                Route("/emulator/faults", self._arm_faults, methods=["POST"]),
                Route("/emulator/faults", self._clear_faults, methods=["DELETE"]),
                Route("/emulator/feed", self._feed, methods=["POST"]),
                Route("/emulator/sent", self._list_sent),
                Route("/emulator/sent", self._forget_sent, methods=["DELETE"]),
                Route("/emulator/requests", self._list_requests),
                Route("/emulator/requests", self._forget_requests, methods=["DELETE"]),
                Route("/emulator/gateways", self._list_gateways),
                Route("/emulator/gateways", self._play_gateway, methods=["POST"]),
                Route("/emulator/gateways", self._forget_gateways, methods=["DELETE"]),
                Route("/emulator/reset", self._reset, methods=["POST"]),
            ],
            exception_handlers={
                PullstatusError: _problem,
                HTTPException: _http_problem,
            },
        )
        self._routes.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; one that a page of another place has a browser make is refused."""
        if is_foreign(scope):
            detail = (
                "this door is for programs, by an address, localhost or a name without dots, and"
                " not for pages of other places"
            )
            await _said(403, "Foreign origin", detail)(scope, receive, send)
            return
        with contextlib.suppress(Disconnected):
            await self._routes(scope, receive, send)

    async def _about(self, request: Request) -> Response:
        emulation = self._emulation
        base = str(request.base_url).rstrip("/")
        return _json(
            {
                "sdkappid": emulation.sdkappid,
                "appkey": emulation.appkeys[emulation.sdkappid],
                "secret_id": emulation.scenario.secret.id,
                "secret_key": emulation.scenario.secret.key,
                "api3": f"{base}/",
                **{str(call): base + path for path, call in CALLS.items()},
                "waiting": await self._waiting(emulation.sdkappid),
                "applications": [
                    {
                        "sdkappid": sdkappid,
                        "appkey": appkey,
                        "waiting": await self._waiting(sdkappid),
                    }
                    for sdkappid, appkey in emulation.appkeys.items()
                ],
            }
        )

    async def _waiting(self, sdkappid: int) -> dict[str, int]:
        found = await self._emulation.waiting(sdkappid)
        return {kind.path: count for kind, count in found.items()}

    async def _list_faults(self, _request: Request) -> Response:
        return _json({"faults": [_shown(armed) for armed in self._emulation.faults.armed()]})

    async def _arm_faults(self, request: Request) -> Response:
        given = await _body(request)
        wanted = convert(given, list[Fault], "faults") if isinstance(given, list) else None
        faults = [convert(given, Fault, "fault")] if wanted is None else wanted
        armed = self._emulation.faults.arm(*faults)
        return _json({"faults": [_shown(one) for one in armed]}, 201)

    async def _clear_faults(self, _request: Request) -> Response:
        self._emulation.faults.clear()
        return Response(status_code=204)

    async def _feed(self, request: Request) -> Response:
        feed = convert(await _body(request), Feed, "feed")
        records = feed.data if feed.count is None else feed.count
        assert records is not None
        mailbox = self._emulation.mailbox(Kind(feed.type), feed.sdkappid)
        entries = await self._emulation.feed(mailbox, records)
        return _json({"count": len(entries), "data": [msgspec.Raw(entry) for entry in entries]})

    async def _list_sent(self, _request: Request) -> Response:
        return _json({"count": len(self._emulation.sent), "data": list(self._emulation.sent)})

    async def _forget_sent(self, _request: Request) -> Response:
        self._emulation.sent.clear()
        return Response(status_code=204)

    async def _list_requests(self, _request: Request) -> Response:
        found = list(self._emulation.requests)
        return _json({"count": len(found), "data": found})

    async def _forget_requests(self, _request: Request) -> Response:
        self._emulation.requests.clear()
        return Response(status_code=204)

    async def _list_gateways(self, _request: Request) -> Response:
        calls = list(self._emulation.gateways.calls)
        return _json({"gateways": list(gateways()), "calls": calls})

    async def _play_gateway(self, request: Request) -> Response:
        play = convert(await _body(request), Play, "play")
        made = self._emulation.gateways.play(play, random.Random(), int(time.time()))  # noqa: S311 - made up
        return _json({"calls": made}, 201)

    async def _forget_gateways(self, _request: Request) -> Response:
        self._emulation.gateways.forget()
        return Response(status_code=204)

    async def _reset(self, _request: Request) -> Response:
        await self._emulation.reset()
        return Response(status_code=204)


async def _body(request: Request) -> object:
    """What the body's JSON says."""
    body = await read_body(request.scope, request.receive, limits.INGEST_BODY_BYTES_MAX)
    check_json(body)
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidBody(f"the body is not JSON: {error}") from error
    return value


def _shown(armed: Armed) -> dict[str, object]:
    fault: dict[str, object] = msgspec.to_builtins(armed.fault)
    return fault | {"left": armed.left, "hits": armed.hits}


def _json(value: object, http_status: int = 200) -> Response:
    content = ascii_json(msgspec.json.encode(value))
    return Response(content, http_status, media_type="application/json")


def is_foreign(scope: Scope) -> bool:
    """Whether a request may come from a page of another place, by what browsers say of it.

    `Origin` tells whose page it is. A page whose own name was made to lead here says nothing that
    is wrong, so a name that anybody on the internet can have is refused, too.
    """
    said = {name: value.decode("latin-1") for name, value in scope["headers"]}
    host = said.get(b"host", "")
    origin = said.get(b"origin")
    return not _is_near(host) or (origin is not None and origin.partition("://")[2] != host)


def _is_near(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name.endswith(".localhost") or "." not in name.strip("."):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _problem(_request: Request, error: Exception) -> Response:
    http_status, title = 400, "Not accepted"
    if isinstance(error, BodyTooLarge):
        http_status, title = 413, "Body too large"
    elif isinstance(error, PullstatusError) and error.retry_can_help:
        http_status, title = 503, "Cannot store now"
    return _said(http_status, title, str(error))


async def _http_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = "see GET /emulator, and the methods of each address in its reference"
    response = _said(error.status_code, error.detail, detail)
    response.headers.update(error.headers or {})
    return response


def _said(http_status: int, title: str, detail: str) -> Response:
    body = problem_json(http_status, title, detail)
    return Response(body, http_status, media_type="application/problem+json")
