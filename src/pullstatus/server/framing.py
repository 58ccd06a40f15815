"""How much of what a peer sends is no body: heads, chunk sizes, trailers."""

from __future__ import annotations

from pullstatus import limits


class Framing:
    """What the request at hand has brought so far.

    Attributes:
        body_bytes: of its body.
    """

    __slots__ = ("_chunks", "_framing_bytes", "_whole", "body_bytes")

    def __init__(self) -> None:
        self.body_bytes = 0
        self._chunks = 0
        self._framing_bytes = 0  # outside its body, as far as known
        self._whole = False  # a request became whole in what was just read

    def body(self, size: int) -> None:
        """So much of what was read is body."""
        self.body_bytes += size
        self._framing_bytes -= size

    def chunk(self) -> bool:
        """A chunk begins; whether there are not too many, as small as they are."""
        self._chunks += 1
        free = limits.CHUNKS_FREE
        return self._chunks <= free + self.body_bytes // limits.CHUNK_BYTES_MIN

    def whole(self) -> None:
        """The request is complete."""
        self._whole = True
        self.body_bytes = self._chunks = 0

    def fits(self, size: int) -> bool:
        """Whether what is no body is within its bound, with all of a read of `size` bytes."""
        if self._whole:
            # Nobody says where in it the request at hand began: count from the next read on.
            self._whole = False
            self._framing_bytes = 0
            return True
        self._framing_bytes += size
        free = limits.HEADER_BYTES_MAX + limits.CALLBACK_QUERY_BYTES_MAX
        return self._framing_bytes <= free + self.body_bytes * limits.FRAMING_BYTES_PER_BYTE_MAX
