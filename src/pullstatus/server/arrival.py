"""How much of what was written over TLS has not arrived.

The transport has its own buffer empty as soon as it has encrypted what was written, however slowly
the peer reads. The kernel knows better: it counts what the peer's has acknowledged, the overhead of
TLS included (`tcpi_bytes_acked` of linux/tcp.h).
"""

from __future__ import annotations

import socket
import sys
from typing import Final

LARGE_BYTES: Final = 64 * 1024
"""Of an answer that is watched until it has arrived; without TLS writing pauses there, too."""
LOOK_S: Final = 0.05
"""Between two looks at it: nothing tells when it has."""

_TCP_INFO_BYTES: Final = 128
_ACKNOWLEDGED: Final = slice(120, 128)


class Arrival:
    """What the kernel tells of one connection.

    Attributes:
        looking: somebody looks again soon.
    """

    __slots__ = ("_before", "_end", "looking")

    def __init__(self, end: socket.socket) -> None:
        """Of this socket; `begin` before anything is asked."""
        self._end = end
        self._before = 0
        self.looking = False

    def begin(self, written: int) -> None:
        """More is to be written: count from there, unless something has not arrived yet.

        Args:
            written: bytes of answers, ever.
        """
        acknowledged = self._acknowledged()
        if written <= acknowledged - self._before:
            self._before = acknowledged - written

    def unread(self, written: int) -> int:
        """How many bytes of answers have not arrived; 0 where the kernel does not say."""
        acknowledged = self._acknowledged()
        return max(0, written - (acknowledged - self._before)) if acknowledged else 0

    def _acknowledged(self) -> int:
        try:
            told = self._end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except (AttributeError, OSError, ValueError):  # the last of uvloop, where it is closed
            return 0
        return int.from_bytes(told[_ACKNOWLEDGED], sys.byteorder)
