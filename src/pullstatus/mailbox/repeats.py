"""What a pull says so that a page whose answer got lost comes again: a key, or a reader's name.

A face reads these words from wherever it has them (v5: headers of the request) and gives them here
as they came.
"""

from __future__ import annotations

import re

import msgspec

from pullstatus import limits
from pullstatus.errors import AcknowledgementRefused, InvalidSetting
from pullstatus.store import Mailbox, Reader, parse_pull_id

KEY = re.compile(rf"[\x21-\x7e]{{1,{limits.IDEMPOTENCY_KEY_CHARS_MAX}}}")
READER = re.compile(rf"[A-Za-z0-9._-]{{1,{limits.READER_CHARS_MAX}}}")

ACK_REFUSED = (
    "Pullstatus-Ack is not the page in this reader's hand: pull without Pullstatus-Ack to get that"
)


class Repeat(msgspec.Struct, frozen=True, gc=False):
    """How a pull can be had again.

    Attributes:
        key: its Idempotency-Key.
        reader: who asks, and what it acknowledges.
        takes: False: it acknowledges, and takes nothing.
    """

    key: str | None = None
    reader: Reader | None = None
    takes: bool = True

    def acknowledged(self) -> Repeat:
        """The same, once its acknowledgement is on record."""
        if self.reader is None or self.reader.ack is None:
            return self
        return Repeat(self.key, Reader(self.reader.name), self.takes)


NEVER = Repeat()
"""Of the documented call."""


def check_key(key: str) -> str:
    """An Idempotency-Key itself, if it is one.

    Raises:
        InvalidSetting: it is empty, too long, or holds more than visible ASCII.
    """
    if KEY.fullmatch(key) is None:
        raise InvalidSetting(
            f"Idempotency-Key is 1 to {limits.IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters"
        )
    return key


def read_repeat(
    mailbox: Mailbox,
    epoch: int,
    key: str | None,
    name: str | None,
    ack: str | None,
    take: str | None,
) -> Repeat:
    """What a pull of `mailbox` says, by the words of its headers; None: it has no such header.

    Args:
        epoch: that of the store.
        key: `Idempotency-Key`.
        name, ack, take: `Pullstatus-Reader`, `Pullstatus-Ack`, `Pullstatus-Take`.

    Raises:
        InvalidSetting: one of them is none, or they do not go together; the text names the header.
        AcknowledgementRefused: the page that it acknowledges is from before a restore.
    """
    if key is not None:
        check_key(key)
    if name is None:
        for header, value in (("Pullstatus-Ack", ack), ("Pullstatus-Take", take)):
            if value is not None:
                raise InvalidSetting(f"{header} is for readers: send Pullstatus-Reader with it")
        return Repeat(key)
    if READER.fullmatch(name) is None:
        raise InvalidSetting(
            f"Pullstatus-Reader is a name of 1 to {limits.READER_CHARS_MAX} characters, which are"
            " letters, digits, dot, underscore and hyphen"
        )
    if key is not None:
        raise InvalidSetting(
            "Pullstatus-Reader and Idempotency-Key do not go together: send one of them"
        )
    if take not in (None, "0"):
        raise InvalidSetting("Pullstatus-Take is 0, to take nothing, or is left out")
    if ack is None:
        if take is not None:
            raise InvalidSetting("Pullstatus-Take goes with Pullstatus-Ack, to acknowledge only")
        return Repeat(reader=Reader(name))
    found = parse_pull_id(ack)
    if found is None or found.mailbox != mailbox or not found.first_seq:
        raise InvalidSetting(
            "Pullstatus-Ack is the Pullstatus-Pull-Id of a page of this application and type"
        )
    if found.epoch != epoch:
        raise AcknowledgementRefused(ACK_REFUSED)
    return Repeat(reader=Reader(name, found.first_seq), takes=take is None)
