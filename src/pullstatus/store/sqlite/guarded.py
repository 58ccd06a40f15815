"""The log as the committer sees it: a commit counts once the files are still what they were.

See `pullstatus.store.gathering.log.Log` for what each method promises.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from pullstatus.errors import (
    OutcomeUnknown,
    StoreCorrupt,
    StoreFailed,
    StoreMoved,
    StoreMovedOn,
)
from pullstatus.store.gathering.log import Figures
from pullstatus.store.gathering.operations import Answer, Operation
from pullstatus.store.sqlite.log import CHECKPOINT_PAGES, CHECKPOINT_PAGES_IDLE, Log
from pullstatus.store.sqlite.names import Names
from pullstatus.store.sqlite.stamp import Stamp

LOOK_EVERY_S = 0.05  # at the room that is left, while there is: two system calls less a commit
FOLD_EVERY_S = 2.0  # while there is no room: each try adds a page or two to the log

T = TypeVar("T")

_UNSEEN: Final = "the store's files could not be looked at behind a commit ({})"


class GuardedLog:
    """One log, the names of its files, and the disk they are on."""

    def __init__(
        self,
        log: Log,
        names: Names,
        stamp: Stamp,
        as_of: bytes,
        has_room: Callable[[], bool],
        *,
        moving: bool = False,
    ) -> None:
        """Take over `log` and `stamp`.

        Args:
            log: opened; closed by `close`.
            names: of its files; asked after each commit, before its answers go out.
            stamp: by which other doors tell the server that they have committed.
            as_of: what that was before the log was opened.
            has_room: whether the disk has room for more entries.
            moving: the store is open to be moved, so it does not end when it is.
        """
        self.log = log
        self._names = names
        self._stamp = stamp
        self._as_of = as_of
        self._look_for_room = has_room
        self._moving = moving
        self._room = True  # as it was seen last
        self._look_due_s = 0.0
        self._fold_due_s = 0.0

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        """See `Log.commit` of the seam, and that of this engine.

        Raises:
            OutcomeUnknown: it is durable, and whether in the files that have the store's names is
                not to be learned: nothing behind a commit says that nothing happened.
        """
        self._looked(self._names.check_index)
        stamp, commits = self._stamp.read(), self.log.commits
        answers = self.log.commit(group)
        self._as_of = stamp
        try:
            if self.log.commits != commits:
                self._stamp.renew()
            self._check_names()
        except OutcomeUnknown:
            raise
        except Exception as error:
            raise OutcomeUnknown(_UNSEEN.format(error)) from error
        return answers

    def tend(self) -> None:
        """Join small chunks, and fold the log into the file, when that is due."""
        if self._room:
            self.log.join()
        # A log that begins anew takes no more of a disk that is nearly full.
        self._fold(CHECKPOINT_PAGES if self._room else 1)

    def watch(self) -> None:
        """Learn what other processes have done to the file, and do more of what `tend` does."""
        self._check_names()
        stamp = self._stamp.read()
        self.log.notice_others()
        self._as_of = stamp
        if not self._moving:
            self.log.gate.check_moved()
        if self._room:
            self.log.join(idle=True)
            self._fold(CHECKPOINT_PAGES_IDLE)
        else:
            self._fold_what_was_held_up()

    def due_in_s(self) -> float:
        """Until small chunks are joined, which needs room."""
        return self.log.join_in_s() if self._room else math.inf

    def has_room(self) -> bool:
        """Whether the disk has room for more entries, or had a moment ago."""
        now_s = time.monotonic()
        if not self._room or now_s >= self._look_due_s:
            self._look_due_s = now_s + LOOK_EVERY_S
            self._room = self._look_for_room()
        return self._room

    def take_waiting(self) -> dict[int, int]:
        """By `states.slot`."""
        return self.log.states.take_changed()

    def as_of(self) -> bytes | None:
        """The stamp as it was before the newest look at the file; None while that is shut."""
        return None if self.log.gate.shut else self._as_of

    def figures(self) -> Figures:
        """What the log has done since it was opened."""
        return Figures(self.log.commits, self.log.commit_s, self.log.operations)

    def is_final(self, error: BaseException) -> bool:
        """A sync that failed must not be tried again, and what contradicts itself not be used.

        Nor is there anything to do for a store that is elsewhere now.
        """
        return isinstance(error, OutcomeUnknown | StoreFailed | StoreCorrupt | StoreMovedOn)

    def close(self, *, failed: bool) -> None:
        """Close the log, and leave it as it is if it failed or is elsewhere now."""
        if not failed:
            try:
                self._check_names()  # folding at the end removes the log by its name
            except BaseException as error:  # noqa: BLE001 - it is closed, whatever that is
                failed = self.is_final(error)
        self.log.close(fold=not failed)
        self._names.close()
        self._stamp.close()

    def _fold_what_was_held_up(self) -> None:
        """Nothing is accepted, so perhaps nothing commits, after which the log would be folded."""
        now_s = time.monotonic()
        if now_s >= self._fold_due_s:
            self._fold_due_s = now_s + FOLD_EVERY_S
            self._fold(0)

    def _fold(self, least_pages: int) -> None:
        """Fold the log into the file once it is due, and remember that this has written."""
        try:
            folded = self.log.checkpoint(least_pages)
        except BaseException:
            self._names.written()  # a part of it may have been
            raise
        if folded:
            self._names.written()

    def _check_names(self) -> None:
        if not self._looked(self._names.check):
            # Somebody else has folded the log; or else has no business there.
            self.log.check_pair()
            self._names.written()

    def _looked(self, look: Callable[[], T]) -> T:
        """What `look` finds of the names."""
        try:
            return look()
        except StoreMoved:
            if self._names.parted():
                # The disk works. Wherever the file is now, it then holds all that was answered.
                self.log.fold_for_good()
            raise
