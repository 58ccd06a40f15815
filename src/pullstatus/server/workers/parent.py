"""The server that has workers: it answers no requests but those by which it is watched."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence

import msgspec
import structlog

from pullstatus.apps import Registry
from pullstatus.server.budget import Budget
from pullstatus.server.figures import Figures
from pullstatus.server.listener import Listener
from pullstatus.server.logs import LogLines
from pullstatus.server.metrics import ConnectionCounts, Gauges
from pullstatus.server.pressure import at_work_of_s
from pullstatus.server.routes import Routes
from pullstatus.server.serve import ServeOptions, Server
from pullstatus.server.stall import NotReady, Stall
from pullstatus.server.supervisor import Supervisor
from pullstatus.server.uvicorn_server import Make
from pullstatus.server.workers.control import (
    AskMetrics,
    Brief,
    CountFailed,
    Reload,
    Snapshot,
    Stop,
)
from pullstatus.server.workers.fleet import Fleet, Member
from pullstatus.server.workers.ledger import BEATS, Ledger, make_ledger
from pullstatus.server.workers.pulse import BEAT_S
from pullstatus.store import Health, Store, UnderWay, open_store, share_store

log = structlog.get_logger(__name__)

SECRET_BYTES = 16
NOBODY = Snapshot({}, 0, LogLines(0, 0, 0), UnderWay(), ConnectionCounts(0, {}), 0, {})


class _Routes(Routes):
    """Those of the server itself, whose figures are the sums over all workers."""

    fleet: Fleet
    dead: Snapshot = NOBODY

    async def _page(self) -> bytes:
        _, own = await asyncio.gather(self.fleet.look(), self.gauges())
        known = self._snapshots()
        figures = Figures()
        figures.add(self.figures.counts())
        for one in known:
            figures.add(one.counts)
        return await self._render(figures, self._in_all(own, known))

    def not_ready(self) -> NotReady | None:
        return super().not_ready() or (None if self.fleet.serving else NotReady.NO_WORKER)

    def under_way(self) -> UnderWay:
        """What waits for the store, of all processes."""
        return _under_way([self._store.under_way(), *(one.under_way for one in self._living())])

    def connections_in_all(self) -> int:
        """How many there are, as the workers told last."""
        own = self.connections().count
        return own + sum(one.connections.count for one in self._living())

    def bury(self, member: Member) -> None:
        """Keep what a worker had counted that is no more."""
        if member.newest is not None:
            gone, last = self.dead, member.newest
            figures = Figures()
            for one in (gone, last):
                figures.add(one.counts)
            self.dead = msgspec.structs.replace(
                NOBODY,
                counts=figures.counts(),
                log=_lines([gone.log, last.log]),
                connections=ConnectionCounts(
                    0, Counter(gone.connections.refused) + Counter(last.connections.refused)
                ),
                shed=Counter(gone.shed) + Counter(last.shed),
            )
        member.newest = None

    def _living(self) -> list[Snapshot]:
        return [member.newest for member in self.fleet.members if member.newest is not None]

    def _snapshots(self) -> list[Snapshot]:
        return [self.dead, *self._living()]

    def _in_all(self, own: Gauges, known: Sequence[Snapshot]) -> Gauges:
        """How the server stands with all its workers."""
        budget = Budget()
        budget.take(own.budget.bytes + sum(one.in_hand_bytes for one in known))
        budget.refused.update(own.budget.refused)
        refused = Counter(own.connections.refused)
        for one in known:
            budget.refused.update(one.shed)
            refused.update(one.connections.refused)
        return msgspec.structs.replace(
            own,
            held=sum(one.held for one in known),
            log=_lines([own.log, *(one.log for one in known)]),
            under_way=self.under_way(),
            connections=ConnectionCounts(self.connections_in_all(), refused),
            budget=budget,
            health=_health(own.health, known),
            workers=self.fleet.serving,
            workers_ended=self.fleet.ended,
            processes=self.fleet.processes,
        )


class Parent(Server):
    """A server whose requests are answered by workers."""

    def __init__(
        self,
        options: ServeOptions,
        *,
        command: Sequence[str],
        source: Callable[[], ServeOptions] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        """Nothing runs yet: see `run`.

        Args:
            command: see `Fleet`.
            source, supervisor: see `Server`.
        """
        super().__init__(options, source=source, supervisor=supervisor)
        self._command = command
        self._fleet: Fleet | None = None
        self._of_all: _Routes
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._ledger = make_ledger(options.workers)
        self._public: socket.socket

    async def _open_store(self) -> Store:
        return await open_store(
            self.options.store,
            server=True,
            reserve_bytes=self.options.reserve_bytes,
            on_failure=self._fail,
            shared=True,
        )

    async def build(self, registry: Registry) -> Routes:
        """See `Server`."""
        routes = self._of_all = _Routes(self.store, registry, parts=self.parts)
        ledger = Ledger(self._ledger, 0, self.options.workers, self._secret)

        async def answer(asked: object) -> object:
            if isinstance(asked, CountFailed):
                return routes.guesses.note(asked.what, asked.sdkappid, asked.address)
            assert isinstance(asked, AskMetrics)
            return await routes.metrics()

        def dead(member: Member) -> None:
            ledger.clear(member.number - 1)
            routes.bury(member)

        self._fleet = routes.fleet = Fleet(
            self._command,
            self.options.workers,
            brief=self._brief,
            renewed=self._renewed,
            answer=answer,
            beats=lambda member: ledger.of(member.number - 1, BEATS),
            on_dead=dead,
            on_store_ended=self._fail,
        )
        routes.stall = Stall(routes.under_way)
        return routes

    def chores(self, registry: Registry) -> list[Coroutine[object, object, None]]:
        """See `Server`."""
        return [
            *super().chores(registry),
            self._regularly("hangs", BEAT_S, self._look_at_workers),
        ]

    def at_work_s(self) -> float:
        """See `Server`: with its workers, as a share of the processors that they may have."""
        processes = self._of_all.fleet.processes
        share = min(len(processes), len(os.sched_getaffinity(0))) or 1
        return super().at_work_s() + sum(map(at_work_of_s, processes)) / share

    async def _look_at_workers(self) -> None:
        self._of_all.fleet.end_who_hangs()

    def _brief(self, number: int) -> Brief:
        return Brief(
            number,
            self.options,
            _log_level(),
            share_store(self.store, self.options.store, self.options.workers),
            self._public.fileno(),
            self._ledger,
            self._secret,
        )

    def _renewed(self, brief: Brief) -> Brief:
        """The same with the options as they are now: they may have been read anew since."""
        return msgspec.structs.replace(brief, options=self.options, log_level=_log_level())

    def _listeners(
        self,
        public: socket.socket,  # noqa: ARG002 - the workers accept from it
        admin: socket.socket | None,
        make: Make,
    ) -> list[Listener]:
        listeners = [] if admin is None else [self._admin_listener(admin, make)]
        self.routes.listeners = listeners
        return listeners

    async def _serve(
        self,
        public: socket.socket,
        admin: socket.socket | None,
        on_ready: Callable[[str], None] | None,
    ) -> None:
        self._public = public
        try:
            await super()._serve(public, admin, on_ready)
        finally:
            os.close(self._ledger)

    async def _work(self) -> None:
        assert self._fleet is not None
        try:
            await self._fleet.start()
            if self._stop_by_s is None:
                await super()._work()
        finally:
            by_s = time.monotonic() if self._stop_by_s is None else self._stop_by_s - self.close_s
            await self._fleet.gone(by_s)

    def stop(self, by_s: float | None = None) -> None:
        """See `Server`; tells the workers, and accepts no more."""
        super().stop(by_s)
        if self._fleet is not None and self._stop_by_s is not None:
            self._fleet.stop()
            self._fleet.tell(Stop(self._stop_by_s - self.close_s))
            self._public.close()

    def take_in(self, options: ServeOptions) -> None:
        """See `Server`; has the workers do so, too."""
        super().take_in(options)
        if self._fleet is not None:
            self._fleet.tell(Reload(self.options))

    def _tell(self) -> None:
        routes = self._of_all
        log.info(
            "state",
            stopping=self._stop_by_s is not None,
            connections=routes.connections_in_all(),
            workers=routes.fleet.serving,
        )

    def _interrupt(self) -> None:
        if self._stop_by_s is not None and self._fleet is not None:
            self._fleet.kill()
        super()._interrupt()

    def _log_stop(self, waiting: int | None) -> None:
        self.routes.figures.add(self._of_all.dead.counts)
        super()._log_stop(waiting)


def _under_way(all_of_them: Sequence[UnderWay]) -> UnderWay:
    return UnderWay(
        sum(one.queued for one in all_of_them),
        sum(one.handed_over for one in all_of_them),
        sum(one.bytes for one in all_of_them),
        max(one.oldest_s for one in all_of_them),
    )


def _health(own: Health, of_workers: Sequence[Snapshot]) -> Health:
    """How the nodes are, by what the server sees of them, and its workers, which write to them."""
    without_writes = max([own.without_writes, *(one.without_writes for one in of_workers)])
    return msgspec.structs.replace(own, without_writes=without_writes)


def _lines(all_of_them: Sequence[LogLines]) -> LogLines:
    return LogLines(
        *(sum(getattr(one, fate) for one in all_of_them) for fate in LogLines.__struct_fields__)
    )


def _log_level() -> str:
    return logging.getLevelName(logging.getLogger().level).lower()
