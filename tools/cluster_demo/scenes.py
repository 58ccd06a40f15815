"""What there is beneath the servers, and what happens to it: one scene for each engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

from rich.text import Text

from tools.nats import Cluster
from tools.postgresql import Pair, PostgreSQL

Tell = Callable[[str], None]
Watch = Callable[[float], Awaitable[None]]

PARTITIONS: Final = 6


class Row(NamedTuple):
    """A line of the table: what it is, what it does now, and where."""

    name: str
    state: Text
    address: str


class Scene(Protocol):
    """What a demo plays on.

    Attributes:
        store: the URL of the store of both servers.
        about: what it is.
        init: options of `pullstatus store init`.
    """

    store: str
    about: str
    init: tuple[str, ...]

    def rows(self) -> list[Row]:
        """All of it, as it is now."""
        ...

    async def play(self, tell: Tell, watch: Watch, blind_s: float) -> None:
        """Have the worst happen.

        Args:
            tell: puts a line on the list of what has happened.
            watch: lets traffic go on for so many seconds.
            blind_s: how long the servers have nobody to ask.
        """
        ...


class Databases:
    """A primary, and a standby that has each commit before it is answered."""

    init: tuple[str, ...] = ()

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._dead: set[int] = set()
        with pair.primary.connect() as connection:
            connection.execute("CREATE DATABASE mailboxes TEMPLATE template0")
        self.store = pair.url("mailboxes")
        self.about = f"PostgreSQL {pair.primary.major}, a primary and a synchronous standby"

    def rows(self) -> list[Row]:
        """See `Scene`."""
        databases = sorted((self._pair.primary, self._pair.standby), key=lambda one: one.port)
        return [
            Row(f"database {number}", self._state(database), f"127.0.0.1:{database.port}")
            for number, database in enumerate(databases, 1)
        ]

    def _state(self, database: PostgreSQL) -> Text:
        if database.port in self._dead:
            return Text("killed", "red")
        return Text("primary", "green") if database is self._pair.primary else Text("standby")

    async def play(self, tell: Tell, watch: Watch, blind_s: float) -> None:
        """See `Scene`."""
        victim = self._pair.primary
        tell("the primary is killed, all its processes at once")
        await asyncio.to_thread(victim.kill)
        self._dead.add(victim.port)
        await watch(blind_s)
        tell("the standby is promoted, as a cluster manager would")
        await asyncio.to_thread(self._pair.take_over)
        tell("it answers nobody before it has a standby of its own")
        await asyncio.to_thread(self._pair.rejoin)
        self._dead.discard(victim.port)
        tell("the first database is a copy of the new primary, and its standby")


class Nodes:
    """Three nodes, each with a copy of everything; any of them may lead a stream."""

    init: tuple[str, ...] = ("--partitions", str(PARTITIONS))

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._leaders: Mapping[str, str] = {}
        self.store = cluster.url("mailboxes")
        self.about = "NATS JetStream, three nodes that sync what they acknowledge"

    def rows(self) -> list[Row]:
        """See `Scene`."""
        leaders = list(self._leaders.values())
        return [
            Row(
                f"node {node.name}",
                Text(f"leads {leaders.count(node.name)} of {len(leaders)} streams", "green")
                if node.runs
                else Text("killed", "red"),
                f"{node.host}:{node.port}",
            )
            for node in self._cluster.nodes
        ]

    async def play(self, tell: Tell, watch: Watch, blind_s: float) -> None:
        """See `Scene`."""
        await self._settle()
        leaders = list(self._leaders.values())
        victim = max(self._cluster.nodes, key=lambda node: leaders.count(node.name))
        tell(f"node {victim.name} is killed, which leads {leaders.count(victim.name)} streams")
        await asyncio.to_thread(victim.kill)
        await self._settle()
        tell("the other two have agreed on who leads them now")
        await watch(blind_s)
        victim.start()
        await self._settle()
        tell(f"node {victim.name} runs again, and has what it had missed")
        await watch(blind_s)
        tell("all three are killed at once")
        for node in self._cluster.nodes:
            await asyncio.to_thread(node.kill)
        await watch(blind_s)
        for node in self._cluster.nodes:
            node.start()
        await self._settle()
        tell("they run again, on what they had on disk")

    async def _settle(self) -> None:
        await asyncio.to_thread(self._cluster.settle)
        self._leaders = await asyncio.to_thread(self._cluster.leaders)


@contextlib.contextmanager
def databases() -> Iterator[Scene]:
    """Of PostgreSQL, of the programs that are installed."""
    with Pair() as pair:
        yield Databases(pair)


@contextlib.contextmanager
def nodes() -> Iterator[Scene]:
    """Of JetStream."""
    with Cluster() as cluster:
        yield Nodes(cluster)


SCENES: Final[Mapping[str, Callable[[], contextlib.AbstractContextManager[Scene]]]] = {
    "jetstream": nodes,
    "postgresql": databases,
}
