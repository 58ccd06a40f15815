"""One connection: uvicorn's parser, with the bounds, deadlines and manners it does not have.

| what | bound | answer |
|---|---|---|
| the head of a request | see `head` | 400, 404, 405, 414 or 431 |
| what stands around a chunked body, and how small its chunks are | see `framing` | 431 |
| requests that have no answer yet | `limits.REQUESTS_BEHIND_MAX` | 503 |
| time until headers are complete | `limits.HEADER_DEADLINE_S` | closed |
| time until the body is complete | `limits.BODY_DEADLINE_S` | closed |
| bytes a second of the body | `limits.BODY_BYTES_PER_S_MIN` | closed |
| time between requests | `limits.IDLE_S` | closed |
| time in which nothing is taken of an answer | `limits.ANSWER_DEADLINE_S` | closed |
| bytes a second that are taken of answers | `limits.ANSWER_BYTES_PER_S_MIN` | closed |

What a connection is at, and until when, is in `connection_state`: here the parser's events are
given to it, and what it says is done.

Answers leave in the order of their requests, whatever comes behind them: who sends a good request
and then rubbish, or sends it and says no more, still gets its answer first. An offer to speak
another protocol is passed over. What is refused here, or cut, no call sees: so it is counted and
logged here.

What lies unread is in hand, as what is not answered is. Of whoever is over his part and leaves
answers unread the next answer is the last, since it would lie there as well.

A request that came whole is answered without a task of its own, as far as its answer is known at
once: most of what a small request costs on uvicorn's way is the task, the timer and the messages.
One that came whole in one read, and is a usual one, is not even given to the parser: see `whole`.
While others wait, a small one is not read either, until it is its turn: see `schedule`.
"""

from __future__ import annotations

import select
import traceback
import weakref
from asyncio import AbstractEventLoop, Transport, get_running_loop
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import httptools
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.protocols.utils import is_ssl
from uvicorn.server import ServerState

from pullstatus import limits
from pullstatus.server import eager
from pullstatus.server.arrival import LARGE_BYTES, LOOK_S, Arrival
from pullstatus.server.at_once import BEGUN, Begun, Later, Said
from pullstatus.server.budget import Budget, Over, Owner, Share
from pullstatus.server.connection_state import DEAF, ConnectionState, Effect, Event, Phase
from pullstatus.server.crowd import Seat
from pullstatus.server.figures import Figures
from pullstatus.server.flow import Flow
from pullstatus.server.forwarded import client_of
from pullstatus.server.framing import Framing
from pullstatus.server.head import BEHIND, FULL, TOO_LARGE, Refusal, refusal, unreadable
from pullstatus.server.http import (
    PEER,
    PROBLEM,
    SAYS_NO_MORE_S,
    lines_of,
    named_application,
    new_request_id,
    problem_json,
)
from pullstatus.server.schedule import Schedule
from pullstatus.server.whole import Whole, read_whole
from pullstatus.store import Gone

log = structlog.get_logger(__name__)

# By names that cost nothing to look up, for what every request comes by.
_AT_ONCE, _BEGIN, _HEADERS, _WHOLE = Event.AT_ONCE, Event.BEGIN, Event.HEADERS, Event.WHOLE
_HEAD, _BODY, _REST = Phase.HEAD, Phase.BODY, Phase.REST

# Ends of heads of answers.
_LAST: Final = b"connection: close\r\n\r\n"
_NOT_LAST: Final = b"\r\n"

LARGE_BODY_BYTES: Final = 64 * 1024
"""Of which others are read in turn with it."""

WATCHING = (b"/healthz", b"/readyz", b"/metrics")
"""What is answered on connections beyond the bounds, too."""

AtOnce = Callable[[Whole, tuple[str, int] | None, Gone], Said | Later | Begun | None]
"""See `Routes.at_once`."""

_Pipeline = deque[tuple[RequestResponseCycle, ASGI3Application]]


class _Enough(Exception):
    """Ends the parser: what it was to read is refused already."""


# What a callback of the parser raises for what was sent: a target that is no URL, or no ASCII.
_OF_THE_PEER: Final = (httptools.HttpParserError, UnicodeDecodeError, _Enough)
_SAYS_NO_MORE: Final = getattr(select, "POLLRDHUP", 0)  # Linux's; elsewhere the loop tells


class Connections(ServerState):
    """What uvicorn keeps of a server's connections, and what becomes of them."""

    def __init__(self, figures: Figures) -> None:
        """What is refused or cut is counted in `figures`."""
        super().__init__()
        self.figures = figures


class Connection(HttpToolsProtocol):
    """A connection that cannot be held open for nothing.

    Attributes:
        state: what it is at, and until when; there is one once the transport is there.
        seat: its place among all connections, where there are bounds of how many.
        budget: counts what is in hand; that of all connections.
        schedule: begins requests; that of all connections.
    """

    # Beside those of uvicorn, whose dict has room for no more without growing to twice its size.
    __slots__ = (
        "_answer_at_once",
        "_arrival",
        "_asks_store",
        "_ends_behind",
        "_framing",
        "_head_bytes",
        "_held",
        "_hung_up",
        "_last_words",
        "_network",
        "_on_leave",
        "_parsed",
        "_pipeline",
        "_put_off",
        "_read_at",
        "_read_size",
        "_share",
        "_size",
        "_sizes",
        "_unread_of",
        "_written",
        "budget",
        "schedule",
        "seat",
        "state",
    )
    state: ConnectionState
    server_state: Connections
    seat: Seat | None
    budget: Budget
    schedule: Schedule
    _pipeline: _Pipeline | None

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
        *,
        seat: Seat | None = None,
        budget: Budget | None = None,
        schedule: Schedule | None = None,
        at_once: AtOnce | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.seat = seat
        # Whose part this connection's is; None: it speaks for many.
        self._network = None if seat is None else seat.network
        self.budget = budget or Budget()
        loop = _loop or get_running_loop()
        self.schedule = Schedule(loop) if schedule is None else schedule
        self._answer_at_once = at_once
        self._size = 0  # what the oldest request that is not answered counts for
        self._sizes: list[int] | None = None  # and those behind it; few connections have any
        self._share: Share | None = None  # what the oldest counts in, and all that is behind it
        self._unread_of: tuple[int, Owner | None] = (0, None)  # what lies unread, and of whom
        self._answered: Owner | None = None  # whose the newest answer is, where that is known
        self._framing = Framing()
        self._read_at = 0.0
        self._read_size = 0
        self._head_bytes = (
            0  # of the reads that have brought the head at hand: as many or fewer are the head
        )
        self._written = 0  # bytes of answers
        self._arrival: Arrival | None = None  # of a large answer over TLS
        self._parsed = 0  # bytes of what was read, before an offer to upgrade
        self._last_words = b""
        self._hung_up: select.poll | None = None
        self._on_leave: Callable[[], None] | None = None
        self._held: tuple[RequestResponseCycle, ASGI3Application] | None = None
        self._put_off = b""  # has come, and waits until it is its turn to be read
        self._asks_store = False  # for a request that has no scope
        self._ends_behind = False  # the peer says no more behind what is put off

    @property
    def _own_flow(self) -> Flow:
        return self.flow  # type: ignore[return-value] # uvicorn's is never made

    @property
    def pipeline(self) -> _Pipeline:
        """uvicorn's, of requests behind the one at hand; made with the first of them.

        Few connections ever have one, and without any it takes 760 bytes.
        """
        if self._pipeline is None:
            self._pipeline = deque()
        return self._pipeline

    @pipeline.setter
    def pipeline(self, empty: _Pipeline) -> None:
        self._pipeline = empty or None

    # -- what the server asks ------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Cut it if a deadline has passed; called about once a second with the loop's time."""
        if self.transport.is_closing():
            self.state.on(Event.CLOSE, now)
        if self._on_leave is not None and self._own_flow.read_paused and self._is_gone():
            self._leave()  # what is behind it is not read, so the loop does not say so
        if self._put_off or self._own_flow.put_off:
            return  # the wait is ours
        unread = self._unread()
        self._see_unread(unread)
        passed = self.state.late(
            now, unread=unread, written=self._written, body=self._framing.body_bytes
        )
        if passed is not None:
            self._cut(passed)

    def drain(self, now: float, grace_s: float) -> None:
        """Let the request at hand be answered; close if none has come for `grace_s`."""
        self._read_now()
        if self.state.drain(now, grace_s, unread=self._unread()):
            self.transport.close()
        elif self.state.answering and not self._asks_store:
            self.cycle.keep_alive = False

    def cut(self) -> None:
        """Close now, whatever is unsaid or unread: the server ends."""
        self._cut("DRAIN_DEADLINE_S")

    def gone(self, cycle: RequestResponseCycle) -> bool:
        """Whether the peer of this request has certainly gone; its connection is closed then.

        The kernel knows of a reset before the loop does, which may have been busy meanwhile. A peer
        that has closed cannot be told from one that says no more and listens, until it is answered.
        """
        if not self.transport.is_closing() and self._look_for_a_reset():
            self.hang_up(cycle)
        return bool(cycle.disconnected or self.transport.is_closing())

    def gone_after(self, cycle: RequestResponseCycle, waited_s: float) -> bool:
        """See `http.gone_after`."""
        return self.gone(cycle) or (waited_s >= SAYS_NO_MORE_S and self._has_closed_its_side())

    def _gone_after(self, waited_s: float) -> bool:
        """The same of a request that has no scope."""
        if not self.transport.is_closing() and self._look_for_a_reset():
            self.transport.abort()
        if self.transport.is_closing():
            return True
        return waited_s >= SAYS_NO_MORE_S and self._has_closed_its_side()

    def _look_for_a_reset(self) -> bool:
        if self._hung_up is None:
            self._hung_up = select.poll()
            # Nothing is waited for: a hang-up is told whatever one asks.
            self._hung_up.register(self.transport.get_extra_info("socket").fileno(), 0)
        return bool(self._hung_up.poll(0))

    def leaving(self, cycle: RequestResponseCycle, on_leave: Callable[[], None] | None) -> bool:
        """Whether the peer of this request has gone, or has said that it says no more.

        Args:
            cycle: the request that is to be answered next; its body has been read.
            on_leave: called once, when it does so from now on; instead of what was given before.
        """
        self._on_leave = on_leave
        if on_leave is not None:
            # That may take long, beside many others: what is not needed any more is let go.
            cycle.message_event = _NOBODY_WAITS
            self._hung_up = None
            self._forget(cycle)
        return self.gone(cycle) or self._says_no_more()

    def _is_gone(self) -> bool:
        closing = self.transport.is_closing()
        return closing or self._look_for_a_reset() or self._has_closed_its_side()

    def _says_no_more(self) -> bool:
        return self.state.phase in DEAF or self._has_closed_its_side()

    def _has_closed_its_side(self) -> bool:
        """Whether the peer has; of one that is refused behind this request nobody knows more."""
        if self._ends_behind or (self.state.phase is Phase.ENDED and not self._last_words):
            return True
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), _SAYS_NO_MORE)
        return bool(poll.poll(0))

    def hang_up(self, cycle: RequestResponseCycle) -> None:
        """Close now, with this and whatever else was to be answered unsaid."""
        cycle.disconnected = True
        self.transport.abort()

    def room_for(self, size: int) -> bool:
        """Whether the address has room for so large an answer that needs no key; counts it then.

        Such a one is given in messages, and what lies unread of them is seen at the next look. So
        all of it counts until then.
        """
        if self.transport.is_closing():
            return True  # nothing is written any more, and nobody would give it back
        if self._network is not None and self.budget.used_up(self._network):
            return False
        self._recount(self._unread() + size, self._network)
        return True

    async def respond(
        self, cycle: RequestResponseCycle, http_status: int, headers: bytes, body: bytes
    ) -> None:
        """Write a whole answer at once.

        Through ASGI it would be two messages, each checked header by header and each a system call
        of its own.

        Args:
            cycle: the request to answer.
            http_status: of the answer.
            headers: lines with their ends, but for those about length and connection.
            body: all of it.
        """
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        end = _NOT_LAST if cycle.keep_alive else _LAST
        self._write(http_status, headers, body, end)
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        self._answered = scope[PEER].application
        if self.flow.write_paused:
            self._count_unread(self._answered)
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _write(self, http_status: int, lines: bytes, body: bytes, end: bytes = _NOT_LAST) -> None:
        head = b"%bdate: %b\r\n%bcontent-length: %d\r\n%b" % (
            STATUS_LINE[http_status],
            self._date(),
            lines,
            len(body),
            end,
        )
        answer = head + body
        large = len(answer) > LARGE_BYTES and self.scheme == "https"
        if large:
            if self._arrival is None:
                self._arrival = Arrival(self.transport.get_extra_info("socket"))
            self._arrival.begin(self._written)
        self._written += len(answer)
        self.transport.write(answer)
        if large:
            self._look_for_arrival()

    def _count_unread(self, of: Owner | None) -> None:
        """Have in hand what lies unread: of whom it is for, else of whose part the request is in.

        Where neither is known, as of most refusals, it is the address's.
        """
        if of is None:
            of = self._network if self._share is None else self._share.owner
        self._recount(self._unread(), of)

    def _see_unread(self, unread: int) -> None:
        """Have in hand what lies unread now: of whom it was already, else the newest answer is."""
        counted, owner = self._unread_of
        if unread == counted:
            return
        if not counted:
            owner = self._network if self._answered is None else self._answered
        self._recount(unread, owner)

    def _recount(self, unread: int, owner: Owner | None) -> None:
        """Have so much in hand of what lies unread, instead of what was counted before."""
        counted, of = self._unread_of
        self.budget.take(-counted, of)
        self.budget.take(unread, owner)
        self._unread_of = unread, owner

    def _leaves_unread(self) -> bool:
        """Whether more than a request counts for lay unread when it was counted, and does now.

        Who reads as he asks never does, however many of his answers are on their way.
        """
        return min(self._unread_of[0], self._unread()) > limits.REQUEST_BYTES

    def _date(self) -> bytes:
        """The time as uvicorn keeps it for all connections."""
        return self.server_state.default_headers[0][1]

    def _unread(self) -> int:
        """Bytes of answers that the peer has not taken yet, as far as that is known."""
        lies = self.transport.get_write_buffer_size()
        return lies if self._arrival is None else max(lies, self._arrival.unread(self._written))

    def _look_for_arrival(self) -> None:
        """Write nothing more as long as much has not arrived: over TLS the loop does not say so."""
        arrival = self._arrival
        if arrival is None or arrival.looking or self.transport.is_closing():
            return
        if self._unread() > LARGE_BYTES:
            arrival.looking = True
            self.flow.pause_writing()
            self.loop.call_later(LOOK_S, self._look_again)
        elif self.flow.write_paused:
            self._read_out()
            super().resume_writing()

    def _look_again(self) -> None:
        if self._arrival is not None:
            self._arrival.looking = False
        self._look_for_arrival()

    # -- what the transport and the parser call --------------------------------------------------

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        super().connection_made(transport)
        self.flow = Flow(transport)  # type: ignore[assignment]
        self.state = ConnectionState(self.loop.time())
        if self.scheme == "https":  # where it would pause at eight times as much by itself
            transport.set_write_buffer_limits(high=LARGE_BYTES)

    def data_received(self, data: bytes) -> None:
        """Parse, now or in turn, unless what is no body is over its bounds."""
        if self.state.phase in DEAF:
            return
        self._read_at = self.loop.time()
        if self._asks_store:  # what comes behind is read when that is answered
            self._put_off += data
            self._take(len(data))
            self.flow.pause_reading()
            return
        if self._put_off:
            data = self._taken_up() + data
        elif self.state.resting and self.schedule.busy() and self._may_wait(len(data)):
            self._put_off = data
            self.budget.take(len(data), self._network)
            self.schedule.put_off(self._read_now, self.scope, self.client)
            return
        self._read(data)

    def _may_wait(self, size: int) -> bool:
        """Whether what came may wait for its turn: it is as long as a usual request, or shorter.

        What is small counts for no less when it is read. For more there has to be room.
        """
        return size <= limits.REQUEST_BYTES or (
            size <= limits.USUAL_HEAD_BYTES + limits.USUAL_BODY_BYTES
            and self.budget.full(self._network) is None
        )

    def _read_now(self) -> None:
        """Read what was put off, if that is not done yet, nor all ended since."""
        if self._put_off and not self._asks_store:
            data = self._taken_up()
            if self.state.phase not in DEAF:
                self._read(data)

    def _taken_up(self) -> bytes:
        data, self._put_off = self._put_off, b""
        self._take(-len(data))
        return data

    def _read(self, data: bytes) -> None:
        if self.state.resting and self._at_once(data):
            return
        self._read_size = len(data)
        self._head_bytes += self._read_size
        rest = data
        while not self._feed(rest):
            rest = self._without_upgrade() + rest[self._parsed :]
        if self._held is not None:  # its body is not complete
            super()._start_asgi_task(*self._held)
            self._held = None
        if not self._framing.fits(len(data)):
            self._end(TOO_LARGE)
        elif (
            self._framing.body_bytes > LARGE_BODY_BYTES
            and not self._own_flow.put_off
            and self.state.phase not in DEAF  # of a refused request there is nothing to read on
        ):
            self._own_flow.put_off_reading()
            self.schedule.read_on(self._own_flow.go_on_reading, self.cycle.scope)

    def _at_once(self, data: bytes) -> bool:
        """Answer or begin the request that this is, if it is a usual one; as the parser's does."""
        whole = read_whole(data)
        if whole is None or self.state.draining or (self.seat is not None and self.seat.reserved):
            return False
        self.state.on(_AT_ONCE, self._read_at)
        self._framing.whole()
        size = max(limits.REQUEST_BYTES, len(whole.body))
        self.budget.take(size, self._network)
        over = self.budget.over(self._network)
        if over and size > limits.REQUEST_BYTES:  # a refusal may wait long, and needs none of it
            self.budget.take(limits.REQUEST_BYTES - size, self._network)
            size, whole = limits.REQUEST_BYTES, whole._replace(body=b"")
        path = whole.path.decode("ascii")
        asked = {"path": path, "query_string": whole.query}  # as much of its scope as tells whose
        begun: Begun | None = None
        paused = self.flow.write_paused
        if (
            self._answer_at_once is not None
            and over is None
            and not paused
            and self.schedule.lets_begin(asked)
        ):
            client = self.client
            if whole.forwarded:
                client = client_of(self.app, whole.headers, client)
            said = self._answer_at_once(whole, client, self._gone_after)
            if isinstance(said, tuple):
                self.state.answered(self._read_at)
                self.budget.take(-size, self._network)
                self._write(200, *said)
                if self.flow.write_paused:
                    self._count_unread(named_application(asked))
                return True
            if isinstance(said, Later):
                self._size = size
                eager.run(self.loop, self._say_later(said, path, whole))
                return True
            begun = said
        self._size = size
        cycle = self._begin(path, whole, over, begun)
        if over and self._leaves_unread():
            cycle.keep_alive = False
        self.schedule.begin(cycle.run_asgi, self.app, cycle.scope, self.client)
        return True

    async def _say_later(self, later: Later, path: str, whole: Whole) -> None:
        """Write the answer once the store has given it; what it refuses goes the careful way."""
        self._asks_store = True
        try:
            with Share(self.budget, later.owner, self._size) as self._share:
                said = await later.said
        except Exception as error:  # noqa: BLE001 - it is told there
            later.begun.failed = error
            self._asks_store = False
            cycle = self._begin(path, whole, None, later.begun)
            cycle.disconnected = self.transport.is_closing()
            cycle.keep_alive = not self.state.draining
            eager.run(self.loop, cycle.run_asgi(self.app))
        else:
            self._asks_store = False
            self._say(said, later.owner)
        self._read_now()
        if self._ends_behind:
            self._end()

    def _say(self, said: Said, owner: int) -> None:
        if not self.transport.is_closing():
            self._write(200, *said, _LAST if self.state.draining else _NOT_LAST)
            self._answered = owner
            if self.flow.write_paused:
                self._count_unread(owner)
            if self.state.draining:
                self.transport.close()
        self.on_response_complete()

    def _begin(
        self, path: str, whole: Whole, over: Over | None, begun: Begun | None
    ) -> RequestResponseCycle:
        super().on_message_begin()
        self.headers.extend(whole.headers)
        scope: dict[str, Any] = self.scope  # type: ignore[assignment] # it takes ours, too
        path = scope["root_path"] + path
        scope["method"] = "POST"
        scope["path"], scope["raw_path"] = path, path.encode("ascii")
        scope["query_string"] = whole.query
        if begun is not None:
            scope[BEGUN] = begun
        self.cycle = cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=_NOBODY_WAITS,
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        cycle.body, cycle.more_body = whole.body, False  # type: ignore[assignment]
        scope[PEER] = peer = _Peer(self, cycle)
        peer.body = whole.body
        peer.over = over
        return cycle

    def _feed(self, data: bytes) -> bool:
        """Parse; False if the parser stopped after `_parsed` bytes, at an offer to upgrade."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parsed = upgrade.args[0]
            return self.state.phase in DEAF
        except httptools.HttpParserError as error:
            fault = error.__context__
            if fault is not None and not isinstance(fault, _OF_THE_PEER):
                self._tell(fault)
            self._end(unreadable(str(error)))
        return True

    def _tell(self, fault: BaseException) -> None:
        """Say that what the parser calls failed: a fault of ours, though the peer gets a 400.

        What kind of error and where, not its text: that may quote what was sent.
        """
        where = traceback.extract_tb(fault.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        log.error("request not read", error=type(fault).__name__, at=place)

    def _without_upgrade(self) -> bytes:
        """The head at hand without its offer to speak another protocol, for a new parser.

        The old one skips the body of such a request and refuses to go on.
        """
        version = self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)]
        head += [b"%b: %b\r\n" % pair for pair in self.headers if pair[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        return b"".join(head) + b"\r\n"

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The peer says no more; it may still listen for what it is owed."""
        if is_ssl(self.transport):
            return None  # such a transport can't be half closed
        if self._asks_store and self._put_off:
            self._ends_behind = True
            return True
        self._read_now()
        self._end()
        return True

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.state.on(_BEGIN, self._read_at)
        self._head_bytes = self._read_size

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one that comes behind the body counts as framing and for nothing else."""
        if self.state.phase is _HEAD:
            # As uvicorn's own, without another call for each header of each request.
            name, value = name.lower(), value.rstrip(b" \t")  # blanks around it are no part of it
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete: hand the request on if it is within bounds."""
        if self.state.phase in DEAF:
            return None
        if self.state.owed >= limits.REQUESTS_BEHIND_MAX:
            self._end(BEHIND)
            raise _Enough
        parser = self.parser
        version, method = parser.get_http_version(), parser.get_method()
        refused = refusal(method, self.url, version, self.headers, self._head_bytes)
        if refused is not None:
            return self._end(refused)
        if self.seat is not None and self.seat.reserved and self.url not in WATCHING:
            return self._end(FULL)  # it is here for health and figures only
        if parser.should_upgrade():
            return None  # the parser stops here by itself: see `_feed`
        self.state.on(_HEADERS, self._read_at)
        super().on_headers_complete()
        scope: dict[str, Any] = self.cycle.scope  # type: ignore[assignment] # it takes ours, too
        scope[PEER] = peer = _Peer(self, self.cycle)
        if self._size:
            self._sizes = self._sizes or []
            self._sizes.append(limits.REQUEST_BYTES)
        else:
            self._size = limits.REQUEST_BYTES
        self._take(limits.REQUEST_BYTES)
        peer.over = self.budget.over(self._network)
        if (
            self.state.draining
            or (self.seat is not None and self.seat.reserved)
            or (peer.over and self._leaves_unread())  # what refuses it would lie unread, too
        ):
            self.cycle.keep_alive = False
        return None

    def on_body(self, body: bytes) -> None:
        """A piece of the body has come."""
        self._framing.body(len(body))
        if self.state.phase is _BODY:
            super().on_body(body)
            if self._framing.body_bytes > limits.REQUEST_BYTES:
                self._count(self.cycle, self._framing.body_bytes)

    def on_chunk_header(self) -> None:
        """A piece of a body in chunks begins."""
        if not self._framing.chunk():
            self._end(TOO_LARGE)
            raise _Enough

    def _count(self, cycle: RequestResponseCycle, size: int) -> None:
        """A body has become so large: let it go if there is no room for it."""
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        peer: _Peer = scope[PEER]
        if not peer.over:
            self._resize(size)
            peer.over = self._over()
        if peer.over:
            cycle.body = bytearray()
            self._resize(limits.REQUEST_BYTES)

    def _resize(self, size: int) -> None:
        """Count so much for the newest request."""
        more = size - (self._sizes[-1] if self._sizes else self._size)
        if self._sizes:
            self._sizes[-1] += more
        else:
            self._size += more
        self._take(more)

    def _take(self, size: int) -> None:
        """Have so much more in hand of what has come; less, if it is negative."""
        self.budget.take(size, self._network)
        if self._share is not None:
            self._share.add(size)

    def _over(self) -> Over | None:
        """Whose part is used up, of those that are known of the oldest request."""
        owner = None if self._share is None else self._share.owner
        return self.budget.over(self._network) or self.budget.over(owner)

    def count_in(self, cycle: RequestResponseCycle, share: Share) -> None:
        """Count in this share what has come and comes: the oldest request, and what is behind it.

        Of a connection that is lost nothing is in hand, but the request itself is.
        """
        self._share = share
        share.add(self._in_hand() or max(limits.REQUEST_BYTES, len(cycle.body)))

    def _in_hand(self) -> int:
        return sum(self._sizes or (), self._size) + len(self._put_off)

    def _part(self) -> None:
        """What is behind the oldest request counts in its share no longer: it has been answered."""
        share, self._share = self._share, None
        if share is not None and (self._sizes or self._put_off):
            share.add(self._size - self._in_hand())

    def let_go(self, cycle: RequestResponseCycle) -> None:
        """Forget the body of the request that is to be answered next, if it is whole."""
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        if scope[PEER].body is not None:
            self._forget(cycle)

    def _forget(self, cycle: RequestResponseCycle) -> None:
        """Keep nothing of the body of the request that is to be answered next."""
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        scope[PEER].body = cycle.body = _READ
        if self._size:  # else it is lost
            self._take(limits.REQUEST_BYTES - self._size)
            self._size = limits.REQUEST_BYTES

    def on_message_complete(self) -> None:
        """The request is complete: from here on the wait is ours."""
        phase = self.state.phase
        self.state.on(_WHOLE, self._read_at)
        if phase is not _BODY and phase is not _REST:
            return
        self._framing.whole()
        super().on_message_complete()
        if self._held is not None:
            cycle, app = self._held
            self._held = None
            scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
            scope[PEER].body = cycle.body
            self.schedule.begin(cycle.run_asgi, app, cycle.scope, self.client)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Wait for the end of what was read: the request may be whole by then."""
        self._held = cycle, app

    def on_response_complete(self) -> None:
        """An answer has been written: the next request's turn, or the peer's to send one.

        uvicorn's own would set a timer here for each answer; `sweep` does with the deadline.
        """
        now = self.loop.time()
        self.state.answered(now)
        self._part()
        self.budget.take(-self._size, self._network)
        if self._size > limits.REQUEST_BYTES:
            self._let_body_go()
        self._size = self._sizes.pop(0) if self._sizes else 0
        if self.expect_100_continue and self._unsent():
            self._end()  # the body that was not asked for may never come, or may: nobody can tell
        if self.state.over:
            self._close()
        if self.transport.is_closing():
            self.state.on(Event.CLOSE, now)
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self._pipeline:
            # Not at once: a long pipeline answered from in here would be a deep recursion.
            cycle, app = self._pipeline.pop()
            self.schedule.wait(cycle.run_asgi, app, cycle.scope, self.client)

    def _let_body_go(self) -> None:
        """Keep no large body of what is answered: its cycle stays until the next one comes.

        One with another behind it is not kept anyhow.
        """
        cycle = self.cycle
        if cycle is not None and cycle.response_complete:  # type: ignore[redundant-expr] # or none
            scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
            scope[PEER].body = cycle.body = _READ

    def _unsent(self) -> bool:
        """The request at hand is answered, and nothing of its body has come."""
        return self.state.phase is _REST and not self._framing.body_bytes

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed: whoever waits for that is told."""
        super().connection_lost(exc)
        self._taken_up()
        self._leave()
        self._read_out()
        self._part()
        self.budget.take(-self._in_hand(), self._network)
        self._size, self._sizes = 0, None
        if self.seat is not None:
            self.seat.leave()

    def pause_writing(self) -> None:
        """Much lies unread: it counts from now on, whatever it is an answer to."""
        super().pause_writing()
        self._see_unread(self._unread())

    def resume_writing(self) -> None:
        """What lay unread has been taken; over TLS, by what encrypts it."""
        if self._arrival is not None:
            self._look_for_arrival()
            return
        self._read_out()
        super().resume_writing()

    def _read_out(self) -> None:
        if self._unread_of[0]:
            self._recount(0, None)

    # -- ends ----------------------------------------------------------------------------------

    def _end(self, refused: Refusal | None = None) -> None:
        """Take no more from this peer: answer what is owed, then why, if so, and close."""
        heard = self.state.phase not in DEAF
        wants_body = not self._reads_head()
        effect = self.state.on(Event.END, self.loop.time())
        if refused is not None and heard:
            name = self._note(refused)
            if effect is not None:
                self._last_words = _refusal(refused, name, wants_body=wants_body)
        if effect is Effect.DROP:
            self._drop(self.cycle)
        if self.state.over:
            self._close()
        self._leave()

    def _note(self, refused: Refusal) -> bytes:
        """Count and log a refusal; returns the request's name."""
        self.server_state.figures.refused[refused.http_status] += 1
        name = new_request_id()
        log.info(
            "request refused",
            status=refused.http_status,
            reason=refused.detail,
            request=name,
            **self._whose(),
        )
        return name.encode()

    def _reads_head(self) -> bool:
        """Whether the request at hand is a HEAD, as far as it was read.

        Until its method is read, the parser tells that of the request before.
        """
        phase = self.state.phase
        known = phase is _BODY or (phase is _HEAD and self.url)
        return bool(known) and self.parser.get_method() == b"HEAD"

    def _cut(self, deadline: str) -> None:
        """Close since a deadline of `limits` has passed, whatever is unsaid or unread."""
        self.server_state.figures.cut[deadline] += 1
        if deadline != "IDLE_S" and self.state.phase is not Phase.NEW:
            log.info("connection cut", deadline=deadline, **self._whose())
        self.transport.abort()

    def _whose(self) -> dict[str, str]:
        """The peer's address, as it is on the wire: no proxy has been asked."""
        return {"address": self.client[0]} if self.client else {}

    def _leave(self) -> None:
        on_leave, self._on_leave = self._on_leave, None
        if on_leave is not None:
            on_leave()

    def _drop(self, cycle: RequestResponseCycle) -> None:
        """Forget the request whose body will never be whole.

        If it waits behind others, its turn never comes: the last of them ends the connection.
        """
        cycle.disconnected = True
        cycle.message_event.set()

    def _close(self) -> None:
        self.state.on(Event.CLOSE, self.loop.time())
        if not self.transport.is_closing():
            self.transport.write(self._last_words)
            self.transport.close()


def _refusal(refused: Refusal, name: bytes, *, wants_body: bool) -> bytes:
    http_status, title, detail = refused
    body = problem_json(http_status, title, detail)
    lines = lines_of([PROBLEM, (b"pullstatus-request-id", name), (b"connection", b"close")])
    head = b"%b%bcontent-length: %d\r\n\r\n" % (STATUS_LINE[http_status], lines, len(body))
    return head + body if wants_body else head


class _NobodyWaits:
    """An event for messages that nobody waits for; a true one takes 760 bytes."""

    def set(self) -> None:
        return

    def clear(self) -> None:
        return

    async def wait(self) -> None:
        return


_NOBODY_WAITS: Final[Any] = _NobodyWaits()
_READ: Final = bytearray()  # a body that has been


class _Peer:
    """Who made one request: see `http.Peer`.

    The request is known weakly: it knows this, and such a ring would be left to the garbage
    collector. Whoever answers it keeps it alive.
    """

    __slots__ = ("_connection", "_cycle", "application", "body", "over")

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle: Callable[[], RequestResponseCycle] = weakref.ref(cycle)  # type: ignore[assignment]
        self.body: bytes | bytearray | None = None
        self.over: Over | None = None
        self.application: int | None = None

    def gone(self) -> bool:
        return self._connection.gone(self._cycle())

    def gone_after(self, waited_s: float) -> bool:
        return self._connection.gone_after(self._cycle(), waited_s)

    def count_in(self, share: Share) -> None:
        self._connection.count_in(self._cycle(), share)

    def let_go(self) -> None:
        self._connection.let_go(self._cycle())

    def room_for(self, size: int) -> bool:
        return self._connection.room_for(size)

    def hang_up(self) -> None:
        self._connection.hang_up(self._cycle())

    def leaving(self, on_leave: Callable[[], None] | None) -> bool:
        return self._connection.leaving(self._cycle(), on_leave)

    def respond(self, http_status: int, headers: bytes, body: bytes) -> Awaitable[None]:
        return self._connection.respond(self._cycle(), http_status, headers, body)
