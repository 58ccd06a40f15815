"""Who is connected: how many in all and from each address, and who else may come. Pure.

Beyond a bound there is a reserve, whose connections get nothing but health and figures: so whoever
watches a server sees that it is full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from pullstatus import limits
from pullstatus.apps.networks import site_of


class Full(StrEnum):
    """Which bound a connection is over."""

    TOTAL = "total"
    """There are as many as the server takes."""
    ADDRESS = "address"
    """There are as many from this address, or its IPv6 network of 64 bits."""


class Seat:
    """The place of a connection; `leave` it once, when that has ended.

    One for all of a network: there may be thousands.

    Attributes:
        network: whose it is: see `site_of`; None: a proxy's, who speaks for many.
        count: how many are in it.
        reserved: it is beyond a bound, and gets nothing but health and figures.
    """

    __slots__ = ("_crowd", "count", "network", "reserved")

    def __init__(self, crowd: Crowd, network: str | None, *, reserved: bool) -> None:
        """For `Crowd.enter`."""
        self._crowd = crowd
        self.network = network
        self.reserved = reserved
        self.count = 0

    def leave(self) -> None:
        """It has ended."""
        self._crowd.left(self)


class Crowd:
    """The connections of one listener.

    Attributes:
        count: how many there are, those in the reserve included.
        refused: how many were over which bound, in the reserve or not taken at all.
    """

    def __init__(
        self,
        total_max: int,
        *,
        reserve: int = 0,
        speaks_for_many: Callable[[str], bool] = lambda _address: False,
    ) -> None:
        """Nobody is there.

        Args:
            total_max: how many may be.
            reserve: how many more, for health and figures.
            speaks_for_many: tells of an address whether it is a proxy's, which has no bound of its
                own.
        """
        self._total_max = total_max
        self._address_max = max(1, total_max // limits.SHARE_OF_ONE)
        self._reserve = reserve
        self._speaks_for_many = speaks_for_many
        self._of: dict[str | None, Seat] = {}
        self._beyond = Seat(self, None, reserved=True)
        self.count = 0
        self.refused: Counter[str] = Counter(dict.fromkeys(map(str, Full), 0))

    def enter(self, address: str) -> Seat | None:
        """A place for a connection from there; None: it is not taken."""
        network = None if self._speaks_for_many(address) else site_of(address) or address
        full = self._full(network)
        if full is None:
            seat = self._of.get(network)
            if seat is None:
                seat = self._of[network] = Seat(self, network, reserved=False)
        else:
            self.refused[full] += 1
            if self._beyond.count >= self._reserve:
                return None
            seat = self._beyond
        seat.count += 1
        self.count += 1
        return seat

    def left(self, seat: Seat) -> None:
        """For `Seat`: a connection of it has ended."""
        self.count -= 1
        seat.count -= 1
        if not (seat.count or seat.reserved):
            del self._of[seat.network]

    def _full(self, network: str | None) -> Full | None:
        if self.count - self._beyond.count >= self._total_max:
            return Full.TOTAL
        seat = self._of.get(network)
        if network is not None and seat is not None and seat.count >= self._address_max:
            return Full.ADDRESS
        return None
