"""A worker: a server that is given its listener, its store and its bounds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial

import structlog

from pullstatus.apps import Registry
from pullstatus.apps.tries import Failed
from pullstatus.errors import PullstatusError, StoreRefused
from pullstatus.server import logs
from pullstatus.server.routes import Routes
from pullstatus.server.serve import REFRESH_S, ServeOptions, Server
from pullstatus.server.workers.control import (
    AskBrief,
    AskMetrics,
    AskSnapshot,
    Brief,
    Control,
    CountFailed,
    Refused,
    Reload,
    Snapshot,
    Started,
    Stop,
    StoreEnded,
)
from pullstatus.server.workers.ledger import BEATS, Ledger
from pullstatus.server.workers.parts import SharedParts
from pullstatus.server.workers.pulse import BEAT_S
from pullstatus.store import Alarm, Store, join_store
from pullstatus.version import VERSION

log = structlog.get_logger(__name__)


class _Routes(Routes):
    """Those of a worker, which knows only its own part of the figures."""

    ask: Callable[[], Coroutine[object, object, bytes]]

    async def _page(self) -> bytes:
        return await self.ask()


class Worker(Server):
    """One of several processes that answer the requests of one server."""

    close_s = 0.25  # the store is folded by whoever has opened it

    def __init__(self, end: socket.socket, server_version: str = VERSION) -> None:
        """Nothing runs yet: see `run`.

        Args:
            end: of the way to the server that has started this process.
            server_version: its own.
        """
        super().__init__(ServeOptions(""))
        self._end = end
        self._server_version = server_version
        self._brief: Brief
        self._control: Control
        self._ledger: Ledger

    async def run(self, on_ready: Callable[[str], None] | None = None) -> None:
        """Answer requests until the server says to stop, or the store fails.

        Raises:
            PullstatusError: it cannot begin, as it has told the server.
        """
        self._look_out()
        self._control = await Control.over(self._end, self._hear)
        listening = asyncio.create_task(self._control.listen())
        try:
            self._check_version()
            self._brief = brief = await self._control.ask(AskBrief())
            level, workers = brief.log_level, brief.options.workers
            logs.configure(level, worker=brief.number, workers=workers)
            self.options = brief.options
            listening.add_done_callback(lambda _: self.stop())
            await self._begin(socket.socket(fileno=brief.listener), on_ready)
        except PullstatusError as error:
            self._control.tell(Refused(str(error)))
            raise
        finally:
            listening.cancel()
            await asyncio.wait({listening})

    def _check_version(self) -> None:
        """What is installed may have changed since the server began; they say much in pickles."""
        if self._server_version != VERSION:
            raise StoreRefused(
                f"the server is version {self._server_version}, and {VERSION} is installed by now:"
                " restart the server"
            )

    async def _begin(self, public: socket.socket, on_ready: Callable[[str], None] | None) -> None:
        workers = self.options.workers
        ledger = self._ledger = Ledger(
            self._brief.ledger, self._brief.number - 1, workers, self._brief.secret
        )
        in_line = self._brief.share is not None
        self.parts = SharedParts(ledger, workers, self._failed, in_line=in_line)
        self._load_certificate()

        def ready(address: str) -> None:
            self._control.tell(Started())
            if on_ready is not None:
                on_ready(address)

        with public:
            await self._serve(public, None, ready)

    async def _open_store(self) -> Store:
        return await join_store(self.options.store, self._brief.share, on_failure=self._fail)

    async def _open_registry(self) -> Registry:
        registry = Registry(self.store, self._masters)
        await registry.begin()
        registry.check_masters()  # the others may have open what this one could not
        return registry

    async def build(self, registry: Registry) -> Routes:
        """See `Server`."""
        routes = _Routes(self.store, registry, parts=self.parts)
        routes.ask = partial(self._control.ask, AskMetrics())
        return routes

    def chores(self, registry: Registry) -> list[Coroutine[object, object, None]]:
        """Those that each process has; the server sees to all else."""
        return [
            *self.own_chores(registry),
            self._regularly("snapshot", REFRESH_S, self._tell_snapshot),
            self._regularly("beat", BEAT_S, self._beat),
        ]

    def is_to_tell(self, alarm: Alarm) -> bool:
        """See `Server`; what nodes say of themselves the server itself asks them."""
        return alarm.own

    async def _beat(self) -> None:
        self._ledger.add(BEATS, 1)

    async def _tell_snapshot(self) -> None:
        self._control.tell(self._snapshot())

    def _snapshot(self) -> Snapshot:
        routes, health = self.routes, self.store.health()
        return Snapshot(
            routes.figures.counts(),
            routes.held.count,
            logs.lines(),
            self.store.under_way(),
            routes.connections(),
            routes.budget.bytes,
            dict(routes.budget.refused),
            0 if health is None else health.without_writes,
        )

    async def _hear(self, said: object) -> object:
        """What the server says, or asks."""
        if isinstance(said, AskSnapshot):
            return self._snapshot()
        if isinstance(said, Stop):
            self.stop(said.by_s)
        elif isinstance(said, Reload):
            self.when_started(partial(self.take_in, said.options))
        return None

    async def _failed(self, what: str, sdkappid: int | None, address: str) -> Failed:
        found: Failed = await self._control.ask(CountFailed(what, sdkappid, address))
        return found

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self._control.tell(StoreEnded(str(error)))
        super()._fail(error)

    async def _waiting(self) -> int | None:
        """Not known here: the server tells."""
        return None

    async def _look_at_care(self) -> None:
        """The server looks, and tells."""

    def _log_start(self, registry: Registry, waiting: int | None) -> None:
        """The server tells."""

    def _log_stop(self, waiting: int | None) -> None:  # noqa: ARG002 - the server tells
        """Say what was counted, for the server's sums."""
        self._control.tell(self._snapshot())
