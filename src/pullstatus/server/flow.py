"""Flow control of one connection: whether it is read, and whether it can be written to.

As uvicorn's, which makes an event for each connection, of 760 bytes, to wait until it can be
written to. Here there is one only while somebody waits. And reading can be put off: whoever else
asks meanwhile for it to be paused or resumed has that when it goes on.
"""

from __future__ import annotations

import asyncio


class Flow:
    """What uvicorn and our connection ask of a `FlowControl`.

    Attributes:
        read_paused: nothing is read from the peer, as far as that is not put off.
        put_off: nothing is, whoever asks for it.
        write_paused: more lies unsent than should.
    """

    __slots__ = ("_transport", "_writable", "put_off", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        """Nothing is paused."""
        self._transport = transport
        self._writable: asyncio.Event | None = None
        self.put_off = False
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
            if not self.put_off:
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self.read_paused:
            self.read_paused = False
            if not self.put_off:
                self._transport.resume_reading()

    def put_off_reading(self) -> None:
        """Read nothing until `go_on_reading`."""
        if not self.put_off:
            self.put_off = True
            if not self.read_paused:
                self._transport.pause_reading()

    def go_on_reading(self) -> None:
        """Read again, unless that is paused."""
        if self.put_off:
            self.put_off = False
            if not (self.read_paused or self._transport.is_closing()):
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
