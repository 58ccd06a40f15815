"""The emulator as one ASGI application: the server's, with two more calls, faults and a door.

A pull that no fault strikes goes through the server untouched. One that is struck after its commit
is answered by the server too; its answer is caught on the way out and spoilt.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

import msgspec
import structlog

from pullstatus import limits
from pullstatus.apps import Registry, admission
from pullstatus.emulator import send as sends
from pullstatus.emulator.applications import Applications
from pullstatus.emulator.calls import ACTION_PULLS, CALLS, SENDS, Call, action_of
from pullstatus.emulator.control import Control
from pullstatus.emulator.emulation import Emulation
from pullstatus.emulator.faults import Armed, Fault
from pullstatus.emulator.requests import FAULT, Between, observe
from pullstatus.emulator.scenario import Scenario
from pullstatus.emulator.send_sms import SEND_SMS, answered, read_message, read_receivers
from pullstatus.emulator.twins import OTHER, TWINS
from pullstatus.errors import BodyTooLarge, Refused, SignatureWrong
from pullstatus.json import NO_JSON
from pullstatus.records import Kind
from pullstatus.server.api3 import ActionCall, LetIn, is_action
from pullstatus.server.http import (
    JSON,
    NO_STORE,
    PEER,
    Disconnected,
    Headers,
    Receive,
    Scope,
    Send,
    hang_up,
    header,
    read_body,
    respond,
    whose,
)
from pullstatus.server.routes import Routes
from pullstatus.server.whole import Whole
from pullstatus.store import Gone, Mailbox, Store
from pullstatus.wire.about import ABOUT_PATH
from pullstatus.wire.api3 import answers
from pullstatus.wire.v5 import answer
from pullstatus.wire.v5 import statistics as counts
from pullstatus.wire.v5.codes import Result
from pullstatus.wire.v5.refusals import ANSWERED, refusal
from pullstatus.wire.v5.signed import check_time, read_integer

log = structlog.get_logger(__name__)

Answering = Callable[[Scope, Receive, Send], Awaitable[None]]

SIGNATURE_WRONG: Final = (
    "sig is not the SHA-256 of appkey=...&random=...&time=...&mobile=... for this application"
)
GATEWAY_PAGE: Final = b"<html><head><title>%d</title></head><body>gateway error</body></html>\r\n"


class _Type(msgspec.Struct):
    type: msgspec.Raw = msgspec.Raw()


class _Response(msgspec.Struct):
    statuses: list[msgspec.Raw] = msgspec.field(name="PullSmsSendStatusSet", default_factory=list)
    replies: list[msgspec.Raw] = msgspec.field(name="PullSmsReplyStatusSet", default_factory=list)
    request_id: str = msgspec.field(name="RequestId", default="")


class _Page(msgspec.Struct):
    type: int = 0
    data: list[msgspec.Raw] = []
    response: _Response = msgspec.field(name="Response", default_factory=_Response)


class _Answer(msgspec.Struct):
    """What a call would have answered; all as in ASGI, but for the length."""

    http_status: int
    headers: Headers
    body: bytes

    @property
    def entries(self) -> list[bytes]:
        """The records that it hands out."""
        try:
            page = _decode_page(self.body)
        except msgspec.DecodeError:
            return []
        said = page.response
        return [bytes(raw) for raw in (*page.data, *said.statuses, *said.replies)]


_decode_type: Final = msgspec.json.Decoder(_Type).decode
_decode_page: Final = msgspec.json.Decoder(_Page).decode


class EmulatedActions(ActionCall):
    """The server's calls of API 3.0, and `SendSms`."""

    actions = MappingProxyType({**ActionCall.actions, SEND_SMS.name: SEND_SMS})
    emulation: Emulation

    async def answer(self, let_in: LetIn, scope: Scope) -> tuple[Headers, bytes]:
        """What a call comes to that was let in."""
        if let_in.request.action is SEND_SMS:
            return [], await self._send(let_in)
        return await super().answer(let_in, scope)

    async def _send(self, let_in: LetIn) -> bytes:
        """What comes of a send; what is wrong with its text is told of each number."""
        parameters = let_in.request.parameters()
        receivers = read_receivers(parameters)
        message = read_message(parameters, let_in.request.version)
        try:
            details = await self.emulation.send("SendSms", let_in.live, message, receivers)
        except Refused as refused:
            details = [
                sends.Detail(int(refused.result), refused.errmsg, one.mobile, one.nationcode)
                for one in receivers
            ]
        return answered(receivers, details, message.ext, let_in.request_id)


class EmulatedRoutes(Routes):
    """Routes a request: ours here, the others where they always go."""

    action_call = EmulatedActions

    def __init__(
        self, store: Store, registry: Registry, scenario: Scenario, applications: Applications
    ) -> None:
        """Wire the calls to `store`; `applications` has those who may call."""
        super().__init__(store, registry)
        self.emulation = Emulation(scenario, store, applications, self.figures, self.tickets)
        self._control = Control(self.emulation)
        assert isinstance(self._api3, EmulatedActions)
        self._api3.emulation = self.emulation

    def at_once(self, _whole: Whole, _client: tuple[str, int] | None, _gone: Gone) -> None:
        """Nothing is answered before it is observed."""
        return

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path == "/emulator" or path.startswith("/emulator/"):
            await self._control(scope, receive, send)
            return
        received = await observe(scope, receive, send, self._answer)
        self.emulation.requests.append(received)
        # Without query and body: log files outlive tests, and hold no numbers and no texts.
        log.info(
            "request",
            method=received.method,
            path=received.path,
            **{
                name: value
                for name in (
                    "sdkappid",
                    "action",
                    "key",
                    "http_status",
                    "result",
                    "count",
                    "code",
                    "fault",
                    "ms",
                )
                if (value := getattr(received, name)) is not None
            },
        )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in CALLS or (scope["path"] == ABOUT_PATH and is_action(scope)):
            await self._call(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering: Answering = self._send if scope["path"] in SENDS else super().__call__
        if not self.emulation.faults:
            await answering(scope, receive, send)
            return
        body, receive = await _peek(receive)
        call, kind = _sort_of(scope, body)
        armed = None if call is None else self.emulation.faults.strike(call, kind)
        if armed is None:
            await answering(scope, receive, send)
            return
        scope[FAULT] = armed.fault.fault
        if armed.fault.strikes_late:
            await self._strike_late(armed, answering, scope, receive, send)
        else:
            await self._strike_early(armed, answering, scope, receive, send)

    # -- faults --------------------------------------------------------------------------------

    async def _strike_early(
        self, armed: Armed, answering: Answering, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if armed.fault.fault == "delay":
            await asyncio.sleep(armed.fault.delay_s)
            await answering(scope, receive, send)
            return
        body = await _whole(scope, receive)
        nothing = _Answer(200, [JSON, NO_STORE], _failure(armed.fault, scope["path"], body))
        await self._spoil(armed, nothing, scope, send)

    async def _strike_late(
        self, armed: Armed, answering: Answering, scope: Scope, receive: Receive, send: Send
    ) -> None:
        good = await _catch(answering, scope, receive)
        if good is None:
            return
        if len(good.entries) < armed.fault.entries_min:
            self.emulation.faults.give_back(armed)
            del scope[FAULT]
            await respond(scope, send, good.http_status, good.headers, good.body)
            return
        await self._spoil(armed, good, scope, send)

    async def _spoil(self, armed: Armed, good: _Answer, scope: Scope, send: Send) -> None:
        fault = armed.fault
        http_status, headers, body = good.http_status, good.headers, good.body
        match fault.fault:
            case "http":
                http_status = fault.http_status or 502
                headers, body = [(b"content-type", b"text/html")], GATEWAY_PAGE % http_status
            case "malformed":
                body = body[: len(body) // 2]
            case "result":
                body = _failure(fault, scope["path"], body)
            case "reorder" | "duplicate":
                body = await self._spoil_page(armed, good, scope)
        # Behind all else that it does, so that none of it is done after a reset.
        await asyncio.sleep(fault.delay_s)
        if fault.fault == "cut":
            await _cut(scope, send, good, fault.bytes)
        else:
            await respond(scope, send, http_status, headers, body)

    async def _spoil_page(self, armed: Armed, good: _Answer, scope: Scope) -> bytes:
        kind = Kind(_decode_page(good.body).type)
        if armed.fault.fault == "duplicate":
            sdkappid = whose(scope)["sdkappid"]
            assert isinstance(sdkappid, int)  # whoever got records has said it
            await self.emulation.append(Mailbox(sdkappid, kind), good.entries)
            return good.body
        return answer.success(kind, len(good.entries), b",".join(reversed(good.entries)))

    # -- sends ---------------------------------------------------------------------------------

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        try:
            if scope["method"] != "POST":
                raise Refused(Result.BAD_HTTP, "this call is a POST with a JSON body")
            body = await read_body(scope, receive, limits.PULL_BODY_BYTES_MAX)
            said = await self._take(scope, body)
        except Disconnected:
            return
        except ANSWERED as error:
            refused = refusal(error)
            log.info("send refused", result=int(refused.result), **whose(scope))
            said = sends.refused(refused.result, refused.errmsg, sends.ext_of(body))
        await respond(scope, send, 200, [JSON, NO_STORE], said)

    async def _take(self, scope: Scope, body: bytes) -> bytes:
        emulation = self.emulation
        call = SENDS[scope["path"]]
        many = call == "sendmultisms2"
        request = sends.parse_send(scope["query_string"], body, many=many)
        mobiles = [receiver.mobile for receiver in request.receivers]
        now_s = emulation.now_s()

        def proof(appkeys: Sequence[str]) -> int:
            place = sends.fitting_send(
                request.sig, appkeys, request.random, request.time_text, mobiles
            )
            if place is None:
                raise SignatureWrong(SIGNATURE_WRONG)
            check_time(request, int(now_s))
            return place

        address = scope["client"][0] if scope["client"] else ""
        at_ms = int(now_s * 1000)
        live = await self.admission.admit(
            admission.Call(request.sdkappid, address, proof, request.time, at_ms, purpose=None)
        )
        message = request.message()
        details = await emulation.send(call, live, message, request.receivers)
        if many:
            return sends.accepted_many(message.ext, details)
        [detail] = details
        if detail.result:
            return sends.refused(detail.result, detail.errmsg, message.ext)
        return sends.accepted(message.ext, detail.sid, detail.fee)


def _sort_of(scope: Scope, body: bytes) -> tuple[Call | None, int | None]:
    """Which call a request is, and the `type` of its records if it pulls and has a proper one."""
    v5 = CALLS.get(scope["path"])
    if v5 is None:
        action = action_of(header(scope, b"x-tc-action"), scope["query_string"], body)
        return action, None if action is None else ACTION_PULLS.get(action)
    kind = None
    # Whoever answers says what is wrong with a body that can't be read.
    with contextlib.suppress(*NO_JSON):
        kind = read_integer(bytes(_decode_type(body).type), -1)
    return v5, kind


async def _peek(receive: Receive) -> tuple[bytes, Receive]:
    """The body, as far as it is looked at, and a `receive` that gives the whole request again."""
    messages: list[MutableMapping[str, Any]] = []
    body = b""
    while len(body) <= limits.PULL_BODY_BYTES_MAX:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if not message.get("more_body"):
            break

    async def again() -> MutableMapping[str, Any]:
        return messages.pop(0) if messages else await receive()

    return body, again


async def _catch(answering: Answering, scope: Scope, receive: Receive) -> _Answer | None:
    """What the call answers, unsent; None if it didn't, or nobody is there any more."""
    caught = _Answer(0, [], b"")

    async def catch(http_status: int, lines: bytes, body: bytes) -> None:
        caught.http_status, caught.body = http_status, body
        for line in lines.splitlines():
            name, _, value = line.partition(b": ")
            caught.headers.append((name, value))

    async def keep(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            caught.http_status = message["status"]
            caught.headers = [pair for pair in message["headers"] if pair[0] != b"content-length"]
        else:
            caught.body += message.get("body", b"")

    await answering({**scope, PEER: Between(scope[PEER], catch)}, receive, keep)
    return caught if caught.http_status else None


async def _cut(scope: Scope, send: Send, good: _Answer, bytes_max: int | None) -> None:
    """Close the connection, with this much of the body said; None: with nothing said at all."""
    if bytes_max is not None:
        length = (b"content-length", b"%d" % len(good.body))
        await send(
            {
                "type": "http.response.start",
                "status": good.http_status,
                "headers": [*good.headers, length],
            }
        )
        said = good.body[: min(bytes_max, len(good.body) - 1)]
        await send({"type": "http.response.body", "body": said, "more_body": True})
    hang_up(scope)


def _failure(fault: Fault, path: str, said: bytes) -> bytes:
    """What a call answers when it fails; `said` has the `ext` of a send, which is answered."""
    result = Result.OTHER if fault.result is None else fault.result
    errmsg = fault.errmsg or "a fault of the emulator"
    if path in SENDS:
        return sends.refused(result, errmsg, sends.ext_of(said))
    if path == ABOUT_PATH:
        return answers.failure(TWINS.get(result, OTHER), errmsg, str(uuid4()))
    if path in {counts.SENDS_PATH, counts.RECEIPTS_PATH}:
        return counts.failure(result, errmsg)
    return answer.failure(result, errmsg)


async def _whole(scope: Scope, receive: Receive) -> bytes:
    """The body, or nothing if there is no proper one."""
    try:
        return await read_body(scope, receive, limits.PULL_BODY_BYTES_MAX)
    except (BodyTooLarge, Disconnected):
        return b""
