"""A cluster in memory: exact in its conditions, and as inexact as a real one in all else.

Replicas may be behind, answers may get lost behind what they tell of, and others may write between
two questions; each of these happens when a test says so.
"""

from __future__ import annotations

import contextlib
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, cast

from pullstatus.errors import StoreFull, StoreUnavailable
from pullstatus.store.jetstream.copies import Copies, Held
from pullstatus.store.jetstream.wire import (
    BYTES_MAX,
    OP_BYTES,
    PUTS_MAX,
    SUBJECTS_MAX,
    Bus,
    Cluster,
    Led,
    Message,
    Put,
    Space,
    Stale,
)
from pullstatus.store.jetstream.writing import MESSAGE_BYTES_MAX


class WrongLast(Exception):
    """What a server says when a condition does not hold."""


LEADER: Final = "n0"


class _Stream:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.newest = 0
        self.messages: dict[int, Message] = {}
        self.subjects: dict[str, list[int]] = {}

    def last_of(self, subject: str, up_to: int) -> int:
        sequences = self.subjects.get(subject, [])
        at = bisect_left(sequences, up_to + 1)
        return sequences[at - 1] if at else 0

    def matching(self, pattern: str) -> list[str]:
        if "*" not in pattern and ">" not in pattern:
            return [pattern] if pattern in self.subjects else []
        return [subject for subject in self.subjects if matches(subject, pattern)]

    def remove(self, sequence: int) -> bool:
        message = self.messages.pop(sequence, None)
        if message is None:
            return False
        own = self.subjects[message.subject]
        own.remove(sequence)
        if not own:
            del self.subjects[message.subject]
        return True


class MemoryBus:
    """See `pullstatus.store.jetstream.wire.Bus`; thread-safe.

    Attributes:
        lag: told a stream, how many of its newest messages the replica lacks that answers next.
        loses: told a stream, whether the answer to what was just stored gets lost.
        overtake: called before each write, with its stream; may write itself.
        has: told a stream, a message, and whether it is the leader, what of that the node has that
            is asked: the same, something else under its number, or None.
        asked: each question and write that came, in order.
        judges_by_loss: whether conditions are judged by what the leader has left, as real ones are;
            else by what it was sent.
        silent: told a stream, whether a node that has it cannot be asked.
        stepped_down: streams whose leaders were asked to lead no more, in order.
        limits: bytes that streams may hold, if they have a bound.
        led: told a stream, and how it is, what its leader says of it; None: it has none.
        node: room on a node.
        unnamed: nodes some of which nobody asks about themselves.
        older: nodes that have an older version than another one.
    """

    def __init__(self, streams: Iterable[tuple[str, str]]) -> None:
        self._streams = {name: _Stream(pattern) for name, pattern in streams}
        self._lock = threading.RLock()
        self.lag: Callable[[str], int] = lambda _stream: 0
        self.loses: Callable[[str], bool] = lambda _stream: False
        self.has: Callable[[str, Message, bool], Message | None] = lambda _s, message, _l: message
        self.overtake: Callable[[str], None] = lambda _stream: None
        self.asked: list[str] = []
        self.judges_by_loss = False
        self.silent: Callable[[str], bool] = lambda _stream: False
        self.stepped_down: list[str] = []
        self.limits: dict[str, int] = {}
        self.led: Callable[[str, Led], Led | None] = lambda _stream, led: led
        self.node: Space | None = None
        self.unnamed: Sequence[str] = ()
        self.older: Sequence[str] = ()

    def door(self) -> Bus:
        """A connection of somebody's own."""
        return cast("Bus", Door(self))

    def close(self) -> None:
        """A cluster stays when a connection ends."""

    # -- writing

    def write(self, stream: str, puts: Sequence[Put], op: bytes) -> int:
        self.asked.append("write")
        assert puts
        assert puts[-1].last is not None, "what came of it could not be learned"
        assert all(put.data[:OP_BYTES] == op for put in puts)
        self.overtake(stream)
        while True:
            try:
                last = self._store(stream, puts)
            except WrongLast:
                return self._resolve(stream, puts[-1], op)
            if not self.loses(stream):
                return last

    def _resolve(self, stream: str, put: Put, op: bytes) -> int:
        """What a condition that did not hold means: an earlier copy was stored, or another's."""
        after = (put.last or 0) + 1
        found = self.following(stream, put.subject, after, count=1, leader=True)
        if found and found[0].data[:OP_BYTES] == op:
            return found[0].sequence
        raise Stale

    def _store(self, name: str, puts: Sequence[Put]) -> int:
        with self._lock:
            stream = self._streams[name]
            conditions = [put.subject for put in puts if put.last is not None]
            size = sum(len(put.data) for put in puts)
            assert len(puts) <= PUTS_MAX
            assert size <= BYTES_MAX
            assert len(set(conditions)) == len(conditions)
            for put in puts:
                assert len(put.data) <= MESSAGE_BYTES_MAX
                assert matches(put.subject, stream.pattern)
                if put.last is not None and self._last_of(stream, name, put.subject) != put.last:
                    raise WrongLast
            if name in self.limits and self.size(name) + size > self.limits[name]:
                raise StoreFull("the stream is full")
            for put in puts:
                stream.newest += 1
                message = Message(put.subject, stream.newest, put.data)
                stream.messages[stream.newest] = message
                stream.subjects.setdefault(put.subject, []).append(stream.newest)
            return stream.newest

    def purge(self, stream: str, subject: str, *, below: int) -> int:
        self.asked.append("purge")
        with self._lock:
            found = self._streams[stream]
            due = [
                sequence
                for each in found.matching(subject)
                for sequence in found.subjects[each]
                if sequence < below
            ]
            return sum(found.remove(sequence) for sequence in due)

    def purge_each(self, stream: str, ends: Sequence[tuple[str, int]]) -> None:
        with self._at_once("purge each"):
            for subject, below in ends:
                self.purge(stream, subject, below=below)

    def delete(self, stream: str, sequence: int) -> None:
        self.asked.append("delete")
        with self._lock:
            self._streams[stream].remove(sequence)

    def step_down(self, stream: str, to: str | None = None) -> None:
        assert to != LEADER
        self.stepped_down.append(stream)

    def all_answer(self, stream: str) -> bool:
        self.asked.append("all answer")
        return not self.silent(stream)

    def copies(self) -> Copies:
        """All nodes have all that the leader has not lost, but for the leader."""
        self.asked.append("copies")
        with self._lock:
            return {name: self._held(name, stream) for name, stream in self._streams.items()}

    def _held(self, name: str, stream: _Stream) -> dict[str, Held]:
        messages = list(stream.messages.values())
        left = sum(self.has(name, message, True) is not None for message in messages)
        whole = Held(len(messages), stream.newest)
        return {LEADER: Held(left, stream.newest), "n1": whole, "n2": whole}

    def _last_of(self, stream: _Stream, name: str, subject: str) -> int:
        last = stream.last_of(subject, stream.newest)
        if self.judges_by_loss and last and self.has(name, stream.messages[last], True) is None:
            return 0
        return last

    def damage(self, stream: str, message: Message) -> None:
        """Have something else under a number, on all nodes."""
        with self._lock:
            assert message.sequence in self._streams[stream].messages
            self._streams[stream].messages[message.sequence] = message

    # -- asking

    def last(self, stream: str, subject: str, *, leader: bool = False) -> Message | None:
        self.asked.append("last of the leader" if leader else "last")
        with self._lock:
            found = self._streams[stream]
            sequence = found.last_of(subject, self._up_to(stream, leader=leader))
            return self.has(stream, found.messages[sequence], leader) if sequence else None

    def newest(self, stream: str) -> int:
        self.asked.append("newest")
        with self._lock:
            return self._streams[stream].newest

    def lasts(
        self, stream: str, subjects: Sequence[str], *, at_least: int = 0
    ) -> dict[str, Message]:
        self.asked.append("lasts")
        assert len(subjects) <= SUBJECTS_MAX
        with self._lock:
            found = self._streams[stream]
            up_to = max(at_least, self._up_to(stream, leader=False))
            named = {each for subject in subjects for each in found.matching(subject)}
            sequences = {subject: found.last_of(subject, up_to) for subject in sorted(named)}
            assert len(sequences) <= SUBJECTS_MAX
            messages = [found.messages[sequence] for sequence in sequences.values() if sequence]
            had = [self.has(stream, message, False) for message in messages]
            return {message.subject: message for message in had if message is not None}

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
        self.asked.append("following")
        with self._lock:
            found = self._streams[stream]
            up_to = self._up_to(stream, leader=leader)
            sequences: list[int] = []
            for each in found.matching(subject):
                own = found.subjects[each]
                at = bisect_left(own, sequence)
                sequences += own[at : at + 2 * count]  # some may be missing
            messages: list[Message] = []
            size = 0
            for number in sorted(sequences):
                message = self.has(stream, found.messages[number], leader)
                if message is None:
                    continue
                size += len(message.data)
                if number > up_to or len(messages) == count or (messages and size > bytes_max):
                    break
                messages.append(message)
            return messages

    def last_of_each(
        self, stream: str, subjects: Sequence[str], *, leader: bool = True
    ) -> list[Message | None]:
        with self._at_once("last of each"):
            return [self.last(stream, subject, leader=leader) for subject in subjects]

    def following_each(
        self,
        stream: str,
        starts: Sequence[tuple[str, int]],
        *,
        count: int,
        bytes_max: int,
        leader: bool = False,
    ) -> list[list[Message]]:
        with self._at_once("following each"):
            return [
                self.following(stream, subject, at, count=count, bytes_max=bytes_max, leader=leader)
                for subject, at in starts
            ]

    @contextlib.contextmanager
    def _at_once(self, name: str) -> Iterator[None]:
        """What is asked meanwhile is one question."""
        before = len(self.asked)
        yield
        self.asked[before:] = [name]

    def subjects(self, stream: str, pattern: str) -> list[str]:
        self.asked.append("subjects")
        with self._lock:
            return sorted(self._streams[stream].matching(pattern))

    def size(self, stream: str) -> int:
        with self._lock:
            return sum(len(each.data) for each in self._streams[stream].messages.values())

    def space(self, stream: str) -> Space | None:
        limit = self.limits.get(stream)
        return None if limit is None else Space(self.size(stream), limit)

    def cluster(self, streams: Sequence[str]) -> Cluster:
        found = [
            Led(
                *(LEADER, (), self.size(each), self.limits.get(each, 0), each),
                subjects=len(self._streams[each].subjects),
            )
            for each in streams
        ]
        led = list(map(self.led, streams, found))
        return Cluster(led, self.node, self.unnamed, self.older)

    def _up_to(self, stream: str, *, leader: bool) -> int:
        newest = self._streams[stream].newest
        return newest if leader else newest - self.lag(stream)


class Door:
    """A connection to a cluster in memory: all that the cluster answers, until it is closed."""

    def __init__(self, bus: MemoryBus) -> None:
        self.closed = False
        self._bus = bus

    def __getattr__(self, name: str) -> object:
        if self.closed:
            raise StoreUnavailable("the connection is closed")
        return getattr(self._bus, name)

    def close(self) -> None:
        self.closed = True


def matches(subject: str, pattern: str) -> bool:
    """Whether a subject is one of a pattern: `*` is any token, `>` any that are left."""
    tokens, wanted = subject.split("."), pattern.split(".")
    for place, want in enumerate(wanted):
        if want == ">":
            return len(tokens) > place
        if place >= len(tokens) or want not in ("*", tokens[place]):
            return False
    return len(tokens) == len(wanted)
