"""`POST /v5/tlssmssvr/pullstatus`: the checks in their order, then the page.

Every outcome is HTTP 200 with a `result`: the published clients lose the code under any other
status. An error answer consumes nothing. Source of the order: protocol.md section 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from time import perf_counter

import msgspec
import structlog

from pullstatus import limits, mailbox
from pullstatus.apps import LiveApplication
from pullstatus.apps.admission import Admission, Call
from pullstatus.errors import (
    AcknowledgementRefused,
    CallerGone,
    KeyReused,
    NotAdmitted,
    OutcomeUnknown,
    Overloaded,
    PullstatusError,
    Refused,
    ReplayRefused,
    SettingChanged,
    SignatureWrong,
    StoreCorrupt,
    StoreUnavailable,
    TooManyReaders,
    UnknownApplication,
)
from pullstatus.mailbox.held import Held
from pullstatus.mailbox.repeats import NEVER, Repeat
from pullstatus.records import Kind
from pullstatus.server.at_once import BEGUN, Begun, Later, Said
from pullstatus.server.budget import SAID, Budget
from pullstatus.server.figures import Figures
from pullstatus.server.guesses import Guesses
from pullstatus.server.head import Header
from pullstatus.server.http import (
    HELD_S,
    JSON,
    NO_STORE,
    PEER,
    Disconnected,
    Headers,
    Peer,
    Receive,
    Scope,
    Send,
    address_of_peer,
    gone,
    gone_after,
    hang_up,
    leaving,
    lines_of,
    read_body,
    request_id_header,
    respond,
    whose,
    within,
)
from pullstatus.server.pauses import Shed
from pullstatus.server.words import ACK_REFUSED, read_repeat, read_wait
from pullstatus.store import Gone, Mailbox, Once, Page, Store, pull_id
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
WAIT = b"pullstatus-wait"
ENCODING = b"content-encoding"
HEARD = frozenset((*REPEATS, WAIT, ENCODING))

_TRIES = {int(Result.SIG_MISMATCH): "signature", int(Result.UNKNOWN_SDKAPPID): "application"}

_Answer = tuple[Page, Headers, bytes]
"""What was taken, and how that is said."""

_NOTHING_WAITS = (b"pullstatus-waiting", b"0")
_EMPTY: Mapping[Kind, Said] = {
    kind: (lines_of([JSON, NO_STORE, _NOTHING_WAITS]), answer.success(kind, 0, b""))
    for kind in Kind
}


class _Asked(msgspec.Struct):
    """A pull that was let in: what the store is asked, once or until it has something.

    Attributes:
        wait_s: for how long.
        came_ms: when the request came.
        now_ms: when the store is asked.
        known: the store knows the signature already, from this very request.
        failed: what the store said, if it has been asked already and that is not told yet.
    """

    request: PullRequest
    address: str
    live: LiveApplication
    kind: Kind
    count_max: int
    repeat: Repeat
    wait_s: int
    came_ms: int
    now_ms: int
    known: bool = False
    failed: Exception | None = None

    def again(self, now_ms: int) -> None:
        """The store has been asked and had nothing: what the next time is not to say again."""
        self.now_ms = now_ms
        self.known = self.known or self.live.application.strict
        self.repeat = self.repeat.acknowledged()


class BegunPull(Begun):
    """A pull as far as it goes without waiting for anybody.

    Attributes:
        asked: it was let in.
        error: it was refused; by admission, if there is a `call`, which then is to look anew.
    """

    asked: _Asked | None = None
    error: PullstatusError | None = None
    request: PullRequest | None = None
    call: Call | None = None


class PullCall:
    """The call as an ASGI application."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        held: Held,
        figures: Figures,
        guesses: Guesses,
        budget: Budget,
        shed: Shed,
        *,
        now_ms: Callable[[], int],
        tickets: Callable[[], bytes],
    ) -> None:
        self._store = store
        self._shed = shed
        self._admission = admission
        self._guesses = guesses
        self._held = held
        self._figures = figures
        self._budget = budget
        self._now_ms = now_ms
        self._tickets = tickets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; hang up when the outcome is not known."""
        headers = [JSON, NO_STORE]
        result = 0
        try:
            asked = await self._admit(scope, receive)
            hold = self._hold if asked.wait_s else self._ask
            _, told, body = await hold(asked, scope)
            headers += [*told, *_heard(asked.repeat)]
        except ANSWERED as error:
            refused = refusal(error)
            result, errmsg = int(refused.result), refused.errmsg
            if isinstance(error, StoreUnavailable):
                errmsg += "; nothing was consumed"
            body = answer.failure(result, errmsg)
            log.info("pull refused", result=result, reason=errmsg, **whose(scope))
            headers.append(request_id_header(scope))
            if result in _TRIES and not isinstance(error, ReplayRefused):
                await self._guesses.failed(scope, _TRIES[result])
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
        except Exception:  # before the store was asked: see `_hand_out`
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
        if asked is None or asked.wait_s or self._budget.full(asked.request.sdkappid):
            return begun
        if (
            asked.repeat is NEVER
            and not asked.live.application.strict
            and self._store.surely_empty(asked.live.mailboxes[asked.kind])
        ):
            self._answered(began_s)
            return _EMPTY[asked.kind]
        return begun if gone(0.0) else Later(self._take(asked, began_s, gone), begun)

    async def _take(self, asked: _Asked, began_s: float, gone: Gone) -> Said:
        """The answer to a pull that was let in and does not wait; raises what the store does."""
        sdkappid = asked.request.sdkappid
        self._budget.share(sdkappid, limits.REQUEST_BYTES)
        try:
            page = await self._asking(asked, gone)
        finally:
            self._budget.share(sdkappid, -limits.REQUEST_BYTES)
        told, body = self._success(asked.live, asked.kind, page)
        self._answered(began_s)
        return lines_of([JSON, NO_STORE, *told, *_heard(asked.repeat)]), body

    def _answered(self, began_s: float) -> None:
        self._figures.pulls[0] += 1
        self._figures.seconds["pull"].add(perf_counter() - began_s)

    def _asking(self, asked: _Asked, gone: Gone) -> Awaitable[Page]:
        return mailbox.pull(
            self._store,
            asked.live,
            asked.kind,
            asked.count_max,
            address=asked.address,
            proof=asked.request.proof,
            once=_once(asked),
            repeat=asked.repeat,
            now_ms=asked.now_ms,
            ticket=self._tickets(),
            gone=gone,
        )

    async def _admit(self, scope: Scope, receive: Receive) -> _Asked:
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
        peer: Peer | None = scope.get(PEER)
        if peer is not None:
            peer.application = asked.request.sdkappid
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
        call = _call(request, address, self._now_ms())
        try:
            live = self._admission.check(call)
        except (UnknownApplication, NotAdmitted):
            return BegunPull(began_s=began_s, request=request, call=call)
        return BegunPull(began_s=began_s, asked=self._let_in(request, call, live, words))

    def _let_in(
        self, request: PullRequest, call: Call, live: LiveApplication, words: Mapping[bytes, str]
    ) -> _Asked:
        self._figures.replays.note(request.sdkappid, request.sig)
        kind, count_max = request.page()
        repeat = _repeat(words, live.mailboxes[kind], self._store.epoch)
        said_s = _wait_s(words, live)
        wait_s = said_s if repeat.takes else 0
        return _Asked(
            request, call.address, live, kind, count_max, repeat, wait_s, call.at_ms, call.at_ms
        )

    async def _ask(self, asked: _Asked, scope: Scope) -> _Answer:
        """Put a pull to the store: again, as the application is now, when a change overtook it."""
        for _ in range(limits.OVERTAKEN_MAX):
            live = asked.live
            if asked.failed is not None:
                asking: Awaitable[Page] = _raise(asked.failed)
                asked.failed = None
            else:
                if gone(scope):
                    raise Disconnected
                over = self._budget.over(live.application.sdkappid)
                if over:
                    raise Overloaded(SAID[over])
                asking = self._asking(asked, partial(gone_after, scope))
            try:
                self._budget.share(live.application.sdkappid, limits.REQUEST_BYTES)
                return await self._hand_out(live, asked.kind, asking, scope)
            except SettingChanged:
                call = _call(asked.request, asked.address, asked.came_ms)
                asked.live = await self._admission.admit_anew(call)
            finally:
                self._budget.share(live.application.sdkappid, -limits.REQUEST_BYTES)
        raise Refused(
            Result.OTHER, "this application is being changed; nothing was consumed, try again"
        )

    async def _hold(self, asked: _Asked, scope: Scope) -> _Answer:
        """The same, but an empty page is an answer only when nothing came for `wait_s` seconds.

        Or when the peer says no more, who may still listen, or the server stops. A peer that has
        gone is not asked for, so nothing is taken then.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + asked.wait_s
        held_s = 0.0
        try:
            with self._held.enter(asked.live.mailboxes[asked.kind]) as place:
                while True:
                    answered = await self._ask(asked, scope)
                    page = answered[0]
                    if page.count or page.waiting:
                        place.leaves_some = page.waiting > 0
                        break
                    began_s = loop.time()
                    scope["headers"].clear()  # they are read, and many others may wait beside
                    for unused in ("asgi", "state"):
                        scope.pop(unused, None)
                    if leaving(scope, place.end):
                        place.end()
                    woken = await place.sleep(until_s)
                    held_s += loop.time() - began_s
                    left = leaving(scope, None)
                    if gone(scope):
                        raise Disconnected
                    if left or not woken:
                        break
                    asked.again(self._now_ms())
        except ANSWERED:
            raise
        except (Disconnected, OutcomeUnknown):
            raise
        except Exception as error:
            raise OutcomeUnknown("an error that nobody foresaw in waiting for a page") from error
        scope[HELD_S] = held_s
        return answered

    async def _hand_out(
        self, live: LiveApplication, kind: Kind, asking: Awaitable[Page], scope: Scope
    ) -> _Answer:
        """The answer with what the store hands out.

        Raises:
            Refused, KeyReused, AcknowledgementRefused, TooManyReaders, ReplayRefused,
                StoreUnavailable: nothing was consumed.
            Disconnected: nor then; the peer went while this waited for the store.
            SettingChanged: nor then; the application is not as `live` knows it.
            OutcomeUnknown: something may have been, and that is all that can be said after an
                error which nobody foresaw once the store was asked.
        """
        try:
            page = await asking
            return page, *self._success(live, kind, page)
        except CallerGone as error:
            if gone(scope):
                raise Disconnected from error
            raise
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

    def _success(self, live: LiveApplication, kind: Kind, page: Page) -> tuple[Headers, bytes]:
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


def _call(request: PullRequest, address: str, now_ms: int) -> Call:
    """What admission wants to know of a pull (checks 9 to 16)."""

    def proof(appkeys: Sequence[str]) -> int:
        place = fitting(request.sig, appkeys, request.random, request.time_text)
        if place is None:
            raise SignatureWrong(SIGNATURE_WRONG)
        check_time(request, now_ms // 1000)
        return place

    return Call(request.sdkappid, address, proof, request.time, now_ms, pulls=True)


def _words(headers: Sequence[Header]) -> Mapping[bytes, str]:
    """What the headers say that a pull hears; of one that is there twice the first counts.

    One look at the headers finds that none is there, as with every client but those of our own.

    Raises:
        Refused: the body is encoded.
    """
    found = [pair for pair in headers if pair[0] in HEARD]
    words = {bytes(name): bytes(value).decode("latin-1") for name, value in reversed(found)}
    if words.get(ENCODING, "identity") != "identity":
        raise Refused(Result.BAD_HTTP, "send the body without Content-Encoding")
    return words


def _repeat(words: Mapping[bytes, str], queue: Mailbox, epoch: int) -> Repeat:
    """How the page can be had again (check 18)."""
    return read_repeat(queue, epoch, *map(words.get, REPEATS)) if words else NEVER


def _heard(repeat: Repeat) -> Headers:
    """By this a client sees that its headers were heard."""
    if repeat.reader is None:
        return []
    return [(b"pullstatus-reader", repeat.reader.name.encode())]


async def _raise(error: Exception) -> Page:
    raise error


def _wait_s(words: Mapping[bytes, str], live: LiveApplication) -> int:
    """For how long this pull waits for a record, in seconds (check 18)."""
    said = words.get(WAIT)
    return live.application.wait_s if said is None else read_wait(said)


def _once(asked: _Asked) -> Once | None:
    """The signature, until it is refused as too old in any case, where it comes once only."""
    if asked.known or not asked.live.application.strict:
        return None
    request = asked.request
    return Once(request.nonce, (request.time + limits.SIGNATURE_KEPT_S) * 1000)
