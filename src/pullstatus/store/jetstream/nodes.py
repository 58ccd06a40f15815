"""What every node says of itself, and whether it is to be trusted with a mailbox.

Whether a node syncs what it acknowledges is told at its monitoring address alone, so every node is
asked there, by name. Each refusal names the node, the setting, its value and the fix.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
import urllib.parse
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from pullstatus.errors import StoreRefused
from pullstatus.store.jetstream.copies import Copies, Held, short
from pullstatus.store.jetstream.location import Address, Location, Login
from pullstatus.store.jetstream.wire import Led, Space

LOOK_S: Final = 3.0
ANSWER_BYTES_MAX: Final = 1 << 20
STREAMS_BYTES_MAX: Final = 32 << 20  # of all streams of a node, each a thousand
VERSION_MIN: Final = (2, 14, 6)
"""What comes before did not sync a block that it had compacted, whatever its settings say."""
PAYLOAD_MIN: Final = 1 << 20
NODES_MIN: Final = 3
_SECONDS: Final = re.compile("[0-9]{1,2}s")  # under a minute, as nodes say it


class _Config(msgspec.Struct):
    sync_always: bool = False
    max_storage: int = 0


class _Stats(msgspec.Struct):
    storage: int = 0


class _Peer(msgspec.Struct):
    name: str


class _Meta(msgspec.Struct):
    cluster_size: int = 1
    replicas: list[_Peer] = []


class _JetStream(msgspec.Struct):
    config: _Config | None = None
    stats: _Stats = msgspec.field(default_factory=_Stats)
    meta: _Meta | None = None


class _Cluster(msgspec.Struct):
    name: str = ""


class Node(msgspec.Struct):
    """What a node says of itself at `/varz`; only what is judged."""

    server_id: str
    server_name: str
    version: str
    max_payload: int
    uptime: str = ""
    jetstream: _JetStream = msgspec.field(default_factory=_JetStream)
    cluster: _Cluster = msgspec.field(default_factory=_Cluster)


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


class Proof(NamedTuple):
    """What was found of nodes that are not refused.

    Attributes:
        whole: whether all of them have answered.
        warnings: what an operator is told.
        space: of the node that has least left; None: none has said.
    """

    whole: bool
    warnings: list[str]
    space: Space | None


# Made while there is one thread: msgspec finds out about a class when it decodes one first, and two
# threads that do so at once have crashed the interpreter.
_NODE: Final = msgspec.json.Decoder(Node)
_STREAMS: Final = msgspec.json.Decoder(_Streams)
_SUBSCRIPTIONS: Final = msgspec.json.Decoder(_Subscriptions)


async def prove(location: Location, login: Login, *, start: bool) -> Proof:
    """Ask every node, and judge what they say.

    Args:
        start: more than half of them must answer, and be all there are of one cluster. Later, what
            is not known for a while is no reason to stop.

    Raises:
        StoreRefused: one is not safe, or not enough is known.
    """
    check_way(location, login)
    told = await asyncio.gather(
        *[asyncio.to_thread(look, address) for address in location.monitors]
    )
    answers = [None if node is None or begins(location, node) else node for node in told]
    warnings = judge(location, answers, start=start)
    return Proof(None not in answers, warnings, _least_space(answers))


def look(address: Address) -> Node | None:
    """Ask one node; None: it does not answer.

    Raises:
        StoreRefused: what answers is no node.
    """
    try:
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=LOOK_S)) as connection:
            return _NODE.decode(_told(connection, "/varz", ANSWER_BYTES_MAX))
    except OSError:
        return None
    except (http.client.HTTPException, msgspec.DecodeError):
        raise StoreRefused(
            f"what answers at {address} is no node of NATS: monitor in the store's URL names the"
            " addresses that `http` or `http_port` says in each node's configuration"
        ) from None


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
    page = f"/subsz?subs=1&test={urllib.parse.quote(subject)}"
    try:
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=LOOK_S)) as connection:
            told = _SUBSCRIPTIONS.decode(_told(connection, page, ANSWER_BYTES_MAX))
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return False
    return any(
        (each.subject, each.account) == (subject, account) for each in told.subscriptions_list
    )


def _copies(address: Address) -> tuple[str, dict[str, _Copy]] | None:
    """A node's name, and what it has of streams by group; None: it does not say."""
    try:
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=LOOK_S)) as connection:
            node = _NODE.decode(_told(connection, "/varz", ANSWER_BYTES_MAX))
            page = "/jsz?accounts=true&streams=true"
            streams = _STREAMS.decode(_told(connection, page, STREAMS_BYTES_MAX))
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return None
    return node.server_name, {
        stream.cluster.raft_group: _Copy(
            Held(stream.state.messages, stream.state.last_seq), account.name
        )
        for account in streams.account_details
        for stream in account.stream_detail
        if stream.cluster is not None and stream.cluster.raft_group
    }


def _told(connection: http.client.HTTPConnection, page: str, bytes_max: int) -> bytes:
    connection.request("GET", page)
    return connection.getresponse().read(bytes_max)


def begins(location: Location, node: Node) -> bool:
    """Whether a node has just started, and does not know itself yet.

    It answers before its JetStream is there, and before it has joined the others.
    """
    settings, meta = node.jetstream.config, node.jetstream.meta
    apart = not location.alone and (meta is None or meta.cluster_size < NODES_MIN)
    return (settings is None or apart) and _SECONDS.fullmatch(node.uptime) is not None


def check_way(location: Location, login: Login) -> None:
    """Refuse to speak over a network without TLS, or as nobody.

    Raises:
        StoreRefused: nodes are elsewhere.
    """
    far = [address for address in location.servers if not address.near]
    if not far or location.insecure:
        return
    if location.tls is None:
        raise StoreRefused(
            f"{far[0]} is elsewhere, and there is no TLS: whoever is on the way can read all of it,"
            " and change it; name the authorities of its certificate in the store's URL, as"
            " tls=FILE, or say insecure=yes"
        )
    if login.anonymous:
        raise StoreRefused(
            f"{far[0]} is elsewhere, and lets in whoever comes: give pullstatus a user of its own,"
            " in PULLSTATUS_NATS_USER and PULLSTATUS_NATS_PASSWORD, or say insecure=yes"
        )


def judge(location: Location, answers: Sequence[Node | None], *, start: bool) -> list[str]:
    """Judge what nodes say, in the order of `location.monitors`; returns what an operator is told.

    See `prove`.
    """
    found = [node for node in answers if node is not None]
    silent = [
        str(address)
        for address, node in zip(location.monitors, answers, strict=True)
        if node is None
    ]
    if start and 2 * len(found) <= len(answers):
        raise StoreRefused(
            f"{', '.join(silent)} of monitor in the store's URL does not answer: more than half of"
            " the nodes must say that they sync what they acknowledge; set http in their"
            " configuration, and let this machine reach it"
        )
    for node in found:
        _check(node)
    if start:
        _check_together(location, found, len(silent))
    return _warnings(found, silent)


def _check(node: Node) -> None:
    name, settings = node.server_name, node.jetstream.config
    if _version(node) < VERSION_MIN:
        raise StoreRefused(
            f"node {name} has version {node.version[:20]}: {_dotted(VERSION_MIN)} or newer is due;"
            " those before lose in a power cut what they have acknowledged"
        )
    if settings is None:
        raise StoreRefused(
            f"node {name} has no JetStream: give it a block jetstream in its configuration"
        )
    if not settings.sync_always:
        raise StoreRefused(
            f"node {name} has sync_interval other than always: what it acknowledges would be lost"
            " in a power cut; set sync_interval: always in its block jetstream"
        )
    if node.max_payload < PAYLOAD_MIN:
        raise StoreRefused(
            f"node {name} has max_payload = {node.max_payload}: set it to {PAYLOAD_MIN} or more"
        )


def _check_together(location: Location, found: Sequence[Node], silent: int) -> None:
    if len({node.cluster.name for node in found}) > 1 or (
        len(found) > 1 and any(node.jetstream.meta is None for node in found)
    ):
        raise StoreRefused(
            "the nodes that monitor in the store's URL names are not of one cluster: name those of"
            " one"
        )
    size = max(node.jetstream.meta.cluster_size if node.jetstream.meta else 1 for node in found)
    if size < NODES_MIN and not location.alone:
        raise StoreRefused(
            f"the cluster has {size} of the {NODES_MIN} nodes that are due: what is accepted is"
            " lost with a disk; add nodes, or say single-node-for-tests=yes in the store's URL"
        )
    known = {node.server_name for node in found}
    members = known.union(
        peer.name for node in found if node.jetstream.meta for peer in node.jetstream.meta.replicas
    )
    if len({node.server_id for node in found}) < len(found) or len(members - known) > silent:
        raise StoreRefused(
            f"the cluster has the nodes {', '.join(sorted(members))}, of which monitor in the"
            f" store's URL names {len(known)}: name each of them once"
        )


def _warnings(found: Sequence[Node], silent: Sequence[str]) -> list[str]:
    told = [f"the node at {address} does not answer about itself" for address in silent]
    if len({_version(node)[:2] for node in found}) > 1:
        versions = ", ".join(sorted({node.version for node in found}))
        told.append(f"nodes have the versions {versions}: bring all to the newest one soon")
    return told


def _least_space(answers: Sequence[Node | None]) -> Space | None:
    settings = [(node.jetstream, node.jetstream.config) for node in answers if node is not None]
    found = [
        Space(told.stats.storage, config.max_storage)
        for told, config in settings
        if config is not None and config.max_storage > 0
    ]
    return min(found, key=lambda space: space.left, default=None)


def _version(node: Node) -> tuple[int, ...]:
    match = re.match(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", node.version)
    return tuple(map(int, match.groups())) if match else (0,)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
