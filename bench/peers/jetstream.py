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

NEXT = "$JS.API.CONSUMER.MSG.NEXT.entries.%s"
ARRIVE_S = 5.0  # how long records that are there may be on their way
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
        """Ask for what is there, acknowledge, and wait until that is stored."""
        fetchers = await self._fetchers_of(queue)
        inbox, arrived = await fetchers.get()
        try:
            ask = b'{"batch":%d,"no_wait":true}' % count
            await self._connection.publish(NEXT % queue, ask, reply=inbox)
            messages: list[Any] = []
            while len(messages) < count:
                message = await arrived.next_msg(timeout=ARRIVE_S)
                if (message.headers or {}).get("Status"):  # there are no more
                    break
                messages.append(message)
            if messages:
                await messages[-1].ack_sync()
        finally:
            fetchers.put_nowait((inbox, arrived))
        return len(messages), b",".join(message.data for message in messages)

    async def _fetchers_of(self, queue: str) -> asyncio.Queue[Any]:
        async with self._opening:
            found = self._fetchers.get(queue)
            if found is None:
                found = self._fetchers[queue] = asyncio.Queue()
                settings = self._api.ConsumerConfig(
                    durable_name=queue,
                    filter_subject=f"entries.{queue}",
                    ack_policy=self._api.AckPolicy.ALL,
                    max_ack_pending=-1,
                )
                await self._jetstream.add_consumer("entries", settings)
                for _ in range(FETCHERS):
                    inbox = self._connection.new_inbox()
                    found.put_nowait((inbox, await self._connection.subscribe(inbox)))
            return found
