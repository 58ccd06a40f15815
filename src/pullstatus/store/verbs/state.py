"""How a mailbox stands, as a value to change inside a transaction."""

from __future__ import annotations

from typing import Final

import msgspec

from pullstatus.errors import StoreCorrupt
from pullstatus.store.values import Mailbox, Outcome, contents

_ODD: Final = 0x9E3779B97F4A7C15  # spreads the numbers of mailboxes over 63 bits


def slot(mailbox: Mailbox) -> int:
    """A mailbox as one small integer, for dictionaries on the hot path."""
    return mailbox.sdkappid << 2 | mailbox.holds


def unslotted(place: int) -> tuple[int, int]:
    """The sdkappid and the number of the kind that `slot` made one integer of."""
    return place >> 2, place & 3


def mailbox_of(place: int) -> Mailbox:
    """The mailbox that `slot` made one integer of.

    Raises:
        StoreCorrupt: there is none of this number.
    """
    sdkappid, kind = unslotted(place)
    try:
        contents(kind)
    except ValueError as error:
        raise StoreCorrupt("the store is damaged: it holds a mailbox of no kind") from error
    return Mailbox(sdkappid, kind)


def key_of(place: int) -> int:
    """What the checksums of a mailbox's chunks are keyed with, in engines that draw no key."""
    return (place * _ODD) & ((1 << 63) - 1)


class State(msgspec.Struct):
    """One mailbox.

    Attributes:
        number: the engine's, of the mailbox.
        key: `key` + the number of a chunk's first entry is what the chunk's checksum is keyed with.
        read_from: first number of the chunk that its head is in; 0 until it was looked up.
        waiting_bytes: of what waits, where that is bounded; -1 until it was looked up.
        small_from, small: first number of the chunks at the tail that may be worth to be joined,
            and how many there are, as far as it is known; for engines that join them.
        followed, tallied, turn: as those of `Followed`, for engines that keep them with the rest.
    """

    mailbox: Mailbox
    number: int
    key: int
    tail: int = 0
    cursor: int = 0
    handed_out: int = 0
    expired: int = 0
    erased: int = 0
    quarantined: int = 0
    put_back: int = 0
    routed: int = 0
    purged: int = 0
    read_from: int = 0
    waiting_bytes: int = -1
    small_from: int = 0
    small: int = 0
    followed: int = 0
    tallied: int = 0
    turn: int = 0

    def leave(self, outcome: Outcome, count: int) -> None:
        """Let `count` entries leave the head, and count them."""
        self.cursor += count
        self.waiting_bytes = -1
        if self.cursor == self.tail:
            self.small = 0
        if outcome is Outcome.PULLED:
            self.handed_out += count
        elif outcome is Outcome.EXPIRED:
            self.expired += count
        elif outcome is Outcome.ERASED:
            self.erased += count
        elif outcome is Outcome.QUARANTINED:
            self.quarantined += count
        elif outcome is Outcome.PUT_BACK:
            self.put_back += count
        else:
            self.routed += count
