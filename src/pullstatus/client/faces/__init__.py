"""How a service is spoken to: each face builds its requests and reads its answers. Pure.

    v5     signed with an appkey; the form in which records are kept
    api3   API 3.0, signed with a secret key, under other names

A flow knows `Face` only. What an answer means that is no success is the same for all: `reading`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from pullstatus.client.counts import Sends, Statistics
from pullstatus.client.loose import integer
from pullstatus.client.records import Record
from pullstatus.records import Kind

__all__ = ["Call", "Face", "NotDue", "Question", "Sent", "counts"]

T = TypeVar("T")


class NotDue(Exception):
    """An answer that refuses nothing is not what is due; the text says what should be there."""


class Sent(msgspec.Struct, frozen=True):
    """When a request is made, in Unix seconds, and the digits that make it differ from others."""

    now_s: int
    random: str


class Call(msgspec.Struct, Generic[T], frozen=True):
    """One call in a face's words.

    Attributes:
        target: the path, with its query.
        content: the body.
        headers: those beyond what every request has.
        read: makes what was asked for of an answer's text, and of the object that it is; raises
            `NotDue`.
    """

    target: str
    content: bytes
    headers: Mapping[str, str]
    read: Callable[[bytes, dict[str, Any]], T]


class Question(msgspec.Struct, frozen=True):
    """Which records are asked for: of one number, by their own times, both included."""

    kind: Kind
    nationcode: str
    mobile: str
    from_s: int
    to_s: int
    count_max: int
    sid: str | None


class Face(Protocol):
    """One application, at a service that is spoken to in one way."""

    @property
    def sdkappid(self) -> int:
        """The application."""

    def pull(self, kind: Kind, count_max: int, sent: Sent) -> Call[list[Record]]:
        """Take a page out of a mailbox."""

    def find(self, question: Question, sent: Sent) -> Call[list[Record]]:
        """Ask for records without taking them out."""

    def receipts(self, first_hour: int, last_hour: int, sent: Sent) -> Call[Statistics]:
        """Ask what was counted from hour to hour, both included, as `records.hours` writes them."""

    def sends(self, first_hour: int, last_hour: int, sent: Sent) -> Call[Sends]:
        """Ask the same of SMS that were sent."""


def counts(found: object, names: Mapping[str, str]) -> dict[str, int]:
    """The counts that an answer has under these names, by ours."""
    if not isinstance(found, dict):
        raise NotDue("there must be an object of counts")
    read = {ours: integer(found.get(theirs)) for ours, theirs in names.items()}
    whole = {ours: count for ours, count in read.items() if count is not None}
    if len(whole) != len(names):
        missing = ", ".join(names[ours] for ours in names if ours not in whole)
        raise NotDue(f"there must be counts of {missing}")
    return whole
