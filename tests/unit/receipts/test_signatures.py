"""Signatures of gateways: what their own packages have signed is good, and nothing else is.

The signatures below were made with `twilio` 9.13.0, `plivo` 4.63.0, `sinch` 2.3.0, PyJWT,
`vonage-http-client` and `huaweicloudsdkcore` 3.1.219; Yunpian's is the example of its page on
pushed replies.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from unittest import mock
from urllib.parse import quote_plus, unquote_to_bytes, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.receipts import signatures
from pullstatus.receipts.signatures import (
    SCHEMES,
    Signed,
    fault,
    fault_of_reply,
    sign,
    signs_requests,
)

URL = "https://sms.example.com/in/tok/"
FORM = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}
FORM_ALONE = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}

TWILIO_KEY = "twilio-token"
TWILIO = b"To=%2B8613800138000&From=%2B15005550006&MessageSid=SM1&MessageStatus=delivered&Note="
TWILIO_SIGNATURE = "Boyu+Mie1f9c2j40463BvX0w0bg="
SHA256 = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"
BODY_HASH = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"

PLIVO_KEY = "plivo-token"
PLIVO = "To=8613800138000&Status=delivered&MessageUUID=u1&ErrorCode=000"

SINCH_KEY = "sinch-secret"
SINCH = '{"type":"mo_text","body":"你好"}'.encode()

VONAGE_JWT_KEY = "vonage-secret-of-thirty-two-bytes"
VONAGE_JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    ".eyJpYXQiOjE3MDAwMDAwMDAsImp0aSI6ImoiLCJpc3MiOiJWb25hZ2UiLCJhcGlfa2V5IjoiayJ9"
    ".8S9qKOHKIJApZsMTqQiAuegQ6fVCk4p0bMJAmxkdri0"
)
VONAGE_HS512 = (
    "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3MDAwMDAwMDB9"
    ".TDy_Nvu6wfj6trHVkWp9htyeKntm99zyePVynHkP9BS2p74OUd_ED9UPP9Uc5u9ObHuC5NbE-PwBCtxA0UHQ9g"
)
VONAGE_KEY = "vonage-secret"
VONAGE = "msisdn=8613800138000&text=a%26b%3Dc&messageId=m1&timestamp=1700000000&sig="
VONAGE_SIGS = [
    "7ea99431ad493d01d97a6f5b2b42e482",
    "4ed84c465291d89df9d607764c288c8c863d3930",
    "9b51d0e379b766b0b9839c4dcc031f666058e3404aba29028642fa31c6771804",
    (
        "2835b6766a616f04994534624ac0ced17f17b1695a25b4e335725cd83b6eb93e"
        "47ab3101624b1fc13fe178dc6dbf6d51897ade85d860c3fbb231209f4006e0f8"
    ),
]

HUAWEI_KEY = "exampleSk*1231d881wd"
HUAWEI = '{"statusReportList":[{"smsMsgId":"m1","status":"DELIVRD"}]}'

YUNPIAN_KEY = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"


def post(source: str, body: bytes | str, headers: Mapping[str, str], **more: str) -> Signed:
    body = body.encode() if isinstance(body, str) else body
    return Signed("POST", URL + source, {**headers, **more}, body)


def twilio(signature: str, *, url: str = "twilio", body: bytes = TWILIO) -> Signed:
    return post(url, body, {**FORM, "x-twilio-signature": signature})


def plivo(signature: str, *, url: str = "plivo", body: str = PLIVO) -> Signed:
    headers = {"x-plivo-signature-v3": signature, "x-plivo-signature-v3-nonce": "nonce1"}
    return post(url, body, {**(FORM if body else {}), **headers})


def sinch(signature: str, *, body: bytes = SINCH) -> Signed:
    name = "x-sinch-webhook-signature"
    headers = {
        name: signature,
        f"{name}-nonce": "01FJA8B4A7BM43YGWSG9GBV067",
        f"{name}-timestamp": "1634579353",
    }
    return post("sinch", body, {**JSON, **headers})


def huawei(signature: str, body: str, kind: Mapping[str, str], *, query: str = "") -> Signed:
    names = "content-type;host;x-sdk-date"
    told = f"SDK-HMAC-SHA256 Access=exampleAk, SignedHeaders={names}, Signature={signature}"
    headers = {**kind, "x-sdk-date": "20251128T090000Z", "authorization": told}
    return post(f"huawei{query}", body, {**headers, "host": "behind-a-proxy:8080"})


GOOD = {
    "twilio": ("twilio", TWILIO_KEY, twilio(TWILIO_SIGNATURE)),
    "twilio, signed with a port": ("twilio", TWILIO_KEY, twilio("KoGGqqWIO1axfNQ3v3M05n/QZxg=")),
    "twilio, SHA-256": (
        "twilio",
        TWILIO_KEY,
        post(
            "twilio",
            TWILIO,
            {
                **FORM,
                "x-twilio-signature": "v081qViQLIm4f6UtuXHpNt/FeuVVZfOp9wjjLj7nqLA=",
                "x-twilio-webhooks-signature-settings": SHA256,
            },
        ),
    ),
    "twilio, JSON": (
        "twilio",
        TWILIO_KEY,
        post(
            f"twilio?bodySHA256={BODY_HASH}",
            b'{"a":1}',
            {**JSON, "x-twilio-signature": "ubJIMnbpngx+JoHjIzkHiCGIUf0="},
        ),
    ),
    "twilio, GET": (
        "twilio",
        TWILIO_KEY,
        Signed(
            "GET",
            f"{URL}twilio?{TWILIO.decode()}",
            {"x-twilio-signature": "bLXP2f0jYVEHeYNLSr0ckmIY/K4="},
            b"",
        ),
    ),
    "twilio, a reply": (
        "twilio",
        TWILIO_KEY,
        twilio(
            "kOPjyf1Ng+Z7NIzE7UcocBfF7Os=",
            body=b"Body=%E4%BD%A0%E5%A5%BD&From=%2B8613800138000&To=%2B15005550006&MessageSid=SM2",
        ),
    ),
    "plivo": ("plivo", PLIVO_KEY, plivo("MrFL1z+0P0iUOXjNSg7ZOQmpYAz/04VYVfuh7hzElpY=")),
    "plivo, of several": (
        "plivo",
        PLIVO_KEY,
        plivo("bm90IHRoaXMgb25l,MrFL1z+0P0iUOXjNSg7ZOQmpYAz/04VYVfuh7hzElpY="),
    ),
    "plivo, with a query": (
        "plivo",
        PLIVO_KEY,
        plivo("WwDxfXss9PazXCtPo0blY0rGLZVhxhs8diliQELz6dU=", url="plivo?b=2&a=1"),
    ),
    "plivo, GET": (
        "plivo",
        PLIVO_KEY,
        plivo("mXqL3n982l4657zrhtnZ8PcSKzbtvF8Ow676jANnk8A=", url=f"plivo?{PLIVO}", body=""),
    ),
    "plivo, a reply": (
        "plivo",
        PLIVO_KEY,
        plivo(
            "wef0ya/oVoCbRqA90+z5R/faWDtBfev5e+klQc6LYbw=",
            body="Text=%E4%BD%A0%E5%A5%BD&From=8613800138000",
        ),
    ),
    "sinch": ("sinch", SINCH_KEY, sinch("2yFA5wDXyANlRnCRBGxfX1dNEAIHZeoihprMdCn7YIE=")),
    "huawei, a batch": (
        "huawei",
        HUAWEI_KEY,
        huawei("4ad2480a69312692b4286b0511636e721359f1d88539c96ecefc91328654022c", HUAWEI, JSON),
    ),
    "huawei, with a query": (
        "huawei",
        HUAWEI_KEY,
        huawei(
            "438d569af8227bededd38fa243653ef3835d59e399b984eabfab364d9534f626",
            '{"statusReportList":[]}',
            JSON,
            query="?sid=8:x%2Fy&ext=a+b",
        ),
    ),
    "huawei, a form": (
        "huawei",
        HUAWEI_KEY,
        huawei(
            "6538b19121c66e7d9a5074eb394378a8ae445d8157325986cc4366888a0365c1",
            "smsMsgId=m1&status=DELIVRD&to=%2B8613800138000",
            FORM_ALONE,
        ),
    ),
    "vonage, JWT": (
        "vonage",
        VONAGE_JWT_KEY,
        post("vonage", b"{}", {**JSON, "authorization": f"Bearer {VONAGE_JWT}"}),
    ),
    **{
        f"vonage, sig of {len(sig)}": ("vonage", VONAGE_KEY, post("vonage", VONAGE + sig, FORM))
        for sig in VONAGE_SIGS
    },
    "vonage, sig of a GET": (
        "vonage",
        VONAGE_KEY,
        Signed("GET", f"{URL}vonage?{VONAGE}{VONAGE_SIGS[0].upper()}", {}, b""),
    ),
    "vonage, sig in JSON": (
        "vonage",
        VONAGE_KEY,
        post(
            "vonage",
            b'{"msisdn":"8613800138000","text":"a&b=c","messageId":"m1","timestamp":1700000000,'
            b'"sig":"%b"}' % VONAGE_SIGS[2].encode(),
            JSON,
        ),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_gateways_sign_is_good_and_under_no_other_key(name: str) -> None:
    scheme, key, signed = GOOD[name]
    assert fault(scheme, signed, key) is None
    assert fault(scheme, signed, key + "x") is not None
    assert fault(scheme, signed, "") is not None


@pytest.mark.parametrize("name", GOOD)
def test_what_is_signed_cannot_be_changed(name: str) -> None:
    scheme, key, signed = GOOD[name]
    if "JWT" in name:
        return  # it is of the sender alone
    if signed.body:
        changed = msgspec.structs.replace(signed, body=signed.body.replace(b"1", b"2", 1))
    else:
        changed = msgspec.structs.replace(signed, url=signed.url.replace("138", "139", 1))
    if changed != signed:
        assert fault(scheme, changed, key) is not None
    if scheme in ("twilio", "plivo", "huawei"):
        elsewhere = msgspec.structs.replace(signed, url=signed.url.replace("/tok/", "/other/"))
        assert fault(scheme, elsewhere, key) is not None


@pytest.mark.parametrize("name", GOOD)
def test_what_is_not_signed_is_refused(name: str) -> None:
    scheme, key, signed = GOOD[name]
    bare = {key: value for key, value in signed.headers.items() if key == "content-type"}
    if name.startswith("vonage, sig"):
        end = signed.body.find(b"sig")
        unsigned = msgspec.structs.replace(
            signed, url=signed.url.partition("&sig")[0], body=signed.body[:end].rstrip(b',"&')
        )
    else:
        unsigned = msgspec.structs.replace(signed, headers=bare)
    assert fault(scheme, unsigned, key) is not None


def test_a_body_that_twilio_did_not_sign_is_refused() -> None:
    """Whoever has one signed URL cannot send another body to it as something that is no form."""
    for headers in (JSON, {}, {"content-type": "text/plain"}):
        signed = post("twilio", TWILIO, {**headers, "x-twilio-signature": TWILIO_SIGNATURE})
        assert fault("twilio", signed, TWILIO_KEY) is not None


def test_a_body_that_huawei_says_it_did_not_sign_is_refused() -> None:
    """Its signer does so if a header says it; whoever saw one such request could send any body."""
    made = "7ff2ad82458aa3f34983729813d396c4e0cd99a59e74e1173719c81fb6320d2c"
    names = "content-type;host;x-sdk-content-sha256;x-sdk-date"
    plain = huawei("", "smsMsgId=m1&status=DELIVRD", FORM_ALONE)
    told = f"SDK-HMAC-SHA256 Access=exampleAk, SignedHeaders={names}, Signature={made}"
    headers = {**plain.headers, "x-sdk-content-sha256": "UNSIGNED-PAYLOAD", "authorization": told}
    signed = msgspec.structs.replace(plain, headers=headers)
    assert fault("huawei", signed, HUAWEI_KEY) is not None


def test_a_header_that_huawei_names_again_is_refused() -> None:
    """Else a few names of a long one would make a text of megabytes."""
    told = f"SDK-HMAC-SHA256 Access=a, SignedHeaders={'a;A;' * 1_800}, Signature=b"
    headers = {"a": "a" * 7_000, "x-sdk-date": "20251128T090000Z", "authorization": told}
    with mock.patch.object(signatures, "_huawei_made", side_effect=AssertionError):
        wrong = fault("huawei", post("huawei", b"", headers), HUAWEI_KEY)
    assert wrong == "SignedHeaders must name each header once"


FIELDS = limits.SOURCE_FIELDS_MAX
PARAMETERS = {f"a{number}": "b" for number in range(FIELDS)}
MORE = {**PARAMETERS, "more": "b"}


@pytest.mark.parametrize("scheme", ["twilio", "plivo"])
def test_of_a_form_with_more_fields_than_are_read_nothing_is_proven(scheme: str) -> None:
    many = post(scheme, urlencode(PARAMETERS), FORM)
    good = sign(scheme, many, "key", now_s=1_764_320_460, nonce="n1")
    assert fault(scheme, good, "key") is None
    more = msgspec.structs.replace(good, body=urlencode(MORE).encode())
    assert "at most 256 fields" in (fault(scheme, more, "key") or "")


@pytest.mark.parametrize("kind", [FORM, JSON])
def test_of_more_parameters_than_are_read_no_sig_of_vonage_is_proven(
    kind: Mapping[str, str],
) -> None:
    def signed(parameters: Mapping[str, str]) -> Signed:
        text = "".join(f"&{name}={value}" for name, value in sorted(parameters.items()))
        told = {**parameters, "sig": hmac.new(b"key", text.encode(), hashlib.sha256).hexdigest()}
        return post("vonage", urlencode(told) if kind is FORM else msgspec.json.encode(told), kind)

    few = dict([*PARAMETERS.items()][1:])
    assert fault("vonage", signed(few), "key") is None
    assert "at most 256 fields" in (fault("vonage", signed(PARAMETERS), "key") or "")


def test_a_reply_of_yunpian_with_more_members_than_are_read_is_refused() -> None:
    wrong = fault_of_reply("yunpian", msgspec.json.encode(MORE), YUNPIAN_KEY)
    assert "at most 256 fields" in (wrong or "")


MADE = {
    "twilio": twilio(""),
    "plivo": plivo("", url="plivo?b=2&a=1"),
    "sinch": sinch(""),
    "vonage": post("vonage", b"{}", JSON),
    "huawei": huawei("", HUAWEI, JSON),
}


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_what_is_signed_here_is_good_and_under_no_other_key(scheme: str) -> None:
    unsigned = MADE.get(scheme, yunpian({**YUNPIAN, "_sign": None}))
    assert signs_requests(scheme) is (scheme in MADE)

    def is_good(made_with: str, key: str) -> bool:
        signed = sign(scheme, unsigned, made_with, now_s=1_764_320_460, nonce="n1")
        if signs_requests(scheme):
            return fault(scheme, signed, key) is None
        return fault_of_reply(scheme, reply_of(signed), key) is None

    assert is_good("key", "key")
    assert not is_good("key", "another")
    assert not is_good("key", "")
    assert not is_good("", "")  # anybody could


def test_an_algorithm_that_is_not_known_is_refused() -> None:
    signed = GOOD["twilio"][2]
    headers = {**signed.headers, "x-twilio-webhooks-signature-settings": "algorithm=HMAC_MD5"}
    assert fault("twilio", msgspec.structs.replace(signed, headers=headers), TWILIO_KEY)
    for token in (VONAGE_HS512, VONAGE_JWT.replace("eyJhbGciOiJIUzI1NiI", "eyJhbGciOiJub25lIi")):
        signed = post("vonage", b"{}", {**JSON, "authorization": f"Bearer {token}"})
        assert fault("vonage", signed, VONAGE_JWT_KEY) is not None


YUNPIAN = {
    "base_extend": "8888",
    "extend": "01",
    "id": "2a70c6bb4f2845da816ea1bfe5732747",
    "mobile": "15205201314",
    "reply_time": "2014-03-17 22:55:21",
    "text": "哈哈哈哈",
}


def yunpian(members: Mapping[str, object]) -> Signed:
    text = quote_plus(msgspec.json.encode(members).decode())
    return post("yunpian", f"sms_reply={text}", FORM)


def yunpian_sign(members: Mapping[str, str], key: str) -> str:
    """As the page has it: the values by their names, and the apikey, joined by commas."""
    joined = ",".join([*(members[name] for name in sorted(members)), key])
    return hashlib.md5(joined.encode(), usedforsecurity=False).hexdigest()


def reply_of(signed: Signed) -> bytes:
    """What a reader makes of the only field."""
    return unquote_to_bytes(signed.body.partition(b"=")[2].replace(b"+", b" "))


def test_a_reply_of_yunpian_is_signed() -> None:
    sign = yunpian_sign(YUNPIAN, YUNPIAN_KEY)
    reply = msgspec.json.encode({**YUNPIAN, "_sign": sign})
    assert fault_of_reply("yunpian", reply, YUNPIAN_KEY) is None
    for key in ("another", ""):
        assert fault_of_reply("yunpian", reply, key) is not None
    for changed in ({"_sign": None}, {"_sign": ""}, {"text": "TD"}, {"_sign": sign[:-1]}):
        other = msgspec.json.encode({**YUNPIAN, "_sign": sign, **changed})
        assert fault_of_reply("yunpian", other, YUNPIAN_KEY) is not None
    for other in (b"", b"[%b]" % reply, b"5", b"{", b"\xff", reply + reply):
        assert fault_of_reply("yunpian", other, YUNPIAN_KEY) is not None


def test_no_request_of_yunpian_is_proven_and_no_single_reply_of_others() -> None:
    signed = yunpian({**YUNPIAN, "_sign": yunpian_sign(YUNPIAN, YUNPIAN_KEY)})
    assert fault("yunpian", signed, YUNPIAN_KEY) is not None
    for scheme in MADE:
        assert fault_of_reply(scheme, b"{}", "key") is not None


def test_no_parameter_of_vonage_stands_beside_one_that_is_signed() -> None:
    body = f"{VONAGE}{VONAGE_SIGS[0]}"
    name = VONAGE.partition("=")[0]
    good = post("vonage", body, FORM)
    assert fault("vonage", good, VONAGE_KEY) is None
    beside = msgspec.structs.replace(good, url=f"{good.url}?{name}=forged")
    for other in (beside, post("vonage", f"{name}=forged&{body}", FORM)):
        assert fault("vonage", other, VONAGE_KEY) == "each parameter must come once"


def jwt(claims: Mapping[str, object]) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    text = ".".join(
        urlsafe_b64encode(msgspec.json.encode(part)).decode().rstrip("=") for part in parts
    )
    made = hmac.digest(VONAGE_JWT_KEY.encode(), text.encode(), "sha256")
    return f"Bearer {text}.{urlsafe_b64encode(made).decode().rstrip('=')}"


def test_what_the_hash_in_a_jwt_of_vonage_is_of_cannot_be_changed() -> None:
    text = b'{"msisdn":"8613800138000","text":"TD","messageId":"m1"}'
    form = b"msisdn=8613800138000&text=TD&messageId=m1"
    hashed = {"payload_hash": hashlib.sha256(text).hexdigest()}
    told = {"authorization": jwt(hashed)}
    of_form = {"authorization": jwt({"payload_hash": hashlib.sha256(form).hexdigest()})}
    url, query = f"{URL}vonage", form.decode()
    good = [
        post("vonage", text, {**JSON, **told}),
        post("vonage?shop=1", text, {**JSON, **told}),
        post("vonage", form, {**FORM, **told}),  # of a form as JSON, as Vonage's support has it
        post("vonage", form, {**FORM, **of_form}),
        Signed("GET", f"{url}?{query}", told, b""),
        post("vonage", b"{}", {**JSON, "authorization": jwt({"payload_hash": None})}),
    ]
    assert [fault("vonage", each, VONAGE_JWT_KEY) for each in good] == [None] * len(good)
    refused = [
        post("vonage", text.replace(b"TD", b"HI"), {**JSON, **told}),
        post("vonage", text + b" ", {**JSON, **told}),
        post("vonage", form.replace(b"TD", b"HI"), {**FORM, **told}),
        post("vonage?text=HI", text, {**JSON, **told}),
        post("vonage?text=HI", form, {**FORM, **of_form}),
        Signed("GET", f"{url}?{query.replace('TD', 'HI')}", told, b""),
        Signed("GET", url, told, b""),
        post("vonage", text, {**JSON, "authorization": jwt({"payload_hash": 5})}),
        post("vonage", text, {**JSON, "authorization": jwt({"payload_hash": ""})}),
    ]
    assert None not in [fault("vonage", each, VONAGE_JWT_KEY) for each in refused]


@given(
    st.sampled_from(sorted(SCHEMES)),
    st.sampled_from([*sorted({name for _, _, one in GOOD.values() for name in one.headers})]),
    st.text(max_size=30),
    st.binary(max_size=60),
    st.text(max_size=20),
)
def test_whatever_comes_is_a_verdict(
    scheme: str, name: str, value: str, body: bytes, query: str
) -> None:
    for headers in (
        {name: value},
        {**FORM, name: value},
        {**GOOD["plivo"][2].headers, name: value},
    ):
        signed = Signed("POST", f"{URL}{scheme}?{query}", headers, b"sms_reply=" + body)
        found = fault(scheme, signed, "key")
        assert fault_of_reply("yunpian", body, "key") is not None
        assert found is None or (found and (not value or len(value) < 8 or value not in found))


def test_a_jwt_of_another_algorithm_is_told_so() -> None:
    signed = post("vonage", b"{}", {**JSON, "authorization": f"Bearer {VONAGE_HS512}"})
    assert "signed with HS256" in (fault("vonage", signed, VONAGE_JWT_KEY) or "")
