"""A call of API 3.0, read: `POST /` or `GET /` with an action, a version and a signature.

Reading happens in the order of checks that protocol.md section 11.7 has, first failure wins. This
room does those that need nothing but the bytes (1 to 7), and, when it is their turn, those that
follow; admission has the others in between:

    read_request            method, Action, Version, Authorization, token, timestamp
      (admission)           an enabled pair has the SecretId
    request.prove           the signature fits
    request.check_time      within five minutes of the server's clock
    request.sdkappid        parameters can be read; the application that they name
      (admission)           the pair may read it, from there, now, so often
    request.limit, .by_number, .hours     the action's own parameters

With `X-TC-Action` among the headers it is signed by TC3, and its parameters are a JSON object, or
the query of a GET. Otherwise it is signed by version 1, and everything is in a form or a query.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from pullstatus import limits
from pullstatus.errors import ActionRefused, PeerError, SignatureWrong
from pullstatus.records import Kind
from pullstatus.wire.api3.codes import Code
from pullstatus.wire.api3.parameters import (
    FORM,
    integer_of,
    invalid,
    is_milliseconds,
    media_type,
    read_hour,
    read_json,
    read_pairs,
    read_seconds,
    text,
)
from pullstatus.wire.api3.signing import (
    Authorization,
    V1Signature,
    digests_of,
    fits,
    fits_digests,
    fits_v1,
    read_authorization,
    read_v1,
)
from pullstatus.wire.api3.signing import Request as Signed

__all__ = [
    "ACTIONS",
    "UNKNOWN_SDKAPPID",
    "Action",
    "ByNumber",
    "Request",
    "Subject",
    "Version",
    "action_in",
    "check_method",
    "is_call",
    "read_proof",
    "read_request",
    "trace_id",
]

UNKNOWN_SDKAPPID: Final = -1
"""Stands for every sdkappid above `limits.SDKAPPID_MAX`: no application can have it."""


class Subject(enum.Enum):
    """What an action is about."""

    PULL = enum.auto()
    NUMBER = enum.auto()
    SENDS = enum.auto()
    RECEIPTS = enum.auto()


class Action(NamedTuple):
    """What a call wants.

    Attributes:
        name: what `Action` says.
        subject: what it is about; None: nothing that there is here.
        kind: of which records; None if it is about none.
    """

    name: str
    subject: Subject | None
    kind: Kind | None


class Version(enum.StrEnum):
    """The two that we know: other names of parameters and members."""

    V2021 = "2021-01-11"
    V2019 = "2019-07-11"


class ByNumber(NamedTuple):
    """A question by number.

    Attributes:
        digits: the number, its calling code in front, without a plus.
        from_s, to_s: by the records' own time, in Unix seconds, both included.
        offset: how many of what is found are passed over.
        count_max: how many at most.
        sid: only the records of this send, if that is asked for.
    """

    digits: str
    from_s: int
    to_s: int
    offset: int
    count_max: int
    sid: str | None


ACTIONS: Final[Mapping[str, Action]] = {
    action.name: action
    for action in (
        Action("PullSmsSendStatus", Subject.PULL, Kind.DELIVERY_STATUS),
        Action("PullSmsReplyStatus", Subject.PULL, Kind.REPLY),
        Action("PullSmsSendStatusByPhoneNumber", Subject.NUMBER, Kind.DELIVERY_STATUS),
        Action("PullSmsReplyStatusByPhoneNumber", Subject.NUMBER, Kind.REPLY),
        Action("SendStatusStatistics", Subject.SENDS, None),
        Action("CallbackStatusStatistics", Subject.RECEIPTS, None),
    )
}
"""Those that pull or ask, by name."""

_VERSIONS: Final = {version.value: version for version in Version}

_PROOF: Final = re.compile(
    rf"request=([0-9a-f-]{{1,64}}) time=([0-9]{{1,{limits.INTEGER_DIGITS_MAX}}})"
)
_TRACE_ID: Final = re.compile(rb"[!-~]{1,%d}" % limits.TRACE_ID_CHARS_MAX)


def is_call(method: str, query: bytes, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request to `/` is one of these calls, by what is known before its body.

    It has an action, or a form that may have one.
    """
    return (
        b"x-tc-action" in headers
        or any(action_in(part) is not None for part in query.split(b"&"))
        or (method == "POST" and media_type(headers) == FORM)
    )


def action_in(part: bytes) -> bytes | None:
    """What a part of a query or a form says by the parameter `Action`, however that is written.

    None: it is another one.
    """
    name, equals, value = part.partition(b"=")
    return unquote_to_bytes(value) if equals and unquote_to_bytes(name) == b"Action" else None


def trace_id(headers: Mapping[bytes, bytes]) -> bytes | None:
    """What is to be sent back as `x-tc-traceid`; None if nothing is."""
    found = headers.get(b"x-tc-traceid", b"")
    return found if _TRACE_ID.fullmatch(found) else None


class Request:
    """A call as it was sent, unproven.

    Attributes:
        action, version: what is asked for, and in which words.
        secret_id: whose signature it says it has.
        timestamp_s: when it says that it was signed, in Unix seconds.
    """

    def __init__(
        self,
        signed: Signed,
        action: Action,
        version: Version,
        signature: Authorization | V1Signature,
        timestamp: str,
        sent: Mapping[str, str] | None = None,
        asked: Asked | None = None,
    ) -> None:
        self.action = action
        self.version = version
        self.secret_id = signature.secret_id
        self.timestamp_s = int(timestamp)
        self._signed = signed
        self._signature = signature
        self._sent = sent  # the parameters of a form or a query, decoded
        self._asked = asked
        self._timestamp = timestamp
        self._members = None if asked is None else asked.members

    @property
    def nonce(self) -> str:
        """What no other request of the pair should have in common with this one.

        Equal calls of one second have, where an SDK signs no more than it must: these are told
        apart by their action, which it does not sign, and no further.
        """
        signature = self._signature.signature
        told = signature if isinstance(signature, str) else signature.hex()
        return f"{self.action.name} {self.timestamp_s} {told}"

    @property
    def mark(self) -> str:
        """By what a pull is known when it comes again: 32 hexadecimal digits or more."""
        signature = self._signature.signature
        if isinstance(signature, bytes):
            return f"{self.action.kind or 0:x}{signature.hex()}"
        return blake2b(self.nonce.encode(), digest_size=16).hexdigest()

    def proof(self, request_id: str) -> str:
        """What the journal keeps of it; `read_proof` reads it."""
        return f"request={request_id} time={self.timestamp_s}"

    def prove(self, secret_key: str, *, unsigned_payload: bool, v1: bool) -> None:
        """Check that it is signed with this key (check 9), in a way that the pair allows.

        Raises:
            SignatureWrong: it is not; the text says whether another way would be.
        """
        asked, signature = self._asked, self._signature
        if isinstance(signature, V1Signature):
            host = self._signed.headers.get(b"host", b"")
            fit = fits_v1(self._signed.method, host, self._sent or {}, signature, secret_key)
            if fit and v1:
                return
            raise SignatureWrong(
                "HmacSHA1 and HmacSHA256 are not allowed for this SecretId: sign by TC3-HMAC-SHA256"
                if fit
                else "Signature is not that of these parameters and this SecretKey"
            )
        if asked is not None:
            timestamp = self._timestamp.encode()
            if fits_digests(asked.digests, timestamp, signature, secret_key):
                return
        if not fits(self._signed, signature, secret_key, unsigned_payload=unsigned_payload):
            if is_milliseconds(self.timestamp_s):
                raise SignatureWrong("X-TC-Timestamp is in milliseconds: sign and send seconds")
            unsigned = self._signed.payload_unsigned
            raise SignatureWrong(
                "the signature does not fit; an unsigned payload is not allowed for this SecretId"
                if unsigned and not unsigned_payload
                else "the signature is not that of this request and this SecretKey: method, query,"
                " signed headers with content-type and host, body, and the UTC date of its time"
            )

    def check_time(self, now_s: int) -> None:
        """Check that it is fresh (check 10); call it only once it is proven.

        Raises:
            ActionRefused: the timestamp is more than `limits.API3_SKEW_S_MAX` seconds from `now_s`.
        """
        ahead_s = self.timestamp_s - now_s
        if -limits.API3_SKEW_S_MAX <= ahead_s <= limits.API3_SKEW_S_MAX:
            return
        if is_milliseconds(self.timestamp_s):
            fault = f"the timestamp is in milliseconds: send seconds, the server time is {now_s}"
        elif ahead_s > 0:
            fault = f"clock is {ahead_s} s ahead of server time {now_s}: set it right"
        else:
            fault = f"clock is {-ahead_s} s behind server time {now_s}: set it right"
        raise ActionRefused(Code.SIGNATURE_EXPIRED, fault)

    def sdkappid(self) -> int:
        """The application that it names (checks 11 and 12), or `UNKNOWN_SDKAPPID`.

        Raises:
            ActionRefused: the parameters cannot be read, or there is none.
        """
        if self._asked is not None:
            return self._asked.sdkappid
        name = "SmsSdkAppId" if self.version is Version.V2021 else "SmsSdkAppid"
        number = integer_of(self._due(name))
        if number is None or number < 0:
            raise invalid(f"{name} must be an sdkappid, a string of digits")
        return number if number <= limits.SDKAPPID_MAX else UNKNOWN_SDKAPPID

    def limit(self) -> int:
        """How many records at most (check 16).

        Raises:
            ActionRefused: `Limit` is missing, or not 1 to 100.
        """
        asked = self._asked
        if asked is not None and asked.limit is not None:
            return asked.limit
        return self._between("Limit", 1, limits.PULL_COUNT_MAX)

    def by_number(self, now_s: int) -> ByNumber:
        """Which records of which number are asked for (check 16).

        Raises:
            ActionRefused: the first of its parameters that is missing or wrong.
        """
        begin, end = _TIMES[self.version]
        digits = _NUMBER.fullmatch(text(self._due("PhoneNumber")) or "")
        if digits is None:
            raise ActionRefused(
                Code.BAD_NUMBER, 'PhoneNumber must be "+", the calling code and the number'
            )
        from_s = read_seconds(begin, self._due(begin), Code.BAD_BEGIN)
        if from_s < now_s - limits.API3_LOOK_BACK_S:
            raise ActionRefused(Code.BAD_BEGIN, f"{begin} must be at most seven days ago")
        last = self._parameter(end)
        to_s = now_s if last is None else read_seconds(end, last, Code.BAD_END)
        if from_s > to_s:
            raise ActionRefused(Code.BEGINS_AFTER_END, f"{begin} must not be after {end}")
        offset = self._between("Offset", 0, limits.ASKED_COUNT_MAX)
        return ByNumber(digits[1], from_s, to_s, offset, self.limit(), self._sid())

    def hours(self) -> tuple[int, int]:
        """The first and the last hour that are asked for, as `records.hours` has them (check 16).

        Raises:
            ActionRefused: the first of its parameters that is missing or wrong.
        """
        begin, end = _HOURS[self.version]
        first, begins = read_hour(begin, self._due(begin), Code.BAD_BEGIN)
        last, ends = read_hour(end, self._due(end), Code.BAD_END)
        if ends < begins:
            raise ActionRefused(Code.BAD_END, f"{end} must not be before {begin}")
        if ends - begins > limits.STATISTICS_DAYS_MAX * 24:
            raise ActionRefused(
                Code.BAD_END,
                f"{end} must be at most {limits.STATISTICS_DAYS_MAX} days after {begin}",
            )
        for name, code in (("Limit", Code.BAD_LIMIT), ("Offset", Code.BAD_OFFSET)):
            if integer_of(self._due(name)) != 0:
                raise ActionRefused(
                    code if self.version is Version.V2021 else Code.INVALID_VALUE,
                    f"{name} must be 0: counts come whole",
                )
        return first, last

    def _sid(self) -> str | None:
        token = self._parameter("SerialNo")
        if token is None:
            return None
        sid = text(token)
        if not sid or len(sid) > limits.SID_CHARS_MAX:
            raise invalid(
                f"SerialNo must be a string of at most {limits.SID_CHARS_MAX} characters, or left"
                " out"
            )
        return sid

    def _between(self, name: str, value_min: int, value_max: int) -> int:
        value = integer_of(self._due(name))
        if value is None or not value_min <= value <= value_max:
            raise invalid(f"{name} must be an integer from {value_min} to {value_max}")
        return value

    def _due(self, name: str) -> bytes:
        token = self._parameter(name)
        if token is None:
            raise ActionRefused(Code.MISSING, f"{name} is missing")
        return token

    def _parameter(self, name: str) -> bytes | None:
        """A parameter as JSON text; None if it is missing, `null` or empty."""
        token = bytes(self.parameters().get(name, b""))
        return None if token in _NONE else token

    def parameters(self) -> Mapping[str, msgspec.Raw]:
        """All that it says, by name, as JSON text: those of a form or a query are texts (check 11).

        Raises:
            ActionRefused: they cannot be read.
        """
        if self._members is None:
            self._members = self._read()
        return self._members

    def _read(self) -> Mapping[str, msgspec.Raw]:
        sent = self._sent
        if sent is None and self._signed.method == "GET":
            sent = read_pairs(self._signed.query)
        elif sent is None and media_type(self._signed.headers) == FORM:
            sent = read_pairs(self._signed.body)
        elif sent is None:
            return read_json(self._signed.body)
        return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in sent.items()}


_TIMES: Final = {
    Version.V2021: ("BeginTime", "EndTime"),
    Version.V2019: ("SendDateTime", "EndDateTime"),
}
_HOURS: Final = {
    Version.V2021: ("BeginTime", "EndTime"),
    Version.V2019: ("StartDateTime", "EndDataTime"),  # as it is spelt there
}
_NUMBER: Final = re.compile(
    rf"\+([0-9]{{{limits.API3_NUMBER_DIGITS_MIN},{limits.MOBILE_DIGITS_MAX}}})"
)
_NONE: Final = frozenset((b"", b"null", b'""'))  # SDKs send members that their callers left alone


def check_method(method: str) -> None:
    """Check the method (check 1), which is before anybody waits for a body.

    Raises:
        ActionRefused: calls are not made by it.
    """
    if method not in ("POST", "GET"):
        raise ActionRefused(Code.UNSUPPORTED_PROTOCOL, "send POST or GET")


def read_request(
    method: str,
    query: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
    *,
    actions: Mapping[str, Action] = ACTIONS,
) -> Request:
    """Read a call as far as its signature goes (checks 1 to 7).

    Args:
        query: the query string as it came, without "?".
        headers: by their names in lower case, byte for byte.
        body: as it came.
        actions: those that there are.

    Raises:
        ActionRefused: the first check that fails. The text names the parameter and the fix, and
            holds nothing that was sent.
        InvalidAuthorization: what it is signed with is not of the form that is due.
    """
    check_method(method)
    if len(query) > limits.API3_QUERY_BYTES_MAX:
        raise ActionRefused(
            Code.TOO_LARGE, f"the query is over {limits.API3_QUERY_BYTES_MAX} bytes: send POST"
        )
    signed = Signed(method, query, headers, body)
    if b"x-tc-action" not in headers:
        return _read_v1(signed, actions)
    return (_read_again(signed) if actions is ACTIONS else None) or _read_tc3(signed, actions)


def _read_tc3(signed: Signed, actions: Mapping[str, Action]) -> Request:
    headers = signed.headers
    action, version = _read_call(
        actions,
        headers[b"x-tc-action"].decode("latin-1"),
        headers.get(b"x-tc-version", b"").decode("latin-1"),
        "X-TC-",
    )
    authorization = read_authorization(headers.get(b"authorization", b""))
    _check_token(headers.get(b"x-tc-token", b"").decode("latin-1"))
    timestamp = headers.get(b"x-tc-timestamp", b"").decode("latin-1")
    _check_timestamp(timestamp, "X-TC-Timestamp")
    return Request(signed, action, version, authorization, timestamp)


class Asked(NamedTuple):
    """What a call by TC3 is but for its time and who has signed it, if no check refuses it.

    Attributes:
        date, service, signed: what its `Authorization` says beside SecretId and signature.
        digests: those of what is signed.
        members: its parameters.
        limit: of a pull.
    """

    action: Action
    version: Version
    date: bytes
    service: bytes
    signed: tuple[bytes, ...]
    digests: tuple[bytes, ...]
    members: Mapping[str, msgspec.Raw]
    sdkappid: int
    limit: int | None


_SAID: Final = (b"x-tc-action", b"x-tc-version", b"x-tc-token", b"content-type", b"host")
_WHO: Final = re.compile(
    rb"TC3-HMAC-SHA256 Credential=([!-+\-.0-~]{1,%d})" % limits.SECRET_ID_CHARS_MAX
)
_SIGNATURE_CHARS: Final = 64
_SIGNATURE: Final = re.compile(rb"[0-9a-fA-F]{%d}" % _SIGNATURE_CHARS)


def _read_again(signed: Signed) -> Request | None:
    """A call that asks for what was asked for before, as clients do again and again.

    Nothing is refused here: of whatever is not usual `_read_tc3` has the only word.
    """
    headers = signed.headers
    timestamp = headers.get(b"x-tc-timestamp", b"")
    if not timestamp.isdigit() or len(timestamp) > limits.INTEGER_DIGITS_MAX:
        return None
    who, _, how = headers.get(b"authorization", b"").partition(b"/")
    by = _WHO.fullmatch(who)
    said = [headers.get(name, b"") for name in _SAID]
    size = len(b"".join((signed.query, signed.body, how, *said)))
    if by is None or size > limits.API3_ASKED_BYTES or signed.payload_unsigned:
        return None
    signature = _SIGNATURE.fullmatch(how[-_SIGNATURE_CHARS:])
    asked = _asked(signed.method, signed.query, signed.body, how[:-_SIGNATURE_CHARS], *said)
    if asked is None or signature is None:
        return None
    read = Authorization(
        by[1].decode(),
        asked.date,
        asked.service,
        asked.signed,
        bytes.fromhex(signature[0].decode()),
    )
    return Request(signed, asked.action, asked.version, read, timestamp.decode(), asked=asked)


# Of no SecretId, so that no time that this takes tells which there are.
@lru_cache(maxsize=limits.API3_ASKED_KNOWN)
def _asked(method: str, query: bytes, body: bytes, how: bytes, *said: bytes) -> Asked | None:
    """What a call asks for; None: it is to be read with care.

    Args:
        how: its `Authorization`, between the SecretId and the signature.
        said: the headers of `_SAID`; one that is missing, or empty, is b"".
    """
    headers = {name: value for name, value in zip(_SAID, said, strict=True) if value}
    headers.setdefault(b"x-tc-action", b"")
    headers[b"authorization"] = b"TC3-HMAC-SHA256 Credential=0/%b%b" % (
        how,
        b"0" * _SIGNATURE_CHARS,
    )
    headers[b"x-tc-timestamp"] = b"0"
    signed = Signed(method, query, headers, body)
    try:
        request = _read_tc3(signed, ACTIONS)
        read = read_authorization(headers[b"authorization"])
        if not set(read.signed) <= set(_SAID):
            return None
        limit = request.limit() if request.action.subject is Subject.PULL else None
        return Asked(
            request.action,
            request.version,
            read.date,
            read.service,
            read.signed,
            digests_of(signed, read),
            request.parameters(),
            request.sdkappid(),
            limit,
        )
    except PeerError:
        return None


def _read_v1(signed: Signed, actions: Mapping[str, Action]) -> Request:
    sent = read_pairs(signed.query if signed.method == "GET" else signed.body)
    action, version = _read_call(actions, sent.get("Action", ""), sent.get("Version", ""), "")
    signature = read_v1(sent)
    _check_token(sent.get("Token", ""))
    timestamp = sent.get("Timestamp", "")
    _check_timestamp(timestamp, "Timestamp")
    return Request(signed, action, version, signature, timestamp, sent)


def _read_call(
    actions: Mapping[str, Action], action: str, version: str, prefix: str
) -> tuple[Action, Version]:
    """Checks 2 to 4."""
    known, named = _VERSIONS.get(version), actions.get(action)
    if known is not None and named is not None:
        return named, known
    for name, value in (("Action", action), ("Version", version)):
        if not value:
            raise ActionRefused(Code.MISSING, f"{prefix}{name} is missing")
    if known is None:
        raise ActionRefused(Code.NO_SUCH_VERSION, f"Version must be {' or '.join(_VERSIONS)}")
    raise ActionRefused(Code.INVALID_ACTION, f"this service has the actions {', '.join(actions)}")


def _check_token(token: str) -> None:
    """Check 6."""
    if token:
        raise ActionRefused(Code.TOKEN_REFUSED, "this service issues no tokens: send none")


def _check_timestamp(timestamp: str, name: str) -> None:
    """Check 7."""
    digits = timestamp.isascii() and timestamp.isdigit()
    if not digits or len(timestamp) > limits.INTEGER_DIGITS_MAX:
        raise invalid(f"{name} must be Unix seconds in digits")


def read_proof(proof: str) -> tuple[str, int]:
    """Return the RequestId and the timestamp of a `Request.proof`; "" and 0 if it is none."""
    match = _PROOF.fullmatch(proof)
    return ("", 0) if match is None else (match[1], int(match[2]))
