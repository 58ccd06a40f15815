"""RabbitMQ: a quorum queue, published to with confirms, consumed into a buffer, acknowledged.

The manual advises against polling with basic.get, so a consumer of large prefetch keeps records at
hand, and a page is acknowledged as a whole. The broker does not confirm acknowledgements: a crash
may bring a page back, which the others do not do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

from bench.peers.backend import Taken

PREFETCH = 10_000


class RabbitMq:
    """See `Backend`. The address is an amqp URL."""

    _connection: Any
    _publisher: Any

    def __init__(self) -> None:
        self._buffers: dict[str, _Buffer] = {}
        self._opening = asyncio.Lock()

    async def open(self, address: str) -> None:
        """Connect, one channel for publishing."""
        self._connection = await import_module("aio_pika").connect(address)
        channel = await self._connection.channel(publisher_confirms=True)
        # What lies below, as the upper one waits for the socket after each record.
        self._publisher = await channel.get_underlay_channel()
        basic = import_module("aiormq").spec.Basic
        self._properties = partial(basic.Properties, delivery_mode=2)

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        """Publish all at once, then wait for every confirm."""
        await self._buffer(queue)
        await asyncio.gather(
            *(
                self._publisher.basic_publish(
                    entry, routing_key=queue, properties=self._properties(), wait=False
                )
                for entry in entries
            )
        )

    async def take(self, queue: str, count: int) -> Taken:
        """What the consumer holds, acknowledged up to the last of it."""
        return await (await self._buffer(queue)).take(count)

    async def _buffer(self, queue: str) -> _Buffer:
        async with self._opening:
            found = self._buffers.get(queue)
            if found is None:
                channel = await self._connection.channel()
                await channel.set_qos(prefetch_count=PREFETCH)
                declared = await channel.declare_queue(
                    queue, durable=True, arguments={"x-queue-type": "quorum"}
                )
                found = self._buffers[queue] = _Buffer()
                await declared.consume(found.received)
            return found


class _Buffer:
    """Records delivered by one consumer and not yet taken, in order."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._turn = asyncio.Lock()

    async def received(self, message: Any) -> None:  # noqa: ANN401 - of a library unseen here
        self._messages.append(message)

    async def take(self, count: int) -> Taken:
        # In turn: an acknowledgement of what a later one has covered is an error to the broker.
        async with self._turn:
            messages = [self._messages.popleft() for _ in range(min(count, len(self._messages)))]
            if messages:
                await messages[-1].ack(multiple=True)
        return len(messages), b",".join(message.body for message in messages)
