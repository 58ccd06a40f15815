"""What the server does about failed tries: it counts them, tells of them, and takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from pullstatus import limits
from pullstatus.apps import Registry
from pullstatus.apps.tries import Tries
from pullstatus.server.figures import Figures
from pullstatus.server.http import HELD_S, Scope, whose

log = structlog.get_logger(__name__)


class Guesses:
    """The failed tries of a server, over all its calls.

    Attributes:
        tries: those that count.
    """

    def __init__(
        self, registry: Registry, figures: Figures, monotonic_s: Callable[[], float]
    ) -> None:
        self.tries = Tries(monotonic_s)
        self._registry = registry
        self._figures = figures
        self._paused = 0

    async def failed(self, scope: Scope, what: str) -> None:
        """Note a failed try, and return when it may be answered.

        At once, unless its address has had many. The answer is the same then: nothing is learned
        from the wait but that.

        Args:
            what: was wrong, one of `figures.WRONG`.
        """
        self._figures.failed_tries[what] += 1
        known = whose(scope)
        sdkappid = known.get("sdkappid")
        if sdkappid not in self._registry.applications:
            sdkappid = None  # strangers can make up as many as they like
        assert sdkappid is None or isinstance(sdkappid, int)
        late, of_address, at_application = self.tries.failed(str(known.get("address")), sdkappid)
        if of_address:
            log.warning("many failed tries of an address", tries=of_address, what=what, **known)
        if at_application:
            log.warning(
                "many failed tries at an application", tries=at_application, what=what, **known
            )
        if late and self._paused < limits.FAILED_TRIES_HELD_MAX:
            self._figures.failed_tries_late += 1
            self._paused += 1
            try:
                await asyncio.sleep(limits.FAILED_TRY_PAUSE_S)
            finally:
                self._paused -= 1
            scope[HELD_S] = limits.FAILED_TRY_PAUSE_S
