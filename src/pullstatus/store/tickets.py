"""Tickets: what an operation is known by to the store that it was given to.

    ticket = 8 bytes at random, once | 8 bytes that count

When a connection ends in the middle of a commit, an engine that is elsewhere asks by the ticket
whether it happened. So no two operations of a store may have the same, whoever makes them. A
counter behind a random beginning is as unlike all others as a random number, and costs a fraction.

The first two of the bytes that count stay 0, as nobody counts to 2**48: a caller may put a mark of
its own there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from pullstatus.store.values import TICKET_BYTES

_RANDOM_BYTES = 8


class Tickets:
    """Gives a new ticket with each call; one for a process, made behind any fork."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        """Begin where `random_bytes` says, which gives so many bytes at random."""
        counting = bytes(TICKET_BYTES - _RANDOM_BYTES)
        self._numbers = itertools.count(int.from_bytes(random_bytes(_RANDOM_BYTES) + counting))

    def __call__(self) -> bytes:
        """A ticket that nobody has had."""
        return next(self._numbers).to_bytes(TICKET_BYTES)
