"""Connections on which an answer is due at some time, however it trickles.

httpx has a timeout for each read, so bytes that come one by one, or `100 Continue` again and again,
would hold a caller for ever. Here a whole head may take as long as one read may, from the request
on. So may all of the answer, unless whoever reads its body gives it more time, by `due`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import anyio.lowlevel
import httpx

if TYPE_CHECKING:  # httpx brings it, and says which one
    import ssl

    import httpcore

__all__ = ["AsyncTransport", "Transport", "by_httpcore", "due", "is_ours"]


def due(response: httpx.Response, at_s: float) -> None:
    """Let reads of this answer end then, by the monotonic clock; of a transport of ours only."""
    line = response.extensions.get("network_stream")
    if isinstance(line, _Deadline):
        line.at_s = at_s


class _Deadline:
    """When reads end.

    Attributes:
        at_s: by the monotonic clock; None: the next read says, by its timeout.
    """

    def __init__(self, connect_s: float | None) -> None:
        self.at_s: float | None = None
        self._connect_s = connect_s

    def left(self, timeout_s: float | None) -> float | None:
        """Seconds that a read may take.

        Raises:
            httpx.ReadTimeout: none are left.
        """
        if timeout_s is None:  # of the greeting of a SOCKS proxy, which is a part of connecting
            timeout_s = self._connect_s
        if timeout_s is None:
            return None
        now_s = time.monotonic()
        if self.at_s is None:
            self.at_s = now_s + timeout_s
        if self.at_s <= now_s:
            raise httpx.ReadTimeout("no whole answer came in time")
        return min(timeout_s, self.at_s - now_s)


class _Line(_Deadline):
    """A connection; what is asked next has a deadline of its own."""

    def __init__(self, stream: httpcore.NetworkStream, connect_s: float | None) -> None:
        super().__init__(connect_s)
        self._stream = stream
        self.close, self.get_extra_info = stream.close, stream.get_extra_info

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.at_s = None
        self._stream.write(buffer, timeout)

    # Not by keywords alone: behind a proxy httpcore hands them on by their places.
    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> _Line:
        return _Line(self._stream.start_tls(ssl_context, server_hostname, timeout), timeout)


class _AsyncLine(_Deadline):
    def __init__(self, stream: httpcore.AsyncNetworkStream, connect_s: float | None) -> None:
        super().__init__(connect_s)
        self._stream = stream
        self.aclose, self.get_extra_info = stream.aclose, stream.get_extra_info

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._stream.read(max_bytes, self.left(timeout))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self.at_s = None
        await self._stream.write(buffer, timeout)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> _AsyncLine:
        async with _closed_if_cancelled(self._stream):
            stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
            return _AsyncLine(stream, timeout)


@contextlib.asynccontextmanager
async def _closed_if_cancelled(stream: httpcore.AsyncNetworkStream) -> AsyncIterator[None]:
    """Close a connection that is not made yet: httpcore does so behind an `Exception` only.

    A cancellation that has yet to come comes here. At the next place where it may, the connection
    is in the pool, and not in use: it would stay so.
    """
    try:
        yield
        await anyio.lowlevel.checkpoint_if_cancelled()
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await stream.aclose()
        raise


class _Lines:
    """What opens connections."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend
        self.sleep = backend.sleep

    def connect_tcp(self, **options: Any) -> _Line:  # noqa: ANN401
        return _Line(self._backend.connect_tcp(**options), options.get("timeout"))


class _AsyncLines:
    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        self._backend = backend
        self.sleep = backend.sleep

    async def connect_tcp(self, **options: Any) -> _AsyncLine:  # noqa: ANN401
        stream = await self._backend.connect_tcp(**options)
        async with _closed_if_cancelled(stream):
            return _AsyncLine(stream, options.get("timeout"))


# As many as there are calls at a time: one that had to wait for a place would look like an outage.
# httpcore closes an idle one if there are more connections in all than may be idle.
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=100)


class Transport(httpx.HTTPTransport):
    """That of httpx, over such connections. httpx hands no backend on, so it is exchanged."""

    def __init__(self, *, verify: ssl.SSLContext | bool, proxy: str | None = None) -> None:
        super().__init__(verify=verify, proxy=proxy, trust_env=False, limits=_LIMITS)
        pool: Any = self._pool
        pool._network_backend = _Lines(pool._network_backend)  # noqa: SLF001
        # Theirs is taken in a function of Python's: a signal's exception that comes at its end
        # leaves it held, and their own cleaning up waits for it. A handler may pull, too.
        pool._optional_thread_lock = threading.RLock()  # noqa: SLF001

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """That of httpx; a tunnel in which TLS failed is no connection of the pool any more."""
        try:
            return super().handle_request(request)
        except httpx.TransportError:  # no other: behind a signal's exception the lock may be held
            pool: Any = self._pool
            with pool._optional_thread_lock:  # noqa: SLF001
                left = _left_over(pool)
            for one in left:
                one.close()
            raise


class AsyncTransport(httpx.AsyncHTTPTransport):
    """The same with await."""

    def __init__(self, *, verify: ssl.SSLContext | bool, proxy: str | None = None) -> None:
        super().__init__(verify=verify, proxy=proxy, trust_env=False, limits=_LIMITS)
        pool: Any = self._pool
        pool._network_backend = _AsyncLines(pool._network_backend)  # noqa: SLF001

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """That of httpx; a tunnel in which TLS failed or was cancelled leaves the pool as well."""
        try:
            return await super().handle_async_request(request)
        except BaseException:
            with anyio.CancelScope(shield=True):
                for left in _left_over(self._pool):
                    await left.aclose()
            raise


def _left_over(pool: Any) -> list[Any]:  # noqa: ANN401 - httpcore's own
    """Take connections out of a pool that look as if they were in use, and are not.

    httpcore leaves one there, for ever, when a proxy's tunnel was open and TLS in it failed.
    """
    used = {id(request.connection) for request in pool._requests}  # noqa: SLF001
    left = [
        one
        for one in pool._connections  # noqa: SLF001
        if id(one) not in used and not one.is_idle() and not one.is_closed()
    ]
    for one in left:
        pool._connections.remove(one)  # noqa: SLF001
    return left


def by_httpcore(http: httpx.AsyncClient) -> bool:
    """Whether it asks through connections of httpcore, which only a scope of anyio may cancel."""
    return isinstance(http._transport, httpx.AsyncHTTPTransport)  # noqa: SLF001


def is_ours(http: httpx.Client | httpx.AsyncClient) -> bool:
    """Whether it asks through one of these, and not through a transport of somebody's own."""
    return isinstance(http._transport, Transport | AsyncTransport)  # noqa: SLF001
