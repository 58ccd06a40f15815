"""What codes of v5 are called in API 3.0: of sends, and of all calls.

Source: protocol.md sections 8.1 and 8.3, and the codes of the official SDKs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["OTHER", "TWINS"]

OTHER: Final = "InternalError.OtherError"
"""What stands for any other."""

TWINS: Final[Mapping[int, str]] = {
    1001: "InternalError.SigVerificationFail",
    1002: "FailedOperation.ContainSensitiveWord",
    1003: "InternalError.SigFieldMissing",
    1004: "FailedOperation.FailResolvePacket",
    1006: "UnauthorizedOperation.RequestPermissionDeny",
    1008: "InternalError.Timeout",
    1009: "UnauthorizedOperation.RequestIpNotInWhitelist",
    1011: "InternalError.RestApiInterfaceNotExist",
    1012: "FailedOperation.SignatureIncorrectOrUnapproved",
    1013: "LimitExceeded.DeliveryFrequencyLimit",
    1014: "FailedOperation.TemplateIncorrectOrUnapproved",
    1015: "FailedOperation.PhoneNumberInBlacklist",
    1016: "InvalidParameterValue.IncorrectPhoneNumber",
    1017: "InvalidParameterValue.ContentLengthLimit",
    1019: "InvalidParameterValue.SdkAppIdNotExist",
    1020: "UnauthorizedOperation.SdkAppIdIsDisabled",
    1021: "InternalError.RequestTimeException",
    1022: "LimitExceeded.AppDailyLimit",
    1023: "LimitExceeded.PhoneNumberThirtySecondLimit",
    1024: "LimitExceeded.PhoneNumberOneHourLimit",
    1025: "LimitExceeded.PhoneNumberDailyLimit",
    1026: "LimitExceeded.PhoneNumberSameContentDailyLimit",
    1029: "FailedOperation.MarketingSendTimeConstraint",
    1030: "UnsupportedOperation",
    1031: "FailedOperation.InsufficientBalanceInSmsPackage",
    1032: "UnauthorizedOperation.IndividualUserMarketingSmsPermissionDeny",
    1033: "UnauthorizedOperation.ServiceSuspendDueToArrears",
    1034: "UnsupportedOperation.ContainDomesticAndInternationalPhoneNumber",
    1036: "InvalidParameterValue.TemplateParameterLengthLimit",
    1038: "InvalidParameterValue.TemplateParameterFormatError",
    1045: "UnsupportedOperation.UnsupportedRegion",
    1046: "LimitExceeded.PhoneNumberCountLimit",
    1047: "LimitExceeded.DailyLimit",
    1048: "InvalidParameterValue.ProhibitedUseUrlInTemplateParameter",
    60007: "RequestLimitExceeded",
    60008: "InternalError.SendAndRecvFail",
}
