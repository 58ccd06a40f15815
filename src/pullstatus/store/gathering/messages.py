"""What a server's process and that of its store say to each other, as bytes.

MessagePack, typed: a tenth of what a pickle of the same costs, on both ends of every request. What
is said once or seldom, how to open the log, what was raised and what MessagePack has no form for,
is a pickle within it: each process believes the other, since the server has started the store's
process and nobody else holds an end of their socket.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Final, cast

import msgspec

from pullstatus.store.gathering.committer import Report
from pullstatus.store.gathering.log import Figures, OpenLog
from pullstatus.store.gathering.operations import (
    ErasedStep,
    Operation,
    PackedPage,
    Removed,
    Sent,
)
from pullstatus.store.values import Page, PutAside


class Watch(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Tell, from now on or no more, when something waits in the mailbox of this number.

    Attributes:
        since_s: since when, by the monotonic clock, the first waits who is to have it; None: nobody
            does any more.
    """

    number: int
    since_s: float | None


Asked = OpenLog | list[Operation] | Watch | None
"""What the server says: first how to open the log, then what to do; at last None."""

Told = Report | BaseException
"""What the store says: reports, or why it has none."""


class _Raised(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pickle: bytes


class _Report(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """As a `Report`, whose members it has."""

    answers: list[int | bool | PutAside | Page | PackedPage | ErasedStep | Removed | _Raised]
    waiting: dict[int, int]
    as_of: bytes | None
    room: bool
    figures: Figures
    failure: _Raised | None
    took: tuple[float, list[int]] | None = None


class _Open(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pickle: bytes


class _Do(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    operations: Sequence[Sent]


class _DoOdd(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """As `_Do`, of operations with a lone surrogate or an integer of more than 64 bits."""

    pickle: bytes


class _End(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


def _raised(error: object) -> _Raised:
    """What stands for an error, which has no form of its own in MessagePack."""
    if not isinstance(error, BaseException):
        raise TypeError(f"{type(error).__name__} has no form in a message")
    return _Raised(pickle.dumps(error))


_encode: Final = msgspec.msgpack.Encoder(enc_hook=_raised).encode
_decode_asked: Final = msgspec.msgpack.Decoder(_Open | _Do | _DoOdd | Watch | _End).decode
_decode_told: Final = msgspec.msgpack.Decoder(_Report | _Raised).decode


def ask_to_open(open_log: OpenLog) -> bytes:
    """Open the log that this opens."""
    return _encode(_Open(pickle.dumps(open_log)))


def ask(operations: Sequence[Operation]) -> bytes:
    """Do these; a report answers them."""
    try:
        return _encode(_Do(cast("Sequence[Sent]", operations)))  # no server moves its store
    except (UnicodeEncodeError, OverflowError):
        return _encode(_DoOdd(pickle.dumps(list(operations))))


def ask_to_watch(watch: Watch) -> bytes:
    """Begin or end to watch a mailbox."""
    return _encode(watch)


END: Final = _encode(_End())
"""Nothing more comes."""


def read_asked(message: bytes | memoryview) -> Asked:
    """What the server says."""
    asked = _decode_asked(message)
    if isinstance(asked, _Do):
        return list(asked.operations)
    if isinstance(asked, Watch):
        return asked
    return None if isinstance(asked, _End) else pickle.loads(asked.pickle)  # noqa: S301 - ours # nosec B301


def tell(told: Told) -> bytes:
    """Say what came of it."""
    if isinstance(told, Report):
        return _encode(_Report(*msgspec.structs.astuple(told)))
    return _encode(_raised(told))


def read_told(message: bytes | memoryview) -> Told:
    """What the store says."""
    told = _decode_told(message)
    if isinstance(told, _Raised):
        return _error(told)
    answers = told.answers
    if any(type(answer) is _Raised for answer in answers):
        answers = [_error(answer) if isinstance(answer, _Raised) else answer for answer in answers]
    failure = None if told.failure is None else _error(told.failure)
    return Report(answers, told.waiting, told.as_of, told.room, told.figures, failure, told.took)


def _error(raised: _Raised) -> BaseException:
    error: BaseException = pickle.loads(raised.pickle)  # noqa: S301 - ours # nosec B301
    return error
