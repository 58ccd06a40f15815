"""What is counted of an application, hour by hour: the columns of a tally, and whose an entry is.

Pure. A store keeps tallies as integers side by side and knows none of their meanings. Those of
entries are made from the log, once each entry is behind the follower; those of sends are told by
whoever sends.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from pullstatus.records import Kind
from pullstatus.records.outcomes import CARRIER, class_of
from pullstatus.store import Mailbox, Tally


class Column(enum.IntEnum):
    """Where a tally has what.

    Each failure class has the column of its own number. What was damaged before anybody has counted
    it is one of `UNREADABLE`, and counted as what it was meant to be, too: a failure of an unknown
    cause, or a reply. So all that was accepted is counted.
    """

    SUCCESS = 5
    REPLIES = 6
    UNREADABLE = 7
    REQUESTS = 8
    ACCEPTED = 9
    BILLED = 10


WIDTH: Final = 11
"""How many columns a tally has."""

LAST_HOUR: Final = (1 << 63) - 1
"""Behind all hours."""

EVER: Final = 9_999_999_999
"""The hour, behind all of the calendar, at which it is counted how many reports of sends came."""


def sends_series(owner: str) -> int:
    """The series of an owner's sends: each has its own, so that none is told of a former one's.

    Those of entries have the numbers of their kinds.
    """
    return _SENDS + zlib.crc32(owner.encode()) % _OWNERS


def token_series(digest: str, source: str) -> int:
    """The series of what came by a token, known by its digest, from a source."""
    return _TOKENS + zlib.crc32(f"{digest}/{source}".encode()) % (_OWNERS - _SENDS)


def set_back_series(holds: int) -> int:
    """The series that tells at which hours a clock was set back, while a mailbox was fed.

    It has a tally of the latest hour that there was until then. In no later one do entries of
    others come between: such an hour is kept whole, or was removed, if nothing before it is kept.

    Args:
        holds: the number of the mailbox's kind.
    """
    return _SET_BACK + holds


def set_back_of(mailbox: Mailbox, tallies: Iterable[Tally]) -> int:
    """The latest hour of that series, among tallies of an application; 0: it has none."""
    series = set_back_series(mailbox.holds)
    return max((tally.hour for tally in tallies if tally.series == series), default=0)


SET_BACK: Final = (1, *[0] * (WIDTH - 1))
"""The tally of that series."""

_SET_BACK: Final = 8
_SENDS: Final = 16
_OWNERS: Final = 1 << 30  # so that a series has no more than 31 bits
_TOKENS: Final = _SENDS + _OWNERS


def sends_tally(requests: int, accepted: int, billed: int) -> tuple[int, ...]:
    """The tally of sends alone."""
    return (*[0] * Column.REQUESTS, requests, accepted, billed)


FORGOTTEN: Final = "tallies"
"""What the store notes the moment under before which tallies may have been forgotten. By the wall
clock, so records of that time may still be stored."""


class _Fields(msgspec.Struct, gc=False):
    """What a delivery status is counted by."""

    errmsg: str = ""
    report_status: str = ""


_decode: Final = msgspec.json.Decoder(_Fields).decode


def columns_of(kind: Kind, entry: bytes | None) -> Sequence[int]:
    """The columns in which an entry of this kind counts one each.

    Args:
        entry: as it is stored; None: it is damaged.
    """
    if kind is Kind.REPLY:
        return _REPLY if entry is not None else _DAMAGED_REPLY
    try:
        fields = _decode(entry or b"")
    except msgspec.DecodeError:
        return _DAMAGED_STATUS
    return columns_of_status(fields.errmsg, fields.report_status)


def columns_of_status(code: str, report_status: str) -> Sequence[int]:
    """The columns in which a delivery status counts one each.

    Args:
        code: its `errmsg`.
    """
    return _STATUS[class_of(code, report_status)]


# Made once: this is called for every entry.
_STATUS: Final = {None: (Column.SUCCESS,)} | {failure: (failure,) for failure in range(5)}
_DAMAGED_STATUS: Final = (CARRIER, Column.UNREADABLE)
_REPLY: Final = (Column.REPLIES,)
_DAMAGED_REPLY: Final = (Column.REPLIES, Column.UNREADABLE)
