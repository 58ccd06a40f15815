r"""The signatures of API 3.0, made and checked: TC3-HMAC-SHA256, and version 1 before it.

TC3 signs a canonical text of the request, under a key that is good for a day and a service:

    canonical = METHOD \n / \n QUERY \n (name:value \n)... \n name;name \n hex(sha256(body))
    text      = TC3-HMAC-SHA256 \n TIMESTAMP \n SCOPE \n hex(sha256(canonical))
    SCOPE     = DATE/SERVICE/tc3_request

Version 1 signs `METHOD HOST / ? name=value&name=value...` of a form's parameters, decoded, in the
order of their names.

The published SDKs differ in what they sign, and each is in the right here: the service is what the
credential says (four of six take the first label of the address), the query is as it was sent, the
content type as well, and the host may lack its port. Source: protocol.md section 11.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.errors import InvalidAuthorization

__all__ = [
    "Authorization",
    "Request",
    "V1Signature",
    "digests_of",
    "fits",
    "fits_digests",
    "fits_v1",
    "read_authorization",
    "read_v1",
    "sign",
    "sign_v1",
]


class Request(msgspec.Struct, frozen=True):
    """A request to `/` as it is sent, or as it was received.

    Attributes:
        method: POST or GET.
        query: the query string, not decoded, without "?".
        headers: by their names in lower case; values byte for byte. `host` is one of them, and
            `x-tc-timestamp`, which TC3 signs as it was sent.
        body: byte for byte.
    """

    method: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def payload_unsigned(self) -> bool:
        """Whether it says that its body is not signed."""
        return self.headers.get(b"x-tc-content-sha256") == _UNSIGNED


# --- TC3-HMAC-SHA256 ------------------------------------------------------------------------------

_ALGORITHM: Final = b"TC3-HMAC-SHA256"
_UNSIGNED: Final = b"UNSIGNED-PAYLOAD"
_SIGNED_ALWAYS: Final = (b"content-type", b"host")
_USUAL: Final = b";".join(_SIGNED_ALWAYS)

_AUTHORIZATION: Final = re.compile(
    rb"TC3-HMAC-SHA256[ \t]+Credential=([!-+\-.0-~]{1,%d})/([0-9]{4}-[0-9]{2}-[0-9]{2})"
    rb"/([^/]{1,%d})/tc3_request,[ \t]*SignedHeaders=([!-+\--~]+),[ \t]*Signature=([0-9a-fA-F]{64})"
    % (limits.SECRET_ID_CHARS_MAX, limits.SERVICE_BYTES_MAX)
)
_PORT: Final = re.compile(rb":[0-9]*\Z")


class Authorization(msgspec.Struct, frozen=True):
    """What an `Authorization` header says; nothing in it is proven yet.

    Attributes:
        secret_id: whose key it should be signed with.
        date: the UTC date of the signature, "YYYY-MM-DD".
        service: any bytes but "/".
        signed: names of the headers that are signed, in lower case, each once, in their order.
        signature: 32 bytes.
    """

    secret_id: str
    date: bytes
    service: bytes
    signed: tuple[bytes, ...]
    signature: bytes

    def encode(self) -> bytes:
        """The header's value."""
        return b"%b Credential=%b/%b/%b/tc3_request, SignedHeaders=%b, Signature=%b" % (
            _ALGORITHM,
            self.secret_id.encode(),
            self.date,
            self.service,
            b";".join(self.signed),
            self.signature.hex().encode(),
        )


def read_authorization(value: bytes) -> Authorization:
    """Read the header, with any run of blanks and tabs behind the algorithm and behind commas.

    Raises:
        InvalidAuthorization: it is empty, "SKIP" or anything else, or names a header twice.
    """
    match = _AUTHORIZATION.fullmatch(value.strip(b" \t"))
    if match is None:
        raise InvalidAuthorization(
            "Authorization must be TC3-HMAC-SHA256 Credential=SECRETID/DATE/SERVICE/tc3_request,"
            " SignedHeaders=content-type;host, Signature=64 hex digits"
        )
    secret_id, day, service, names, signature = match.groups()
    signed = _SIGNED_ALWAYS if names == _USUAL else _names(names)
    return Authorization(
        secret_id.decode(), day, service, signed, bytes.fromhex(signature.decode())
    )


def _names(text: bytes) -> tuple[bytes, ...]:
    names = tuple(text.lower().split(b";"))
    if len(names) != len(set(names)):  # else a few names would make a text of megabytes
        raise InvalidAuthorization("SignedHeaders must name each header once")
    return names


def fits(
    request: Request,
    authorization: Authorization,
    secret_key: str,
    *,
    unsigned_payload: bool = False,
) -> bool:
    """Whether the request was signed so with this key, on the day of its timestamp.

    `content-type` and `host` must be signed. Compared in constant time; the work depends on the
    request alone, so that it is the same for a key that nobody has.

    Args:
        unsigned_payload: whether the key may leave the body unsigned. If not, the body is taken as
            signed whatever the request says of it.
    """
    unsigned = unsigned_payload and request.payload_unsigned
    digests = digests_of(request, authorization, payload_unsigned=unsigned)
    timestamp = request.headers.get(b"x-tc-timestamp", b"")
    return fits_digests(digests, timestamp, authorization, secret_key)


def fits_digests(
    digests: Sequence[bytes], timestamp: bytes, authorization: Authorization, secret_key: str
) -> bool:
    """Whether a request of this time that has one of these `digests_of` was signed so."""
    key = _key_of_day(secret_key, authorization.date, authorization.service)
    if not authorization.date or authorization.date != _date_of(timestamp):
        return False
    start = _start(authorization, timestamp)
    for digest in digests:
        signature = hmac.digest(key, start + digest, "sha256")
        if hmac.compare_digest(signature, authorization.signature):
            return True
    return False


def sign(
    request: Request,
    secret_id: str,
    secret_key: str,
    *,
    service: bytes = b"sms",
    signed: tuple[bytes, ...] = _SIGNED_ALWAYS,
) -> bytes:
    """Return the `Authorization` of a request that has its other headers, its timestamp included.

    Args:
        signed: names of the headers to sign, in lower case and in alphabetical order.

    Raises:
        ValueError: one of these is missing, or the timestamp, or it is not in Unix seconds.
    """
    day = _date_of(request.headers.get(b"x-tc-timestamp", b""))
    unsigned = Authorization(secret_id, day, service, signed, b"")
    digests = digests_of(request, unsigned, payload_unsigned=request.payload_unsigned)
    if not day or not digests:
        raise ValueError("a header that is to be signed is missing, or x-tc-timestamp")
    text = _start(unsigned, request.headers[b"x-tc-timestamp"]) + digests[0]
    signature = hmac.digest(_key_of_day(secret_key, day, service), text, "sha256")
    return msgspec.structs.replace(unsigned, signature=signature).encode()


def _start(authorization: Authorization, timestamp: bytes) -> bytes:
    """What is signed, as far as the digest."""
    return b"%b\n%b\n%b/%b/tc3_request\n" % (
        _ALGORITHM,
        timestamp,
        authorization.date,
        authorization.service,
    )


def digests_of(
    request: Request, authorization: Authorization, *, payload_unsigned: bool = False
) -> tuple[bytes, ...]:
    """The digests that the canonical request may have, in hexadecimal, the usual one first.

    None if it cannot fit. They depend on the signed headers and on nothing else of a signature.
    """
    names = authorization.signed
    if names != _SIGNED_ALWAYS and not set(names).issuperset(_SIGNED_ALWAYS):
        return ()
    try:
        values = tuple([request.headers[name] for name in names])
    except KeyError:
        return ()
    payload = _UNSIGNED if payload_unsigned else request.body
    start = b"%b\n/\n%b\n" % (request.method.encode(), request.query)
    end = b"\n%b\n%b" % (b";".join(names), sha256(payload).hexdigest().encode())
    return tuple(
        sha256(start + block + end).hexdigest().encode() for block in _blocks(names, values)
    )


def _blocks(names: tuple[bytes, ...], values: tuple[bytes, ...]) -> Iterator[bytes]:
    """The signed headers: values in lower case, as they came, and both without the host's port."""
    host = values[names.index(b"host")]
    yield from _cases(names, values)
    portless = _PORT.sub(b"", host)
    if portless != host:
        lone = [
            portless if name == b"host" else value
            for name, value in zip(names, values, strict=True)
        ]
        yield from _cases(names, lone)


def _cases(names: Sequence[bytes], values: Sequence[bytes]) -> Iterator[bytes]:
    pairs = zip(names, values, strict=True)
    came = b"".join([b"%b:%b\n" % (name, value.strip(b" \t")) for name, value in pairs])
    lower = came.lower()
    yield lower
    if came != lower:
        yield came


def _date_of(timestamp: bytes) -> bytes:
    """The UTC date of Unix seconds, which are digits; b"" of anything else, and after 9999."""
    if not timestamp.isdigit() or len(timestamp) > limits.INTEGER_DIGITS_MAX:
        return b""
    return _date(int(timestamp) // 86_400)


@lru_cache(maxsize=16)
def _date(day: int) -> bytes:
    try:
        return date.fromordinal(_EPOCH + day).isoformat().encode()
    except (ValueError, OverflowError):
        return b""


_EPOCH: Final = date(1970, 1, 1).toordinal()


@lru_cache(maxsize=limits.DAY_KEYS_KEPT)
def _key_of_day(secret_key: str, day: bytes, service: bytes) -> bytes:
    key = b"TC3" + secret_key.encode()
    for part in (day, service, b"tc3_request"):
        key = hmac.digest(key, part, "sha256")
    return key


# --- version 1 ------------------------------------------------------------------------------------

_V1_DIGESTS: Final = {"HmacSHA1": "sha1", "HmacSHA256": "sha256"}


class V1Signature(msgspec.Struct, frozen=True):
    """What the parameters of a request say of its signature; nothing in it is proven yet.

    Attributes:
        secret_id: whose key it should be signed with.
        method: "HmacSHA1" or "HmacSHA256".
        signature: base64.
    """

    secret_id: str
    method: str
    signature: str


def read_v1(parameters: Mapping[str, str]) -> V1Signature:
    """Read the signature among a form's or a query's parameters, which are decoded.

    It may end its line, as Ruby's base64 does; that is no part of it.

    Raises:
        InvalidAuthorization: `SecretId` or `Signature` is missing or empty, or `SignatureMethod` is
            neither HmacSHA1, which it is if it is missing, nor HmacSHA256.
    """
    secret_id = parameters.get("SecretId", "")
    signature = parameters.get("Signature", "").removesuffix("\n")
    if not (0 < len(secret_id) <= limits.SECRET_ID_CHARS_MAX and signature):
        raise InvalidAuthorization("SecretId and Signature must be among the parameters")
    method = parameters.get("SignatureMethod", "HmacSHA1")
    if method not in _V1_DIGESTS:
        raise InvalidAuthorization("SignatureMethod must be HmacSHA1 or HmacSHA256")
    return V1Signature(secret_id, method, signature)


def fits_v1(
    method: str, host: bytes, parameters: Mapping[str, str], given: V1Signature, secret_key: str
) -> bool:
    """Whether the parameters were signed so with this key. Compared in constant time.

    With or without those that are empty: Go's SDK sends these and does not sign them, and here an
    empty one says what a missing one does.

    Args:
        method: POST or GET.
        host: as received, with its port.
        parameters: all of them, decoded; those that are not among them are not signed.
    """
    signature = given.signature.encode("utf-8", "replace")
    said = {name: value for name, value in parameters.items() if value}
    due = [sign_v1(method, host, signed, secret_key).encode() for signed in (parameters, said)]
    return any(hmac.compare_digest(each, signature) for each in due)


def sign_v1(method: str, host: bytes, parameters: Mapping[str, str], secret_key: str) -> str:
    """Return the `Signature` of these parameters, by the `SignatureMethod` among them."""
    digest = _V1_DIGESTS[parameters.get("SignatureMethod", "HmacSHA1")]
    pairs = "&".join(
        f"{name}={value}" for name, value in sorted(parameters.items()) if name != "Signature"
    )
    text = b"%b%b/?%b" % (method.encode(), host, pairs.encode("utf-8", "replace"))
    return b64encode(hmac.digest(secret_key.encode(), text, digest)).decode()
