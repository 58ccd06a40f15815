"""What a group of operations will ask of the store, so that it is asked in one go. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from pullstatus.records import Kind
from pullstatus.store.fingerprints import factor_of, further_keys, keys
from pullstatus.store.gathering.operations import (
    Changes,
    Enter,
    Erase,
    Forget,
    Mark,
    Operation,
    Purge,
    Replace,
)
from pullstatus.store.texts import encoded
from pullstatus.store.values import (
    Append,
    Count,
    Discard,
    Fingerprints,
    Follow,
    Mailbox,
    Park,
    Pull,
    Redeliver,
    Release,
    RepeatKey,
    Unfollow,
    Unpark,
    While,
)
from pullstatus.store.verbs.state import slot


class Asked:
    """What is to be locked and read before a group is carried out.

    Attributes:
        boxes: the mailboxes that it may touch.
        adds: those of them that it may put entries into.
        due: of some, how many entries from the head on it may need.
        settings: names of those that it rests on.
        keyed: each with its box.
        repeats: each with its scope.
        once: each with its sdkappid.
        readers: boxes and names.
        changes: whether it writes settings.
        acts: whether it may put an act on record.
        enters: whether it says how the store takes part in a migration.
    """

    def __init__(self, group: Sequence[Operation], secret: bytes) -> None:
        """Look through a group; `secret` is what fingerprints are keyed with."""
        self._secret = secret
        self._prints: dict[int, tuple[list[bytes], dict[int, list[bytes]]]] = {}
        self.boxes: set[int] = set()
        self.adds: set[int] = set()
        self.due: dict[int, int] = {}
        self.settings: set[str] = set()
        self.keyed: set[tuple[bytes, int]] = set()
        self.repeats: set[tuple[bytes, bytes]] = set()
        self.once: set[tuple[int, bytes]] = set()
        self.readers: set[tuple[int, bytes]] = set()
        self.changes = self.acts = self.enters = False
        for operation in group:
            self._see(operation)

    def keys_of(self, fingerprints: Fingerprints) -> tuple[list[bytes], dict[int, list[bytes]]]:
        """What the store knows these records by; and some of them, by their places, besides."""
        known = self._prints.get(id(fingerprints))
        if known is None:
            factor, items = factor_of(self._secret, fingerprints.scope), fingerprints.items
            known = self._prints[id(fingerprints)] = (
                keys(factor, items),
                further_keys(factor, items),
            )
        return known

    def prints(self) -> set[bytes]:
        """The keys of all records that have fingerprints."""
        return {
            key
            for named, further in self._prints.values()
            for key in chain(named, *further.values())
        }

    def _see(self, operation: Operation) -> None:
        if isinstance(operation, Append):
            self._see_append(operation)
        elif isinstance(operation, Pull):
            self._see_pull(operation)
        elif isinstance(operation, Park):
            self._see_park(operation)
        elif isinstance(operation, Unpark):
            self._touch(operation.mailbox)
            self.adds.add(slot(operation.mailbox))
            self._rest(operation.while_set)
            self.acts |= operation.act is not None
            for records in operation.records:
                self._see_append(records)
            for aside in operation.aside:
                self._see_park(aside)
        elif isinstance(operation, Changes):
            self.changes = True
            self.acts |= operation.act is not None
        elif isinstance(operation, Purge):
            for mailbox in operation.mailboxes:
                self._touch(mailbox)
        elif isinstance(operation, Discard | Redeliver | Release):
            self._touch(operation.mailbox)
            self._rest(operation.while_set)
            self.acts |= operation.act is not None
            if isinstance(operation, Redeliver):
                self.adds.add(slot(operation.mailbox))
            elif isinstance(operation, Release):
                self.readers.add((slot(operation.mailbox), encoded(operation.name)))
        elif isinstance(operation, Erase | Follow | Unfollow):
            self._touch(operation.mailbox)
        elif isinstance(operation, Count):
            self._rest(operation.while_set)
            for mailbox, _ in operation.while_followed:
                self._touch(mailbox)
            if operation.repeat_key is not None:
                self._see_key(operation.repeat_key)
        elif isinstance(operation, Enter):
            self.enters = True
            self.acts |= operation.act is not None
        else:
            assert isinstance(operation, Forget | Mark | Replace)

    def _see_append(self, operation: Append) -> None:
        box = slot(operation.mailbox)
        self.boxes.add(box)
        if operation.count:
            self.adds.add(box)
        self._rest(operation.while_set)
        if operation.repeat_key is not None:
            self._see_key(operation.repeat_key)
        if operation.fingerprints is not None:
            self.keys_of(operation.fingerprints)

    def _see_key(self, key: RepeatKey) -> None:
        self.repeats.add((encoded(key.scope), encoded(key.key)))

    def _see_park(self, operation: Park) -> None:
        self._see_append(operation.records)
        self._touch(operation.mailbox)
        if operation.entries:
            self.adds.add(slot(operation.mailbox))
        if operation.fingerprints is not None:
            self.keys_of(operation.fingerprints)

    def _see_pull(self, operation: Pull) -> None:
        self._touch(operation.mailbox, operation.count_max)
        self.settings.update(condition.name for condition in operation.conditions)
        box, sdkappid = slot(operation.mailbox), operation.mailbox.sdkappid
        if operation.key is not None:
            # Of both kinds, so that of two pulls with one key the second sees the first.
            for kind in Kind:
                other = slot(Mailbox(sdkappid, kind))
                self.boxes.add(other)
                self.keyed.add((encoded(operation.key), other))
        if operation.once is not None:
            self.once.add((sdkappid, encoded(operation.once.nonce)))
        if operation.reader is not None:
            self.readers.add((box, encoded(operation.reader.name)))

    def _touch(self, mailbox: Mailbox, due: int = 0) -> None:
        box = slot(mailbox)
        self.boxes.add(box)
        self.due[box] = self.due.get(box, 0) + max(due, 1)

    def _rest(self, condition: While | None) -> None:
        if condition is not None:
            self.settings.add(condition.name)
