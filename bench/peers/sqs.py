"""SQS as moto emulates it, in memory: ten records a call at most, in and out, then deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from bench.peers.backend import Taken

CONNECTIONS = 16  # the emulator has a thread for each
CALL_MAX = 10  # records in one call, by SQS' own rule


class Sqs:
    """See `Backend`. The address is an http URL. Nothing is durable."""

    _client: Any

    def __init__(self) -> None:
        self._urls: dict[str, str] = {}

    async def open(self, address: str) -> None:
        """Keep connections to the emulator."""
        httpx = import_module("httpx")
        limits = httpx.Limits(max_connections=CONNECTIONS)
        self._client = httpx.AsyncClient(base_url=address, timeout=None, limits=limits)

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        """As many calls as it takes, all at once."""
        url = await self._url(queue)
        parts = [entries[begin : begin + CALL_MAX] for begin in range(0, len(entries), CALL_MAX)]
        await asyncio.gather(*(self._send(url, part) for part in parts))

    async def take(self, queue: str, count: int) -> Taken:
        """Receive and delete until there are enough, or no more."""
        url = await self._url(queue)
        taken: list[bytes] = []
        while len(taken) < count:
            wanted = min(CALL_MAX, count - len(taken))
            answer = await self._call(
                "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=wanted, WaitTimeSeconds=0
            )
            messages = answer.get("Messages", [])
            if not messages:
                break
            handles = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages)
            ]
            await self._call("DeleteMessageBatch", QueueUrl=url, Entries=handles)
            taken += [message["Body"].encode() for message in messages]
        return len(taken), b",".join(taken)

    async def _send(self, url: str, entries: Sequence[bytes]) -> None:
        bodies = [
            {"Id": str(number), "MessageBody": entry.decode()}
            for number, entry in enumerate(entries)
        ]
        await self._call("SendMessageBatch", QueueUrl=url, Entries=bodies)

    async def _url(self, queue: str) -> str:
        if queue not in self._urls:
            answer = await self._call("CreateQueue", QueueName=queue)
            self._urls[queue] = answer["QueueUrl"]
        return self._urls[queue]

    async def _call(self, action: str, **members: object) -> dict[str, Any]:
        response = await self._client.post(
            "/",
            json=members,
            headers={
                "Content-Type": "application/x-amz-json-1.0",
                "X-Amz-Target": f"AmazonSQS.{action}",
                # The emulator reads region and service from it and checks nothing.
                "Authorization": "AWS4-HMAC-SHA256 Credential=x/20250101/us-east-1/sqs/aws4_request"
                ", SignedHeaders=host, Signature=x",
            },
        )
        response.raise_for_status()
        found: dict[str, Any] = response.json()
        return found
