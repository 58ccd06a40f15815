"""What a server counts with, and bounds what strangers can make grow: made for a single process.

Where several processes are one server, its workers, each makes these so that the bounds hold over
all of them: see `workers.parts`.
"""

from __future__ import annotations

from collections.abc import Callable

from pullstatus import limits
from pullstatus.apps import Registry
from pullstatus.apps.admission import Admission
from pullstatus.apps.rate import RateLimiter
from pullstatus.mailbox.held import Held
from pullstatus.server.asking import Asking
from pullstatus.server.budget import Budget
from pullstatus.server.crowd import Crowd
from pullstatus.server.figures import Figures
from pullstatus.server.guesses import Guesses
from pullstatus.server.listener import AT_ONCE
from pullstatus.server.pauses import Shed
from pullstatus.store import Store


class Parts:
    """Makes each of them, once.

    Attributes:
        accepts_at_once: connections that are accepted before others get their turn.
    """

    accepts_at_once = AT_ONCE

    @property
    def reserve(self) -> int:
        """Connections beyond the bound, for health and figures."""
        return limits.CONNECTIONS_RESERVED

    def figures(self) -> Figures:
        """What is counted."""
        return Figures()

    def crowd(
        self, total_max: int, *, reserve: int, speaks_for_many: Callable[[str], bool]
    ) -> Crowd:
        """Who may be connected; see `Crowd`."""
        return Crowd(total_max, reserve=reserve, speaks_for_many=speaks_for_many)

    def budget(self) -> Budget:
        """What is in hand."""
        return Budget()

    def rates(self, monotonic_s: Callable[[], float]) -> RateLimiter:
        """How often applications may pull."""
        return RateLimiter(monotonic_s)

    def held(self, store: Store) -> Held:
        """Pulls that wait for a record."""
        return Held(store)

    def asking(self, store: Store, admission: Admission, budget: Budget) -> Asking:
        """Questions to the store."""
        return Asking(store, admission, budget)

    def shed(self) -> Shed:
        """Answers that are late since there was no room."""
        return Shed()

    def guesses(
        self,
        store: Store,
        registry: Registry,
        figures: Figures,
        *,
        monotonic_s: Callable[[], float],
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> Guesses:
        """Failed tries."""
        return Guesses(
            store,
            registry,
            figures,
            monotonic_s=monotonic_s,
            now_ms=now_ms,
            random_bytes=random_bytes,
        )
