"""What whoever supervises the process is told of it: ready, going on, stopping.

The protocol is that of sd_notify(3), https://www.freedesktop.org/software/systemd/man/sd_notify.html:
a datagram of lines, to the socket that a variable names. A few of them wait there to be read:
beyond these, what is told once waits for room, and what is told again and again is not sent. That
it cannot be sent is no failure of the server's.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import MutableMapping
from typing import Self

PATIENCE_S = 1.0  # of what is told once
_DIGITS = re.compile("[0-9]{1,20}")  # of what systemd has such times in: 64 bits
_ABSTRACT = "@"  # in front of a name that is in no folder


class Supervisor:
    """Who supervises the process; nobody, if there is no address.

    Attributes:
        alive_every_s: how often it wants to be told that the server goes on; None: never.
    """

    def __init__(self, address: str | None = None, alive_every_s: float | None = None) -> None:
        """Nothing is told yet.

        Args:
            address: of its socket: a path, or a name behind an `@`.
            alive_every_s: see above.
        """
        self._address = address and address.replace(_ABSTRACT, "\0", 1)
        self.alive_every_s = alive_every_s

    @classmethod
    def of(cls, environment: MutableMapping[str, str], pid: int) -> Self:
        """The one that the environment of process `pid` names.

        The variables are taken out: they are not meant for processes that this one starts.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        patience_us = environment.pop("WATCHDOG_USEC", "")
        meant = environment.pop("WATCHDOG_PID", str(pid)) == str(pid)
        if not address.startswith(("/", _ABSTRACT)):
            return cls()
        # Twice as often as need be, as its manual advises.
        every_s = int(patience_us) / 2_000_000 if _DIGITS.fullmatch(patience_us) else 0
        return cls(address, every_s if meant and every_s else None)

    def ready(self, status: str) -> None:
        """Connections are accepted; `status` is shown to people."""
        self._tell("READY=1", f"STATUS={status}", patience_s=PATIENCE_S)

    def alive(self) -> None:
        """The server goes on. Who is not told in time ends it, and starts it anew."""
        self._tell("WATCHDOG=1", patience_s=0.0)

    def stopping(self) -> None:
        """No more connections are accepted."""
        told = "STOPPING=1", "STATUS=finishing requests in flight"
        self._tell(*told, patience_s=PATIENCE_S)

    def _tell(self, *lines: str, patience_s: float) -> None:
        if self._address:
            with contextlib.suppress(OSError, ValueError), _socket() as sending:
                sending.settimeout(patience_s)
                sending.sendto("\n".join(lines).encode(), self._address)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
