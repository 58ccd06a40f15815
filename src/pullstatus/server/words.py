"""What a pull says in headers, whatever its face: how its page comes again, how long it may wait.

The words alone are known here, as they came; what they mean for a mailbox is `mailbox.repeats` and
`mailbox.held`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from pullstatus import limits
from pullstatus.errors import AcknowledgementRefused, InvalidSetting
from pullstatus.mailbox.repeats import NEVER, Repeat
from pullstatus.server.head import Header
from pullstatus.store import Mailbox, Reader, parse_pull_id
from pullstatus.wire.repeats import KEY, READER

REPEATS: Final = (b"idempotency-key", b"pullstatus-reader", b"pullstatus-ack", b"pullstatus-take")
WAITS: Final = b"pullstatus-wait"
ENCODING: Final = b"content-encoding"  # which no pull may have; one look at headers finds all
HEARD: Final = frozenset((*REPEATS, WAITS, ENCODING))

WAIT = re.compile(r"[0-9]{1,2}")

ACK_REFUSED = (
    "Pullstatus-Ack is not the page in this reader's hand: pull without Pullstatus-Ack to get that"
)


def heard(headers: Iterable[Header]) -> Mapping[bytes, str]:
    """What the headers say that a pull hears; of one that is there twice the first counts.

    One look at the headers finds that none is there, as with every client but those of our own.
    """
    found = [pair for pair in headers if pair[0] in HEARD]
    return {bytes(name): bytes(value).decode("latin-1") for name, value in reversed(found)}


def repeat_of(words: Mapping[bytes, str], mailbox: Mailbox, epoch: int) -> Repeat:
    """How the page can be had again, as `read_repeat` raises."""
    return read_repeat(mailbox, epoch, *map(words.get, REPEATS)) if words else NEVER


def wait_of(words: Mapping[bytes, str], otherwise_s: int) -> int:
    """For how long a pull waits for a record, in seconds; as `read_wait` raises."""
    said = words.get(WAITS)
    return otherwise_s if said is None else read_wait(said)


def heard_of(repeat: Repeat) -> list[tuple[bytes, bytes]]:
    """By this a client sees that its headers were heard."""
    if repeat.reader is None:
        return []
    return [(b"pullstatus-reader", repeat.reader.name.encode())]


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


def read_wait(text: str) -> int:
    """The seconds of a Pullstatus-Wait, if it is one.

    Raises:
        InvalidSetting: it is no such number.
    """
    if WAIT.fullmatch(text) is None or (wait_s := int(text)) > limits.PULL_WAIT_S_MAX:
        raise InvalidSetting(
            f"Pullstatus-Wait is a number of seconds from 0 to {limits.PULL_WAIT_S_MAX}"
        )
    return wait_s
