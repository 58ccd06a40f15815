"""Whose turn something is: a row that its holder writes anew while it works.

Nobody's wall clock counts: who finds the row of another looks again later, and takes it if it has
not changed for so long by its own clock. Of two that take themselves for the holder each does work
that the other has done, or will find done; nothing rests on there being one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pullstatus.store.jetstream.messages import LeaseMessage, is_whole, opened, sealed
from pullstatus.store.jetstream.subjects import Place
from pullstatus.store.jetstream.wire import Bus, Put, Stale

LEASE_S: Final = 30.0  # of a row that does not change
RENEW_S: Final = LEASE_S / 4


class Lease:
    """What one process knows of it. Its methods block."""

    def __init__(
        self,
        bus: Bus,
        place: Place,
        subject: str,
        new_op: Callable[[], bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Not held.

        Args:
            subject: of the row.
            clock: of seconds.
        """
        self._bus = bus
        self._stream, self._subject = place.stream, subject
        self._new_op = new_op
        self._clock = clock
        self._own = new_op()
        self._seen: LeaseMessage | None = None
        self._since_s = 0.0

    def take(self) -> bool:
        """Have it, or go on having it; False: another has it, or was faster."""
        return self._write(self._own)

    def let_go(self) -> None:
        """Whoever wants it may have it now."""
        self._write(b"")

    def _write(self, holder: bytes) -> bool:
        stream, subject = self._stream, self._subject
        found = self._bus.last(stream, subject, leader=True)
        told = LeaseMessage(b"", 0)
        if found is not None and is_whole(found):
            told = opened(found, LeaseMessage)
        if told.holder not in (b"", self._own) and not self._is_left(told):
            return False
        op = self._new_op()
        last = 0 if found is None else found.sequence
        put = Put(subject, sealed(op, subject, LeaseMessage(holder, told.count + 1)), last)
        try:
            sequence = self._bus.write(stream, [put], op)
        except Stale:
            return False
        self._bus.purge(stream, subject, below=sequence)
        return True

    def _is_left(self, told: LeaseMessage) -> bool:
        """Whether another's row has not changed for so long."""
        if told != self._seen:
            self._seen, self._since_s = told, self._clock()
        return self._clock() - self._since_s >= LEASE_S
