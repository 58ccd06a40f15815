"""What the API of JetStream is asked about streams; said again until there is an answer.

None of it does harm twice. All is answered by a stream's leader, or by the cluster's.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

import msgspec

from pullstatus.errors import StoreUnavailable
from pullstatus.store.jetstream.links import Links, NoAnswer, NobodyThere
from pullstatus.store.jetstream.wire import Copy, Led, Space

REQUEST_S: Final = 5.0
GIVE_UP_S: Final = 20.0  # longer than an election takes
PAUSE_S: Final = 0.1
AWAY_NS: Final = 5 * 10**9  # a leader hears of each node every second
LOOK_S: Final = 2.0  # of each of two connections: one may end at a node that says nothing

NO_STREAM: Final = 10059
MADE_OTHERWISE: Final = 10058
NOT_THERE: Final = 10043
FINAL: Final = frozenset({NO_STREAM, MADE_OTHERWISE, NOT_THERE})
"""Faults that are answers; with others it may be better soon."""


class Fault(msgspec.Struct):
    """What is not done, and why."""

    err_code: int = 0
    description: str = ""


class State(msgspec.Struct):
    """What a stream holds."""

    last_seq: int = 0
    bytes: int = 0
    num_subjects: int = 0
    subjects: dict[str, int] = {}


class Peer(msgspec.Struct):
    """A node that has a copy of a stream; `active`: nanoseconds since it was heard of.

    Of one that was killed `offline` is not said for long.
    """

    name: str = ""
    offline: bool = False
    current: bool = False
    active: int = 0
    lag: int = 0

    @property
    def is_away(self) -> bool:
        """Whether nothing was heard of it for seconds."""
        return self.offline or self.active > AWAY_NS


class Group(msgspec.Struct):
    """The nodes that have a stream."""

    leader: str = ""
    raft_group: str = ""
    replicas: list[Peer] = []


class Said(msgspec.Struct):
    """An answer, of whatever kind."""

    error: Fault | None = None
    config: dict[str, Any] = {}
    state: State = msgspec.field(default_factory=State)
    cluster: Group | None = None
    total: int = 0
    purged: int = 0


_SAID: Final = msgspec.json.Decoder(Said)  # see `nodes`


class Api:
    """Requests over the connections of a process, in their event loop."""

    def __init__(self, links: Links) -> None:
        self._links = links

    async def config(self, stream: str) -> dict[str, Any] | None:
        """How a stream is set up; None: there is none of that name."""
        said = await self._said(f"STREAM.INFO.{stream}", {})
        return None if said.error is not None else said.config

    async def create(self, stream: str, config: dict[str, Any]) -> None:
        """Make a stream, unless there is one of that name."""
        await self._said(f"STREAM.CREATE.{stream}", config)

    async def newest(self, stream: str) -> int:
        """See `Bus.newest`."""
        return (await self._state(stream)).last_seq

    async def size(self, stream: str) -> int:
        """See `Bus.size`."""
        return (await self._state(stream)).bytes

    async def space(self, stream: str) -> Space | None:
        """What it holds, and may hold; None: it has no bound of its own."""
        said = await self._said(f"STREAM.INFO.{stream}", {})
        self._there(said, stream)
        limit = said.config.get("max_bytes", -1)
        return Space(said.state.bytes, limit) if limit > 0 else None

    async def led(self, stream: str) -> Led | None:
        """How a stream is that has a leader; None: nobody has answered as one, within seconds."""
        for turn in range(2):
            try:
                link = await self._links.link(turn, LOOK_S)
                answer = await link.ask(f"$JS.API.STREAM.INFO.{stream}", b"", patience_s=LOOK_S)
                said = _SAID.decode(answer.data)
            except (NoAnswer, NobodyThere, msgspec.DecodeError):
                continue
            if (found := led_of(said)) is not None:
                return found
        return None

    async def subjects(self, stream: str, pattern: str) -> list[str]:
        """See `Bus.subjects`. More than a node tells at once are of several moments."""
        found: list[str] = []
        while True:
            request = {"subjects_filter": pattern, "offset": len(found)}
            said = await self._said(f"STREAM.INFO.{stream}", request)
            self._there(said, stream)
            found += said.state.subjects
            if not said.state.subjects or len(found) >= said.total:
                return found

    async def purge(self, stream: str, subject: str, *, below: int) -> int:
        """See `Bus.purge`; of one that was said again, what the last one removed."""
        if below <= 1:
            return 0
        said = await self._said(f"STREAM.PURGE.{stream}", {"filter": subject, "seq": below})
        self._there(said, stream)
        return said.purged

    async def delete(self, stream: str, sequence: int) -> None:
        """See `Bus.delete`. Without `no_erase` nodes write over it."""
        await self._said(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})

    async def step_down(self, stream: str, to: str | None = None) -> None:
        """See `Bus.step_down`. Asked once: whoever may not ask for it is not answered."""
        body = b"" if to is None else msgspec.json.encode({"placement": {"preferred": to}})
        try:
            link = await self._links.link(0, REQUEST_S)
            await link.ask(f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", body, patience_s=LOOK_S)
        except (NoAnswer, NobodyThere):
            pass

    async def _state(self, stream: str) -> State:
        said = await self._said(f"STREAM.INFO.{stream}", {})
        self._there(said, stream)
        return said.state

    @staticmethod
    def _there(said: Said, stream: str) -> None:
        if said.error is not None:
            raise StoreUnavailable(f"there is no stream {stream}")

    async def _said(self, what: str, request: dict[str, Any]) -> Said:
        """What is answered; its fault, if it has one, is one of `FINAL`.

        Raises:
            StoreUnavailable: nothing, or another fault each time.
        """
        loop = asyncio.get_running_loop()
        due_s, turn, why = loop.time() + GIVE_UP_S, 0, ""
        body = msgspec.json.encode(request) if request else b""
        while True:
            try:
                link = await self._links.link(turn, REQUEST_S)
                answer = await link.ask(f"$JS.API.{what}", body, patience_s=REQUEST_S)
                said = _SAID.decode(answer.data)
                if said.error is None or said.error.err_code in FINAL:
                    return said
                why = said.error.description
            except (NoAnswer, NobodyThere, msgspec.DecodeError) as error:
                why = str(error) or "nobody listens"
            if loop.time() > due_s:
                raise StoreUnavailable(f"the cluster does not do what it is asked to ({why})")
            turn += 1
            await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311


def led_of(said: Said) -> Led | None:
    """How a stream is, by what is said of it; None: it has no leader, or that is not known."""
    group = said.cluster
    if said.error is not None or (group is not None and not group.leader):
        return None
    group = group or Group()
    copies = [Copy(peer.name, peer.is_away, peer.current, peer.lag) for peer in group.replicas]
    limit = max(0, said.config.get("max_bytes", -1))
    missing = max(0, said.config.get("num_replicas", 1) - 1 - len(copies))
    state = said.state
    return Led(
        group.leader, copies, state.bytes, limit, group.raft_group, missing, state.num_subjects
    )
