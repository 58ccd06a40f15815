"""The server as one ASGI application: which path is which call, and the small calls themselves."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from time import perf_counter
from typing import Final, TypeVar

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pullstatus import limits
from pullstatus.apps import Registry
from pullstatus.apps.admission import Admission
from pullstatus.clock import wall_ms
from pullstatus.errors import OutcomeUnknown, StoreUnavailable
from pullstatus.mailbox.done import Task
from pullstatus.mailbox.pending import Used
from pullstatus.mailbox.traffic import Traffic
from pullstatus.records import Kind
from pullstatus.server import logs
from pullstatus.server.api3 import ActionCall, is_action
from pullstatus.server.at_once import BEGUN, Begun, Later, Said
from pullstatus.server.budget import SAID, Over
from pullstatus.server.doors import LATE, RETRY_LATER
from pullstatus.server.figures import Figures
from pullstatus.server.http import (
    BATCHES,
    HELD_S,
    INBOUND,
    INTERNAL_ERROR,
    JSON,
    METHOD_NOT_ALLOWED,
    NO_STORE,
    NO_SUCH_ADDRESS,
    TOO_MUCH_IN_HAND,
    Receive,
    Scope,
    Send,
    address_of,
    named_application,
    problem_json,
    request_id_header,
    respond,
    respond_problem,
    room_for,
    whose,
)
from pullstatus.server.inbound import CALLBACKS, CallbackDoor, InboundDoor
from pullstatus.server.ingest import IngestDoor
from pullstatus.server.listener import REFUSALS, Listener
from pullstatus.server.metrics import ConnectionCounts, Gauges, Unpulled, render_in_steps
from pullstatus.server.openapi import CALLBACK, GATEWAY, INGEST, OPENAPI_PATH, openapi
from pullstatus.server.parts import Parts
from pullstatus.server.questions import QUESTIONS, QuestionCall
from pullstatus.server.slices import Slices
from pullstatus.server.stall import NotReady, Stall
from pullstatus.server.taking import Taking
from pullstatus.server.together import Together
from pullstatus.server.v5 import PullCall
from pullstatus.server.whole import Whole
from pullstatus.store import Aside, Engine, Gone, Health, Store, Tickets, Totals
from pullstatus.version import VERSION
from pullstatus.wire.about import ABOUT_PATH, about
from pullstatus.wire.v5 import answer
from pullstatus.wire.v5.codes import Result
from pullstatus.wire.v5.pull import PULL_PATH

log = structlog.get_logger(__name__)

ABOUT: Final = about(VERSION)
ABOUT_HEADERS: Final = {"cache-control": f"public, max-age={limits.ABOUT_CACHED_S}"}
_BATCHES: Final = BATCHES.encode("ascii")
_CALLBACKS: Final = CALLBACKS.encode("ascii")
_INBOUND: Final = INBOUND.encode("ascii")
_ABOUT_PATH: Final = ABOUT_PATH.encode("ascii")
_PULL_PATH: Final = PULL_PATH.encode("ascii")
NO_SUCH_CALL: Final = "no such call; there is " + ", ".join(
    path.rpartition("/")[2] for path in (PULL_PATH, *sorted(QUESTIONS))
)
_METRICS: Final = "/metrics"
_LATE_ENGINE_S: Final = 1.0  # once all else is late
_RETRY_LATER: Final = {name.decode(): value.decode() for name, value in RETRY_LATER}
DOORS: Final = (*INGEST, CALLBACK, GATEWAY)

T = TypeVar("T")
Call = Callable[[Scope, Receive, Send], Awaitable[None]]
"""Answers one request."""


class Routes:
    """Routes a request; the hot calls first, past any framework.

    Attributes:
        health: an application of the calls by which a server is watched, and nothing else.
        listeners: what accepts connections.
        metrics: all figures, in Prometheus' text format; one page at a time, however many ask.
        traffic: what gateways sent and the store has not counted yet: to be written now and then.
        watched_elsewhere: those calls are only at a listener of their own.
        action_call: what answers API 3.0.
        noted, done_ms, upkeep_ms, certificate_end_s: as of `Gauges`; whoever knows sets them.
        worst: how many mailboxes the figures tell of one by one, by each measure; see
            `Store.totals`.
    """

    action_call: type[ActionCall] = ActionCall

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        now_ms: Callable[[], int] = wall_ms,
        monotonic_s: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        parts: Parts | None = None,
    ) -> None:
        """Wire the calls to `store`.

        Args:
            now_ms: the wall clock; only the acceptance of a signature depends on it.
            monotonic_s: the clock for rates, and for how long a slice of work is.
            random_bytes: so many bytes at random; what operations are known by begins with some.
            parts: makes what counts and bounds; None: what a single process needs.
        """
        parts = parts or Parts()
        self.ready = True
        self.noted: Collection[Task] = frozenset(Task)
        self.done_ms: Mapping[Task, int] = {}
        self.upkeep_ms = 0
        self.certificate_end_s = 0.0
        self.worst = limits.WORST_TOLD
        self.stall = Stall(store.under_way)
        self._store = store
        self._now_ms = now_ms
        self.figures = parts.figures()
        self.guesses = parts.guesses(
            store,
            registry,
            self.figures,
            monotonic_s=monotonic_s,
            now_ms=now_ms,
            random_bytes=random_bytes,
        )
        self.admission = Admission(registry, parts.rates(monotonic_s))
        self.tickets = tickets = Tickets(random_bytes)
        self.held = parts.held(store)
        self.budget = budget = parts.budget()
        shed = parts.shed()
        self._registry = registry
        self._taking = Taking(
            store,
            self.admission,
            self.held,
            self.figures,
            budget,
            now_ms=now_ms,
            tickets=tickets,
        )
        self._pull = PullCall(
            store,
            self.admission,
            self._taking,
            self.figures,
            self.guesses,
            shed,
            now_ms=now_ms,
        )
        self.asking = parts.asking(store, self.admission, budget)
        self._questions = QuestionCall(
            store,
            self.admission,
            self.asking,
            self.figures,
            self.guesses,
            shed,
            now_ms=now_ms,
        )
        self._api3 = self.action_call(
            store,
            self.admission,
            self._taking,
            self.asking,
            self.figures,
            self.guesses,
            shed,
            now_ms=now_ms,
            random_bytes=random_bytes,
        )
        slices, used = Slices(monotonic_s), Used(store)
        self._slices = slices
        self.metrics = Together(self._page)
        self._totals = Together(self._ask_totals)
        self._engine = Together(self._ask_engine)
        self._engine_known: Engine | None = None
        shared = (store, registry, self.figures, self.guesses, budget, slices, shed, used)
        self._ingest = IngestDoor(*shared, now_ms=now_ms, tickets=tickets)
        self._callback = CallbackDoor(*shared, now_ms=now_ms, tickets=tickets)
        self.inbound = InboundDoor(*shared, now_ms=now_ms, tickets=tickets)
        self.traffic = self._callback.traffic = self.inbound.traffic = Traffic(store, tickets)
        health = [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route(_METRICS, self._metrics),
        ]
        self.health = self._small(health)
        self._rest = self._small([Route(ABOUT_PATH, self._about), *health], DOORS)
        self._elsewhere = self._small([Route(ABOUT_PATH, self._about)], DOORS)
        self.listeners: Sequence[Listener] = ()
        self.watched_elsewhere = False

    def _small(self, routes: list[Route], beside: Sequence[str] = ()) -> Starlette:
        """An application of calls that few make, with a document of them and of those `beside`.

        What a listener describes is what it answers, so that whoever asks it finds all of it.
        """
        content = openapi(VERSION, frozenset([*(route.path for route in routes), *beside]))

        async def described(request: Request) -> Response:
            return self._large(request, content, "application/json", ABOUT_HEADERS)

        made = Starlette(
            routes=[*routes, Route(OPENAPI_PATH, described)],
            exception_handlers={
                HTTPException: self._refuse,
                StoreUnavailable: self._put_off,
                Exception: self._fail,
            },
        )
        made.router.redirect_slashes = False
        return made

    def owner(self, scope: Scope) -> int | None:
        """The application that a request is for, as it says; None: of none that is known."""
        path: str = scope["path"]
        if path.startswith((CALLBACKS, INBOUND)):
            secret = path.split("/", 3)[2]
            token = self._registry.token(secret, self._now_ms())
            return None if token is None else token.sdkappid
        named = named_application(scope)
        return named if named in self._registry.applications else None

    def at_once(
        self, whole: Whole, client: tuple[str, int] | None, gone: Gone
    ) -> Said | Later | Begun | None:
        """What a usual request comes to before its scope is made; None: nothing is known of it.

        Args:
            client: where it came from, before any proxy that is trusted.
            gone: whether the peer has, after so many seconds.
        """
        path = whole.path
        try:
            if path == _PULL_PATH:
                address = address_of(client)
                return self._pull.at_once(whole.query, whole.headers, whole.body, address, gone)
            if path == _ABOUT_PATH:
                return self._api3.at_once(whole, address_of(client), gone)
            if path.startswith(_BATCHES):
                return self._ingest.at_once(whole, client, gone)
            if path.startswith(_CALLBACKS):
                return self._callback.at_once(whole, client, gone)
            if path.startswith(_INBOUND):
                return self.inbound.at_once(whole, client, gone)
        except Exception:  # noqa: BLE001 - it comes again where it is told
            return None
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        call: Call
        if scope["method"] == "TRACE":
            await self._refuse_trace(scope, send)
            return
        if path == PULL_PATH:
            name, call = "pull", self._pull
        elif path in QUESTIONS:
            name, call = "question", self._questions
        elif path == ABOUT_PATH and is_action(scope):
            name, call = "api3", self._api3
        elif path.startswith(BATCHES):
            name, call = "ingest", self._ingest
        elif path.startswith(CALLBACKS):
            name, call = "callbacks", self._callback
        elif path.startswith(INBOUND):
            name, call = "in", self.inbound
        else:
            await self._answer_untimed(scope, receive, send)
            return
        began_s: float = scope[BEGUN].began_s if BEGUN in scope else perf_counter()
        await call(scope, receive, send)
        answered_s: float = scope.get(LATE) or perf_counter()
        self.figures.seconds[name].add(answered_s - began_s - scope.get(HELD_S, 0.0))

    async def _answer_untimed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is none of the calls above: few ask for it."""
        if scope["path"].startswith("/v5/"):
            name = self._note(scope, 200, NO_SUCH_ADDRESS)
            body = answer.failure(Result.UNKNOWN_PATH, NO_SUCH_CALL)
            await respond(scope, send, 200, [JSON, NO_STORE, name], body)
        elif self.watched_elsewhere:
            await self._elsewhere(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    async def _refuse_trace(self, scope: Scope, send: Send) -> None:
        name = self._note(scope, 405, METHOD_NOT_ALLOWED)
        headers = [(b"allow", ", ".join(self._methods(scope["path"])).encode()), name]
        detail = "TRACE is not served"
        await respond_problem(scope, send, 405, METHOD_NOT_ALLOWED, detail, headers=headers)

    def _methods(self, path: str) -> Sequence[str]:
        """Those that a path takes."""
        if path.startswith(INBOUND):
            return self.inbound.methods
        return ("POST",) if path.startswith(("/v5/", BATCHES, CALLBACKS)) else ("GET", "HEAD")

    async def _about(self, _request: Request) -> Response:
        """Who we are and what we can do; asks nobody, so that it answers in any state."""
        return Response(ABOUT, headers=ABOUT_HEADERS, media_type="application/json")

    async def _healthz(self, _request: Request) -> Response:
        """The process lives."""
        return JSONResponse({"status": "ok"})

    async def _readyz(self, _request: Request) -> Response:
        """The process takes work: the store answers, and the server is not stopping."""
        reason = self.not_ready()
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)

    def not_ready(self) -> NotReady | None:
        """Why it takes no work; None: it does."""
        if not self.ready:
            return NotReady.STOPPING
        return NotReady.SILENT if self.stall() else None

    def _age_s(self, at_ms: int | None) -> float:
        return 0.0 if at_ms is None else max(0, self._now_ms() - at_ms) / 1000

    async def _metrics(self, request: Request) -> Response:
        return self._large(request, await self.metrics(), "text/plain; version=0.0.4")

    def _large(
        self,
        request: Request,
        content: bytes,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """An answer that needs no key and is large: not for whose address has its part in hand.

        It would take as much more of what all have.
        """
        if room_for(request.scope, len(content)):
            return Response(content, headers=headers, media_type=media_type)
        detail = SAID[Over.ADDRESS]
        return self._problem(request, 503, TOO_MUCH_IN_HAND, detail, _RETRY_LATER)

    async def _page(self) -> bytes:
        """For `metrics`."""
        return await self._render(self.figures, await self.gauges())

    async def _render(self, figures: Figures, gauges: Gauges) -> bytes:
        return await self._slices.do(render_in_steps(figures, gauges), _METRICS)

    async def gauges(self) -> Gauges:
        """How everything stands now; without sums of what cannot be read, or not soon.

        Whoever watches a store that stands still gives up before the store does.
        """
        totals = await _soon(self._totals, limits.FIGURES_S)
        # Behind it, since by looking a store learns what other processes have committed.
        engine = await _soon(self._engine, limits.FIGURES_S if totals else _LATE_ENGINE_S)
        self._engine_known = engine or self._engine_known
        oldest = [] if totals is None else [totals.of[kind].oldest_ms for kind in Kind]
        return Gauges(
            self._engine_known,
            totals,
            max(map(self._age_s, oldest), default=0.0),
            0.0 if totals is None else self._age_s(totals.in_hand.oldest_ms),
            self.held.count,
            logs.lines(),
            self.guesses.tries,
            self._store.under_way(),
            self.connections(),
            self.budget,
            self._store.health() or Health(),
            self.noted,
            self.done_ms,
            self.upkeep_ms,
            self.certificate_end_s,
            oldest_pending_s=(
                0.0 if totals is None else self._age_s(totals.of[Aside.PENDING].oldest_ms)
            ),
            worst=[
                Unpulled(row.mailbox, row.waiting, self._age_s(row.oldest_ms))
                for row in (() if totals is None else totals.worst)
            ],
        )

    async def _ask_totals(self) -> Totals | None:
        return await _readable(self._store.totals(self.worst))

    async def _ask_engine(self) -> Engine | None:
        return await _readable(self._store.engine())

    def connections(self) -> ConnectionCounts:
        """Who is connected, and how many were not served."""
        refused = Counter(dict.fromkeys(REFUSALS, 0))
        for listener in self.listeners:
            refused.update(listener.refused)
        return ConnectionCounts(sum(listener.connections for listener in self.listeners), refused)

    async def _refuse(self, request: Request, error: Exception) -> Response:
        """What Starlette refuses, in our words: no such path, or not this method."""
        assert isinstance(error, HTTPException)
        title, detail = {
            404: (NO_SUCH_ADDRESS, "see the HTTP reference for the paths that there are"),
            405: (METHOD_NOT_ALLOWED, "this address takes another method: see Allow"),
        }.get(error.status_code, (error.detail, error.detail))
        return self._problem(request, error.status_code, title, detail, error.headers)

    async def _put_off(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, StoreUnavailable)
        return self._problem(request, 503, "Cannot read the store now", error.for_callers)

    async def _fail(self, request: Request, _error: Exception) -> Response:
        """Nobody foresaw it; Starlette raises it again behind this answer, and it is logged."""
        return self._problem(request, 500, INTERNAL_ERROR, "the log of the server tells more")

    def _problem(
        self,
        request: Request,
        http_status: int,
        title: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        name, value = self._note(request.scope, http_status, title)
        return Response(
            problem_json(http_status, title, detail),
            http_status,
            headers={**(headers or {}), name.decode(): value.decode()},
            media_type="application/problem+json",
        )

    def _note(self, scope: Scope, http_status: int, reason: str) -> tuple[bytes, bytes]:
        """Count and log a request that no call takes; returns the header that names it."""
        self.figures.refused[http_status] += 1
        log.info("request refused", status=http_status, reason=reason, **whose(scope))
        return request_id_header(scope)


async def _readable(asked: Awaitable[T]) -> T | None:
    """What the store answers; None: it cannot be read.

    Here, and not where it is waited for: who waited may be gone, and nobody would hear of an error.
    """
    try:
        return await asked
    except (StoreUnavailable, OutcomeUnknown):
        return None


async def _soon(ask: Callable[[], Awaitable[T | None]], within_s: float) -> T | None:
    """What the store answers; None: it cannot be read, or not soon. Then its work goes on."""
    try:
        async with asyncio.timeout(within_s):
            return await ask()
    except TimeoutError:
        return None
