"""NATS JetStream: a stream on disk, a durable pull consumer, acknowledged with an answer.

Acknowledging a record acknowledges all before it, so the last one of a page stands for all of it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from bench.peers.backend import Taken

WAIT_S = 0.005  # how long a fetch waits for records that are not there
FETCHERS = 16  # fetches under way at a time


class JetStream:
    """See `Backend`. The address is a nats URL."""

    _connection: Any
    _jetstream: Any

    def __init__(self) -> None:
        self._name = os.urandom(8).hex()
        self._batches = itertools.count()
        self._fetchers: dict[str, asyncio.Queue[Any]] = {}
        self._opening = asyncio.Lock()

    async def open(self, address: str) -> None:
        """Connect and make the stream."""
        self._library = import_module("nats")
        self._api = import_module("nats.js.api")
        self._connection = await self._library.connect(address)
        self._jetstream = self._connection.jetstream()
        await self._jetstream.add_stream(
            name="entries",
            subjects=["entries.*"],
            storage=self._api.StorageType.FILE,
            allow_atomic=True,
        )

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        """Publish as one batch, which is stored and acknowledged as a whole, after one sync."""
        subject, batch = f"entries.{queue}", f"{self._name}-{next(self._batches)}"
        for number, entry in enumerate(entries[:-1], 1):
            headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            await self._connection.publish(subject, entry, headers=headers)
        last = None
        if len(entries) > 1:
            last = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(entries))}
            last["Nats-Batch-Commit"] = "1"
        await self._jetstream.publish(subject, entries[-1], headers=last)

    async def take(self, queue: str, count: int) -> Taken:
        """Fetch, acknowledge, and wait until that is stored."""
        fetchers = await self._fetchers_of(queue)
        fetcher = await fetchers.get()
        try:
            messages = await fetcher.fetch(count, timeout=WAIT_S)
            if messages:
                await messages[-1].ack_sync()
        except TimeoutError:
            return 0, b""
        finally:
            fetchers.put_nowait(fetcher)
        return len(messages), b",".join(message.data for message in messages)

    async def _fetchers_of(self, queue: str) -> asyncio.Queue[Any]:
        async with self._opening:
            found = self._fetchers.get(queue)
            if found is None:
                found = self._fetchers[queue] = asyncio.Queue()
                settings = self._api.ConsumerConfig(
                    ack_policy=self._api.AckPolicy.ALL, max_ack_pending=-1
                )
                for _ in range(FETCHERS):
                    found.put_nowait(
                        await self._jetstream.pull_subscribe(
                            f"entries.{queue}", durable=queue, config=settings
                        )
                    )
            return found
