"""The server as one ASGI application: which path is which call, and the small calls themselves."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pullstatus.apps import Registry
from pullstatus.server.figures import Figures, render
from pullstatus.server.http import JSON, NO_STORE, Receive, Scope, Send, respond, respond_problem
from pullstatus.server.ingest import CallbackDoor, IngestDoor
from pullstatus.server.pull import PullCall
from pullstatus.store import Store
from pullstatus.wire import answer
from pullstatus.wire.codes import Result
from pullstatus.wire.request import PULL_PATH


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Application:
    """Routes a request; the hot calls first, past any framework."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        now_ms: Callable[[], int] = wall_ms,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wire the calls to `store`.

        Args:
            now_ms: the wall clock; only the acceptance of a signature depends on it.
            monotonic_s: the clock for rates.
        """
        self.ready = True
        self._store = store
        self._now_ms = now_ms
        self.figures = Figures()
        self._pull = PullCall(store, registry, self.figures, now_ms=now_ms, monotonic_s=monotonic_s)
        self._ingest = IngestDoor(store, registry, self.figures, now_ms=now_ms)
        self._callback = CallbackDoor(store, registry, self.figures, now_ms=now_ms)
        self._rest = Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/", self._root),
            ],
            exception_handlers={HTTPException: _problem},
        )
        self._rest.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if scope["method"] == "TRACE":
            await respond_problem(scope, send, 405, "Method not allowed", "TRACE is not served")
        elif path == PULL_PATH:
            await self._pull(scope, receive, send)
        elif path.startswith("/ingest/"):
            await self._ingest(scope, receive, send)
        elif path.startswith("/callbacks/"):
            await self._callback(scope, receive, send)
        elif path.startswith("/v5/"):
            body = answer.failure(Result.UNKNOWN_PATH, "no such call; this one is pullstatus")
            self.figures.pulls[Result.UNKNOWN_PATH] += 1
            await respond(scope, send, 200, [JSON, NO_STORE], body)
        else:
            await self._rest(scope, receive, send)

    async def _root(self, _request: Request) -> Response:
        return JSONResponse({"name": "pullstatus", "pull": PULL_PATH, "metrics": "/metrics"})

    async def _healthz(self, _request: Request) -> Response:
        """The process lives."""
        return JSONResponse({"status": "ok"})

    async def _readyz(self, _request: Request) -> Response:
        """The process takes work: the store is open and the server is not stopping."""
        if self.ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready"}, status_code=503)

    async def _metrics(self, _request: Request) -> Response:
        oldest_ms = await self._store.oldest_waiting_ms()
        oldest_age_s = 0.0 if oldest_ms is None else max(0, self._now_ms() - oldest_ms) / 1000
        text = render(self.figures, self._store.engine(), await self._store.backlog(), oldest_age_s)
        return Response(text, media_type="text/plain; version=0.0.4")


async def _problem(_request: Request, error: Exception) -> Response:
    """What Starlette refuses (no such path, or method), said like all our refusals."""
    assert isinstance(error, HTTPException)
    details = {404: "no such address", 405: "this address takes another method"}
    return JSONResponse(
        {
            "type": "about:blank",
            "title": error.detail,
            "status": error.status_code,
            "detail": details.get(error.status_code, error.detail),
        },
        error.status_code,
        headers=dict(error.headers or {}),
        media_type="application/problem+json",
    )
