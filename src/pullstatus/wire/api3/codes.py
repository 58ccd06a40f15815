"""The codes of errors, as far as we answer them."""

from __future__ import annotations

import enum

__all__ = ["Code"]


class Code(enum.StrEnum):
    """What `Error.Code` says in an answer.

    The comment says when *we* answer it. Source: protocol.md section 11.6.
    """

    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol"
    """Neither POST nor GET."""

    TOO_LARGE = "RequestSizeLimitExceeded"
    """The body or the query is larger than any call needs."""

    MISSING = "MissingParameter"
    """A parameter that must be there is not, `Action` and `Version` included."""

    NO_SUCH_VERSION = "NoSuchVersion"
    """`Version` is neither 2021-01-11 nor 2019-07-11."""

    INVALID_ACTION = "InvalidAction"
    """`Action` is none of the six that pull or ask."""

    AUTHORIZATION_UNREADABLE = "AuthFailure.InvalidAuthorization"
    """What the request is signed with is not of the form that is due."""

    TOKEN_REFUSED = "AuthFailure.TokenFailure"  # noqa: S105 - the name of a code
    """A token came along: we issue none."""

    INVALID_VALUE = "InvalidParameterValue"
    """A parameter, or the value of a header, is ill-typed or out of range."""

    UNKNOWN_SECRET = "AuthFailure.SecretIdNotFound"  # noqa: S105 - the name of a code
    """No enabled pair has this SecretId."""

    SIGNATURE_WRONG = "AuthFailure.SignatureFailure"
    """The signature is not that of this request, or came before and must not."""

    SIGNATURE_EXPIRED = "AuthFailure.SignatureExpire"
    """The timestamp is too far from the server's clock, or older than the application's window."""

    UNREADABLE = "InvalidParameter"
    """The body is not one JSON object, or parameters cannot be decoded."""

    NOT_GRANTED = "UnauthorizedOperation.SmsSdkAppIdVerifyFail"
    """The pair may not read this application, or there is none."""

    ADDRESS_REFUSED = "UnauthorizedOperation.RequestIpNotInWhitelist"
    """The caller's address is not on the application's allow-list."""

    DISABLED = "UnauthorizedOperation.SdkAppIdIsDisabled"
    """The application is switched off."""

    IN_ARREARS = "UnauthorizedOperation.ServiceSuspendDueToArrears"
    """The account is stopped for arrears."""

    NOT_PERMITTED = "UnauthorizedOperation.RequestPermissionDeny"
    """Pulls, or queries, are not switched on for the application."""

    TOO_FREQUENT = "RequestLimitExceeded"
    """More calls in a second than the application may make. SDKs repeat on exactly this one."""

    BAD_NUMBER = "InvalidParameterValue.IncorrectPhoneNumber"
    """`PhoneNumber` is no number with "+" and its calling code."""

    BAD_BEGIN = "InvalidParameterValue.BeginTimeVerifyFail"
    """The beginning is no time, or too long ago."""

    BAD_END = "InvalidParameterValue.EndTimeVerifyFail"
    """The end is no time, or before the beginning of statistics, or too long after it."""

    BEGINS_AFTER_END = "InvalidParameterValue.InvalidStartTime"
    """The beginning is after the end, of a question by number."""

    BAD_LIMIT = "InvalidParameterValue.LimitVerifyFail"
    """`Limit` of statistics is not 0; in 2021-01-11 only."""

    BAD_OFFSET = "InvalidParameterValue.OffsetVerifyFail"
    """`Offset` of statistics is not 0; in 2021-01-11 only."""

    NOT_SUPPORTED = "UnsupportedOperation"
    """The application has never reported its sends, so they cannot be counted."""

    INTERNAL = "InternalError"
    """The store failed, or something happened that nobody foresaw."""
