"""What a flow asks of its driver, and what it gets back: the seam between deciding and doing.

    flow   -- Send, Look ->  driver (httpx, sync or async)
           <- Answer or Unanswered --
           -- Wait ------->
           <- None ------------------

A flow is a generator. It never touches a socket, a clock's sleep or httpx; a driver never decides.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TypeAlias, TypeVar

import msgspec

T = TypeVar("T")


class Send(msgspec.Struct, frozen=True):
    """POST this: the whole address, the body, and headers beyond the ordinary ones.

    held_s  seconds for which the other side was asked to hold it before it answers
    """

    address: str
    content: bytes
    headers: Mapping[str, str]
    held_s: int = 0


class Look(msgspec.Struct, frozen=True):
    """GET this, on a connection of its own: what can be known without taking anything.

    wait_s     seconds to wait for the answer, once connected
    bytes_max  how much of its body is read; what is longer is cut there
    """

    address: str
    headers: Mapping[str, str]
    wait_s: float
    bytes_max: int


class Wait(msgspec.Struct, frozen=True):
    """Do nothing for so many seconds."""

    s: float


class Answer(msgspec.Struct, frozen=True):
    """What came back, whole. Names of headers are in lower case."""

    http_status: int
    headers: Mapping[str, str]
    content: bytes


class Unanswered(msgspec.Struct, frozen=True):
    """No whole answer came.

    begun            whether any of the request may have reached the other side
    reason           what happened, for people
    certificate_fix  what to do about the other side's certificate, which was not believed; "" if
                     it was not that
    cause            what the library below raised
    """

    begun: bool
    reason: str
    certificate_fix: str = ""
    cause: Exception | None = None


Step: TypeAlias = Send | Look | Wait
Outcome: TypeAlias = Answer | Unanswered | None
Flow: TypeAlias = Generator[Step, Outcome, T]


def send(step: Send | Look) -> Flow[Answer | Unanswered]:
    """Yield one request; return what became of it."""
    outcome = yield step
    assert outcome is not None, "a driver answers a request"
    return outcome
