"""`POST /v5/tlssmssvr/pullstatus`: the checks in their order, then the page.

Every outcome is HTTP 200 with a `result`: the published clients lose the code under any other
status. An error answer consumes nothing. Source of the order: protocol.md section 4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from pullstatus import limits, mailbox
from pullstatus.apps import Live, Registry
from pullstatus.apps.rate import RateLimiter
from pullstatus.errors import (
    BodyTooLarge,
    InvalidSetting,
    KeyReused,
    OutcomeUnknown,
    Refused,
    ReplayRefused,
    SettingChanged,
    StoreCorrupt,
    StoreUnavailable,
)
from pullstatus.records import Kind
from pullstatus.server.figures import Figures
from pullstatus.server.http import (
    JSON,
    NO_STORE,
    Disconnected,
    Headers,
    Receive,
    Scope,
    Send,
    gone,
    hang_up,
    header,
    read_body,
    request_id_header,
    respond,
    whose,
)
from pullstatus.store import Page, Store, pull_id
from pullstatus.wire.v5 import answer
from pullstatus.wire.v5.codes import Result
from pullstatus.wire.v5.pull import PullRequest, parse_pull
from pullstatus.wire.v5.signature import fitting
from pullstatus.wire.v5.signed import check_time

log = structlog.get_logger(__name__)

CHANGEABLE = frozenset(  # refusals for how an application is set up
    {
        Result.UNKNOWN_SDKAPPID,
        Result.ADDRESS_REFUSED,
        Result.SIG_MISMATCH,
        Result.DISABLED,
        Result.IN_ARREARS,
        Result.NOT_PERMITTED,
        Result.TOO_FREQUENT,
    }
)


class PullCall:
    """The call as an ASGI application."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        figures: Figures,
        *,
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._registry = registry
        self._figures = figures
        self._now_ms = now_ms
        self._rate = RateLimiter(monotonic_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; hang up when the outcome is not known."""
        headers = [JSON, NO_STORE]
        result = 0
        try:
            told, body = await self._take(scope, receive)
            headers += told
        except Refused as refusal:
            result = int(refusal.result)
            body = answer.failure(result, refusal.errmsg)
            log.info("pull refused", result=result, reason=refusal.errmsg, **whose(scope))
            headers.append(request_id_header(scope))
        except Disconnected:
            self._figures.pulls_dropped += 1
            hang_up(scope)  # or an answer would be missed, where only the kernel knows of it
            return
        except OutcomeUnknown as error:
            # A cause is here only if nobody foresaw it: the one thing worth a trace.
            cause = error.__cause__
            log.error("pull not answered", reason=str(error), exc_info=cause, **whose(scope))
            self._figures.unanswered["pull"] += 1
            hang_up(scope)
            return
        except Exception:  # before the store was asked: see `_hand_out`
            log.exception("pull failed", **whose(scope))
            headers.append(request_id_header(scope))
            result = int(Result.OTHER)
            body = answer.failure(result, "internal error; nothing was consumed, try again")
        self._figures.pulls[result] += 1
        await respond(scope, send, 200, headers, body)

    async def _take(self, scope: Scope, receive: Receive) -> tuple[Headers, bytes]:
        if scope["method"] != "POST":
            raise Refused(Result.BAD_HTTP, "this call is a POST with a JSON body")
        body = await self._body(scope, receive)
        request = parse_pull(scope["query_string"], body)
        now_ms = self._now_ms()
        address = scope["client"][0] if scope["client"] else ""
        live = await self._admit(request, address, now_ms // 1000)
        kind, count_max = request.page()
        try:
            given = header(scope, b"idempotency-key")
            key = None if given is None else mailbox.check_key(given.decode("latin-1"))
        except InvalidSetting as error:
            raise Refused(Result.BAD_REQUEST, str(error)) from error
        for _ in range(limits.OVERTAKEN_MAX):
            if gone(scope):
                raise Disconnected
            asking = mailbox.pull(
                self._store, live, request, kind, count_max, address=address, key=key, now_ms=now_ms
            )
            try:
                return await self._hand_out(live, kind, asking, scope)
            except SettingChanged:
                await self._look()
                live = self._check(request, address, now_ms // 1000)
        raise Refused(
            Result.OTHER, "this application is being changed; nothing was consumed, try again"
        )

    async def _hand_out(
        self, live: Live, kind: Kind, asking: Awaitable[Page], scope: Scope
    ) -> tuple[Headers, bytes]:
        """The answer with what the store hands out.

        Raises:
            Refused: nothing was consumed.
            SettingChanged: nothing was consumed; the application is not as `live` knows it.
            OutcomeUnknown: something may have been, and that is all that can be said after an
                error which nobody foresaw once the store was asked.
        """
        try:
            return self._success(live, kind, await asking)
        except KeyReused as error:
            raise Refused(Result.BAD_REQUEST, str(error)) from error
        except ReplayRefused as error:
            raise Refused(Result.SIG_MISMATCH, str(error)) from error
        except SettingChanged:
            raise
        except StoreUnavailable as error:
            raise Refused(Result.OTHER, f"{error}; nothing was consumed") from error
        except StoreCorrupt as error:
            log.exception("pull failed", **whose(scope))
            raise Refused(Result.OTHER, "the store is damaged; nothing was consumed") from error
        except OutcomeUnknown:
            raise
        except Exception as error:
            raise OutcomeUnknown("an error that nobody foresaw in taking a page") from error

    def _success(self, live: Live, kind: Kind, page: Page) -> tuple[Headers, bytes]:
        headers = [(b"pullstatus-waiting", b"%d" % page.waiting)]
        if page.count:
            name = pull_id(live.mailboxes[kind], page.first_seq)
            headers.append((b"pullstatus-pull-id", name.encode()))
            if not page.repeated:
                self._figures.records_out[kind] += page.count
        return headers, answer.success(kind, page.count, page.data)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        if header(scope, b"content-encoding") not in (None, b"identity"):
            raise Refused(Result.BAD_HTTP, "send the body without Content-Encoding")
        try:
            return await read_body(scope, receive, limits.PULL_BODY_BYTES_MAX)
        except BodyTooLarge as error:
            raise Refused(Result.BAD_HTTP, str(error)) from error

    async def _admit(self, request: PullRequest, address: str, now_s: int) -> Live:
        """Who calls, and may they? Nobody is refused for what a command has changed already."""
        try:
            return self._check(request, address, now_s)
        except Refused as refusal:
            if refusal.result not in CHANGEABLE:
                raise
        await self._look()
        return self._check(request, address, now_s)

    async def _look(self) -> None:
        try:
            await self._registry.look()
        except StoreUnavailable as error:
            raise Refused(Result.OTHER, f"{error}; nothing was consumed") from error

    def _check(self, request: PullRequest, address: str, now_s: int) -> Live:
        """Checks 9 to 15 of the order, by what is known of the application."""
        live = self._registry.applications.get(request.sdkappid)
        if live is None:
            # The same work as for a known one, so that time does not tell which numbers exist.
            fitting(request.sig, (), request.random, request.time_text)
            raise Refused(Result.UNKNOWN_SDKAPPID, "no application has this sdkappid")
        application = live.application
        if not live.allows(address):
            raise Refused(
                Result.ADDRESS_REFUSED,
                "calls from this address are not allowed; see its allow-list",
            )
        place = fitting(request.sig, live.appkeys, request.random, request.time_text)
        if place is None:
            raise Refused(
                Result.SIG_MISMATCH,
                "sig is not the SHA-256 of appkey=...&random=...&time=... for this application",
            )
        check_time(request, now_s)
        self._registry.used[live.marks[place]] = now_s * 1000
        if not application.enabled:
            raise Refused(Result.DISABLED, "this application is disabled")
        if application.arrears:
            raise Refused(Result.IN_ARREARS, "this application is stopped for arrears")
        if not application.pull:
            raise Refused(Result.NOT_PERMITTED, "the pull feature is not enabled; ask the operator")
        rate_max = application.pull_rate_max
        if rate_max is not None and not self._rate.admit(application.sdkappid, rate_max):
            raise Refused(Result.TOO_FREQUENT, f"over {rate_max} pulls a second; slow down")
        return live
