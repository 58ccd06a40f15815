"""What is of no application: settings, acts, marks; as a group finds them and leaves them.

All of it is asked of the leader, behind the newest commit, and written with a commit of its own: so
it was as that commit had left it, or the write is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from pullstatus.errors import StoreDamaged
from pullstatus.store.jetstream import snapshots
from pullstatus.store.jetstream.messages import (
    ActMessage,
    CommonCommit,
    GateMessage,
    MarkMessage,
    SettingMessage,
    TicketMessage,
    Value,
    opened,
    sealed,
)
from pullstatus.store.jetstream.subjects import Place
from pullstatus.store.jetstream.wire import Bus, Put
from pullstatus.store.texts import encoded
from pullstatus.store.values import Act, Noted

T = TypeVar("T", bound=Value)


class Former(NamedTuple):
    """What a subject held before it was written anew.

    Attributes:
        secret: the sequence of a message that may hold a secret; 0: none does.
    """

    subject: str
    secret: int


class CommonTables:
    """The rows of one group; see `verbs.tables` for what each method does.

    Attributes:
        changed: names of settings that are to be written.
        replaced: what is to be removed now that something else stands there, each with the
            sequence below which that is; see `remove_former`.
    """

    def __init__(self, bus: Bus, place: Place, new_op: Callable[[], bytes]) -> None:
        """Nothing is asked yet."""
        self._bus = bus
        self._place = place
        self._new_op = new_op
        self._before: tuple[int, CommonCommit] | None = None
        self._commit = CommonCommit(0)
        self._values: dict[str, Value] = {}
        self._former: dict[str, int] = {}
        self.changed: list[str] = []
        self.replaced: dict[Former, int] = {}

    def commit(self) -> CommonCommit:
        """How it stands."""
        self._begin()
        return self._commit

    def still_holds(self) -> bool:
        """Whether what was asked is so still, as far as anything was."""
        return self._before is None or snapshots.is_newest(self._bus, self._place, self._before[0])

    @property
    def writes(self) -> bool:
        """Whether anything is to be written."""
        return bool(self._values)

    def write(self) -> None:
        """Commit what is to be written, and begin anew; what it was before is there still.

        Raises:
            Stale: somebody else was faster.
        """
        sequence, commit = self._begin()
        op = self._new_op()
        puts = [Put(subject, sealed(op, subject, value)) for subject, value in self._values.items()]
        subject = self._place.commits
        puts.append(Put(subject, sealed(op, subject, commit), sequence))
        written = self._bus.write(self._place.stream, puts, op)
        for name in self._values:
            if former := self._former.get(name):
                secret = former if name.startswith(self._place.setting("")) else 0
                self.replaced[Former(name, secret)] = sequence + 1
        self._values.clear()
        self.changed.clear()
        self._before = (written, commit)
        self._commit = msgspec.structs.replace(commit, previous=written)

    def _begin(self) -> tuple[int, CommonCommit]:
        if self._before is None:
            found = self._bus.last(self._place.stream, self._place.commits, leader=True)
            sequence = 0 if found is None else found.sequence
            told = CommonCommit(0) if found is None else opened(found, CommonCommit)
            self._before = (sequence, told)
            self._commit = msgspec.structs.replace(told, previous=sequence)
        return self._before[0], self._commit

    def _value(self, subject: str, held: type[T]) -> T | None:
        self._begin()
        written = self._values.get(subject)
        if written is not None:
            assert isinstance(written, held)
            return written
        found = self._bus.last(self._place.stream, subject, leader=True)
        if found is None:
            return None
        self._former[subject] = found.sequence
        return opened(found, held)

    # -- acts

    def act_number(self, ticket: bytes) -> int | None:
        found = self._value(self._place.ticket(ticket), TicketMessage)
        return None if found is None else found.act_id

    def newest_act(self) -> tuple[int, bytes] | None:
        _, commit = self._begin()
        return (commit.act_id, commit.act_hash) if commit.act_id else None

    def add_act(self, act_id: int, act: Act, proof: bytes) -> None:
        _, commit = self._begin()
        row = ActMessage(
            *(act_id, encoded(act.actor), encoded(act.action), encoded(act.reason)),
            *(encoded(act.detail), act.at_ms, act.ticket, proof),
        )
        self._values[self._place.act(act_id)] = row
        self._values[self._place.ticket(act.ticket)] = TicketMessage(act_id)
        self._commit = msgspec.structs.replace(commit, act_id=act_id, act_hash=proof)

    # -- settings

    def revision(self, name: str) -> int:
        """The revision of a setting; 0: it was never written."""
        return self.setting(name)[1]

    def setting(self, name: str) -> tuple[bytes | None, int]:
        found = self._value(self._place.setting(name), SettingMessage)
        return (None, 0) if found is None else (found.value, found.revision)

    def put_setting(self, name: str, value: bytes | None, ticket: bytes) -> None:
        _, commit = self._begin()
        revision = commit.revision + 1
        row = SettingMessage(encoded(name), value, revision, ticket)
        self._values[self._place.setting(name)] = row
        self.changed.append(name)
        self._commit = msgspec.structs.replace(commit, revision=revision)

    # -- what the store says of a migration

    def gate(self) -> GateMessage:
        return self._value(self._place.gate, GateMessage) or GateMessage()

    def put_gate(self, told: GateMessage) -> None:
        _, commit = self._begin()
        self._values[self._place.gate] = told
        self._commit = msgspec.structs.replace(commit, gate=told.number)

    # -- marks

    def note(self, name: str, noted: Noted) -> None:
        subject = self._place.mark(name)
        found = self._value(subject, MarkMessage)
        if found is None or found.at_ms < noted.at_ms:
            self._values[subject] = MarkMessage(encoded(name), noted.at_ms, encoded(noted.place))

    def drop_note(self, name: str) -> None:
        subject = self._place.mark(name)
        found = self._value(subject, MarkMessage)
        if found is not None and found.at_ms:
            self._values[subject] = MarkMessage(encoded(name), 0, b"")


def remove_former(bus: Bus, place: Place, former: Former, below: int) -> None:
    """Remove what a subject held before; the same again finds nothing."""
    if former.secret:
        bus.delete(place.stream, former.secret)  # written over
    bus.purge(place.stream, former.subject, below=below)


def settings_of(
    bus: Bus, place: Place, names: Sequence[str]
) -> dict[str, SettingMessage | StoreDamaged]:
    """Those of these settings that were ever written; or what is wrong with one."""
    told = snapshots.newest_of_each(bus, place.stream, [place.setting(name) for name in names])
    found: dict[str, SettingMessage | StoreDamaged] = {}
    for name, message in zip(names, told, strict=True):
        if message is not None:
            try:
                found[name] = opened(message, SettingMessage)
            except StoreDamaged as error:
                found[name] = error
    return found


def revisions(bus: Bus, place: Place, names: Sequence[str]) -> dict[str, int | Exception]:
    """The revisions of settings, 0 of one that was never written; or what is wrong with one."""
    found: dict[str, int | Exception] = dict.fromkeys(names, 0)
    for name, told in settings_of(bus, place, names).items():
        found[name] = told.revision if isinstance(told, SettingMessage) else told
    return found
