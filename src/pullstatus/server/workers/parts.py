"""What a worker counts with, so that the bounds of the server hold over all of its workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from pullstatus import limits
from pullstatus.apps import Registry
from pullstatus.apps.admission import Admission
from pullstatus.apps.rate import RateLimiter
from pullstatus.apps.tries import Failed
from pullstatus.apps.values import Purpose
from pullstatus.mailbox.held import Held
from pullstatus.server.asking import Asking
from pullstatus.server.budget import Budget, Over, Owner
from pullstatus.server.crowd import Crowd, Full, Seat
from pullstatus.server.figures import Figures
from pullstatus.server.guesses import Guesses
from pullstatus.server.parts import Parts
from pullstatus.server.pauses import Shed
from pullstatus.server.replays import Replays
from pullstatus.server.workers.ledger import CONNECTIONS, HELD, IN_HAND, Ledger
from pullstatus.store import Store

NS: Final = 1_000_000_000
SIGNATURE_DIGITS: Final = 15  # hexadecimal, of a word that has a sign

AskFailed = Callable[[str, int | None, str], Awaitable[Failed]]
"""Has the server count a failed try; see `Guesses.note`."""


class SharedParts(Parts):
    """Makes them for one of several workers."""

    accepts_at_once = 1  # the next one is for whoever is free

    def __init__(self, ledger: Ledger, workers: int, failed: AskFailed, *, in_line: bool) -> None:
        """Count in `ledger`, as one of so many.

        Args:
            in_line: the store, which all share, says whose pulls that wait are next.
        """
        self._in_line = in_line
        self._ledger = ledger
        self._workers = workers
        self._failed = failed

    @property
    def reserve(self) -> int:
        """See `Parts`."""
        return max(1, limits.CONNECTIONS_RESERVED // self._workers)

    def figures(self) -> Figures:
        """See `Parts`."""
        return Figures(_Replays(self._ledger))

    def crowd(
        self, total_max: int, *, reserve: int, speaks_for_many: Callable[[str], bool]
    ) -> Crowd:
        """See `Parts`."""
        return _Crowd(self._ledger, total_max, reserve, speaks_for_many)

    def budget(self) -> Budget:
        """See `Parts`."""
        return _Budget(self._ledger)

    def rates(self, monotonic_s: Callable[[], float]) -> RateLimiter:
        """See `Parts`."""
        return _Rates(self._ledger, monotonic_s)

    def held(self, store: Store) -> Held:
        """See `Parts`."""
        ledger = self._ledger

        def in_all(count: int) -> int:
            ledger.set(HELD, count)
            return ledger.total(HELD)

        return Held(store, in_all, among_others=self._in_line)

    def asking(self, store: Store, admission: Admission, budget: Budget) -> Asking:
        """See `Parts`."""
        return Asking(store, admission, budget, sharers=self._workers)

    def shed(self) -> Shed:
        """See `Parts`."""
        return Shed(self._workers)

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
        """See `Parts`."""
        made = _Guesses(
            store,
            registry,
            figures,
            monotonic_s=monotonic_s,
            now_ms=now_ms,
            random_bytes=random_bytes,
            sharers=self._workers,
        )
        made.ask = self._failed
        return made


class _Crowd(Crowd):
    """The connections of one worker, bounded with those of the others."""

    def __init__(
        self,
        ledger: Ledger,
        total_max: int,
        reserve: int,
        speaks_for_many: Callable[[str], bool],
    ) -> None:
        super().__init__(total_max, reserve=reserve, speaks_for_many=speaks_for_many)
        self._ledger = ledger

    def enter(self, address: str) -> Seat | None:
        seat = super().enter(address)
        if seat is not None:
            self._count(seat, 1)
        return seat

    def left(self, seat: Seat) -> None:
        super().left(seat)
        self._count(seat, -1)

    def _count(self, seat: Seat, count: int) -> None:
        if not seat.reserved:
            self._ledger.add(CONNECTIONS, count)
            if seat.network is not None:
                self._ledger.add(self._ledger.address(seat.network), count)

    def _full(self, network: str | None) -> Full | None:
        if self._ledger.total(CONNECTIONS) >= self._total_max:
            return Full.TOTAL
        if network is None:
            return None
        count = self._ledger.total(self._ledger.address(network))
        return Full.ADDRESS if count >= self._address_max else None


class _Budget(Budget):
    """What one worker has in hand, bounded with what the others have."""

    __slots__ = ("_in_all", "_ledger")

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger
        self._in_all = Budget()  # as it is for whoever is asked about

    def take(self, size: int, owner: Owner | None = None) -> None:
        self._ledger.add(IN_HAND, size)
        super().take(size, owner)

    def share(self, owner: Owner, size: int) -> None:
        super().share(owner, size)
        self._ledger.add(self._ledger.owner(owner), size)

    def has(self, owner: Owner) -> int:
        return self._ledger.total(self._ledger.owner(owner))

    def full(self, owner: Owner | None) -> Over | None:
        in_all = self._in_all
        in_all.bytes = self._ledger.total(IN_HAND)
        if owner is not None:
            in_all.of = {owner: self.has(owner)}
        return in_all.full(owner)


class _Rates(RateLimiter):
    """Token buckets, each as of when it is full: one number that all share."""

    def __init__(self, ledger: Ledger, monotonic_s: Callable[[], float]) -> None:
        super().__init__(monotonic_s)
        self._ledger = ledger

    def admit(self, sdkappid: int, purpose: Purpose, rate_max: int) -> bool:
        key = sdkappid * len(Purpose) + purpose
        with self._ledger.times(key) as times:
            now = int(self._monotonic_s() * NS)
            full = max(now, times.get(key))
            if full - now > NS - NS // rate_max:
                return False
            times.set(key, full + NS // rate_max)
            return True


class _Replays(Replays):
    """Signatures that came lately, to any worker."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(0)
        self._ledger = ledger

    def note(self, sdkappid: int, signature: str) -> None:
        if self._ledger.known(int(signature[:SIGNATURE_DIGITS], 16)):
            self.came_again(sdkappid)


class _Guesses(Guesses):
    """Failed tries that the server counts for all workers."""

    ask: AskFailed

    async def _count(self, what: str, sdkappid: int | None, address: str) -> Failed:
        return await self.ask(what, sdkappid, address)
