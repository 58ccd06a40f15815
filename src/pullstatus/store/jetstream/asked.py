"""What a group of operations will ask of each application, so that it is asked in one go. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pullstatus.store.gathering.operations import Erase, Operation, Purge
from pullstatus.store.jetstream.subjects import Layout, Place, hour_of
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
    Tally,
    Unfollow,
    Unpark,
    While,
    setting_owner,
)


class Asked:
    """Of one application.

    Attributes:
        places: of its operations in the group.
        rows: subjects of rows that are judged.
        hours: those that fingerprints fall in.
        conditions: what operations rest on, of its own settings.
        others: names of other settings that they rest on.
    """

    def __init__(self, sdkappid: int, place: Place) -> None:
        """Nothing yet."""
        self.place = place
        self._sdkappid = sdkappid
        self.places: list[int] = []
        self.rows: set[str] = set()
        self.hours: set[int] = set()
        self.conditions: set[While] = set()
        self.others: set[str] = set()

    def rest(self, condition: While | None) -> None:
        """An operation rests on this.

        Raises:
            ValueError: it is of another application, or of none: who changes it commits nothing
                here, so what rests on it might be committed behind its change.
        """
        if condition is not None:
            if setting_owner(condition.name) != self._sdkappid:
                raise ValueError("an operation rests on a setting that is not its application's")
            self.conditions.add(condition)

    def prints(self, fingerprints: Fingerprints | None) -> None:
        """Records of these times are asked for."""
        if fingerprints is not None:
            self.hours.update(hour_of(record_s) for record_s, _ in fingerprints.items)

    def tally(self, tallies: Sequence[Tally]) -> None:
        """These are to be added to."""
        self.rows.update(self.place.tally(tally.series, tally.hour) for tally in tallies)


class Group:
    """What a group asks, by application; `by` each operation by the one that it is mainly of."""

    def __init__(self, group: Sequence[Operation], layout: Layout) -> None:
        """Look through a group."""
        self._layout = layout
        self.by: dict[int, Asked] = {}
        for place, operation in enumerate(group):
            owner = self._see(operation)
            if owner is not None:
                self._of(owner).places.append(place)

    def only(self, sdkappid: int) -> Group:
        """What is asked of one application."""
        found = Group((), self._layout)
        found.by[sdkappid] = self._of(sdkappid)
        return found

    def ask_repeat(self, sdkappid: int, key: RepeatKey) -> None:
        """Ask what is remembered of a key, too."""
        asked = self._of(sdkappid)
        asked.rows.add(asked.place.repeat(key.scope, key.key))

    def _of(self, sdkappid: int) -> Asked:
        found = self.by.get(sdkappid)
        if found is None:
            found = self.by[sdkappid] = Asked(sdkappid, self._layout.application(sdkappid))
        return found

    def _see(self, operation: Operation) -> int | None:
        """Note what an operation asks; returns whose it is."""
        if isinstance(operation, Append):
            return self._see_append(operation)
        if isinstance(operation, Pull):
            return self._see_pull(operation)
        if isinstance(operation, Park):
            return self._see_park(operation)
        if isinstance(operation, Unpark):
            self._see_mailbox(operation.mailbox, operation.while_set)
            for records in operation.records:
                self._see_append(records)
            for aside in operation.aside:
                self._see_park(aside)
            return operation.mailbox.sdkappid
        if isinstance(operation, Discard | Redeliver | Release):
            return self._see_mailbox(operation.mailbox, operation.while_set)
        if isinstance(operation, Erase | Unfollow):
            return self._see_mailbox(operation.mailbox, None)
        if isinstance(operation, Follow):
            return self._see_follow(operation)
        if isinstance(operation, Count):
            return self._see_count(operation)
        if isinstance(operation, Purge):
            for mailbox in operation.mailboxes:
                self._see_mailbox(mailbox, None)
            return operation.mailboxes[0].sdkappid if operation.mailboxes else None
        return None

    def _see_mailbox(self, mailbox: Mailbox, condition: While | None) -> int:
        self._of(mailbox.sdkappid).rest(condition)
        return mailbox.sdkappid

    def _see_follow(self, operation: Follow) -> int:
        owner = self._see_mailbox(operation.mailbox, None)
        asked = self._of(owner)
        asked.tally(operation.tallies)
        if operation.segment is not None:
            asked.rows.add(asked.place.segments(operation.mailbox.holds))
        return owner

    def _see_count(self, operation: Count) -> int:
        asked = self._of(operation.sdkappid)
        asked.rest(operation.while_set)
        asked.tally(operation.tallies)
        if operation.repeat_key is not None:
            self.ask_repeat(operation.sdkappid, operation.repeat_key)
        return operation.sdkappid

    def _see_append(self, operation: Append) -> int:
        owner = self._see_mailbox(operation.mailbox, operation.while_set)
        asked = self._of(owner)
        if operation.repeat_key is not None:
            key = operation.repeat_key
            asked.rows.add(asked.place.repeat(key.scope, key.key))
        asked.prints(operation.fingerprints)
        return owner

    def _see_park(self, operation: Park) -> int:
        self._see_append(operation.records)
        owner = self._see_mailbox(operation.mailbox, None)
        self._of(owner).prints(operation.fingerprints)
        return owner

    def _see_pull(self, operation: Pull) -> int:
        owner = self._see_mailbox(operation.mailbox, operation.while_set)
        asked = self._of(owner)
        if operation.while_proven is not None:
            asked.others.add(operation.while_proven.name)
        place, kind = asked.place, operation.mailbox.holds
        if operation.key is not None:
            asked.rows.add(place.key(operation.key))
        if operation.once is not None:
            asked.rows.add(place.once(operation.once.nonce))
        if operation.reader is not None:
            asked.rows.add(place.reader(kind, operation.reader.name))
        return owner
