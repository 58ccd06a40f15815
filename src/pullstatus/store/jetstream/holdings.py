"""What nodes say, where they are monitored, that they have of streams, and who is asked for it.

Which of them have lost messages, `copies` tells by that.
"""

from __future__ import annotations

import asyncio
import http.client
import urllib.parse
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from pullstatus.errors import StoreRefused
from pullstatus.store.jetstream.copies import Copies, Held, short
from pullstatus.store.jetstream.location import Address
from pullstatus.store.jetstream.nodes import look, page
from pullstatus.store.jetstream.wire import Led

STREAMS_BYTES_MAX: Final = 32 << 20  # of all streams of a node, each a thousand


class _State(msgspec.Struct):
    messages: int = 0
    last_seq: int = 0


class _Group(msgspec.Struct):
    raft_group: str = ""


class _Stream(msgspec.Struct):
    state: _State
    cluster: _Group | None = None


class _Account(msgspec.Struct):
    name: str = ""
    stream_detail: list[_Stream] = []


class _Streams(msgspec.Struct):
    """What a node says of all streams, at `/jsz`."""

    account_details: list[_Account] = []


class _Subscription(msgspec.Struct):
    subject: str = ""
    account: str = ""


class _Subscriptions(msgspec.Struct):
    """What a node says of who listens to a subject, at `/subsz`."""

    subscriptions_list: list[_Subscription] = []


class _Copy(NamedTuple):
    """Of a stream, on one node."""

    held: Held
    account: str


_STREAMS: Final = msgspec.json.Decoder(_Streams)  # see `nodes`
_SUBSCRIPTIONS: Final = msgspec.json.Decoder(_Subscriptions)


async def copies(monitors: Sequence[Address]) -> Copies:
    """What nodes say that they have of streams; of those that do not answer, nothing."""
    told = await asyncio.gather(*[asyncio.to_thread(_copies, address) for address in monitors])
    found: dict[str, dict[str, Held]] = {}
    for each in told:
        if each is not None:
            name, held = each
            for group, copy in held.items():
                found.setdefault(group, {})[name] = copy.held
    return found


async def all_answer(monitors: Sequence[Address], stream: str, led: Led, newest: int) -> bool:
    """Whether each node that has a stream is among those who are asked for its messages.

    A node that was started answers such questions a few seconds after it has caught up; until then
    those that are there answer all of them.

    Args:
        led: what its leader says of it, which must have lost nothing that another one has.
        newest: each must have come so far.
    """
    told = await asyncio.gather(*[asyncio.to_thread(_copies, address) for address in monitors])
    having = {
        address: (each[0], each[1][led.group])
        for address, each in zip(monitors, told, strict=True)
        if each is not None and led.group in each[1]
    }
    held = {name: copy.held for name, copy in having.values()}
    if len(held) <= len(led.copies) or any(each.newest < newest for each in held.values()):
        return False
    if any(each.node == led.leader for each in short({led.group: held}, {led.group: held})):
        return False
    answers = await asyncio.gather(
        *[
            asyncio.to_thread(_answers, address, stream, copy.account)
            for address, (_, copy) in having.items()
        ]
    )
    return all(answers)


def _answers(address: Address, stream: str, account: str) -> bool:
    """Whether a node listens to questions about what it has of a stream."""
    subject = f"$JS.API.DIRECT.GET.{stream}"
    path = f"/subsz?subs=1&test={urllib.parse.quote(subject)}"
    try:
        told = _SUBSCRIPTIONS.decode(page(address, path))
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return False
    return any(
        (each.subject, each.account) == (subject, account) for each in told.subscriptions_list
    )


def _copies(address: Address) -> tuple[str, dict[str, _Copy]] | None:
    """A node's name, and what it has of streams by group; None: it does not say."""
    try:
        node = look(address)
        if node is None:
            return None
        told = page(address, "/jsz?accounts=true&streams=true", STREAMS_BYTES_MAX)
        streams = _STREAMS.decode(told)
    except (OSError, http.client.HTTPException, msgspec.DecodeError, StoreRefused):
        return None
    return node.server_name, {
        stream.cluster.raft_group: _Copy(
            Held(stream.state.messages, stream.state.last_seq), account.name
        )
        for account in streams.account_details
        for stream in account.stream_detail
        if stream.cluster is not None and stream.cluster.raft_group
    }
