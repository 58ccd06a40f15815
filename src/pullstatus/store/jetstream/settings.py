"""The lane of what is of no application: settings, acts, marks.

A setting of an application's is changed behind a fence: a commit there that says which revision is
to come, then the change, then a commit again. So who rests on the setting by an older state is
refused, and who reads it between the two does not take it for good. Of a process that is killed in
between nothing is left but a fence, behind which settings are asked for by each group.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from pullstatus.errors import (
    StoreDamaged,
    StoreFailed,
    StoreMovedOn,
    StoreUnavailable,
    WorldError,
)
from pullstatus.store.gathering.log import Figures, Undone
from pullstatus.store.gathering.operations import Answer, Changes, Enter, Mark, Operation
from pullstatus.store.jetstream import commits
from pullstatus.store.jetstream.ages import Ages
from pullstatus.store.jetstream.commits import Newer, NewOp, Written
from pullstatus.store.jetstream.common import CommonTables, Former, remove_former
from pullstatus.store.jetstream.gate import LaneGate
from pullstatus.store.jetstream.log import COLLISIONS_MAX, PAUSE_S
from pullstatus.store.jetstream.messages import Commit
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus, Stale
from pullstatus.store.values import setting_owner
from pullstatus.store.verbs import upkeep

TIDY_S: Final = 60.0
AGAIN_S: Final = 5.0  # behind a failure, until former values are to be removed again
GATE_S: Final = 1.0
"""Between two looks at whether the store is elsewhere; a lane that is asked knows anyway."""


class SettingLog:
    """See `pullstatus.store.gathering.log.Log`."""

    def __init__(
        self,
        bus: Bus,
        layout: Layout,
        new_op: NewOp,
        clock: Callable[[], float] = time.monotonic,
        *,
        gate: LaneGate,
        server: bool = False,
        moving: bool = False,
    ) -> None:
        """See `Log`.

        Args:
            server: it is served, so it ends once it was filled since.
            moving: it is for one end of a migration, so it does not end when the store is moved.
        """
        self._bus = bus
        self._layout = layout
        self._new_op = new_op
        self._clock = clock
        self._gate = gate
        self._server = server
        self._moving = moving
        self._gate_due_s = 0.0
        self._ages = Ages(clock)
        self._replaced: dict[Former, int] = {}
        self._tidy_due_s = clock() + TIDY_S
        self._commits = self._operations = 0
        self._commit_s = 0.0

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        """Carry out `group` as one write; see `Log.commit` of the seam."""
        began_s = self._clock()
        for collisions in range(COLLISIONS_MAX + 1):
            if collisions:
                time.sleep(random.random() * PAUSE_S / collisions)  # noqa: S311 - no secret
            common = CommonTables(self._bus, self._layout.common, self._new_op)
            try:
                if isinstance(group[0], Enter):  # nothing else is asked of an end of a migration
                    return [
                        self._gate.enter(operation)
                        for operation in group
                        if isinstance(operation, Enter)
                    ]
                known, number = self._gate.number, common.commit().gate
                refusal = self._gate.admit(number)
                if refusal is not None:
                    return [refusal] * len(group)
                if self._gate.number != max(known, number):  # by what was written just now
                    continue
                answers = [_carry_out(common, operation) for operation in group]
                if common.writes:
                    self._write(common)
                    self._commits += 1
                    self._operations += len(group)
                    self._commit_s += self._clock() - began_s
                elif not common.still_holds():
                    continue
            except Stale:
                continue
            except StoreDamaged as error:
                raise Undone(error) from error
            except (WorldError, Undone):
                raise
            except Exception as error:
                raise Undone(error) from error
            return answers
        raise Undone(StoreUnavailable("others change settings again and again; try again"))

    def _write(self, common: CommonTables) -> None:
        revision = common.commit().revision
        owners = {owner for name in common.changed if (owner := setting_owner(name)) is not None}
        for owner in sorted(owners):
            self._fence(owner, revision)
        common.write()
        self._ages.see(common.commit().previous)
        self._replaced |= common.replaced
        try:
            for owner in sorted(owners):
                self._fence(owner, revision)
            self._remove_secrets()
        except Exception:  # noqa: BLE001 - it is committed: whatever this is, nobody may do it again
            self._tidy_due_s = min(self._tidy_due_s, self._clock() + AGAIN_S)

    def _remove_secrets(self) -> None:
        for former in [each for each in self._replaced if each.secret]:
            self._remove_former(former)

    def _remove_former(self, former: Former) -> None:
        remove_former(self._bus, self._layout.common, former, self._replaced[former])
        del self._replaced[former]

    def _fence(self, sdkappid: int, revision: int) -> None:
        """Commit to an application that settings are to be known so far.

        Raises:
            Stale: the store says something else of a migration than is known here.
        """

        def fenced(told: Commit) -> tuple[list[Written], Commit]:
            return [], msgspec.structs.replace(told, fence=max(revision, told.fence))

        gate = self._gate.number
        try:
            commits.commit(self._bus, self._layout, sdkappid, self._new_op, gate, fenced)
        except Newer as error:
            self._gate.check(error.number)
            raise

    def tend(self) -> None:
        """Remove from time to time what was written anew since.

        Raises:
            StoreMovedOn: what the store held is elsewhere.
            StoreFailed: of a server's: the store was filled since it was opened.
        """
        now_s = self._clock()
        if now_s >= self._gate_due_s and not self._moving:
            self._gate_due_s = now_s + GATE_S
            self._look_at_gate()
        if now_s < self._tidy_due_s:
            return
        self._tidy_due_s = now_s + TIDY_S
        place = self._layout.common
        for former in list(self._replaced):
            self._remove_former(former)
        if below := self._ages.below():
            self._bus.purge(place.stream, place.commits, below=below)

    def _look_at_gate(self) -> None:
        self._gate.look()
        self._gate.check_moved()
        if self._server and self._gate.outdated and not self._gate.shut:
            raise StoreFailed("the store was filled from another one since it was opened")

    def watch(self) -> None:
        """As `tend`; what other processes do is learned by asking."""
        self.tend()

    def due_in_s(self) -> float:
        """See `Log.due_in_s`."""
        return max(0.0, self._tidy_due_s - self._clock()) if self._replaced else math.inf

    def has_room(self) -> bool:
        """See `Log.has_room`."""
        return True

    def take_waiting(self) -> dict[int, int]:
        """There are no entries here."""
        return {}

    def as_of(self) -> bytes | None:
        """Nobody compares."""
        return None

    def figures(self) -> Figures:
        """What it has done since it was opened."""
        return Figures(self._commits, self._commit_s, self._operations)

    def is_final(self, error: BaseException) -> bool:
        """What does not heal."""
        return isinstance(error, StoreFailed | StoreMovedOn)

    def close(self, *, failed: bool) -> None:
        """Remove once more what was a secret and is still there."""
        if not failed:
            with contextlib.suppress(WorldError):
                self._remove_secrets()


def _carry_out(common: CommonTables, operation: Operation) -> Answer:
    if isinstance(operation, Mark):
        return upkeep.mark(common, operation)
    assert isinstance(operation, Changes)
    return upkeep.change(common, operation)
