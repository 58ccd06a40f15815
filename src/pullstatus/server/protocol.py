"""One connection: uvicorn's parser, with the bounds and deadlines it does not have.

| what | bound | answer |
|---|---|---|
| request line | `limits.QUERY_BYTES_MAX` for all of its target | 414 |
| headers | `limits.HEADERS_MAX`, `limits.HEADER_BYTES_MAX` in all | 431 |
| time until headers are complete | `limits.HEADER_DEADLINE_S` | closed |
| time until the body is complete | `limits.BODY_DEADLINE_S` | closed |
| time an answer may lie unread | `limits.ANSWER_DEADLINE_S` | closed |
"""

from __future__ import annotations

import math
from asyncio import AbstractEventLoop, Transport
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from pullstatus import limits


class Protocol(HttpToolsProtocol):
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
        self._head_open = True
        self._head_bytes = 0
        self._refused = False
        self._idle_since = 0.0

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
        elif now - self._idle_since > grace_s and self._deadline == math.inf:
            self.transport.close()

    def hang_up(self) -> None:
        """Close now, with whatever was to be answered unsaid."""
        if self._answering():
            self.cycle.disconnected = True
        self.transport.abort()

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # declared without None, but begins so
        return cycle is not None and not cycle.response_complete

    # -- what the transport and the parser call --------------------------------------------------

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        super().connection_made(transport)
        self._deadline = self.loop.time() + limits.HEADER_DEADLINE_S

    def data_received(self, data: bytes) -> None:
        """Parse, unless the head is over its bounds."""
        super().data_received(data)
        if self._head_open:
            self._head_bytes += len(data)
            if self._head_bytes > limits.HEADER_BYTES_MAX + limits.QUERY_BYTES_MAX:
                self._refuse(431)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {"pullstatus.hang_up": self.hang_up}  # type: ignore[dict-item]
        self._head_open = True
        self._head_bytes = 0
        self._deadline = self.loop.time() + limits.HEADER_DEADLINE_S

    def on_headers_complete(self) -> None:
        """The head is complete: hand the request on if it is within bounds."""
        self._head_open = False
        if len(self.url) > limits.QUERY_BYTES_MAX:
            return self._refuse(414)
        size = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.headers) > limits.HEADERS_MAX or size > limits.HEADER_BYTES_MAX:
            return self._refuse(431)
        if not self.url.startswith(b"/"):
            return self._refuse(404)  # an absolute URI is for proxies
        self._deadline = self.loop.time() + limits.BODY_DEADLINE_S
        super().on_headers_complete()
        if self.draining:
            self.cycle.keep_alive = False
        return None

    def on_body(self, body: bytes) -> None:
        """A piece of the body has come."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete: from here on the wait is ours."""
        self._deadline = math.inf
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer has been written."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def _refuse(self, http_status: int) -> None:
        if not self._refused:
            self._refused = True
            self.transport.write(
                STATUS_LINE[http_status] + b"connection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()
