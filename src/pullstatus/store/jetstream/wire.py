"""What the engine asks of a cluster: messages on subjects of streams, written under conditions.

`bus` says it to real nodes. A *condition* is that a certain message is the last on its subject: so
a write may be sent again, until there is an answer, and is stored once at most.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple, Protocol

from pullstatus.store.jetstream.copies import Copies

OP_BYTES: Final = 16
"""Each message begins with so many bytes, the same in all of one write, that no other write has."""

PUTS_MAX: Final = 1000
"""Messages in one write."""

BYTES_MAX: Final = 64 << 20
"""Of all messages of one write, and of all writes of a process that are under way."""

SUBJECTS_MAX: Final = 1000
"""Subjects that are asked for at once."""


class Message(NamedTuple):
    """One message of a stream; `sequence` counts up in the stream, with gaps."""

    subject: str
    sequence: int
    data: bytes


class Put(NamedTuple):
    """A message to be written.

    Attributes:
        last: the sequence that the last message of this subject must have, 0: there must be none;
            None: whatever there is.
    """

    subject: str
    data: bytes
    last: int | None = None


class Space(NamedTuple):
    """Bytes that something holds, and that it may hold."""

    used: int
    limit: int

    @property
    def left(self) -> int:
        """How many more it may hold."""
        return self.limit - self.used


class Copy(NamedTuple):
    """A copy of a stream that another node than its leader has, as the leader sees it.

    Attributes:
        away: nothing was heard of the node for seconds.
        current: it has heard of all that is stored, just now.
        lag: how many steps it has yet to take.
    """

    node: str
    away: bool
    current: bool
    lag: int

    def is_behind(self, lag_max: int) -> bool:
        """Whether it is there, and lacks something."""
        return not self.away and (not self.current or self.lag > lag_max)


class Led(NamedTuple):
    """A stream that has a leader.

    Attributes:
        leader: its node; empty: there is one node alone.
        group: of the nodes that have it: no other stream of the cluster has that name.
        used, limit: bytes that it holds, and may hold; 0: it has no bound of its own.
        missing: copies that it is to have and no node has, as one was taken out of the cluster.
        subjects: how many have messages.
    """

    leader: str
    copies: Sequence[Copy]
    used: int
    limit: int
    group: str = ""
    missing: int = 0
    subjects: int = 0

    @property
    def nodes(self) -> Sequence[str]:
        """Those that have it, as far as they are there; none if there is one node alone."""
        there = [copy.node for copy in self.copies if not copy.away]
        return [self.leader, *there] if self.group else []

    @property
    def works(self) -> bool:
        """Whether its leader reaches more than half of the nodes that have it, itself included."""
        reached = 1 + sum(not copy.away for copy in self.copies)
        return 2 * reached > 1 + len(self.copies)


class Cluster(NamedTuple):
    """How nodes are.

    Attributes:
        streams: those that were asked about, in order; None: nobody answers as its leader.
        node: room on the node that has least left, as of some minute; None: no node has said.
        unnamed: nodes some of which nobody here asks about themselves, as of some minute.
        older: nodes that have an older version than another one, as of some minute.
    """

    streams: Sequence[Led | None]
    node: Space | None
    unnamed: Collection[str] = ()
    older: Collection[str] = ()


class Stale(Exception):
    """A condition did not hold: nothing of the write is stored, nor ever will be."""


class Lacking(Stale):
    """Nor is there what would have made it false: who leads has not all that others were told."""


class Bus(Protocol):
    """What lanes ask; blocks, and may be called from any thread.

    Any of these may raise `StoreUnavailable`: nothing was decided, trying again can help.

    An answer of a replica may be old, but it is of one moment: all that the stream held up to some
    sequence, and nothing behind.
    """

    def write(self, stream: str, puts: Sequence[Put], op: bytes) -> int:
        """Store all of these or none, in order, and nothing between them; at most `PUTS_MAX`.

        The last one has a condition, and no two of a subject have one. Sent again until it is known
        what came of it: a condition that does not hold is no refusal if the message that made it so
        begins with `op`.

        Returns:
            the sequence of the last.

        Raises:
            Stale: nothing is stored.
            StoreFull: there is no room; nothing is stored.
            OutcomeUnknown: it was not to be learned in time.
        """
        ...

    def last(self, stream: str, subject: str, *, leader: bool = False) -> Message | None:
        """The last message of a subject; of a replica, or as the leader of the stream has it."""
        ...

    def newest(self, stream: str) -> int:
        """The sequence of a stream's newest message, as its leader has it; 0: there is none."""
        ...

    def lasts(
        self, stream: str, subjects: Sequence[str], *, at_least: int = 0
    ) -> dict[str, Message]:
        """The last message of each of these, by subject, of one moment of one replica.

        At most `SUBJECTS_MAX`, each a subject or a pattern. The moment is not before the one in
        which the message `at_least` was stored: a replica that is behind that is not believed.
        """
        ...

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
        """The first `count` messages of a subject or pattern from `sequence` on, in order.

        Fewer, but at least one if there is any, where they have more than `bytes_max`; else fewer
        only if a replica, or with `leader` the leader of the stream, has no more.
        """
        ...

    def last_of_each(
        self, stream: str, subjects: Sequence[str], *, leader: bool = True
    ) -> list[Message | None]:
        """`last` of each of these, in their order, asked at once."""
        ...

    def following_each(
        self,
        stream: str,
        starts: Sequence[tuple[str, int]],
        *,
        count: int,
        bytes_max: int,
        leader: bool = False,
    ) -> list[list[Message]]:
        """`following` from each of these on, in their order, asked at once."""
        ...

    def subjects(self, stream: str, pattern: str) -> Sequence[str]:
        """All subjects of a pattern that have messages, as the leader tells; of a moment."""
        ...

    def size(self, stream: str) -> int:
        """Bytes that a stream holds now."""
        ...

    def space(self, stream: str) -> Space | None:
        """Of a stream, or of a node if that has less left; None: there is no bound."""
        ...

    def cluster(self, streams: Sequence[str]) -> Cluster:
        """How these streams are, asked at once and for a few seconds at most."""
        ...

    def copies(self) -> Copies:
        """What nodes say that they have of streams, those of others included.

        Of nodes that do not answer nothing; of those that do not know what they have, neither.
        """
        ...

    def all_answer(self, stream: str) -> bool:
        """Whether each node that has a stream answers questions about it, and the leader has all.

        Until then what nobody tells some node may have.
        """
        ...

    def purge(self, stream: str, subject: str, *, below: int) -> int:
        """Remove the messages of a subject or pattern below a sequence; returns how many."""
        ...

    def purge_each(self, stream: str, ends: Sequence[tuple[str, int]]) -> None:
        """`purge` of each of these subjects, below the sequence beside it, all at once."""
        ...

    def delete(self, stream: str, sequence: int) -> None:
        """Remove a message, and overwrite what it held; nothing if there is none."""
        ...

    def step_down(self, stream: str, to: str | None = None) -> None:
        """Have another node lead a stream; who leads it is asked to, and may not do it.

        Args:
            to: which, if it can; None: whichever.
        """
        ...

    def close(self) -> None:
        """Ask and write no more; from then on `StoreUnavailable` is raised."""
        ...
