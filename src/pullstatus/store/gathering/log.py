"""What the committer asks of an engine's log. An engine that has one gets group commit with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from pullstatus.store.gathering.operations import Answer, Operation


class Figures(msgspec.Struct, frozen=True, gc=False):
    """What a log has done since it was opened.

    Attributes:
        commits: how many wrote something.
        commit_s: how long they took, in seconds.
        operations: what shared them.
    """

    commits: int
    commit_s: float
    operations: int


class Undone(Exception):
    """A group was rolled back, perhaps for what one of its operations brings. Nothing happened.

    Attributes:
        error: what is to be said of that operation.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Log(Protocol):
    """The one writing end of a store. Its methods are called one at a time, from one thread.

    Any of them may raise; `is_final` says of the error whether the log may still be used.
    """

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        """Carry out `group` as one transaction; one answer each, in order, durable on return.

        An operation that breaks a rule (`KeyReused`, `ReplayRefused`, ...) gets that as its answer
        and leaves no trace.

        Raises:
            Undone: nothing happened, and it may be the fault of one of them.
            StoreFull: no space is left; nothing happened. Pulls may still find room.
            StoreUnavailable: nothing happened.
            OutcomeUnknown: the group may or may not be durable.
        """
        ...

    def tend(self) -> None:
        """Do between two commits what nobody waits for."""
        ...

    def watch(self) -> None:
        """Learn, while nothing comes, what other processes did, and do more of what `tend` does."""
        ...

    def due_in_s(self) -> float:
        """Seconds until `watch` has more to do than to learn; infinite if nothing is due.

        Asked often, so it must cost little.
        """
        ...

    def has_room(self) -> bool:
        """Whether there is room for more entries. Asked often, so it must cost little."""
        ...

    def take_waiting(self) -> dict[int, int]:
        """Entries that wait, by the engine's number of a mailbox.

        Of those that changed, or were used first, since this was called last. Of a mailbox that was
        not told of nothing is known; once it was, each change is told, whoever made it.
        """
        ...

    def as_of(self) -> bytes | None:
        """Of which state of the store `take_waiting` tells; None: that is not known.

        Where there are other doors to the store, this is what the engine compares to see whether
        one of them has committed since.
        """
        ...

    def figures(self) -> Figures:
        """What it has done since it was opened."""
        ...

    def is_final(self, error: BaseException) -> bool:
        """Whether nothing may be asked of the log any more, but to close, after this error."""
        ...

    def close(self, *, failed: bool) -> None:
        """Release what it holds.

        Args:
            failed: after a final error; what is written may then be touched no more.
        """
        ...


OpenLog = Callable[[], Log]
"""Opens an engine's log where the committer works.

For a process of its own it must be something that can be pickled: a `functools.partial` of a
function of the engine's and plain values.
"""
