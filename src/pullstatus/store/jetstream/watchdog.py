"""Whether nodes do what the store rests on, and what an operator is to do if not.

    a stream is down             it has no leader, or one that does not reach most of its nodes,
                                 for longer than an election takes
    a leader takes no writes     it says that it leads, and has answered none for a minute
    copies are away, or behind   for a minute: what is written now has fewer
    a node is not proven         for a minute: it has a copy, or is to have one, and says nothing of
                                 itself where nodes are asked
    a node lacks messages        which another one has; it is asked not to lead
    nodes differ in version      for a day: longer than it takes to bring all to one
    a message was mended         a node had damaged or lost it, and another one had it
    a stream or a node is full   nearly

A thread of its own asks every few seconds: in an outage all others wait for nodes. Nothing waits
for what it finds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from pullstatus.errors import StoreUnavailable
from pullstatus.store.jetstream.copies import Copies, Short, short
from pullstatus.store.jetstream.vitals import Vitals
from pullstatus.store.jetstream.wire import Bus, Cluster, Led, Space
from pullstatus.store.values import Alarm, Health

LOOK_S: Final = 5.0
ELECTED_S: Final = 10.0  # an election takes 4 to 9
SOON_S: Final = 2.0  # while a node lacks messages: it may begin to lead
AGAIN_S: Final = 60.0  # until a leader that goes on leading is asked again not to
PASSED_ON_S: Final = 20.0  # for another one to lead; it takes a tenth of a second
COPIED_S: Final = 60.0  # in which a node that was restarted is there again, and has what it lacked
UPGRADED_S: Final = 86_400.0  # all nodes, one by one
UNWRITTEN_S: Final = 60.0  # three writes that were given up
LAG_MAX: Final = 10_000  # messages; a copy that lacks no more is one
FULL: Final = 0.8
NAMED_CHARS: Final = 100  # of nodes' names, in one alarm

DOWN: Final = "streams are down"
NO_WRITES: Final = "a leader takes no writes"
AWAY: Final = "copies are away"
BEHIND: Final = "copies are behind"
UNPROVEN: Final = "a node is not proven"
SHORT: Final = "a node lacks messages"
VERSIONS: Final = "nodes have several versions"
MENDED: Final = "a node has damaged or lost messages"
NEARLY_FULL: Final = "the cluster is nearly full"


class Watchdog:
    """Looks at the nodes of one store, for one process.

    Attributes:
        health: as of the last look.
        bytes: that all streams hold, as of the last look at which each had a leader; None: there
            was none yet.
    """

    def __init__(
        self,
        bus: Bus,
        streams: Sequence[str],
        vitals: Vitals,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nobody has looked yet.

        Args:
            vitals: what the process meets.
            clock: of seconds.
        """
        self.health = Health(streams=len(streams))
        self.bytes: int | None = None
        self._bus = bus
        self._streams = streams
        self._vitals = vitals
        self._clock = clock
        self._lasting = _Lasting()
        self._copies: Copies = {}  # as of the last look
        self._lacking: Sequence[Lacking] = ()
        self._asked_s: dict[str, float] = {}  # streams, when their leader was asked to lead no more
        self._silent_since_s: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="pullstatus-nodes", daemon=True)

    def start(self) -> None:
        """Look every few seconds, until `close`; first of all until no leader lacks messages.

        Whoever begins to serve knows nothing of what was before, and believes what it is told.
        """
        by_s = self._clock() + PASSED_ON_S
        self._copies = self._bus.copies()
        if any(short(self._copies, self._bus.copies())):
            while not self._ended.wait(SOON_S):
                self.look()
                if not any(each.leads for each in self._lacking) or self._clock() >= by_s:
                    break
        self._copies = {}  # the next look comes at once
        self._thread.start()

    def end(self) -> None:
        """Look no more; a look that is under way goes on."""
        self._ended.set()

    def close(self) -> None:
        """Wait until no look is under way."""
        self.end()
        if self._thread.ident is not None:
            self._thread.join()

    def silent_s(self) -> float:
        """For how long all streams have been down; 0: one is not."""
        since_s = self._silent_since_s
        return 0.0 if since_s is None else self._clock() - since_s

    def look(self) -> None:
        """Ask the nodes, and judge."""
        before = self._copies
        try:
            found, self._copies = self._bus.cluster(self._streams), self._bus.copies()
        except StoreUnavailable:
            found, self._copies = Cluster([None] * len(self._streams), None), {}
        led = {
            stream: each
            for stream, each in zip(self._streams, found.streams, strict=True)
            if each is not None
        }
        now_s = self._clock()
        if any(each.works for each in led.values()):
            self._silent_since_s = None
        elif self._silent_since_s is None:
            self._silent_since_s = now_s
        if len(led) == len(self._streams):
            self.bytes = sum(each.used for each in led.values())
        self._lacking = list(_lacking(led, short(before, self._copies)))
        self._pass_on(now_s)
        self._lasting.see(now_s, self._wrong(led, found))
        self.health = self._judge(led, found.node)

    def _pass_on(self, now_s: float) -> None:
        """Ask leaders that lack messages to let another node lead."""
        for each in self._lacking:
            if each.leads and now_s - self._asked_s.get(each.stream, -AGAIN_S) >= AGAIN_S:
                self._asked_s[each.stream] = now_s
                with contextlib.suppress(StoreUnavailable):
                    self._bus.step_down(each.stream, each.whole)

    def _judge(self, led: Mapping[str, Led], node: Space | None) -> Health:
        unwritten = {
            stream: each.leader
            for stream, each in led.items()
            if each.works and self._vitals.unanswered_s(stream) >= UNWRITTEN_S
        }
        copies = [copy for each in led.values() for copy in each.copies]
        away = sum(copy.away for copy in copies) + sum(each.missing for each in led.values())
        unproven = sum(1 for each in led.values() for _ in self._unproven(each))
        full, fullest = _fullest(led, node)
        return Health(
            streams=len(self._streams),
            down=len(self._streams) - sum(each.works for each in led.values()),
            without_writes=len(unwritten),
            copies_away=away,
            copies_behind=sum(copy.is_behind(LAG_MAX) for copy in copies),
            copies_unproven=unproven,
            copies_short=len(self._lacking),
            lag=max((copy.lag for copy in copies), default=0),
            full=full,
            subjects=sum(each.subjects for each in led.values()),
            mended=self._vitals.mended,
            unanswered=self._vitals.unanswered,
            alarms=[
                *self._lasting_alarms(),
                *_alarms(NO_WRITES, unwritten.items(), own=True),
                *self._mended_alarms(),
                *_full_alarms(full, fullest),
            ],
        )

    def _wrong(self, led: Mapping[str, Led], found: Cluster) -> Iterator[tuple[str, str, str]]:
        """What is an alarm if it lasts, and of which stream, if of one, and node."""
        for stream in self._streams:
            each = led.get(stream)
            if each is None or not each.works:
                yield DOWN, stream, "" if each is None else each.leader
            if each is not None:
                yield from ((event, stream, node) for event, node in self._wrong_with(each))
        yield from ((UNPROVEN, "", node) for node in found.unnamed)
        yield from ((VERSIONS, "", node) for node in found.older)
        for lacks in self._lacking:
            yield SHORT, lacks.stream, lacks.node

    def _wrong_with(self, led: Led) -> Iterator[tuple[str, str]]:
        """What is wrong with copies of a stream, and on which node, if on one."""
        for copy in led.copies:
            if copy.away:
                yield AWAY, copy.node
            elif copy.is_behind(LAG_MAX):
                yield BEHIND, copy.node
        if led.missing:
            yield AWAY, ""
        for node in self._unproven(led):
            yield UNPROVEN, node

    def _unproven(self, led: Led) -> Iterator[str]:
        """Nodes that have a stream, and say nothing of themselves where nodes are asked."""
        told = self._copies.get(led.group, {})
        return (node for node in led.nodes if node not in told)

    def _lasting_alarms(self) -> Iterator[Alarm]:
        least = (
            (DOWN, ELECTED_S),
            (AWAY, COPIED_S),
            (BEHIND, COPIED_S),
            (UNPROVEN, COPIED_S),
            (SHORT, 0.0),
            (VERSIONS, UPGRADED_S),
        )
        for event, least_s in least:
            since = self._lasting.since(self._clock() - least_s)
            yield from _alarms(
                event, [(stream, node) for one, stream, node in since if one == event]
            )

    def _mended_alarms(self) -> Iterator[Alarm]:
        if found := self._vitals.take_mended():
            where = _where(found) | {"messages": sum(found.values())}
            yield Alarm(MENDED, where, _FIXES[MENDED], own=True)

    def _go_on(self) -> None:
        while not self._ended.is_set():
            self.look()
            self._ended.wait(SOON_S if self._lacking else LOOK_S)


class Lacking(NamedTuple):
    """A node that lacks messages of a stream, another one that has them, and whether it leads."""

    stream: str
    node: str
    whole: str
    leads: bool


def _lacking(led: Mapping[str, Led], found: Iterable[Short]) -> Iterator[Lacking]:
    """Those of streams that are looked at; of others nobody here knows the leader."""
    streams = {each.group: stream for stream, each in led.items() if each.group}
    for group, node, whole in found:
        if (stream := streams.get(group)) is not None:
            yield Lacking(stream, node, whole, led[stream].leader == node)


class _Lasting:
    """Since when what is so has been so."""

    def __init__(self) -> None:
        self._since_s: dict[tuple[str, str, str], float] = {}

    def see(self, now_s: float, wrong: Iterable[tuple[str, str, str]]) -> None:
        self._since_s = {each: self._since_s.get(each, now_s) for each in wrong}

    def since(self, by_s: float) -> list[tuple[str, str, str]]:
        """What has been so since then, or longer."""
        return [each for each, since_s in self._since_s.items() if since_s <= by_s]


def _alarms(event: str, places: Collection[Sequence[str]], *, own: bool = False) -> Iterator[Alarm]:
    """One alarm for all streams, each with the node that it is about."""
    if places:
        where = _where({stream for stream, _ in places})
        if nodes := ", ".join(sorted({node for _, node in places if node})):
            where["nodes"] = nodes[:NAMED_CHARS]
        yield Alarm(event, where, _FIXES[event], own=own)


def _where(streams: Collection[str]) -> dict[str, str | int]:
    named = [stream for stream in streams if stream]
    return {"stream": min(named), "streams": len(named)} if named else {}


def _fullest(led: Mapping[str, Led], node: Space | None) -> tuple[float, str]:
    """How full what is fullest is, and which stream that is; no name: it is a node."""
    places = [(Space(each.used, each.limit), stream) for stream, each in led.items()]
    if node is not None:
        places.append((node, ""))
    return max(
        ((space.used / space.limit, name) for space, name in places if space.limit > 0),
        default=(0.0, ""),
    )


def _full_alarms(full: float, fullest: str) -> Iterator[Alarm]:
    if full >= FULL:
        where: dict[str, str | int] = {"percent": int(100 * full)}
        if fullest:
            where["stream"] = fullest
        yield Alarm(NEARLY_FULL, where, _FIXES[NEARLY_FULL])


_FIXES: Final = {
    DOWN: (
        "their applications wait, all others go on; have more than half of the nodes run, reach"
        " each other, and be reached from here"
    ),
    NO_WRITES: (
        "their applications wait; have another node lead, with `nats stream cluster step-down"
        " STREAM`, and if that does not help restart the node"
    ),
    AWAY: (
        "what is written now has fewer copies, and another node that ends stops all of it; start"
        " the node, or give it back its network or disk; in place of one that was removed, add one"
    ),
    BEHIND: (
        "what is written now has fewer copies; if the node does not catch up by itself, look into"
        " its log, and restart it"
    ),
    UNPROVEN: (
        "nobody here knows whether it syncs what it acknowledges, and a server that is started may"
        " refuse it; name its monitoring address in `monitor` of the store's URL, of all servers,"
        " and let them reach it, or take the node out of the cluster"
    ),
    SHORT: (
        "nothing is lost, as another node has them, which leads instead; give this node an empty"
        " disk soon: by itself it never gets them again"
    ),
    VERSIONS: (
        "a cluster of several is for as long as it is brought to the newest one: go on with these"
        " nodes, one at a time"
    ),
    MENDED: (
        "nothing is lost, as another node had them; look for a failing disk or memory under each"
        " node, and run `pullstatus audit`"
    ),
    NEARLY_FULL: (
        "entries are refused before it is full; add room to the node's disk and max_file_store, or"
        " to the stream's max_bytes, or keep less"
    ),
}
