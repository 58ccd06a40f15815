"""The signatures of API 3.0, against published and recomputed vectors (protocol.md section 11)."""

from __future__ import annotations

import hashlib
import hmac

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import InvalidAuthorization
from pullstatus.wire.api3 import signing
from pullstatus.wire.api3.signing import (
    Request,
    fits,
    fits_v1,
    read_authorization,
    read_v1,
    sign,
    sign_v1,
)

ID = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE"
KEY = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
SENT_S = 1_620_734_188
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
SMS, LOCAL = "sms.tencentcloudapi.com", "127.0.0.1:8080"
LIMIT_FIRST = b'{"Limit": 100, "SmsSdkAppId": "1400006666"}'
APP_FIRST = b'{"SmsSdkAppId":"1400006666","Limit":100}'
PUBLISHED = (
    rb'{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}'
)
ALWAYS = (b"content-type", b"host")


def request(
    host: str = SMS,
    body: bytes = LIMIT_FIRST,
    content_type: str = JSON,
    at_s: int = SENT_S,
    method: str = "POST",
    query: bytes = b"",
    **more: str,
) -> Request:
    headers = {
        b"host": host.encode(),
        b"content-type": content_type.encode(),
        b"x-tc-timestamp": str(at_s).encode(),
        b"x-tc-action": b"PullSmsSendStatus",
    }
    headers |= {f"x-tc-{name}".encode(): value.encode() for name, value in more.items()}
    return Request(method, query, headers, body)


def changed(one: Request, **headers: bytes) -> Request:
    """The same with other headers."""
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return msgspec.structs.replace(one, headers={**one.headers, **named})


UNSIGNED = request(LOCAL)
UNSIGNED = changed(UNSIGNED, x_tc_content_sha256=b"UNSIGNED-PAYLOAD")

VECTORS = [
    (
        request("cvm.tencentcloudapi.com", PUBLISHED, f"{JSON}; charset=utf-8", 1_551_113_065),
        b"cvm",
        ALWAYS,
        "72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168",
    ),
    (
        request(),
        b"sms",
        ALWAYS,
        "9376ed1cb7e92ad3385824f2573eff3f309aa5b09f1d47f5e7122672d0c51d3f",
    ),
    (
        request(),
        b"sms",
        (*ALWAYS, b"x-tc-action"),
        "424fdd4984f6a97fecb549070e26eb09b57123e917b16fc893da115795904aec",
    ),
    (
        request(LOCAL),
        b"sms",
        ALWAYS,
        "8b24e45577088294b092091f5159acb7e1207e403903c6964a5c62ab104b9f66",
    ),
    (
        request(at_s=1_620_750_600),
        b"sms",
        ALWAYS,
        "7a2cb5848c8106808f0dda1e3adb1a647ec5f7dccdfe168538077dcb955b4ca0",
    ),
    (
        request("127.0.0.1", APP_FIRST),
        b"127",
        ALWAYS,
        "f7c39822cbf673a56dcd4ecc473c8f444113efdb03c7e5bbe076670662e02602",
    ),
    (
        request("localhost", APP_FIRST),
        b"localhost:8080",
        ALWAYS,
        "7a7700bdbdee6b652dc2ebfa98c71992b23dd5040ec8c0386aee3e9461134fcd",
    ),
    (
        request(LOCAL, APP_FIRST, f"{JSON}; charset=utf-8"),
        b"127",
        ALWAYS,
        "4842f9ac0339dbc56a5e36f777a5fffc489d0fbc5c0af09336828e3b954e8438",
    ),
    (
        UNSIGNED,
        b"sms",
        ALWAYS,
        "9f7de9e7d3ef8a0a82fc9e5041a41a157195653112a19be4f0d2cc303e9cdda3",
    ),
    (
        request(LOCAL, b"", FORM, method="GET", query=b"Limit=100&SmsSdkAppId=1400006666"),
        b"sms",
        ALWAYS,
        "b14e51182b069b7272ff9cabda98aa9b8c5a830508d560a2b7e58411e450680a",
    ),
]


def header(date: str, service: str, names: str, signature: str, gap: str = " ") -> bytes:
    return (
        f"TC3-HMAC-SHA256{gap}Credential={ID}/{date}/{service}/tc3_request,{gap}"
        f"SignedHeaders={names},{gap}Signature={signature}"
    ).encode()


@pytest.mark.parametrize(("asked", "service", "signed", "signature"), VECTORS)
def test_vectors(asked: Request, service: bytes, signed: tuple[bytes, ...], signature: str) -> None:
    """Made, and checked, to the byte."""
    made = sign(asked, ID, KEY, service=service, signed=signed)
    day = "2019-02-25" if service == b"cvm" else "2021-05-11"
    assert made == header(day, service.decode(), b";".join(signed).decode(), signature)
    read = read_authorization(made)
    assert read.encode() == made
    assert (read.secret_id, read.date, read.service) == (ID, day.encode(), service)
    assert fits(asked, read, KEY, unsigned_payload=True)
    assert fits(asked, read, KEY) == (not asked.payload_unsigned)
    assert not fits(asked, read, KEY[:-1] + "e", unsigned_payload=True)


@pytest.mark.parametrize(
    ("signed_host", "host"),
    [("127.0.0.1", LOCAL), ("localhost", "localhost:8080"), ("[::1]", "[::1]:8080")],
)
def test_host_may_be_signed_without_its_port(signed_host: str, host: str) -> None:
    """As the Node SDK does; but not with a port that was not there."""
    read = read_authorization(sign(request(signed_host), ID, KEY))
    assert fits(request(host), read, KEY)
    read = read_authorization(sign(request(host), ID, KEY))
    assert not fits(request(signed_host), read, KEY)
    assert not fits(request(host + "1"), read, KEY)


def by_hand(canonical: bytes, service: str = "sms", day: str = "2021-05-11") -> bytes:
    """The header of somebody who signs this text, with the standard library only."""
    scope = f"{day}/{service}/tc3_request"
    key = b"TC3" + KEY.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"TC3-HMAC-SHA256\n{SENT_S}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
    names = canonical.decode().split("\n")[-2]
    return header(day, service, names, hmac.digest(key, text.encode(), "sha256").hex())


def canonical(content_type: str, host: str, names: str = "content-type;host") -> bytes:
    values = {"content-type": content_type, "host": host, "x-tc-action": "pullsmssendstatus"}
    block = "".join(f"{name}:{values[name]}\n" for name in names.split(";"))
    return f"POST\n/\n\n{block}\n{names}\n{hashlib.sha256(LIMIT_FIRST).hexdigest()}".encode()


@pytest.mark.parametrize("host", ["Mailbox.Example:80", "Mailbox.Example"])
@pytest.mark.parametrize("lower", [False, True])
def test_values_may_be_signed_in_lower_case_or_as_they_came(host: str, lower: bool) -> None:
    came = changed(request("Mailbox.Example:80"), content_type=b" application/json;charset=UTF-8\t")
    text = canonical("application/json;charset=UTF-8", host)
    if lower:
        text = canonical("application/json;charset=utf-8", host.lower())
    assert fits(came, read_authorization(by_hand(text)), KEY)
    for other in (b"application/json; charset=UTF-8", b"application/json"):
        assert not fits(changed(came, content_type=other), read_authorization(by_hand(text)), KEY)


def test_signed_headers_are_those_that_the_request_names_in_its_order() -> None:
    for names in (
        "host;content-type",
        "content-type;host;x-tc-action",
        "x-tc-action;host;content-type",
    ):
        assert fits(request(), read_authorization(by_hand(canonical(JSON, SMS, names))), KEY)
    for names in ("host", "content-type", "content-type;x-tc-action"):
        assert not fits(request(), read_authorization(by_hand(canonical(JSON, SMS, names))), KEY)
    absent = sign(changed(request(), x_tc_region=b""), ID, KEY, signed=(*ALWAYS, b"x-tc-region"))
    assert not fits(request(), read_authorization(absent), KEY)


def test_date_is_the_utc_date_of_the_timestamp() -> None:
    """A well made signature of another day is none."""
    for day in ("2021-05-10", "2021-05-12"):
        assert not fits(request(), read_authorization(by_hand(canonical(JSON, SMS), day=day)), KEY)
    assert fits(request(), read_authorization(by_hand(canonical(JSON, SMS))), KEY)


@pytest.mark.parametrize("sent", [b"", b"-1", b"1.5", b" ", b"1e9", b"9" * 19, b"9" * 400, b"\xb2"])
def test_timestamp_that_has_no_date_signs_nothing(sent: bytes) -> None:
    asked = changed(request(), x_tc_timestamp=sent)
    with pytest.raises(ValueError, match="timestamp"):
        sign(asked, ID, KEY)
    assert not fits(asked, read_authorization(by_hand(canonical(JSON, SMS))), KEY)


def test_unsigned_payload_is_one_only_where_the_key_allows_it() -> None:
    """Saying so of a body that is signed takes nothing away from it."""
    read = read_authorization(sign(UNSIGNED, ID, KEY))
    other = msgspec.structs.replace(UNSIGNED, body=b"{}")
    assert fits(other, read, KEY, unsigned_payload=True)
    assert not fits(other, read, KEY)
    signed = read_authorization(sign(request(LOCAL), ID, KEY))
    assert fits(UNSIGNED, signed, KEY)
    assert not fits(other, signed, KEY)
    assert not fits(request(LOCAL), read, KEY, unsigned_payload=True)


# --- the header's grammar -------------------------------------------------------------------------

HEX = "0123456789abcdefABCDEF" * 2 + "0" * 20
ONE = ("2021-05-11", "sms", "content-type;host", HEX)


@pytest.mark.parametrize("gap", [" ", "  ", "\t", " \t \t"])
def test_any_run_of_blanks_is_one(gap: str) -> None:
    usual = read_authorization(header(*ONE))
    assert read_authorization(header(*ONE, gap=gap)) == usual
    assert read_authorization(b" " + header(*ONE, gap=gap) + b"\t") == usual


def test_commas_may_have_none_behind_them() -> None:
    assert read_authorization(header(*ONE).replace(b", ", b",")) == read_authorization(header(*ONE))


@pytest.mark.parametrize("service", ["127", "localhost:8080", "a b,c", "\xe4", "s" * 255])
def test_service_is_what_the_credential_says(service: str) -> None:
    read = read_authorization(header("2021-05-11", service, "Content-Type;HOST", HEX))
    assert read.service == service.encode()
    assert read.signed == ALWAYS


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"SKIP",
        b"Bearer 0",
        b"TC3-HMAC-SHA256",
        header(*ONE).replace(b"TC3-HMAC-SHA256 ", b"TC3-HMAC-SHA256"),
        header(*ONE).replace(b"TC3-HMAC-SHA256", b"TC3-HMAC-SM3"),
        header(*ONE).replace(b"Credential=", b"Credential= "),
        header(*ONE).replace(ID.encode(), b""),
        header(*ONE).replace(ID.encode(), b"A" * 65),
        header(*ONE).replace(ID.encode(), b"A,B"),
        header(*ONE).replace(b"tc3_request", b"tc4_request"),
        header(*ONE).replace(b"/tc3_request", b""),
        header(*ONE) + b"0",
        header(*ONE)[:-1],
        header(*ONE) + b", Signature=" + HEX.encode(),
        header("2021-5-11", *ONE[1:]),
        header("20210511", *ONE[1:]),
        header(ONE[0], "", *ONE[2:]),
        header(ONE[0], "s" * 256, *ONE[2:]),
        header(ONE[0], "a/b", *ONE[2:]),
        header(ONE[0], "sms", "", HEX),
        header(ONE[0], "sms", "content-type host", HEX),
        header(ONE[0], "sms", "host;content-type;Host", HEX),
        header(ONE[0], "sms", "content-type;host", "g" * 64),
    ],
)
def test_what_is_no_authorization_is_refused(value: bytes) -> None:
    """With a text that says what is due, and repeats nothing of what came."""
    with pytest.raises(InvalidAuthorization) as raised:
        read_authorization(value)
    assert ID not in str(raised.value)


# --- what was signed fits, what was changed does not ----------------------------------------------

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="/,"))
HOSTS = st.from_regex(r"[a-z0-9]{1,9}(\.[a-z]{2,3})?(:[0-9]{1,5})?", fullmatch=True)
REQUESTS = st.builds(
    Request,
    st.sampled_from(["POST", "GET"]),
    st.binary(max_size=20).map(lambda data: data.hex().encode()),
    st.fixed_dictionaries(
        {
            b"host": HOSTS.map(str.encode),
            b"content-type": st.sampled_from([JSON.encode(), FORM.encode(), b"text/plain; A=b"]),
            b"x-tc-timestamp": st.integers(0, 4_000_000_000).map(lambda at_s: b"%d" % at_s),
            b"x-tc-action": st.just(b"PullSmsReplyStatus"),
        }
    ),
    st.binary(max_size=50),
)


@given(
    REQUESTS,
    VISIBLE.filter(lambda text: 0 < len(text) <= 64),
    st.text("0123456789abcdefXYZ", min_size=1, max_size=40),
    st.binary(min_size=1, max_size=255).filter(lambda service: b"/" not in service),
    st.sampled_from([ALWAYS, (*ALWAYS, b"x-tc-action")]),
)
def test_what_was_signed_fits_and_nothing_else(
    asked: Request, secret_id: str, key: str, service: bytes, signed: tuple[bytes, ...]
) -> None:
    read = read_authorization(sign(asked, secret_id, key, service=service, signed=signed))
    assert read.secret_id == secret_id
    assert fits(asked, read, key)
    replace = msgspec.structs.replace
    for other in (
        replace(asked, method="PUT"),
        replace(asked, query=asked.query + b"&"),
        replace(asked, body=asked.body + b" "),
        changed(asked, host=b"x" + asked.headers[b"host"]),
        changed(asked, content_type=asked.headers[b"content-type"] + b";"),
        changed(asked, x_tc_timestamp=b"%d" % (int(asked.headers[b"x-tc-timestamp"]) + 1)),
        changed(asked, x_tc_timestamp=b"0" + asked.headers[b"x-tc-timestamp"]),
    ):
        assert not fits(other, read, key)
    for wrong in (
        replace(read, service=read.service + b"x"),
        replace(read, signature=bytes([read.signature[0] ^ 1]) + read.signature[1:]),
        replace(read, signed=(*read.signed, b"x-tc-timestamp")),
        replace(read, signed=read.signed[1:]),
    ):
        assert not fits(asked, wrong, key)
    assert not fits(asked, read, key + "0")


def test_keys_of_a_day_are_kept_within_a_bound() -> None:
    assert signing._key_of_day.cache_info().maxsize == limits.DAY_KEYS_KEPT


# --- version 1 ------------------------------------------------------------------------------------

V1 = {
    "Action": "PullSmsSendStatus",
    "Limit": "100",
    "Nonce": "11886",
    "Region": "ap-guangzhou",
    "SecretId": ID,
    "SignatureMethod": "HmacSHA256",
    "SmsSdkAppId": "1400006666",
    "Timestamp": str(SENT_S),
    "Version": "2021-01-11",
}


@pytest.mark.parametrize(
    ("method", "signature"),
    [
        ("HmacSHA256", "46xeXlVhCUKsjvsLH/Dh8OfN3FousBmGDkkLuyY12u8="),
        ("HmacSHA1", "rb/iO3Ggx1uVYFjcjyTEOMaXDXA="),
    ],
)
def test_v1_vectors(method: str, signature: str) -> None:
    """In whatever order the parameters came."""
    sent = dict(reversed({**V1, "SignatureMethod": method}.items()))
    assert sign_v1("POST", LOCAL.encode(), sent, KEY) == signature
    sent["Signature"] = signature
    read = read_v1(sent)
    assert (read.secret_id, read.method, read.signature) == (ID, method, signature)
    assert fits_v1("POST", LOCAL.encode(), sent, read, KEY)


def test_v1_is_sha1_unless_it_says_otherwise() -> None:
    sent = {name: value for name, value in V1.items() if name != "SignatureMethod"}
    sent["Signature"] = sign_v1("GET", b"a", sent, KEY)
    assert len(sent["Signature"]) == 28
    assert fits_v1("GET", b"a", sent, read_v1(sent), KEY)


@given(
    st.dictionaries(st.sampled_from(["Limit", "SmsSdkAppId", "Token", "Zoë"]), st.text(max_size=9)),
    st.sampled_from(["HmacSHA1", "HmacSHA256"]),
)
def test_what_v1_signed_fits_and_nothing_else(more: dict[str, str], method: str) -> None:
    sent = {**V1, **more, "SignatureMethod": method}
    sent["Signature"] = sign_v1("POST", b"a:1", sent, KEY)
    read = read_v1(sent)
    assert fits_v1("POST", b"a:1", sent, read, KEY)
    assert not fits_v1("GET", b"a:1", sent, read, KEY)
    assert not fits_v1("POST", b"a", sent, read, KEY)
    assert not fits_v1("POST", b"a:1", sent, read, KEY + "0")
    assert not fits_v1("POST", b"a:1", {**sent, "Extra": "x"}, read, KEY)
    for name in sent.keys() - {"Signature"}:
        other = {**sent, name: "HmacSHA1" if sent[name] == "HmacSHA256" else "HmacSHA256"}
        assert not fits_v1("POST", b"a:1", other, read, KEY)


def test_v1_without_what_is_empty_fits() -> None:
    """As Go's SDK has it, which signs no empty parameter, and sends a region of none."""
    said = {name: value for name, value in V1.items() if name != "Region"}
    sent = {**said, "Region": "", "Signature": sign_v1("POST", b"a", said, KEY)}
    read = read_v1(sent)
    assert fits_v1("POST", b"a", sent, read, KEY)
    assert fits_v1("POST", b"a", {**sent, "Language": ""}, read, KEY)
    assert not fits_v1("POST", b"a", {**sent, "Limit": "9"}, read, KEY)
    assert not fits_v1("POST", b"a", {**sent, "Limit": ""}, read, KEY)


def test_v1_whose_signature_ends_its_line_fits() -> None:
    """As Ruby's SDK has it: its base64 ends in a line feed."""
    sent = {**V1, "Signature": sign_v1("POST", b"a", V1, KEY) + "\n"}
    assert fits_v1("POST", b"a", sent, read_v1(sent), KEY)
    bare = {**sent, "Signature": sent["Signature"].removesuffix("\n")}
    assert read_v1(bare) == read_v1(sent)  # or a strict application would take it twice
    twice = {**sent, "Signature": sent["Signature"] + "\n"}
    assert not fits_v1("POST", b"a", twice, read_v1(twice), KEY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"SecretId": ""},
        {"SecretId": "A" * 65},
        {"Signature": ""},
        {"SignatureMethod": "HmacMD5"},
        {"SignatureMethod": "TC3-HMAC-SHA256"},
        {"SignatureMethod": ""},
    ],
)
def test_what_is_no_v1_signature_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidAuthorization):
        read_v1({**V1, "Signature": "c2ln", **wrong})


@pytest.mark.parametrize("signature", ["c2ln", "\xe9", "\ud800", " " * 44])
def test_v1_signature_of_any_text_is_only_wrong(signature: str) -> None:
    sent = {**V1, "Limit": "\ud800", "Signature": signature}
    assert not fits_v1("POST", b"a", sent, read_v1(sent), KEY)
