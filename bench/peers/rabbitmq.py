"""RabbitMQ: a quorum queue, published to with confirms, consumed into a buffer, acknowledged.

The manual advises against polling with basic.get, so a consumer of large prefetch keeps records at
hand, and a page is acknowledged as a whole. The broker does not confirm acknowledgements: a crash
may bring a page back, which the others do not do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from importlib import import_module
from typing import Any

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
        self._library = import_module("aio_pika")
        self._connection = await self._library.connect(address)
        self._publisher = await self._connection.channel(publisher_confirms=True)

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        """Publish all at once, then wait for every confirm."""
        await self._buffer(queue)
        message, mode = self._library.Message, self._library.DeliveryMode.PERSISTENT
        await asyncio.gather(
            *(
                self._publisher.default_exchange.publish(
                    message(entry, delivery_mode=mode), routing_key=queue
                )
                for entry in entries
            )
        )

    async def take(self, queue: str, count: int) -> list[bytes]:
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

    async def take(self, count: int) -> list[bytes]:
        # In turn: an acknowledgement of what a later one has covered is an error to the broker.
        async with self._turn:
            messages = [self._messages.popleft() for _ in range(min(count, len(self._messages)))]
            if messages:
                await messages[-1].ack(multiple=True)
        return [message.body for message in messages]
