"""The server's application without a network: a store made of functions, requests as values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from pullstatus import limits
from pullstatus.apps import AppKey, Application, LiveApplication, Registry, Token, token_digest
from pullstatus.clock import wall_ms
from pullstatus.durations import Durations
from pullstatus.server.at_once import BEGUN, Later
from pullstatus.server.http import PEER, Send
from pullstatus.server.routes import Routes
from pullstatus.server.whole import Whole
from pullstatus.store import (
    Act,
    Append,
    Backlog,
    Change,
    Engine,
    Gone,
    Health,
    InHand,
    Mailbox,
    Named,
    Noted,
    Page,
    Park,
    Pull,
    PutAside,
    Setting,
    Store,
    Totals,
    UnderWay,
)
from pullstatus.store.verbs.sums import worst_of
from tests.harness import PATIENCE_S, Answer, App
from tests.sealing import NO_MASTERS
from tests.store.build import sums_of

T = TypeVar("T")

APP = App(1400006666, "5f03a35d00ee52a21327ab048186a2c4")
SECRET = "pst_secret"
TOKEN = Token("gateway", token_digest(SECRET), 0, APP.sdkappid)


class FakeStore:
    """Answers what a test wants; an exception is raised."""

    def __init__(self) -> None:
        self.appended: list[Append] = []
        self.pulled: list[Pull] = []
        self.parked: list[Park] = []
        self.park_answer: PutAside | BaseException | None = None  # None: all of it is new
        self.append_answer: int | BaseException | None = None
        self.acts: list[Act] = []  # also of changes whose outcome is not told
        self.change_answer: bool | BaseException = True
        self.pull_answer: Page | BaseException = Page(0, 0, b"", 0)
        self.arrived: dict[Mailbox, Callable[[], None]] = {}  # what tells who watches a mailbox
        self.mailboxes: list[Backlog] = []
        self.epoch = 1
        self.held = InHand(0, None)
        self.way = UnderWay()
        self.names: list[Named] = []  # whatever is asked
        self.empty = False  # whether it knows that nothing waits

    async def append(self, operation: Append, _gone: Gone | None = None) -> int:
        self.appended.append(operation)
        return operation.count if self.append_answer is None else _given(self.append_answer)

    async def park(self, operation: Park, _gone: Gone | None = None) -> PutAside:
        self.parked.append(operation)
        new = PutAside(operation.records.count, len(operation.entries), 0)
        return new if self.park_answer is None else _given(self.park_answer)

    async def pull(self, operation: Pull, _gone: Gone | None = None) -> Page:
        self.pulled.append(operation)
        return _given(self.pull_answer)

    async def change(self, *changes: Change, act: Act | None = None) -> bool:
        assert not changes
        assert act is not None
        if act not in self.acts:
            self.acts.append(act)
        _given(self.change_answer)
        return True

    async def named(self, _slots: Sequence[int], _sdkappid: int | None = None) -> list[Named]:
        return self.names

    async def backlog(self, sdkappid: int) -> list[Backlog]:
        return [row for row in self.mailboxes if row.mailbox.sdkappid == sdkappid]

    async def marks(self, _prefix: str) -> dict[str, Noted]:
        return {}

    async def totals(self, worst: int = 0) -> Totals:
        return Totals(sums_of(self.mailboxes), self.held, worst_of(self.mailboxes, worst))

    def surely_empty(self, _mailbox: Mailbox) -> bool:
        return self.empty

    def watch(self, mailbox: Mailbox, on_arrival: Callable[[], None]) -> Callable[[], None]:
        self.arrived[mailbox] = on_arrival
        return partial(self.arrived.__delitem__, mailbox)

    async def settings(self, _since: int) -> AsyncIterator[Setting]:
        none: list[Setting] = []
        for setting in none:
            yield setting

    def under_way(self) -> UnderWay:
        return self.way

    def health(self) -> Health | None:
        return None

    async def engine(self) -> Engine:
        return Engine(0, 0.0, 0, 0, True, Durations())


def _given(answer: T | BaseException) -> T:
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _answer(said: list[Any]) -> Answer | None:
    if not said:
        return None
    start, *rest = said
    told = [(name.decode(), value.decode()) for name, value in start["headers"]]
    return Answer(start["status"], told, b"".join(part["body"] for part in rest))


class Served:
    """An application over a fake store, with one application and one token of its.

    Attributes:
        at_once: requests come whole, and are answered at once as far as that can be.
    """

    at_once = False

    def __init__(self, *, now_ms: Callable[[], int] = wall_ms) -> None:
        self._now_ms = now_ms
        self.store = FakeStore()
        self.registry = Registry(cast("Store", self.store), NO_MASTERS)
        key = AppKey(APP.appkey, 0)
        self.registry.applications[APP.sdkappid] = LiveApplication(
            Application(APP.sdkappid, (key,), 0), 1, {key: APP.appkey}
        )
        self.registry.tokens[TOKEN.digest] = TOKEN
        self.routes = Routes(cast("Store", self.store), self.registry, now_ms=now_ms)
        self.hung_up = False
        self.let_go: list[str] = []  # of which requests the body was forgotten
        self.gone = False  # whether the peer has, before the store is asked
        self.has_room = True  # its address, for what is large and needs no key
        self.left = False  # or says no more; `on_leave` tells whoever wants to know
        self.on_leave: Callable[[], None] | None = None
        self.address = "192.0.2.7"
        self.can_write = asyncio.Event()  # the connection; cleared while much lies unread
        self.can_write.set()
        self._answered = asyncio.Event()  # whether the newest request is

    async def until_answered(self) -> None:
        """Wait for an answer to the newest request, which may go on behind it."""
        await asyncio.wait_for(self._answered.wait(), PATIENCE_S)

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | object = b"",
        headers: list[tuple[str, str]] | None = None,
    ) -> Answer | None:
        """One request; None if the connection was closed without an answer."""
        self._answered.clear()
        path, _, query = target.partition("?")
        sent = [(name.lower().encode(), value.encode()) for name, value in headers or []]
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": "",
            "query_string": query.encode(),
            "headers": sent,
            "client": (self.address, 40_000),
        }
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        said: list[Any] = []

        async def send(message: Any) -> None:  # noqa: ANN401
            said.append(message)
            self._answered.set()

        scope[PEER] = SimpleNamespace(
            body=None,
            over=None,
            application=None,
            gone=lambda: self.gone,
            leaving=self._leaving,
            count_in=lambda share: share.add(max(limits.REQUEST_BYTES, len(content))),
            let_go=lambda: self.let_go.append(path),
            room_for=lambda _size: self.has_room,
            hang_up=self._hang_up,
            respond=partial(self._respond, send),
        )

        if self.at_once and method == "POST":
            forwarded = any(name.startswith(b"x-forwarded-") for name, _ in sent)
            whole = Whole(path.encode(), query.encode(), tuple(sent), forwarded, content)
            begun = self.routes.at_once(whole, scope["client"], lambda _waited_s: self.gone)
            if isinstance(begun, Later):
                later = begun
                try:
                    begun = await later.said
                except Exception as error:  # noqa: BLE001 - it goes the careful way
                    begun = later.begun
                    begun.failed = error
            if isinstance(begun, tuple):
                await self._respond(send, 200, *begun)
                return _answer(said)
            if begun is not None:
                scope[BEGUN] = begun

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content}

        await self.routes(scope, receive, send)
        return _answer(said)

    async def post(
        self, target: str, body: bytes | object, *headers: tuple[str, str]
    ) -> Answer | None:
        return await self.ask("POST", target, body, list(headers))

    async def pull(self, *headers: tuple[str, str]) -> Answer | None:
        target, body = APP.request(at=self._now_ms() // 1000)
        return await self.post(target, body, *headers)

    async def ingest(self, body: object, *headers: tuple[str, str]) -> Answer | None:
        bearer = ("Authorization", f"Bearer {SECRET}")
        json_type = ("Content-Type", "application/json")
        target = f"/ingest/{APP.sdkappid}/delivery-statuses"
        return await self.post(target, body, bearer, json_type, *headers)

    async def callback(self, body: object) -> Answer | None:
        return await self.post(f"/callbacks/{SECRET}", body)

    async def figures(self) -> dict[str, float]:
        """What /metrics tells."""
        answer = await self.ask("GET", "/metrics")
        assert answer is not None
        lines = answer.content.decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    async def _respond(self, send: Send, http_status: int, lines: bytes, body: bytes) -> None:
        """An answer that is written at once, as the messages that it would be else."""
        await self.can_write.wait()
        headers = [tuple(line.split(b": ", 1)) for line in lines.splitlines()]
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": http_status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _leaving(self, on_leave: Callable[[], None] | None) -> bool:
        self.on_leave = on_leave
        return self.gone or self.left

    def _hang_up(self) -> None:
        self.hung_up = True
