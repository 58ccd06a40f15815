"""NATS JetStream: a stream on disk, a durable pull consumer, acknowledged with an answer.

The server takes the acknowledgements of a connection in their order, so the answer to the last one
of a page stands for all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import Any

WAIT_S = 0.005  # how long a fetch waits for records that are not there
FETCHERS = 16  # fetches under way at a time


class JetStream:
    """See `Backend`. The address is a nats URL."""

    _jetstream: Any

    def __init__(self) -> None:
        self._fetchers: dict[str, asyncio.Queue[Any]] = {}
        self._opening = asyncio.Lock()

    async def open(self, address: str) -> None:
        """Connect and make the stream."""
        self._library = import_module("nats")
        self._api = import_module("nats.js.api")
        connection = await self._library.connect(address)
        self._jetstream = connection.jetstream(publish_async_max_pending=100_000)
        await self._jetstream.add_stream(
            name="entries", subjects=["entries.*"], storage=self._api.StorageType.FILE
        )

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        """Publish all at once, then wait for every acknowledgement."""
        subject = f"entries.{queue}"
        sent = [await self._jetstream.publish_async(subject, entry) for entry in entries]
        await asyncio.gather(*sent)

    async def take(self, queue: str, count: int) -> list[bytes]:
        """Fetch, acknowledge each, and wait until the last is stored."""
        fetchers = await self._fetchers_of(queue)
        fetcher = await fetchers.get()
        try:
            messages = await fetcher.fetch(count, timeout=WAIT_S)
            for message in messages[:-1]:
                await message.ack()
            if messages:
                await messages[-1].ack_sync()
        except TimeoutError:
            return []
        finally:
            fetchers.put_nowait(fetcher)
        return [message.data for message in messages]

    async def _fetchers_of(self, queue: str) -> asyncio.Queue[Any]:
        async with self._opening:
            found = self._fetchers.get(queue)
            if found is None:
                found = self._fetchers[queue] = asyncio.Queue()
                settings = self._api.ConsumerConfig(max_ack_pending=-1)
                for _ in range(FETCHERS):
                    found.put_nowait(
                        await self._jetstream.pull_subscribe(
                            f"entries.{queue}", durable=queue, config=settings
                        )
                    )
            return found
