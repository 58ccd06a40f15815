"""Who acts: every operation of an operator says who did it, and leaves that on record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from pullstatus.store import TICKET_BYTES, Act

SERVER: Final = "server"  # the actor where no person acts
RandomHex = Callable[[int], str]  # so many random bytes, as hex digits


class Operator(msgspec.Struct, frozen=True):
    """Who acts, when and why, with what chance is to be had from.

    Attributes:
        actor: a name, as the machine knows it.
        reason: why; empty where nobody asks.
    """

    actor: str
    now_ms: int
    random_hex: RandomHex
    reason: str = ""

    def ticket(self) -> bytes:
        """A ticket that no operation has had."""
        return bytes.fromhex(self.random_hex(TICKET_BYTES))

    def act(self, action: str, **detail: object) -> Act:
        """An act, not on record yet.

        Args:
            action: in the words of the command.
            detail: to what: numbers of applications, switches, names of tokens. Never a key, a
                secret, a telephone number, a customer's name or a text.
        """
        told = msgspec.json.encode(detail).decode()
        return Act(self.actor, action, self.reason, told, self.now_ms, self.ticket())
