"""The table from error to code."""

from __future__ import annotations

import pytest

from pullstatus import errors
from pullstatus.errors import (
    ActionRefused,
    KeyReused,
    NotAdmitted,
    PullstatusError,
    StoreFull,
    StoreMovedOn,
    UnknownSecret,
)
from pullstatus.wire.api3.codes import Code
from pullstatus.wire.api3.refusals import CODES, refusal


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("InvalidAuthorization", "AuthFailure.InvalidAuthorization"),
        ("UnknownSecret", "AuthFailure.SecretIdNotFound"),
        ("SignatureWrong", "AuthFailure.SignatureFailure"),
        ("ReplayRefused", "AuthFailure.SignatureFailure"),
        ("TooOld", "AuthFailure.SignatureExpire"),
        ("NotGranted", "UnauthorizedOperation.SmsSdkAppIdVerifyFail"),
        ("AddressRefused", "UnauthorizedOperation.RequestIpNotInWhitelist"),
        ("Disabled", "UnauthorizedOperation.SdkAppIdIsDisabled"),
        ("InArrears", "UnauthorizedOperation.ServiceSuspendDueToArrears"),
        ("NotPermitted", "UnauthorizedOperation.RequestPermissionDeny"),
        ("TooFrequent", "RequestLimitExceeded"),
        ("InvalidSetting", "InvalidParameterValue"),
        ("AcknowledgementRefused", "InvalidParameterValue"),
        ("TooManyReaders", "InvalidParameterValue"),
        ("BodyTooLarge", "RequestSizeLimitExceeded"),
    ],
)
def test_an_error_is_answered_with_its_code_and_text(error: str, code: str) -> None:
    answered = refusal(getattr(errors, error)("do this"))
    assert (answered.error_code, answered.message) == (code, "do this")


def test_a_store_that_fails_has_consumed_nothing() -> None:
    answered = refusal(StoreFull("no room"))
    assert answered.error_code == "InternalError"
    assert answered.message == "no room; nothing was consumed"
    assert "elsewhere" not in refusal(StoreMovedOn("it is elsewhere")).message


def test_a_key_that_is_reused_is_answered_in_the_words_of_this_face() -> None:
    assert "another action or Limit" in refusal(KeyReused("with another mailbox")).message


def test_a_refusal_stays_what_it_is() -> None:
    refused = ActionRefused(Code.MISSING, "Limit is missing")
    assert refusal(refused) is refused


def _below(kind: type[PullstatusError]) -> set[type[PullstatusError]]:
    return {kind}.union(*(_below(one) for one in kind.__subclasses__()))


def test_every_way_not_to_be_admitted_has_a_code() -> None:
    """Whatever admission says of a pair's call."""
    for kind in (_below(NotAdmitted) | {UnknownSecret}) - {NotAdmitted}:
        assert refusal(kind("x")).error_code in set(Code)
    assert refusal(KeyReused("x")).error_code == CODES[KeyReused]
