"""`POST /v5/tlssmssvr/pullstatus`: the checks in their order, then the page.

Every outcome is HTTP 200 with a `result`: the published clients lose the code under any other
status. An error answer consumes nothing. Source of the order: protocol.md section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter

import structlog

from pullstatus import limits
from pullstatus.apps import LiveApplication
from pullstatus.apps.admission import REFUSED, Admission, Call
from pullstatus.apps.values import Purpose
from pullstatus.errors import (
    OutcomeUnknown,
    Overloaded,
    PullstatusError,
    Refused,
    ReplayRefused,
    StoreUnavailable,
)
from pullstatus.records import Kind
from pullstatus.server.at_once import BEGUN, Begun, Later, Said
from pullstatus.server.figures import Figures
from pullstatus.server.guesses import Guesses
from pullstatus.server.head import Header
from pullstatus.server.http import (
    JSON,
    NO_STORE,
    Disconnected,
    Receive,
    Scope,
    Send,
    address_of_peer,
    hang_up,
    is_for,
    lines_of,
    read_body,
    request_id_header,
    respond,
    whose,
    within,
)
from pullstatus.server.pauses import Shed
from pullstatus.server.signed import TRIES, call_of, encoded
from pullstatus.server.taking import Asked, Taking
from pullstatus.server.words import ENCODING, heard, heard_of, repeat_of, wait_of
from pullstatus.store import Gone, Page, Store
from pullstatus.wire.v5 import answer
from pullstatus.wire.v5.codes import Result
from pullstatus.wire.v5.pull import PullRequest, parse_pull
from pullstatus.wire.v5.refusals import ANSWERED, refusal

log = structlog.get_logger(__name__)


_NOTHING_WAITS = (b"pullstatus-waiting", b"0")
_EMPTY: Mapping[Kind, Said] = {
    kind: (lines_of([JSON, NO_STORE, _NOTHING_WAITS]), answer.success(kind, 0, b""))
    for kind in Kind
}


class BegunPull(Begun):
    """A pull as far as it goes without waiting for anybody.

    Attributes:
        asked: it was let in.
        error: it was refused; by admission, if there is a `call`, which then is to look anew.
    """

    asked: Asked | None = None
    error: PullstatusError | None = None
    request: PullRequest | None = None
    call: Call | None = None


class PullCall:
    """The call as an ASGI application."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        taking: Taking,
        figures: Figures,
        guesses: Guesses,
        shed: Shed,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._shed = shed
        self._admission = admission
        self._guesses = guesses
        self._taking = taking
        self._figures = figures
        self._now_ms = now_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; hang up when the outcome is not known."""
        headers = [JSON, NO_STORE]
        result = 0
        try:
            asked = await self._admit(scope, receive)
            _, told, body = await self._taking.take(asked, scope, partial(_said, asked.kind))
            headers += [*told, *heard_of(asked.repeat)]
        except ANSWERED as error:
            refused = refusal(error)
            result, errmsg = int(refused.result), refused.errmsg
            if isinstance(error, StoreUnavailable):
                errmsg += "; nothing was consumed"
            body = answer.failure(result, errmsg)
            log.info("pull refused", result=result, reason=errmsg, **whose(scope))
            headers.append(request_id_header(scope))
            if result in TRIES and not isinstance(error, ReplayRefused):
                await self._guesses.failed(scope, TRIES[result])
            elif isinstance(error, Overloaded):
                await self._shed.shed(scope)
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
        except Exception:  # before the store was asked: see `Taking.take`
            log.exception("pull failed", **whose(scope))
            headers.append(request_id_header(scope))
            result = int(Result.OTHER)
            body = answer.failure(result, "internal error; nothing was consumed, try again")
        self._figures.pulls[result] += 1
        await respond(scope, send, 200, headers, body)

    def at_once(
        self, query: bytes, headers: Sequence[Header], body: bytes, address: str, gone: Gone
    ) -> Said | Later | BegunPull:
        """The answer to a POST that finds nothing, if that is known at once; else how far it went.

        Most pulls find nothing. Nothing happens then, so nothing is waited for.

        Args:
            gone: whether the peer has.
        """
        began_s = perf_counter()
        try:
            words = _words(headers)
            within(body, limits.PULL_BODY_BYTES_MAX)
            begun = self._begin(query, words, body, address, began_s)
        except ANSWERED as error:
            return BegunPull(began_s=began_s, error=error)
        asked = begun.asked
        if asked is None or self._taking.waits(asked):
            return begun
        if self._taking.finds_nothing(asked):
            self._answered(began_s)
            return _EMPTY[asked.kind]
        if gone(0.0):
            return begun
        owner = asked.live.application.sdkappid
        return Later(self._take(asked, began_s, gone), begun, owner)

    async def _take(self, asked: Asked, began_s: float, gone: Gone) -> Said:
        """The answer to a pull that was let in and does not wait; raises what the store does."""
        told, body = await self._taking.take_at_once(asked, gone, partial(_said, asked.kind))
        self._answered(began_s)
        return lines_of([JSON, NO_STORE, *told, *heard_of(asked.repeat)]), body

    def _answered(self, began_s: float) -> None:
        self._figures.pulls[0] += 1
        self._figures.seconds["pull"].add(perf_counter() - began_s)

    async def _admit(self, scope: Scope, receive: Receive) -> Asked:
        """A request as what the store is asked, once it is read and may ask that."""
        begun: BegunPull | None = scope.pop(BEGUN, None)
        if begun is None:
            if scope["method"] != "POST":
                raise Refused(Result.BAD_HTTP, "this call is a POST with a JSON body")
            words = _words(scope["headers"])
            body = await read_body(scope, receive, limits.PULL_BODY_BYTES_MAX)
            address = address_of_peer(scope)
            begun = self._begin(scope["query_string"], words, body, address, perf_counter())
        asked = begun.asked
        if asked is None:
            if begun.error is not None:
                raise begun.error
            assert begun.request is not None
            assert begun.call is not None
            live = await self._admission.admit_anew(begun.call)
            asked = self._let_in(begun.request, begun.call, live, _words(scope["headers"]))
        asked.failed = begun.failed
        is_for(scope, asked.live.application.sdkappid)
        return asked

    def _begin(
        self,
        query: bytes,
        words: Mapping[bytes, str],
        body: bytes,
        address: str,
        began_s: float,
    ) -> BegunPull:
        """Read and admit a request, as far as what is known of applications lets it in."""
        request = parse_pull(query, body)
        call = call_of(request, address, self._now_ms(), Purpose.PULL)
        try:
            live = self._admission.check(call)
        except REFUSED:
            return BegunPull(began_s=began_s, request=request, call=call)
        return BegunPull(began_s=began_s, asked=self._let_in(request, call, live, words))

    def _let_in(
        self, request: PullRequest, call: Call, live: LiveApplication, words: Mapping[bytes, str]
    ) -> Asked:
        self._figures.replays.note(request.sdkappid, request.sig)
        kind, count_max = request.page()
        repeat = repeat_of(words, live.mailboxes[kind], self._store.epoch)
        said_s = wait_of(words, live.application.wait_s)
        wait_s = said_s if repeat.takes else 0
        return Asked(request, call, live, kind, count_max, repeat, wait_s, call.at_ms)


def _said(kind: Kind, page: Page) -> bytes:
    return answer.success(kind, page.count, page.data)


def _words(headers: Sequence[Header]) -> Mapping[bytes, str]:
    """What the headers say.

    Raises:
        Refused: the body is encoded.
    """
    words = heard(headers)
    if words.get(ENCODING, "identity") != "identity":
        raise encoded()
    return words
