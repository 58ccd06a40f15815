"""Whole messages over a stream of bytes: each has its length before it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

BUFFER_BYTES = 1024 * 1024
_LENGTH = struct.Struct("<Q")


def frame(message: bytes) -> tuple[bytes, bytes]:
    """What to send for a message, in two parts, so that the large one is not copied."""
    return _LENGTH.pack(len(message)), message


class Frames(Generic[T]):
    """Bytes as they come, cut into messages."""

    def __init__(self, read: Callable[[memoryview], T]) -> None:
        """Nothing has come.

        Args:
            read: makes of the bytes of a message what it says; they are overwritten then.
        """
        self._read = read
        self._buffer = bytearray(BUFFER_BYTES)
        self._size = 0

    def free(self) -> memoryview:
        """Room for the next bytes."""
        return memoryview(self._buffer)[self._size :]

    def arrived(self, count: int) -> list[T]:
        """The messages that are complete with `count` more bytes, in order."""
        self._size += count
        found = []
        start = 0
        with memoryview(self._buffer) as view:
            while self._size - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(view, start)
                end = start + _LENGTH.size + length
                if end > self._size:
                    break
                found.append(self._read(view[start + _LENGTH.size : end]))
                start = end
        self._make_room(start)
        return found

    def _make_room(self, start: int) -> None:
        """Move what is left to the front of a buffer that the next frame fits in."""
        left = self._size - start
        due = BUFFER_BYTES
        if left >= _LENGTH.size:
            due = max(due, _LENGTH.size + _LENGTH.unpack_from(self._buffer, start)[0])
        if due > len(self._buffer) or len(self._buffer) > due == BUFFER_BYTES:
            # A new one: the transport still has a view of this one.
            rest = self._buffer[start : self._size]
            self._buffer = bytearray(due)
            self._buffer[:left] = rest
        elif start:
            self._buffer[:left] = self._buffer[start : self._size]
        self._size = left
