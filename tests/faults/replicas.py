"""What the nodes of a cluster do not have alike, while nobody is at work.

    assert not apart(cluster, compare=True)

Each node says of itself how far each stream goes, how many messages it has of it, and how many
bytes. To compare all messages the others are killed, one pair after the other: a node that is
alone answers direct gets of what it has, and nobody else can.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import nats
from nats.aio.client import Client

from tools.nats import PATIENCE_S, Cluster, Node

POLL_S: Final = 0.2
BATCH: Final = 500
ANSWER_S: Final = 20.0
WHOLE: Final = "204"
END: Final = "end"
SAID: Final = ("first_seq", "last_seq", "messages", "bytes", "num_subjects", "num_deleted")

Streams = Mapping[str, Mapping[Any, int]]
"""What a node has of each stream: figures by their names, or digests by sequence."""


def apart(cluster: Cluster, compare: bool) -> list[str]:
    """What is not alike.

    Args:
        compare: all messages, too; nodes are killed for that, and run again on return.
    """
    cluster.settle()
    due_s = time.monotonic() + PATIENCE_S
    while found := differences({node.name: _told(node) for node in cluster.nodes}):
        if time.monotonic() > due_s:
            return found
        time.sleep(POLL_S)
    if not compare:
        return []
    return differences({node.name: _alone(cluster, node) for node in cluster.nodes})


def _told(node: Node) -> Streams:
    """What a node says of each of its streams."""
    told = node.look("/jsz?accounts=true&streams=true")
    return {
        stream["name"]: {name: stream["state"].get(name, 0) for name in SAID}
        for account in told["account_details"]
        for stream in account["stream_detail"]
    }


def _alone(cluster: Cluster, node: Node) -> Streams:
    """All that a node has, as only that one can say it."""
    streams = sorted(_told(node))
    others = [other for other in cluster.nodes if other is not node]
    for other in others:
        other.kill()
    try:
        return asyncio.run(_contents(node, streams))
    finally:
        for other in others:
            other.start()
        cluster.settle()


async def _contents(node: Node, streams: Iterable[str]) -> Streams:
    client = await nats.connect(f"nats://{node.host}:{node.port}")
    try:
        return {stream: await _messages(client, stream) for stream in streams}
    finally:
        await client.close()


async def _messages(client: Client, stream: str) -> Mapping[object, int]:
    """A digest of each message, by its sequence."""
    found: dict[object, int] = {}
    due_s = time.monotonic() + PATIENCE_S
    sequence, status = 1, ""
    while status != END:
        status, messages = await _batch(client, stream, sequence)
        found.update(messages)
        if messages:
            sequence = messages[-1][0] + 1
        elif status != END:  # it does not answer such questions yet
            assert time.monotonic() < due_s, f"{stream}: {status}"
            await asyncio.sleep(POLL_S)
    return found


async def _batch(client: Client, stream: str, sequence: int) -> tuple[str, list[tuple[int, int]]]:
    """Messages from a sequence on, and the status behind them; `END`: there are no more."""
    answers = await client.subscribe(client.new_inbox())
    query = {"seq": sequence, "next_by_subj": ">", "batch": BATCH}
    await client.publish(
        f"$JS.API.DIRECT.GET.{stream}", json.dumps(query).encode(), reply=answers.subject
    )
    messages: list[tuple[int, int]] = []
    while True:
        answer = await answers.next_msg(ANSWER_S)
        said = dict(answer.headers or {})
        if (status := said.get("Status")) is not None:
            await answers.unsubscribe()
            more = status == WHOLE and int(said.get("Nats-Num-Pending", 0))
            return END if status == WHOLE and not more else status, messages
        whole = repr(sorted(said.items())).encode() + answer.data
        messages.append((int(said["Nats-Sequence"]), zlib.crc32(whole)))


def differences(nodes: Mapping[str, Streams]) -> list[str]:
    """Between what the first node has, and each other one."""
    (first, streams), *others = nodes.items()
    found = []
    for name, theirs in others:
        if streams.keys() != theirs.keys():
            found.append(f"{first} has {sorted(streams)}, {name} has {sorted(theirs)}")
        for stream in streams.keys() & theirs.keys():
            apart = sorted(
                streams[stream].items() ^ theirs[stream].items(), key=lambda item: str(item[0])
            )
            if apart:
                found.append(f"{stream} of {first} and {name}: {len(apart)}, such as {apart[:4]}")
    return found
