"""Flow control of one connection: whether it is read, and whether it can be written to.

As uvicorn's, which makes an event for each connection, of 760 bytes, to wait until it can be
written to. Here there is one only while somebody waits.
"""

from __future__ import annotations

import asyncio


class Flow:
    """What uvicorn and our connection ask of a `FlowControl`.

    Attributes:
        read_paused: nothing is read from the peer.
        write_paused: more lies unsent than should.
    """

    __slots__ = ("_transport", "_writable", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        """Nothing is paused."""
        self._transport = transport
        self._writable: asyncio.Event | None = None
        self.read_paused = False
        self.write_paused = False

    async def drain(self) -> None:
        """Wait until it can be written to."""
        if self.write_paused:
            if self._writable is None:
                self._writable = asyncio.Event()
            await self._writable.wait()

    def pause_reading(self) -> None:
        """Read nothing more."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The transport has more to send than it should."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The transport takes more."""
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None
