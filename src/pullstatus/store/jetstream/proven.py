"""Questions whose answers are what was written: what one node has damaged or lost another may have.

Each node keeps its own copies, and nodes share out what is asked of them at random. So who gets a
message that is not whole asks for it again, of the leader, and of whoever answers: as often as
makes it unlikely that a node was not asked which has it. Before it is said that no node has it,
each of them must be there to be asked: what was given up once is not handed out any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pullstatus.errors import StoreUnavailable
from pullstatus.store.jetstream.copies import Copies
from pullstatus.store.jetstream.messages import is_whole
from pullstatus.store.jetstream.vitals import Vitals
from pullstatus.store.jetstream.wire import Bus, Cluster, Message, Put, Space

ASKS: Final = 12  # of three nodes each is missed once in 130 times


class Unproven(StoreUnavailable):
    """What is missing, or damaged, a node may have that cannot be asked now."""


class ProvenBus:
    """See `wire.Bus`. A message that is not whole in an answer is so on any node.

    Attributes:
        vitals: what was met.
    """

    def __init__(self, bus: Bus, vitals: Vitals | None = None) -> None:
        """Ask over `bus`, which is closed with this."""
        self.vitals = vitals or Vitals()
        self._bus = bus

    def write(self, stream: str, puts: Sequence[Put], op: bytes) -> int:
        """See `wire.Bus`."""
        with self.vitals.writing(stream):
            return self._bus.write(stream, puts, op)

    def last(self, stream: str, subject: str, *, leader: bool = False) -> Message | None:
        """See `wire.Bus`."""
        found = self._bus.last(stream, subject, leader=leader)
        return None if found is None else self._whole(stream, found)

    def lasts(
        self, stream: str, subjects: Sequence[str], *, at_least: int = 0
    ) -> dict[str, Message]:
        """See `wire.Bus`."""
        found = self._bus.lasts(stream, subjects, at_least=at_least)
        return {subject: self._whole(stream, message) for subject, message in found.items()}

    def following(
        self,
        stream: str,
        subject: str,
        sequence: int,
        *,
        count: int,
        bytes_max: int = 1 << 20,
        leader: bool = False,
    ) -> list[Message]:
        """See `wire.Bus`."""
        found = self._bus.following(
            stream, subject, sequence, count=count, bytes_max=bytes_max, leader=leader
        )
        return [self._whole(stream, message) for message in found]

    def last_of_each(
        self, stream: str, subjects: Sequence[str], *, leader: bool = True
    ) -> list[Message | None]:
        """See `wire.Bus`."""
        found = self._bus.last_of_each(stream, subjects, leader=leader)
        return [None if each is None else self._whole(stream, each) for each in found]

    def following_each(
        self,
        stream: str,
        starts: Sequence[tuple[str, int]],
        *,
        count: int,
        bytes_max: int,
        leader: bool = False,
    ) -> list[list[Message]]:
        """See `wire.Bus`."""
        found = self._bus.following_each(
            stream, starts, count=count, bytes_max=bytes_max, leader=leader
        )
        return [[self._whole(stream, message) for message in each] for each in found]

    def newest(self, stream: str) -> int:
        """See `wire.Bus`."""
        return self._bus.newest(stream)

    def subjects(self, stream: str, pattern: str) -> Sequence[str]:
        """See `wire.Bus`."""
        return self._bus.subjects(stream, pattern)

    def size(self, stream: str) -> int:
        """See `wire.Bus`."""
        return self._bus.size(stream)

    def space(self, stream: str) -> Space | None:
        """See `wire.Bus`."""
        return self._bus.space(stream)

    def cluster(self, streams: Sequence[str]) -> Cluster:
        """See `wire.Bus`."""
        return self._bus.cluster(streams)

    def copies(self) -> Copies:
        """See `wire.Bus`."""
        return self._bus.copies()

    def all_answer(self, stream: str) -> bool:
        """See `wire.Bus`."""
        return self._bus.all_answer(stream)

    def purge(self, stream: str, subject: str, *, below: int) -> int:
        """See `wire.Bus`."""
        return self._bus.purge(stream, subject, below=below)

    def purge_each(self, stream: str, ends: Sequence[tuple[str, int]]) -> None:
        """See `wire.Bus`."""
        self._bus.purge_each(stream, ends)

    def delete(self, stream: str, sequence: int) -> None:
        """See `wire.Bus`."""
        self._bus.delete(stream, sequence)

    def step_down(self, stream: str, to: str | None = None) -> None:
        """See `wire.Bus`; who is asked to has lost what another one has."""
        self._bus.step_down(stream, to)
        self.vitals.mend(stream)

    def close(self) -> None:
        """See `wire.Bus`."""
        self._bus.close()

    def _whole(self, stream: str, message: Message) -> Message:
        """The same message, of a node that has it as it was written; if there is none, as it is."""
        if is_whole(message):
            return message

        def enough(found: Sequence[Message]) -> bool:
            return any(each.sequence == message.sequence and is_whole(each) for each in found)

        at = message.sequence
        try:
            found = of_anybody(self._bus, stream, message.subject, at, enough, count=1)
        except Unproven:
            return message  # who needs it is refused, and others, who have read it beside, are not
        one = next((each for each in found if each.sequence == at), message)
        if is_whole(one):
            self.vitals.mend(stream)
        return one


def newest_of_anybody(bus: Bus, stream: str, subjects: Sequence[str]) -> dict[str, Message]:
    """The last message of each of these that any node has, by subject; all is asked at once."""
    asked = bus.last_of_each(stream, subjects)
    asked += bus.last_of_each(stream, [*subjects] * ASKS, leader=False)
    found: dict[str, Message] = {}
    for message in asked:
        if message is not None:
            known = found.setdefault(message.subject, message)
            if known.sequence < message.sequence:
                found[message.subject] = message
    return found


def first_of_anybody(bus: Bus, stream: str, subject: str, at: int) -> list[Message]:
    """The first message of a subject from a place on that any node has whole; all asked at once."""
    found = bus.following(stream, subject, at, count=1, leader=True)
    for told in bus.following_each(stream, [(subject, at)] * ASKS, count=1, bytes_max=1):
        found = [*found, *told]
    whole = [message for message in found if is_whole(message)]
    return [min(whole, key=lambda message: message.sequence)] if whole else []


def of_anybody(
    bus: Bus,
    stream: str,
    subject: str,
    at: int,
    enough: Callable[[Sequence[Message]], bool],
    *,
    count: int,
    bytes_max: int = 1 << 20,
) -> list[Message]:
    """Messages of a subject from a place on, in order, of all nodes together.

    To be asked where a node has damaged or lost one: whoever is found to have it has mended it.

    Args:
        enough: whether no more need be asked.

    Raises:
        Unproven: it was not enough, and not each node could be asked.
    """
    found: dict[int, Message] = {}
    messages: list[Message] = []
    for all_answer in (False, True):
        if all_answer:
            check_all_answer(bus, stream)
        for leader in (True, *[False] * ASKS):
            for message in bus.following(
                stream, subject, at, count=count, bytes_max=bytes_max, leader=leader
            ):
                if message.sequence not in found or is_whole(message):
                    found[message.sequence] = message
            messages = [found[sequence] for sequence in sorted(found)]
            if enough(messages):
                if isinstance(bus, ProvenBus):
                    bus.vitals.mend(stream)
                return messages
    check_all_answer(bus, stream)  # as one did that has gone meanwhile, and may have it
    return messages


def check_all_answer(bus: Bus, stream: str) -> None:
    """Find out whether each node that has a stream is there to be asked.

    Raises:
        Unproven: one is not.
    """
    if not bus.all_answer(stream):
        raise Unproven(
            "what is missing a node may have that cannot be asked now; nothing was given up, try"
            " again when all nodes are there"
        )
