"""What a store says of a migration, and how every commit comes to obey it; see `store.gate`.

It is a message beside the settings, with a number. A commit to an application names the number that
it knows of, and rests on the commit before. So whoever shuts the store says so first, then commits
to each application with the new number: who has not heard of it is refused by its condition, and
asks. The first commit of an application rests on a message of its partition, which gets the number,
too. As long as the store is shut, each group asks whether it still is.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from pullstatus.errors import OutcomeUnknown, StoreRefused, StoreSealed, StoreUnavailable
from pullstatus.store.gate import Gate, decoded, encoded
from pullstatus.store.gathering.log import Undone
from pullstatus.store.gathering.operations import Enter
from pullstatus.store.jetstream import commits
from pullstatus.store.jetstream.commits import NewOp, Written
from pullstatus.store.jetstream.common import CommonTables
from pullstatus.store.jetstream.lists import Lists
from pullstatus.store.jetstream.messages import (
    Commit,
    GateMessage,
    GuardMessage,
    opened,
    sealed,
)
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus, Put, Stale
from pullstatus.store.transfer import Role, Stage
from pullstatus.store.verbs.acts import record

_FILLER_BYTES: Final = 16
_ABREAST: Final = 16  # applications that are committed to at once
_FENCED: Final = {(Role.SOURCE, Stage.SEALED), (Role.TARGET, Stage.COPYING)}
"""What must be known to everybody before anything rests on it."""


class LaneGate(Gate):
    """What is known of it in one process, by all its lanes.

    Attributes:
        number: of that.
    """

    def __init__(self, bus: Bus, layout: Layout, new_op: NewOp) -> None:
        """Ask for it."""
        self._bus = bus
        self._layout = layout
        self._new_op = new_op
        self._own = os.urandom(_FILLER_BYTES)
        self._learning = threading.Lock()
        told = self._told()
        self._filler = told.filler
        super().__init__(decoded(told.state))
        self.number = told.number

    def look(self) -> None:
        """Learn what the store says now."""
        self._know(self._told())

    def admit(self, number: int) -> StoreSealed | None:
        """What is said to a group that rests on commits of this number; None: it may go on.

        If the store was only ready, it says from now on that it is in use.

        Raises:
            StoreMovedOn: what the store held is elsewhere.
        """
        if number > self.number or self.shut:
            self.look()
        refusal = self.refusal()
        if refusal is None and self.taken is not None:
            self._take()
            refusal = self.refusal()
        return refusal

    def check(self, number: int) -> None:
        """Learn what the store says, if a commit knows of a later number.

        Raises:
            Stale: the store says something else than was known here.
            Undone: it does not say what the commit knows of.
        """
        if number > self.number:
            self.look()
            raise Stale if number <= self.number else Undone(StoreUnavailable(_SET_BACK))

    def enter(self, operation: Enter) -> bool:
        """Say how this store takes part from now on, if it does as expected.

        All commits obey it on return, if it says that nothing more is to be done.

        Raises:
            OutcomeUnknown: it is said, and not every commit obeys it yet: `settle` goes on.
        """
        while True:
            common = self._common()
            told = common.gate()
            self._know(told)
            now = operation.migration
            if self.found != operation.expected:
                return False
            if now is not None and now.stage is Stage.READY and told.filler != self._own:
                return False  # somebody else has filled it since
            common.put_gate(
                GateMessage(
                    told.number + 1,
                    None if now is None else encoded(now),
                    b"" if now is None else self._own,
                    now is None or (now.role, now.stage) not in _FENCED,
                )
            )
            if operation.act is not None:
                record(common, operation.act)
            if self._written(common):
                try:
                    self.settle()
                except StoreUnavailable as error:
                    raise OutcomeUnknown(_HALF_SAID.format(error)) from error
                return True

    def settle(self) -> None:
        """Have all commits obey what the store says, if whoever said it did not get to that."""
        while not (told := self._told()).fenced:
            self._fence(told.number)
            common = self._common()
            if common.gate() == told:
                common.put_gate(msgspec.structs.replace(told, fenced=True))
                self._written(common)
        self._know(told)

    def refusal_to_fill(self) -> StoreRefused | None:
        """As of any store; and nobody puts rows into it beside another."""
        self.look()
        refusal = super().refusal_to_fill()
        if refusal is None and self._filler != self._own:
            return StoreRefused("another run of `pullstatus migrate` fills this store: let it end")
        return refusal

    def _take(self) -> None:
        while True:
            common = self._common()
            told = common.gate()
            self._know(told)
            taken = self.taken
            if taken is None:
                return
            common.put_gate(GateMessage(told.number + 1, encoded(taken)))
            if self._written(common):
                self.look()
                return

    def _fence(self, number: int) -> None:
        layout = self._layout
        for partition in range(layout.partitions):
            self._raise_guard(partition, number)

        def raised(told: Commit) -> tuple[list[Written], Commit] | None:
            if told.gate >= number:
                return None
            return [], msgspec.structs.replace(told, gate=number)

        def fence(sdkappid: int) -> None:
            with contextlib.suppress(Stale):  # the store says something else since
                commits.commit(self._bus, layout, sdkappid, self._new_op, number, raised)

        with ThreadPoolExecutor(_ABREAST) as pool:
            for _ in pool.map(fence, Lists(self._bus, layout).applications()):
                pass

    def _raise_guard(self, partition: int, number: int) -> None:
        stream, subject = self._layout.stream(partition), self._layout.guard(partition)
        while True:
            last, told = commits.guard(self._bus, self._layout, partition)
            if told >= number:
                return
            op = self._new_op()
            try:
                self._bus.write(
                    stream, [Put(subject, sealed(op, subject, GuardMessage(number)), last)], op
                )
            except Stale:
                continue
            return

    def _common(self) -> CommonTables:
        return CommonTables(self._bus, self._layout.common, self._new_op)

    @staticmethod
    def _written(common: CommonTables) -> bool:
        try:
            common.write()
        except Stale:
            return False
        return True

    def _told(self) -> GateMessage:
        place = self._layout.common
        found = self._bus.last(place.stream, place.gate, leader=True)
        return GateMessage() if found is None else opened(found, GateMessage)

    def _know(self, told: GateMessage) -> None:
        """What it says before its number: lanes ask for what they have no number of.

        Not what was asked before something newer that another lane has learned since.
        """
        with self._learning:
            if told.number >= self.number:
                self.found = decoded(told.state)
                self._filler = told.filler
                self.number = told.number


_HALF_SAID: Final = "the store says so from now on, but not all of it has heard yet; try again: {}"
_SET_BACK: Final = (
    "what is committed knows of a later migration than the settings do; try again, and if their"
    " stream was set back, end all servers and run `pullstatus store new-epoch`"
)
