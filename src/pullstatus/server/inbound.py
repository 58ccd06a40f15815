"""The ways in for gateways' own callbacks.

    POST|GET /in/{token}/{source}    of any gateway
    POST /callbacks/{token}          of Tencent, so that its event settings need no other path

    request -> reports -> whose they are -> records in each application, the rest parked -> answer

Once the token is known nothing is refused for what it says: what can be read is stored, what can't,
or is nobody's, is parked, all of it durable before the answer, which is success in the sender's own
words. Each application's part is a commit of its own; if one fails, all of it comes again, and what
was stored is known by its fingerprints.

Of a source whose items are records, those with an application's own token are read as such, whole;
nobody else can own them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial
from http import HTTPStatus
from time import perf_counter
from typing import Final, NamedTuple

import msgspec

from pullstatus import limits
from pullstatus.apps import LiveApplication, Token
from pullstatus.apps.values import NOBODY, source_mark
from pullstatus.errors import MasterKeyMissing, StoreUnavailable
from pullstatus.mailbox import append, parking
from pullstatus.mailbox.names import Heard, Names
from pullstatus.mailbox.owning import Owned, named_together, nationcode_of, owned
from pullstatus.mailbox.pending import CameWith, Item, fits, wait, waits_for
from pullstatus.mailbox.room import Room
from pullstatus.mailbox.traffic import Column, Traffic
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.reading import read, read_records, read_statuses, read_usual
from pullstatus.receipts.reports import (
    Report,
    Reports,
    Whose,
    receipts_in_steps,
    receipts_together,
)
from pullstatus.receipts.request import Request
from pullstatus.receipts.signatures import signs_requests
from pullstatus.receipts.source import Answer, Source, builtin
from pullstatus.records import Kind
from pullstatus.server import eager
from pullstatus.server.at_once import BEGUN, Later, Said
from pullstatus.server.doors import (
    RETRY_LATER,
    BegunBatch,
    Client,
    ParkingDoor,
    Problem,
    address_of,
    check_owner,
)
from pullstatus.server.figures import ITEMS, OTHER
from pullstatus.server.http import (
    INBOUND,
    NO_STORE,
    Headers,
    Receive,
    Scope,
    Send,
    gone_after,
    lines_of,
    share_of,
)
from pullstatus.server.proofs import unproven, unproven_reports
from pullstatus.server.whole import Whole
from pullstatus.steps import Steps
from pullstatus.store import Gone

CALLBACKS: Final = "/callbacks/"
_ANSWER: Final = "pullstatus.answer"  # of a request's scope: what its sender takes for success
_NO_SOURCE: Final = "comes from a source that is not known: `pullstatus source list` says which are"
# A sender takes 404 for the end of it.
_GONE: Final = "it was made for an application that is deleted; make one with `token create`"


class _Part(NamedTuple):
    """What of a request is one application's, of one kind."""

    live: LiveApplication
    receipts: Receipts

    @property
    def items(self) -> int:
        """Records, and what could not be read."""
        return len(self.receipts.entries) + len(self.receipts.unread)


class _Came(NamedTuple):
    """A request, and what is known of it by the time that it is kept.

    Attributes:
        name: of its source, as the path has it.
        source: None: there is none of that name.
        own: the token's application; None: it is a platform's.
        names: of sends, as they are heard of for it.
    """

    scope: Scope
    token: Token
    name: str
    source: Source | None
    request: Request
    own: LiveApplication | None
    names: Names


class _Became(msgspec.Struct, gc=False):
    """How many items of a request became what, in the words of `figures.ITEMS`."""

    stored: int = 0
    parked: int = 0
    repeat: int = 0
    intermediate: int = 0
    dropped: int = 0
    pending: int = 0

    @property
    def new(self) -> int:
        """Of those that were kept, how many had not come before."""
        return self.stored + self.parked + self.pending


class InboundDoor(ParkingDoor):
    """The door of all sources: the token in the path says who sends, the name what it speaks.

    Attributes:
        public_url: where gateways find the server, which signatures are over.
        traffic: what is counted of each token; to be set before anything comes.
    """

    name = "in"
    signed = True
    methods: tuple[str, ...] = ("POST", "GET")
    public_url = ""
    traffic: Traffic

    def at_once(self, whole: Whole, client: Client, gone: Gone) -> Later | None:
        """A POST of a usual callback, handed to the store; None: it is not, or there is no room.

        Args:
            client: where it came from.
            gone: whether the peer has.
        """
        began_s = perf_counter()
        now_ms = self._now_ms()
        body = whole.body
        secret, name = self._address(whole.path.decode("ascii"))
        token = self._registry.token(secret, now_ms)
        live = None if token is None else self._registry.applications.get(token.sdkappid or 0)
        source = self._registry.sources.get(name)
        said = dict(reversed(whole.headers))
        if (
            token is None
            or token.signature is not None
            or live is None
            or source is None
            or source.answer.status != HTTPStatus.OK
            or not token.feeds(live.application)
            or len(body) > limits.USUAL_BODY_BYTES
            or said.get(b"content-encoding", b"identity") != b"identity"
            or self._budget.full(token.sdkappid)
        ):
            return None
        request = Request(
            method="POST",
            query=whole.query,
            content_type=said.get(b"content-type", b"").decode("latin-1"),
            body=body,
            arrived_s=now_ms // 1000,
        )
        receipts = self._read_usual(source, request, live.application.sdkappid)
        if receipts is None or receipts.unread or not receipts.entries:
            return None
        self._note_use(token, now_ms, client)
        begun = BegunBatch(
            began_s=began_s, token=token, live=live, receipts=receipts, body=body, source=source
        )
        return Later(self._store_usual(begun, gone), begun, live.application.sdkappid)

    def _read_usual(self, source: Source, request: Request, sdkappid: int) -> Receipts | None:
        """What it comes to, if that is known without asking anybody."""
        if source.records:
            return self._slices.in_one(read_records(request))
        if self._used.known(sdkappid, self._now_ms()) is not False:
            return None
        return read_usual(source, request, nationcode_of(Kind.DELIVERY_STATUS, source))

    async def _read_named(
        self, source: Source, request: Request, own: LiveApplication, names: Names
    ) -> Receipts | None:
        """The same where sends are registered; None: some may have to wait."""
        statuses = read_statuses(source, request)
        if statuses is None:
            return None
        try:
            statuses = await named_together(names, statuses, own)
        except StoreUnavailable as error:
            raise self._put_off(error) from error
        if statuses is None:
            return None
        nationcode = nationcode_of(Kind.DELIVERY_STATUS, source)
        return receipts_together(source.name, statuses, nationcode, request.arrived_s)

    async def _store_usual(self, begun: BegunBatch, gone: Gone) -> Said:
        """The answer to a callback that was handed over; raises what the store does.

        Raises:
            TimeoutError: the store has had its time; what it does yet is `begun.storing`.
        """
        loop = asyncio.get_running_loop()
        begun.storing = storing = eager.begin(loop, self._append(begun.live, begun, gone))
        woken = loop.create_future()
        wake = partial(_wake, woken)
        timer = loop.call_later(limits.CALLBACK_ANSWER_S, wake)
        storing.add_done_callback(wake)
        await woken
        timer.cancel()
        if not storing.done():
            raise TimeoutError
        return self._answered(begun, storing.result())

    def _answered(self, begun: BegunBatch, new: int) -> Said:
        super()._answered(begun, new)
        repeat = len(begun.receipts.entries) - new
        self._tally(begun.token, begun.source, _Became(stored=new, repeat=repeat))
        _, *said = _answer(begun.source, {begun.receipts.kind})
        headers, body = _said(*said)
        return lines_of(headers), body

    def _success(self, scope: Scope, _count: int) -> tuple[int, Headers, bytes]:
        http_status, *said = scope[_ANSWER]
        return http_status, *_said(*said)

    def _accepted(self, _count: int) -> bytes:
        return b""  # each source says it in its own words

    def _refusal(self, problem: Problem, scope: Scope) -> dict[str, object]:
        _, name = self._address(scope["path"])
        source = self._registry.sources.get(name)
        beside = {} if source is None else source.answer.refused(problem.detail)
        return {**problem.members, **beside}

    def _address(self, path: str) -> tuple[str, str]:
        """The secret of the token, and the name of the source."""
        secret, _, name = path.removeprefix(INBOUND).partition("/")
        return secret, name

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> int:
        begun: BegunBatch | None = scope.pop(BEGUN, None)  # the scope outlives the answer
        if begun is not None:
            with share_of(scope, self._budget, begun.live.application.sdkappid):
                return await self._go_on(begun, scope, send)
        secret, name = self._address(scope["path"])
        token = await self._sender(scope, secret)
        with self._share(scope, _owner(token)):
            try:
                return await self._take_of(token, name, scope, receive, send)
            except Problem as problem:
                if problem.http_status < 500 and name in self._registry.sources:
                    self.traffic.add(token, name, self._now_ms(), {Column.REFUSED: 1})
                raise

    async def _go_on(self, begun: BegunBatch, scope: Scope, send: Send) -> int:
        """What becomes of a callback that the store did not take at once, or not in time."""
        scope["pullstatus.token"] = begun.token
        scope[_ANSWER] = _answer(begun.source, {begun.receipts.kind})
        failed, storing = begun.failed, begun.storing
        if storing is not None and not storing.done():
            failed = None
            self._answer_late(scope, send)
        else:
            storing = None
        gone = partial(gone_after, scope)

        async def put(live: LiveApplication) -> int:
            nonlocal storing
            late, storing = storing, None
            return await (late or self._append(live, begun, gone))

        new = await self._put(begun.live, begun.receipts, put, failed)
        count = len(begun.receipts.entries)
        self._tally(begun.token, begun.source, _Became(stored=new, repeat=count - new))
        return count

    async def _take_of(
        self, token: Token, name: str, scope: Scope, receive: Receive, send: Send
    ) -> int:
        body = await self._body(scope, receive, self.methods, encoded=True)
        request = self._request(scope, body)
        timer = self._answer_in_time(scope, send)
        try:
            source = await self._source(name)
            token = await self._prove(token, scope, partial(self._fault, source, scope, body))
            own = await self._own(token)
            names, receipts = Heard(self._store), None
            itemwise = source is not None and _is_proven_itemwise(token, source)
            if own is not None and source is not None and not itemwise:
                receipts = await self._records(source, request, own, names)
            if own is not None and source is not None and receipts is not None:
                scope[_ANSWER] = _answer(source, {receipts.kind})
                came = _Came(scope, token, name, source, request, own, names)
                return await self._keep_records(came, _Part(own, receipts))
            reports = await self._reports(source, request, token)
            if source is not None and itemwise:
                fault = partial(self._fault_of_reports, source, reports)
                token = await self._prove(token, scope, fault)
            scope[_ANSWER] = _answer(source, {report.kind for report in reports.reports})
            return await self._keep(_Came(scope, token, name, source, request, own, names), reports)
        finally:
            timer.cancel()

    async def _prove(
        self, token: Token, scope: Scope, fault: Callable[[Token], str | None]
    ) -> Token:
        """Refuse what the token's gateway did not sign, if it signs; nothing of it is stored.

        Who knows the token's path and not its key gets nothing in as another gateway either.

        Returns:
            the token as it is now.
        """
        known = self._registry.tokens.get(token.digest)
        if known is not None and not known.good(self._now_ms()):
            known = None
        wrong = None if known is None else fault(known)
        if known is not None and wrong is None:
            return known
        await self._look()  # a command may have just set another key, or revoked it
        secret, _ = self._address(scope["path"])
        found = await self._sender(scope, secret)
        if found != known:  # else it is as wrong as it was, and to prove that takes a while
            wrong = fault(found)
        if wrong is not None:
            raise Problem(401, "Wrong signature", wrong)
        return found

    def _fault(self, source: Source | None, scope: Scope, body: bytes, token: Token) -> str | None:
        if token.signature is None:
            return None
        if source is None or not source.signature:
            return "requests under this token are signed; this source signs none"
        if token.signature.scheme not in ("", source.signature):
            return "requests under this token are signed as another gateway signs"
        if not signs_requests(source.signature):  # what is read of it is proven, and no record is
            return "a source of records must sign each request" if source.records else None
        return unproven(scope, body, source.signature, self._key(token), self.public_url)

    def _fault_of_reports(self, source: Source, reports: Reports, token: Token) -> str | None:
        if token.signature is None:
            return None
        scheme = source.signature
        receipts = token.signature.scheme == scheme
        return unproven_reports(reports, scheme, self._key(token), receipts=receipts)

    def _key(self, token: Token) -> str:
        """What a token's gateway signs with; "", with which nothing is signed: it is not there."""
        try:
            return self._registry.signature_key(token) or ""
        except MasterKeyMissing as error:
            detail = "what it is signed with cannot be opened; nothing was stored"
            raise Problem(503, "Cannot store now", detail, headers=RETRY_LATER) from error

    async def _source(self, name: str) -> Source | None:
        """One of ours, or that an operator has added, be it just now; None: there is none."""
        if name not in self._registry.sources:
            await self._look()
        return self._registry.sources.get(name)

    async def _own(self, token: Token) -> LiveApplication | None:
        """The token's application; None: it is a platform's."""
        if token.sdkappid is None:
            return None
        try:
            live = await self._application(token.sdkappid)
        except Problem as problem:
            if problem.http_status != 404:
                raise
            raise Problem(403, "Token of another application", _GONE) from problem
        check_owner(token, live)
        return live

    def _lost(self, current: LiveApplication | None) -> Problem:
        """It comes again, and is whose it is then: a sender takes 404 for the end of it."""
        became = "deleted" if current is None else "another owner's"
        cause = StoreUnavailable(f"an application is {became} since it began")
        problem = self._put_off(cause)
        problem.__cause__ = cause
        return problem

    async def _reports(self, source: Source | None, request: Request, token: Token) -> Reports:
        if source is None:
            return Reports([], (Unread(request.body or request.query, _NO_SOURCE),))
        long = len(request.body) > limits.USUAL_BODY_BYTES
        return await self._slices.do(read(source, request), _owner(token), long=long)

    async def _records(
        self, source: Source, request: Request, own: LiveApplication, names: Names
    ) -> Receipts | None:
        """The records of an application, if it is known that what was sent is all its own."""
        sdkappid = own.application.sdkappid
        long = len(request.body) > limits.USUAL_BODY_BYTES
        if not source.records:
            if long or request.method != "POST":
                return None
            if await self._is_named(sdkappid, self._now_ms()):
                return await self._read_named(source, request, own, names)
            return self._read_usual(source, request, sdkappid)
        return await self._slices.do(read_records(request), sdkappid, long=long)

    async def _keep_records(self, came: _Came, part: _Part) -> int:
        """Store and park records of an application; returns how many there were."""
        became = _Became()
        [part] = _bounded([part], came.request)
        await self._keep_part(came, part, became)
        became.repeat = part.items - became.new
        self._tally(came.token, came.source, became)
        return len(part.receipts.entries)

    async def _keep_part(self, came: _Came, part: _Part, became: _Became) -> None:
        """Store and park a part; what is new of it is added to what `became` of all."""
        live, receipts = part
        if receipts.unread:
            new = await self._park(came.scope, came.token, live, came.request, receipts, came.name)
            became.stored += new.records
            became.parked += new.items
        elif receipts.entries:
            put = partial(self._store_records, receipts, came.token, came.scope)
            became.stored += await self._put(live, receipts, put)

    async def _keep(self, came: _Came, reports: Reports) -> int:
        """Store and park all of it; returns how many records it had."""
        became = _Became(intermediate=sum(report.passes for report in reports.reports))
        unread = list(reports.unread)
        parts: list[_Part] = []
        put_aside = 0
        if came.source is not None and reports.reports:
            told: Sequence[Report] = reports.reports
            owns = await self._owned(came, came.source, told)
            became.dropped = sum(
                each.dropped and not report.passes for report, each in zip(told, owns, strict=True)
            )
            aside, became.pending = await self._put_aside(came, came.source, told, owns)
            if aside:
                put_aside = len(aside)
                rest = [place for place in range(len(owns)) if place not in aside]
                told, owns = [told[each] for each in rest], [owns[each] for each in rest]
            unread += _nobodys(told, owns)
            long = len(came.request.body) > limits.USUAL_BODY_BYTES
            steps = _parts(told, owns, came.source, came.request.arrived_s)
            parts = await self._slices.do(steps, _owner(came.token), long=long)
        if unread:
            receipts = Receipts(Kind.DELIVERY_STATUS, [], [], unread=tuple(unread))
            if came.own is None:
                parts.insert(0, _Part(parking.NOBODYS, receipts))
            else:
                parts.append(_Part(came.own, receipts))
        parts = _bounded(parts, came.request)
        for part in parts:
            await self._keep_part(came, part, became)
        became.repeat = put_aside + sum(part.items for part in parts) - became.new
        self._tally(came.token, came.source, became)
        return put_aside + sum(len(part.receipts.entries) for part in parts)

    async def _put_aside(
        self, came: _Came, source: Source, reports: Sequence[Report], owns: Sequence[Owned]
    ) -> tuple[set[int], int]:
        """Put aside what waits for its name or for other parts.

        What nothing says of whose it is waits with number 0, for a name alone.

        Returns:
            the places of these; and how many of them are new.
        """
        now_ms = self._now_ms()
        found: dict[int, dict[int, Item]] = {}
        numbers = {_number(each) for each in owns if each.live is not None or each.unmatched}
        naming = {number: await self._is_named(number or None, now_ms) for number in numbers}
        if not (
            any(naming.values())
            or any(each.name for each in owns)
            or any(report.part for report in reports)
        ):
            return set(), 0
        asked = _came_with(came)
        left = parking.most_apart(came.request) // 2  # each may have it twice
        for place, (report, each) in enumerate(zip(reports, owns, strict=True)):
            if not left:
                break
            if each.live is None and (not each.unmatched or report.kind is Kind.REPLY):
                continue
            sdkappid = _number(each)
            is_owned = each.live is not None
            if waits_for(report, each.name, named=naming[sdkappid], is_owned=is_owned):
                left -= 1
                item = Item(
                    source=source.name,
                    token=came.token.name,
                    at_ms=now_ms,
                    report=report,
                    whose=each.whose if each.live else Whose(nationcode_of(report.kind, source)),
                    owner=each.live.application.owner if each.live else "",
                    name=each.name,
                    unowned=None if each.live else _park_later(came, report, each, now_ms),
                    asked=asked,
                )
                if fits(item):
                    found.setdefault(sdkappid, {})[place] = item
        aside: set[int] = set()
        new = 0
        for sdkappid, items in found.items():
            room = await self._room_of(sdkappid, came.token, len(items), now_ms)
            places = [*items][:room]
            live = owns[next(iter(items))].live or parking.NOBODYS
            if places:
                some = [items[place] for place in places]
                new += await self._put(live, None, partial(self._wait, some, came))
                aside.update(places)
        return aside, new

    async def _is_named(self, sdkappid: int | None, now_ms: int) -> bool:
        try:
            return await self._used.by(sdkappid, now_ms)
        except StoreUnavailable as error:
            raise self._put_off(error) from error

    @cached_property
    def _room(self) -> Room:
        return Room(self._store)

    async def _room_of(self, sdkappid: int, token: Token, wanted: int, now_ms: int) -> int:
        try:
            return await self._room.of(sdkappid, token.name, wanted, now_ms)
        except StoreUnavailable as error:
            raise self._put_off(error) from error

    async def _wait(self, items: Sequence[Item], came: _Came, live: LiveApplication) -> int:
        done = await wait(
            self._store,
            live,
            items,
            sender=came.token.name,
            now_ms=self._now_ms(),
            ticket=self._tickets(),
            gone=partial(gone_after, came.scope),
        )
        return done.items

    def _tally(self, token: Token, source: Source | None, became: _Became) -> None:
        known = OTHER if source is None or source.name not in builtin() else source.name
        items = self._figures.source_items
        for what in ITEMS:
            if count := getattr(became, what):
                items[known, what] += count
        if source is not None:
            now_ms = self._now_ms()
            if became.stored or became.pending:
                self._registry.used[source_mark(token, source.name)] = (now_ms, "")
            counts = {
                Column.STORED: became.stored,
                Column.REPEATS: became.repeat,
                Column.PARKED: became.parked,
            }
            self.traffic.add(token, source.name, now_ms, counts)

    async def _owned(
        self, came: _Came, source: Source, reports: Sequence[Report]
    ) -> Sequence[Owned]:
        named = await self._is_named(came.token.sdkappid, self._now_ms())
        try:
            return await owned(
                came.names,
                self._registry,
                reports,
                token=came.token.name,
                source=source,
                own=came.own,
                named=named,
            )
        except StoreUnavailable as error:
            raise self._put_off(error) from error

    async def _store_records(
        self, receipts: Receipts, token: Token, scope: Scope, live: LiveApplication
    ) -> int:
        return await append(
            self._store,
            live,
            receipts,
            sender=token.name,
            now_ms=self._now_ms(),
            ticket=self._tickets(),
            gone=partial(gone_after, scope),
        )


class CallbackDoor(InboundDoor):
    """The same for Tencent's callbacks to the path that is theirs alone; never a platform's."""

    name = "callbacks"
    signed = False
    methods = ("POST",)

    def _address(self, path: str) -> tuple[str, str]:
        return path.removeprefix(CALLBACKS), _TENCENT

    async def _sender(self, scope: Scope, secret: str) -> Token:
        token = await super()._sender(scope, secret)
        if token.sdkappid is None:
            raise Problem(
                403,
                "Token without application",
                "a callback needs a token made with `token create NAME --sdkappid N`",
            )
        return token


_TENCENT: Final = "tencent"


def _answer(source: Source | None, kinds: Collection[Kind]) -> tuple[int, str, str]:
    """Status, content type and body of a success, where there were these."""
    answer = Answer() if source is None else source.answer
    if {*kinds} == {Kind.REPLY} and answer.reply is not None:
        return answer.status, answer.reply_type or answer.content_type, answer.reply
    return answer.status, answer.content_type, answer.body


def _said(content_type: str, body: str) -> tuple[Headers, bytes]:
    headers: Headers = [NO_STORE]
    if body:
        headers.insert(0, (b"content-type", content_type.encode()))
    return headers, body.encode()


def _number(each: Owned) -> int:
    """Of whose application a report is; 0: nobody's yet."""
    return NOBODY if each.live is None else each.live.application.sdkappid


def _came_with(came: _Came) -> CameWith:
    request = came.request
    return CameWith(address_of(came.scope), request.method, request.query, request.content_type)


def _park_later(came: _Came, report: Report, each: Owned, now_ms: int) -> parking.Item:
    """What is parked of a report if nobody's it stays."""
    return parking.item_of(
        _nobodys_of(report, each),
        form=came.name,
        request=came.request,
        address=address_of(came.scope),
        sender=came.token.name,
        now_ms=now_ms,
    )


def _nobodys_of(report: Report, each: Owned) -> Unread:
    return Unread(report.raw, each.why, None, report.kind, report.index)


def _nobodys(reports: Sequence[Report], owns: Sequence[Owned]) -> list[Unread]:
    return [
        _nobodys_of(report, each)
        for report, each in zip(reports, owns, strict=True)
        if each.live is None and not each.dropped and not report.passes
    ]


def _bounded(parts: list[_Part], request: Request) -> list[_Part]:
    """The same, with what could not be read in a few items where it would be too much apart."""
    items = sum(len(part.receipts.unread) for part in parts)
    if items < 2 or items <= parking.most_apart(request):
        return parts
    return [
        part._replace(
            receipts=msgspec.structs.replace(
                part.receipts, unread=parking.gathered(part.receipts.unread)
            )
        )
        for part in parts
    ]


def _parts(
    reports: Sequence[Report], owns: Sequence[Owned], source: Source, arrived_s: int
) -> Steps[list[_Part]]:
    """The records of each application and kind, in the order of the first of each."""
    found: dict[tuple[int, Kind], list[tuple[Report, Owned]]] = {}
    for report, each in zip(reports, owns, strict=True):
        if each.live is not None and not report.passes:
            key = (each.live.application.sdkappid, report.kind)
            found.setdefault(key, []).append((report, each))
    parts = []
    for (_, kind), some in found.items():
        live = some[0][1].live
        assert live is not None
        pairs = [(report, each.whose) for report, each in some]
        receipts = yield from receipts_in_steps(kind, source.name, pairs, arrived_s)
        parts.append(_Part(live, receipts))
    return parts


def _is_proven_itemwise(token: Token, source: Source) -> bool:
    """Whether what is read of a request has to be proven, since the request is not."""
    return token.signature is not None and not signs_requests(source.signature)


def _owner(token: Token) -> int:
    """Whose part of what may be in hand, and of turns, it uses: a platform's token has its own.

    Its number is below 0, as that of no application.
    """
    return -int(token.digest[:12], 16) if token.sdkappid is None else token.sdkappid


def _wake(waits: asyncio.Future[None], _: object = None) -> None:
    if not waits.done():
        waits.set_result(None)
