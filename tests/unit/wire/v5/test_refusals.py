"""The table from error to `result`."""

import pytest

from pullstatus import errors
from pullstatus.errors import (
    AddressRefused,
    BodyTooLarge,
    Disabled,
    InArrears,
    InvalidSetting,
    KeyReused,
    NotAdmitted,
    NotGranted,
    NotPermitted,
    PullstatusError,
    Refused,
    ReplayRefused,
    SignatureWrong,
    StoreFull,
    StoreMovedOn,
    StoreUnavailable,
    TooFrequent,
    TooOld,
    UnknownApplication,
)
from pullstatus.wire.v5.refusals import RESULTS, refusal


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (BodyTooLarge, 60008),
        (UnknownApplication, 1019),
        (AddressRefused, 1009),
        (SignatureWrong, 1001),
        (TooOld, 1021),
        (Disabled, 1020),
        (InArrears, 1033),
        (NotPermitted, 1006),
        (TooFrequent, 60007),
        (InvalidSetting, 1004),
        (ReplayRefused, 1001),
        (StoreUnavailable, 1007),
        (StoreFull, 1007),
    ],
)
def test_an_error_is_answered_with_its_result_and_text(
    error: type[PullstatusError], result: int
) -> None:
    answered = refusal(error("do this"))
    assert (answered.result, answered.errmsg) == (result, "do this")


def test_a_key_that_is_reused_is_answered_in_the_words_of_this_face() -> None:
    answered = refusal(KeyReused("with another mailbox"))
    text = "this Idempotency-Key came before with another type or max"
    assert (answered.result, answered.errmsg) == (1004, text)


def test_where_a_store_was_moved_to_is_no_callers_business() -> None:
    refused = refusal(StoreMovedOn("what this store held was moved to postgresql://db1/mailboxes"))
    assert refused.result == 1007
    assert "db1" not in refused.errmsg
    assert refusal(StoreUnavailable("the disk is full")).errmsg == "the disk is full"


def test_a_refusal_says_itself_how_it_is_answered() -> None:
    refused = Refused(1021, "set the clock right")
    assert refusal(refused) is refused


def test_whatever_admission_raises_is_in_the_table() -> None:
    classes = [getattr(errors, name) for name in errors.__all__]
    raised = {kind for kind in classes if issubclass(kind, NotAdmitted)} - {NotAdmitted}
    raised -= {NotGranted}  # only of what is signed with a secret key pair
    assert raised | {UnknownApplication} <= RESULTS.keys()
