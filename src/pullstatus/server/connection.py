"""One connection: uvicorn's parser, with the bounds, deadlines and manners it does not have.

| what | bound | answer |
|---|---|---|
| request line | `limits.QUERY_BYTES_MAX` for all of its target | 414 |
| headers | `limits.HEADERS_MAX`, `limits.HEADER_BYTES_MAX` in all | 431 |
| what stands around a chunked body | the same, and `FRAMING_MAX` bytes for each of the body | 431 |
| time until headers are complete | `limits.HEADER_DEADLINE_S` | closed |
| time until the body is complete | `limits.BODY_DEADLINE_S` | closed |
| time between requests | `limits.IDLE_S` | closed |
| time an answer may lie unread | `limits.ANSWER_DEADLINE_S` | closed |

Answers leave in the order of their requests, whatever comes behind them: who sends a good request
and then rubbish, or sends it and says no more, still gets its answer first. An offer to speak
another protocol is passed over.

A request that came whole is answered without a task of its own, as far as its answer is known at
once: most of what a small request costs on uvicorn's way is the task, the timer and the messages.
"""

from __future__ import annotations

import functools
import math
import select
from asyncio import AbstractEventLoop, Future, Transport
from collections.abc import Coroutine
from typing import Any

import httptools
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

FAREWELL_S = 3.0  # on stopping: how long the end of TLS waits for the peer's, who may be asleep
FRAMING_MAX = 16  # a body in chunks of one byte has five bytes of framing for each


class Connection(HttpToolsProtocol):
    """A connection that cannot be held open for nothing.

    Attributes:
        draining: the server is stopping: the next answer is the connection's last.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.draining = False
        self._deadline = math.inf
        self._unread_since = math.inf
        self._idle_since = 0.0
        self._begun = False  # a request has begun and is not complete
        self._head_open = True
        self._body_bytes = 0
        self._framing_bytes = 0  # of the request at hand, outside its body, as far as known
        self._completed = 0
        self._owed = 0  # requests that were handed on and have no whole answer yet
        self._ending = False  # nothing more is taken from this peer
        self._last_words = b""
        self._parsed = 0
        self._hung_up = select.poll()
        self._held: tuple[RequestResponseCycle, ASGI3Application] | None = None

    # -- what the server asks ------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Close if a deadline has passed; called about once a second with the loop's time."""
        unread = bool(self.transport.get_write_buffer_size())
        self._unread_since = min(self._unread_since, now) if unread else math.inf
        if now > self._deadline or now - self._unread_since > limits.ANSWER_DEADLINE_S:
            self.transport.abort()

    def drain(self, now: float, grace_s: float) -> None:
        """Let the request at hand be answered; close if none has come for `grace_s`."""
        self.draining = True
        if self._answering():
            self.cycle.keep_alive = False
        elif not self._begun and now - self._idle_since > grace_s:
            self.transport.close()
            if not self.transport.get_write_buffer_size():
                self._deadline = min(self._deadline, now + FAREWELL_S)

    def cut(self) -> None:
        """Close now, whatever is unsaid or unread."""
        self.transport.abort()

    def gone(self, cycle: RequestResponseCycle) -> bool:
        """Whether the peer of this request has certainly gone; its connection is closed then.

        The kernel knows of a reset before the loop does, which may have been busy meanwhile. A peer
        that has closed cannot be told from one that says no more and listens, until it is answered.
        """
        if self._hung_up.poll(0) and not self.transport.is_closing():
            self.hang_up(cycle)
        return bool(cycle.disconnected or self.transport.is_closing())

    def hang_up(self, cycle: RequestResponseCycle) -> None:
        """Close now, with this and whatever else was to be answered unsaid."""
        cycle.disconnected = True
        self.transport.abort()

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
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        head = b"%bdate: %b\r\n%bcontent-length: %d\r\n%b" % (
            STATUS_LINE[http_status],
            self._date(),
            headers,
            len(body),
            end,
        )
        self.transport.write(head + body)
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        # They know the cycle, which knows them: a ring that only the garbage collector would find.
        cycle.scope["extensions"].clear()

    def _date(self) -> bytes:
        """The time as uvicorn keeps it for all connections."""
        return self.server_state.default_headers[0][1]

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # declared without None, but begins so
        return cycle is not None and not cycle.response_complete

    # -- what the transport and the parser call --------------------------------------------------

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        super().connection_made(transport)
        # Nothing is waited for: a hang-up is told whatever one asks.
        self._hung_up.register(transport.get_extra_info("socket").fileno(), 0)
        self._idle_since = self.loop.time()
        self._deadline = self._idle_since + limits.HEADER_DEADLINE_S

    def data_received(self, data: bytes) -> None:
        """Parse, unless what is no body is over its bounds."""
        if self._ending:
            return
        completed, body_bytes = self._completed, self._body_bytes
        while not self._feed(data):
            data = self._without_upgrade() + data[self._parsed :]
        if self._held is not None:  # its body is not complete
            super()._start_asgi_task(*self._held)
            self._held = None
        if self._completed != completed:
            # Nobody says where in `data` the request at hand began: count from the next read on.
            self._framing_bytes = 0
            return
        self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
        bytes_max = limits.HEADER_BYTES_MAX + limits.QUERY_BYTES_MAX
        if self._framing_bytes > bytes_max + FRAMING_MAX * self._body_bytes:
            self._end(431)

    def _feed(self, data: bytes) -> bool:
        """Parse; False if the parser stopped after `_parsed` bytes, at an offer to upgrade."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parsed = upgrade.args[0]
            return self._ending
        except httptools.HttpParserError:
            self._end(400)
        return True

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
        self._end()
        return True

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._begun = self._head_open = True
        self._body_bytes = self._framing_bytes = 0
        self._deadline = self.loop.time() + limits.HEADER_DEADLINE_S

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one that comes behind the body counts as framing and for nothing else."""
        if self._head_open:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete: hand the request on if it is within bounds."""
        if self._ending or self.transport.is_closing():
            return None
        if len(self.url) > limits.QUERY_BYTES_MAX:
            return self._end(414)
        size = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.headers) > limits.HEADERS_MAX or size > limits.HEADER_BYTES_MAX:
            return self._end(431)
        if not self.url.startswith(b"/"):
            return self._end(404)  # an absolute URI is for proxies
        if self.parser.get_method() == b"CONNECT":
            return self._end(405)
        if self.parser.should_upgrade():
            return None  # the parser stops here by itself: see `_feed`
        self._head_open = False
        self._deadline = self.loop.time() + limits.BODY_DEADLINE_S
        super().on_headers_complete()
        self._owed += 1
        cycle = self.cycle
        extensions: dict[str, Any] = {
            "pullstatus.gone": functools.partial(self.gone, cycle),
            "pullstatus.hang_up": functools.partial(self.hang_up, cycle),
            "pullstatus.respond": functools.partial(self.respond, cycle),
        }
        cycle.scope["extensions"] = extensions
        if self.draining:
            self.cycle.keep_alive = False
        return None

    def on_body(self, body: bytes) -> None:
        """A piece of the body has come."""
        self._body_bytes += len(body)
        if not self._ending and not self._head_open:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete: from here on the wait is ours."""
        if self._ending or self._head_open:
            return
        self._begun = False
        self._completed += 1
        self._body_bytes = 0
        self._deadline = math.inf
        super().on_message_complete()
        if self._held is not None:
            cycle, app = self._held
            self._held = None
            extensions: dict[str, Any] = cycle.scope["extensions"]
            extensions["pullstatus.body"] = cycle.body
            self._step(cycle.run_asgi(app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Wait for the end of what was read: the request may be whole by then."""
        self._held = cycle, app

    def _step(self, answering: Coroutine[Any, Any, None], _: object = None) -> None:
        """Go on answering until there is something to wait for: what a task does, and no more."""
        try:
            awaited: Future[Any] | None = answering.send(None)
        except StopIteration:
            return
        go_on = functools.partial(self._step, answering)
        if awaited is None:  # it only lets others go first
            self.loop.call_soon(go_on)
        else:
            awaited._asyncio_future_blocking = False  # noqa: SLF001 - as whoever drives one must
            awaited.add_done_callback(go_on)

    def on_response_complete(self) -> None:
        """An answer has been written: the next request's turn, or the peer's to send one.

        uvicorn's own would set a timer here for each answer; `sweep` does with the deadline.
        """
        now = self._idle_since = self.loop.time()
        self._owed -= 1
        if self._ending and not self._owed:
            self._close()
        if self.expect_100_continue and self._unsent():
            self._end()  # the body that was not asked for may never come, or may: nobody can tell
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            # In a task: a long pipeline answered from in here would be a deep recursion.
            super()._start_asgi_task(*self.pipeline.pop())
        elif not self._begun:
            self._deadline = now + limits.IDLE_S

    def _unsent(self) -> bool:
        """The request at hand is answered, and nothing of its body has come."""
        waits = self._begun and not self._head_open and not self._body_bytes
        return waits and self.cycle.response_complete

    # -- ends ----------------------------------------------------------------------------------

    def _end(self, http_status: int | None = None) -> None:
        """Take no more from this peer: answer what is owed, then say `http_status`, and close."""
        if self._ending:
            return
        self._ending = True
        self._deadline = math.inf
        if http_status is not None:
            self._last_words = (
                STATUS_LINE[http_status] + b"connection: close\r\ncontent-length: 0\r\n\r\n"
            )
        if self._begun and not self._head_open:
            self._drop_incomplete()
        if not self._owed:
            self._close()

    def _drop_incomplete(self) -> None:
        """Forget the request whose body will never be whole."""
        cycle = self.cycle
        if cycle.response_complete:
            self._last_words = b""  # it was answered before its end, and gets no second answer
            return
        self._owed -= 1
        cycle.disconnected = True
        cycle.message_event.set()
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._last_words)
            self.transport.close()
