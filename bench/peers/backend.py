"""What a peer has to do: the two verbs that the HTTP service needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Taken = tuple[int, bytes]
"""How many encoded records, and these joined by commas."""


class Backend(Protocol):
    """A queue by name. What is returned from `append` and `take` is durable, where it can be."""

    async def open(self, address: str) -> None:
        """Connect to the server at an address of the kind that its service gives."""
        ...

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        """Put encoded records at the tail."""
        ...

    async def take(self, queue: str, count: int) -> Taken:
        """Take up to `count` encoded records from the head."""
        ...
