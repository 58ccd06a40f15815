"""`POST /v5/tlssmssvr/pullstatus`: the checks in their order, then the page.

Every outcome is HTTP 200 with a `result`: the published clients lose the code under any other
status. An error answer consumes nothing. Source of the order: protocol.md section 4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from pullstatus import limits, mailbox
from pullstatus.apps import Live
from pullstatus.apps.admission import Admission, Call
from pullstatus.errors import (
    AcknowledgementRefused,
    KeyReused,
    OutcomeUnknown,
    Refused,
    ReplayRefused,
    SettingChanged,
    SignatureWrong,
    StoreCorrupt,
    StoreUnavailable,
    TooManyReaders,
)
from pullstatus.mailbox.repeats import ACK_REFUSED, NEVER, Repeat, read_repeat
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
from pullstatus.store import Mailbox, Once, Page, Store, pull_id
from pullstatus.wire.v5 import answer
from pullstatus.wire.v5.codes import Result
from pullstatus.wire.v5.pull import PullRequest, parse_pull
from pullstatus.wire.v5.refusals import ANSWERED, refusal
from pullstatus.wire.v5.signature import fitting
from pullstatus.wire.v5.signed import check_time

log = structlog.get_logger(__name__)

SIGNATURE_WRONG = "sig is not the SHA-256 of appkey=...&random=...&time=... for this application"
SIGNATURE_USED = "this signature was used before; sign each request anew"
REPEATS = (b"idempotency-key", b"pullstatus-reader", b"pullstatus-ack", b"pullstatus-take")


class PullCall:
    """The call as an ASGI application."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        figures: Figures,
        *,
        now_ms: Callable[[], int],
        tickets: Callable[[], bytes],
    ) -> None:
        self._store = store
        self._admission = admission
        self._figures = figures
        self._now_ms = now_ms
        self._tickets = tickets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; hang up when the outcome is not known."""
        headers = [JSON, NO_STORE]
        result = 0
        try:
            told, body = await self._take(scope, receive)
            headers += told
        except ANSWERED as error:
            refused = refusal(error)
            result, errmsg = int(refused.result), refused.errmsg
            if isinstance(error, StoreUnavailable):
                errmsg += "; nothing was consumed"
            body = answer.failure(result, errmsg)
            log.info("pull refused", result=result, reason=errmsg, **whose(scope))
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
        call = _call(request, address, now_ms)
        live = await self._admission.admit(call)
        kind, count_max = request.page()
        repeat = _repeat(scope, live.mailboxes[kind], self._store.epoch)
        for _ in range(limits.OVERTAKEN_MAX):
            if gone(scope):
                raise Disconnected
            asking = mailbox.pull(
                self._store,
                live,
                kind,
                count_max,
                address=address,
                proof=request.proof,
                once=_once(request),
                repeat=repeat,
                now_ms=now_ms,
                ticket=self._tickets(),
            )
            try:
                return await self._hand_out(live, kind, asking, scope)
            except SettingChanged:
                live = await self._admission.admit_anew(call)
        raise Refused(
            Result.OTHER, "this application is being changed; nothing was consumed, try again"
        )

    async def _hand_out(
        self, live: Live, kind: Kind, asking: Awaitable[Page], scope: Scope
    ) -> tuple[Headers, bytes]:
        """The answer with what the store hands out.

        Raises:
            Refused, KeyReused, AcknowledgementRefused, TooManyReaders, ReplayRefused,
                StoreUnavailable: nothing was consumed.
            SettingChanged: nor then; the application is not as `live` knows it.
            OutcomeUnknown: something may have been, and that is all that can be said after an
                error which nobody foresaw once the store was asked.
        """
        try:
            return self._success(live, kind, await asking)
        except ReplayRefused as error:
            raise ReplayRefused(SIGNATURE_USED) from error
        except AcknowledgementRefused as error:
            raise AcknowledgementRefused(ACK_REFUSED) from error
        except (KeyReused, TooManyReaders, StoreUnavailable, OutcomeUnknown):
            raise
        except StoreCorrupt as error:
            log.exception("pull failed", **whose(scope))
            raise Refused(Result.OTHER, "the store is damaged; nothing was consumed") from error
        except Exception as error:
            raise OutcomeUnknown("an error that nobody foresaw in taking a page") from error

    def _success(self, live: Live, kind: Kind, page: Page) -> tuple[Headers, bytes]:
        headers = [(b"pullstatus-waiting", b"%d" % page.waiting)]
        if page.count:
            name = pull_id(live.mailboxes[kind], page.first_seq, self._store.epoch)
            headers.append((b"pullstatus-pull-id", name.encode()))
            if not page.repeated:
                self._figures.records_out[kind] += page.count
            if page.given > 1:
                headers.append((b"pullstatus-given", b"%d" % page.given))
                self._figures.pages_given_again += 1
        return headers, answer.success(kind, page.count, page.data)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        if header(scope, b"content-encoding") not in (None, b"identity"):
            raise Refused(Result.BAD_HTTP, "send the body without Content-Encoding")
        return await read_body(scope, receive, limits.PULL_BODY_BYTES_MAX)


def _call(request: PullRequest, address: str, now_ms: int) -> Call:
    """What admission wants to know of a pull (checks 9 to 16)."""

    def proof(appkeys: Sequence[str]) -> int:
        place = fitting(request.sig, appkeys, request.random, request.time_text)
        if place is None:
            raise SignatureWrong(SIGNATURE_WRONG)
        check_time(request, now_ms // 1000)
        return place

    return Call(request.sdkappid, address, proof, request.time, now_ms, pulls=True)


def _repeat(scope: Scope, queue: Mailbox, epoch: int) -> Repeat:
    """How the page can be had again (check 18); of a header that is there twice the first counts.

    One look at the headers finds that none is there, as with every client but those of our own.
    """
    found = [pair for pair in scope["headers"] if pair[0] in REPEATS]
    if not found:
        return NEVER
    words = {bytes(name): bytes(value).decode("latin-1") for name, value in reversed(found)}
    return read_repeat(queue, epoch, *map(words.get, REPEATS))


def _once(request: PullRequest) -> Once:
    """The signature, until it is refused as too old in any case."""
    return Once(request.nonce, (request.time + limits.SIGNATURE_KEPT_S) * 1000)
