"""What every node says of itself, and whether it is to be trusted with a mailbox.

Whether a node syncs what it acknowledges is told at its monitoring address alone, so every node is
asked there, by name. Each refusal names the node, the setting, its value and the fix.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import msgspec

from pullstatus.errors import StoreRefused
from pullstatus.store.jetstream.location import Address, Location, Login
from pullstatus.store.jetstream.wire import Space

LOOK_S: Final = 3.0
START_LOOKS: Final = 3  # at a node that is too busy to say what it is
ANSWER_BYTES_MAX: Final = 1 << 20
VERSION_MIN: Final = (2, 14, 6)
"""What comes before did not sync a block that it had compacted, whatever its settings say."""
PAYLOAD_MIN: Final = 1 << 20
NODES_MIN: Final = 3
TEMPORARY: Final = tuple(f"/{name}" for name in ("tmp", "var/tmp", "dev/shm", "run"))
"""Folders whose files a restart takes, or who cleans up what nobody has written for days."""
UNSAID: Final = "nats/jetstream"
"""Where a node puts what it has in such a folder that is not told where."""
_SECONDS: Final = re.compile("[0-9]{1,2}s")  # under a minute, as nodes say it


class _Config(msgspec.Struct):
    sync_always: bool = False
    max_storage: int = 0
    store_dir: str = ""


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


class Proof(NamedTuple):
    """What was found of nodes that are not refused.

    Attributes:
        whole: whether all of them have answered.
        warnings: what an operator is told at the start.
        space: of the node that has least left; None: none has said.
        unnamed: nodes of the cluster of which some are not named, and others may be silent.
        older: nodes that have an older minor version than another one.
    """

    whole: bool
    warnings: list[str]
    space: Space | None
    unnamed: Collection[str] = ()
    older: Collection[str] = ()


# Made while there is one thread: msgspec finds out about a class when it decodes one first, and two
# threads that do so at once have crashed the interpreter.
_NODE: Final = msgspec.json.Decoder(Node)


async def prove(location: Location, login: Login, *, start: bool) -> Proof:
    """Ask every node, and judge what they say.

    Args:
        start: more than half of them must answer, and be all there are of one cluster. Later, what
            is not known is no reason to stop; whether it lasts is for others to see.

    Raises:
        StoreRefused: one is not safe, or not enough is known.
    """
    check_way(location, login)
    looks = START_LOOKS if start else 1
    told = await asyncio.gather(
        *[asyncio.to_thread(look, address, looks) for address in location.monitors]
    )
    answers = [None if node is None or begins(location, node) else node for node in told]
    warnings = judge(location, answers, start=start)
    found = [node for node in answers if node is not None]
    others = unnamed(found, len(answers) - len(found))
    return Proof(None not in answers, warnings, _least_space(answers), others, older(found))


def look(address: Address, looks: int = 1) -> Node | None:
    """Ask one node; None: it does not answer.

    Args:
        looks: how often at most, where it does not answer in time.

    Raises:
        StoreRefused: what answers is no node.
    """
    try:
        return _NODE.decode(page(address, "/varz"))
    except TimeoutError:
        return look(address, looks - 1) if looks > 1 else None
    except OSError:
        return None
    except (http.client.HTTPException, msgspec.DecodeError):
        raise StoreRefused(
            f"what answers at {address} is no node of NATS: monitor in the store's URL names the"
            " addresses that `http` or `http_port` says in each node's configuration"
        ) from None


def page(address: Address, path: str, bytes_max: int = ANSWER_BYTES_MAX) -> bytes:
    """What a node says at its monitoring address, so many bytes of it at most.

    Raises:
        OSError: it does not answer.
        http.client.HTTPException: that is no answer.
    """
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=LOOK_S)) as connection:
        connection.request("GET", path)
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
    return _warnings(location, found, silent)


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
    if settings.store_dir in [f"{folder}/{UNSAID}" for folder in TEMPORARY]:
        raise StoreRefused(
            f"node {name} has no store_dir, so what it has is in {settings.store_dir}, and may go"
            " with a restart: end the node, move that folder nats to a disk, and name it as"
            " store_dir in its block jetstream"
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
    if len({node.server_id for node in found}) < len(found) or unnamed(found, silent):
        raise StoreRefused(
            f"the cluster has the nodes {', '.join(sorted(known | _peers(found)))}, of which"
            f" monitor in the store's URL names {len(known)}: name each of them once"
        )


def unnamed(found: Sequence[Node], silent: int) -> Collection[str]:
    """Nodes of a cluster that have said nothing, if they are more than those that are silent."""
    others = _peers(found) - {node.server_name for node in found}
    return sorted(others) if len(others) > silent else ()


def _peers(found: Sequence[Node]) -> set[str]:
    """Nodes of the cluster that these know beside themselves."""
    metas = [node.jetstream.meta for node in found]
    return {peer.name for meta in metas if meta is not None for peer in meta.replicas}


def older(found: Sequence[Node]) -> Collection[str]:
    """Nodes that have an older minor version than another one."""
    newest = max((_version(node)[:2] for node in found), default=())
    return sorted(node.server_name for node in found if _version(node)[:2] < newest)


def _warnings(location: Location, found: Sequence[Node], silent: Sequence[str]) -> list[str]:
    told = [f"the node at {address} does not answer about itself" for address in silent]
    if location.alone:
        told.append(
            "single-node-for-tests=yes in the store's URL: what is accepted is on one disk alone,"
            " and lost with it"
        )
    if older(found):
        versions = ", ".join(sorted({node.version for node in found}))
        told.append(f"nodes have the versions {versions}: bring all to the newest one soon")
    if fleeting := [node.server_name for node in found if _is_fleeting(node)]:
        told.append(
            f"what {', '.join(fleeting)} of the nodes have may go with a restart: store_dir in each"
            " one's block jetstream is among temporary files; have it on a disk"
        )
    return told


def _is_fleeting(node: Node) -> bool:
    settings = node.jetstream.config
    return settings is not None and settings.store_dir.startswith(
        tuple(f"{folder}/" for folder in TEMPORARY)
    )


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
