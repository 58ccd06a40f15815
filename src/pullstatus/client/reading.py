"""An answer, read: a page, or the exception that says what it means.

Four forms of refusal are known, whatever the HTTP status:

    {"result": 1001, "errmsg": "..."}                                   the service
    {"ActionStatus": "FAIL", "ErrorCode": 60008, "ErrorInfo": "..."}    its old gateway
    {"Response": {"Error": {"Code": "...", "Message": "..."}}}          API 3.0
    HTTP 3xx, 4xx, 5xx with anything                                    somebody in between

Records are read leniently: they are gone from the service, so what is odd is kept, not refused.
Source: protocol.md sections 5, 8 and 11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import msgspec

from pullstatus import limits
from pullstatus.client.errors import (
    AnswerMalformed,
    AttemptLate,
    CallInvalid,
    CallRefused,
    ClientError,
    ClockSkewed,
    GatewayFailed,
    NotPermitted,
    ServiceFailed,
    SignatureRefused,
    TooFrequent,
    UnknownSdkappid,
    WrongAddress,
)
from pullstatus.client.exchange import Answer
from pullstatus.client.faces import NotDue
from pullstatus.client.loose import count, integer
from pullstatus.client.records import Record
from pullstatus.errors import InvalidBody
from pullstatus.json import check_json, mend_text
from pullstatus.wire.v5.codes import Result

__all__ = ["Found", "clock_skew_s", "not_the_service", "read_answer", "read_pull", "retry_after_s"]

T = TypeVar("T")
Read = Callable[[bytes, dict[str, Any]], T]
"""How a face reads a success: see `Call`."""

_Refusal = type[CallRefused]

_MEANINGS: Final[dict[int, tuple[_Refusal, str]]] = {
    Result.SIG_MISMATCH: (
        SignatureRefused,
        "the appkey is not this sdkappid's, or has a blank or line end; see `pullstatus verify`",
    ),
    Result.SIG_MISSING: (SignatureRefused, "something on the way has changed the request's body"),
    Result.BAD_REQUEST: (CallInvalid, "the service's own words say which part is wrong"),
    Result.NOT_PERMITTED: (
        NotPermitted,
        "ask the operator to switch the pull feature on for this sdkappid",
    ),
    Result.OTHER: (ServiceFailed, "try again; if it stays so, tell the operator"),
    Result.SEND_TIMEOUT: (ServiceFailed, "try again"),
    Result.ADDRESS_REFUSED: (
        NotPermitted,
        "ask the operator to put this machine's address on the application's allow-list",
    ),
    Result.UNKNOWN_PATH: (CallInvalid, "check base_url: the service has no such call there"),
    Result.BAD_MOBILE: (CallInvalid, "the number is malformed"),
    Result.UNKNOWN_SDKAPPID: (UnknownSdkappid, "check sdkappid, and that base_url is the service"),
    Result.DISABLED: (NotPermitted, "the application is switched off; ask the operator"),
    Result.TIME_SKEW: (ClockSkewed, "set this machine's clock right"),
    Result.NOT_SUPPORTED: (NotPermitted, "the service does not offer this call"),
    Result.IN_ARREARS: (NotPermitted, "the account is stopped for arrears; ask the operator"),
    Result.GATEWAY_URL_UNREADABLE: (CallInvalid, "check base_url for blanks and odd characters"),
    Result.GATEWAY_JSON_UNREADABLE: (
        CallInvalid,
        "something on the way has changed the request's body",
    ),
    Result.GATEWAY_BAD_SDKAPPID: (UnknownSdkappid, "check sdkappid"),
    Result.TOO_FREQUENT: (TooFrequent, "pull less often, or fewer at the same time"),
    Result.BAD_HTTP: (ServiceFailed, "try again; if it stays so, look for a proxy on the way"),
    Result.GATEWAY_UNKNOWN_URL: (CallInvalid, "check base_url: the service has no such call there"),
    Result.SDKAPPID_MISSING: (UnknownSdkappid, "something on the way has changed the address"),
    Result.GATEWAY_BAD_ANSWER: (ServiceFailed, "try again; if it stays so, tell the operator"),
}

_TWINS: Final = {
    "InternalError.SigVerificationFail": Result.SIG_MISMATCH,
    "InternalError.SigFieldMissing": Result.SIG_MISSING,
    "FailedOperation.FailResolvePacket": Result.BAD_REQUEST,
    "FailedOperation.JsonParseFail": Result.BAD_REQUEST,
    "InvalidParameter": Result.BAD_REQUEST,
    "InvalidParameterValue": Result.BAD_REQUEST,
    "MissingParameter": Result.BAD_REQUEST,
    "UnauthorizedOperation": Result.NOT_PERMITTED,
    "UnauthorizedOperation.RequestPermissionDeny": Result.NOT_PERMITTED,
    "UnauthorizedOperation.SmsSdkAppIdVerifyFail": Result.UNKNOWN_SDKAPPID,
    "UnauthorizedOperation.SmsSdkAppidVerifyFail": Result.UNKNOWN_SDKAPPID,
    "UnauthorizedOperation.RequestIpNotInWhitelist": Result.ADDRESS_REFUSED,
    "UnauthorizedOperation.SdkAppIdIsDisabled": Result.DISABLED,
    "UnauthorizedOperation.SdkAppidIsDisabled": Result.DISABLED,
    "UnauthorizedOperation.SerivceSuspendDueToArrears": Result.IN_ARREARS,
    "UnauthorizedOperation.ServiceSuspendDueToArrears": Result.IN_ARREARS,
    "InternalError": Result.OTHER,
    "InternalError.OtherError": Result.OTHER,
    "InternalError.UnknownError": Result.OTHER,
    "InternalError.Timeout": Result.BAD_HTTP,
    "InternalError.SendAndRecvFail": Result.BAD_HTTP,
    "InternalError.RestApiInterfaceNotExist": Result.UNKNOWN_PATH,
    "InternalError.RequestTimeException": Result.TIME_SKEW,
    "InvalidParameterValue.IncorrectPhoneNumber": Result.BAD_MOBILE,
    "InvalidParameterValue.SdkAppIdNotExist": Result.UNKNOWN_SDKAPPID,
    "InvalidParameterValue.SdkAppidNotExist": Result.UNKNOWN_SDKAPPID,
    "InvalidAction": Result.UNKNOWN_PATH,
    "NoSuchVersion": Result.UNKNOWN_PATH,
    "UnsupportedOperation": Result.NOT_SUPPORTED,
    "RequestLimitExceeded": Result.TOO_FREQUENT,
    "AuthFailure": Result.SIG_MISMATCH,
    "AuthFailure.SignatureExpire": Result.TIME_SKEW,
}
"""API 3.0's codes, and the v5 code that means the same; of a longer one, its first part's."""

_FIXES: Final = {
    "AuthFailure.SecretIdNotFound": "check secret_id; a pair that was revoked is unknown, too",
    "AuthFailure.SignatureFailure": (
        "secret_key is not this secret_id's, or something on the way changes Host or the body"
    ),
    "UnauthorizedOperation.SmsSdkAppIdVerifyFail": (
        "check sdkappid; if it is right, ask the operator to let this secret_id read it"
    ),
}
"""What to do about those for which that is not what it is for the old call."""


class Found(msgspec.Struct, frozen=True):
    """What an answer that worked holds.

    records  in their order
    waiting  what `Pullstatus-Waiting` says; None from a service that knows no such header
    pull_id  what `Pullstatus-Pull-Id` says
    given    what `Pullstatus-Given` says, 1 if nothing
    reader   what `Pullstatus-Reader` says: who was given it
    """

    records: list[Record]
    waiting: int | None
    pull_id: str | None
    given: int = 1
    reader: str | None = None


def read_answer(answer: Answer, read: Read[T], *, keyed: bool | None, now_s: float) -> T:
    """Read an answer.

    Args:
        read: what to make of one that refuses nothing.
        keyed: whether the service knows `Idempotency-Key`, as far as known: such a service
            consumes nothing when it refuses.
        now_s: our clock, in Unix seconds.

    Raises:
        CallRefused: in one of its forms.
        AnswerUnreadable: it is no answer of the service.
    """
    content, members = _read_object(answer.content)
    refusal = _refusal(members, keyed=keyed)
    if refusal is not None:
        if isinstance(refusal, ClockSkewed):
            refusal = _explained(refusal, clock_skew_s(answer.headers, now_s))
        refusal.retry_after_s = retry_after_s(answer.headers)
        raise refusal
    if answer.http_status != 200:
        raise not_the_service(answer)
    if members is None:
        raise _malformed(answer, "it is not the JSON object that is due")
    try:
        return read(content, members)
    except NotDue as error:
        raise _malformed(answer, str(error)) from None


def read_pull(
    answer: Answer, read: Read[list[Record]], *, keyed: bool | None, now_s: float
) -> Found:
    """Read the answer to a pull; see `read_answer`."""
    return Found(
        read_answer(answer, read, keyed=keyed, now_s=now_s),
        count(answer.headers.get("pullstatus-waiting")),
        answer.headers.get("pullstatus-pull-id"),
        count(answer.headers.get("pullstatus-given")) or 1,
        answer.headers.get("pullstatus-reader"),
    )


def clock_skew_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds that our clock is ahead of an answer's `Date`; None without one."""
    try:
        date = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return now_s - date.replace(tzinfo=date.tzinfo or UTC).timestamp()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` says to wait; a date in it is not read."""
    return count(headers.get("retry-after"))


# --- refusals -------------------------------------------------------------------------------------


def _refusal(members: dict[str, Any] | None, *, keyed: bool | None) -> CallRefused | None:
    if members is None:
        return None
    response = members.get("Response")
    if isinstance(response, dict) and isinstance(response.get("Error"), dict):
        code = str(response["Error"].get("Code", ""))
        twin = _TWINS.get(code, _TWINS.get(code.partition(".")[0]))
        said = f"{code} {response['Error'].get('Message', '')}".strip()
        error = _as_error(None if twin is None else int(twin), said, keyed=keyed)
        error.fix = _FIXES.get(code, error.fix)
        return error
    result = integer(members.get("result"))
    if result is None:
        result = integer(members.get("ErrorCode"))
        if members.get("ActionStatus") == "FAIL" and result in (0, None):
            return _as_error(None, _said(members), keyed=keyed)
    if result in (0, None):
        return None
    return _as_error(result, _said(members), keyed=keyed)


def _as_error(result: int | None, said: str, *, keyed: bool | None) -> CallRefused:
    error, fix = CallRefused, "this code is not documented for a pull; ask the operator"
    if result is not None and result in _MEANINGS:
        error, fix = _MEANINGS[result]
    in_doubt = issubclass(error, ServiceFailed) and not keyed
    return error(result, said, fix=fix, may_have_consumed=in_doubt)


def _said(members: dict[str, Any]) -> str:
    for name in ("errmsg", "msg", "ErrorInfo"):
        if isinstance(members.get(name), str):
            return str(members[name])
    return ""


def _explained(refusal: ClockSkewed, skew_s: float | None) -> ClockSkewed:
    """The refusal, with what the answer's `Date` says of it."""
    if skew_s is not None and abs(skew_s) < limits.WINDOW_S_MIN:
        refusal = AttemptLate(
            refusal.result,
            refusal.errmsg,
            fix="the clocks agree, so it was long on its way: ask again, which is signed anew",
        )
    elif skew_s is not None:
        side = "ahead of" if skew_s > 0 else "behind"
        refusal.fix = (
            f"this machine's clock is about {abs(skew_s):.0f} s {side} the service's; set it right"
        )
    refusal.skew_s = skew_s
    return refusal


# --- what is no answer of the service -------------------------------------------------------------


def not_the_service(answer: Answer) -> ClientError:
    """What an answer with an HTTP status other than 200 means, if no refusal is in it."""
    status, content = answer.http_status, answer.content
    if status == 429:
        busy = TooFrequent(None, "HTTP 429", fix="pull less often, or fewer at the same time")
        busy.retry_after_s = retry_after_s(answer.headers)
        return busy
    if 300 <= status < 400:
        place = answer.headers.get("location", "another address")
        return WrongAddress(
            f"HTTP {status}, moved to {place}",
            http_status=status,
            content=content,
            fix="give the address that answers itself as base_url",
        )
    if 400 <= status < 500 and status != 408:
        return WrongAddress(
            f"HTTP {status} instead of an answer",
            http_status=status,
            content=content,
            fix="check base_url: the service answers every call there with HTTP 200",
        )
    if status >= 500 or status == 408:
        failed = GatewayFailed(
            f"HTTP {status} instead of an answer",
            http_status=status,
            content=content,
            fix="try again; if it stays so, look at the proxy in front of the service",
            may_have_consumed=True,
        )
        failed.retry_after_s = retry_after_s(answer.headers)
        return failed
    return _malformed(answer, f"HTTP {status} is never due")


def _malformed(answer: Answer, fault: str) -> AnswerMalformed:
    return AnswerMalformed(
        f"the answer cannot be read: {fault}",
        http_status=answer.http_status,
        content=answer.content,
        fix="its bytes are in this exception's content",
        may_have_consumed=True,
    )


# --- JSON -----------------------------------------------------------------------------------------

_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


def _read_object(content: bytes) -> tuple[bytes, dict[str, Any] | None]:
    """The object that the content is, None if it is none; and the text that could be read."""
    for text in (content, mend_text(content)):
        try:
            check_json(text)
            return text, _decode_object(text)
        except (msgspec.DecodeError, UnicodeDecodeError, InvalidBody, RecursionError):
            continue
    return content, None
