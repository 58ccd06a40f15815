"""The running server: open the store, serve until told to stop, finish what is in flight."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import cast

import msgspec
import structlog
import uvicorn

from pullstatus import limits
from pullstatus.apps import Registry
from pullstatus.errors import InvalidSetting, StoreCorrupt, StoreUnavailable
from pullstatus.mailbox.retention import keep
from pullstatus.server.application import Application, wall_ms
from pullstatus.server.protocol import Protocol
from pullstatus.store import Store, open_store

log = structlog.get_logger(__name__)

REFRESH_S = 0.5  # how long a change made by a command may take to be seen
KEEP_S = 60.0  # how often what is too old is looked for
SWEEP_S = 1.0
IDLE_GRACE_S = 0.5  # on stopping: how long a quiet connection may still bring a request


class ServeOptions(msgspec.Struct, frozen=True):
    """Where and how to serve.

    Attributes:
        store: URL of the store; made if there is none.
        host, port: address to listen on; port 0 takes a free one.
        trusted_proxies: addresses whose X-Forwarded-For is believed, separated by commas.
        tls_certificate, tls_key: PEM files; both or none.
        retention_days: how long what was handed out is kept.
        store_apart: give the store a process of its own.
        reserve_bytes: free bytes on the disk below which no more records are taken.
    """

    store: str
    host: str = "127.0.0.1"
    port: int = 8080
    trusted_proxies: str = ""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    retention_days: float = limits.HANDED_OUT_RETENTION_DAYS
    store_apart: bool = False
    reserve_bytes: int = limits.STORE_RESERVE_BYTES


class Server:
    """One serving process, startable inside any event loop.

    `address` is known once `started` is set; `failure` says why it stopped by itself, if it did.
    """

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.started = asyncio.Event()
        self.address = ""
        self.failure: BaseException | None = None
        self.store: Store
        self.application: Application
        self._uvicorn: _Uvicorn | None = None
        self._stopping = False

    async def run(self, on_ready: Callable[[str], None] | None = None) -> None:
        """Serve until `stop`, a signal, or a failure of the store.

        Args:
            on_ready: called with the address once connections are accepted.

        Raises:
            StoreRefused: the store cannot be opened safely; the text says what to change.
            InvalidSetting: the address cannot be listened on, or the TLS files are no use.
        """
        _check_tls(self.options)
        listener = _listen(self.options.host, self.options.port)
        try:
            self.store = await open_store(
                self.options.store,
                server=True,
                apart=self.options.store_apart,
                reserve_bytes=self.options.reserve_bytes,
                on_failure=self._fail,
            )
        except BaseException:
            listener.close()
            raise
        try:
            registry = Registry(self.store)
            try:
                await registry.refresh()
            except StoreCorrupt as error:
                raise StoreCorrupt(f"{self.options.store}: {error}") from error
            self.application = await self.build(registry)
            scheme = "https" if self.options.tls_certificate else "http"
            host, port = listener.getsockname()[:2]
            self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
            self._uvicorn = _Uvicorn(self._config(), self.application)
            if self._stopping:
                return

            def ready() -> None:
                self.started.set()
                if on_ready is not None:
                    on_ready(self.address)

            self._uvicorn.on_started = ready
            async with asyncio.TaskGroup() as tasks:
                chores = [tasks.create_task(chore) for chore in self.chores(registry)]
                await self._uvicorn.serve(sockets=[listener])
                for chore in chores:
                    chore.cancel()
        finally:
            listener.close()
            await self.store.close()

    def stop(self) -> None:
        """Begin a clean stop: requests in flight are finished first."""
        self._stopping = True
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True

    async def build(self, registry: Registry) -> Application:
        """What answers requests, once the store is open."""
        return Application(self.store, registry)

    def chores(self, registry: Registry) -> list[Coroutine[object, object, None]]:
        """What goes on beside answering, until the server stops."""
        return [self._refresh(registry), self._keep(registry)]

    def _fail(self, error: BaseException) -> None:
        log.critical("store failed", reason=str(error))
        self.failure = error
        if self._uvicorn is not None:
            self.application.ready = False
        self.stop()

    def _config(self) -> uvicorn.Config:
        options = self.options
        return uvicorn.Config(
            self.application,
            http=Protocol,
            loop="uvloop",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(options.trusted_proxies),
            forwarded_allow_ips=options.trusted_proxies or None,
            ssl_certfile=options.tls_certificate,
            ssl_keyfile=options.tls_key,
            timeout_graceful_shutdown=limits.DRAIN_DEADLINE_S,
        )

    async def _refresh(self, registry: Registry) -> None:
        """Follow what commands change beside the server."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await registry.look()
            except StoreUnavailable as error:
                log.warning("refresh put off", reason=str(error))
            except StoreCorrupt as error:
                self._fail(error)

    async def _keep(self, registry: Registry) -> None:
        """Let go of what is too old."""
        while True:
            await asyncio.sleep(KEEP_S)
            try:
                await keep(
                    self.store,
                    [live.application for live in registry.applications.values()],
                    now_ms=wall_ms(),
                    retention_days=self.options.retention_days,
                )
            except StoreUnavailable as error:
                log.warning("removal put off", reason=str(error))
            except StoreCorrupt as error:
                self._fail(error)


class _Uvicorn(uvicorn.Server):
    """uvicorn, with a sweep of deadlines and a stop that leaves no request unanswered."""

    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config)
        self.on_started: Callable[[], None] = lambda: None
        self._application = application
        self._swept = 0.0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on TERM and INT, and return.

        uvicorn's own raises the signal again, which would end us before the store is closed.
        """
        loop = asyncio.get_running_loop()
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.handle_exit, number, None)
        except (ValueError, RuntimeError):
            # Not the main thread: whoever runs us there calls `stop`.
            yield
            return
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()

    async def on_tick(self, counter: int) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._swept >= SWEEP_S:
            self._swept = now
            for connection in self._connections():
                connection.sweep(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what comes on open connections with a last answer each, then close them."""
        self._application.ready = False
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.DRAIN_DEADLINE_S
        while (connections := self._connections()) and not self.force_exit:
            now = loop.time()
            if now > deadline:
                break
            for connection in connections:
                connection.sweep(now)
                connection.drain(now, IDLE_GRACE_S)
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    def _connections(self) -> list[Protocol]:
        return cast("list[Protocol]", list(self.server_state.connections))


def _check_tls(options: ServeOptions) -> None:
    if options.tls_certificate is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                options.tls_certificate, options.tls_key
            )
        except OSError as error:
            raise InvalidSetting(
                "the TLS certificate and key cannot be used: both must be PEM files, and the key"
                f" without a password must fit the certificate ({error.strerror or error})"
            ) from error


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise InvalidSetting(f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.settimeout(0)
    return listener
