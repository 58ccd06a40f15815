"""Which `result` an error is answered with: the one table of this face."""

from __future__ import annotations

from typing import Final

from pullstatus.errors import (
    AcknowledgementRefused,
    AddressRefused,
    BodyTooLarge,
    Disabled,
    InArrears,
    InvalidSetting,
    KeyReused,
    NotPermitted,
    PullstatusError,
    Refused,
    ReplayRefused,
    SendsNotReported,
    SignatureWrong,
    StoreUnavailable,
    TooFrequent,
    TooManyReaders,
    TooOld,
    UnknownApplication,
)
from pullstatus.wire.v5.codes import Result

__all__ = ["ANSWERED", "RESULTS", "refusal"]

RESULTS: Final[dict[type[PullstatusError], Result]] = {
    BodyTooLarge: Result.BAD_HTTP,
    UnknownApplication: Result.UNKNOWN_SDKAPPID,
    AddressRefused: Result.ADDRESS_REFUSED,
    SignatureWrong: Result.SIG_MISMATCH,
    TooOld: Result.TIME_SKEW,
    Disabled: Result.DISABLED,
    InArrears: Result.IN_ARREARS,
    NotPermitted: Result.NOT_PERMITTED,
    TooFrequent: Result.TOO_FREQUENT,
    InvalidSetting: Result.BAD_REQUEST,  # a header's value
    KeyReused: Result.BAD_REQUEST,
    AcknowledgementRefused: Result.BAD_REQUEST,
    TooManyReaders: Result.BAD_REQUEST,
    ReplayRefused: Result.SIG_MISMATCH,
    SendsNotReported: Result.NOT_SUPPORTED,
    StoreUnavailable: Result.OTHER,
}
"""The order is that of the checks. A class that is not here is answered as the one above it."""

_TEXTS: Final[dict[type[PullstatusError], str]] = {
    KeyReused: "this Idempotency-Key came before with another type or max",
}
"""Where an error's own text is not in this face's words."""

ANSWERED: Final[tuple[type[PullstatusError], ...]] = (Refused, *RESULTS)
"""What `refusal` takes, for an `except`."""


def refusal(error: PullstatusError) -> Refused:
    """How an error is answered: by itself if it says so, else as the table has it."""
    if isinstance(error, Refused):
        return error
    result = next(RESULTS[kind] for kind in type(error).__mro__ if kind in RESULTS)
    text = error.for_callers if isinstance(error, StoreUnavailable) else str(error)
    return Refused(result, _TEXTS.get(type(error)) or text)
