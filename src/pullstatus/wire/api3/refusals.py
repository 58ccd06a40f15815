"""Which code an error is answered with: the one table of this face."""

from __future__ import annotations

from typing import Final

from pullstatus.errors import (
    AcknowledgementRefused,
    ActionRefused,
    AddressRefused,
    BodyTooLarge,
    Disabled,
    InArrears,
    InvalidAuthorization,
    InvalidSetting,
    KeyReused,
    NotGranted,
    NotPermitted,
    PullstatusError,
    ReplayRefused,
    SendsNotReported,
    SignatureWrong,
    StoreUnavailable,
    TooFrequent,
    TooManyReaders,
    TooOld,
    UnknownSecret,
)
from pullstatus.wire.api3.codes import Code

__all__ = ["ANSWERED", "CODES", "refusal"]

CODES: Final[dict[type[PullstatusError], Code]] = {
    BodyTooLarge: Code.TOO_LARGE,
    InvalidAuthorization: Code.AUTHORIZATION_UNREADABLE,
    UnknownSecret: Code.UNKNOWN_SECRET,
    SignatureWrong: Code.SIGNATURE_WRONG,
    NotGranted: Code.NOT_GRANTED,
    AddressRefused: Code.ADDRESS_REFUSED,
    TooOld: Code.SIGNATURE_EXPIRED,
    Disabled: Code.DISABLED,
    InArrears: Code.IN_ARREARS,
    NotPermitted: Code.NOT_PERMITTED,
    TooFrequent: Code.TOO_FREQUENT,
    InvalidSetting: Code.INVALID_VALUE,  # a header's value
    KeyReused: Code.INVALID_VALUE,
    AcknowledgementRefused: Code.INVALID_VALUE,
    TooManyReaders: Code.INVALID_VALUE,
    ReplayRefused: Code.SIGNATURE_WRONG,
    SendsNotReported: Code.NOT_SUPPORTED,
    StoreUnavailable: Code.INTERNAL,
}
"""The order is that of the checks. A class that is not here is answered as the one above it."""

_TEXTS: Final[dict[type[PullstatusError], str]] = {
    KeyReused: "this Idempotency-Key came before with another action or Limit",
}
"""Where an error's own text is not in this face's words."""

ANSWERED: Final[tuple[type[PullstatusError], ...]] = (ActionRefused, *CODES)
"""What `refusal` takes, for an `except`."""


def refusal(error: PullstatusError) -> ActionRefused:
    """How an error is answered: by itself if it says so, else as the table has it."""
    if isinstance(error, ActionRefused):
        return error
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    if isinstance(error, StoreUnavailable):
        return ActionRefused(code, f"{error.for_callers}; nothing was consumed")
    return ActionRefused(code, _TEXTS.get(type(error)) or str(error))
