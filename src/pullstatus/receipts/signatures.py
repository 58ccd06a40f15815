"""How gateways sign their callbacks, a row of `SCHEMES` each: proven, and made. Pure.

A signature is proven with the key that the gateway and we share, over the request as the gateway
sent it. It knows us by the public URL that its account names: what a proxy in front makes of that
is not what was signed.

| scheme | where it stands | over what |
|---|---|---|
| twilio | `X-Twilio-Signature`, of SHA-1, or SHA-256 where a second header says so | URL, form |
| plivo | `X-Plivo-Signature-V3`, with a nonce | URL, form |
| sinch | `X-Sinch-Webhook-Signature`, with a nonce and a time | body |
| vonage | `Authorization: Bearer`, a JWT (HS256) | itself, and what its `payload_hash` is of |
| | without one, the parameter `sig` (HMAC of MD5, SHA-1, SHA-256 or SHA-512) | parameters |
| huawei | `Authorization: SDK-HMAC-SHA256`, with `X-Sdk-Date` | URL, headers it names, body |
| yunpian | the member `_sign` of each reply; its receipts are not signed | the reply |

No scheme refuses what was signed a while ago: a gateway that repeats for a day may send what it
signed first, and a copy of a request is known by its fingerprints.

Yunpian signs no requests: of what one was read as, each reply is proven by itself, so that nothing
is read otherwise than it was checked.

Sources: the request validators of the packages `twilio` 9.13.0, `plivo` 4.63.0, `sinch` 2.3.0,
`vonage-jwt` 1.1.5 and `vonage-http-client`; the signer of `huaweicloudsdkcore` 3.1.219 and Huawei's
page `sms_05_0064`; Yunpian's page on pushed replies, with its example; Vonage's pages on signed
webhooks, and its support's 19033783342876 on what `payload_hash` is of.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec

from pullstatus import limits

__all__ = ["SCHEMES", "Signed", "fault", "fault_of_reply", "sign", "signs_requests"]


class Signed(msgspec.Struct, frozen=True):
    """A callback as its sender made it.

    Attributes:
        method: GET, POST ...
        url: the public one, with the query as it came.
        headers: by their names in small letters.
        body: the whole of it, "" of a GET.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


def signs_requests(scheme: str) -> bool:
    """Whether each request is signed; if not, each reply is, and nothing else."""
    return SCHEMES[scheme].request is not None


def fault(scheme: str, signed: Signed, key: str) -> str | None:
    """What is wrong with a request's signature; None: nothing, it was made with this key.

    Args:
        scheme: one of `SCHEMES`.
        key: what gateway and we share: an auth token, a signature secret, an apikey.

    Returns:
        What must be, for people. Nothing of what was sent, and nothing of the key.
    """
    return _verdict(SCHEMES[scheme].request, signed, key)


def fault_of_reply(scheme: str, reply: bytes, key: str) -> str | None:
    """The same of one reply as it was read, where requests are not signed: an object of JSON."""
    return _verdict(SCHEMES[scheme].reply, reply, key)


def sign(scheme: str, unsigned: Signed, key: str, *, now_s: int, nonce: str) -> Signed:
    """A callback as a gateway would send it that has this key.

    Args:
        now_s: when that is, in Unix seconds, for schemes that tell it.
        nonce: what no other request has, for schemes with one.
    """
    return SCHEMES[scheme].sign(unsigned, key.encode(), now_s, nonce)


_T = TypeVar("_T")
_Check: TypeAlias = Callable[[_T, bytes], str | None]
_Sign: TypeAlias = Callable[[Signed, bytes, int, str], Signed]
_Parameters: TypeAlias = list[tuple[str, str]]

_FEW: Final = f"at most {limits.SOURCE_FIELDS_MAX} fields, to be signed"
_UNFIT: Final = "must be made with this token's signature key, over the public URL and all of it"


class _Unprovable(ValueError):
    """What no signature is proven of; it says why, for people."""


def _verdict(check: _Check[_T] | None, what: _T, key: str) -> str | None:
    if check is None or not key:  # anybody can sign with nothing
        return _UNFIT
    try:
        return check(what, key.encode())
    except _Unprovable as error:
        return str(error)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return "must be signed, and be what the signature is of"


# --- Twilio ---------------------------------------------------------------------------------------

_TWILIO_HASHES: Final = {"HMAC_SHA1": hashlib.sha1, "HMAC_SHA256": hashlib.sha256}
_BODY_HASH: Final = "bodySHA256"


def _twilio(signed: Signed, key: bytes) -> str | None:
    given = signed.headers.get("x-twilio-signature")
    if not given:
        return "X-Twilio-Signature must be there"
    algorithm = "HMAC_SHA1"
    for part in signed.headers.get("x-twilio-webhooks-signature-settings", "").split(","):
        name, _, value = part.partition("=")
        if name.strip() == "algorithm" and value.strip():
            algorithm = value.strip().upper()
    if algorithm not in _TWILIO_HASHES:
        return "X-Twilio-Webhooks-Signature-Settings must name HMAC_SHA1 or HMAC_SHA256"
    parameters: _Parameters = []
    if _is_form(signed):
        parameters = _pairs(signed.body)
    elif signed.body:
        digest = dict(_pairs(urlsplit(signed.url).query.encode())).get(_BODY_HASH, "")
        if not _same(hashlib.sha256(signed.body).hexdigest(), digest):
            return f"a body that is no form must be what {_BODY_HASH} in the query is of"
    made = (
        _twilio_made(url, parameters, key, _TWILIO_HASHES[algorithm])
        for url in _with_and_without_port(signed.url)
    )
    return None if any(_same(one, given) for one in made) else _UNFIT


def _sign_twilio(unsigned: Signed, key: bytes, _now_s: int, _nonce: str) -> Signed:
    made = _twilio_made(unsigned.url, _pairs(unsigned.body), key, hashlib.sha1)
    return _headed(unsigned, {"x-twilio-signature": made})


def _twilio_made(url: str, form: _Parameters, key: bytes, hashed: Callable[..., Any]) -> str:
    text = "".join(name + value for name, value in sorted(set(form)))
    return _base64(key, (url + text).encode(), hashed)


def _with_and_without_port(url: str) -> tuple[str, str]:
    """Both ways to write it: Twilio signs now the one, now the other."""
    parts = urlsplit(url)
    host = parts.netloc if parts.port is None else parts.netloc.rpartition(":")[0]
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return (
        parts._replace(netloc=host).geturl(),
        parts._replace(netloc=f"{host}:{port}").geturl(),
    )


# --- Plivo ----------------------------------------------------------------------------------------


def _plivo(signed: Signed, key: bytes) -> str | None:
    given = signed.headers.get("x-plivo-signature-v3")
    nonce = signed.headers.get("x-plivo-signature-v3-nonce")
    if not given or not nonce:
        return "X-Plivo-Signature-V3 and X-Plivo-Signature-V3-Nonce must be there"
    if signed.body and not _is_form(signed):
        return "the body must be a form: nothing else is signed"
    made = _plivo_made(signed, key, nonce)
    # It may hold several, of keys that are changed.
    return None if any(_same(made, one.strip()) for one in given.split(",")) else _UNFIT


def _sign_plivo(unsigned: Signed, key: bytes, _now_s: int, nonce: str) -> Signed:
    name = "x-plivo-signature-v3"
    return _headed(unsigned, {name: _plivo_made(unsigned, key, nonce), f"{name}-nonce": nonce})


def _plivo_made(signed: Signed, key: bytes, nonce: str) -> str:
    parts = urlsplit(signed.url)
    query = "&".join(f"{name}={value}" for name, value in sorted(_pairs(parts.query.encode())))
    form = "".join(name + value for name, value in sorted(_pairs(signed.body)))
    text = parts._replace(query="", fragment="").geturl()
    if query or form:
        text += f"?{query}"
    if query and form:
        text += "."
    return _base64(key, f"{text}{form}.{nonce}".encode(), hashlib.sha256)


# --- Sinch ----------------------------------------------------------------------------------------


_SINCH: Final = "x-sinch-webhook-signature"


def _sinch(signed: Signed, key: bytes) -> str | None:
    given, nonce, time = (
        signed.headers.get(_SINCH + end, "") for end in ("", "-nonce", "-timestamp")
    )
    if not given or not nonce or not time:
        return "X-Sinch-Webhook-Signature, its -Nonce and its -Timestamp must be there"
    return None if _same(_sinch_made(signed.body, key, nonce, time), given) else _UNFIT


def _sign_sinch(unsigned: Signed, key: bytes, now_s: int, nonce: str) -> Signed:
    made = _sinch_made(unsigned.body, key, nonce, str(now_s))
    told = {_SINCH: made, f"{_SINCH}-nonce": nonce, f"{_SINCH}-timestamp": str(now_s)}
    return _headed(unsigned, told)


def _sinch_made(body: bytes, key: bytes, nonce: str, time: str) -> str:
    return _base64(key, b"%b.%b.%b" % (body, nonce.encode(), time.encode()), hashlib.sha256)


# --- Vonage ---------------------------------------------------------------------------------------

_SIG: Final = "sig"
_SIG_HASHES: Final = {  # by the digits of a digest: an account's setting, which no request names
    32: hashlib.md5,
    40: hashlib.sha1,
    64: hashlib.sha256,
    128: hashlib.sha512,
}


def _vonage(signed: Signed, key: bytes) -> str | None:
    kind, _, token = signed.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return _hs256(token.strip(), signed, key)
    parameters = _parameters(signed)
    if parameters is None:
        return _TWICE
    given = parameters.pop(_SIG, "").lower()
    hashed = _SIG_HASHES.get(len(given))
    if hashed is None:
        return "Authorization must hold a JWT, or the parameter sig an HMAC"
    text = "".join(
        f"&{name}={value.replace('&', '_').replace('=', '_')}"
        for name, value in sorted(parameters.items())
    )
    return None if _same(hmac.new(key, text.encode(), hashed).hexdigest(), given) else _UNFIT


_TWICE: Final = "each parameter must come once"


def _parameters(signed: Signed) -> dict[str, str] | None:
    """Query and body; None: one comes twice, of which one would be signed, and the other read."""
    told = _pairs(urlsplit(signed.url).query.encode())
    told += _pairs(signed.body) if _is_form(signed) else [*_members(signed.body).items()]
    parameters = dict(told)
    return parameters if len(parameters) == len(told) else None


def _hs256(token: str, signed: Signed, key: bytes) -> str | None:
    head, claims, given = token.split(".")  # ValueError: not three parts
    if _object(_unpadded(head)).get("alg") != "HS256":
        return "the JWT in Authorization must be signed with HS256"
    hashed = _object(_unpadded(claims)).get(_PAYLOAD_HASH)
    made = hmac.digest(key, f"{head}.{claims}".encode(), "sha256")
    if not hmac.compare_digest(made, _unpadded(given)):
        return _UNFIT
    return None if hashed is None else _other_than(str(hashed).lower(), signed)


_PAYLOAD_HASH: Final = "payload_hash"


def _other_than(hashed: str, signed: Signed) -> str | None:
    """What is wrong where a hash is not of the body, or of a form or query as JSON."""
    if _parameters(signed) is None:
        return _TWICE
    texts = [signed.body] if signed.body else []
    if _is_form(signed) or not signed.body:
        form = signed.body or urlsplit(signed.url).query.encode()
        texts.append(msgspec.json.encode(dict(_pairs(form))))
    if any(_same(hashlib.sha256(text).hexdigest(), hashed) for text in texts):
        return None
    return f"must be what {_PAYLOAD_HASH} in the JWT is of"


def _sign_vonage(unsigned: Signed, key: bytes, now_s: int, nonce: str) -> Signed:
    parts = ({"alg": "HS256", "typ": "JWT"}, {"iat": now_s, "jti": nonce, "iss": "Vonage"})
    text = ".".join(_padded(msgspec.json.encode(part)) for part in parts)
    made = _padded(hmac.digest(key, text.encode(), "sha256"))
    return _headed(unsigned, {"authorization": f"Bearer {text}.{made}"})


def _padded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _unpadded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


# --- Huawei ---------------------------------------------------------------------------------------

_HUAWEI: Final = re.compile(
    r"SDK-HMAC-SHA256\s+Access=([^,]+),\s?SignedHeaders=([^,]+),\s?Signature=(\w+)"
)


def _huawei(signed: Signed, key: bytes) -> str | None:
    given = _HUAWEI.fullmatch(signed.headers.get("authorization", ""))
    if given is None or "x-sdk-date" not in signed.headers:
        return "Authorization must hold SDK-HMAC-SHA256 and a signature, and X-Sdk-Date be there"
    names = given[2].lower().split(";")
    if len(names) != len(set(names)):  # else a few names would make a text of megabytes
        return "SignedHeaders must name each header once"
    made = _huawei_made(signed, names, key)
    return None if _same(made, given[3].lower()) else _UNFIT


def _sign_huawei(unsigned: Signed, key: bytes, now_s: int, nonce: str) -> Signed:
    date = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    dated = _headed(unsigned, {"x-sdk-date": date})
    names = ["content-type", "host", "x-sdk-date"]
    made = _huawei_made(dated, names, key)
    told = f"SDK-HMAC-SHA256 Access={nonce}, SignedHeaders={';'.join(names)}, Signature={made}"
    return _headed(dated, {"authorization": told})


def _huawei_made(signed: Signed, names: Sequence[str], key: bytes) -> str:
    """Over the body itself, whatever `X-Sdk-Content-Sha256` would have for it."""
    parts = urlsplit(signed.url)
    headers = {**signed.headers, "host": parts.netloc}  # as the gateway knows it
    path = "/".join(_quoted(step) for step in unquote(parts.path).split("/"))
    query = "&".join(
        f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(_pairs(parts.query.encode()))
    )
    request = [signed.method, path if path.endswith("/") else f"{path}/", query]
    request += [f"{name}:{headers.get(name, '').strip()}" for name in names]
    request += ["", ";".join(names), hashlib.sha256(signed.body).hexdigest()]
    digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
    text = f"SDK-HMAC-SHA256\n{signed.headers['x-sdk-date']}\n{digest}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _quoted(text: str) -> str:
    return quote(text, safe="~")


# --- Yunpian --------------------------------------------------------------------------------------

_REPLY: Final = "sms_reply"
_SIGN: Final = "_sign"


def _yunpian(reply: bytes, key: bytes) -> str | None:
    members = _members(reply)
    given = members.pop(_SIGN, "")
    if not _same(_yunpian_made(members, key), given.lower()):
        return "a reply must have a _sign that is made with this token's key"
    return None


def _sign_yunpian(unsigned: Signed, key: bytes, _now_s: int, _nonce: str) -> Signed:
    reply = dict(_pairs(unsigned.body)).get(_REPLY)
    if reply is None:
        return unsigned
    members = _members(reply.encode())
    members.pop(_SIGN, None)
    members[_SIGN] = _yunpian_made(members, key)
    body = urlencode({_REPLY: msgspec.json.encode(members)}).encode()
    return msgspec.structs.replace(unsigned, body=body)


def _yunpian_made(members: Mapping[str, str], key: bytes) -> str:
    text = ",".join([*(value for _, value in sorted(members.items())), ""]).encode() + key
    return hashlib.md5(text, usedforsecurity=False).hexdigest()  # theirs, not our choice


# --- what they share ------------------------------------------------------------------------------


def _headed(signed: Signed, headers: Mapping[str, str]) -> Signed:
    return msgspec.structs.replace(signed, headers={**signed.headers, **headers})


def _is_form(signed: Signed) -> bool:
    content_type = signed.headers.get("content-type", "").partition(";")[0].strip().lower()
    return content_type == "application/x-www-form-urlencoded"


def _pairs(data: bytes) -> _Parameters:
    if data.count(b"&") >= limits.SOURCE_FIELDS_MAX:
        raise _Unprovable(f"a query or a form must have {_FEW}")  # no more are read
    return parse_qsl(data.decode(), keep_blank_values=True, errors="strict")


def _members(data: bytes) -> dict[str, str]:
    """The members of a JSON object in letters, as who signs writes them; none of no body."""
    if not data:
        return {}
    told = _object(data)
    if len(told) > limits.SOURCE_FIELDS_MAX:
        raise _Unprovable(f"an object of JSON must have {_FEW}")
    members = {}
    for name, value in told.items():
        if value is not None:
            members[name] = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return members


def _object(data: bytes) -> dict[str, Any]:
    return msgspec.json.decode(data, type=dict[str, Any])


def _base64(key: bytes, text: bytes, hashed: Callable[..., Any]) -> str:
    return b64encode(hmac.new(key, text, hashed).digest()).decode()


def _same(made: str, given: str) -> bool:
    return hmac.compare_digest(made.encode(), given.encode())


class _Scheme(NamedTuple):
    """How a signature is made, and proven: of each request, or else of each reply."""

    sign: _Sign
    request: _Check[Signed] | None = None
    reply: _Check[bytes] | None = None


SCHEMES: Final[Mapping[str, _Scheme]] = {
    "huawei": _Scheme(_sign_huawei, _huawei),
    "plivo": _Scheme(_sign_plivo, _plivo),
    "sinch": _Scheme(_sign_sinch, _sinch),
    "twilio": _Scheme(_sign_twilio, _twilio),
    "vonage": _Scheme(_sign_vonage, _vonage),
    "yunpian": _Scheme(_sign_yunpian, reply=_yunpian),
}
"""By the name that a source's row has for it."""
