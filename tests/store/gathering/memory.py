"""A log in memory: all that an engine must bring, and nothing of any."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Sequence

from pullstatus.errors import OutcomeUnknown
from pullstatus.store.gathering.log import Figures
from pullstatus.store.gathering.operations import Answer, Changes, Operation
from pullstatus.store.values import Append, Outcome, Page, Park, Pull, Redeliver, Unpark

BOX = 7  # the number it gives to the one mailbox it has


class MemoryLog:
    """Counts what it is asked to do; `fails` is raised by whatever it is put down for."""

    def __init__(self) -> None:
        self.groups: list[list[Operation]] = []
        self.entries: list[bytes] = []
        self.fails: dict[str, BaseException] = {}
        self.room = True
        self.due_s = math.inf
        self.stamp: bytes | None = None
        self.secret = ""
        self.hangs = False
        self.calls: list[str] = []
        self._changed = {BOX: 0}

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        self._called("commit")
        while self.hangs:
            signal.pause()
        if any(_adds(operation) for operation in group) and "append" in self.fails:
            raise self.fails["append"]
        self.groups.append(list(group))
        return [self._answer(operation) for operation in group]

    def tend(self) -> None:
        self._called("tend")

    def watch(self) -> None:
        self._called("watch")

    def due_in_s(self) -> float:
        return self.due_s

    def has_room(self) -> bool:
        return self.room

    def take_waiting(self) -> dict[int, int]:
        changed, self._changed = self._changed, {}
        return changed

    def as_of(self) -> bytes | None:
        return self.stamp

    def figures(self) -> Figures:
        return Figures(len(self.groups), 0.001 * len(self.groups), sum(map(len, self.groups)))

    def is_final(self, error: BaseException) -> bool:
        return isinstance(error, OutcomeUnknown)

    def close(self, *, failed: bool) -> None:
        self.calls.append("close failed" if failed else "close")

    def others_add(self, entry: bytes) -> None:
        """As another process would."""
        self.entries.append(entry)
        self._changed = {BOX: len(self.entries)}

    def _answer(self, operation: Operation) -> Answer:
        if isinstance(operation, Append):
            self.entries += operation.entries
            self._changed = {BOX: len(self.entries)}
            return len(operation.entries)
        if isinstance(operation, Pull):
            taken, self.entries = self.entries, []
            self._changed = {BOX: 0}
            return Page(1, len(taken), b",".join(taken), 0)
        if isinstance(operation, Unpark):
            return 0
        assert isinstance(operation, Changes)
        return True

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise self.fails[name]


def _adds(operation: Operation) -> bool:
    stays = isinstance(operation, Unpark) and {Outcome.PUT_BACK, Outcome.ROUTED}.intersection(
        operation.outcomes
    )
    return bool(stays) or isinstance(operation, Append | Park | Redeliver)


def open_memory(
    *, refusal: BaseException | None = None, secret: str = "", hangs: bool = False
) -> MemoryLog:
    """Open one; an entry of it says in which process. It needs no secret, but might."""
    if refusal is not None:
        raise refusal
    log = MemoryLog()
    log.secret = secret
    log.hangs = hangs
    log.others_add(str(os.getpid()).encode())
    return log
