"""The running server: open the store, serve until told to stop, finish what is in flight."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog
import uvicorn

from pullstatus import limits
from pullstatus.addresses import bare
from pullstatus.apps import (
    Masters,
    Operator,
    Registry,
    masters_beside,
    open_keyring,
    rewrite_if_due,
    seal_readable,
)
from pullstatus.apps.networks import Network, plain, proxies_of, spellings
from pullstatus.apps.operator import SERVER
from pullstatus.apps.values import TOKENS
from pullstatus.child import FOR_THE_SERVER
from pullstatus.clock import wall_ms
from pullstatus.errors import (
    InvalidSetting,
    MasterKeyMissing,
    PullstatusError,
    StoreCorrupt,
    StoreRefused,
    StoreUnavailable,
    WorldError,
)
from pullstatus.mailbox.bounds import Bounds
from pullstatus.mailbox.calm import Calm
from pullstatus.mailbox.done import Task, noted_ms
from pullstatus.mailbox.following import Follower
from pullstatus.mailbox.releasing import Pending
from pullstatus.mailbox.upkeep import clean_up
from pullstatus.records import Kind
from pullstatus.server import logs
from pullstatus.server.alarms import Alarms
from pullstatus.server.certificate import Certificate
from pullstatus.server.connection import Connection
from pullstatus.server.crowd import Crowd
from pullstatus.server.descriptors import connections_max
from pullstatus.server.listener import LISTEN_BACKLOG, Listener, bind
from pullstatus.server.overdue import Overdue
from pullstatus.server.parts import Parts
from pullstatus.server.pressure import at_work_s
from pullstatus.server.routes import Routes
from pullstatus.server.signals import CONTAINER_STOPS, handled
from pullstatus.server.supervisor import Supervisor
from pullstatus.server.uvicorn_server import Make, UvicornServer
from pullstatus.store import Alarm, Store, Tickets, open_store, store_cautions
from pullstatus.store.engines import copies_itself
from pullstatus.version import VERSION

log = structlog.get_logger(__name__)

REFRESH_S = 0.5  # how long a change made by a command may take to be seen
UPKEEP_EVERY_S = 60.0
FOLLOW_EVERY_S = 1.0  # how far the follower is behind when there is time for it
PENDING_EVERY_S = 1.0  # how late what waits may leave
BOUNDS_EVERY_S = 1.0  # for how long more may be parked under number 0
CARE_EVERY_S = 10.0  # how old the figures may be of backups, audits and the certificate
PUT_OFF_S = 60.0  # between two lines of a chore that is put off for the same reason
CLOSE_S = 1.0  # of the time to stop: kept for folding the store's log into its file

FOLLOWED: Final = frozenset({"retention_days", "worst", "public_url", "log_level"})
"""Options that a reload changes; others stay as they are until a restart."""
FOLLOWED_OF_TLS: Final = frozenset({"tls_certificate", "tls_key"})
"""Those as well, while there is a certificate to renew."""


class ServeOptions(msgspec.Struct, frozen=True):
    """Where and how to serve.

    Attributes:
        store: URL of the store; made if there is none.
        host, port: address to listen on; port 0 takes a free one.
        admin: address and port to serve health and figures on, and nowhere else; None: as all else.
        trusted_proxies: addresses whose X-Forwarded-For is believed, separated by commas.
        tls_certificate, tls_key: PEM files; both or none.
        retention_days: how long what was handed out is kept.
        reserve_bytes: free bytes on the disk below which no more records are taken.
        upkeep_every_s: seconds between two looks for what is too old.
        masters: where master keys are; None: in the file beside the store.
        workers: processes that answer requests; over 1: see `pullstatus.server.workers`.
        worst: how many mailboxes the figures tell of one by one, by each measure.
        public_url: where gateways reach this server: what they sign is of it. "": where a request
            says that it was sent.
        log_level: what is logged; None: what was.
    """

    store: str
    host: str = "127.0.0.1"
    port: int = 8080
    trusted_proxies: str = ""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    retention_days: float = limits.HANDED_OUT_RETENTION_DAYS
    reserve_bytes: int = limits.STORE_RESERVE_BYTES
    upkeep_every_s: float = UPKEEP_EVERY_S
    admin: tuple[str, int] | None = None
    masters: Masters | None = None
    workers: int = 1
    worst: int = limits.WORST_TOLD
    public_url: str = ""
    log_level: str | None = None


class Server:
    """One serving process, startable inside any event loop.

    `options` are those in force: a reload changes those of them that need no restart. `address`,
    and `admin_address` if there is one, are known once `started` is set; `failure` says why it
    stopped by itself, if it did; `restart_due` is true then, and where its time was used up.
    `on_overdue` ends the process: it is called, from any thread, when work stays unfinished beyond
    the time to stop. Threads that a disk holds keep an interpreter from its orderly end. Who gives
    it has no other use for the process: no signal does anything once `run` has ended.

    In the main thread signals are heard: TERM and INT stop it, and so do those by which containers
    are stopped and XCPU; HUP reloads it, and USR1 has it log how it stands, once it has started;
    the others of `FOR_THE_SERVER` do nothing.
    """

    close_s = CLOSE_S

    def __init__(
        self,
        options: ServeOptions,
        *,
        source: Callable[[], ServeOptions] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        """Nothing runs yet: see `run`.

        Args:
            source: reads the options anew, for a reload. None: there is nothing to reload, and HUP
                stops the server, since whoever started it on a terminal is gone.
            supervisor: is told when it serves, that it goes on, and when it stops.
        """
        self.options = self._read = options  # in force, and read last
        self._once_started: list[Callable[[], None]] = []
        self._source = source
        self._supervisor = supervisor or Supervisor()
        self._certificate: Certificate | None = None
        self.started = asyncio.Event()
        self.address = self.admin_address = ""
        self.failure: BaseException | None = None
        self.store: Store
        self.routes: Routes
        self.on_overdue: Callable[[], None] | None = None
        self.parts = Parts()
        self._alarms = Alarms(time.monotonic)
        self._uvicorn: UvicornServer | None = None
        self._stop_by_s: float | None = None  # monotonic; None: go on
        self._overdue: Overdue | None = None
        self._used_up = False

    @property
    def restart_due(self) -> bool:
        """Whether it stopped by itself, so that whoever sees to it is to start it anew."""
        return self.failure is not None or self._used_up

    async def run(self, on_ready: Callable[[str], None] | None = None) -> None:
        """Serve until `stop`, a signal, or a failure of the store.

        Ends at most `limits.DRAIN_DEADLINE_S` after it was told to, if `on_overdue` is given.

        Args:
            on_ready: called with the address once connections are accepted.

        Raises:
            StoreRefused: the store cannot be opened safely; the text says what to change.
            InvalidSetting: the address cannot be listened on, or the TLS files are no use.
        """
        self._look_out()
        handlers: dict[int, Callable[[], None]] = {
            **dict.fromkeys(FOR_THE_SERVER, lambda: None),
            **dict.fromkeys((signal.SIGTERM, *CONTAINER_STOPS), self.stop),
            signal.SIGINT: self._interrupt,
            signal.SIGHUP: (
                self.stop if self._source is None else partial(self.when_started, self.reload)
            ),
            signal.SIGUSR1: partial(self.when_started, self._tell),
            signal.SIGXCPU: self._out_of_time,
        }
        with handled(handlers, for_good=self.on_overdue is not None):
            await self._run(on_ready)

    def _look_out(self) -> None:
        """Be ready to end what will be overdue."""
        if self.on_overdue is not None:
            self._overdue = Overdue(self.on_overdue)

    async def _run(self, on_ready: Callable[[str], None] | None) -> None:
        self._load_certificate()
        proxies_of(self.options.trusted_proxies)  # refused before anything is made
        for caution in store_cautions(self.options.store):
            log.warning("not as safe as it could be", reason=caution)
        options = self.options
        with contextlib.ExitStack() as sockets:
            public = sockets.enter_context(_bind(options.host, options.port))
            admin = None
            if options.admin is not None:
                admin = sockets.enter_context(_bind(*options.admin))
            await self._serve(public, admin, on_ready)

    def _load_certificate(self) -> None:
        if self.options.tls_certificate is not None:
            self._certificate = Certificate(self.options.tls_certificate, self.options.tls_key)

    async def _serve(
        self,
        public: socket.socket,
        admin: socket.socket | None,
        on_ready: Callable[[str], None] | None,
    ) -> None:
        self.store = await self._open_store()
        try:
            # Not before: whoever connects finds a server.
            for bound in filter(None, (public, admin)):
                _listen(bound)
            registry = await self._open_registry()
            self.routes = await self.build(registry)
            self.routes.worst = self.options.worst
            self.routes.inbound.public_url = self.options.public_url
            if not copies_itself(self.options.store):  # its own tools make them, and note none
                self.routes.noted = frozenset(Task) - {Task.BACKUP}
            self.address = _address(public, "https" if self.options.tls_certificate else "http")
            if admin is not None:
                self.admin_address = _address(admin, "http")
            self._uvicorn = UvicornServer(
                self._config(self.routes), self.routes, partial(self._listeners, public, admin)
            )
            if self._stop_by_s is not None:
                return

            waiting = await self._waiting()
            with contextlib.suppress(WorldError):  # looked at again, and told, while it serves
                await self._look_at_care()

            def ready() -> None:
                self._log_start(registry, waiting)
                self.started.set()
                if on_ready is not None:
                    on_ready(self.address)
                self._supervisor.ready(f"serving at {self.address}")
                for work in self._once_started:
                    work()

            self._uvicorn.on_started = ready
            await self._work_beside(self.chores(registry))
            await self._note_last(registry)
            self._log_stop(await self._waiting())
        finally:
            await self._close_store()

    async def _work_beside(self, chores: Sequence[Coroutine[object, object, None]]) -> None:
        """Answer until that is over; raises what it raises, in no group of the tasks'."""
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(self._see_to(chore)) for chore in chores]
                await self._work()
                for task in beside:
                    task.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            for chore in chores:
                chore.close()  # one whose task was ended before its first step has not begun

    async def _open_store(self) -> Store:
        return await open_store(
            self.options.store,
            server=True,
            reserve_bytes=self.options.reserve_bytes,
            on_failure=self._fail,
        )

    async def _work(self) -> None:
        """Answer until that is over."""
        assert self._uvicorn is not None
        await self._uvicorn.serve()

    def _listeners(
        self, public: socket.socket, admin: socket.socket | None, make: Make
    ) -> list[Listener]:
        """What accepts connections: for everybody, and for whoever watches the server."""
        self.routes.watched_elsewhere = self.options.admin is not None
        listeners = [self._public_listener(public, make)]
        if admin is not None:
            listeners.append(self._admin_listener(admin, make))
        self.routes.listeners = listeners
        return listeners

    def _public_listener(self, public: socket.socket, make: Make) -> Listener:
        config = self._config(self.routes)
        crowd = self.parts.crowd(
            connections_max(),
            reserve=0 if self.routes.watched_elsewhere else self.parts.reserve,
            speaks_for_many=_speaks_for_many(proxies_of(self.options.trusted_proxies)),
        )
        tls = None if self._certificate is None else self._certificate.context
        at_once = self.parts.accepts_at_once
        return Listener(public, crowd, partial(make, config), tls=tls, at_once=at_once)

    def _admin_listener(self, admin: socket.socket, make: Make) -> Listener:
        own = Crowd(limits.CONNECTIONS_RESERVED, speaks_for_many=lambda _: True)
        watching = self._config(self.routes.health, proxied=False)
        return Listener(admin, own, partial(make, watching))

    async def _open_registry(self) -> Registry:
        """The applications and tokens, with all appkeys sealed.

        The master key is at hand then; at a first start it is made.
        """
        masters = self._masters
        by = Operator(SERVER, wall_ms(), secrets.token_hex)
        registry = Registry(self.store, masters)
        try:
            await open_keyring(self.store, masters)
            await seal_readable(self.store, masters, by=by)
            await self._rewrite()
            await registry.begin()
        except StoreCorrupt as error:
            raise StoreCorrupt(f"{bare(self.options.store)}: {error}") from error
        return registry

    async def _rewrite(self) -> None:
        """Write the store's files anew if they are to be; what cannot be done now is put off."""
        try:
            if await rewrite_if_due(self.store, self.options.store, serving=False):
                log.info("store written anew", reason="so that nothing removed is left in it")
        except StoreCorrupt:
            raise
        except (StoreUnavailable, StoreRefused) as error:
            log.warning("store not written anew", reason=str(error))

    def stop(self, by_s: float | None = None) -> None:
        """Begin a clean stop: requests in flight are finished first.

        Args:
            by_s: when all is to be over, by the monotonic clock; None: in as long as is due.
        """
        if self._stop_by_s is None:
            self._supervisor.stopping()
            if by_s is None:
                by_s = time.monotonic() + limits.DRAIN_DEADLINE_S - limits.LOG_FLUSH_S
            self._stop_by_s = by_s
            if self._overdue is not None:
                self._overdue.at(by_s)
        if self._uvicorn is not None:
            self._uvicorn.stop(self._stop_by_s - self.close_s)

    def when_started(self, work: Callable[[], None]) -> None:
        """Do it, or once the server has started; what waits already is done once."""
        if self.started.is_set():
            work()
        elif work not in self._once_started:
            self._once_started.append(work)

    def reload(self) -> None:
        """Take in new options, and new TLS files for the next handshakes; or go on as before.

        Says in the log which changes need a restart.
        """
        before = self._read
        try:
            options = before if self._source is None else self._source()
            self.take_in(options)
        except Exception as error:  # noqa: BLE001 - a reload never ends the server
            log.error("reload failed", reason=str(error))
            return
        self._read = options
        changed = {
            name
            for name in ServeOptions.__struct_fields__
            if getattr(options, name) != getattr(before, name)
        }
        followed = self._followed(options)
        log.info("reloaded", changed=sorted(changed & followed))
        # What was put back is in force all the while.
        needed = [
            name
            for name in sorted(changed - followed)
            if getattr(options, name) != getattr(self.options, name)
        ]
        if needed:
            log.warning("restart needed", changed=needed)

    def take_in(self, options: ServeOptions) -> None:
        """Go on with these options, as far as that needs no restart.

        Raises:
            InvalidSetting: the TLS files are no use; nothing has changed.
        """
        if self._certificate is not None and options.tls_certificate is not None:
            self._certificate.renew(options.tls_certificate, options.tls_key)
        followed = {name: getattr(options, name) for name in self._followed(options)}
        self.options = msgspec.structs.replace(self.options, **followed)
        self.routes.worst = options.worst
        self.routes.inbound.public_url = options.public_url
        if options.log_level is not None:
            logs.set_level(options.log_level)

    def _followed(self, options: ServeOptions) -> frozenset[str]:
        encrypts = self._certificate is not None and options.tls_certificate is not None
        return FOLLOWED | FOLLOWED_OF_TLS if encrypts else FOLLOWED

    @property
    def _masters(self) -> Masters:
        return self.options.masters or masters_beside(self.options.store)

    def _log_start(self, registry: Registry, waiting: int | None) -> None:
        settings = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in msgspec.structs.asdict(self.options).items()
            # `address` and `master_keys` tell it: a command's words may be secret.
            if name not in ("host", "port", "masters")
        }
        log.info(
            "started",
            version=VERSION,
            address=self.address,
            master_keys=self._masters.place,
            **settings
            | {
                "store": bare(self.options.store),
                "public_url": bare(self.options.public_url),
                "admin": self.admin_address or None,
            },
            applications=registry.count,
            tokens=len(registry.tokens),
            waiting=waiting,
        )

    def _log_stop(self, waiting: int | None) -> None:
        figures = self.routes.figures
        log.info(
            "stopped",
            version=VERSION,
            store=bare(self.options.store),
            failed=self.restart_due,
            records_in=sum(figures.records_in.values()),
            records_out=sum(figures.records_out.values()),
            waiting=waiting,
        )

    async def _waiting(self) -> int | None:
        """Records that wait; None if the store won't say."""
        try:
            totals = await self.store.totals()
        except PullstatusError:  # whose failure is told elsewhere
            return None
        return sum(totals.of[kind].waiting for kind in Kind)

    def _interrupt(self) -> None:
        """A first Ctrl-C stops, a second one waits for nobody."""
        if self._stop_by_s is not None and self._uvicorn is not None:
            self._uvicorn.force_exit = True
        self.stop()

    def _out_of_time(self) -> None:
        """The soft limit is reached; the kernel says so every second, and kills at the hard one.

        Whoever starts the server anew gives it as much again.
        """
        if self._stop_by_s is None:
            self._used_up = True
            log.error(
                "processor time used up",
                reason="this process, or one that it has started, may use no more (ulimit -t,"
                " LimitCPU=), so the server stops, to be started anew: raise that limit",
            )
        self.stop()

    def _tell(self) -> None:
        connections = 0 if self._uvicorn is None else len(self._uvicorn.server_state.connections)
        log.info("state", stopping=self._stop_by_s is not None, connections=connections)

    async def _close_store(self) -> None:
        """Close the store in what is left of the time to stop.

        Longer than that takes only what waits for a disk, or a file that another process holds.
        What was not committed by then was not acknowledged; the store's process ends with this one.
        """
        left_s = None
        if self._stop_by_s is not None:
            spare_s = self.close_s / 4
            left_s = max(spare_s, self._stop_by_s - spare_s - time.monotonic())
        closing = asyncio.ensure_future(self.store.close())
        done, _ = await asyncio.wait({closing}, timeout=left_s)
        if done:
            closing.result()
        else:
            log.warning("store not closed in time", deadline_s=limits.DRAIN_DEADLINE_S)
            if self.on_overdue is not None:
                self.on_overdue()

    async def build(self, registry: Registry) -> Routes:
        """What answers requests, once the store is open."""
        return Routes(self.store, registry, parts=self.parts)

    def chores(self, registry: Registry) -> list[Coroutine[object, object, None]]:
        """What goes on beside answering, until the server stops."""
        every_s = self.options.upkeep_every_s
        return [
            self._regularly("stall", REFRESH_S, self._look_at_the_store),
            self._regularly("care", CARE_EVERY_S, self._look_at_care),
            self._regularly("upkeep", every_s, partial(self._upkeep, registry)),
            self._regularly("pending", PENDING_EVERY_S, self._release()),
            self._regularly("bounds", BOUNDS_EVERY_S, self._keep_bounds()),
            *self._following(),
            self._regularly("failed tries", every_s, self.routes.guesses.record),
            *self._supervised(),
            *self.own_chores(registry),
        ]

    def _release(self) -> Callable[[], Coroutine[object, object, None]]:
        """Let leave what waits for something else, once it has that or is overdue."""
        pending = Pending(self.store, self.store, Tickets(secrets.token_bytes))

        async def release() -> None:
            await pending.release(wall_ms())

        return release

    def _keep_bounds(self) -> Callable[[], Coroutine[object, object, None]]:
        """Keep what is parked under number 0 within the bounds of each token."""
        bounds = Bounds(self.store, secrets.token_hex)

        async def keep() -> None:
            if expired := await bounds.keep(wall_ms()):
                reason = "no more of one token may wait under number 0"
                log.warning("parked items expired", items=expired, reason=reason)

        return keep

    def _supervised(self) -> list[Coroutine[object, object, None]]:
        every_s = self._supervisor.alive_every_s
        return [] if every_s is None else [self._regularly("watchdog", every_s, self._say_alive)]

    def own_chores(self, registry: Registry) -> list[Coroutine[object, object, None]]:
        """Those of them that each process has, where several are one server."""
        every_s = self.options.upkeep_every_s
        return [
            self._regularly("alarms", REFRESH_S, self._look_at_nodes),
            self._regularly("refresh", REFRESH_S, partial(self._refresh, registry, {})),
            self._regularly("applications", REFRESH_S, registry.walk),
            self._regularly("uses of keys", every_s, registry.note_uses),
            self._regularly("traffic of tokens", every_s, self._write_traffic),
            self._regularly("signatures", every_s, self._tell_of_replays),
        ]

    def _following(self) -> list[Coroutine[object, object, None]]:
        """Follow the log while there is little else to do, and tell how far behind that is."""
        figures = self.routes.figures
        calm = Calm(self.store.commit_s, time.monotonic, self.at_work_s, lambda: figures.timed)
        follower = Follower(self.store, secrets.token_hex, breathe=calm.breathe)
        calm.behind_s = follower.behind_s

        async def tell() -> None:
            self.routes.figures.behind_s = follower.behind_s()

        return [
            self._regularly("follower", FOLLOW_EVERY_S, follower.work),
            self._regularly("follower's place", FOLLOW_EVERY_S, tell),
        ]

    def at_work_s(self) -> float:
        """Seconds that this server was at work until now, or would have been."""
        return at_work_s()

    async def _upkeep(self, registry: Registry) -> None:
        expired = await clean_up(
            self.store,
            list(registry.applications.values()),
            now_ms=wall_ms(),
            retention_days=self.options.retention_days,
        )
        self.routes.upkeep_ms = wall_ms()
        if expired:
            log.warning("parked items expired", items=expired, reason="too old")
        found = await self.store.engine()
        if found.log_bytes > limits.STORE_LOG_BYTES_MAX // 2:
            log.warning(
                "store's log grows",
                bytes=found.log_bytes,
                reason="a program that has read the store for long keeps it from being folded",
            )

    async def _tell_of_replays(self) -> None:
        for sdkappid, pulls in self.routes.figures.replays.take().items():
            log.info("signatures came again", sdkappid=sdkappid, pulls=pulls)

    async def _look_at_the_store(self) -> None:
        self.routes.stall.look()

    async def _look_at_care(self) -> None:
        if self._certificate is not None:
            self.routes.certificate_end_s = self._certificate.end_s
        self.routes.done_ms = await noted_ms(self.store)

    async def _say_alive(self) -> None:
        if self.started.is_set():
            self._supervisor.alive()

    async def _look_at_nodes(self) -> None:
        health = self.store.health()
        if health is not None:
            self.routes.figures.mended = health.mended
            self.routes.figures.writes_unanswered = health.unanswered
            self._alarms.tell(alarm for alarm in health.alarms if self.is_to_tell(alarm))

    def is_to_tell(self, alarm: Alarm) -> bool:  # noqa: ARG002 - a worker's asks
        """Whether no other process of the server tells it."""
        return True

    async def _refresh(self, registry: Registry, told: dict[int | str, MasterKeyMissing]) -> None:
        """Follow the store, and tell of each key that cannot be opened, once."""
        await registry.look()
        for owner, locked in registry.locked.items():
            if told.get(owner) is not locked:
                told[owner] = locked
                if isinstance(owner, int):
                    log.error("appkey not opened", sdkappid=owner, reason=str(locked))
                elif owner.startswith(TOKENS):
                    name = owner.removeprefix(TOKENS)
                    log.error("signature key not opened", token=name, reason=str(locked))
                else:
                    log.error("secret key not opened", secret_id=owner, reason=str(locked))

    def _fail(self, error: BaseException) -> None:
        """End orderly, after the first failure that the store does not survive."""
        if self.failure is not None:
            return
        log.critical("store failed", reason=str(error))
        self.failure = error
        if self._uvicorn is not None:
            self.routes.ready = False
        self.stop()

    def _config(
        self, application: Callable[..., object], *, proxied: bool = True
    ) -> uvicorn.Config:
        proxies = proxies_of(self.options.trusted_proxies)
        config = uvicorn.Config(
            application,
            http=Connection,
            loop="uvloop",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=proxied and bool(proxies),
            forwarded_allow_ips=[told for network in proxies for told in spellings(network)],
        )
        config.load()
        return config

    async def _see_to(self, chore: Coroutine[object, object, None]) -> None:
        """Let a chore run. If it gives up, the server ends, but cuts nobody off."""
        try:
            await chore
        except WorldError as error:
            self._fail(error)

    async def _note_last(self, registry: Registry) -> None:
        """Keep, on stopping, what is known of failed tries, and of the last use of keys.

        No failure is made of it if that cannot be.
        """
        with contextlib.suppress(WorldError, TimeoutError):
            async with asyncio.timeout(self.close_s / 2):
                await self.routes.guesses.record(stopping=True)
                await registry.note_uses()
                await self._write_traffic()

    async def _write_traffic(self) -> None:
        await self.routes.traffic.write(wall_ms())

    async def _regularly(
        self, name: str, every_s: float, chore: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        """Do a chore again and again. Its failure ends nobody's request.

        Whether the store goes on is told by the store itself, except where what was read from it
        is damaged.
        """
        told, again_s = "", 0.0
        while True:
            await asyncio.sleep(every_s)
            try:
                await chore()
                told = ""
            except StoreCorrupt as error:
                self._fail(error)
            except WorldError as error:
                now_s, reason = time.monotonic(), str(error)
                if reason != told or now_s >= again_s:
                    log.warning("chore put off", chore=name, reason=reason)
                    told, again_s = reason, now_s + PUT_OFF_S
            except Exception:
                log.exception("chore failed", chore=name)


def _speaks_for_many(proxies: Sequence[Network]) -> Callable[[str], bool]:
    """Tells whether an address speaks for many: a trusted proxy's, or this machine's own."""

    def tell(address: str) -> bool:
        found = plain(address)
        return found is not None and (
            found.is_loopback or any(found in network for network in proxies)
        )

    return tell


def _bind(host: str, port: int) -> socket.socket:
    try:
        return bind(host, port)
    except OSError as error:
        raise _unheard(host, port, error) from error


def _listen(bound: socket.socket) -> None:
    try:
        bound.listen(LISTEN_BACKLOG)
    except OSError as error:  # somebody else has bound it as well, and was quicker
        host, port = bound.getsockname()[:2]
        raise _unheard(host, port, error) from error


def _unheard(host: str, port: int, error: OSError) -> InvalidSetting:
    fix = "; --port says another" if error.errno == errno.EADDRINUSE else ""
    return InvalidSetting(f"cannot listen on {host}:{port}: {error.strerror}{fix}")


def _address(listening: socket.socket, scheme: str) -> str:
    host, port = listening.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
