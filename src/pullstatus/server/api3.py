"""API 3.0: `/` with an action, signed with a secret key pair: the checks in their order, then it.

Every outcome is HTTP 200 with a `Response` in it, and a `RequestId`, by which the log and the
journal know the request, too: the published SDKs fail without them. An error answer consumes
nothing. Source of the order: protocol.md section 11.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from time import perf_counter
from typing import Final

import msgspec
import structlog

from pullstatus import limits
from pullstatus.apps import LiveApplication, LivePair
from pullstatus.apps.admission import REFUSED, Admission, PairCall
from pullstatus.apps.values import Purpose
from pullstatus.errors import (
    OutcomeUnknown,
    Overloaded,
    PullstatusError,
    SignatureWrong,
    StoreCorrupt,
    UnknownSecret,
)
from pullstatus.mailbox.questions import records_of
from pullstatus.mailbox.statistics import Statistics, statistics
from pullstatus.records import Kind
from pullstatus.server.asking import Asking
from pullstatus.server.at_once import BEGUN, Begun, Later, Said
from pullstatus.server.figures import Figures
from pullstatus.server.guesses import Guesses
from pullstatus.server.head import Header
from pullstatus.server.http import (
    JSON,
    NO_STORE,
    Disconnected,
    Headers,
    Receive,
    Scope,
    Send,
    address_of_peer,
    hang_up,
    headers_of,
    is_for,
    lines_of,
    name_request,
    read_body,
    respond,
    whose,
    within,
)
from pullstatus.server.pauses import Shed
from pullstatus.server.taking import Asked, Taking
from pullstatus.server.whole import Whole
from pullstatus.server.words import heard, heard_of, repeat_of, wait_of
from pullstatus.store import Gone, Page, Store
from pullstatus.wire.api3 import answers
from pullstatus.wire.api3.codes import Code
from pullstatus.wire.api3.refusals import ANSWERED, refusal
from pullstatus.wire.api3.requests import (
    ACTIONS,
    Action,
    Request,
    Subject,
    check_method,
    is_call,
    read_request,
    trace_id,
)

log = structlog.get_logger(__name__)

PURPOSES: Final[Mapping[Subject | None, Purpose]] = {
    Subject.PULL: Purpose.PULL,
    Subject.NUMBER: Purpose.QUERY,
    Subject.SENDS: Purpose.STATISTICS,
    Subject.RECEIPTS: Purpose.STATISTICS,
}

_ALWAYS: Final = lines_of([JSON, NO_STORE])
_NOTHING_WAITS: Final = lines_of([(b"pullstatus-waiting", b"0")])
_TRIES: Final = {UnknownSecret: "secret", SignatureWrong: "signature"}


def is_action(scope: Scope) -> bool:
    """Whether a request to `/` is a call of API 3.0."""
    return is_call(scope["method"], scope["query_string"], headers_of(scope))


class Named(msgspec.Struct):
    """A request, and the name by which its answer, the log and the journal know it."""

    request: Request
    request_id: str

    @property
    def proof(self) -> str:
        """What the journal keeps of its signature, and its name."""
        return self.request.proof(self.request_id)

    @property
    def nonce(self) -> str:
        """What no other request of the pair has in common with this one."""
        return self.request.nonce

    @property
    def time(self) -> int:
        """When it says that it was signed, in Unix seconds."""
        return self.request.timestamp_s


class LetIn(msgspec.Struct):
    """A call that may be made.

    Attributes:
        call: as which it was let in.
        live: the application that it is about.
        asked: what it asks of the store, if it is a pull.
    """

    request: Request
    call: PairCall
    live: LiveApplication
    request_id: str
    asked: Asked | None = None


class BegunAction(Begun):
    """A call as far as it goes without waiting for anybody.

    Attributes:
        let_in: it was.
        error: it was refused.
        request, call: it was read; if it is neither let in nor refused, admission is to look anew.
    """

    request_id: str
    let_in: LetIn | None = None
    error: PullstatusError | None = None
    request: Request | None = None
    call: PairCall | None = None


class ActionCall:
    """The calls as an ASGI application.

    Attributes:
        actions: those that there are; whoever has more answers them, too.
    """

    actions: Mapping[str, Action] = ACTIONS

    def __init__(
        self,
        store: Store,
        admission: Admission,
        taking: Taking,
        asking: Asking,
        figures: Figures,
        guesses: Guesses,
        shed: Shed,
        *,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._admission = admission
        self._taking = taking
        self._asking = asking
        self._figures = figures
        self._guesses = guesses
        self._shed = shed
        self._now_ms = now_ms
        self._random_bytes = random_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for which `is_action`; hang up when the outcome is not known."""
        begun: BegunAction = scope.pop(BEGUN, None) or self._begun()
        request_id = begun.request_id
        name_request(scope, request_id)
        headers = [JSON, NO_STORE]
        trace = trace_id(headers_of(scope))
        if trace is not None:
            headers.append((b"x-tc-traceid", trace))
        code = ""
        try:
            let_in = await self._let_in(begun, scope, receive)
            told, body = await self.answer(let_in, scope)
            headers += told
        except ANSWERED as error:
            refused = refusal(error)
            code = refused.error_code
            body = answers.failure(code, refused.message, request_id)
            log.info("call refused", code=code, reason=refused.message, **whose(scope))
            if type(error) in _TRIES:
                await self._guesses.failed(scope, _TRIES[type(error)])
            elif isinstance(error, Overloaded):
                await self._shed.shed(scope)
        except Disconnected:
            if begun.let_in is None or begun.let_in.asked is not None:  # not a question
                self._figures.pulls_dropped += 1
            hang_up(scope)
            return
        except OutcomeUnknown as error:
            cause = error.__cause__  # only if nobody foresaw it
            log.error("call not answered", reason=str(error), exc_info=cause, **whose(scope))
            self._figures.unanswered["api3"] += 1
            hang_up(scope)
            return
        except Exception as error:  # before the store was asked to give anything
            log.exception("call failed", **whose(scope))
            damaged = isinstance(error, StoreCorrupt)
            said = "the store is damaged" if damaged else "internal error"
            code = Code.INTERNAL
            body = answers.failure(code, f"{said}; nothing was consumed", request_id)
        self._figures.api3[code] += 1
        await respond(scope, send, 200, headers, body)

    def at_once(self, whole: Whole, address: str, gone: Gone) -> Said | Later | BegunAction | None:
        """The answer to a pull that finds nothing, if that is known at once; else how far it went.

        Args:
            whole: a POST to `/`; None: it is no call.
            gone: whether the peer has.
        """
        headers = dict(reversed(whole.headers))
        if not is_call("POST", whole.query, headers):
            return None
        begun = self._begun()
        try:
            within(whole.body, limits.PULL_BODY_BYTES_MAX)
            request = read_request("POST", whole.query, headers, whole.body, actions=self.actions)
            self._begin(begun, request, address, whole.headers)
        except ANSWERED as error:
            begun.error = error
            return begun
        let_in = begun.let_in
        asked = None if let_in is None else let_in.asked
        if let_in is None or asked is None or self._taking.waits(asked):
            return begun
        if self._taking.finds_nothing(asked):
            self._worked(begun)
            return _lines(headers) + _NOTHING_WAITS, answers.page(
                request.version, asked.kind, b"", begun.request_id
            )
        if gone(0.0):
            return begun
        taking = self._take(begun, let_in, asked, _lines(headers), gone)
        return Later(taking, begun, let_in.live.application.sdkappid)

    async def _take(
        self, begun: BegunAction, let_in: LetIn, asked: Asked, lines: bytes, gone: Gone
    ) -> Said:
        """The answer to a pull that was let in and does not wait; raises what the store does."""
        told, body = await self._taking.take_at_once(
            asked, gone, partial(_said, let_in, asked.kind)
        )
        self._worked(begun)
        return lines + lines_of([*told, *heard_of(asked.repeat)]), body

    def _begun(self) -> BegunAction:
        return BegunAction(began_s=perf_counter(), request_id=_uuid(self._random_bytes(16)))

    def _worked(self, begun: BegunAction) -> None:
        self._figures.api3[""] += 1
        self._figures.seconds["api3"].add(perf_counter() - begun.began_s)

    async def _let_in(self, begun: BegunAction, scope: Scope, receive: Receive) -> LetIn:
        """Read a request, and let it in: checks 1 to 15, and of pulls to 17."""
        if begun.error is not None:
            raise begun.error
        if begun.call is None:
            check_method(scope["method"])
            body = await read_body(scope, receive, limits.PULL_BODY_BYTES_MAX)
            request = read_request(
                scope["method"],
                scope["query_string"],
                headers_of(scope),
                body,
                actions=self.actions,
            )
            self._begin(begun, request, address_of_peer(scope), scope["headers"])
        if begun.let_in is None:
            assert begun.request is not None
            assert begun.call is not None
            live = await self._admission.admit_anew(begun.call)
            self._go_on(begun, begun.request, begun.call, live, scope["headers"])
        let_in = begun.let_in
        assert let_in is not None
        if let_in.asked is not None:
            let_in.asked.failed = begun.failed
        is_for(scope, let_in.live.application.sdkappid)
        return let_in

    def _begin(
        self, begun: BegunAction, request: Request, address: str, headers: Iterable[Header]
    ) -> None:
        """Admit a request, as far as what is known of applications lets it in."""
        now_ms = self._now_ms()

        def proof(known: LivePair) -> None:
            pair = known.pair
            request.prove(known.secret_key, unsigned_payload=pair.unsigned_payload, v1=pair.v1)
            request.check_time(now_ms // 1000)

        begun.request = request
        begun.call = call = PairCall(
            request.secret_id,
            request.sdkappid,
            address,
            proof,
            request.timestamp_s,
            now_ms,
            PURPOSES.get(request.action.subject),
        )
        try:
            live = self._admission.check(call)
        except REFUSED:
            return
        self._go_on(begun, request, call, live, headers)

    def _go_on(
        self,
        begun: BegunAction,
        request: Request,
        call: PairCall,
        live: LiveApplication,
        headers: Iterable[Header],
    ) -> None:
        """With one that was let in: a pull is read to its end (checks 16 and 17)."""
        begun.let_in = let_in = LetIn(request, call, live, begun.request_id)
        if request.action.subject is not Subject.PULL:
            return
        kind = request.action.kind
        assert kind is not None
        count_max = request.limit()
        words = heard(headers)
        repeat = repeat_of(words, live.mailboxes[kind], self._store.epoch)
        wait_s = wait_of(words, live.application.wait_s) if repeat.takes else 0
        self._figures.replays.note(live.application.sdkappid, request.mark)
        named = Named(request, begun.request_id)
        let_in.asked = Asked(named, call, live, kind, count_max, repeat, wait_s, call.at_ms)

    async def answer(self, let_in: LetIn, scope: Scope) -> tuple[Headers, bytes]:
        """What a call comes to (checks 16 to 18): headers and the body."""
        asked = let_in.asked
        if asked is not None:
            _, told, body = await self._taking.take(
                asked, scope, partial(_said, let_in, asked.kind)
            )
            return [*told, *heard_of(asked.repeat)], body
        question = _QUESTIONS[let_in.request.action.subject](self._store, let_in)
        return [], await self._asking.ask(scope, let_in.call, let_in.live, question)


def _said(let_in: LetIn, kind: Kind, page: Page) -> bytes:
    return answers.page(let_in.request.version, kind, page.data, let_in.request_id)


def _uuid(random: bytes) -> str:
    """A UUID of version 4; `uuid.UUID` takes four times as long to the same text."""
    text = random.hex()
    variant = "89ab"[random[8] >> 4 & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def _lines(headers: Mapping[bytes, bytes]) -> bytes:
    """Lines that every answer has."""
    trace = trace_id(headers)
    return _ALWAYS if trace is None else _ALWAYS + b"x-tc-traceid: %b\r\n" % trace


# --- what asks and takes nothing ------------------------------------------------------------------

_Question = Callable[[LiveApplication], Awaitable[bytes]]


def _of_number(store: Store, let_in: LetIn) -> _Question:
    request, kind = let_in.request, let_in.request.action.kind
    assert kind is not None
    asked = request.by_number(let_in.call.at_ms // 1000)

    async def question(live: LiveApplication) -> bytes:
        found = await records_of(
            store,
            live.mailboxes[kind],
            asked.digits,
            sid=asked.sid,
            from_s=asked.from_s,
            to_s=asked.to_s,
            offset=asked.offset,
            count_max=asked.count_max,
        )
        return answers.page(request.version, kind, b",".join(found), let_in.request_id)

    return question


def _counts(said: Callable[[Statistics, str], bytes]) -> Callable[[Store, LetIn], _Question]:
    """What counts some hours, and says it so."""

    def ask(store: Store, let_in: LetIn) -> _Question:
        first_hour, last_hour = let_in.request.hours()

        async def question(live: LiveApplication) -> bytes:
            sdkappid = live.application.sdkappid
            counted = await statistics(store, sdkappid, first_hour, last_hour)
            return said(counted, let_in.request_id)

        return question

    return ask


def _sends(counted: Statistics, request_id: str) -> bytes:
    return answers.sends(*counted.sends(), request_id)


def _receipts(counted: Statistics, request_id: str) -> bytes:
    return answers.receipts(counted.accepted, counted.success, counted.failed, request_id)


_QUESTIONS: Final[Mapping[Subject | None, Callable[[Store, LetIn], _Question]]] = {
    Subject.NUMBER: _of_number,
    Subject.SENDS: _counts(_sends),
    Subject.RECEIPTS: _counts(_receipts),
}
