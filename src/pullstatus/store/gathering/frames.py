"""Whole messages over a stream of bytes, between a server's process and that of its store.

A frame is a length, then a pickle: each process believes the other, since the server has started
the store's process and nobody else holds an end of their socket.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any

BUFFER_BYTES = 1024 * 1024
_LENGTH = struct.Struct("<Q")


def frame(content: object) -> tuple[bytes, bytes]:
    """What to send for a message, in two parts, so that the large one is not copied."""
    data = pickle.dumps(content, protocol=5)
    return _LENGTH.pack(len(data)), data


class Frames:
    """Bytes as they come, cut into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray(BUFFER_BYTES)
        self._size = 0

    def free(self) -> memoryview:
        """Room for the next bytes."""
        return memoryview(self._buffer)[self._size :]

    def arrived(self, count: int) -> list[Any]:
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
                found.append(pickle.loads(view[start + _LENGTH.size : end]))  # noqa: S301 - ours
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
