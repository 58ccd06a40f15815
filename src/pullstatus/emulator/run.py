"""The running emulator: the server of `server.serve` on a temporary store, with a scenario."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial

from pullstatus import apps, limits
from pullstatus.apps import Registry
from pullstatus.emulator.application import EmulatedRoutes
from pullstatus.emulator.applications import Applications
from pullstatus.emulator.emulation import Emulation
from pullstatus.emulator.scenario import Scenario
from pullstatus.server.routes import Routes
from pullstatus.server.serve import ServeOptions, Server
from pullstatus.store.scratch import scratch_store


class EmulatorServer(Server):
    """A serving process like any other; `emulation` is there once `started` is set."""

    def __init__(self, options: ServeOptions, scenario: Scenario) -> None:
        super().__init__(options)
        self.scenario = scenario
        self.emulation: Emulation

    async def build(self, registry: Registry) -> Routes:
        """What answers for the emulator, on a store with those of the scenario."""
        keyring = await apps.open_keyring(self.store, apps.masters_beside(self.options.store))
        applications = Applications(self.store, registry, keyring, self.scenario)
        routes = EmulatedRoutes(self.store, registry, self.scenario, applications)
        self.emulation = routes.emulation
        await self.emulation.reset()
        return routes

    def _log_start(self, registry: Registry, waiting: int | None) -> None:
        """Nothing: a store that is made up has no state to tell, and the log is for requests."""

    def _log_stop(self, waiting: int | None) -> None:
        """Nothing, likewise."""

    def stop_now(self) -> None:
        """Begin a stop that waits for no client: a test's may be in the middle of a call."""
        self.stop()
        if self._uvicorn is not None:
            self._uvicorn.force_exit = True

    def chores(self, registry: Registry) -> list[Coroutine[object, object, None]]:
        """The server's, the traffic, and what follows sends, pushed or not."""
        emulation = self.emulation
        return [
            *super().chores(registry),
            emulation.run_traffic(),
            emulation.run_deliveries(),
            emulation.pushes.run(),
            emulation.gateways.run(),
        ]


async def emulate(
    scenario: Scenario,
    host: str,
    port: int,
    *,
    on_ready: Callable[[EmulatorServer], None],
    on_overdue: Callable[[EmulatorServer], None] | None = None,
) -> EmulatorServer:
    """Emulate until the server is stopped, and return it; no file is left behind.

    Args:
        port: 0 takes a free one.
        on_ready: called once connections are accepted.
        on_overdue: ends the process, if that is the emulator's own; see `Server`.

    Raises:
        InvalidSetting: the address can't be listened on.
        StoreRefused: there is no place for a temporary store.
    """
    with scratch_store("emulator") as store:
        options = ServeOptions(
            store=store, host=host, port=port, reserve_bytes=limits.SCRATCH_RESERVE_BYTES
        )
        server = EmulatorServer(options, scenario)
        if on_overdue is not None:
            server.on_overdue = partial(on_overdue, server)
        await server.run(on_ready=lambda _address: on_ready(server))
    return server
