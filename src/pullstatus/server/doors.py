"""What all ways in share: a request is read, stored, answered, and told where it fails.

What is accepted is durable before the answer leaves. `ingest` is the door of batches, `inbound` has
those of callbacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Final, TypeVar

import structlog

from pullstatus import limits, mailbox
from pullstatus.apps import LiveApplication, Registry, Token
from pullstatus.apps.values import token_mark
from pullstatus.errors import (
    BodyTooLarge,
    CallerGone,
    InvalidRecord,
    KeyReused,
    OutcomeUnknown,
    Overloaded,
    SettingChanged,
    StoreCorrupt,
    StoreUnavailable,
)
from pullstatus.mailbox import parking
from pullstatus.mailbox.pending import Used
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.request import Request
from pullstatus.receipts.source import Source
from pullstatus.server import eager, http
from pullstatus.server.at_once import Begun, Said
from pullstatus.server.budget import SAID, Budget, Share
from pullstatus.server.deadline import Within
from pullstatus.server.figures import Figures
from pullstatus.server.guesses import Guesses
from pullstatus.server.http import (
    INTERNAL_ERROR,
    JSON,
    METHOD_NOT_ALLOWED,
    NO_STORE,
    Disconnected,
    Headers,
    Receive,
    Scope,
    Send,
    gone,
    gone_after,
    hang_up,
    header,
    lines_of,
    logged,
    read_body,
    request_id_header,
    respond,
    respond_problem,
    share_of,
    whose,
)
from pullstatus.server.pauses import Shed
from pullstatus.server.slices import Slices
from pullstatus.store import Gone, PutAside, Store

log = structlog.get_logger(__name__)

LATE = "pullstatus.late"
"""Of a request's scope: when it was put off because the store had not answered, by perf_counter."""

_PUT_OFF: Final = "pullstatus.put_off"
"""Of the same scope: the end of saying so."""

RETRY_LATER: Headers = [(b"retry-after", b"%d" % limits.RETRY_AFTER_S)]

T = TypeVar("T")

Client = tuple[str, int] | None
"""Where a request came from."""

Put = Callable[[LiveApplication], Awaitable[T]]
"""Stores something for the application as it is known now."""

_SAID: Final = lines_of([JSON, NO_STORE])


class Problem(Exception):
    """A refusal on its way to the peer, as RFC 9457 says it."""

    def __init__(
        self,
        http_status: int,
        title: str,
        detail: str,
        *,
        headers: Headers | None = None,
        members: dict[str, object] | None = None,
    ) -> None:
        super().__init__(title)
        self.http_status = http_status
        self.title = title
        self.detail = detail
        self.headers = headers or []
        self.members = members or {}


class BegunBatch(Begun):
    """A batch that was read and may be stored.

    Attributes:
        key: its Idempotency-Key.
        source: what said it, of a callback.
        storing: the end of what the store was asked, where that is not waited for.
    """

    token: Token
    live: LiveApplication
    receipts: Receipts
    body: bytes
    key: str | None = None
    source: Source | None = None
    storing: asyncio.Future[int] | None = None


class Door:
    """What both ways in share: read, append, answer, and say what went wrong."""

    name: str
    signed = False
    """Whether it takes tokens of gateways that sign, with the proof: others know none of them."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        figures: Figures,
        guesses: Guesses,
        budget: Budget,
        slices: Slices,
        shed: Shed,
        used: Used,
        *,
        now_ms: Callable[[], int],
        tickets: Callable[[], bytes],
    ) -> None:
        self._store = store
        self._shed = shed
        self._slices = slices
        self._guesses = guesses
        self._registry = registry
        self._figures = figures
        self._budget = budget
        self._now_ms = now_ms
        self._tickets = tickets
        self._used = used

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; hang up when the outcome is not known."""
        await self._do(scope, receive, send)
        if LATE in scope:  # a request that ends before its answer is written gets a 500 behind it
            await scope[_PUT_OFF]

    async def _do(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            count = await self._take(scope, receive, send)
        except Disconnected:
            self._drop(scope)
        except Exception as error:  # noqa: BLE001 - logged with its trace
            await self._fail(error, scope, send)
        else:
            if LATE in scope:
                log.warning("batch stored late", door=self.name, records=count, **whose(scope))
                return
            http_status, headers, body = self._success(scope, count)
            self._figures.batches[self.name, 200] += 1
            if logged(scope):
                headers.append(request_id_header(scope))
            await respond(scope, send, http_status, headers, body)

    async def _fail(self, error: Exception, scope: Scope, send: Send) -> None:
        """Say that it failed: to the peer, unless that has been answered, and to the log."""
        if isinstance(error, OutcomeUnknown):
            if LATE in scope:  # which said as much
                return
            reason = "the outcome of its commit is unknown"
            log.error("batch not answered", door=self.name, reason=reason, **whose(scope))
            self._figures.unanswered[self.name] += 1
            hang_up(scope)
            return
        if isinstance(error, Problem):
            problem = error
        elif isinstance(error, CallerGone):
            if LATE not in scope and gone(scope):
                self._drop(scope)
                return
            problem = self._put_off(error)
            problem.__cause__ = error
        else:
            problem = Problem(500, INTERNAL_ERROR, "nothing was stored; send it again")
            problem.__cause__ = error
        if LATE in scope:
            self._tell_refused(problem, scope)
        else:
            await self._refuse(problem, scope, send)

    def _drop(self, scope: Scope) -> None:
        self._figures.batches_dropped[self.name] += 1
        hang_up(scope)  # as with a pull

    async def _refuse(self, problem: Problem, scope: Scope, send: Send) -> None:
        self._figures.batches[self.name, problem.http_status] += 1
        self._tell_refused(problem, scope)
        if problem.http_status == 401:
            await self._guesses.failed(scope, "token")
        elif isinstance(problem.__cause__, Overloaded):
            await self._shed.shed(scope)
        await respond_problem(
            scope,
            send,
            problem.http_status,
            problem.title,
            problem.detail,
            headers=[*problem.headers, request_id_header(scope)],
            **self._refusal(problem, scope),
        )

    def _tell_refused(self, problem: Problem, scope: Scope) -> None:
        told = {"door": self.name, "status": problem.http_status, "reason": problem.title}
        cause = problem.__cause__
        if isinstance(cause, InvalidRecord):
            told |= {"member": cause.member, "index": cause.index}
        if problem.http_status == 500:
            log.error("batch failed", **told, **whose(scope), exc_info=cause)
        elif problem.http_status == 503:
            log.warning("batch put off", **told, cause=str(cause), **whose(scope))
        else:
            log.info("batch refused", **told, **whose(scope))

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> int:
        raise NotImplementedError

    def _success(self, _scope: Scope, count: int) -> tuple[int, Headers, bytes]:
        """The answer to so many records."""
        return 200, [JSON, NO_STORE], self._accepted(count)

    def _accepted(self, count: int) -> bytes:
        raise NotImplementedError

    def _refusal(self, problem: Problem, _scope: Scope) -> dict[str, object]:
        return problem.members

    async def _body(
        self,
        scope: Scope,
        receive: Receive,
        methods: tuple[str, ...] = ("POST",),
        *,
        encoded: bool = False,
    ) -> bytes:
        if scope["method"] not in methods:
            allowed = [(b"allow", ", ".join(methods).encode())]
            detail = f"send a {' or a '.join(methods)}"
            raise Problem(405, METHOD_NOT_ALLOWED, detail, headers=allowed)
        if not encoded and header(scope, b"content-encoding") not in (None, b"identity"):
            raise Problem(
                415, "Unsupported Content-Encoding", "send the body without Content-Encoding"
            )
        try:
            return await read_body(scope, receive, limits.INGEST_BODY_BYTES_MAX)
        except Overloaded as error:
            raise self._put_off(error) from error
        except BodyTooLarge as error:
            raise Problem(413, "Body too large", str(error)) from error

    def _share(self, scope: Scope, owner: int) -> Share:
        """A request's share of its owner's part, if that is not used up."""
        over = self._budget.over(owner)
        if over:
            overloaded = Overloaded(SAID[over])
            raise self._put_off(overloaded) from overloaded
        return share_of(scope, self._budget, owner)

    async def _token(self, scope: Scope, secret: str) -> Token | None:
        now_ms = self._now_ms()
        token = self._known(secret, now_ms)
        if token is None:
            await self._look()
            token = self._known(secret, now_ms)
        if token is not None:
            self._note_use(token, now_ms, scope.get("client"))
        scope["pullstatus.token"] = token
        return token

    def _known(self, secret: str, now_ms: int) -> Token | None:
        token = self._registry.token(secret, now_ms)
        return token if token is None or token.signature is None or self.signed else None

    def _note_use(self, token: Token, now_ms: int, client: Client) -> None:
        self._registry.used[token_mark(token)] = (now_ms, http.address_of(client))

    async def _application(self, sdkappid: int) -> LiveApplication:
        if sdkappid not in self._registry.applications:
            await self._look(sdkappid)
        live = self._registry.applications.get(sdkappid)
        if live is None:
            raise no_application()
        return live

    async def _look(self, sdkappid: int | None = None) -> None:
        """See whether what is not known exists, or a command has just made it."""
        try:
            looking = self._registry.look(sdkappid, patiently=True)
            await Within(limits.CALLBACK_ANSWER_S, looking)
        except StoreUnavailable as error:
            raise self._put_off(error) from error
        except TimeoutError as error:
            silent = StoreUnavailable("the store does not answer")
            raise self._put_off(silent) from error

    async def _put(
        self,
        live: LiveApplication,
        receipts: Receipts | None,
        put: Put[T],
        failed: Exception | None = None,
    ) -> T:
        """Have `put` store receipts; returns what it does, and says what went wrong if it did.

        Args:
            receipts: to be counted once they are; None: it is something else.
            failed: what the store said, if it was asked already.
        """
        try:
            answer = await self._put_current(live, put, failed)
        except KeyReused as error:
            raise Problem(422, "Idempotency-Key reused", str(error)) from error
        except (Problem, CallerGone, OutcomeUnknown):
            raise
        except StoreUnavailable as error:
            raise self._put_off(error) from error
        except StoreCorrupt as error:
            raise Problem(
                500, INTERNAL_ERROR, "the store is damaged; nothing was stored"
            ) from error
        except Exception as error:
            raise Problem(
                500,
                INTERNAL_ERROR,
                "whether it was stored is not known: send it again, a callback as it is, a batch"
                " with the same Idempotency-Key",
            ) from error
        if receipts is not None:
            self._count(receipts)
        return answer

    def _count(self, receipts: Receipts) -> None:
        self._figures.records_in[receipts.kind] += len(receipts.entries)
        self._figures.repaired[receipts.kind] += receipts.repaired

    def _append(self, live: LiveApplication, begun: BegunBatch, gone: Gone) -> Awaitable[int]:
        return mailbox.append(
            self._store,
            live,
            begun.receipts,
            sender=begun.token.name,
            now_ms=self._now_ms(),
            ticket=self._tickets(),
            key=begun.key,
            body=begun.body,
            gone=gone,
        )

    def _answered(self, begun: BegunBatch, new: int) -> Said:  # noqa: ARG002 - of callbacks it is told
        """The answer to what was stored at the first try, counted."""
        self._count(begun.receipts)
        self._figures.batches[self.name, 200] += 1
        self._figures.seconds[self.name].add(perf_counter() - begun.began_s)
        return _SAID, self._accepted(len(begun.receipts.entries))

    async def _put_current(self, live: LiveApplication, put: Put[T], failed: Exception | None) -> T:
        """Store for the application as it is in the commit, however often it is changed."""
        for tries_left in reversed(range(limits.OVERTAKEN_MAX)):
            try:
                if failed is not None:
                    raise failed
                return await put(live)
            except SettingChanged:
                if not tries_left:
                    raise
            failed = None
            await self._look()
            current = self._registry.applications.get(live.application.sdkappid)
            if current is None or current.application.owner != live.application.owner:
                raise self._lost(current)  # the number's new owner is not who this was sent to
            live = current
        raise AssertionError

    def _lost(self, current: LiveApplication | None) -> Problem:
        """What is said where an application is deleted, or another owner's, since it was asked for.

        Args:
            current: whose number it is now; None: nobody's.
        """
        return no_application() if current is None else another_owner()

    def _put_off(self, error: StoreUnavailable) -> Problem:
        return Problem(
            503,
            "Cannot store now",
            f"{error.for_callers}; nothing was stored",
            headers=RETRY_LATER,
        )


class ParkingDoor(Door):
    """What both ways for callbacks share: nothing is refused for what it says, and none waits long.

    The sender's token stands in the path.
    """

    async def _sender(self, scope: Scope, secret: str) -> Token:
        token = await self._token(scope, secret)
        if token is None:
            raise Problem(
                401, "Unknown token", "no token has this secret; it may be revoked, or have expired"
            )
        return token

    def _request(self, scope: Scope, body: bytes) -> Request:
        return Request(
            method=scope["method"],
            query=scope["query_string"],
            content_type=content_type_of(scope),
            body=body,
            arrived_s=self._now_ms() // 1000,
            content_encoding=(header(scope, b"content-encoding") or b"").decode("latin-1"),
        )

    def _answer_in_time(self, scope: Scope, send: Send) -> asyncio.TimerHandle:
        """Have it be put off once the store has had its time; to be cancelled when it is done."""
        return asyncio.get_running_loop().call_later(
            limits.CALLBACK_ANSWER_S, self._answer_late, scope, send
        )

    def _answer_late(self, scope: Scope, send: Send) -> None:
        """Put it off: the store has had its time. What it does yet is not cancelled, and counts."""
        scope[LATE] = perf_counter()
        problem = Problem(
            503,
            "Cannot store now",
            "the store does not answer, and whether it was stored is not known: send it again,"
            " it is stored once",
            headers=RETRY_LATER,
        )
        problem.__cause__ = StoreUnavailable(f"no commit within {limits.CALLBACK_ANSWER_S:g} s")
        saying = self._refuse(problem, scope, send)
        scope[_PUT_OFF] = eager.begin(asyncio.get_running_loop(), saying)

    async def _park(
        self,
        scope: Scope,
        token: Token,
        live: LiveApplication,
        request: Request,
        receipts: Receipts,
        form: str,
    ) -> PutAside:
        """Store what could be read, and park what could not; returns how much of it is new."""
        done = await self._put(
            live,
            receipts,
            lambda live: parking.park(
                self._store,
                live,
                receipts,
                form=form,
                request=request,
                address=address_of(scope),
                sender=token.name,
                now_ms=self._now_ms(),
                ticket=self._tickets(),
                gone=partial(gone_after, scope),
            ),
        )
        self._tell(scope, receipts.unread, done.expired)
        return done

    def _tell(self, scope: Scope, unread: Sequence[Unread], expired: int) -> None:
        """Say that items were parked: somebody should look at them."""
        first = unread[0]
        self._figures.parked += len(unread)
        log.warning(
            "items parked",
            door=self.name,
            items=len(unread),
            member=first.member,
            index=first.index,
            reason=first.reason,
            **whose(scope),
        )
        if expired:
            reason = "no more may wait"
            log.warning("parked items expired", items=expired, reason=reason, **whose(scope))


def address_of(scope: Scope) -> str:
    """Where a request came from, as it is kept with what is parked of it."""
    return str(whose(scope).get("address", ""))


def check_owner(token: Token, live: LiveApplication) -> None:
    """Refuse a token that was made for a former owner of the application's number."""
    if not token.feeds(live.application):
        raise Problem(
            403,
            "Token of another application",
            "it was made for an application that is deleted; its number is another one's now",
        )


def no_application() -> Problem:
    """What is said where the number is no application's."""
    return Problem(
        404,
        "Unknown application",
        "no application has this sdkappid; create it with `pullstatus app create`",
    )


def another_owner() -> Problem:
    """What is said where the number has another owner than the last request knew.

    Nobody can tell which of the two this one was sent to: it may have begun before the change.
    """
    return Problem(
        404,
        "Unknown application",
        "the sdkappid has just been given to another owner, and nothing was stored; send it again"
        " if it is for that one",
    )


def content_type_of(scope: Scope) -> str:
    """What a request says that its body is; "": nothing."""
    return (header(scope, b"content-type") or b"").decode("latin-1")
