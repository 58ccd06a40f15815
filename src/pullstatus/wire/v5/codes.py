"""The codes of `result`, for a server to answer and for a client to know."""

from __future__ import annotations

import enum

__all__ = ["Result"]


class Result(enum.IntEnum):
    """What a v5 answer says in `result`.

    The service and the gateway in front of it (60000 and up) each had their own codes. The comment
    says when *we* answer one. Source: protocol.md sections 8.1 and 8.2.
    """

    OK = 0
    """Success, an empty queue included."""

    SIG_MISMATCH = 1001
    """`sig` is not the signature of this request under any live appkey."""

    SIG_MISSING = 1003
    """`sig` is missing, empty or not a string."""

    BAD_REQUEST = 1004
    """Not a JSON object, or a member (or `random`) is missing, ill-typed or out of range."""

    NOT_PERMITTED = 1006
    """What the call wants is not switched on for the application: the pull feature, or queries."""

    OTHER = 1007
    """The store failed, or something happened that nobody foresaw."""

    SEND_TIMEOUT = 1008
    """Sending timed out. Send calls only: we never answer it."""

    ADDRESS_REFUSED = 1009
    """The caller's address is not on the application's allow-list."""

    UNKNOWN_PATH = 1011
    """No such call below /v5/."""

    BAD_MOBILE = 1016
    """A malformed number, for calls that name one. A pull never answers it."""

    UNKNOWN_SDKAPPID = 1019
    """No application has this sdkappid."""

    DISABLED = 1020
    """The application is switched off."""

    TIME_SKEW = 1021
    """`time` is over ten minutes from the server's, or older than the application's window. The
    signature was right."""

    NOT_SUPPORTED = 1030
    """Counts of sends are asked for, and nobody has ever reported any."""

    IN_ARREARS = 1033
    """The account is stopped for arrears."""

    GATEWAY_URL_UNREADABLE = 60002
    """The gateway could not parse the HTTP request or its URL. We never answer it."""

    GATEWAY_JSON_UNREADABLE = 60003
    """The gateway could not parse the JSON. We never answer it: see 1004."""

    GATEWAY_BAD_SDKAPPID = 60006
    """The gateway found the sdkappid invalid. We never answer it: see 1019 and 60012."""

    TOO_FREQUENT = 60007
    """More calls of this kind in a second than the application may make."""

    BAD_HTTP = 60008
    """Not POST, or a body that is too large or can't be read; or a time-out worth a retry."""

    GATEWAY_UNKNOWN_URL = 60009
    """The gateway knows no such resource. We never answer it: see 1011."""

    SDKAPPID_MISSING = 60012
    """The query has no `sdkappid`, or it isn't decimal."""

    GATEWAY_BAD_ANSWER = 60013
    """The gateway got an answer that isn't JSON. We never answer it."""
